"""Writing result files so that a reader never sees half of one."""

from __future__ import annotations

import json
import os
from pathlib import Path


def replace_file(path: Path, data: bytes) -> None:
    """Write under a temporary name beside ``path``, then rename; makes the folder.

    Raises:
        OSError: the file cannot be written; an old file of that name is still there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(data: object, path: Path, *, indent: int | None = None) -> None:
    """Write JSON. NaN stays NaN, as in the devkit's files."""
    replace_file(path, json.dumps(data, indent=indent).encode())
