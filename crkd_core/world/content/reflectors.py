"""Small standing things that radars answer to and nothing else shows.

Edges of kerbs, drains, poles, fence posts, niches of walls: points in the plane with an echo. They
reach further than everything else that is simulated, because radars do.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.world.content.road import KERB, Road

#: Metres of road before and behind the drive that have reflectors.
REACH = 235.0
#: Echoes of few things are far above the others of their kind: mean of that tail, dB.
_TAIL = 4.5


@dataclass(frozen=True, kw_only=True)
class Reflectors:
    """Points of a drive, in its local frame.

    Attributes:
        place: [M, 2] metres.
        echo: [M] mean radar cross-section, dBsm.
    """

    place: NDArray[np.float64]
    echo: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class _Kind:
    """How many to a metre of road, how far beside its middle (metres, both sides), how strong."""

    density: float
    low: float
    high: float
    echo: float
    spread: float


_KINDS = (
    _Kind(density=0.9, low=KERB - 0.2, high=KERB + 0.4, echo=0.5, spread=3.5),  # kerbs
    _Kind(density=0.06, low=8.2, high=8.6, echo=1.0, spread=3.0),  # drains
    _Kind(density=0.8, low=11.5, high=15.8, echo=5.0, spread=5.0),  # poles, posts, bins
    _Kind(density=1.5, low=16.0, high=24.0, echo=6.0, spread=5.8),  # walls, fences, plants
    _Kind(density=1.4, low=24.0, high=110.0, echo=6.5, spread=5.8),  # what is behind them
)


def reflectors(road: Road, rng: np.random.Generator) -> Reflectors:
    """Draw the reflectors of a drive."""
    start, end = road.s[0] - REACH, road.s[-1] + REACH
    places, echoes = [], []
    for kind in _KINDS:
        count = int(kind.density * (end - start))
        s = rng.uniform(start, end, count)
        d = rng.uniform(kind.low, kind.high, count) * rng.choice([-1, 1], count)
        places.append(_beyond(road, s, d))
        echo = rng.normal(kind.echo - _TAIL, kind.spread, count)
        echoes.append(echo + rng.exponential(_TAIL, count))
    return Reflectors(place=np.concatenate(places), echo=np.concatenate(echoes))


def _beyond(road: Road, s: NDArray[Any], d: NDArray[Any]) -> NDArray[np.float64]:
    """[N, 2] places at (s, d); the road goes on straight where it is not known."""
    x, y, yaw = road.at(s, d)
    over = s - np.clip(s, road.s[0], road.s[-1])
    return np.stack([x + over * np.cos(yaw), y + over * np.sin(yaw)], 1)
