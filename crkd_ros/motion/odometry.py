"""Ego motion from nav_msgs/Odometry, of whatever frame on the vehicle it speaks. Pure: no ROS."""

from __future__ import annotations

import threading

from numpy.typing import ArrayLike

from crkd_core import geometry
from crkd_ros.motion.pose_buffer import PoseBuffer
from crkd_ros.motion.poses import Array, Extrinsics, MotionError, Report, silent


class OdometryMotion:
    """Poses of one frame on the vehicle, answered as poses of the base.

    Odometry of an IMU or a GNSS antenna (``child_frame_id`` other than the base) is moved to the
    base with the same extrinsics as a sensor's; where these do not know the frame, the motion is
    not known. The frame is looked up when a pose is asked for, not when one comes.

    Args:
        extrinsics: where the child frame sits.
        base: the vehicle's frame.
        report: takes what the user should know, e.g. that the pose jumped.
    """

    def __init__(
        self, *, extrinsics: Extrinsics, base: str = "base_link", report: Report = silent
    ) -> None:
        self._extrinsics, self._base, self._report = extrinsics, base.lstrip("/"), report
        self._poses = PoseBuffer(report=report)
        self._frames: tuple[str, str] | None = None
        self._lock = threading.Lock()

    @property
    def parent(self) -> str | None:
        """Frame of the poses; None before the first one."""
        return None if self._frames is None else self._frames[0]

    def __len__(self) -> int:
        return len(self._poses)

    def add(
        self,
        stamp_ns: int,
        parent_T_child: Array,
        *,
        parent: str = "",
        child: str = "",
        twist: ArrayLike | None = None,
    ) -> bool:
        """Learn one pose.

        Args:
            stamp_ns: its time.
            parent_T_child: [4, 4].
            parent: frame of the pose.
            child: frame on the vehicle; empty is the base.
            twist: [6] in child axes, see ``PoseBuffer.add``.

        Returns:
            False: it contradicts those before it, see ``PoseBuffer.add``.
        """
        frames = parent.lstrip("/"), child.lstrip("/") or self._base
        with self._lock:
            if self._frames not in (None, frames):
                # Poses of two frames must not be mixed; the newer publisher is believed.
                self._poses.clear()
                self._report(
                    f"odometry changed from {self._frames} to {frames} (frame, child frame): are "
                    "there two publishers? poses before that are not used"
                )
            self._frames = frames
            return self._poses.add(stamp_ns, parent_T_child, twist=twist)

    def set_back(self, stamp_ns: int, *, from_ns: int) -> None:
        """The sensors' time was set back, see ``PoseBuffer.set_back``."""
        with self._lock:
            self._poses.set_back(stamp_ns, from_ns=from_ns)

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._poses.clear()
            self._frames = None

    def stretch(self, stamp_ns: int) -> int:
        """Another number after a jump, a change of frames or ``clear``."""
        return self._poses.stretch(stamp_ns)

    def pose(self, stamp_ns: int) -> Array | None:
        """``parent_T_base`` [4, 4] at a time. Raises MotionError."""
        return self._parent_T_base(stamp_ns, self._child_T_base())

    def ego_T_ego(self, stamp_ns: int, reference_ns: int) -> Array:
        """[4, 4] from base at ``stamp_ns`` to base at ``reference_ns``. Raises MotionError."""
        child_T_base = self._child_T_base()
        return geometry.invert(
            self._parent_T_base(reference_ns, child_T_base)
        ) @ self._parent_T_base(stamp_ns, child_T_base)

    def _parent_T_base(self, stamp_ns: int, child_T_base: Array | None) -> Array:
        pose = self._poses.at(stamp_ns)
        return pose if child_T_base is None else pose @ child_T_base

    def _child_T_base(self) -> Array | None:
        """None where odometry is of the base itself."""
        child = self._base if self._frames is None else self._frames[1]
        if child == self._base:
            return None
        try:
            return geometry.invert(self._extrinsics.base_T(child))
        except MotionError as error:
            raise MotionError(
                f"odometry is of {child!r}, not of base_frame {self._base!r}, and where {child!r} "
                f"sits is not known: {error}"
            ) from error
