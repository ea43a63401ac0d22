"""Writes a nuScenes-format data set, such as the world's drives, as View-of-Delft (docs/vod.md).

One camera, one radar, one LiDAR: CAM_FRONT, RADAR_FRONT and LIDAR_TOP of the key frames. The LiDAR
frame of the files is ego raised by LIDAR_HEIGHT, so that a reader's ego is the vehicle's again.
Frames are numbered by their time in tenths of a second, drive after drive with a gap between.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import Boxes
from crkd_core.data.nuscenes.classes import NUSCENES_ATTRIBUTES
from crkd_core.data.nuscenes.reader import NuScenesFrames
from crkd_core.data.nuscenes.record import Record
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.data.nuscenes.tables import read_table
from crkd_core.data.radar_file import read_pcd
from crkd_core.data.vod.boxes import to_objects
from crkd_core.data.vod.calibration import Calibration, encode_calibration
from crkd_core.data.vod.classes import VOD_CLASSES
from crkd_core.data.vod.errors import VodError
from crkd_core.data.vod.labels import encode_labels
from crkd_core.data.vod.layout import CAMERA, LIDAR_FOLDER, RADAR, RADAR_FOLDERS
from crkd_core.data.vod.lidar import EGO_T_LIDAR, encode_cloud
from crkd_core.data.vod.poses import MAP, ODOMETRY, UTM, encode_pose
from crkd_core.data.vod.radar import encode_scans
from crkd_core.data.vod.reader import FRAME_HZ
from crkd_core.frame import Frame
from crkd_core.sensors import CAMERAS, LIDAR, RADAR_COLUMN, RADAR_XYZ

#: What of a car of nuScenes is written.
CHANNELS = (CAMERA, RADAR, LIDAR)
#: Objects further from the LiDAR are not annotated, metres.
ANNOTATION_RANGE = 50.0
#: Frames between two drives.
GAP = 100
#: Names have five digits.
MOST_FRAMES = 100_000

#: nuScenes class -> View-of-Delft's; cones and barriers have none. Cycles with a rider: _RIDDEN.
_CLASS = {
    "car": "Car",
    "truck": "truck",
    "bus": "vehicle_other",
    "trailer": "vehicle_other",
    "construction_vehicle": "vehicle_other",
    "pedestrian": "Pedestrian",
    "motorcycle": "motor",
    "bicycle": "bicycle",
}
_RIDDEN = {"bicycle": "Cyclist"}
_WITH_RIDER = NUSCENES_ATTRIBUTES.index("cycle.with_rider")
#: nuScenes visibility level -> occlusion, 0 fully visible to 2 largely hidden.
_OCCLUSION = {"1": 2, "2": 1, "3": 1, "4": 0}


def check_names(drives: int, seconds: float) -> None:
    """Refuse drives whose frames numbers of five digits do not name, before they are made.

    Args:
        drives: how many.
        seconds: from the first frame of a drive to its last.

    Raises:
        VodError: there are too many.
    """
    last = drives * round(seconds * FRAME_HZ) + (drives - 1) * GAP
    if last >= MOST_FRAMES:
        raise VodError(
            f"{drives} drives of {seconds:g} s: expected frames with names of five digits, got a "
            f"last one of number {last}; write fewer or shorter drives"
        )


def write_vod(tables: NuScenes, out: Path, *, splits: Mapping[str, str]) -> None:
    """Write key frames as a View-of-Delft data set.

    Args:
        tables: the data set, with boxes.
        out: folder to write into, which appears whole (``files.replacing``).
        splits: name of a list in ImageSets -> split of ``tables``; no scene in two of them.

    Raises:
        VodError: more frames than names have digits for.
        NuScenesError: see the reader.
    """
    marks = _marks(tables)
    for folder, kinds in (
        (LIDAR_FOLDER, ("calib", "image_2", "label_2", "pose", "velodyne")),
        *((names[0], ("calib", "velodyne")) for names in RADAR_FOLDERS.values()),
    ):
        (out / folder / "ImageSets").mkdir(parents=True)
        for kind in kinds:
            (out / folder / "training" / kind).mkdir(parents=True)
    start = 0
    lists: dict[str, list[str]] = {}
    for listed, split in splits.items():
        for scene in tables.scenes_of(split):
            names = _write_drive(tables, scene, out, start=start, marks=marks)
            lists.setdefault(listed, []).extend(names)
            start = int(names[-1]) + GAP
    lists["full"] = [name for names in lists.values() for name in names]
    for folder in (LIDAR_FOLDER, *(names[0] for names in RADAR_FOLDERS.values())):
        for listed, names in lists.items():
            path = out / folder / "ImageSets" / f"{listed}.txt"
            path.write_text("".join(f"{name}\n" for name in names))


def _write_drive(
    tables: NuScenes, scene: str, out: Path, *, start: int, marks: Mapping[str, list[list[int]]]
) -> list[str]:
    """Write one drive, its frames numbered from ``start`` on; their names."""
    tokens = tables.samples_of_scene(scene)
    frames = NuScenesFrames(
        tables, tokens, radar_sweeps=0, lidar_sweeps=1, sensors=(CAMERA, RADAR)
    )
    sweeps = list(tables.records(scene, RADAR))
    first = _key(tables, tokens[0], CAMERA)
    names = []
    for token, frame in zip(tokens, frames, strict=True):
        camera = _key(tables, token, CAMERA)
        number = start + round((camera.stamp_ns - first.stamp_ns) * 1e-9 * FRAME_HZ)
        if number >= MOST_FRAMES:
            raise VodError(
                f"frame {number}: names have five digits; write fewer or shorter drives"
            )
        names.append(f"{number:05d}")
        folder = out / LIDAR_FOLDER / "training"
        lidar = _camera_T_lidar(camera)
        text = _labels(tables, token, frame, camera, marks.get(token, []))
        (folder / "image_2" / f"{names[-1]}.jpg").write_bytes(camera.path.read_bytes())
        (folder / "label_2" / f"{names[-1]}.txt").write_text(text)
        (folder / "velodyne" / f"{names[-1]}.bin").write_bytes(_cloud(frame, lidar))
        (folder / "calib" / f"{names[-1]}.txt").write_text(_calibration(camera, lidar))
        map_T_camera = camera.global_T_ego @ camera.ego_T_sensor
        poses = {
            ODOMETRY: geometry.invert(first.global_T_ego) @ map_T_camera,
            MAP: map_T_camera,
            UTM: map_T_camera,
        }
        (folder / "pose" / f"{names[-1]}.json").write_text(encode_pose(poses))
        _write_radar(sweeps, camera, out, names[-1])
    return names


def _write_radar(sweeps: Sequence[Record], camera: Record, out: Path, name: str) -> None:
    """Write the clouds of one, three and five scans, the newest not later than the image."""
    chain = [sweep for sweep in sweeps if sweep.stamp_ns <= camera.stamp_ns]
    chain = chain[::-1][: max(RADAR_FOLDERS)]
    camera_T_radar = geometry.invert(camera.ego_T_sensor) @ sweeps[0].ego_T_sensor
    radar_T_global = geometry.invert(camera.global_T_ego @ camera.ego_T_sensor @ camera_T_radar)
    parts = [np.zeros((0, 7))]
    for scan, sweep in enumerate(chain):
        points = read_pcd(sweep.path)
        ray = points[:, :2] / np.maximum(np.hypot(*points[:, :2].T), 1e-6)[:, None]
        speeds = [
            ray[:, 0] * points[:, RADAR_COLUMN[x]] + ray[:, 1] * points[:, RADAR_COLUMN[y]]
            for x, y in (("vx", "vy"), ("vx_comp", "vy_comp"))
        ]
        moved = radar_T_global @ sweep.global_T_ego @ sweep.ego_T_sensor
        place = geometry.apply(moved, points[:, RADAR_XYZ])
        age = np.full(len(points), -scan)
        parts.append(np.column_stack([place, points[:, RADAR_COLUMN["rcs"]], *speeds, age]))
    cloud = np.concatenate(parts)
    text = _calibration(camera, camera_T_radar)
    for count, (folder, *_) in RADAR_FOLDERS.items():
        place_of = out / folder / "training"
        kept = cloud[cloud[:, 6] > -count]
        (place_of / "velodyne" / f"{name}.bin").write_bytes(encode_scans(kept))
        (place_of / "calib" / f"{name}.txt").write_text(text)


def _labels(
    tables: NuScenes, token: str, frame: Frame, camera: Record, marks: list[list[int]]
) -> str:
    """The label file of a key frame: what is near, in the image and touched by a return."""
    row, index = tables.sample_row(token), tables.index
    known = index.box_label[np.arange(*index.sample_boxes[row : row + 2])] >= 0
    truth = frame.truth
    assert truth is not None  # The tables have boxes.
    names = [
        _RIDDEN.get(truth.classes[label], _CLASS.get(truth.classes[label], ""))
        if attribute == _WITH_RIDER
        else _CLASS.get(truth.classes[label], "")
        for label, attribute in zip(truth.label, truth.attribute, strict=True)
    ]
    kept = np.array([bool(name) for name in names], bool)
    kept &= truth.counts
    near = np.linalg.norm(truth.center - EGO_T_LIDAR[:3, 3], axis=1) < ANNOTATION_RANGE
    chosen = np.flatnonzero(kept & near)
    boxes = Boxes(
        center=truth.center[chosen],
        size=truth.size[chosen],
        yaw=truth.yaw[chosen],
        velocity=truth.velocity[chosen],
        label=np.array([VOD_CLASSES.index(names[i]) for i in chosen], np.int64),
        classes=VOD_CLASSES,
    )
    objects = to_objects(
        boxes.transformed(_own_T_reference(frame, camera)),
        ego_T_lidar=EGO_T_LIDAR,
        camera_T_lidar=_camera_T_lidar(camera),
        intrinsics=camera.intrinsics,
        image_size=(camera.width, camera.height),
    )
    number, hidden = np.array(marks, np.int64).reshape(-1, 2)[known][chosen].T
    objects.track[:], objects.occluded[:] = number, hidden
    return encode_labels(objects.select(objects.shown))


def _cloud(frame: Frame, camera_T_lidar: NDArray[np.float64]) -> bytes:
    """The LiDAR file of a key frame; reflectance in 0..1, as KITTI has it."""
    if frame.lidar is None:
        raise VodError(f"sample {frame.token} has no LiDAR, in whose axes boxes are told")
    ego_T_camera = frame.ego_T_cam[CAMERAS.index(CAMERA)]
    moved = geometry.invert(camera_T_lidar) @ geometry.invert(ego_T_camera)
    points = geometry.apply(moved, frame.lidar[:, :3])
    return encode_cloud(np.column_stack([points, frame.lidar[:, 3] / 255]))


def _own_T_reference(frame: Frame, camera: Record) -> NDArray[np.float64]:
    """Ego at the Frame's reference to ego at the image's own time; one where that is the same."""
    return camera.ego_T_sensor @ geometry.invert(frame.ego_T_cam[CAMERAS.index(CAMERA)])


def _camera_T_lidar(camera: Record) -> NDArray[np.float64]:
    return geometry.invert(camera.ego_T_sensor) @ EGO_T_LIDAR


def _calibration(camera: Record, camera_T_sensor: NDArray[np.float64]) -> str:
    return encode_calibration(
        Calibration(intrinsics=camera.intrinsics, camera_T_sensor=camera_T_sensor)
    )


def _key(tables: NuScenes, token: str, channel: str) -> Record:
    record = tables.key_record(token, channel)
    if record is None:
        raise VodError(f"sample {token} has no {channel}; View-of-Delft frames need it")
    return record


def _marks(tables: NuScenes) -> dict[str, list[list[int]]]:
    """Sample -> of each of its annotations, in their order, object number and occlusion."""
    marks: dict[str, list[list[int]]] = {}
    numbers: dict[str, int] = {}
    for rows in read_table(tables.root / tables.version / "sample_annotation.json"):
        for row in rows:
            number = numbers.setdefault(row["instance_token"], len(numbers))
            hidden = _OCCLUSION.get(row["visibility_token"], 0)
            marks.setdefault(row["sample_token"], []).append([number, hidden])
    return marks
