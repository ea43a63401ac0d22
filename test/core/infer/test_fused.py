"""Convolutions with what follows them, and pixels as they come, against layer after layer."""

import copy
import dataclasses
import itertools
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tiny import TINY, frame, roughen
from torch import nn

from crkd_core.config import BackboneConfig, ImageConfig
from crkd_core.infer import detector as detecting
from crkd_core.infer.detector import Detector
from crkd_core.infer.fold import fold_batch_norms
from crkd_core.infer.fused import FusedBlock, FusedConv, directly, is_fusable, with_fused
from crkd_core.infer.pixels import PaddedPixels, fold_pixels
from crkd_core.model.build import build_detector
from crkd_core.model.camera.encoder import ImageEncoder
from crkd_core.model.camera.resnet import Block
from crkd_core.model.layers import BasicBlock, conv_norm

pytestmark = pytest.mark.skipif(not is_fusable(torch.float32), reason="oneDNN fuses on x86 alone")


def channels_last(*shape: int) -> torch.Tensor:
    return torch.randn(*shape).to(memory_format=torch.channels_last)


@settings(max_examples=120, deadline=None)
@given(
    n=st.integers(0, 3),
    c=st.integers(1, 5),
    o=st.integers(1, 5),
    h=st.integers(1, 30),
    w=st.integers(1, 30),
    kernel=st.sampled_from([1, 2, 3, 5]),
    stride=st.integers(1, 2),
    dilation=st.integers(1, 2),
    padding=st.integers(0, 2),
    groups=st.integers(1, 3),
    bias=st.booleans(),
    adds=st.booleans(),
    activates=st.booleans(),
    cells_first=st.tuples(st.booleans(), st.booleans(), st.booleans()),
    half=st.booleans(),
    seed=st.integers(0, 99),
)
def test_every_convolution_is_followed_by_sum_and_relu(
    n, c, o, h, w, kernel, stride, dilation, padding, groups, bias, adds, activates, cells_first,
    half, seed,
) -> None:  # fmt: skip
    torch.manual_seed(seed)
    dtype = torch.bfloat16 if half and is_fusable(torch.bfloat16) else torch.float32
    if dtype == torch.bfloat16:
        # oneDNN's own convolutions of maps narrower than a dilated kernel are wrong in bf16.
        h, w = max(h, 10), max(w, 10)
    c, o = c * groups, o * groups
    size = [
        (length + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for length in (h, w)
    ]
    if min(size) < 1:
        return
    layer = nn.Conv2d(
        c, o, kernel, stride=stride, dilation=dilation, padding=padding, groups=groups, bias=bias
    ).requires_grad_(False)
    if cells_first[0]:
        layer = layer.to(memory_format=torch.channels_last)

    def among_others(cells_first: bool, channels: int, size: list[int]) -> torch.Tensor:
        """Maps come as some of the channels of others too, and in either order."""
        if cells_first:
            return torch.randn(n, *size, channels + 2).permute(0, 3, 1, 2)[:, 1 : channels + 1]
        return torch.randn(n, channels + 2, *size)[:, 1 : channels + 1]

    layer = layer.to(dtype)
    maps = among_others(cells_first[1], c, [h, w]).to(dtype)
    added = among_others(cells_first[2], o, size).to(dtype)
    before = added.clone()
    expected = copy.deepcopy(layer).double()(maps.double()) + (added.double() if adds else 0)
    expected = expected.relu() if activates else expected
    fused = FusedConv(layer, activates=activates)
    with torch.inference_mode():
        found = fused(maps, added if adds else None)
        with directly(nn.Sequential(fused)):
            plain = fused(maps, added if adds else None)
    assert found.shape == expected.shape and found.dtype == dtype
    near = {"atol": 1e-4} if dtype == torch.float32 else {"atol": 3e-2, "rtol": 2**-7}
    np.testing.assert_allclose(found.double().numpy(), expected.numpy(), **near)
    np.testing.assert_allclose(plain.double().numpy(), expected.numpy(), **near)
    assert torch.equal(added, before), "a shortcut is read, and somebody else's"


def test_a_bf16_sum_is_rounded_once() -> None:
    if not is_fusable(torch.bfloat16):
        pytest.skip("no bf16 instructions")
    torch.manual_seed(0)
    layer = nn.Conv2d(16, 16, 3, padding=1).to(torch.bfloat16, memory_format=torch.channels_last)
    maps, added = channels_last(1, 16, 40, 40).bfloat16(), channels_last(1, 16, 40, 40).bfloat16()
    with torch.inference_mode():
        found = FusedConv(layer, activates=True)(maps, added)
        exact = (layer.double()(maps.double()) + added.double()).relu()
    np.testing.assert_allclose(found.double().numpy(), exact.numpy(), rtol=2**-8, atol=1e-3)


@pytest.mark.parametrize("adds", [False, True])
def test_nan_is_not_cut_off(adds: bool) -> None:
    layer = FusedConv(nn.Conv2d(4, 4, 3, padding=1).requires_grad_(False), activates=True)
    maps, added = channels_last(1, 4, 20, 20), channels_last(1, 4, 20, 20)
    maps[0, 0, 10, 10] = torch.nan
    with torch.inference_mode():
        found = layer(maps, added if adds else None).isnan()
    assert found[0, :, 9:12, 9:12].all() and found.sum() == 4 * 9


@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("kind", ["basic", "resnet", "bottleneck"])
def test_blocks_and_sequences_are_fused_whole(kind: str, project: bool) -> None:
    torch.manual_seed(1)
    if kind == "basic":
        block = BasicBlock(8, 8, project=project)
    else:
        inputs = 16 if project else 8
        block = Block(inputs, 8, stride=1, bottleneck=kind == "bottleneck")
    inputs = 16 if project and kind != "basic" else 8
    layers = nn.Sequential(conv_norm(inputs, inputs), block, conv_norm(8, 8), nn.ReLU())
    plain = fold_batch_norms(roughen(layers).eval().requires_grad_(False))
    fused = with_fused(copy.deepcopy(plain))
    assert isinstance(fused[1], FusedBlock)
    # The last one cuts off what was cut off, and follows no convolution.
    assert [type(m) for m in fused.modules() if isinstance(m, nn.ReLU)] == [nn.ReLU]
    assert not any(
        isinstance(layer, nn.Identity)
        for parent in fused.modules()
        if isinstance(parent, nn.Sequential)
        for layer in parent
    )
    convolutions = [m for m in fused.modules() if isinstance(m, nn.Conv2d)]
    assert all(isinstance(m, FusedConv) for m in convolutions)
    # The shortcut's own convolution is added to before anything is cut off.
    assert sum(not m.activates for m in convolutions) == project
    maps = channels_last(2, inputs, 12, 9)
    with torch.inference_mode():
        torch.testing.assert_close(fused(maps), plain(maps), atol=1e-5, rtol=1e-5)


def test_what_has_another_border_or_follows_something_else_is_left() -> None:
    reflecting = nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect")
    layers = nn.Sequential(
        nn.Sequential(reflecting, nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 3, padding="same"), nn.ReLU()),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.Sigmoid(), nn.ReLU()),
        nn.ModuleList([nn.Conv2d(4, 4, 1), nn.ReLU()]),
    )
    fused = with_fused(layers)
    assert sum(isinstance(m, nn.ReLU) for m in fused.modules()) == 4
    kinds = [isinstance(m, FusedConv) for m in fused.modules() if isinstance(m, nn.Conv2d)]
    assert kinds == [False, False, True, True]
    assert not any(m.activates for m in fused.modules() if isinstance(m, FusedConv))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_pixels_are_normalised_by_the_first_convolution(dtype: torch.dtype) -> None:
    torch.manual_seed(2)
    image = ImageConfig(height=32, width=64, mean=(0.4, 0.5, 0.9), std=(0.2, 0.3, 0.1))
    config = dataclasses.replace(TINY.camera, backbone=BackboneConfig(depths=(1, 1, 1, 1)))
    encoder = roughen(ImageEncoder(config, image)).eval().requires_grad_(False)
    plain = fold_batch_norms(encoder)
    folded = copy.deepcopy(plain)
    fold_pixels(folded)
    assert isinstance(folded.normalise, PaddedPixels)
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(0, 256, (2, 32, 64, 3), generator=generator, dtype=torch.uint8)
    images[0, :9], images[0, 9:20] = 0, 255  # Both ends, at the border too.
    before = images.clone()

    @torch.no_grad()
    def stem(network: ImageEncoder, dtype: torch.dtype) -> torch.Tensor:
        layers = copy.deepcopy(network.backbone.embedder.embedder).to(dtype)
        return layers(network.normalise(images, dtype)).double()

    exact = stem(plain, torch.float64)
    spread = exact.std().item()
    before_it, found = ((stem(one, dtype) - exact).abs() for one in (plain, folded))
    if dtype == torch.float32:
        assert found.max() < 2e-5 * spread
    else:  # Bytes are exact there, normalised pixels are not.
        assert found.mean() < 1.1 * before_it.mean() < 0.01 * spread
        assert found.max() < 0.05 * spread
    assert torch.equal(images, before)


