"""Where the sensors sit and how the vehicle moves. Pure: no ROS, except a tf2 buffer handed in.

Extrinsics come from static transforms (tf or ``/tf_static``) or a calibration file. Ego motion
comes from poses (``/odom``, or ``/tf`` in replay), from tf2, or is switched off by the user. What
is not known is an error: the identity never stands in for a missing transform.
"""

from __future__ import annotations

import bisect
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import yaml
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


class Calibration:
    """Static transforms as a tree of named frames, and intrinsics by frame.

    Names are compared without case and without a leading slash: bags spell the same frame
    ``CAM_FRONT`` or ``cam_front``.
    """

    def __init__(self, *, base: str = "base_link") -> None:
        self._base = base
        self._parents: dict[str, tuple[str, Array]] = {}
        self._intrinsics: dict[str, Array] = {}

    def add(self, parent: str, child: str, parent_T_child: Array) -> None:
        """Learn or replace one static transform."""
        self._parents[_key(child)] = (_key(parent), np.asarray(parent_T_child, np.float64))

    def add_intrinsics(self, frame: str, intrinsics: Array) -> None:
        """Learn the [3, 3] pinhole matrix of a camera, for cameras without CameraInfo."""
        self._intrinsics[_key(frame)] = np.asarray(intrinsics, np.float64)

    def base_T(self, frame: str) -> Array:
        """``base_T_frame`` [4, 4] along the chain of parents.

        Raises:
            MotionError: the chain does not reach the base frame; names the frames that are known.
        """
        matrix, name, seen = np.eye(4), _key(frame), set[str]()
        while name != _key(self._base):
            if name not in self._parents or name in seen:
                known = ", ".join(sorted(self._parents)) or "none"
                raise MotionError(
                    f"no static transform from {self._base} to {frame!r}; known frames: {known}. "
                    "Publish it on /tf_static or list the sensor in calibration_file"
                )
            seen.add(name)
            name, parent_T_child = self._parents[name]
            matrix = parent_T_child @ matrix
        return matrix

    def intrinsics(self, frame: str) -> Array | None:
        """[3, 3] of a camera, or None where only its CameraInfo can tell."""
        return self._intrinsics.get(_key(frame))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, base: str = "base_link") -> Calibration:
        """Read a calibration file (its form is explained in config/calibration.yaml).

        Raises:
            MotionError: missing, not YAML, or an entry that is not a pose; names file and sensor.
        """
        calibration = cls(base=base)
        try:
            data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise MotionError(f"{path}: cannot read calibration file: {error}") from error
        sensors = data.get("sensors") if isinstance(data, dict) else None
        if not isinstance(sensors, dict) or not sensors:
            raise MotionError(f"{path}: expected a mapping 'sensors' of frame names to poses")
        for name, entry in sensors.items():
            try:
                calibration.add(base, str(name), _pose_entry(entry))
                if "intrinsics" in entry:
                    matrix = np.asarray(entry["intrinsics"], np.float64)
                    if matrix.shape != (3, 3) or not matrix[0, 0] > 0:
                        raise ValueError(f"intrinsics: expected 3 rows of 3, got {matrix.shape}")
                    calibration.add_intrinsics(str(name), matrix)
            except (KeyError, TypeError, ValueError) as error:
                raise MotionError(f"{path}: sensor {name!r}: {error}") from error
        return calibration

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write every frame that reaches the base, in the form that ``load`` reads."""
        sensors: dict[str, Any] = {}
        for name in sorted(self._parents):
            base_T_sensor = self.base_T(name)
            quat = geometry.matrix_to_quat_wxyz(base_T_sensor[:3, :3])
            sensors[name] = {
                "translation": base_T_sensor[:3, 3].tolist(),
                "rotation_xyzw": geometry.quat_wxyz_to_xyzw(quat).tolist(),
            }
            if name in self._intrinsics:
                sensors[name]["intrinsics"] = self._intrinsics[name].tolist()
        part = Path(f"{path}.part")
        part.write_text(yaml.safe_dump({"sensors": sensors}, sort_keys=False), encoding="utf-8")
        part.replace(path)


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


def _key(frame: str) -> str:
    return frame.lstrip("/").lower()


def _pose_entry(entry: Mapping[str, Any]) -> Array:
    """The pose of one sensor of a calibration file."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected a mapping, got {entry!r}")
    keys = {"translation", "rotation_xyzw", "rotation_wxyz", "intrinsics"}
    unknown = set(entry) - keys
    if unknown:
        raise ValueError(f"unknown keys {sorted(unknown)}; known: {', '.join(sorted(keys))}")
    if "translation" not in entry:
        raise ValueError("a pose needs a translation")
    if ("rotation_xyzw" in entry) == ("rotation_wxyz" in entry):
        raise ValueError("give either rotation_xyzw (ROS order) or rotation_wxyz (nuScenes order)")
    if "rotation_wxyz" in entry:
        quat = np.asarray(entry["rotation_wxyz"], np.float64)
    else:
        quat = geometry.quat_xyzw_to_wxyz(entry["rotation_xyzw"])
    translation = np.asarray(entry["translation"], np.float64)
    if translation.shape != (3,) or quat.shape != (4,):
        raise ValueError(f"expected translation [3] and rotation [4], got {dict(entry)}")
    return geometry.pose(translation, quat)
