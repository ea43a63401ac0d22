"""What a frame costs by image size, grid, radar points and cameras: `python tools/cost_curves.py`.

One thing is changed at a time, the rest is the preset's. Random weights and random Frames; boxes
are asked for above a score that nothing has, so decoding is that of an empty street: what it
costs beside depends on what is found, and `crkd bench` shows it. All settings take turns, so a
busy machine slows all of them alike.
"""

from __future__ import annotations

import dataclasses
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from matplotlib.figure import Figure

from crkd_core.command import run_function
from crkd_core.config import DetectorConfig
from crkd_core.files import check_output, replacing, write_json
from crkd_core.frame import Frame
from crkd_core.infer.bench import processor, random_frame
from crkd_core.infer.detector import Detector
from crkd_core.infer.stages import driving
from crkd_core.model.build import build_detector
from crkd_core.presets import preset
from crkd_core.sensors import CAMERAS
from crkd_core.tables import Table, print_tables

#: Nothing of a fresh network scores so high.
SCORE = 0.99
#: Times the preset's image, at the same shape; sides are rounded to what backbones divide by.
IMAGES = (0.5, 1.0, 1.5, 2.0, 3.0)
#: Times the preset's cell, over the same ground.
CELLS = (0.5, 0.75, 1.0, 1.5, 2.0)
RADAR_POINTS = (1_000, 3_000, 10_000, 30_000, 100_000)
CAMERA_COUNTS = tuple(range(len(CAMERAS) + 1))
#: Pixels that sides of an image must be a multiple of.
_STEP = 32
TITLES = {
    "image": "pixels of an image",
    "grid": "cells of the grid",
    "radar": "radar points",
    "cameras": "cameras",
}


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One point of a curve.

    Attributes:
        what: which curve, a key of TITLES.
        value: where on its axis.
        label: for the table.
        detector: to be timed on ``frame``.
        frame: what it sees.
    """

    what: str
    value: int
    label: str
    detector: Detector
    frame: Frame


def settings(config: DetectorConfig) -> list[Setting]:
    """All points of all curves that this network has a branch for."""
    own = _detector(config)
    seen = random_frame(config)
    found = []
    for factor in IMAGES if "camera" in config.branches else ():
        image = dataclasses.replace(
            config.image,
            height=_rounded(factor * config.image.height),
            width=_rounded(factor * config.image.width),
        )
        changed = dataclasses.replace(config, image=image)
        label = f"{image.width} x {image.height}"
        found.append(_point("image", image.width * image.height, label, changed))
    for factor in CELLS:
        # Cells of which both sides hold a whole number.
        common = math.gcd(*config.grid.shape)
        changed = _with_cells(config, common / max(1, round(common / factor)))
        grid = changed.grid
        x, y = grid.shape
        found.append(_point("grid", x * y, f"{x} x {y} of {grid.cell:g} m", changed))
    for count in RADAR_POINTS if "radar" in config.branches else ():
        frame = random_frame(config, radar_points=count)
        found.append(
            Setting(what="radar", value=count, label=f"{count:,}", detector=own, frame=frame)
        )
    for count in CAMERA_COUNTS if {"camera", "radar"} <= {*config.branches} else ():
        frame = seen.without(*CAMERAS[count:])
        found.append(
            Setting(what="cameras", value=count, label=str(count), detector=own, frame=frame)
        )
    return found


def _point(what: str, value: int, label: str, config: DetectorConfig) -> Setting:
    return Setting(
        what=what, value=value, label=label, detector=_detector(config), frame=random_frame(config)
    )


def _with_cells(config: DetectorConfig, times: float) -> DetectorConfig:
    """With cells so many times as wide over the same ground, of as many voxels as before."""
    grid = dataclasses.replace(config.grid, cell=config.grid.cell * times)
    camera, lidar = config.camera, config.lidar
    if camera is not None and camera.lift_cell is not None:
        camera = dataclasses.replace(camera, lift_cell=camera.lift_cell * times)
    if lidar is not None:
        x, y, z = lidar.voxel
        lidar = dataclasses.replace(lidar, voxel=(x * times, y * times, z))
    return dataclasses.replace(config, grid=grid, camera=camera, lidar=lidar)


def _rounded(pixels: float) -> int:
    return max(1, round(pixels / _STEP)) * _STEP


def _detector(config: DetectorConfig) -> Detector:
    torch.manual_seed(0)
    return Detector(build_detector(config, pretrained=False), score_threshold=SCORE)


def timed(points: list[Setting], *, rounds: int) -> list[dict[str, Any]]:
    """Median milliseconds of every setting, after one untimed round."""
    spent: list[list[dict[str, float]]] = [[] for _ in points]
    for turn in range(rounds + 1):
        for point, times in zip(points, spent, strict=True):
            point.detector(driving(point.frame, turn))
            if turn:
                times.append(dict(point.detector.timing))
    return [
        {
            "what": point.what,
            "value": point.value,
            "label": point.label,
            **{
                f"{stage}_ms": 1e3 * statistics.median(one[stage] for one in times)
                for stage in ("prepare", "network", "decode")
            },
        }
        for point, times in zip(points, spent, strict=True)
    ]


def draw(found: list[dict[str, Any]], path: Path, *, title: str) -> None:
    """A picture with one plot a curve."""
    names = [name for name in TITLES if any(one["what"] == name for one in found)]
    figure = Figure(figsize=(4 * len(names), 3.4), layout="constrained")
    axes = figure.subplots(1, len(names), squeeze=False)[0]
    for axis, name in zip(axes, names, strict=True):
        curve = [one for one in found if one["what"] == name]
        x = [one["value"] for one in curve]
        network = [one["network_ms"] for one in curve]
        every = [one["network_ms"] + one["prepare_ms"] + one["decode_ms"] for one in curve]
        axis.plot(x, every, marker="o", color="#1f5f8b", label="all")
        axis.plot(x, network, marker="o", color="#d9822b", label="network")
        if name == "radar":
            axis.set_xscale("log")
        axis.set_ylim(bottom=0)
        axis.set_xlabel(TITLES[name])
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("ms a frame")
    axes[0].legend()
    figure.suptitle(title)
    with replacing(path) as partial:
        figure.savefig(partial, format="png", dpi=110)


def main(
    preset_name: Annotated[str, typer.Option("--preset", help="Which network.")] = "demo_student",
    rounds: Annotated[int, typer.Option(min=1, help="Timed calls of each setting.")] = 7,
    out: Annotated[
        Path | None, typer.Option(help="Folder for cost_curves.json and cost_curves.png.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace them.")] = False,
) -> None:
    """Time a detector by image size, grid, radar points and cameras."""
    names = ("cost_curves.json", "cost_curves.png")
    if out is not None:
        check_output(out, results=names, overwrite=overwrite)
    config = preset(preset_name).detector
    found = timed(settings(config), rounds=rounds)
    machine = f"{processor()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    title = f"{preset_name}, fp32, median of {rounds}: {machine}"
    columns = ("prepare ms", "network ms", "decode ms")
    rows = [
        [TITLES[one["what"]], one["label"], *(f"{one[c.replace(' ', '_')]:.1f}" for c in columns)]
        for one in found
    ]
    print_tables(Table(title=title, columns=("changed", "to", *columns), rows=rows, texts=("to",)))
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_json({"title": title, "points": found}, out / names[0], indent=1)
        draw(found, out / names[1], title=title)


if __name__ == "__main__":
    run_function(main)
