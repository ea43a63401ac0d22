"""Winograd's filtering against the plain convolution."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tiny import TINY, frame, roughen
from torch import nn

from crkd_core.infer import winograd
from crkd_core.infer.detector import Detector
from crkd_core.infer.fused import directly
from crkd_core.infer.winograd import WinogradConv, pays, with_winograd
from crkd_core.model.build import build_detector


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 3),
    c=st.integers(1, 9),
    o=st.integers(1, 9),
    h=st.integers(1, 70),
    w=st.integers(1, 70),
    bias=st.booleans(),
    adds=st.booleans(),
    activates=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_size_gives_the_plain_convolution(
    n, c, o, h, w, bias, adds, activates, seed
) -> None:
    torch.manual_seed(seed)
    layer = nn.Conv2d(c, o, 3, padding=1, bias=bias).to(memory_format=torch.channels_last)
    maps = torch.randn(n, c, h, w).to(memory_format=torch.channels_last)
    added = torch.randn(n, o, h, w) if adds else None
    with pytest.MonkeyPatch.context() as patch, torch.inference_mode():
        patch.setattr(winograd, "FEWEST_TILES", 1)
        patch.setattr(winograd, "_BLOCK", 7)  # Several blocks, and a last one of fewer rows.
        fast = WinogradConv(layer)
        fast.activates = activates
        found = fast(maps, added)
        expected = layer.double()(maps.double()) + (0 if added is None else added)
        expected = expected.relu() if activates else expected
    assert found.shape == expected.shape
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-4)


def test_only_wide_convolutions_of_the_kind_are_replaced() -> None:
    wide = nn.Conv2d(128, 128, 3, padding=1)
    others = [
        nn.Conv2d(64, 64, 3, padding=1),
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3, padding=1, dilation=2),
        nn.Conv2d(256, 256, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="reflect"),
    ]
    assert pays(wide) and not any(map(pays, others))
    state = torch.get_rng_state()
    model = with_winograd(nn.Sequential(wide, *others))
    assert [isinstance(layer, WinogradConv) for layer in model] == [True] + [False] * len(others)
    assert torch.equal(torch.get_rng_state(), state), "making it drew random numbers"


def test_the_plain_way_is_taken_when_asked_for(monkeypatch) -> None:
    layer = WinogradConv(nn.Conv2d(128, 128, 3, padding=1))
    maps = torch.randn(1, 128, 40, 40)
    monkeypatch.setattr(winograd, "_inputs", None)
    with torch.inference_mode(), directly(nn.Sequential(layer)):
        assert layer(maps).shape == maps.shape
    with pytest.raises(TypeError), torch.inference_mode():
        layer(maps)


def test_a_detector_finds_the_same_boxes(monkeypatch) -> None:
    """Its convolutions are replaced in float32 alone, and its own copy of them."""
    torch.manual_seed(0)
    model = roughen(build_detector(dataclasses.replace(TINY))).eval()
    plain = Detector(model)(frame(0))
    monkeypatch.setattr(winograd, "FEWEST_PAIRS", 1)
    monkeypatch.setattr(winograd, "FEWEST_TILES", 1)
    detector = Detector(model)
    assert any(isinstance(layer, WinogradConv) for layer in detector._model.modules())
    assert not any(isinstance(layer, WinogradConv) for layer in model.modules())
    found = detector(frame(0))
    assert len(found) == len(plain) > 3
    np.testing.assert_allclose(found.score, plain.score, atol=1e-4)
    np.testing.assert_allclose(found.center, plain.center, atol=1e-3)
    half = Detector(model, precision="bf16")
    assert not any(isinstance(layer, WinogradConv) for layer in half._model.modules())
