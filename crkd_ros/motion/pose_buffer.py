"""Poses of the vehicle as they arrive, and motion between them. Pure: no ROS."""

from __future__ import annotations

import bisect
import math
import threading
from collections import deque
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from crkd_core import geometry
from crkd_core.reach import too_fast
from crkd_ros.motion.poses import (
    EXTRAPOLATION,
    LONGEST_GAP,
    Array,
    MotionError,
    Report,
    advance,
    agrees,
    silent,
)
from crkd_ros.motion.twists import TwistWatch

_JUMP_NS = 1_000_000_000
#: A stamp so far ahead must be confirmed by the next ones.
_FAR_NS = 10_000_000_000
#: So many poses in a row say that time was set; so many that the map has jumped.
_AGREE, _TWICE = 3, 2
#: So many poses far ahead of the next one are strays.
_FEW = 3
#: Poses of the old time may be so much newer than what the sensors had told of it.
_UNDER_WAY_NS = 300_000_000
#: Of so many poses in a row a quarter that contradict the others is told: two publishers?
_LOOKED_AT = 100
#: Speed is taken over at least this time: differences of poses closer together are noise.
_SPEED_NS = 10_000_000
_WINDOW_NS = 50_000_000


class _Known(NamedTuple):
    """One pose [4, 4] and the twist [6] in its own axes, where that is known."""

    pose: Array
    twist: Array | None


