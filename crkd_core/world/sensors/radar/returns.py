"""A list of radar returns on its way to a sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Where a return comes from.
OBJECT, CLUTTER, GHOST, CHILD, OUTSIDE = range(5)


@dataclass(frozen=True, kw_only=True)
class Returns:
    """N returns in polar coordinates of the radar.

    Attributes:
        distance: [N] metres along the ground.
        azimuth: [N] radians, to the left.
        speed: [N] m/s over ground along the ray, away from the radar.
        echo: [N] radar cross-section, dBsm.
        source: [N] OBJECT, CLUTTER, GHOST, CHILD or OUTSIDE.
    """

    distance: NDArray[np.float64]
    azimuth: NDArray[np.float64]
    speed: NDArray[np.float64]
    echo: NDArray[np.float64]
    source: NDArray[np.int8]

    def __len__(self) -> int:
        return len(self.distance)

    def take(self, rows: NDArray[Any]) -> Returns:
        """Some of them, in the order of ``rows``."""
        return Returns(
            distance=self.distance[rows],
            azimuth=self.azimuth[rows],
            speed=self.speed[rows],
            echo=self.echo[rows],
            source=self.source[rows],
        )

    def within(self, view: float) -> Returns:
        """All of them, their azimuths (radians) no further out than the view."""
        return dataclasses.replace(self, azimuth=np.clip(self.azimuth, -view, view))


def joined(parts: Sequence[Returns]) -> Returns:
    """All of them, one list after the other."""
    return Returns(
        distance=np.concatenate([p.distance for p in parts]),
        azimuth=np.concatenate([p.azimuth for p in parts]),
        speed=np.concatenate([p.speed for p in parts]),
        echo=np.concatenate([p.echo for p in parts]),
        source=np.concatenate([p.source for p in parts]),
    )
