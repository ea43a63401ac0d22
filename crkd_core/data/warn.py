"""Warnings about a data set, each told once a process: files are read again in every pass."""

from __future__ import annotations

import functools
import logging
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

logger = logging.getLogger(__name__)


@functools.cache
def warn_once(text: str) -> None:
    """A warning about a data set, which a process opens several times."""
    logger.warning("%s", text)


def warn_of_lost(
    path: str | os.PathLike[str], columns: Mapping[str, NDArray[Any]], *, left: int, what: str
) -> None:
    """Warn of a file that holds something, of which nothing can be used.

    Args:
        path: of the file.
        columns: name -> [N] as read, of those that must be finite.
        left: rows that can be used.
        what: "points" or "returns".
    """
    count = len(next(iter(columns.values())))
    if count and not left:
        lost = [name for name, values in columns.items() if not np.isfinite(values).any()]
        names = ", ".join(lost) or "some field"
        warn_once(f"{path}: none of its {count} {what} is left: {names} is not finite in any")


def warn_of_nothing(path: str | os.PathLike[str], points: NDArray[np.float32]) -> None:
    """Warn of a file of points [N, 3+] without any, or of zeros, as of a download cut short."""
    if not len(points):
        warn_once(f"{path}: holds no point; copy it again if it should")
    elif not points[:, :3].any():
        warn_once(f"{path}: all of its {len(points)} points are at x, y, z 0 0 0; copy it again")
