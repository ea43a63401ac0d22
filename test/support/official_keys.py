"""State dicts with the names and shapes of released checkpoints, all zeros, without any file."""

from __future__ import annotations

import torch
from torch import Tensor

CLASSES = (1, 2, 2, 1, 2, 2)


class Names:
    """Collects name -> shape; every tensor is one zero, expanded."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}

    def add(self, key: str, *shape: int) -> None:
        self.state[key] = torch.zeros(()).expand(shape)

    def pair(self, key: str, outputs: int, *inputs: int) -> None:
        self.add(f"{key}.weight", outputs, *inputs)
        self.add(f"{key}.bias", outputs)

    def norm(self, key: str, width: int) -> None:
        for name in ("weight", "bias", "running_mean", "running_var"):
            self.add(f"{key}.{name}", width)
        self.state[f"{key}.num_batches_tracked"] = torch.tensor(0)

    def conv_norm(self, conv: str, norm: str, outputs: int, *inputs: int) -> None:
        self.add(f"{conv}.weight", outputs, *inputs)
        self.norm(norm, outputs)


def resnet(names: Names, p: str) -> None:
    names.conv_norm(f"{p}conv1", f"{p}bn1", 64, 3, 7, 7)
    width = 64
    for stage, depth in enumerate((3, 4, 6, 3)):
        inner = 64 << stage
        for block in range(depth):
            b = f"{p}layer{stage + 1}.{block}."
            names.conv_norm(f"{b}conv1", f"{b}bn1", inner, width, 1, 1)
            names.conv_norm(f"{b}conv2", f"{b}bn2", inner, inner, 3, 3)
            names.conv_norm(f"{b}conv3", f"{b}bn3", 4 * inner, inner, 1, 1)
            if block == 0:
                names.conv_norm(f"{b}downsample.0", f"{b}downsample.1", 4 * inner, width, 1, 1)
            width = 4 * inner


def swin(names: Names, p: str) -> None:
    names.pair(f"{p}patch_embed.projection", 96, 3, 4, 4)
    names.pair(f"{p}patch_embed.norm", 96)
    for stage, (depth, heads) in enumerate(zip((2, 2, 6, 2), (3, 6, 12, 24), strict=True)):
        c = 96 << stage
        for block in range(depth):
            b = f"{p}stages.{stage}.blocks.{block}."
            names.pair(f"{b}norm1", c)
            names.pair(f"{b}norm2", c)
            names.add(f"{b}attn.w_msa.relative_position_bias_table", 169, heads)
            names.add(f"{b}attn.w_msa.relative_position_index", 49, 49)
            names.pair(f"{b}attn.w_msa.qkv", 3 * c, c)
            names.pair(f"{b}attn.w_msa.proj", c, c)
            names.pair(f"{b}ffn.layers.0.0", 4 * c, c)
            names.pair(f"{b}ffn.layers.1", c, 4 * c)
        if stage < 3:
            names.pair(f"{p}stages.{stage}.downsample.norm", 4 * c)
            names.add(f"{p}stages.{stage}.downsample.reduction.weight", 2 * c, 4 * c)
        if stage:
            names.pair(f"{p}norm{stage}", c)


def camera(names: Names, p: str, backbone: str, width: int) -> None:
    """Backbone and neck with ``width`` output channels."""
    if backbone == "r50":
        resnet(names, f"{p}backbone.")
        o = width // 4
        for i, (c, k) in enumerate(((256, 2), (512, 1), (1024, 2), (2048, 4))):
            names.add(f"{p}neck.deblocks.{i}.0.weight", *((c, o) if i else (o, c)), k, k)
            names.norm(f"{p}neck.deblocks.{i}.1", o)
    else:
        swin(names, f"{p}backbone.")
        for i, inputs in enumerate((192 + width, 1152)):
            for kind, shape in (("lateral", (inputs, 1, 1)), ("fpn", (width, 3, 3))):
                conv = f"{p}neck.{kind}_convs.{i}"
                names.conv_norm(f"{conv}.conv", f"{conv}.bn", width, *shape)


def geometry(names: Names, p: str, cell: float, bins: int) -> None:
    names.state[f"{p}dx"] = torch.tensor([cell, cell, 20.0])
    names.state[f"{p}bx"] = torch.tensor([-54 + cell / 2, -54 + cell / 2, 0.0])
    cells = round(108 / cell)
    names.state[f"{p}nx"] = torch.tensor([cells, cells, 1])
    step = 59 / bins
    depth = torch.arange(bins) * step + 1
    d, v, u = torch.meshgrid(
        depth, torch.linspace(0, 255, 32), torch.linspace(0, 703, 88), indexing="ij"
    )
    names.state[f"{p}frustum"] = torch.stack([u, v, d], -1)


def back(names: Names, *, gated: bool, suffix: str = "") -> None:
    """Fuser, decoder and head."""
    f, d, h = f"fuser{suffix}.", f"decoder{suffix}.", f"heads{suffix}.object."
    if gated:
        names.pair(f"{f}input_conv_sensor_1", 80, 336, 3, 3)
        names.pair(f"{f}input_conv_sensor_2", 256, 336, 3, 3)
    p = f"{f}output_fuser_conv_norm." if gated else f
    names.conv_norm(f"{p}0", f"{p}1", 256, 336, 3, 3)
    width = 256
    for group, c in enumerate((128, 256, 512)):
        for block in range(2):
            b = f"{d}backbone.{group}.{block}."
            names.conv_norm(f"{b}conv1", f"{b}bn1", c, width, 3, 3)
            names.conv_norm(f"{b}conv2", f"{b}bn2", c, c, 3, 3)
            if block == 0:
                names.conv_norm(f"{b}downsample.0", f"{b}downsample.1", c, width, 1, 1)
            width = c
    names.conv_norm(f"{d}neck.fuse.0", f"{d}neck.fuse.1", 256, 640, 1, 1)
    names.conv_norm(f"{d}neck.fuse.3", f"{d}neck.fuse.4", 256, 256, 3, 3)
    names.conv_norm(f"{d}neck.upsample.1", f"{d}neck.upsample.2", 256, 256, 3, 3)
    names.conv_norm(f"{h}shared_conv.conv", f"{h}shared_conv.bn", 64, 256, 3, 3)
    for task, classes in enumerate(CLASSES):
        for branch, k in (("reg", 2), ("height", 1), ("dim", 3), ("rot", 2), ("vel", 2)):
            output(names, f"{h}task_heads.{task}.{branch}", k)
        output(names, f"{h}task_heads.{task}.heatmap", classes)


def output(names: Names, p: str, k: int) -> None:
    names.conv_norm(f"{p}.0.conv", f"{p}.0.bn", 64, 64, 3, 3)
    names.pair(f"{p}.1", k, 64, 3, 3)


def student(
    backbone: str, *, gated: bool = True, calibrated: bool = False, suffix: str = ""
) -> dict[str, Tensor]:
    """A camera-radar student with "r50" or "swint"."""
    names = Names()
    p = f"encoders{suffix}."
    camera(names, f"{p}camera.", backbone, 512)
    geometry(names, f"{p}camera.vtransform.", 0.6, 59)
    names.pair(f"{p}camera.vtransform.depthnet", 139, 512, 1, 1)
    r = f"{p}radar.backbone."
    for i in range(4):
        layer = f"{r}pts_voxel_encoder.rfn_layers.{i}"
        names.conv_norm(f"{layer}.linear", f"{layer}.norm", 256, 256 if i else 47)
    if calibrated:
        for i in (0, 3, 6):
            names.pair(f"{r}caliber.{i}", 256, 256, 3, 3)
            names.norm(f"{r}caliber.{i + 1}", 256)
        names.add(f"{r}distill_activation_head.0.weight", 1, 256, 1, 1)
    back(names, gated=gated, suffix=suffix)
    return names.state


def teacher(backbone: str) -> dict[str, Tensor]:
    """A LiDAR-camera teacher with "r50" or "swint"."""
    names = Names()
    camera(names, "encoders.camera.", backbone, 256)
    v = "encoders.camera.vtransform."
    geometry(names, v, 0.3, 118)
    for i, shape in ((0, (8, 1, 1, 1)), (3, (32, 8, 5, 5)), (6, (64, 32, 5, 5))):
        names.pair(f"{v}dtransform.{i}", *shape)
        names.norm(f"{v}dtransform.{i + 1}", shape[0])
    for i, shape in ((0, (256, 320, 3, 3)), (3, (256, 256, 3, 3))):
        names.pair(f"{v}depthnet.{i}", *shape)
        names.norm(f"{v}depthnet.{i + 1}", 256)
    names.pair(f"{v}depthnet.6", 198, 256, 1, 1)
    for i in (0, 3, 6):
        names.conv_norm(f"{v}downsample.{i}", f"{v}downsample.{i + 1}", 80, 80, 3, 3)
    lidar(names, "encoders.lidar.backbone.")
    back(names, gated=True)
    return names.state


def lidar(names: Names, p: str) -> None:
    def sparse(key: str, norm: str, *shape: int) -> None:
        names.add(f"{key}.weight", *shape)
        names.norm(norm, shape[-1])

    sparse(f"{p}conv_input.0", f"{p}conv_input.1", 3, 3, 3, 5, 16)
    for stage, c in enumerate((16, 32, 64, 128), 1):
        layer = f"{p}encoder_layers.encoder_layer{stage}."
        for block in (0, 1):
            for k in (1, 2):
                sparse(f"{layer}{block}.conv{k}", f"{layer}{block}.bn{k}", 3, 3, 3, c, c)
        if stage < 4:
            sparse(f"{layer}2.0", f"{layer}2.1", 3, 3, 3, c, 2 * c)
    sparse(f"{p}conv_out.0", f"{p}conv_out.1", 1, 1, 3, 128, 128)


def distilled(backbone: str) -> dict[str, Tensor]:
    """Teacher, calibrated student and the adapters of the relation loss in one file."""
    names = Names()
    for i in range(4):
        p = f"fused_feat_affinity_loss.adapt_modules.{i}.conv_channel_layer."
        names.pair(f"{p}0", 256, 256, 3, 3)
        names.pair(f"{p}2", 256, 256, 1, 1)
    own = student(backbone, calibrated=True, suffix="_student")
    return {**teacher(backbone), **own, **names.state}
