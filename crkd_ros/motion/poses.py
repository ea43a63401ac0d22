"""What is asked about the vehicle's motion, and the errors where it is not known. Pure: no ROS.

Poses over time are in pose_buffer.py, where the sensors sit in calibration_file.py, tf2 in
tf_tree.py, nav_msgs/Odometry of any frame in odometry.py. What is not known is an error: the
identity never stands in for a missing transform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from crkd_core import geometry

Array = NDArray[np.float64]

#: Poses may be carried on at constant speed this long beyond the newest one, seconds.
EXTRAPOLATION = 0.1
#: Poses further apart than this are not interpolated, seconds. Bags with /tf at key frames only
#: have one every 0.5 s.
LONGEST_GAP = 1.0

#: The speed of a twist may differ from that of its poses by so much, m/s, or by this share of it:
#: poses are noisy; its rate of turning by so much, rad/s, or by this share of it.
SPEED_NOISE, SPEED_SHARE = 1.0, 0.25
TURN_NOISE, TURN_SHARE = 0.2, 0.5

#: Takes one sentence about something that the user should know.
Report = Callable[[str], None]


class MotionError(RuntimeError):
    """A transform or a pose that is not known, or a calibration file that cannot be used."""


class NoTransform(MotionError):
    """Sensors whose place on the vehicle is not known.

    Attributes:
        sensors: sensor -> why.
    """

    def __init__(self, sensors: Mapping[str, str]) -> None:
        self.sensors = dict(sensors)
        reasons: dict[str, list[str]] = {}
        for sensor, reason in sensors.items():
            reasons.setdefault(reason, []).append(sensor)
        texts = (f"{', '.join(names)}: {reason}" for reason, names in reasons.items())
        super().__init__("no transform of " + "; ".join(texts))


class Extrinsics(Protocol):
    """Answers where a sensor sits."""

    def base_T(self, frame: str, stamp_ns: int | None = None) -> Array:
        """``base_T_frame`` [4, 4] at a time (None: now). Raises MotionError when not known."""


class EgoMotion(Protocol):
    """Answers how the vehicle moved."""

    def pose(self, stamp_ns: int) -> Array | None:
        """``map_T_base`` [4, 4] at a time; None where no map is known at all."""

    def ego_T_ego(self, stamp_ns: int, reference_ns: int) -> Array:
        """[4, 4] from base at ``stamp_ns`` to base at ``reference_ns``. Raises MotionError."""

    def stretch(self, stamp_ns: int) -> int:
        """Another number after a jump of the map: what was seen before it is elsewhere now."""

    def clear(self) -> None:
        """Forget what moved: time was set back."""


def frame_key(frame: str) -> str:
    """The name that a frame is known by, however it is written: tf1 wrote a slash before it."""
    return frame.lstrip("/").lower()


def silent(text: str) -> None:
    """The Report of those who do not listen."""


def agrees(twist: Array, moved: Array) -> bool:
    """Whether a twist [6] is that by which poses moved [6]: m/s and rad/s, own axes."""
    speed = float(np.linalg.norm(moved[:3]))
    turn = float(np.linalg.norm(moved[3:]))
    apart = np.linalg.norm(twist[:3] - moved[:3]) <= SPEED_NOISE + SPEED_SHARE * speed
    turned = np.linalg.norm(twist[3:] - moved[3:]) <= TURN_NOISE + TURN_SHARE * turn
    return bool(apart and turned)


def advance(map_T_base: Array, twist: ArrayLike, seconds: float) -> Array:
    """A pose carried on at constant velocity; exact for motion in a plane.

    Args:
        map_T_base: [4, 4].
        twist: [6] linear m/s and angular rad/s, in base axes.
        seconds: how long.
    """
    linear, angular = np.asarray(twist, np.float64).reshape(2, 3) * seconds
    angle = float(np.linalg.norm(angular))
    if angle < 1e-12:
        moved = geometry.pose(linear, [1.0, 0, 0, 0])
    else:
        axis = angular / angle

        def turn(by: float) -> Array:
            return np.array([np.cos(by / 2), *(np.sin(by / 2) * axis)])

        chord = geometry.quat_wxyz_to_matrix(turn(angle / 2)) @ linear
        moved = geometry.pose(chord * np.sin(angle / 2) / (angle / 2), turn(angle))
    return map_T_base @ moved


class NoMotion:
    """The user's own choice ``motion.source: none``: the vehicle is taken to stand still."""

    def pose(self, stamp_ns: int) -> Array | None:
        """None: no map is known."""
        return None

    def ego_T_ego(self, stamp_ns: int, reference_ns: int) -> Array:
        """The identity, as asked for."""
        return np.eye(4)

    def stretch(self, stamp_ns: int) -> int:
        """Always the same: nothing moves."""
        return 0

    def clear(self) -> None:
        """Nothing to forget."""
