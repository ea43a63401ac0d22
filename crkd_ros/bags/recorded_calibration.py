"""The calibration that a nuScenes data set or a bag holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.container import Bag, Topic
from crkd_ros.bags.frames import layout_in
from crkd_ros.bags.reader import open_rosbag2
from crkd_ros.convert import arrays
from crkd_ros.convert.camera_model import CameraModel, CamerasConfig
from crkd_ros.motion.calibration_file import Calibration, CameraEntry
from crkd_ros.motion.poses import MotionError

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


def of_bag(path: Path, *, base: str = "base_link") -> Calibration:
    """The calibration in a bag: /tf_static (or sensors on /tf), and CameraInfo.

    Args:
        path: a rosbag2, see ``layout_of``.
        base: the vehicle's frame.

    Raises:
        BagError: not a readable bag, or no known sensor in it.
        CalibrationError: no transforms, none of a sensor, or two different ones of one.
    """
    with open_rosbag2(path) as bag:
        layout = layout_in(bag)
        tree, moving = _sensor_tree(bag, base)
        heads = _first_messages(bag, [*layout.images.values(), *layout.radars.values()])
        infos = _first_messages(bag, [layout.infos[camera] for camera in layout.images])
    calibration = Calibration(base=base)
    for sensor in CAMERAS + RADARS:
        topic = layout.images.get(sensor) or layout.radars.get(sensor)
        if topic is None or topic.name not in heads:
            continue
        frame = heads[topic.name].header.frame_id or sensor.lower()
        try:
            matrix = tree.base_T(frame)
        except MotionError as error:
            raise CalibrationError(f"{path}: {sensor}: {error}") from error
        if changed := moving & set(tree.chain(frame)):
            raise CalibrationError(
                f"{path}: the transform of {', '.join(sorted(changed))} changes within the bag, "
                f"so no file can say where {sensor} sits; use tf live, or cut the bag"
            )
        calibration.add(base, frame, matrix)
        if sensor in layout.images:
            info = layout.infos[sensor].name
            if info not in infos:
                raise CalibrationError(f"{path}: {info} holds no message")
            rectified = CamerasConfig().is_rectified(topic.name)
            calibration.add_camera(frame, camera_entry(infos[info], rectified=rectified))
    return calibration


def _sensor_tree(bag: Bag, base: str) -> tuple[Calibration, set[str]]:
    """All transforms but those of the vehicle itself, and the frames whose transform changes."""
    tree, moving, transforms = Calibration(base=base), set[str](), 0
    for _, _, message in bag.messages(["/tf_static", "/tf"]):
        for transform in message.transforms:
            child = transform.child_frame_id.lstrip("/").lower()
            if child == base.lstrip("/").lower():
                continue
            matrix = arrays.transform_matrix(transform)
            transforms += 1
            if child in tree.frames and not _same_pose(tree.parent_T(child), matrix):
                moving.add(child)
            tree.add(transform.header.frame_id, child, matrix)
    if not transforms:
        raise CalibrationError(
            f"{bag.path}: no sensor transform on /tf_static or /tf; write the file from the data "
            "set instead (--data), or by hand (config/calibration.yaml)"
        )
    return tree, moving


def _first_messages(bag: Bag, topics: Iterable[Topic]) -> dict[str, Any]:
    """Topic -> its first message; the rest of the bag is not read."""
    wanted = {topic.name for topic in topics if topic.count}
    found: dict[str, Any] = {}
    if wanted:
        for topic, _, message in bag.messages(wanted):
            found.setdefault(topic, message)
            if len(found) == len(wanted):
                break
    return found


def camera_entry(info: Any, *, rectified: bool) -> CameraEntry:
    """A sensor_msgs/CameraInfo as an entry of a calibration file. Raises ConvertError."""
    model = CameraModel.of_info(info, rectified=rectified)
    return CameraEntry(
        intrinsics=np.array(model.matrix),
        image_size=model.size,
        distortion_model=model.distortion if model.coefficients else "",
        distortion=model.coefficients,
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
