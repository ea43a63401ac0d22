"""Returns to the eighteen columns of a file: velocities as the sensor gives them, state codes.

``vx, vy`` of what the sensor takes for standing is the whole relative velocity of that place,
which is minus the radar's own velocity and what its turning adds; of what moves only the radial
part is measured, and put into ``vx``. Both come in steps of 0.25 m/s. ``vx_comp, vy_comp`` lie
along the ray: the radial part of ``vx, vy`` with the own motion taken out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.sensors import RADAR_COLUMN, RADAR_COMPENSATED, RADAR_FIELDS, RADAR_VELOCITY
from crkd_core.world.sensors.radar.returns import CHILD, GHOST, OUTSIDE, Returns

#: dyn_prop.
MOVING, STANDING, ONCOMING, STANDING_MAYBE, UNKNOWN = range(5)
#: invalid_state.
LOW_ECHO, OUT_OF_VIEW, CHILD_OF_ANOTHER, NO_PEAK, MULTIPLE = 4, 7, 9, 11, 16
#: What is slower over ground counts as standing, m/s.
SLOW = 0.6
#: Shares of what remains: more than one target, ambiguous Doppler.
_MULTIPLE, _AMBIGUOUS = 0.07, 0.055
_STEP = 0.25


@dataclass(frozen=True, kw_only=True)
class OwnMotion:
    """Of the radar over ground: velocity [2] in its own axes (m/s) and yaw rate (rad/s)."""

    velocity: NDArray[np.float64]
    rate: float


def table(returns: Returns, own: OwnMotion, rng: np.random.Generator) -> NDArray[np.float32]:
    """[N, 18] columns RADAR_FIELDS, the nearest first."""
    returns = returns.take(np.argsort(returns.distance, kind="stable"))
    n, column = len(returns), RADAR_COLUMN
    along = np.stack([np.cos(returns.azimuth), np.sin(returns.azimuth)], 1)
    outside = returns.source == OUTSIDE
    invalid = _invalid(returns, rng)
    ambiguity = np.where(rng.random(n) < _AMBIGUOUS, rng.choice([1, 2, 4], n), 3)
    ambiguity[outside] = 0
    over_ground = returns.speed.copy()
    # Doppler that could as well be another lap of the phase: some lap is taken.
    wrong = np.flatnonzero((ambiguity != 3) & ~outside)
    over_ground[wrong] += rng.choice([-1, 1], len(wrong)) * rng.uniform(1, 9, len(wrong))
    dynamics = np.where(np.abs(over_ground) < SLOW, STANDING, MOVING)
    dynamics[(dynamics == MOVING) & (over_ground < 0)] = ONCOMING
    unsure = rng.random(n) < np.clip(0.04 + 0.0037 * returns.distance, 0, 0.7)
    dynamics[(dynamics == STANDING) & unsure] = STANDING_MAYBE
    dynamics[outside] = UNKNOWN

    out = np.zeros((n, len(RADAR_FIELDS)))
    place = along * returns.distance[:, None]
    raw = _raw_velocity(place, along, over_ground, np.isin(dynamics, (1, 3)), own)
    raw[outside] = 0
    out[:, :2] = place
    out[:, RADAR_VELOCITY] = raw
    out[:, RADAR_COMPENSATED] = along * ((raw + own.velocity) * along).sum(1, keepdims=True)
    out[:, column["dyn_prop"]] = dynamics
    out[:, column["id"]] = np.arange(n)
    out[:, column["rcs"]] = np.clip(np.rint(returns.echo * 2) / 2, -5, 52)
    out[:, column["is_quality_valid"]] = 1
    out[:, column["ambig_state"]] = ambiguity
    out[:, column["invalid_state"]] = invalid
    out[:, column["pdh0"]] = np.select(
        [outside, np.isin(invalid, (LOW_ECHO, CHILD_OF_ANOTHER, NO_PEAK))], [6, 3], 1
    )
    side = (returns.azimuth / np.deg2rad(60)) ** 2
    rms = 19 + returns.distance / 60 + side + rng.uniform(-0.5, 0.5, n)
    out[:, column["x_rms"]] = np.rint(rms)
    out[:, column["y_rms"]] = np.rint(rms + returns.distance / 120)
    out[:, column["vx_rms"]], out[:, column["vy_rms"]] = np.rint(16 + 3 * side), 3
    for name in ("x_rms", "y_rms", "vx_rms", "vy_rms"):
        out[outside, column[name]] = 0
    return out.astype(np.float32)


def _raw_velocity(
    place: NDArray[Any],
    along: NDArray[Any],
    over_ground: NDArray[Any],
    standing: NDArray[Any],
    own: OwnMotion,
) -> NDArray[np.float64]:
    """[N, 2] relative velocities in the axes of the turning radar, in steps."""
    radial = over_ground - along @ own.velocity
    across = np.where(standing, -own.velocity[1] - own.rate * place[:, 0], 0.0)
    across = np.rint(across / _STEP) * _STEP
    ahead = (radial - across * along[:, 1]) / np.maximum(along[:, 0], 0.2)
    return np.stack([np.rint(ahead / _STEP) * _STEP, across], 1)


def _invalid(returns: Returns, rng: np.random.Generator) -> NDArray[np.int64]:
    n, source = len(returns), returns.source
    invalid = np.where(rng.random(n) < _MULTIPLE, MULTIPLE, 0)
    weak = (returns.echo < 0.5) & (rng.random(n) < 0.75)
    invalid[weak] = LOW_ECHO
    child = np.where(rng.random(n) < 0.4, CHILD_OF_ANOTHER, NO_PEAK)
    invalid = np.where(source == CHILD, child, invalid)
    doubtful = (source == GHOST) & (rng.random(n) < 0.6)
    invalid[doubtful] = NO_PEAK
    invalid[source == OUTSIDE] = OUT_OF_VIEW
    return invalid
