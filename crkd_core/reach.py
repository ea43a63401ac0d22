"""How far a vehicle gets: one rule for live poses, those of bags and what a memory holds."""

from __future__ import annotations

#: No road vehicle is faster, m/s; the metres allow for the noise of poses milliseconds apart.
FASTEST, POSE_NOISE = 70.0, 0.3


def too_fast(metres: float, seconds: float) -> bool:
    """Whether no vehicle can have moved so far in that time: the map has jumped, not the car."""
    return metres > FASTEST * abs(seconds) + POSE_NOISE
