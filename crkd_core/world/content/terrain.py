"""The height of the ground: long gentle waves along the drive, level across it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: The steepest slope that is drawn.
STEEPEST = 0.035
#: Distance of the knots between which the ground is straight, metres.
STEP = 6.0


class Terrain:
    """Height over the x axis of the drive's local frame; the same wherever y is.

    Args:
        low, high: range of x with slopes; beyond it the ground is level.
        rng: draws the waves; a third of the drives are level.
    """

    def __init__(self, *, low: float, high: float, rng: np.random.Generator) -> None:
        self.x = np.arange(low, high + STEP, STEP)
        slope = np.zeros_like(self.x)
        steepest = STEEPEST * rng.uniform(-0.5, 1.0)
        for wavelength in rng.uniform(150, 420, 2):
            slope += np.sin(self.x / wavelength * 2 * np.pi + rng.uniform(0, 2 * np.pi))
        # Level towards both ends, so that what lies beyond joins without a kink.
        slope *= np.sin(np.linspace(0, np.pi, len(slope))) ** 0.5
        slope *= max(steepest, 0.0) / max(np.abs(slope).max(), 1e-9)
        height = np.cumsum(slope) * STEP
        self.z = height - np.interp(0.0, self.x, height)

    def height(self, x: NDArray[Any] | float) -> NDArray[np.float64]:
        """Metres above the origin of the local frame."""
        return np.asarray(np.interp(x, self.x, self.z))

    def slope(self, x: NDArray[Any] | float) -> NDArray[np.float64]:
        """Rise to a metre along x, smoothed over a few metres."""
        return (self.height(x + STEP) - self.height(x - STEP)) / (2 * STEP)

    def mesh(self, reach: float) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Vertices and faces of the ground out to ``reach`` metres on all sides."""
        x = np.concatenate([[self.x[0] - reach], self.x, [self.x[-1] + reach]])
        z = np.concatenate([self.z[:1], self.z, self.z[-1:]])
        sides = np.array([-reach, -60.0, 60.0, reach])
        grid = np.stack(np.meshgrid(x, sides, indexing="ij"), -1)
        vertices = np.concatenate(
            [grid, np.broadcast_to(z[:, None, None], (*grid.shape[:2], 1))], 2
        )
        width = len(sides)
        corner = (np.arange(len(x) - 1)[:, None] * width + np.arange(width - 1)).ravel()
        faces = np.concatenate(
            [
                np.stack([corner, corner + width, corner + width + 1], 1),
                np.stack([corner, corner + width + 1, corner + 1], 1),
            ]
        )
        return vertices.reshape(-1, 3).astype(np.float32), faces.astype(np.int32)
