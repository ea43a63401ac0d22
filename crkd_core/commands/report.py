"""`crkd report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_core.commands.options import Data, Device, Overwrite, Split, Version
from crkd_core.config import ConfigError
from crkd_core.files import ITSELF, check_output


def report(
    runs: Annotated[
        list[str],
        typer.Argument(
            help="Folders of crkd train or distill, or weights files. The first is what the "
            "others are compared with, the last what the pictures are about.",
            metavar="[NAME=]RUN...",
        ),
    ],
    data: Data,
    split: Split,
    out: Annotated[Path, typer.Option(help="The HTML file to write.")],
    drive: Annotated[
        str | None,
        typer.Option(
            help="Scene of the player, of View-of-Delft FIRST-LAST frame; "
            "default: the typical one."
        ),
    ] = None,
    device: Device = "cpu",
    version: Version = None,
    overwrite: Overwrite = False,
) -> None:
    """One web page about training runs: scores, curves, pictures, what losses see, a player."""
    from crkd_core.report.report import report as write_page

    if out.suffix.lower() not in {".html", ".htm"}:
        raise ConfigError(f"--out: expected FILE.html, got {out}")
    check_output(out, results=ITSELF, overwrite=overwrite)
    write_page(runs, out, data=data, split=split, drive=drive, device=device, version=version)
    print(f"written: {out}")
