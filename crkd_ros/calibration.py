"""Where the sensors sit, as a tree of static transforms and as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from crkd_core import geometry
from crkd_ros.motion import Array, MotionError


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
