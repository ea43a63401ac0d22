"""Released fuser, decoder and CenterHead, which students and teachers share (docs/method.md 1.12).

Their boxes: size (w, l, h), heading s = -yaw - pi / 2. Ours: (l, w, h) and yaw. The difference
goes into the rows of the output convolutions, so that nothing behind them knows of it.
"""

from __future__ import annotations

from torch import Tensor

from crkd_core.config import DecoderConfig, HeadConfig
from crkd_core.model.head import REGRESSION
from crkd_core.official.source import OfficialError, Source
from crkd_core.presets.crkd import SIX_TASKS

#: Boxes farther out than this (grid frame, metres) are dropped by the released decode.
CENTER_LIMIT = (61.2, 61.2, 10.0)

#: Sides are not limited there; these are for numbers that cannot be boxes.
SIZE_LIMITS = (1e-30, 1e30)


def foreign(source: Source) -> list[str]:
    """What in these keys is of other networks, for example of official BEVFusion."""
    found = []
    if source.has("decoder.backbone.blocks.") or source.has("decoder.neck.deblocks."):
        found.append(
            "decoder: a SECOND backbone with SECONDFPN, as in mit-han-lab's BEVFusion; CRKD's "
            "residual decoder (decoder.backbone.0.0.conv1, decoder.neck.fuse) is expected"
        )
    if source.has("heads.map."):
        found.append("heads.map: a segmentation head; only detectors can be imported")
    if source.has("heads.object.heatmap_head.") or source.has("heads.object.prediction_heads."):
        found.append(
            "heads.object: a TransFusion head, as in mit-han-lab's BEVFusion; a CenterHead "
            "(heads.object.task_heads) is expected"
        )
    return found


def fuser(source: Source) -> tuple[str, int]:
    """Move the fuser. -> "gated" or "conv", and its output channels.

    Raises:
        OfficialError: another fuser.
    """
    if "fuser.0.weight" in source:
        channels = source.shape("fuser.0.weight")[0]
        source.layer("fuser.0", "fuser.out.0", bias=False)
        source.norm("fuser.1", "fuser.out.1")
        return "conv", channels
    if "fuser.output_fuser_conv_norm.0.weight" not in source:
        raise OfficialError(
            "fuser: neither gated (fuser.output_fuser_conv_norm.*) nor a single convolution "
            "(fuser.0.*)"
        )
    channels = source.shape("fuser.output_fuser_conv_norm.0.weight")[0]
    for name in ("weight", "bias"):
        parts = [f"fuser.input_conv_sensor_{sensor}.{name}" for sensor in (1, 2)]
        source.join(parts, f"fuser.gate.{name}")
    source.layer("fuser.output_fuser_conv_norm.0", "fuser.out.0", bias=False)
    source.norm("fuser.output_fuser_conv_norm.1", "fuser.out.1")
    return "gated", channels


def decoder(source: Source) -> DecoderConfig:
    """Move the BEV decoder."""
    config = DecoderConfig()
    for group in range(len(config.channels)):
        for block in range(config.blocks):
            a, b = f"decoder.backbone.{group}.{block}", f"decoder.groups.{group}.{block}"
            for index, ours in ((1, "first"), (2, "second")):
                source.layer(f"{a}.conv{index}", f"{b}.{ours}.0", bias=False)
                source.norm(f"{a}.bn{index}", f"{b}.{ours}.1")
            if block == 0:
                source.layer(f"{a}.downsample.0", f"{b}.shortcut.0", bias=False)
                source.norm(f"{a}.downsample.1", f"{b}.shortcut.1")
    for a, b in (("fuse.{}", "fuse.0"), ("fuse.{}", "fuse.1"), ("upsample.{}", "out")):
        first = {"fuse.0": 0, "fuse.1": 3, "out": 1}[b]
        source.layer(f"decoder.neck.{a.format(first)}", f"decoder.{b}.0", bias=False)
        source.norm(f"decoder.neck.{a.format(first + 1)}", f"decoder.{b}.1")
    return config


def head(source: Source, *, code_weights: tuple[float, ...] = (1.0,) * 10) -> HeadConfig:
    """Move the CenterHead.

    Raises:
        OfficialError: other tasks than CRKD's six.
    """
    old = "heads.object."
    config = HeadConfig(
        tasks=SIX_TASKS,
        code_weights=code_weights,
        center_limit=CENTER_LIMIT,
        size_limits=SIZE_LIMITS,
    )
    source.layer(f"{old}shared_conv.conv", "head.shared.0", bias=False)
    source.norm(f"{old}shared_conv.bn", "head.shared.1")
    hidden: dict[str, list[str]] = {}
    index = 0
    for task, settings in enumerate(config.tasks):
        sizes = {**REGRESSION, "heatmap": len(settings.classes)}
        for branch, size in sizes.items():
            a = f"{old}task_heads.{task}.{branch}"
            if f"{a}.1.weight" in source and source.shape(f"{a}.1.weight")[0] != size:
                raise OfficialError(
                    f"{a}: expected {size} outputs, got {source.shape(f'{a}.1.weight')[0]}; the "
                    "six tasks of CRKD are expected"
                )
            for name in ("0.conv.weight", *(f"0.bn.{part}" for part in _NORM)):
                hidden.setdefault(name, []).append(f"{a}.{name}")
            for name in ("weight", "bias"):
                source.move(f"{a}.1.{name}", f"head.outputs.{index}.{name}", _ROWS.get(branch))
            index += 1
    for name, parts in hidden.items():
        ours = "0.weight" if name == "0.conv.weight" else name.replace("0.bn", "1")
        if name.endswith("num_batches_tracked"):
            counts = [source.take(part) for part in parts]
            if counts[0] is not None:
                source.out[f"head.hidden.{ours}"] = counts[0]
        else:
            source.join(parts, f"head.hidden.{ours}")
    return config


_NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _length_first(rows: Tensor) -> Tensor:
    """Rows (w, l, h) to (l, w, h)."""
    return rows[[1, 0, 2]].contiguous()


def _yaw(rows: Tensor) -> Tensor:
    """Rows (sin s, cos s) to (sin yaw, cos yaw) = (-cos s, -sin s)."""
    return -rows[[1, 0]].contiguous()


_ROWS = {"dim": _length_first, "rot": _yaw}
