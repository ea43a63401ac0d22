"""The nuScenes tables as flat arrays.

Rows of samples are ordered by scene and time; rows of sensor records by scene, channel and time;
rows of boxes by sample. Numbers that point to other rows are row numbers, -1 for none. Strings are
fixed-width UTF-8. Times are nanoseconds (nuScenes writes microseconds).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.nuscenes import columns
from crkd_core.data.nuscenes.columns import Advance
from crkd_core.data.nuscenes.index_boxes import read_boxes
from crkd_core.data.nuscenes.tables import NuScenesError, Row, read_table
from crkd_core.sensors import CAMERAS, LIDAR, RADARS

#: Sensors that the index holds, in the order of its channel columns.
CHANNELS = (*CAMERAS, *RADARS, LIDAR)


@dataclass(frozen=True, kw_only=True)
class Index:
    """Arrays over scenes [C], samples [S], calibrations [K], sensor records [R] and boxes [B]."""

    scene_name: NDArray[np.bytes_]
    scene_description: NDArray[np.bytes_]
    scene_location: NDArray[np.bytes_]
    #: [12 C + 1] first record of every channel of every scene.
    scene_records: NDArray[np.int64]
    sample_token: NDArray[np.bytes_]
    sample_stamp: NDArray[np.int64]
    sample_scene: NDArray[np.int32]
    #: [S, 12] key-frame record per channel.
    sample_key: NDArray[np.int32]
    #: [S + 1] first box of each sample.
    sample_boxes: NDArray[np.int64]
    calib_channel: NDArray[np.int8]
    #: [K, 4, 4] ego_T_sensor.
    calib_pose: NDArray[np.float64]
    #: [K, 3, 3], zeros for sensors that are no cameras.
    calib_intrinsics: NDArray[np.float64]
    record_stamp: NDArray[np.int64]
    record_calib: NDArray[np.int32]
    record_sample: NDArray[np.int32]
    record_previous: NDArray[np.int32]
    record_next: NDArray[np.int32]
    record_is_key: NDArray[np.bool_]
    #: [R, 7] ego pose at the record's time: translation, quaternion w x y z.
    record_pose: NDArray[np.float64]
    record_file: NDArray[np.bytes_]
    #: [R, 2] width, height; zeros for sensors that are no cameras.
    record_size: NDArray[np.int32]
    #: [B, 3] global, metres.
    box_center: NDArray[np.float64]
    #: [B, 3] length, width, height.
    box_size: NDArray[np.float64]
    box_yaw: NDArray[np.float64]
    box_velocity: NDArray[np.float64]
    #: Index into NUSCENES_CLASSES, OTHER or BICYCLE_RACK.
    box_label: NDArray[np.int8]
    box_attribute: NDArray[np.int8]
    box_lidar: NDArray[np.int32]
    box_radar: NDArray[np.int32]


def build_index(folder: Path, advance: Advance = lambda _: None) -> Index:
    """Read the tables of one version folder.

    Args:
        folder: ``<root>/<version>``.
        advance: called with the bytes read since the last call.

    Raises:
        NuScenesError: a missing or malformed table, a missing field, a value of the wrong type, or
            a token that no row has; names the file.
    """
    parts = _scenes_and_samples(folder, advance)
    samples = {token.decode(): i for i, token in enumerate(parts["sample_token"])}
    calibrations, calib_parts = _calibrations(folder, advance)
    parts |= calib_parts
    parts |= _records(folder, advance, samples, calibrations, parts)
    parts |= read_boxes(folder, advance, samples, parts["sample_stamp"])
    return Index(**parts)


def _scenes_and_samples(folder: Path, advance: Advance) -> dict[str, Any]:
    path, rows = columns.whole_table(folder, "log", advance)
    log = columns.numbered(path, rows)
    locations = columns.strings(path, rows, "location")
    path, rows = columns.whole_table(folder, "scene", advance)
    scenes = columns.numbered(path, rows)
    logs = np.array(columns.lookup(path, rows, "log_token", log, "log"), np.int64)
    parts = {
        "scene_name": columns.strings(path, rows, "name"),
        "scene_description": columns.strings(path, rows, "description"),
        "scene_location": locations[logs],
    }
    path, rows = columns.whole_table(folder, "sample", advance)
    scene = columns.lookup(path, rows, "scene_token", scenes, "scene")
    stamp = columns.numbers(path, rows, "timestamp", np.int64) * 1000
    order = np.lexsort((stamp, scene))
    return parts | {
        "sample_token": columns.strings(path, rows, "token")[order],
        "sample_stamp": stamp[order],
        "sample_scene": np.array(scene, np.int32)[order],
    }


def _calibrations(folder: Path, advance: Advance) -> tuple[dict[str, int], dict[str, Any]]:
    path, rows = columns.whole_table(folder, "sensor", advance)
    names = columns.column(path, rows, "channel")
    channels = dict(zip(columns.column(path, rows, "token"), names, strict=True))
    path, rows = columns.whole_table(folder, "calibrated_sensor", advance)
    names = columns.lookup(path, rows, "sensor_token", channels, "sensor")
    intrinsics = np.zeros((len(rows), 3, 3))
    for index, matrix in enumerate(columns.column(path, rows, "camera_intrinsic")):
        if matrix:
            try:
                intrinsics[index] = matrix
            except (ValueError, TypeError) as error:
                raise NuScenesError(
                    f"{path}: camera_intrinsic of {rows[index].get('token')!r}: expected a 3x3 "
                    f"matrix or [], got {matrix!r}"
                ) from error
    poses = columns.poses(path, rows)
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3, :3] = geometry.quat_wxyz_to_matrix(poses[:, 3:])
    matrices[:, :3, 3] = poses[:, :3]
    channel = [CHANNELS.index(name) if name in CHANNELS else -1 for name in names]
    return columns.numbered(path, rows), {
        "calib_channel": np.array(channel, np.int8),
        "calib_pose": matrices,
        "calib_intrinsics": intrinsics,
    }


def _records(
    folder: Path,
    advance: Advance,
    samples: dict[str, int],
    calibrations: dict[str, int],
    known: dict[str, Any],
) -> dict[str, Any]:
    poses: list[NDArray[np.float64]] = []
    pose_row: dict[str, int] = {}
    path = folder / "ego_pose.json"
    for rows in read_table(path, advance):
        columns.numbered(path, rows, pose_row)
        poses.append(columns.poses(path, rows))
    pose = columns.concatenate(poses, (0, 7))

    path = folder / "sample_data.json"
    row_of: dict[str, int] = {}
    parts: dict[str, list[Any]] = {}
    previous: list[str] = []
    for rows in read_table(path, advance):
        columns.numbered(path, rows, row_of)
        previous += columns.column(path, rows, "prev")
        size = [[row.get("width") or 0, row.get("height") or 0] for row in rows]
        for name, values in {
            "stamp": columns.numbers(path, rows, "timestamp", np.int64) * 1000,
            "calib": _rows_of(path, rows, "calibrated_sensor_token", calibrations),
            "sample": _rows_of(path, rows, "sample_token", samples),
            "is_key": columns.numbers(path, rows, "is_key_frame", np.bool_),
            "pose": pose[_rows_of(path, rows, "ego_pose_token", pose_row)],
            "file": columns.strings(path, rows, "filename"),
            "size": np.array(size, np.int32).reshape(-1, 2),
        }.items():
            parts.setdefault(name, []).append(values)
    if not row_of:
        raise NuScenesError(f"{path}: no records; expected the sensor files of the samples")
    whole = {name: np.concatenate(values) for name, values in parts.items()}
    before = np.array([row_of.get(token, -2) if token else -1 for token in previous], np.int32)
    if (before == -2).any():
        token = previous[int(np.argmax(before == -2))]
        raise NuScenesError(f"{path}: a record's prev is {token!r}, which no record has as token")

    channel = known["calib_channel"][whole["calib"]]
    scene = known["sample_scene"][whole["sample"]]
    order = np.lexsort((whole["stamp"], channel, scene))
    order = order[channel[order] >= 0]
    new_row = np.full(len(channel) + 1, -1, np.int32)
    new_row[order] = np.arange(len(order))
    result = {f"record_{name}": values[order] for name, values in whole.items()}
    block = scene[order].astype(np.int64) * len(CHANNELS) + channel[order]
    blocks = np.arange(len(known["scene_name"]) * len(CHANNELS) + 1)
    # "No record", -1, picks the last of new_row, which is -1.
    before = new_row[before[order]]
    after = np.full(len(order), -1, np.int32)
    after[before[before >= 0]] = np.flatnonzero(before >= 0)
    key = np.full((len(samples), len(CHANNELS)), -1, np.int32)
    keys = np.flatnonzero(result["record_is_key"])
    key[result["record_sample"][keys], channel[order][keys]] = keys
    return result | {
        "record_previous": before,
        "record_next": after,
        "sample_key": key,
        "scene_records": np.searchsorted(block, blocks),
    }


def _rows_of(path: Path, rows: list[Row], field: str, table: dict[str, int]) -> NDArray[np.int32]:
    """Row numbers that the tokens of one field point to."""
    return np.array(
        columns.lookup(path, rows, field, table, field.removesuffix("_token")), np.int32
    )
