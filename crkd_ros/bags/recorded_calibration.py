"""The calibration that a nuScenes data set or a bag holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.frames import layout_in
from crkd_ros.bags.reader import open_rosbag2
from crkd_ros.bags.survey import Survey
from crkd_ros.convert.camera_model import CameraModel
from crkd_ros.motion.calibration_file import Calibration, CameraEntry
from crkd_ros.motion.poses import MotionError
from crkd_ros.parameters.framing import FramingConfig

#: Poses and intrinsics closer together than this are one calibration: metres and radians, pixels.
_SAME_POSE, _SAME_PIXELS = 1e-3, 0.5


class CalibrationError(ValueError):
    """A source that does not say where the sensors sit, or says two things."""


def of_dataset(tables: NuScenes, scene: str | None = None) -> Calibration:
    """The calibration in the tables of a data set.

    Args:
        tables: an opened nuScenes data set.
        scene: which scene's; None = that of all scenes, which must then be one.

    Raises:
        CalibrationError: scenes differ and none is named (nuScenes was recorded with several
            cars), or a sensor changes within a scene.
    """
    calibration = Calibration()
    first: dict[str, str] = {}
    for name in [scene] if scene is not None else tables.scenes:
        seen = set[str]()
        for record in tables.calibrations(name):
            frame = record.channel.lower()
            if record.channel not in CAMERAS + RADARS:
                continue
            camera = None
            if record.channel in CAMERAS:
                if not record.intrinsics[0, 0] > 0:
                    raise CalibrationError(f"{record.path}: its calibration has no intrinsics")
                size = (record.width, record.height)
                camera = CameraEntry(intrinsics=record.intrinsics, image_size=size)
            if frame not in first:
                first[frame] = name
                calibration.add("base_link", frame, record.ego_T_sensor)
                if camera is not None:
                    calibration.add_camera(frame, camera)
            elif difference := _difference(calibration, frame, record.ego_T_sensor, camera):
                where = "within it" if frame in seen else f"from {first[frame]}"
                raise CalibrationError(
                    f"{tables.root}: {frame} of {name} differs {where} by {difference}; "
                    + (
                        "no single file can say so"
                        if frame in seen
                        else f"name one with --scene, e.g. --scene {name}"
                    )
                )
            seen.add(frame)
    if not first:
        raise CalibrationError(f"{tables.root}: no camera and no radar in {scene or 'any scene'}")
    return calibration


def of_bag(
    path: Path,
    *,
    base: str = "base_link",
    framing: FramingConfig | None = None,
    topics: Mapping[str, str] | None = None,
) -> Calibration:
    """The calibration in a bag: its transforms, static ones and others, and CameraInfo.

    Args:
        path: a rosbag2, see ``find_layout``.
        base: the vehicle's frame.
        framing: as the node has it.
        topics: what the user names, see ``find_layout``.

    Raises:
        BagError: not a readable bag, or no known sensor in it.
        CalibrationError: no transforms, none of a sensor, or two different ones of a frame or of
            a camera.
    """
    framing = replace(framing or FramingConfig(), base_frame=base, calibration_file="")
    with open_rosbag2(path) as bag:
        layout = layout_in(bag, framing, topics)
        survey = Survey(bag, layout, base=base, heads_only=True)
    tree = survey.tree
    if wrong := tree.contradiction():
        raise CalibrationError(f"{path}: {wrong}")
    if not set(tree.frames) - set(tree.ancestors(base)):
        raise CalibrationError(
            f"{path}: no sensor transform on /tf_static or /tf; write the file from the data "
            "set instead (--data), or by hand (config/calibration.yaml)"
        )
    calibration = Calibration(base=base)
    for sensor in CAMERAS + RADARS:
        if sensor not in survey.heads:
            continue
        frame = survey.frames[sensor] or sensor.lower()
        try:
            matrix = tree.base_T(frame)
            moving = tree.moving(frame)
        except MotionError as error:
            raise CalibrationError(f"{path}: {sensor}: {error}") from error
        if moving:
            raise CalibrationError(
                f"{path}: the transform of {', '.join(moving)} changes within the bag, "
                f"so no file can say where {sensor} sits; use tf live, or cut the bag"
            )
        calibration.add(base, frame, matrix)
        if sensor in layout.images:
            if sensor not in survey.infos:
                raise CalibrationError(f"{path}: {sensor} has no camera_info")
            if sensor in survey.changing:
                raise CalibrationError(
                    f"{path}: {layout.infos[sensor].name} changes within the bag, so no file can "
                    f"say what {sensor} is; leave its camera_info to the bag, or cut it"
                )
            rectified = framing.cameras.of(sensor).is_rectified(layout.images[sensor].name)
            entry = camera_entry(survey.infos[sensor], rectified=rectified)
            calibration.add_camera(frame, entry)
    return calibration


def camera_entry(info: Any, *, rectified: bool) -> CameraEntry:
    """A sensor_msgs/CameraInfo as an entry of a calibration file. Raises ConvertError."""
    model = CameraModel.of_info(info, rectified=rectified)
    turned = np.array(model.rotation).T
    return CameraEntry(
        intrinsics=np.array(model.matrix),
        image_size=model.size,
        distortion_model=model.distortion if model.coefficients else "",
        distortion=model.coefficients,
        rectification=None if np.allclose(turned, np.eye(3), atol=1e-6) else turned,
    )


def _same_pose(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    return bool(np.abs(a - b).max() < _SAME_POSE)


def _difference(
    calibration: Calibration, frame: str, pose: NDArray[np.float64], camera: CameraEntry | None
) -> str:
    """How far this is from what the calibration says; empty = not."""
    known = calibration.base_T(frame)
    if not _same_pose(known, pose):
        metres = float(np.linalg.norm((geometry.invert(known) @ pose)[:3, 3]))
        turn = np.trace(known[:3, :3].T @ pose[:3, :3])
        degrees = float(np.rad2deg(np.arccos(np.clip((turn - 1) / 2, -1, 1))))
        return f"{metres:.3f} m and {degrees:.2f} degrees"
    old = calibration.camera(frame)
    if old is None or camera is None:
        return ""
    if old.image_size != camera.image_size:
        return f"its image size, {camera.image_size} after {old.image_size}"
    pixels = float(np.abs(old.intrinsics - camera.intrinsics).max())
    return f"{pixels:.1f} pixels in its intrinsics" if pixels > _SAME_PIXELS else ""
