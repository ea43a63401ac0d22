"""What several commands have as an option."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_ros.shipped import shipped

#: Of commands that work without being given a detector.
SHIPPED_WEIGHTS = shipped("weights/demo_student.safetensors")

Weights = Annotated[Path, typer.Option(help="The detector.")]
PlayedBag = Annotated[
    Path | None, typer.Option(help="What is played in a loop; default: a generated drive.")
]
PlayedCalibration = Annotated[
    Path | None, typer.Option(help="Of the bag's vehicle; default: from the bag itself.")
]
