"""Do the radars see the motion that odometry and extrinsics predict? Rules on a few seconds.

Two independent measures, both on returns of standing things:

* Doppler. The radial part of the raw velocity of a standing return is that of the radar's own
  motion, ``v_r = -v . direction``; solved for ``v`` (radar axes), it gives the direction of travel
  seen from the radar and the speed. Extrinsics and ego motion predict both. Needs radars that send
  raw ``vx vy`` besides the compensated ones; whether these are a full vector, as in nuScenes, or
  lie along the ray makes no difference, because only their radial part is read.
* Staying put. Standing returns of two sweeps lie closer together when the ego motion between them
  is applied than when none, or its reverse, is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from crkd_core import geometry
from crkd_core.sensors import RADAR_COMPENSATED, RADAR_VELOCITY
from crkd_ros.calibration_check.placement import Finding

Array = NDArray[np.float64]

#: Returns slower than this over ground stand still; speeds this close to a fit agree, m/s.
_STANDING, _AGREES = 0.5, 0.4
#: Doppler says nothing below this speed, m/s, or with fewer returns or samples.
_SLOW, _RETURNS, _SAMPLES = 3.0, 8, 10
#: Share of a sweep's standing returns that must agree on one velocity.
_SHARE = 0.6
_PROPOSALS = 20
#: What Doppler may differ by, degrees and relative speed.
_TURN_LIMIT, _SPEED_LIMIT = 5.0, 0.15
#: Staying put: how near two returns of one thing are, how far the vehicle must have gone between,
#: metres, and how many returns make a verdict.
_NEAR, _GONE, _PAIRS = 0.75, 1.5, 300


@dataclass(frozen=True, kw_only=True)
class MovedSweep:
    """A sweep of a radar and how the vehicle moved since.

    Attributes:
        stamp_ns: its time.
        points: [N, 18], columns RADAR_FIELDS, radar axes.
        newest_T_ego: [4, 4] base at ``stamp_ns`` -> base at the newest sweep's time.
        relative: its compensated speeds are not: the radar sends relative ones only.
    """

    stamp_ns: int
    points: NDArray[np.float32]
    newest_T_ego: Array
    relative: bool = False


def own_velocity(
    sweep: MovedSweep, rng: np.random.Generator
) -> tuple[Array, NDArray[np.bool_]] | None:
    """The radar's own velocity by Doppler; None where there is too little to tell.

    Returns:
        The velocity [2], m/s in radar axes, on which most returns agree, and which of the M
        returns that seem to stand do, [M].
    """
    points = sweep.points.astype(np.float64)
    # A speed that is not known is NaN.
    points = points[np.isfinite(points[:, RADAR_VELOCITY]).all(1)]
    raw = points[:, RADAR_VELOCITY]
    over_ground = points[:, RADAR_COMPENSATED]
    distance = np.hypot(points[:, 0], points[:, 1])
    standing = distance > 1.0
    if not sweep.relative:
        # A radar without raw speeds has the compensated ones in their place.
        if np.array_equal(raw, over_ground):
            return None
        standing &= np.hypot(*over_ground.T) < _STANDING
    if standing.sum() < _RETURNS:
        return None
    direction = points[standing, :2] / distance[standing, None]
    radial = (raw[standing] * direction).sum(1)
    # Every pair of returns proposes the velocity that explains both.
    pairs = rng.integers(0, len(radial), (_PROPOSALS, 2))
    two = -direction[pairs]
    apart = np.abs(np.linalg.det(two)) > 0.2
    if not apart.any():
        return None
    proposals = np.linalg.solve(two[apart], radial[pairs[apart]][..., None])[..., 0]
    agrees = np.abs(proposals @ direction.T + radial) < _AGREES
    best = agrees[agrees.sum(1).argmax()]
    return np.linalg.lstsq(-direction[best], radial[best], rcond=None)[0], best


class MotionRules:
    """Collects measures of sweeps; ``findings`` judges them."""

    def __init__(self) -> None:
        self._rng = np.random.default_rng(0)
        self._last: dict[str, int] = {}
        self._doppler: dict[str, list[tuple[Array, Array]]] = defaultdict(list)
        self._at_odds: dict[str, int] = defaultdict(int)
        #: Radar -> of sweeps in motion, whether speeds over ground show its own.
        self._own: dict[str, list[bool]] = defaultdict(list)
        self._near = np.zeros(3)  # with the ego motion, with none, with its reverse
        self._tried = 0

    def add(self, radar: str, base_T_radar: Array, sweeps: Sequence[MovedSweep]) -> None:
        """Take the recent sweeps of a radar, newest first. A newest one seen before is skipped."""
        newest = sweeps[0]
        if self._last.get(radar) == newest.stamp_ns or len(sweeps) < 2:
            return
        self._last[radar] = newest.stamp_ns
        self._add_doppler(radar, base_T_radar, sweeps)
        self._add_standing(base_T_radar, sweeps)

    def _add_doppler(self, radar: str, base_T: Array, sweeps: Sequence[MovedSweep]) -> None:
        before, newest = sweeps[1], sweeps[0]
        seconds = (newest.stamp_ns - before.stamp_ns) * 1e-9
        now_T_then = geometry.invert(base_T) @ before.newest_T_ego @ base_T
        expected = -now_T_then[:2, 3] / seconds
        own = None if newest.relative else _shows_own_motion(newest.points, expected)
        if own is not None:
            self._own[radar].append(own)
        found = own_velocity(newest, self._rng)
        if found is None:
            return
        measured, agree = found
        if agree.mean() < _SHARE:
            self._at_odds[radar] += bool(np.linalg.norm(expected) > _SLOW)
        elif agree.sum() >= _RETURNS:
            self._doppler[radar].append((expected, measured))

    def _add_standing(self, base_T: Array, sweeps: Sequence[MovedSweep]) -> None:
        newest, oldest = sweeps[0], sweeps[-1]
        moved = oldest.newest_T_ego
        if np.linalg.norm(moved[:3, 3]) < _GONE or newest.relative:
            return
        here, there = _standing(newest.points), _standing(oldest.points)
        if len(here) < 5 or len(there) < 5:
            return
        tree = cKDTree(here[:, :2])
        for place, guess in enumerate((moved, np.eye(4), geometry.invert(moved))):
            points = geometry.apply(geometry.invert(base_T) @ guess @ base_T, there)
            self._near[place] += (tree.query(points[:, :2])[0] < _NEAR).sum()
        self._tried += len(there)

    @property
    def checked(self) -> list[str]:
        """What there was enough data for, in words."""
        radars = [name for name, pairs in self._doppler.items() if len(_moving(pairs)) >= _SAMPLES]
        standing = ["standing returns"] if self._tried >= _PAIRS else []
        return [f"Doppler of {len(radars)} radars"] * bool(radars) + standing

    def findings(self) -> list[Finding]:
        """Doubts about radars and the ego motion."""
        turns: dict[str, float] = {}
        ratios: dict[str, float] = {}
        for radar, pairs in self._doppler.items():
            moving = _moving(pairs)
            if len(moving) < _SAMPLES:
                continue
            expected, measured = (np.array(column) for column in zip(*moving, strict=True))
            speeds = np.linalg.norm(expected, axis=1), np.linalg.norm(measured, axis=1)
            ratios[radar] = float(np.median(speeds[0]) / max(float(np.median(speeds[1])), 0.1))
            if min(np.median(speeds[0]), np.median(speeds[1])) >= _SLOW / 2:
                angle = np.arctan2(expected[:, 1], expected[:, 0])
                angle -= np.arctan2(measured[:, 1], measured[:, 0])
                turns[radar] = float(np.rad2deg(middle_angle(angle)))
        findings = _speed_findings(ratios) + _turn_findings(turns) + self._odd_findings()
        findings += self._own_findings()
        return findings or self._standing_findings()

    def _odd_findings(self) -> list[Finding]:
        """Doubts about radars most of whose sweeps show no motion at all."""
        findings = []
        for radar, odd in self._at_odds.items():
            told = odd + len(_moving(self._doppler.get(radar, [])))
            if told >= _SAMPLES and odd > told / 2:
                text = (
                    f"{radar}: expected its standing returns to agree on one motion of the radar, "
                    f"got fewer than {_SHARE:.0%} that do in {odd} of {told} sweeps of the moving "
                    "vehicle; check the names, units and signs in radar_fields (degrees)"
                )
                findings.append(Finding(sensor=radar, text=text))
        return findings

    def _own_findings(self) -> list[Finding]:
        """Doubts about radars whose speeds over ground are those relative to the radar."""
        return [
            Finding(
                sensor=radar,
                text=f"{radar}: expected speeds over ground, got those of the radar's own motion "
                f"in {sum(told)} of {len(told)} sweeps: they are relative to it; set "
                "radar_fields.doppler_compensated: false, or vx_comp: '' and vy_comp: ''",
            )
            for radar, told in self._own.items()
            if len(told) >= _SAMPLES and sum(told) > len(told) / 2
        ]

    def _standing_findings(self) -> list[Finding]:
        if self._tried < _PAIRS:
            return []
        right, none, reverse = self._near
        # Counting noise, four standard deviations.
        noise = 4 * np.sqrt(max(right + max(none, reverse), 1.0))
        if max(none, reverse) - right <= noise:
            return []
        share = f"{right / self._tried:.0%} of standing radar returns meet one of 0.4 s before"
        other, what = (reverse, "its reverse") if reverse >= none else (none, "none")
        text = f"{share} with the ego motion applied, but {other / self._tried:.0%} with {what}"
        return [Finding(sensor="", text=f"ego motion: {text}. Check sign and axes of odometry")]


def _shows_own_motion(points: NDArray[np.float32], velocity: Array) -> bool | None:
    """Whether most speeds over ground are those of standing things relative to the radar, or None.

    Args:
        points: [N, 18], columns RADAR_FIELDS, radar axes.
        velocity: [2] of the radar over ground, m/s, in its axes.
    """
    distance = np.hypot(points[:, 0], points[:, 1])
    points, distance = points[distance > 1.0].astype(np.float64), distance[distance > 1.0]
    direction = points[:, :2] / distance[:, None]
    standing = -direction @ velocity
    tells = np.abs(standing) > _SLOW / 2
    if np.linalg.norm(velocity) <= _SLOW or tells.sum() < _RETURNS:
        return None
    radial = (points[:, RADAR_COMPENSATED] * direction).sum(1)
    return bool((np.abs(radial - standing)[tells] < 2 * _AGREES).mean() > _SHARE)


def _speed_findings(ratios: dict[str, float]) -> list[Finding]:
    """Doubts from predicted over measured speed, by radar."""
    wrong = {name: ratio for name, ratio in ratios.items() if abs(ratio - 1) > _SPEED_LIMIT}
    if not wrong:
        return []
    if len(wrong) > len(ratios) / 2:
        ratio = float(np.median(list(wrong.values())))
        reason = "is odometry in other units (km/h are 3.6 times m/s), or of wheel slip?"
        if ratio < 0.1:
            reason = "is motion.source none, or odometry dead, while the vehicle moves?"
        text = f"expected the speed that the radars measure, got {ratio:.2f} times that; {reason}"
        return [Finding(sensor="", text=f"ego motion: {text}")]
    return [
        Finding(
            sensor=name,
            text=f"{name}: expected raw speeds (vx, vy) of the ego motion, which is {ratio:.2f} "
            "times what they say, unlike that of other radars; check its units and transform",
        )
        for name, ratio in wrong.items()
    ]


def _turn_findings(turns: dict[str, float]) -> list[Finding]:
    """Doubts from the direction of travel, predicted less measured, degrees, by radar."""
    wrong = {name: turn for name, turn in turns.items() if abs(turn) > _TURN_LIMIT}
    if len(turns) >= 3 and len(wrong) == len(turns):
        common = middle_angle(np.deg2rad(list(turns.values())))
        spread = np.abs(geometry.wrap_angle(np.deg2rad(list(turns.values())) - common))
        if spread.max() < np.deg2rad(_TURN_LIMIT):
            text = (
                f"expected the direction of travel that all radars measure, got one "
                f"{np.rad2deg(common):+.0f} degrees off; check sign and axes of odometry (180 = "
                "reversed), or the axes of base_link"
            )
            return [Finding(sensor="", text=f"ego motion: {text}")]
    return [
        Finding(
            sensor=name,
            text=f"{name}: expected the direction of travel that it measures by Doppler, got one "
            f"{abs(turn):.1f} degrees off; its yaw in the calibration seems to be {-turn:+.1f} "
            "degrees too far to the left, or two radars are swapped",
        )
        for name, turn in wrong.items()
    ]


def _standing(points: NDArray[np.float32]) -> Array:
    """Positions [M, 3] of the returns that stand still over ground."""
    speed = np.linalg.norm(points[:, RADAR_COMPENSATED], axis=1)
    return points[speed < _STANDING, :3].astype(np.float64)


def _moving(pairs: Sequence[tuple[Array, Array]]) -> list[tuple[Array, Array]]:
    return [
        pair for pair in pairs if max(np.linalg.norm(pair[0]), np.linalg.norm(pair[1])) > _SLOW
    ]


def middle_angle(angles: NDArray[np.float64] | Sequence[float]) -> float:
    """A median of angles that may wrap, radians."""
    angles = np.asarray(angles)
    mean = np.arctan2(np.sin(angles).mean(), np.cos(angles).mean())
    return float(geometry.wrap_angle(mean + np.median(geometry.wrap_angle(angles - mean))))
