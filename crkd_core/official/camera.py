"""Released camera encoders: ResNet-50 or Swin-T, their necks; student and teacher alike.

docs/method.md 1.12. ``old`` is the released prefix ("encoders.camera."), ``new`` ours ("image.").
"""

from __future__ import annotations

import torch
from torch import Tensor

from crkd_core.config import BackboneConfig, CameraConfig
from crkd_core.official.source import OfficialError, Source
from crkd_core.presets.crkd import SWIN_T

RESNET_50 = BackboneConfig()


def camera_encoder(source: Source, old: str, new: str) -> CameraConfig:
    """Move backbone and neck; the configuration knows backbone, neck and neck channels.

    Raises:
        OfficialError: neither a ResNet-50 nor a Swin-T, or another neck.
    """
    if f"{old}backbone.conv1.weight" in source:
        if f"{old}neck.deblocks.0.0.weight" not in source:
            raise OfficialError(
                f"{old}neck: behind a ResNet-50 a SECONDFPN ({old}neck.deblocks.*) is expected"
            )
        channels = source.shape(f"{old}neck.deblocks.0.0.weight")[0]
        _resnet(source, f"{old}backbone.", f"{new}backbone.", RESNET_50)
        for index in range(4):
            source.layer(
                f"{old}neck.deblocks.{index}.0", f"{new}neck.branches.{index}.0", bias=False
            )
            source.norm(f"{old}neck.deblocks.{index}.1", f"{new}neck.branches.{index}.1")
        return CameraConfig(backbone=RESNET_50, neck_channels=channels)
    if f"{old}backbone.patch_embed.projection.weight" in source:
        if f"{old}neck.lateral_convs.0.conv.weight" not in source:
            raise OfficialError(
                f"{old}neck: behind a Swin-T a GeneralizedLSSFPN ({old}neck.lateral_convs.*) is "
                "expected"
            )
        channels = source.shape(f"{old}neck.lateral_convs.0.conv.weight")[0]
        _swin(source, f"{old}backbone.", f"{new}backbone.", SWIN_T)
        for index in range(2):
            for theirs, ours in (("lateral_convs", "lateral"), ("fpn_convs", "smooth")):
                a, b = f"{old}neck.{theirs}.{index}", f"{new}neck.{ours}.{index}"
                source.layer(f"{a}.conv", f"{b}.0", bias=False)
                source.norm(f"{a}.bn", f"{b}.1")
        return CameraConfig(
            backbone=SWIN_T, neck="lss_fpn", neck_levels=(8, 16, 32), neck_channels=channels
        )
    raise OfficialError(
        f"{old}backbone: neither a ResNet-50 (conv1.weight) nor a Swin-T "
        "(patch_embed.projection.weight)"
    )


def _resnet(source: Source, old: str, new: str, config: BackboneConfig) -> None:
    """torchvision's names to those of transformers."""
    stem = f"{new}embedder.embedder"
    source.layer(f"{old}conv1", f"{stem}.convolution", bias=False)
    source.norm(f"{old}bn1", f"{stem}.normalization")
    for stage, depth in enumerate(config.depths):
        for block in range(depth):
            a = f"{old}layer{stage + 1}.{block}"
            b = f"{new}encoder.stages.{stage}.layers.{block}"
            for index in range(3):
                source.layer(f"{a}.conv{index + 1}", f"{b}.layer.{index}.convolution", bias=False)
                source.norm(f"{a}.bn{index + 1}", f"{b}.layer.{index}.normalization")
            if block == 0:
                source.layer(f"{a}.downsample.0", f"{b}.shortcut.convolution", bias=False)
                source.norm(f"{a}.downsample.1", f"{b}.shortcut.normalization")


def _swin(source: Source, old: str, new: str, config: BackboneConfig) -> None:
    """mmdet's names and orders to those of transformers."""
    for theirs, ours in (("projection", "patch_embeddings.projection"), ("norm", "norm")):
        source.layer(f"{old}patch_embed.{theirs}", f"{new}swin.embeddings.{ours}")
    for stage, depth in enumerate(config.depths):
        a, b = f"{old}stages.{stage}", f"{new}swin.encoder.layers.{stage}"
        for block in range(depth):
            _swin_block(source, f"{a}.blocks.{block}", f"{b}.blocks.{block}")
        if stage + 1 < len(config.depths):
            for name in ("weight", "bias"):
                source.move(f"{a}.downsample.norm.{name}", f"{b}.downsample.norm.{name}", _merged)
            source.move(
                f"{a}.downsample.reduction.weight", f"{b}.downsample.reduction.weight", _merged
            )
        # The first stage is no output.
        if stage:
            source.layer(f"{old}norm{stage}", f"{new}hidden_states_norms.stage{stage + 1}")


def _swin_block(source: Source, a: str, b: str) -> None:
    source.drop(f"{a}.attn.w_msa.relative_position_index")
    source.move(
        f"{a}.attn.w_msa.relative_position_bias_table",
        f"{b}.attention.relative_position_bias.relative_position_bias_table",
    )
    for name in ("weight", "bias"):
        parts = [f"{b}.attention.{letter}_proj.{name}" for letter in "qkv"]
        source.split(f"{a}.attn.w_msa.qkv.{name}", parts)
    source.layer(f"{a}.attn.w_msa.proj", f"{b}.attention.o_proj")
    source.layer(f"{a}.norm1", f"{b}.layernorm_before")
    source.layer(f"{a}.norm2", f"{b}.layernorm_after")
    source.layer(f"{a}.ffn.layers.0.0", f"{b}.mlp.fc1")
    source.layer(f"{a}.ffn.layers.1", f"{b}.mlp.fc2")


def _merged(tensor: Tensor) -> Tensor:
    """The last axis of patch merging in the order of transformers.

    mmdet unfolds to channel x row x column; transformers joins column x row x channel.
    """
    channels = tensor.shape[-1] // 4
    order = torch.arange(4 * channels).view(channels, 2, 2).permute(2, 1, 0).flatten()
    return tensor[..., order].contiguous()
