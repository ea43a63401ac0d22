"""Ids for detections: the same object keeps the same number from frame to frame. Pure.

Tracks live in a frame that stands still (or in the vehicle's, where its motion is not known) and
move on at constant speed by the stamps of frames, so that skipped frames and misses of any length
are the same thing. Detections are neither changed nor held back: they get an id or none.

Each track is a Kalman filter on the ground, whose two axes share one covariance since their noise
is the same. Tracks and detections of a class are paired by the one assignment of least cost.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.boxes import Detections, Tracked
from crkd_ros.parameters.outputs import TrackingConfig

Array = NDArray[np.float64]

#: Standard deviations of what a detection says: metres, m/s.
_NOISE_SD = 0.5, 1.5
#: And of how objects leave constant speed, m/s^2; and the classes of objects that stand.
_ACCELERATION_SD, _STANDING_SD = 3.0, 0.1
_STANDING = ("traffic_cone", "barrier")

_NOISE = np.diag(np.square(_NOISE_SD))


@dataclass(frozen=True, kw_only=True)
class _Tracks:
    """T tracks: position and velocity [T, 2], the covariance [T, 2, 2] of either axis' pair."""

    position: Array
    velocity: Array
    covariance: Array
    label: NDArray[np.int64]
    seen_ns: NDArray[np.int64]
    hits: NDArray[np.int64]
    id: NDArray[np.int64]

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> _Tracks:
        return _Tracks(**{name: value[index] for name, value in vars(self).items()})

    def joined(self, other: _Tracks) -> _Tracks:
        pairs = vars(other)
        return _Tracks(**{n: np.concatenate([v, pairs[n]]) for n, v in vars(self).items()})


def numbered(detections: Detections, ids: NDArray[np.int64]) -> Tracked:
    """Detections with ids [N]."""
    fields = {f.name: getattr(detections, f.name) for f in dataclasses.fields(Detections)}
    return Tracked(**fields, id=ids)


