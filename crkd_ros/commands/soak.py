"""`crkd soak`."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Annotated

import typer

from crkd_core.commands.options import Overwrite
from crkd_core.files import check_output
from crkd_core.tables import print_tables
from crkd_ros.commands.options import (
    SHIPPED_WEIGHTS,
    Parameters,
    PlayedBag,
    PlayedCalibration,
    Weights,
    for_weights,
    node_parameters,
)


def soak(
    out: Annotated[Path, typer.Option(help="Folder for soak.json, soak.png and node.log.")],
    weights: Weights = SHIPPED_WEIGHTS,
    minutes: Annotated[float, typer.Option(min=0.01, max=20_000, help="Of playing.")] = 30.0,
    rate_hz: Annotated[float, typer.Option(min=0.1, max=240.0, help="Of the cameras.")] = 12.0,
    bag: PlayedBag = None,
    calibration: PlayedCalibration = None,
    warm_up: Annotated[
        float | None,
        typer.Option(min=0.0, help="Seconds before memory is judged; default: a tenth."),
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0.0, help="Memory may grow by so many MiB per hour.")
    ] = 5.0,
    parameter: Parameters = None,
    overwrite: Overwrite = False,
) -> None:
    """Run the node for a long time; exit status 1 when its memory grows or a message is lost."""
    from crkd_ros.bench import soak as soaking
    from crkd_ros.bench import soak_report
    from crkd_ros.bench.short_drive import short_drive, written
    from crkd_ros.parameters.node import NodeConfig
    from crkd_ros.parameters.parameter_file import load_all

    results = ("soak.json", "soak.png", *written(calibration))
    check_output(out, results=results, overwrite=overwrite)
    if not weights.exists():
        raise soaking.SoakError(f"no weights at {weights}; pass --weights")
    parameters = node_parameters(parameter)
    # Before a drive is made, which takes a while.
    framing = for_weights(
        load_all((), NodeConfig, node="detector_node", above=parameters), weights
    )
    limits = soaking.Limits(
        seconds=60 * minutes,
        rate_hz=rate_hz,
        warm_up=6 * minutes if warm_up is None else warm_up,
        tolerance=tolerance,
    )
    # A shell that starts us in the background has SIGINT ignored; `kill` means the same to us.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    out.mkdir(parents=True, exist_ok=True)
    record, verdict = soaking.soak(
        short_drive(out, bag=bag, calibration=calibration),
        out,
        weights=weights,
        limits=limits,
        framing=framing,
        parameters=parameters,
    )
    print_tables(
        *soak_report.tables(record, verdict, warm_up=limits.warm_up, tolerance=limits.tolerance)
    )
    if not verdict.good or (record.error and record.error != "interrupted"):
        raise typer.Exit(1)
