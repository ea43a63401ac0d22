"""Extrinsics and ego motion from a tf2 buffer that is handed in (ros_packages.py makes it)."""

from __future__ import annotations

import threading
import time as system_time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from crkd_core import geometry
from crkd_core.reach import too_fast
from crkd_ros.motion.poses import Array, MotionError, Report, silent

#: What to do, by the class of tf2's exception.
_ADVICE = {
    "LookupException": "is the frame published? compare with `ros2 run tf2_tools view_frames`",
    "ConnectivityException": "two trees: publish the transform that joins them",
    "ExtrapolationException": "is its publisher alive, and its clock the sensors'? "
    "or raise sync.wait if tf is only late",
}
#: A sensor that moved less than this is one whose calibration was rounded: metres, radians.
_MOVED, _TURNED = 1e-3, 1e-3
#: So many looks in a row at a sensor that has moved: it does not stand still.
_MOVES = 3


@dataclass
class _Looked:
    """A sensor's pose, and when tf was last asked for it (seconds of the clock)."""

    base_T_frame: Array
    at: float


class TfMotion:
    """Extrinsics and ego motion from a tf2 buffer, for threads that do not spin the node.

    A sensor's pose is kept and asked for again every ``period`` seconds: one that changes (a new
    calibration on /tf_static) is used and reported. One that has changed time and again moves (a
    mast, a turning head): from then on it is asked for at each stamp.

    Args:
        buffer: a ``tf2_ros.Buffer``.
        time: nanoseconds -> ``rclpy.time.Time``; 0 asks tf2 for the latest.
        timeout: an ``rclpy.duration.Duration``: how long a lookup of the ego motion may wait for a
            transform under way. Sensors' poses are not waited for.
        error: base class of the buffer's exceptions, ``tf2_ros.TransformException``.
        stamped_to_matrix: ``geometry_msgs/TransformStamped`` -> [4, 4].
        base: the vehicle's frame; fixed: a frame in which the world stands still.
        period: seconds; clock: seconds, steadily growing.
        report: takes what the user should know, e.g. that a sensor moved.
    """

    def __init__(
        self,
        *,
        buffer: Any,
        time: Callable[[int], Any],
        timeout: Any,
        error: type[Exception],
        stamped_to_matrix: Callable[[Any], Array],
        base: str = "base_link",
        fixed: str = "odom",
        period: float = 1.0,
        clock: Callable[[], float] = system_time.monotonic,
        report: Report = silent,
    ) -> None:
        self._buffer, self._time, self._matrix = buffer, time, stamped_to_matrix
        self._timeout, self._error = timeout, error
        # tf2 refuses frames with the slash that ROS 1 drivers still send.
        self._base, self._fixed = base.lstrip("/"), fixed.lstrip("/")
        self._period, self._clock, self._report = period, clock, report
        self._sensors: dict[str, _Looked] = {}
        self._lock = threading.Lock()  # Threads that decode images ask for cameras.
        self._stretch = 0
        self._changes: dict[str, int] = {}  # Frame -> looks in a row that found it moved.

    def base_T(self, frame: str, stamp_ns: int | None = None) -> Array:
        """``base_T_frame`` [4, 4], the latest; at a stamp if it moves. Raises MotionError."""
        frame, now = frame.lstrip("/"), self._clock()
        if stamp_ns is not None and self._changes.get(frame, 0) >= _MOVES:
            return self._ask(
                f"{self._base} <- {frame}",
                self._buffer.lookup_transform,
                *(self._base, frame, self._time(stamp_ns)),
                timeout=self._timeout,
            )
        with self._lock:
            known = self._sensors.get(frame)
            if known is not None and now - known.at < self._period:
                return known.base_T_frame
            self._sensors.pop(frame, None)
            found = self._ask(
                f"{self._base} <- {frame}",
                self._buffer.lookup_transform,
                *(self._base, frame, self._time(0)),
            )
            if known is not None:
                self._compare(frame, known.base_T_frame, found)
            self._sensors[frame] = _Looked(found, now)
            return found

    def pose(self, stamp_ns: int) -> Array | None:
        """``fixed_T_base`` [4, 4] at a time. Raises MotionError."""
        return self._ask(
            f"{self._fixed} <- {self._base}",
            self._buffer.lookup_transform,
            *(self._fixed, self._base, self._time(stamp_ns)),
            timeout=self._timeout,
        )

    def ego_T_ego(self, stamp_ns: int, reference_ns: int) -> Array:
        """[4, 4] from base at ``stamp_ns`` to base at ``reference_ns``. Raises MotionError."""
        if stamp_ns == reference_ns:
            return np.eye(4)
        moved = self._ask(
            f"{self._base} over {self._fixed}",
            self._buffer.lookup_transform_full,
            *(self._base, self._time(reference_ns), self._base, self._time(stamp_ns)),
            self._fixed,
            timeout=self._timeout,
        )
        metres, seconds = float(np.linalg.norm(moved[:3, 3])), (reference_ns - stamp_ns) * 1e-9
        if too_fast(metres, seconds):
            self._stretch += 1
            raise MotionError(
                f"tf: {self._base} moved {metres:.1f} m in {seconds:.3f} s over {self._fixed}: "
                "a jump (relocalisation?); set motion.fixed_frame to a frame that drifts but does "
                "not jump"
            )
        return moved

    def clear(self) -> None:
        """Forget what moved: time was set back. Static transforms stay in the buffer."""
        self._stretch += 1
        self._buffer.clear()

    def stretch(self, stamp_ns: int) -> int:
        """Another number after a jump that a frame has met, and after ``clear``."""
        return self._stretch

    def _compare(self, frame: str, old: Array, new: Array) -> None:
        difference = geometry.invert(old) @ new
        metres = float(np.linalg.norm(difference[:3, 3]))
        cosine = np.clip((np.trace(difference[:3, :3]) - 1) / 2, -1, 1)
        radians = float(np.arccos(cosine))
        if metres <= _MOVED and radians <= _TURNED:
            self._changes.pop(frame, None)
            return
        self._changes[frame] = self._changes.get(frame, 0) + 1
        then = "the new one is used from now on"
        if self._changes[frame] >= _MOVES:
            then = "it moves: its place is asked for at every stamp from now on"
        self._report(
            f"the calibration of {frame} changed by {metres:.3f} m and "
            f"{np.rad2deg(radians):.2f} degrees; {then}"
        )

    def _ask(self, what: str, lookup: Callable[..., Any], *args: Any, **options: Any) -> Array:
        try:
            return self._matrix(lookup(*args, **options))
        except self._error as error:
            advice = _ADVICE.get(type(error).__name__, "see the tf tree")
            raise MotionError(f"tf {what}: {error}; {advice}") from error
