"""Objects of View-of-Delft made by hand, for tests of its metrics."""

from __future__ import annotations

import numpy as np

from crkd_core.data.vod.labels import Objects, objects_of

SIZES = {"Car": (1.5, 1.8, 4.2), "Pedestrian": (1.7, 0.6, 0.7), "Cyclist": (1.7, 0.7, 1.8)}
SIZES["Person_sitting"] = SIZES["Pedestrian"]


def thing(name="Car", x=0.0, z=10.0, *, turn=0.0, score=0.0, height=100.0, hidden=0, box=None):
    """One object; its 2D box follows from its place unless it is given."""
    u = 900 + 1000 * x / z
    box = (u - 50, 600 - height, u + 50, 600) if box is None else box
    size = SIZES.get(name, SIZES["Car"])
    alpha = turn - np.arctan2(x, z)
    return name, [0, hidden, alpha, *box, *size, x, 1.5, z, turn, score]


def frame(*things) -> Objects:
    return objects_of([name for name, _ in things], np.array([row for _, row in things]))
