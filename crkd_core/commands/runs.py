"""What `crkd train` and `crkd distill` do alike: where a run lies, and what it reads."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crkd_core.config import (
    DetectorConfig,
    TrainConfig,
    check_classes,
)
from crkd_core.files import check_output

if TYPE_CHECKING:
    from crkd_core.data.sets import DataSet, SetFrames
    from crkd_core.train.mixed import MixedFrames
    from crkd_core.train.run_folder import Run


def check_place(out: Path, device: str) -> None:
    """Refuse what a run cannot use before it leaves a folder behind."""
    from crkd_core.infer.detector import usable_device

    check_output(out)
    usable_device(device)


def resumed(
    out: Path,
    *,
    split: str,
    preset: str | None,
    steps: int | None,
    changes: list[str] | None,
) -> Run:
    """The run in ``out``, which nothing on the command line may change."""
    from crkd_core.train.run_folder import Run, RunError

    run = Run.open(out, split=split)
    config = run.config
    if changes or steps not in (None, config.steps) or preset not in (None, config.detector.name):
        raise RunError(
            f"{out} was started with preset {config.detector.name} and {config.steps} steps; a "
            "resumed run keeps its configuration. Leave --preset, --start, --steps, --losses, "
            "--form, --method, --inherit, --held-out, --unlabelled and --set out, or start a new "
            "run"
        )
    return run


def recorded_frames(
    data: Path,
    split: str,
    config: TrainConfig,
    *teachers: DetectorConfig,
    version: str | None,
) -> SetFrames | MixedFrames:
    """The training set, images as recorded: all that network, losses and teachers read.

    Refused where it lacks a class of the detector.
    """
    from crkd_core.data.sets import frames_of, open_set
    from crkd_core.train.mixed import MixedFrames

    def read(tables: DataSet, split: str) -> SetFrames:
        return frames_of(
            tables,
            split,
            config.detector,
            *teachers,
            sensors=() if teachers else config.sensors,
            lidar_sweeps=1 if config.depth_weight else 0,
            recorded=True,
            remembered=True,
        )

    tables = open_set(data, split=split, version=version)
    check_classes(config.detector.name, config.detector.classes, tables.classes)
    frames, more = read(tables, split), config.unlabelled
    if more is None:
        return frames
    others = read(open_set(more.data, split=more.split), more.split)
    return MixedFrames(frames, others, share=more.share)
