"""How hard losses pull, by hand; what a run logs of it; what is named a failure."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from torch import nn
from train_tiny import FRAMES, a_config, logged

from crkd_core.train.curves import compare_gradient_ratios, compare_losses, read_losses
from crkd_core.train.gradients import failures, gradient_ratios, read_gradient_ratios
from crkd_core.train.loop import train
from crkd_core.train.run_folder import Run


def test_shares_and_angles_by_hand() -> None:
    """Each loss is linear in the weights, so its gradient is its coefficients."""
    model = nn.Module()
    model.both = nn.Parameter(torch.zeros(2))
    model.only_detection = nn.Parameter(torch.zeros(3))
    model.only_other = nn.Parameter(torch.zeros(3))
    a, b = model.both
    rest = 5 * model.only_other.sum()
    terms = {
        "heatmap": 3 * a + model.only_detection.sum(),
        "reg": 4 * b,
        "along": 6 * a + 8 * b + rest,
        "across": 4 * a - 3 * b,
        "against": -0.3 * a - 0.4 * b,
        "silent": 0 * a,
        "elsewhere": rest,
        "constant": torch.tensor(1.0),
    }
    terms["total"] = sum(terms.values())
    found = gradient_ratios(terms, model)
    expected = {"along": (2, 1), "across": (1, 0), "against": (0.1, -1), "silent": (0, 0)}
    assert {key.partition(".")[2] for key in found} == expected.keys()
    for name, (share, cosine) in expected.items():
        assert found[f"share.{name}"] == pytest.approx(share, abs=1e-6)
        assert found[f"cosine.{name}"] == pytest.approx(cosine, abs=1e-6)
    terms["total"].backward()  # the graph is still there
    assert gradient_ratios({"heatmap": 3 * a, "total": 3 * a}, model) == {}


def test_a_run_logs_them_and_is_the_same_run(tmp_path) -> None:
    runs = {}
    for every in (0, 2):
        config = a_config(depth_weight=0.5, gradient_steps=every, steps=4)
        runs[every] = Run.start(tmp_path / f"every{every}", config, data="", split="")
        train(runs[every], FRAMES)
    silent, measured = (logged(run) for run in runs.values())
    assert [line["step"] for line in measured if "share.depth" in line] == [2, 4]
    for a, b in zip(silent, measured, strict=True):
        assert a == {k: v for k, v in b.items() if not k.endswith(".depth")}
    found = read_gradient_ratios(runs[2].path)
    assert [step for step, *_ in found["depth"]] == [2, 4]
    assert all(share > 0 and abs(cosine) <= 1 for _, share, cosine in found["depth"])
    assert read_gradient_ratios(runs[0].path) == {}
    assert "share.depth" not in read_losses(runs[2].path)
    groups = {"silent": [runs[0].path], "measured": [runs[2].path]}
    table = compare_gradient_ratios(groups, tmp_path)
    assert table is not None
    ((loss, none, text),) = table.rows
    assert (loss, none) == ("depth", "-")
    assert float(text.split()[0]) == pytest.approx(np.mean([found["depth"][1][1]]), rel=1e-2)
    assert (tmp_path / "gradients.png").stat().st_size > 1000
    assert compare_gradient_ratios({"silent": [runs[0].path]}) is None
    assert [row[0] for row in compare_losses(groups).rows].count("depth") == 1


def test_a_share_without_its_cosine_is_not_read(tmp_path) -> None:
    lines = ({"step": 1, "share.depth": 1.0}, {"step": 2, "share.depth": 2.0, "cosine.depth": "x"})
    whole = {"step": 3, "share.depth": 3.0, "cosine.depth": 0.5}
    text = "".join(json.dumps(line) + "\n" for line in (*lines, whole))
    (tmp_path / "metrics.jsonl").write_text(text)
    assert read_gradient_ratios(tmp_path) == {"depth": [(3, 3.0, 0.5)]}


def test_a_loss_that_dominates_or_dies_is_named() -> None:
    steps = range(200, 1000, 200)
    measured = {
        "respd_box": [(step, 1.6, 0.03) for step in steps],
        "csrd": [(200, 0.5, 0.1), (400, 0.2, 0.0), (600, 0.0, 0.0), (800, 0.0, 0.0)],
        "msfd_fused": [(step, 0.2, -0.4) for step in steps],
        "reld": [(200, 3.0, 0.1), (400, 3.0, 0.1), (600, 0.1, 0.1), (800, 0.1, 0.1)],
    }
    said = failures(measured)
    assert len(said) == 3
    assert said[0].startswith("respd_box dominates: its gradient is 1.6 times")
    assert said[1].startswith("csrd has died")
    assert said[2].startswith("msfd_fused works against the detection loss")


def test_accumulated_batches_are_measured_by_their_last(tmp_path) -> None:
    config = a_config(depth_weight=0.5, gradient_steps=1, steps=1, accumulate=2)
    run = Run.start(tmp_path, dataclasses.replace(config), data="", split="")
    train(run, FRAMES)
    assert len(read_gradient_ratios(tmp_path)["depth"]) == 1
