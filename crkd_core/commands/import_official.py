"""`crkd import-official`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_core.commands.options import Overwrite
from crkd_core.config import ConfigError


def import_official(
    file: Annotated[Path, typer.Argument(help="A released .pth checkpoint.")],
    out: Annotated[Path, typer.Option(help="A .safetensors file.")],
    part: Annotated[
        str, typer.Option(help="Of a distilled file: student or teacher; auto = its student.")
    ] = "auto",
    overwrite: Overwrite = False,
) -> None:
    """Turn a checkpoint of the released CRKD code into weights for this project."""
    from crkd_core.official import import_official as import_file

    if part not in ("auto", "student", "teacher"):
        raise ConfigError(f"--part: expected auto, student or teacher, got {part!r}")
    import_file(file, out, part=part, overwrite=overwrite)  # type: ignore[arg-type]
    print(f"weights: {out}")
