"""Where the sensors sit, as a tree of static transforms and as a file."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import yaml

from crkd_core import geometry
from crkd_core.calibration import is_rotation
from crkd_core.config import ConfigError
from crkd_core.config.yaml_text import load_yaml
from crkd_core.files import read_file, write_text
from crkd_ros.convert import camera_info
from crkd_ros.motion.poses import Array, MotionError, frame_key

#: What a file may say of a camera besides its matrix.
_OF_IMAGES = {"image_size", "distortion_model", "distortion", "rectification"}


@dataclass(frozen=True, kw_only=True)
class CameraEntry:
    """What a calibration file says of a camera: the fields of its CameraInfo.

    Attributes:
        intrinsics: [3, 3] pinhole matrix of the published images.
        image_size: (width, height) that it is for; None = not said.
        distortion_model: as in CameraInfo ("plumb_bob", "equidistant", ...); "" = none.
        distortion: its coefficients; empty = the images are rectified.
        rectification: [3, 3], ``r`` of rectified images of a stereo pair; None = no turn.
    """

    intrinsics: Array
    image_size: tuple[int, int] | None = None
    distortion_model: str = ""
    distortion: tuple[float, ...] = ()
    rectification: Array | None = None


class Calibration:
    """Static transforms as a tree of named frames, and cameras by frame.

    Names are compared without case and without a leading slash: bags spell the same frame
    ``CAM_FRONT`` or ``cam_front``.
    """

    def __init__(self, *, base: str = "base_link") -> None:
        self._base = base
        self._parents: dict[str, tuple[str, Array]] = {}
        self._cameras: dict[str, CameraEntry] = {}

    @property
    def base(self) -> str:
        """The vehicle's frame."""
        return self._base

    @property
    def frames(self) -> list[str]:
        """Names of the frames that have a parent, in lower case, sorted."""
        return sorted(self._parents)

    def add(self, parent: str, child: str, parent_T_child: Array) -> None:
        """Learn or replace one static transform."""
        self._parents[frame_key(child)] = (
            frame_key(parent),
            np.asarray(parent_T_child, np.float64),
        )

    def chain(self, frame: str) -> list[str]:
        """The frame and those between it and the base. Raises MotionError."""
        names, name = list[str](), frame_key(frame)
        while name != frame_key(self._base):
            if name not in self._parents or name in names:
                known = ", ".join(sorted(self._parents)) or "none"
                raise MotionError(
                    f"no static transform from {self._base} to {frame!r}; known frames: {known}. "
                    "Publish it on /tf_static or list the sensor in calibration_file"
                )
            names.append(name)
            name = self._parents[name][0]
        return names

    def add_camera(self, frame: str, camera: CameraEntry) -> None:
        """Learn or replace what CameraInfo would say of a camera."""
        self._cameras[frame_key(frame)] = camera

    def base_T(self, frame: str, stamp_ns: int | None = None) -> Array:
        """``base_T_frame`` [4, 4] along the chain of parents, at any time.

        Raises:
            MotionError: the chain does not reach the base frame; names the frames that are known.
        """
        matrix = np.eye(4)
        for name in self.chain(frame):
            matrix = self._parents[name][1] @ matrix
        return matrix

    def intrinsics(self, frame: str) -> Array | None:
        """[3, 3] of a camera, or None where only its CameraInfo can tell."""
        camera = self.camera(frame)
        return None if camera is None else camera.intrinsics

    def camera(self, frame: str) -> CameraEntry | None:
        """The camera in this frame, or None where only its CameraInfo can tell."""
        return self._cameras.get(frame_key(frame))

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, base: str = "base_link") -> Calibration:
        """Read a calibration file (its form is explained in config/calibration.yaml).

        Raises:
            MotionError: missing, not YAML, or an entry that is not a pose; names file and sensor.
        """
        calibration = cls(base=base)
        try:
            data = load_yaml(read_file(path))
        except OSError as error:
            raise MotionError(f"{path}: cannot read calibration file: {error.strerror}") from error
        except ConfigError as error:
            raise MotionError(f"{path}: cannot read calibration file: {error}") from error
        sensors = data.get("sensors") if isinstance(data, dict) else None
        if not isinstance(sensors, dict) or not sensors:
            raise MotionError(f"{path}: expected a mapping 'sensors' of frame names to poses")
        names: dict[str, str] = {}
        for name, entry in sensors.items():
            other = names.setdefault(frame_key(str(name)), str(name))
            if other != str(name):
                raise MotionError(
                    f"{path}: {other!r} and {str(name)!r} are one sensor (case does not matter); "
                    "leave one of them out"
                )
            if frame_key(str(name)) == frame_key(base):
                raise MotionError(
                    f"{path}: {str(name)!r} is the vehicle's own frame, which sits at its own "
                    "origin; leave it out, or name another base_frame"
                )
            try:
                calibration.add(base, str(name), _pose_entry(entry))
                camera = _camera_entry(entry)
                if camera is not None:
                    calibration.add_camera(str(name), camera)
            except (KeyError, TypeError, ValueError, OverflowError) as error:
                raise MotionError(f"{path}: sensor {name!r}: {error}") from error
        return calibration

    def save(self, path: str | os.PathLike[str], *, comment: str = "") -> None:
        """Write every frame that reaches the base, in the form that ``load`` reads.

        The file appears under its name only when it is whole.

        Args:
            path: the file; an old one is replaced.
            comment: lines at its beginning.

        Raises:
            MotionError: a frame does not reach the base.
        """
        sensors: dict[str, Any] = {}
        for name in self.frames:
            base_T_sensor = self.base_T(name)
            quat = geometry.matrix_to_quat_wxyz(base_T_sensor[:3, :3])
            sensors[name] = {
                "translation": base_T_sensor[:3, 3].tolist(),
                "rotation_xyzw": geometry.quat_wxyz_to_xyzw(quat).tolist(),
            }
            if name in self._cameras:
                sensors[name] |= _camera_fields(self._cameras[name])
        head = "".join(f"# {line}".rstrip() + "\n" for line in comment.splitlines())
        body = yaml.safe_dump(
            {"sensors": sensors}, sort_keys=False, default_flow_style=None, width=99
        )
        write_text(head + body, path)


