"""The `crkd` command: a thin shell over functions."""

from __future__ import annotations

from typing import ClassVar

import typer

from crkd_core.command import run
from crkd_core.commands import (
    bench,
    distilling,
    engines,
    evaluation,
    experiment,
    import_official,
    label_encoder,
    report,
    training,
    world,
)
from crkd_core.verbs import VerbGroup


class _Crkd(VerbGroup):
    needs: ClassVar = {
        "world": ("world",),
        "export": ("engines",),
        "engines": ("engines",),
    }


app = typer.Typer(
    cls=_Crkd,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Camera-radar 3D object detection: make data, train, distil, evaluate, run live.",
)
for verb in (
    world.world,
    world.world_report,
    training.train,
    distilling.distill,
    label_encoder.label_encoder,
    evaluation.evaluate,
    evaluation.compare,
    experiment.experiment,
    report.report,
    import_official.import_official,
    bench.bench,
    engines.export,
    engines.engines,
):
    app.command()(verb)


def main() -> None:
    """What `crkd` does, see main.py."""
    run(app)
