"""`crkd distill`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    leave_out,
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
from crkd_core.config import (
    CRKD_LOSSES,
    IMKD_LOSSES,
    ConfigError,
    loss_weights,
)

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
            help="A preset (random start), or a run folder or weights file to start from."
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
    unlabelled: Unlabelled = None,
    unlabelled_split: UnlabelledSplit = None,
    unlabelled_share: UnlabelledShare = None,
    pseudo_labels: PseudoLabels = None,
    cache: Annotated[Path | None, typer.Option(help="Keep the teacher's answers here.")] = None,
    steps: Steps = None,
    resume: Resume = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one value: KEY.KEY=YAML, e.g. crkd.csrd_target=code."),
    ] = None,
    device: Device = "cpu",
    version: Version = None,
) -> None:
    """Train a camera-radar student with a teacher (CRKD, IMKD)."""
    from crkd_core.distill import protocol
    from crkd_core.distill.held_out import HeldOut
    from crkd_core.distill.settings import default_losses, distill_config
    from crkd_core.distill.training import distill as distill_run
    from crkd_core.distill.training import teacher_configs
    from crkd_core.infer.allocator import keep_freed_memory
    from crkd_core.model.checkpoint import WEIGHTS
    from crkd_core.train.gradients import failures, read_gradient_ratios
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
        method, form = method or "crkd", form or "balanced"
        drives = unlabelled_drives(unlabelled, unlabelled_split, unlabelled_share, pseudo_labels)
        config = distill_config(
            teacher,
            student,
            method=method,
            preset=preset,
            form=form,
            losses=loss_weights(losses, defaults=default_losses(method, form)),
            inherits=inherit,
            calibration=calibration,
            teacher_sensors=tuple(teacher_sensors or ()),
            imkd_teacher=imkd_teacher,
            unlabelled=drives,
            cache=cache,
            steps=steps,
            changes=set_ or (),
        )
        check_keeping(config, measured)
    frames = recorded_frames(data, split, config, *teacher_configs(config), version=version)
    if resume:
        check_goes_on(run, frames)
    else:
        check_begin(config, frames, device)
        config, found = protocol.measured_start(
            config,
            trained=HeldOut(data=data, split=split, version=version),
            held_out=held_out,
            held_out_data=held_out_data,
            allow_weak=allow_weak_teacher,
            device=device,
            kept=measured,
        )
        place = place_of(frames)
        run = Run.start(out, config, data=place, split=split, digest=frames.digest())
        if run.writes:
            if found is None:
                print(protocol.UNMEASURED, file=sys.stderr)
            else:
                found.write(run.path)
                _show(found)
    trained = distill_run(run, frames, resume=resume, device=device)
    found = protocol.after(run, trained, device=device)
    if not run.writes:
        return
    if found is not None:
        _show(found)
    for said in failures(read_gradient_ratios(run.path)):
        print(f"warning: {said}", file=sys.stderr)
    print(f"weights: {run.path / WEIGHTS}")


def _show(found: Protocol) -> None:
    """What was measured: the table on stdout, what must be known of it on stderr."""
    from crkd_core.tables import print_tables

    print_tables(found.table())
    for note in found.notes:
        print(f"warning: {note}", file=sys.stderr)
