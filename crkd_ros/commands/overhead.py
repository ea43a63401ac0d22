"""`crkd overhead`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_core.commands.options import Overwrite
from crkd_core.files import check_output, write_text
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


def overhead(
    out: Annotated[Path, typer.Option(help="Folder for overhead.json and node.log.")] = Path(
        "out/overhead"
    ),
    weights: Weights = SHIPPED_WEIGHTS,
    frames: Annotated[int, typer.Option(min=5, help="Frames that are measured.")] = 60,
    rate_hz: Annotated[
        float,
        typer.Option(min=0.1, max=240.0, help="Of the cameras; slow enough for the network."),
    ] = 4.0,
    cores: Annotated[int, typer.Option(min=1, help="Processor cores of the node.")] = 2,
    bag: PlayedBag = None,
    calibration: PlayedCalibration = None,
    parameter: Parameters = None,
    overwrite: Overwrite = False,
) -> None:
    """Measure what the node costs beside its network."""
    from crkd_ros.bench import overhead as measuring
    from crkd_ros.bench.short_drive import short_drive, written
    from crkd_ros.parameters.node import NodeConfig
    from crkd_ros.parameters.parameter_file import load_all

    results = ("overhead.json", *written(calibration))
    check_output(out, results=results, overwrite=overwrite)
    if not weights.exists():
        raise measuring.OverheadError(f"no weights at {weights}; pass --weights")
    # Before a drive is made, which takes a while.
    measuring.last_cores(cores)
    parameters = node_parameters(parameter)
    framing = for_weights(
        load_all((), NodeConfig, node="detector_node", above=parameters), weights
    )
    out.mkdir(parents=True, exist_ok=True)
    found = measuring.overhead(
        short_drive(out, bag=bag, calibration=calibration),
        out,
        weights=weights,
        frames=frames,
        rate_hz=rate_hz,
        cores=cores,
        framing=framing,
        parameters=parameters,
    )
    write_text(measuring.as_json(found), out / "overhead.json")
    print_tables(*measuring.tables(found))
    print(f"figures: {out / 'overhead.json'}")
