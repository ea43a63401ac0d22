"""`crkd export` and `crkd engines`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_core.commands.options import Device, Out, Overwrite, Split, Version, leave_out
from crkd_core.config import ConfigError
from crkd_core.files import ITSELF, check_output

RadarPoints = Annotated[
    int | None,
    typer.Option(min=1, help="Points within the grid that exported networks hold; default: 4096."),
]


def export(
    context: typer.Context,
    weights: Annotated[Path, typer.Argument(help="A .safetensors detector, or a run folder.")],
    out: Annotated[Path, typer.Option(help="FILE.onnx, or FILE.pt2 of torch.export.")],
    cameras: Annotated[int, typer.Option(min=1, max=6, help="Images that it holds.")] = 6,
    radar_points: RadarPoints = None,
    int8_data: Annotated[
        Path | None,
        typer.Option(help="Convolutions in int8, with ranges seen on Frames of this data set."),
    ] = None,
    int8_split: Annotated[
        str | None, typer.Option(help="Its split, not one to be scored.")
    ] = None,
    int8_frames: Annotated[
        int, typer.Option(min=1, help="How many of its Frames, evenly spread.")
    ] = 64,
    whole_head: Annotated[
        bool,
        typer.Option("--whole-head", help="Boxes of every cell, for programs other than crkd."),
    ] = False,
    version: Version = None,
    overwrite: Overwrite = False,
) -> None:
    """A detector's network as ONNX or torch.export: batch 1, no dynamic shapes."""
    from crkd_core.infer.engines.export import check_ending
    from crkd_core.infer.engines.export import export as write
    from crkd_core.infer.engines.inputs import Capacity
    from crkd_core.model.checkpoint import read_config

    if (int8_data is None) != (int8_split is None):
        raise ConfigError("--int8-data and --int8-split belong together")
    if int8_data is None:
        leave_out(context, "int8_frames", "version", beside="of --int8-data, which is not given")
    check_output(out, results=ITSELF, overwrite=overwrite)
    check_ending(out, int8=int8_data is not None)
    config = read_config(weights)
    if config.camera is None:
        leave_out(context, "cameras", beside=f"{config.name} reads no cameras")
    if config.radar is None:
        leave_out(context, "radar_points", beside=f"{config.name} reads no radars")
    capacity = Capacity(cameras=cameras)
    if radar_points is not None:
        capacity = Capacity(cameras=cameras, radar_points=radar_points)
    frames = None
    if int8_data is not None and int8_split is not None:
        from crkd_core.data.sets import frames_of, open_set
        from crkd_core.evaluate.engines import spread

        tables = open_set(int8_data, split=int8_split, version=version)
        frames = spread(frames_of(tables, int8_split, config), int8_frames)
    said = write(weights, out, capacity=capacity, calibration=frames, whole_head=whole_head)
    print(f"{said}: {out}")


def engines(
    context: typer.Context,
    weights: Annotated[Path, typer.Argument(help="A .safetensors detector, or a run folder.")],
    data: Annotated[Path, typer.Option(help="Root folder of a nuScenes data set.")],
    split: Split,
    out: Out,
    int8_split: Annotated[
        str | None, typer.Option(help="With int8, its ranges seen on this split of --data.")
    ] = None,
    int8_frames: Annotated[
        int, typer.Option(min=1, help="How many of its Frames, evenly spread.")
    ] = 64,
    samples: Annotated[
        int | None, typer.Option(min=1, help="Only so many of the split, evenly spread.")
    ] = None,
    radar_points: RadarPoints = None,
    device: Device = "cpu",
    version: Version = None,
    overwrite: Overwrite = False,
) -> None:
    """Engines and precisions side by side: speed against mAP and NDS (nuScenes)."""
    from crkd_core.data.vod.layout import is_vod
    from crkd_core.evaluate.engines import RESULTS, compare_engines
    from crkd_core.infer.detector import usable_device
    from crkd_core.infer.engines.inputs import Capacity
    from crkd_core.model.checkpoint import read_config

    if is_vod(data):
        raise ConfigError(
            "mAP and NDS are of nuScenes; for View-of-Delft run crkd evaluate --engine by itself"
        )
    if int8_split is None:
        leave_out(context, "int8_frames", beside="of --int8-split, which is not given")
    config = read_config(weights)
    if config.radar is None:
        leave_out(context, "radar_points", beside=f"{config.name} reads no radars")
    if usable_device(device).type != "cpu":
        leave_out(context, "radar_points", beside="of exported networks, which run on the CPU")
    check_output(out, results=RESULTS, overwrite=overwrite)
    compare_engines(
        weights,
        data,
        split,
        out,
        int8_split=int8_split,
        int8_frames=int8_frames,
        samples=samples,
        capacity=None if radar_points is None else Capacity(radar_points=radar_points),
        device=device,
        version=version,
    )