class Tracker:
    """Gives ids to the detections of one frame after another. Not thread-safe.

    Ids are never used twice, not after ``reset`` either.

    Args:
        config: may be replaced between frames.
    """

    def __init__(self, config: TrackingConfig | None = None) -> None:
        # Importing it takes a while: not for those who only want the configuration.
        from scipy.optimize import linear_sum_assignment

        self._assign = linear_sum_assignment
        self.config = config or TrackingConfig()
        self._next_id = 1
        self._classes: tuple[str, ...] = ()
        self.reset()

    def reset(self) -> None:
        """Forget every track."""
        self._stamp_ns: int | None = None
        self._fixed = False
        self._tracks = _begun(Detections.empty(self._classes), 0)

    def __call__(
        self, detections: Detections, *, stamp_ns: int, fixed_T_base: Array | None
    ) -> Tracked:
        """The same detections in the same order and axes, with ids.

        Args:
            detections: in axes of the vehicle.
            stamp_ns: of the frame. One before the last frame's means that time was set back.
            fixed_T_base: [4, 4] the vehicle in a frame that stands still; None: not known, the
                vehicle is taken to stand still.
        """
        back = self._stamp_ns is not None and stamp_ns < self._stamp_ns
        other = self._classes != detections.classes
        self._classes = detections.classes
        if back or other or self._fixed != (fixed_T_base is not None):
            self.reset()
        self._predict(stamp_ns)
        self._fixed = fixed_T_base is not None
        usable = np.isfinite(detections.center.sum(1) + detections.velocity.sum(1))
        measured = detections.select(usable)
        if fixed_T_base is not None:
            measured = measured.transformed(fixed_T_base)
        ids = np.zeros(len(detections), np.int64)
        ids[usable] = self._associate(measured, stamp_ns)
        return numbered(detections, ids)

    def _predict(self, stamp_ns: int) -> None:
        """Carry every track on to a stamp, and end those not seen for too long."""
        seconds = 0.0 if self._stamp_ns is None else (stamp_ns - self._stamp_ns) / 1e9
        self._stamp_ns = stamp_ns
        unseen = (stamp_ns - self._tracks.seen_ns) / 1e9
        tracks = self._tracks.select(unseen <= self.config.death)
        step = np.array([[1, seconds], [0, 1]])
        push = np.array([seconds**2 / 2, seconds])
        spread = [_STANDING_SD if c in _STANDING else _ACCELERATION_SD for c in self._classes]
        noise = np.square(spread)[tracks.label, None, None] * np.outer(push, push)
        self._tracks = dataclasses.replace(
            tracks,
            position=tracks.position + tracks.velocity * seconds,
            covariance=step @ tracks.covariance @ step.T + noise,
        )

    def _associate(self, measured: Detections, stamp_ns: int) -> NDArray[np.int64]:
        """Pair detections with tracks, let those learn, begin new ones. -> ids [N]."""
        track, found = self._pairs(measured, stamp_ns)
        self._learn(track, measured.select(found), stamp_ns)
        new = _unlike(measured, found)
        index = np.concatenate([track, len(self._tracks.id) + np.arange(len(new))])
        self._tracks = self._tracks.joined(_begun(measured.select(new), stamp_ns))
        confirmed = (self._tracks.hits >= self.config.birth) & (self._tracks.id == 0)
        count = int(confirmed.sum())
        self._tracks.id[confirmed] = self._next_id + np.arange(count)
        self._next_id += count
        ids = np.zeros(len(measured), np.int64)
        ids[np.concatenate([found, new])] = self._tracks.id[index]
        return ids

    def _pairs(
        self, measured: Detections, stamp_ns: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Indices of tracks and of their detections: a class at a time, each in one assignment."""
        pairs = [
            self._pairs_of(label, measured, stamp_ns)
            for label in np.intersect1d(self._tracks.label, measured.label)
        ]
        none = np.zeros(0, np.int64)
        track, found = zip((none, none), *pairs, strict=True)
        return np.concatenate(track), np.concatenate(found)

    def _pairs_of(
        self, label: int, measured: Detections, stamp_ns: int
    ) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        mine, theirs = np.flatnonzero(self._tracks.label == label), measured.label == label
        tracks, found = self._tracks.select(mine), np.flatnonzero(theirs)
        unseen = (stamp_ns - tracks.seen_ns) / 1e9
        gate = self.config.gate.metres(self._classes[label]) + self.config.gate_growth * unseen
        there = measured.center[found, :2]
        away = np.linalg.norm(tracks.position[:, None] - there, axis=-1) / gate[:, None]
        # A pair that is not made costs nothing, and one at the edge of the gate hardly gains:
        # otherwise a row of barriers would move by one when its end is missed. Objects with an id
        # come first: what was outside their gate once has begun a track beside them.
        cost = np.where(away < 1, np.square(away) - 1 - (tracks.id > 0)[:, None], 0)
        one, other = self._assign(cost)
        made = away[one, other] < 1
        return mine[one[made]], found[other[made]]

    def _learn(self, index: NDArray[np.int64], measured: Detections, stamp_ns: int) -> None:
        """The Kalman update of the tracks at ``index`` by their detections."""
        tracks = self._tracks
        prior = tracks.covariance[index]
        gain = prior @ np.linalg.inv(prior + _NOISE)
        off = np.stack(
            [
                measured.center[:, :2] - tracks.position[index],
                measured.velocity - tracks.velocity[index],
            ],
            1,
        )
        change = gain @ off
        tracks.position[index] += change[:, 0]
        tracks.velocity[index] += change[:, 1]
        tracks.covariance[index] = (np.eye(2) - gain) @ prior
        tracks.seen_ns[index] = stamp_ns
        tracks.hits[index] += 1


def _unlike(boxes: Detections, found: NDArray[np.int64]) -> NDArray[np.int64]:
    """Indices of the boxes that begin a track: not ``found``, and none's duplicate.

    Objects of a class are solid: a box that reaches into a stronger one, or into one that has a
    track, is the same object seen twice.
    """
    known = np.isin(np.arange(len(boxes)), found)
    new = []
    for label in np.unique(boxes.label[~known]):
        mine = np.flatnonzero(boxes.label == label)
        these = boxes.select(mine)
        fresh = np.flatnonzero(~known[mine])
        offset = these.center[fresh, None, :2] - these.center[None, :, :2]
        c, s = np.cos(these.yaw), np.sin(these.yaw)
        along = np.abs(c * offset[..., 0] + s * offset[..., 1])
        across = np.abs(-s * offset[..., 0] + c * offset[..., 1])
        # As if both had the same heading, which duplicates have.
        reach = (these.size[fresh, None, :2] + these.size[None, :, :2]) / 2
        better = known[mine] | (these.score > these.score[fresh, None])
        twice = (along < reach[..., 0]) & (across < reach[..., 1]) & better
        new.append(mine[fresh[~twice.any(1)]])
    return np.sort(np.concatenate([np.zeros(0, np.int64), *new]))


def _begun(detections: Detections, stamp_ns: int) -> _Tracks:
    """One track for each detection."""
    count = len(detections)
    return _Tracks(
        position=detections.center[:, :2].copy(),
        velocity=detections.velocity.copy(),
        covariance=np.tile(_NOISE, (count, 1, 1)),
        label=detections.label.copy(),
        seen_ns=np.full(count, stamp_ns, np.int64),
        hits=np.ones(count, np.int64),
        id=np.zeros(count, np.int64),
    )
