"""Segments: what a second head says of every cell of the grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.config import GridConfig


@dataclass(frozen=True, kw_only=True)
class Segments:
    """Of every cell, how probable it is that it is of each class. Classes do not exclude another.

    Attributes:
        classes: S names.
        probability: [S, X, Y] float32 in [0, 1].
        grid: its cells.
        ego_T_grid: [4, 4] float64, pose of the grid's frame in ego.
    """

    classes: tuple[str, ...]
    probability: NDArray[np.float32]
    grid: GridConfig
    ego_T_grid: NDArray[np.float64]

    def of(self, name: str) -> NDArray[np.float32]:
        """[X, Y] of one class."""
        probability: NDArray[np.float32] = self.probability[self.classes.index(name)]
        return probability
