"""Box parameters at peaks alone are those of the whole maps."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_tiny import TINY, batch, frame, roughen

from crkd_core.infer.detector import Detector
from crkd_core.infer.fold import fold_batch_norms
from crkd_core.infer.peaks import PeakHead
from crkd_core.model.build import build_detector
from crkd_core.model.decode import decode
from crkd_core.model.head import CenterHead, stacked


def heads(hidden: str, *, hidden_kernel: int, output_kernel: int):
    """A folded head with weights of all sizes, and its configuration."""
    config = dataclasses.replace(
        TINY.head, hidden=hidden, hidden_kernel=hidden_kernel, output_kernel=output_kernel
    )
    torch.manual_seed(0)
    return fold_batch_norms(roughen(CenterHead(6, config)).eval())


@torch.no_grad()
@pytest.mark.parametrize("hidden", ["branch", "task"])
@pytest.mark.parametrize(("hidden_kernel", "output_kernel"), [(3, 3), (1, 1), (3, 1), (1, 5)])
def test_every_cell_has_the_values_of_the_map(hidden, hidden_kernel, output_kernel):
    head = heads(hidden, hidden_kernel=hidden_kernel, output_kernel=output_kernel)
    peaks = PeakHead.of(head)
    assert peaks is not None
    decoded = torch.randn(2, 6, 7, 5)
    expected, got = head(decoded), peaks(decoded)
    # Other cells for every task, of one none.
    cells = [torch.arange(7 * 5)[task % 3 :] for task in range(len(expected))]
    cells[1] = cells[1][:0]
    ends = [len(cell) for cell in cells]
    for sample in range(2):
        values = peaks.boxes.at(got, sample, cells).split(ends, 1)
        for whole, maps, cell, found in zip(expected, got, cells, values, strict=True):
            torch.testing.assert_close(maps["heatmap"], whole["heatmap"])
            torch.testing.assert_close(found, stacked(whole)[sample].flatten(1)[:, cell])
        assert peaks.boxes.at(got, sample, [cells[1]] * len(got)).shape == (10, 0)


def test_heads_that_share_hidden_channels_stay_whole():
    assert PeakHead.of(heads("head", hidden_kernel=1, output_kernel=1)) is None
    assert PeakHead.of(CenterHead(6, TINY.head)) is None  # Not folded.


@torch.no_grad()
@pytest.mark.parametrize("hidden", ["branch", "task", "head"])
def test_the_detector_finds_the_boxes_of_the_plain_network(hidden):
    config = dataclasses.replace(TINY, head=dataclasses.replace(TINY.head, hidden=hidden))
    torch.manual_seed(2)  # With 1 the last two for the last place score alike to 3e-8.
    model = roughen(build_detector(config)).eval()
    (expected,) = decode(model(batch(0)), config, score_threshold=0.05)
    detector = Detector(model, score_threshold=0.05)
    assert (detector.regress is None) == (hidden == "head")
    got = detector(frame(0))
    assert len(got) == len(expected) > 0
    # Two that score alike may come in either order, and boxes of two classes lie on one place.
    apart = np.abs(got.center[:, None] - expected.center[None]).sum(-1)
    apart[got.label[:, None] != expected.label[None]] = np.inf
    order = apart.argmin(0)
    assert sorted(order) == list(range(len(got))), "each box has its own"
    for name in ("center", "size", "yaw", "velocity", "score"):
        np.testing.assert_allclose(getattr(got, name)[order], getattr(expected, name), atol=1e-3)
