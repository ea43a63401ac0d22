"""How far everything that keeps to a line of the road has come at any time.

A line is a lane, a bicycle lane or a line of the pavement; all on it move alike, so that nobody
runs into another. At a red light the lanes stop, except for whoever is past the stop line: each
lane is therefore there twice, once halting and once not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.world import rig
from crkd_core.world.content.road import LANES

#: People walk on these lines of the pavement, one speed per line: nobody walks into another.
WALK_LINES = (13.3, 13.95, 14.6)

#: Numbers of the lines: lanes, lanes without the halt, bicycle lanes, left and right pavement.
FREE_LANE = len(LANES)
BICYCLES = 2 * len(LANES)
PAVEMENT = BICYCLES + 2
LINES = PAVEMENT + 2 * len(WALK_LINES)
#: From the middle of a crossing to the stop line, metres.
STOP_LINE = 11.5

_STEP = 0.02
_BRAKE, _START = 2.8, 3.5


@dataclass(frozen=True, kw_only=True)
class Halt:
    """All lanes stand from ``begin`` to ``end`` (seconds), for crossing traffic."""

    begin: float
    end: float


class Motion:
    """Speeds of the lines of one drive.

    Args:
        key_frames: length of the drive.
        rng: draws the speeds.

    Attributes:
        ego_lane: the line that the car itself keeps to.
        halt: the red light, or None.
    """

    def __init__(self, *, key_frames: int, rng: np.random.Generator) -> None:
        speed = np.zeros(LINES)
        lanes = len(LANES)
        speed[:lanes] = rng.uniform(5, 13, lanes) * [1, 1, -1, -1]
        self.ego_lane = int(rng.integers(2))
        end = (key_frames - 1) * rig.KEY_US / 1e6
        hold = rng.uniform(7.5, 11)
        begin = rng.uniform(-hold * 0.7, max(end - 4, 1.0))
        self.halt = Halt(begin=begin, end=begin + hold) if rng.random() < 0.25 else None
        queue = int(rng.integers(lanes))
        if self.halt is None and rng.random() < 0.2:
            speed[queue] *= 0.0 if queue != self.ego_lane else 0.3
        speed[FREE_LANE : FREE_LANE + lanes] = speed[:lanes]
        speed[BICYCLES : BICYCLES + 2] = rng.uniform(3, 6, 2) * [1, -1]
        walk = rng.uniform(0.7, 1.7, LINES - PAVEMENT)
        speed[PAVEMENT:] = walk * rng.choice([-1, 1], len(walk))
        swing, rate = rng.uniform(0, 0.3, LINES), rng.uniform(0.25, 0.7, LINES)
        phase = rng.uniform(0, 2 * np.pi, LINES)
        for drawn in (swing, rate, phase):
            drawn[FREE_LANE : FREE_LANE + lanes] = drawn[:lanes]
        #: [LINES] mean speed, m/s; negative against the road.
        self.speed = speed
        self._start = -rig.LEAD_IN_US / 1e6 - 0.2
        t = np.arange(self._start, end + 0.6, _STEP)
        v = speed[:, None] * (1 + swing[:, None] * np.sin(rate[:, None] * t + phase[:, None]))
        if self.halt is not None:
            v[:lanes] *= _gate(t, self.halt)
        way = np.cumsum(v, 1) * _STEP
        zero = np.argmin(np.abs(t))
        self._way = way - way[:, zero : zero + 1]

    def advance(self, line: NDArray[Any] | int, t: NDArray[Any] | float) -> NDArray[np.float64]:
        """Metres along the road that lines have moved since t = 0 (broadcast)."""
        place = np.clip((np.asarray(t) - self._start) / _STEP, 0, self._way.shape[1] - 1.001)
        low = place.astype(int)
        share = place - low
        return self._way[line, low] * (1 - share) + self._way[line, low + 1] * share


def _gate(t: NDArray[Any], halt: Halt) -> NDArray[np.float64]:
    """1 for driving, 0 for standing, smooth between."""
    stop = np.clip((halt.begin - t) / _BRAKE, 0, 1)
    go = np.clip((t - halt.end) / _START, 0, 1)
    open_ = np.where(t < halt.begin, stop, go)
    return 0.5 - 0.5 * np.cos(np.pi * open_)