def test_a_detector_finds_the_same_boxes(monkeypatch) -> None:
    torch.manual_seed(0)
    model = roughen(build_detector(TINY)).eval()
    before = copy.deepcopy(model.state_dict())
    detector = Detector(model)
    network = detector._model
    assert any(isinstance(m, FusedBlock) for m in network.modules())
    assert isinstance(network.image.normalise, PaddedPixels)
    assert not any(isinstance(m, FusedConv) for m in model.modules())
    monkeypatch.setattr(detecting, "is_fusable", lambda _: False)
    monkeypatch.setattr(detecting, "fold_pixels", lambda _: None)
    plain = Detector(model)
    assert not any(isinstance(m, FusedConv) for m in plain._model.modules())
    cameras = ["CAM_FRONT", "CAM_BACK_LEFT"]
    for seen in (frame(0), frame(0).keeping([*cameras, "RADAR_FRONT"])):
        expected, found = plain(seen), detector(seen)
        assert len(found) == len(expected) > 3
        np.testing.assert_allclose(found.score, expected.score, atol=1e-4)
        np.testing.assert_allclose(found.center, expected.center, atol=1e-3)
    again = pickle.loads(pickle.dumps(detector))(frame(0))
    assert np.array_equal(again.center, detector(frame(0)).center)
    for (name, one), other in zip(before.items(), model.state_dict().values(), strict=True):
        assert torch.equal(one, other), name


