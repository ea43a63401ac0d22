"""`crkd demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_core.commands.options import Device, Engine, Precision
from crkd_core.files import check_output
from crkd_ros.commands.options import SHIPPED_WEIGHTS, Weights, for_weights

#: The drives that the shipped weights were trained on have other seeds (see README, "Weights").
SEED = 90_001


def demo(
    out: Annotated[Path, typer.Option(help="Folder for drive, bag and report.")] = Path(
        "out/demo"
    ),
    weights: Weights = SHIPPED_WEIGHTS,
    seed: Annotated[int, typer.Option(help="Of the drive.")] = SEED,
    seconds: Annotated[float, typer.Option(min=2.0, help="Of the drive.")] = 8.0,
    image_width: Annotated[int, typer.Option(min=64, help="Pixels.")] = 800,
    rate: Annotated[
        float | None,
        typer.Option(min=0.01, help="Speed of playing; default: as fast as this machine answers."),
    ] = None,
    jobs: Annotated[int, typer.Option(min=1, help="Processes that make the drive.")] = 2,
    device: Device = "cpu",
    engine: Engine = "torch",
    precision: Precision = "fp32",
) -> None:
    """Make an unseen drive, play it to the live node, score what it publishes."""
    from crkd_ros.parameters.node import NodeConfig
    from crkd_ros.streaming_eval import demo as showing

    check_output(out)
    # Before a drive is made, which takes a while.
    for_weights(NodeConfig(), weights)
    showing.demo(
        out,
        weights,
        seed=seed,
        seconds=seconds,
        image_width=image_width,
        rate=rate,
        jobs=jobs,
        device=device,
        engine=engine,
        precision=precision,
    )