class PoseBuffer:
    """Poses of the vehicle in a fixed frame, by time.

    A stamp that was added gives exactly its pose; between two, position is linear and rotation
    spherical; at most EXTRAPOLATION seconds beyond the newest, its twist is carried on, or the
    last speed where no twist came. A pose that no vehicle can have reached from the one before it
    (a relocalisation in ``map``, a reset of odometry) begins anew: motion across it is not known.
    One that comes late and cannot lie between its neighbours is refused.
    Thread-safe: odometry arrives while a frame is being made.
    """

    def __init__(self, *, history: float = 10.0, report: Report = silent) -> None:
        self._history_ns = round(history * 1e9)
        self._report = report
        self._stamps: list[int] = []
        self._known: list[_Known] = []
        self._aside: list[tuple[int, _Known]] = []
        self._doubted = False
        self._twists = TwistWatch()
        self._refused: deque[bool] = deque(maxlen=_LOOKED_AT)
        self._stretch = 0
        self._last_ns = 0  # Of the last one that came, used or not.
        self._old_until: int | None = None  # Poses up to here may still be of the old time.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, stamp_ns: int, map_T_base: Array, *, twist: ArrayLike | None = None) -> bool:
        """Learn one pose.

        One that contradicts those before it is set aside: it is wrong, unless the next ones agree
        with it. Then time was set (far from the newest), or the map has jumped (where no vehicle
        gets to): what was known before is forgotten.

        Args:
            stamp_ns: its time.
            map_T_base: [4, 4].
            twist: [6] linear m/s and angular rad/s in base axes; None or all zeros = not known
                (drivers that do not fill it send zeros).

        Returns:
            False: it was set aside, or is wrong.
        """
        speed = None if twist is None or not np.any(twist) else np.asarray(twist, np.float64)
        with self._lock:
            if self._of_old_time(stamp_ns):
                return False
            taken = self._add(stamp_ns, _Known(map_T_base, speed))
            self._tell_of_refused(taken)
            if taken and speed is not None and not self._doubted:
                self._look_at_twist(stamp_ns, map_T_base, speed)
            return taken

    def _add(self, stamp_ns: int, known: _Known) -> bool:
        self._forget_strays_ahead(stamp_ns)
        newest = self._stamps[-1] if self._stamps else stamp_ns
        behind, ahead = stamp_ns < newest - _JUMP_NS, stamp_ns > newest + _FAR_NS
        if not behind and stamp_ns <= newest and not self._fits(stamp_ns, known.pose):
            return False
        leap = stamp_ns > newest and self._leaps(stamp_ns, known.pose)
        if behind or ahead or leap:
            if not self._believed(stamp_ns, known, _TWICE if leap else _AGREE):
                return False
            if leap:
                self._report(
                    f"the ego pose jumped {self._metres(known.pose):.1f} m: poses before that "
                    "are not used (a relocalisation? prefer odometry that drifts but does not "
                    "jump)"
                )
            aside = list(self._aside)
            if not ahead:
                self.clear()
            for stamp, one in aside:
                self._insert(stamp, one)
        else:
            self._insert(stamp_ns, known)
        self._aside.clear()
        return True

    def _of_old_time(self, stamp_ns: int) -> bool:
        """Whether this was under way when time was set back.

        The first pose of the new time is earlier than the one before it.
        """
        before, self._last_ns = self._last_ns, stamp_ns
        if self._old_until is not None and not before <= stamp_ns <= self._old_until:
            self._old_until = None
        return self._old_until is not None

    def _tell_of_refused(self, taken: bool) -> None:
        self._refused.append(not taken)
        count = sum(self._refused)
        if 4 * count >= _LOOKED_AT:
            self._report(
                f"{count} of the last {len(self._refused)} poses contradict the others and are "
                "not used: are there two publishers?"
            )
            self._refused.clear()

    def _look_at_twist(self, stamp_ns: int, map_T_base: Array, twist: Array) -> None:
        """Poses that come in time are never carried on, and their twists are not used."""
        if wrong := self._twists.add(stamp_ns, map_T_base, twist):
            self._doubted = True
            self._report(f"odometry: {wrong}")

    def _insert(self, stamp_ns: int, known: _Known) -> None:
        stamps = self._stamps
        place = bisect.bisect_left(stamps, stamp_ns)
        if place < len(stamps) and stamps[place] == stamp_ns:
            self._known[place] = known
            return
        stamps.insert(place, stamp_ns)
        self._known.insert(place, known)
        old = bisect.bisect_left(stamps, stamps[-1] - self._history_ns)
        del stamps[:old], self._known[:old]

    def _forget_strays_ahead(self, stamp_ns: int) -> None:
        """Few poses far ahead of this one and of all before them had wrong stamps."""
        place = bisect.bisect_right(self._stamps, stamp_ns)
        ahead = len(self._stamps) - place
        if not 0 < ahead <= _FEW or not place:
            return
        gap = self._stamps[place] - self._stamps[place - 1]
        near = stamp_ns - self._stamps[place - 1] <= _JUMP_NS
        if gap > _JUMP_NS and near and self._stamps[place] - stamp_ns > _JUMP_NS:
            del self._stamps[place:], self._known[place:]

    def _believed(self, stamp_ns: int, known: _Known, times: int) -> bool:
        """Set a pose aside; whether so many in a row agree with one another."""
        if self._aside:
            stamp, before = self._aside[-1]
            metres = float(np.linalg.norm(known.pose[:3, 3] - before.pose[:3, 3]))
            seconds = (stamp_ns - stamp) * 1e-9
            if abs(seconds) > _JUMP_NS * 1e-9 or too_fast(metres, seconds):
                self._aside.clear()
        self._aside.append((stamp_ns, known))
        return len(self._aside) >= times

    def _fits(self, stamp_ns: int, map_T_base: Array) -> bool:
        """Whether a vehicle can have been here between the poses around a time."""
        place = bisect.bisect_left(self._stamps, stamp_ns)
        here = map_T_base[:3, 3].tolist()
        for near in (place - 1, place):
            if 0 <= near < len(self._stamps):
                metres = math.dist(here, self._known[near].pose[:3, 3].tolist())
                if too_fast(metres, (stamp_ns - self._stamps[near]) * 1e-9):
                    return False
        return True

    def _leaps(self, stamp_ns: int, map_T_base: Array) -> bool:
        """Whether no vehicle can have come here from the newest pose."""
        return too_fast(self._metres(map_T_base), (stamp_ns - self._stamps[-1]) * 1e-9)

    def _metres(self, map_T_base: Array) -> float:
        # A norm of NumPy lets other threads in, and has to wait for them at every pose.
        return math.dist(map_T_base[:3, 3].tolist(), self._known[-1].pose[:3, 3].tolist())

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._stretch += bool(self._stamps)
            self._stamps.clear()
            self._known.clear()
            self._aside = []
            self._old_until = None
            self._twists.clear()

    def set_back(self, stamp_ns: int, *, from_ns: int) -> None:
        """The sensors' time was set back: poses of the old time are forgotten.

        Those set aside that are of the new time are believed. Poses are of the old time if the
        newest is nearer to it: how far they are ahead of images nobody knows. Those of it that are
        still under way are set aside.

        Args:
            stamp_ns: the sensors' time.
            from_ns: and before.
        """
        with self._lock:
            newest = self._stamps[-1] if self._stamps else stamp_ns
            if abs(newest - stamp_ns) <= abs(newest - from_ns):
                return
            near = [one for one in self._aside if abs(one[0] - stamp_ns) <= _JUMP_NS]
            under_way = self._last_ns == newest
            self.clear()
            self._old_until = from_ns + _UNDER_WAY_NS if under_way else None
            for stamp, known in near:
                self._insert(stamp, known)

    def stretch(self, stamp_ns: int) -> int:
        """How often everything was forgotten; what is known is of the present stretch."""
        return self._stretch

    def at(self, stamp_ns: int) -> Array:
        """``map_T_base`` [4, 4] at a time.

        Raises:
            MotionError: no pose at all, or the time is outside what is known.
        """
        with self._lock:
            return self._at(stamp_ns)

    def _at(self, stamp_ns: int) -> Array:
        stamps, known = self._stamps, self._known
        if not stamps:
            raise MotionError("no ego pose was received yet; is odometry published?")
        place = bisect.bisect_left(stamps, stamp_ns)
        if place < len(stamps) and stamps[place] == stamp_ns:
            return known[place].pose
        if place == 0:
            raise MotionError(
                f"ego pose at {stamp_ns} ns is {(stamps[0] - stamp_ns) / 1e9:.3f} s before the "
                "oldest known one"
            )
        if place == len(stamps):
            return self._beyond(stamp_ns)
        before, after = stamps[place - 1], stamps[place]
        if after - before > LONGEST_GAP * 1e9:
            raise MotionError(
                f"ego pose at {stamp_ns} ns lies in a gap of {(after - before) / 1e9:.3f} s "
                f"between two known ones (limit {LONGEST_GAP} s); is odometry interrupted?"
            )
        fraction = (stamp_ns - before) / (after - before)
        return geometry.interpolate(known[place - 1].pose, known[place].pose, fraction)

    def _beyond(self, stamp_ns: int) -> Array:
        stamps, known = self._stamps, self._known
        beyond = stamp_ns - stamps[-1]
        window = max(bisect.bisect_right(stamps, stamps[-1] - _WINDOW_NS) - 1, 0)
        # Nor is the vehicle's speed now the mean of a gap.
        window += stamps[-1] - stamps[window] > LONGEST_GAP * 1e9
        base = stamps[-1] - stamps[window]
        speed_known = known[-1].twist is not None or base >= _SPEED_NS
        if beyond > EXTRAPOLATION * 1e9 or not speed_known:
            looped = " Did time go back, as where a bag loops?" if beyond > _JUMP_NS else ""
            raise MotionError(
                f"ego pose at {stamp_ns} ns is {beyond / 1e9:.3f} s beyond the newest of "
                f"{len(stamps)} known ones (limit {EXTRAPOLATION} s, which "
                f"needs two or a twist): is odometry dead?{looped} Raise sync.wait if it is only "
                "late"
            )
        twist = known[-1].twist
        if twist is not None and not self._contradicts(twist, known[window].pose, base):
            return advance(known[-1].pose, twist, beyond * 1e-9)
        return geometry.interpolate(known[window].pose, known[-1].pose, 1 + beyond / base)

    def _contradicts(self, twist: Array, before: Array, base_ns: int) -> bool:
        """Whether the newest twist is not that of the newest poses, which are believed."""
        if base_ns < _SPEED_NS:
            return False
        now = self._known[-1].pose
        seconds = base_ns * 1e-9
        linear = now[:3, :3].T @ (now[:3, 3] - before[:3, 3]) / seconds
        turned = float(geometry.wrap_angle(geometry.yaw_of(now) - geometry.yaw_of(before)))
        moved = np.array([*linear, 0.0, 0.0, turned / seconds])
        if agrees(np.array([*twist[:3], 0.0, 0.0, twist[5]]), moved):
            return False
        if not self._doubted:
            self._doubted = True
            self._report(
                f"the twist of odometry ({np.round(twist[:3], 1).tolist()} m/s, "
                f"{twist[5]:.2f} rad/s) contradicts its own poses "
                f"({np.round(linear, 1).tolist()} m/s, {moved[5]:.2f} rad/s), which are believed: "
                "is it in axes of the world, in km/h, or of another frame?"
            )
        return True

    def pose(self, stamp_ns: int) -> Array | None:
        """``at``, under the name that EgoMotion asks for."""
        return self.at(stamp_ns)

    def ego_T_ego(self, stamp_ns: int, reference_ns: int) -> Array:
        """[4, 4] from base at ``stamp_ns`` to base at ``reference_ns``. Raises MotionError."""
        return geometry.invert(self.at(reference_ns)) @ self.at(stamp_ns)
