"""Random numbers that are functions of what they belong to, so that they last over sweeps.

A generator forgets: a miss drawn from it is gone in the next sweep. Here a number follows from
keys (world, drive, object, sensor, ...), whoever asks, in whatever order and process.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))


def _hash(keys: tuple[ArrayLike, ...]) -> NDArray[np.uint64]:
    """SplitMix64 over integer keys, which broadcast."""
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for key in keys:
            state = state ^ np.asarray(key, np.int64).astype(np.uint64)
            state = state + _GOLDEN
            state = (state ^ (state >> np.uint64(30))) * _MIX[0]
            state = (state ^ (state >> np.uint64(27))) * _MIX[1]
            state = state ^ (state >> np.uint64(31))
    return state


def uniform(*keys: ArrayLike) -> NDArray[np.float64]:
    """Numbers in (0, 1), one for each combination of the integer keys (broadcast)."""
    return ((_hash(keys) >> np.uint64(11)).astype(np.float64) + 0.5) * 2.0**-53


def normal(*keys: ArrayLike) -> NDArray[np.float64]:
    """Standard normal numbers, one for each combination of the integer keys (broadcast)."""
    first, second = uniform(*keys, 1), uniform(*keys, 2)
    return np.sqrt(-2 * np.log(first)) * np.cos(2 * np.pi * second)


class Wandering:
    """Standard normal numbers that change smoothly with time.

    Args:
        period: seconds after which they are forgotten.
        keys: whose numbers (broadcast).
    """

    def __init__(self, period: float, *keys: ArrayLike) -> None:
        self._period, self._keys = period, keys
        self._phase = float(uniform(*(np.ravel(key)[0] for key in keys), 3))
        self._knots: dict[int, NDArray[np.float64]] = {}

    def at(self, t: float) -> NDArray[np.float64]:
        """The numbers at t seconds."""
        place = t / self._period + self._phase
        step = int(np.floor(place))
        angle = (place - step) * (np.pi / 2)
        return self._knot(step) * np.cos(angle) + self._knot(step + 1) * np.sin(angle)

    def _knot(self, step: int) -> NDArray[np.float64]:
        if step not in self._knots:
            if len(self._knots) > 8:
                self._knots.clear()
            self._knots[step] = normal(*self._keys, 4, step)
        return self._knots[step]
