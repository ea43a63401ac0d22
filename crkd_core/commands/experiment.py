"""`crkd experiment`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_core.commands.options import Device, given
from crkd_core.files import check_output
from crkd_core.tables import print_tables


def experiment(
    context: typer.Context,
    name: Annotated[
        str,
        typer.Argument(
            help="A list of runs: main, forms, pull, losses, few, more, weak, student, ungated, "
            "ladder; or several: main,few."
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="Folder of the experiment; a killed one goes on there.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Root of a nuScenes data set; the first call needs it.")
    ] = None,
    drives: Annotated[
        str | None,
        typer.Option(
            help="Training, validation and test drives: numbers such as 40,12,24, or splits; "
            "default: 3:1:2 of all."
        ),
    ] = None,
    seeds: Annotated[
        int | None, typer.Option(min=1, help="How many; default: as the list says.")
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at once, of one core each.")] = 2,
    more: Annotated[
        Path | None,
        typer.Option(help="Another data set, whose drives teach without boxes: for list more."),
    ] = None,
    device: Device = "cpu",
    readers: Annotated[
        int, typer.Option(min=0, help="Processes that read for each run that others wait for.")
    ] = 0,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Only this run or arm, and what it needs (repeatable)."),
    ] = None,
    scale: Annotated[
        float | None, typer.Option(min=0.0, help="Factor of all steps; default: 1.")
    ] = None,
    test: Annotated[
        bool, typer.Option("--test", help="Score on the test drives too: once, at the end.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--show", help="Only print the tables of what is ready.")
    ] = False,
    start_image: Annotated[
        Path | None,
        typer.Option(
            help="Weights whose image branch the first trainings start from; default: random."
        ),
    ] = None,
    trained: Annotated[
        list[str] | None,
        typer.Option(
            help="RUN=FOLDER or RUN=WEIGHTS: a training from elsewhere stands for this run, such "
            "as a teacher that exists (repeatable)."
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY.KEY=YAML for every training (repeatable)."),
    ] = None,
) -> None:
    """Train and score a list of runs over seeds, and compare them; see docs/experiments.md."""
    from crkd_core.experiments.asked import Asked
    from crkd_core.experiments.experiment import experiment as run_experiment
    from crkd_core.experiments.experiment import shown, trainings_from
    from crkd_core.experiments.settings import ExperimentError

    if show and (options := given(context, but=("name", "out", "seeds", "show"))):
        raise ExperimentError(
            "--show prints what is ready and computes nothing; leave out "
            f"{', '.join(options.values())}, or --show itself"
        )
    check_output(out)
    failed: dict[str, str] = {}
    if not show:
        failed = run_experiment(
            name,
            out,
            Asked(
                data=data,
                drives=drives,
                scale=scale,
                changes=set_ or None,
                start_image=start_image,
                trained=trainings_from(trained) if trained else None,
                more=more,
                device=device,
                readers=readers,
            ),
            seeds=seeds,
            only=only or (),
            jobs=jobs,
            test=test,
        )
    print_tables(*shown(name, out, seeds=seeds))
    if not show:
        print(f"written: {out / 'results'}")
    if failed:
        for run, why in failed.items():
            print(f"{run}: {why}")
        raise typer.Exit(1)
