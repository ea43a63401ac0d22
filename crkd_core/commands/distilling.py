"""`crkd distill`."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from crkd_core.commands.options import Data, Device, Out, Split, Version, leave_out
from crkd_core.commands.runs import check_place, recorded_frames, resumed
from crkd_core.config import (
    CRKD_LOSSES,
    IMKD_LOSSES,
    ConfigError,
    TrainConfig,
    UnlabelledConfig,
    loss_weights,
)
from crkd_core.presets import override

if TYPE_CHECKING:
    from crkd_core.distill.protocol import Protocol


def distill(
    context: typer.Context,
    data: Data,
    split: Split,
    out: Out,
    teacher: Annotated[Path | None, typer.Option(help="A run folder or weights file.")] = None,
    student: Annotated[
        str,
        typer.Option(
            "--student",
            "--student-arch",
            help="A preset (random start), or a run folder or weights file to start from.",
        ),
    ] = "demo_student",
    method: Annotated[
        str | None, typer.Option(help="crkd (default), imkd, or both: crkd+imkd.")
    ] = None,
    imkd_teacher: Annotated[
        Path | None,
        typer.Option(help="Of crkd+imkd: another teacher for IMKD, as of LiDAR alone."),
    ] = None,
    preset: Annotated[
        str | None, typer.Option(help="Take the training settings of this preset.")
    ] = None,
    form: Annotated[
        str | None,
        typer.Option(help="CRKD's losses: balanced (default), or published, as in the paper."),
    ] = None,
    losses: Annotated[
        str | None,
        typer.Option(
            help="Other weights than those of method and form, 0 = off; balanced: "
            + ",".join(f"{k}={weight:g}" for k, weight in {**CRKD_LOSSES, **IMKD_LOSSES}.items())
        ),
    ] = None,
    inherit: Annotated[
        bool, typer.Option("--inherit", help="Start with the teacher's decoder and head.")
    ] = False,
    gate: Annotated[bool, typer.Option(help="The student's gated fuser.")] = True,
    calibration: Annotated[
        str | None,
        typer.Option(help="Radar calibration block: none, path (as published) or side."),
    ] = None,
    teacher_sensors: Annotated[
        list[str] | None,
        typer.Option("--teacher-sensor", help="The teacher sees only this sensor (repeatable)."),
    ] = None,
    held_out: Annotated[
        str | None,
        typer.Option(help="Measure teacher and student on this split, before and at the end."),
    ] = None,
    held_out_data: Annotated[
        Path | None, typer.Option(help="Its data set; --data where it is not given.")
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(help="Keep here what is measured at step 0, for other runs of this folder."),
    ] = None,
    allow_weak_teacher: Annotated[
        bool,
        typer.Option(
            "--allow-weak-teacher", help="Go on with a teacher that is not clearly better."
        ),
    ] = False,
    unlabelled: Annotated[
        Path | None,
        typer.Option(help="Root folder of drives without boxes, where only the teacher speaks."),
    ] = None,
    unlabelled_split: Annotated[
        str | None, typer.Option(help="A split of it; what it says of boxes is not read.")
    ] = None,
    unlabelled_share: Annotated[
        float | None, typer.Option(help="Of all samples, how many are of these drives.")
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Keep the teacher's answers here.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length of the schedule.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one value: KEY.KEY=YAML, e.g. crkd.csrd_target=code."),
    ] = None,
    device: Device = "cpu",
    version: Version = None,
) -> None:
    """Train a camera-radar student with a teacher (CRKD, IMKD)."""
    from crkd_core.distill import protocol
    from crkd_core.distill.held_out import HeldOut, check_apart
    from crkd_core.distill.settings import default_losses, distill_config
    from crkd_core.distill.training import distill as distill_run
    from crkd_core.distill.training import teacher_configs
    from crkd_core.infer.allocator import keep_freed_memory
    from crkd_core.train.distributed import Processes
    from crkd_core.train.gradients import failures, read_pulls
    from crkd_core.train.run_folder import Run

    # Every batch asks for the same large blocks; processes that read inherit this.
    keep_freed_memory()
    check_place(out, device)
    if held_out is None and not resume:
        leave_out(context, "held_out_data", "measured", beside="of --held-out, which is not given")
    if resume:
        run = resumed(context, out, split=split, agree=("steps",))
        config = run.config
    elif teacher is None:
        raise ConfigError("give --teacher, a run folder or a weights file")
    else:
        config = distill_config(
            teacher,
            student,
            method=method or "crkd",
            preset=preset,
            form=form or "balanced",
            losses=loss_weights(
                losses, defaults=default_losses(method or "crkd", form or "balanced")
            ),
            inherits=inherit,
            calibration=calibration,
            teacher_sensors=tuple(teacher_sensors or ()),
            imkd_teacher=imkd_teacher,
            cache=cache,
        )
        if not gate:
            config = override(config, ["detector.fuser=conv"])
        if steps is not None:
            config = dataclasses.replace(config, steps=steps)
        config = _with_unlabelled(config, unlabelled, unlabelled_split, unlabelled_share)
        config = override(config, set_ or [])
    frames = recorded_frames(data, split, config, *teacher_configs(config), version=version)
    if resume:
        run.check_data(frames.digest())
    else:
        found = None
        if held_out is None:
            if Processes.of_environment().first:
                print(protocol.UNMEASURED, file=sys.stderr)
        else:
            drives = HeldOut(data=data, split=held_out, version=version)
            if held_out_data is not None:
                drives = HeldOut(data=held_out_data, split=held_out)
            check_apart(drives, HeldOut(data=data, split=split, version=version))
            if config.unlabelled is not None:
                others = config.unlabelled
                check_apart(drives, HeldOut(data=Path(others.data), split=others.split))
            config, found = protocol.before(
                config, drives, allow_weak=allow_weak_teacher, device=device, kept=measured
            )
        run = Run.start(out, config, data=str(data), split=split, digest=frames.digest())
        if found is not None and run.writes:
            found.write(run.path)
            _show(found)
    trained = distill_run(run, frames, resume=resume, device=device)
    found = protocol.after(run, trained, device=device)
    if not run.writes:
        return
    if found is not None:
        _show(found)
    for said in failures(read_pulls(run.path)):
        print(f"warning: {said}", file=sys.stderr)
    print(f"weights: {run.path / 'weights.safetensors'}")


def _with_unlabelled(
    config: TrainConfig, data: Path | None, split: str | None, share: float | None
) -> TrainConfig:
    """``config`` with the drives without boxes that the options name."""
    if data is None and split is None and share is None:
        return config
    if data is None or split is None:
        raise ConfigError(
            "give --unlabelled DATA and --unlabelled-split SPLIT together, with or without "
            "--unlabelled-share"
        )
    drives = UnlabelledConfig(data=str(data.resolve()), split=split)
    if share is not None:
        drives = dataclasses.replace(drives, share=share)
    return dataclasses.replace(config, unlabelled=drives)


def _show(found: Protocol) -> None:
    """What was measured: the table on stdout, what must be known of it on stderr."""
    from crkd_core.tables import print_tables

    print_tables(found.table())
    for note in found.notes:
        print(f"warning: {note}", file=sys.stderr)
