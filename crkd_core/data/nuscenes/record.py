"""One file of one sensor, as the tables describe it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Record:
    """One file of one sensor.

    Attributes:
        channel: one of CHANNELS.
        stamp_ns: time of the file, nanoseconds.
        path: the file.
        is_key_frame: whether it belongs to an annotated sample (else it lies between samples).
        sample_token: that sample, or the one that follows.
        ego_T_sensor: [4, 4] mounting pose.
        global_T_ego: [4, 4] ego pose at ``stamp_ns``.
        intrinsics: [3, 3], zeros unless a camera.
        width, height: pixels, 0 unless a camera.
    """

    channel: str
    stamp_ns: int
    path: Path
    is_key_frame: bool
    sample_token: str
    ego_T_sensor: NDArray[np.float64]
    global_T_ego: NDArray[np.float64]
    intrinsics: NDArray[np.float64]
    width: int
    height: int

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height; None where the table does not say, or of what is no camera."""
        return (self.width, self.height) if self.width and self.height else None
