"""`crkd train`."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path
from typing import Annotated

import typer

from crkd_core.commands.options import (
    Data,
    Device,
    Out,
    PseudoLabels,
    Resume,
    Split,
    Steps,
    Unlabelled,
    UnlabelledShare,
    UnlabelledSplit,
    Version,
)
from crkd_core.commands.runs import (
    check_begin,
    check_goes_on,
    check_keeping,
    check_place,
    place_of,
    recorded_frames,
    resumed,
    unlabelled_drives,
)
from crkd_core.config import ConfigError, TrainConfig, UnlabelledConfig
from crkd_core.config.override import override
from crkd_core.presets import preset as find_preset


def train(
    context: typer.Context,
    data: Data,
    split: Split,
    out: Out,
    preset: Annotated[
        str | None, typer.Option(help="demo_student (default), crkd_r50, ...")
    ] = None,
    start: Annotated[
        Path | None,
        typer.Option(
            help="Go on from this run folder or weights file, with its network and, of a folder, "
            "its training settings and pseudo-labels; --preset gives other training settings."
        ),
    ] = None,
    unlabelled: Unlabelled = None,
    unlabelled_split: UnlabelledSplit = None,
    unlabelled_share: UnlabelledShare = None,
    pseudo_labels: PseudoLabels = None,
    steps: Steps = None,
    resume: Resume = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one value: KEY.KEY=YAML, e.g. augment.bev_flip=0."),
    ] = None,
    device: Device = "cpu",
    version: Version = None,
) -> None:
    """Train a detector of a preset; see the run folder for weights and metrics."""
    from crkd_core.infer.allocator import keep_freed_memory
    from crkd_core.model.checkpoint import WEIGHTS
    from crkd_core.train.loop import train as train_run
    from crkd_core.train.run_folder import Run

    # Every batch asks for the same large blocks; processes that read inherit this.
    keep_freed_memory()
    check_place(out, device)
    if resume:
        run = resumed(context, out, split=split, agree=("steps", "preset"))
        config = run.config
    else:
        drives = unlabelled_drives(unlabelled, unlabelled_split, unlabelled_share, pseudo_labels)
        if drives is not None and pseudo_labels is None:
            raise ConfigError(
                "--unlabelled: a plain training learns nothing from drives without boxes; give "
                "those of a detector by --pseudo-labels, or distil (crkd distill)"
            )
        config = _from_start(start, preset, drives)
        if steps is not None:
            config = dataclasses.replace(config, steps=steps)
        config = override(config, set_ or [])
        check_keeping(config)
    frames = recorded_frames(data, split, config, version=version)
    if resume:
        check_goes_on(run, frames)
    else:
        check_begin(config, frames, device)
        place = place_of(frames)
        run = Run.start(out, config, data=place, split=split, digest=frames.digest())
    train_run(run, frames, resume=resume, device=device)
    if run.writes:
        print(f"weights: {run.path / WEIGHTS}")


def _from_start(
    start: Path | None, preset: str | None, drives: UnlabelledConfig | None
) -> TrainConfig:
    """The settings of a training without teacher, of a random or a trained network.

    Drives without boxes are those that are given, else those of the run to start from.
    """
    if start is None:
        return dataclasses.replace(find_preset(preset or "demo_student"), unlabelled=drives)
    from crkd_core.distill.settings import start_config
    from crkd_core.model.checkpoint import weights_file

    weights = weights_file(start)  # First: a wrong path is no name of a preset.
    config, _ = start_config(str(start), preset)
    drives = drives or config.unlabelled
    if drives is not None and drives.pseudo_labels is None:
        warnings.warn(
            f"{start} was taught in drives without boxes too, {drives.split} of {drives.data}, "
            "from which a training without teacher learns nothing: they are left out; "
            "--unlabelled with --pseudo-labels, or crkd distill, takes them in",
            stacklevel=2,
        )
        drives = None
    return dataclasses.replace(
        config,
        start=str(weights.resolve()),
        start_image=None,
        crkd=None,
        imkd=None,
        unlabelled=drives,
    )
