"""Where the sensors sit and how the vehicle moves. Pure: no ROS, except a tf2 buffer handed in.

Extrinsics come from static transforms (tf or ``/tf_static``) or a calibration file
(calibration.py). Ego motion
comes from poses (``/odom``, or ``/tf`` in replay), from tf2, or is switched off by the user. What
is not known is an error: the identity never stands in for a missing transform.
"""

from __future__ import annotations

import bisect
import threading
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry

Array = NDArray[np.float64]

#: Poses may be carried on at constant speed this long beyond the newest one.
EXTRAPOLATION = 0.1

_JUMP_NS = 1_000_000_000


class MotionError(RuntimeError):
    """A transform or a pose that is not known, or a calibration file that cannot be used."""


class Extrinsics(Protocol):
    """Answers where a sensor sits."""

    def base_T(self, frame: str) -> Array:
        """``base_T_frame`` [4, 4]. Raises MotionError when not known."""


class EgoMotion(Protocol):
    """Answers how the vehicle moved."""

    def pose(self, stamp_ns: int) -> Array | None:
        """``map_T_base`` [4, 4] at a time; None where no map is known at all."""

    def ego_T_ego(self, stamp_ns: int, reference_ns: int) -> Array:
        """[4, 4] from base at ``stamp_ns`` to base at ``reference_ns``. Raises MotionError."""


class PoseBuffer:
    """Poses of the vehicle in a fixed frame, by time.

    A stamp that was added gives exactly its pose; between two, position is linear and rotation
    spherical; at most ``extrapolation`` seconds beyond the newest, the last speed is carried on.
    Thread-safe: odometry arrives while a frame is being made.
    """

    def __init__(self, *, history: float = 10.0, extrapolation: float = EXTRAPOLATION) -> None:
        self._history_ns = round(history * 1e9)
        self._extrapolation_ns = round(extrapolation * 1e9)
        self._stamps: list[int] = []
        self._poses: list[Array] = []
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, stamp_ns: int, map_T_base: Array) -> None:
        """Learn one pose. A stamp far behind the newest means that time was set back: forget."""
        with self._lock:
            if self._stamps and stamp_ns < self._stamps[-1] - _JUMP_NS:
                self.clear()
            place = bisect.bisect_left(self._stamps, stamp_ns)
            if place < len(self._stamps) and self._stamps[place] == stamp_ns:
                self._poses[place] = map_T_base
                return
            self._stamps.insert(place, stamp_ns)
            self._poses.insert(place, map_T_base)
            old = bisect.bisect_left(self._stamps, self._stamps[-1] - self._history_ns)
            del self._stamps[:old], self._poses[:old]

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._stamps.clear()
            self._poses.clear()

    def at(self, stamp_ns: int) -> Array:
        """``map_T_base`` [4, 4] at a time.

        Raises:
            MotionError: no pose at all, or the time is outside what is known.
        """
        with self._lock:
            return self._at(stamp_ns)

    def _at(self, stamp_ns: int) -> Array:
        stamps, poses = self._stamps, self._poses
        if not stamps:
            raise MotionError("no ego pose was received yet; is odometry published?")
        place = bisect.bisect_left(stamps, stamp_ns)
        if place < len(stamps) and stamps[place] == stamp_ns:
            return poses[place]
        if place == 0:
            raise MotionError(
                f"ego pose at {stamp_ns} ns is {(stamps[0] - stamp_ns) / 1e9:.3f} s before the "
                "oldest known one"
            )
        if place == len(stamps):
            beyond = stamp_ns - stamps[-1]
            if beyond > self._extrapolation_ns or len(stamps) < 2:
                raise MotionError(
                    f"ego pose at {stamp_ns} ns is {beyond / 1e9:.3f} s beyond the newest of "
                    f"{len(stamps)} known ones (limit {self._extrapolation_ns / 1e9} s, which "
                    "needs two); is odometry late or dead?"
                )
            place -= 1
        before, after = stamps[place - 1], stamps[place]
        fraction = (stamp_ns - before) / (after - before)
        return geometry.interpolate(poses[place - 1], poses[place], fraction)

    def pose(self, stamp_ns: int) -> Array | None:
        """``at``, under the name that EgoMotion asks for."""
        return self.at(stamp_ns)

    def ego_T_ego(self, stamp_ns: int, reference_ns: int) -> Array:
        """[4, 4] from base at ``stamp_ns`` to base at ``reference_ns``. Raises MotionError."""
        return geometry.invert(self.at(reference_ns)) @ self.at(stamp_ns)


class NoMotion:
    """The user's own choice ``motion.source: off``: the vehicle is taken to stand still."""

    def pose(self, stamp_ns: int) -> Array | None:
        """None: no map is known."""
        return None

    def ego_T_ego(self, stamp_ns: int, reference_ns: int) -> Array:
        """The identity, as asked for."""
        return np.eye(4)


class TfMotion:
    """Extrinsics and ego motion from a tf2 buffer.

    Args:
        buffer: a ``tf2_ros.Buffer`` that was given the node (only then does it clear itself when
            time jumps).
        time: nanoseconds -> ``rclpy.time.Time``; 0 asks tf2 for the latest.
        timeout: an ``rclpy.duration.Duration``: how long a lookup may wait for a transform under
            way. Call from a thread that does not spin the node.
        base: the vehicle's frame; fixed: a frame in which the world stands still.
        stamped_to_matrix: ``geometry_msgs/TransformStamped`` -> [4, 4].
    """

    def __init__(
        self,
        *,
        buffer: Any,
        time: Callable[[int], Any],
        timeout: Any,
        stamped_to_matrix: Callable[[Any], Array],
        base: str = "base_link",
        fixed: str = "odom",
    ) -> None:
        self._buffer, self._time, self._matrix = buffer, time, stamped_to_matrix
        self._timeout = timeout
        self._base, self._fixed = base, fixed
        self._cache: dict[str, Array] = {}

    def base_T(self, frame: str) -> Array:
        """``base_T_frame`` [4, 4], looked up once: sensors do not move. Raises MotionError."""
        if frame not in self._cache:
            self._cache[frame] = self._ask(
                self._buffer.lookup_transform, self._base, frame, self._time(0)
            )
        return self._cache[frame]

    def pose(self, stamp_ns: int) -> Array | None:
        """``fixed_T_base`` [4, 4] at a time. Raises MotionError."""
        return self._ask(
            self._buffer.lookup_transform, self._fixed, self._base, self._time(stamp_ns)
        )

    def ego_T_ego(self, stamp_ns: int, reference_ns: int) -> Array:
        """[4, 4] from base at ``stamp_ns`` to base at ``reference_ns``. Raises MotionError."""
        return self._ask(
            self._buffer.lookup_transform_full,
            *(self._base, self._time(reference_ns), self._base, self._time(stamp_ns)),
            self._fixed,
        )

    def _ask(self, lookup: Callable[..., Any], *args: Any) -> Array:
        try:
            return self._matrix(lookup(*args, timeout=self._timeout))
        # tf2's exceptions share no base class but Exception, and cannot be imported here.
        except Exception as error:
            raise MotionError(f"tf: {error}") from error