def _camera_fields(camera: CameraEntry) -> dict[str, Any]:
    fields: dict[str, Any] = {"intrinsics": camera.intrinsics.tolist()}
    if camera.image_size is not None:
        fields["image_size"] = list(camera.image_size)
    if camera.distortion:
        fields["distortion_model"] = camera.distortion_model
        fields["distortion"] = list(camera.distortion)
    if camera.rectification is not None:
        fields["rectification"] = camera.rectification.tolist()
    return fields


def _camera_entry(entry: Mapping[str, Any]) -> CameraEntry | None:
    """The camera of one sensor of a calibration file."""
    known = _OF_IMAGES & set(entry)
    if "intrinsics" not in entry:
        if known:
            raise ValueError(f"{', '.join(sorted(known))} without intrinsics")
        return None
    matrix = np.asarray(entry["intrinsics"], np.float64)
    if matrix.shape != (3, 3):
        raise ValueError(f"intrinsics: expected 3 rows of 3, got {entry['intrinsics']}")
    matrix = camera_info.calibration(matrix, 3, "intrinsics")
    size = entry.get("image_size")
    if size is not None:
        whole = isinstance(size, Sequence) and all(type(value) is int for value in size)
        if not whole or len(size) != 2 or min(size) < 1:
            raise ValueError(f"image_size: expected [width, height] in pixels, got {size}")
        size = size[0], size[1]
    if ("distortion" in known) != ("distortion_model" in known):
        raise ValueError("distortion and distortion_model belong together")
    model = str(entry.get("distortion_model", ""))
    distortion = np.asarray(entry.get("distortion", ()), np.float64)
    if distortion.ndim != 1:
        raise ValueError(f"distortion: expected a list of numbers, got {entry['distortion']}")
    camera_info.distortion(model, distortion, "distortion")
    rectification = entry.get("rectification")
    if rectification is not None:
        rectification = np.asarray(rectification, np.float64)
        if rectification.shape != (3, 3) or not is_rotation(rectification):
            raise ValueError(
                f"rectification: expected a rotation, 3 rows of 3 (r of CameraInfo), got "
                f"{entry['rectification']}"
            )
        if distortion.any():
            raise ValueError("rectification is of rectified images, which have no distortion")
    return CameraEntry(
        intrinsics=matrix,
        image_size=size,
        distortion_model=model,
        distortion=tuple(distortion.tolist()),
        rectification=rectification,
    )


def _pose_entry(entry: Mapping[str, Any]) -> Array:
    """The pose of one sensor of a calibration file."""
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected a mapping, got {entry!r}")
    keys = {"translation", "rotation_xyzw", "rotation_wxyz", "intrinsics"} | _OF_IMAGES
    unknown = set(entry) - keys
    if unknown:
        names = ", ".join(sorted(map(str, unknown)))
        raise ValueError(f"unknown keys {names}; known: {', '.join(sorted(keys))}")
    if "translation" not in entry:
        raise ValueError("a pose needs a translation")
    if ("rotation_xyzw" in entry) == ("rotation_wxyz" in entry):
        raise ValueError("give either rotation_xyzw (ROS order) or rotation_wxyz (nuScenes order)")
    xyzw = "rotation_xyzw" in entry
    quat = np.asarray(entry["rotation_xyzw" if xyzw else "rotation_wxyz"], np.float64)
    translation = np.asarray(entry["translation"], np.float64)
    if translation.shape != (3,) or quat.shape != (4,):
        raise ValueError(
            "expected a translation of 3 numbers and a rotation of 4, a quaternion, got "
            f"{entry['translation']} and {quat.tolist()}"
        )
    return geometry.pose(translation, geometry.quat_xyzw_to_wxyz(quat) if xyzw else quat)
