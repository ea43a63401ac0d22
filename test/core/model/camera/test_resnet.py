"""The image backbone against transformers' ResNet, whose names of weights it has."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from transformers import ResNetBackbone, ResNetConfig, ResNetForImageClassification

from crkd_core.config import BackboneConfig
from crkd_core.model.camera.encoder import ImageError, build_backbone
from crkd_core.model.camera.resnet import ResNet

BASIC = BackboneConfig(embedding=8, hidden=(8, 12, 16, 20), depths=(1, 2, 2, 1), layer="basic")
BOTTLENECK = BackboneConfig(embedding=8, hidden=(16, 16, 32, 32), depths=(2, 1, 2, 1))


def settings(config: BackboneConfig, *outputs: int) -> ResNetConfig:
    return ResNetConfig(
        embedding_size=config.embedding,
        hidden_sizes=list(config.hidden),
        depths=list(config.depths),
        layer_type=config.layer,
        out_indices=list(outputs),
    )


@pytest.mark.parametrize("config", [BASIC, BOTTLENECK], ids=["basic", "bottleneck"])
@pytest.mark.parametrize("training", [False, True])
def test_it_answers_as_transformers_does(config: BackboneConfig, training: bool) -> None:
    theirs = ResNetBackbone(settings(config, 1, 3, 4)).train(training)
    ours = build_backbone(config, levels=(4, 16, 32)).train(training)
    assert isinstance(ours, ResNet)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert tuple(theirs.channels) == ours.channels
    ours.load_state_dict(theirs.state_dict())
    pixels = torch.randn(2, 3, 64, 96)
    for a, b in zip(theirs(pixels).feature_maps, ours(pixels).feature_maps, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_fresh_weights_are_spread_as_theirs() -> None:
    theirs = ResNetBackbone(settings(BOTTLENECK, 4)).state_dict()
    for name, tensor in ResNet(BOTTLENECK, stages=(3,)).state_dict().items():
        if tensor.ndim == 4:
            assert float(tensor.std()) == pytest.approx(float(theirs[name].std()), rel=0.2), name
        else:
            assert torch.equal(tensor, theirs[name]), name


def test_files_of_transformers_are_read(tmp_path) -> None:
    theirs = ResNetForImageClassification(settings(BASIC, 4))
    theirs.save_pretrained(tmp_path)
    config = BackboneConfig(**{**vars(BASIC), "weights": str(tmp_path)})
    ours = build_backbone(config, levels=(8, 16))
    assert isinstance(ours, ResNet) and ours.channels == (12, 16)
    for name, tensor in ours.state_dict().items():
        assert torch.equal(tensor, theirs.state_dict()[f"resnet.{name}"]), name
    other = BackboneConfig(**{**vars(BOTTLENECK), "weights": str(tmp_path)})
    with pytest.raises(ImageError, match=r"backbone\.weights"):
        build_backbone(other, levels=(8, 16))


def test_files_of_another_network_are_refused(tmp_path) -> None:
    """What they lack would start at random, and what they have beside would be left out."""
    ResNetForImageClassification(settings(BASIC, 4)).save_pretrained(tmp_path)
    for depths in ((1, 2, 2, 3), (2, 2, 2, 1)):
        other = BackboneConfig(**{**vars(BASIC), "weights": str(tmp_path), "depths": depths})
        with pytest.raises(ImageError, match=r"is not of this resnet.*lacks \d+ of its tensors"):
            build_backbone(other, levels=(8, 16))
        folder = tmp_path / str(sum(depths))
        ResNetForImageClassification(settings(other, 4)).save_pretrained(folder)
        own = BackboneConfig(**{**vars(BASIC), "weights": str(folder)})
        with pytest.raises(ImageError, match=r"is not of this resnet.*holds \d+ that it has not"):
            build_backbone(own, levels=(8, 16))


def test_a_detector_starts_without_importing_transformers() -> None:
    code = (
        "import sys, crkd_core.infer.detector, crkd_core.train.loop\n"
        "from crkd_core.model.build import build_detector\n"
        "from crkd_core.presets import preset\n"
        "build_detector(preset('demo_student').detector, pretrained=False)\n"
        "sys.exit('transformers' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
