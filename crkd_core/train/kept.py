"""Samples that were read once, in memory.

Reading is most of the work on a sample: thirty radar files, six pictures, ten LiDAR sweeps. Where
a training set is small, or memory is large, later passes over it need none of that.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from crkd_core.frame import Frame


class Kept:
    """Frames by index, up to a size; of a process, so every loading process has its own.

    Args:
        gigabytes: 0 = nothing is kept. What comes when it is full is not kept.
    """

    def __init__(self, gigabytes: float) -> None:
        self._free = gigabytes * 1e9
        self._frames: dict[int, Frame] = {}

    def get(self, index: int) -> Frame | None:
        """The Frame at ``index``, where it is kept."""
        return self._frames.get(index)

    def add(self, index: int, frame: Frame) -> Frame:
        """Keep ``frame`` where there is room; it must not be written to. Returns it."""
        size = size_of(frame)
        if index not in self._frames and size <= self._free:
            self._frames[index] = frame
            self._free -= size
        return frame


def size_of(value: Any) -> int:
    """Bytes of the arrays in a Frame."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if dataclasses.is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, tuple):
        return sum(map(size_of, value))
    return 0