def test_another_pytorch_takes_the_layers_as_they_are(monkeypatch) -> None:
    """Operators that are gone, want other words or compute something else are not called."""

    def other_words(*_):
        raise TypeError("unexpected")

    def other_sums(maps, *_):
        return maps

    for operator in (other_words, other_sums):
        operator.binary = operator  # type: ignore[attr-defined]
        monkeypatch.setattr(torch.ops.mkldnn, "_convolution_pointwise", operator)
        is_fusable.cache_clear()
        try:
            assert not is_fusable(torch.float32)
            layer = FusedConv(nn.Conv2d(2, 3, 1).requires_grad_(False), activates=True)
            maps = torch.randn(1, 2, 4, 4)
            assert layer(maps, torch.ones(1, 3, 4, 4)).shape == (1, 3, 4, 4)
        finally:
            monkeypatch.undo()
            is_fusable.cache_clear()
    assert is_fusable(torch.float32)


def test_directly_is_meanwhile_alone() -> None:
    layers = nn.Sequential(*(FusedConv(nn.Conv2d(2, 2, 1)) for _ in range(2)))
    with pytest.raises(KeyError), directly(layers):
        assert all(layer.direct for layer in layers)
        raise KeyError
    assert not any(layer.direct for layer in layers)
    assert all(a is not b for a, b in itertools.pairwise(layers))
