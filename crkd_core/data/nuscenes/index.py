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
from crkd_core.data.nuscenes.links import links, velocity_of_vehicle
from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.sensors import CAMERAS, CHANNELS

# What tells units apart, medians over a data set: samples of a scene lie so far apart, seconds; no
# car drives faster, m/s.
_SAMPLE_PERIOD = (1e-3, 120.0)
_SPEED = 120.0


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
    #: What the tables lack and the reader does without, in words.
    notes: NDArray[np.bytes_]


def build_index(folder: Path, advance: Advance = lambda _: None) -> Index:
    """Read the tables of one version folder.

    Args:
        folder: ``<root>/<version>``.
        advance: called with the bytes read since the last call.

    Raises:
        NuScenesError: a missing or malformed table; a row with a field that is missing or not what
            schema.py expects, a token that it has in common with another row or that no row has,
            a ``prev`` or ``next`` that runs in a circle; scenes of one name; units that are not
            those of nuScenes. Names the table, and where it can the row and the field.
    """
    notes: list[str] = []
    parts = _scenes_and_samples(folder, advance)
    samples = {token.decode(): i for i, token in enumerate(parts["sample_token"])}
    calibrations, calib_parts = _calibrations(folder, advance, notes)
    parts |= calib_parts
    parts |= _records(folder, advance, samples, calibrations, parts, notes)
    parts |= read_boxes(folder, advance, samples, parts["sample_stamp"], notes)
    # One more, so that the array has a width; it is no note.
    kept = np.array([*(note.encode() for note in notes), b"-"], np.bytes_)[: len(notes)]
    return Index(**parts, notes=kept)


def _scenes_and_samples(folder: Path, advance: Advance) -> dict[str, Any]:
    part = columns.whole(folder, "log", advance)
    log, locations = columns.numbered(part), part.bytes_of("location")
    part = columns.whole(folder, "scene", advance)
    scenes = columns.numbered(part)
    columns.check_distinct(part, "name")
    logs = np.array(part.lookup("log_token", log, "log"), np.int64)
    found = {
        "scene_name": part.bytes_of("name"),
        "scene_description": part.bytes_of("description"),
        "scene_location": locations[logs],
    }
    part = columns.whole(folder, "sample", advance)
    columns.numbered(part)
    scene = np.array(part.lookup("scene_token", scenes, "scene"), np.int32)
    stamp = part["timestamp"] * 1000
    order = np.lexsort((stamp, scene))
    scene, stamp = scene[order], stamp[order]
    apart = np.diff(stamp)[np.diff(scene) == 0] * 1e-9
    low, high = _SAMPLE_PERIOD
    if len(apart) and not low <= np.median(apart) <= high:
        raise NuScenesError(
            f"{part.path}: timestamp: expected microseconds; read so, the samples of a scene lie "
            f"{np.median(apart):.3g} s apart (median), not {low:g} to {high:g} s"
        )
    return found | {
        "sample_token": part.bytes_of("token")[order],
        "sample_stamp": stamp,
        "sample_scene": scene,
    }


def _calibrations(
    folder: Path, advance: Advance, notes: list[str]
) -> tuple[dict[str, int], dict[str, Any]]:
    part = columns.whole(folder, "sensor", advance)
    columns.numbered(part)
    channels = dict(zip(part["token"], part["channel"], strict=True))
    others = sorted({*channels.values()} - {*CHANNELS})
    if len({*channels.values()}) == len(others):
        raise NuScenesError(
            f"{part.path}: channel: none of {', '.join(others[:10]) or 'no sensors'} is a sensor "
            f"that is known here; expected some of {', '.join(CHANNELS)}"
        )
    if others:
        notes.append(f"{part.path.name}: sensors that nothing reads: {', '.join(others[:20])}")
    part = columns.whole(folder, "calibrated_sensor", advance)
    names = part.lookup("sensor_token", channels, "sensor")
    for index, name in enumerate(names):
        if name in CAMERAS and not part["camera_intrinsic"][index].any():
            raise part.error(index, f"camera_intrinsic: {name} needs a 3x3 matrix, got none")
    matrices = np.tile(np.eye(4), (len(part), 1, 1))
    matrices[:, :3, :3] = geometry.quat_wxyz_to_matrix(part["rotation"])
    matrices[:, :3, 3] = part["translation"]
    channel = [CHANNELS.index(name) if name in CHANNELS else -1 for name in names]
    return columns.numbered(part), {
        "calib_channel": np.array(channel, np.int8),
        "calib_pose": matrices,
        "calib_intrinsics": part["camera_intrinsic"],
    }


def _records(
    folder: Path,
    advance: Advance,
    samples: dict[str, int],
    calibrations: dict[str, int],
    known: dict[str, Any],
    notes: list[str],
) -> dict[str, Any]:
    poses: list[NDArray[np.float64]] = []
    pose_row: dict[str, int] = {}
    for part in columns.parts(folder, "ego_pose", advance):
        columns.numbered(part, pose_row)
        poses.append(part.poses())
    pose = columns.concatenate(poses, (0, 7))

    path = folder / "sample_data.json"
    row_of: dict[str, int] = {}
    found: dict[str, list[Any]] = {}
    previous: list[str] = []
    for part in columns.parts(folder, "sample_data", advance):
        columns.numbered(part, row_of)
        previous += part["prev"]
        calib = part.lookup("calibrated_sensor_token", calibrations, "calibrated_sensor")
        for name, values in {
            "stamp": part["timestamp"] * 1000,
            "calib": np.array(calib, np.int32),
            "sample": np.array(part.lookup("sample_token", samples, "sample"), np.int32),
            "is_key": part["is_key_frame"],
            "pose": pose[part.lookup("ego_pose_token", pose_row, "ego_pose")],
            "file": part.bytes_of("filename"),
            "size": np.stack([part["width"], part["height"]], 1),
        }.items():
            found.setdefault(name, []).append(values)
    if not row_of:
        raise NuScenesError(f"{path}: no records; expected the sensor files of the samples")
    whole = {name: np.concatenate(values) for name, values in found.items()}
    channel = known["calib_channel"][whole["calib"]]
    scene = known["sample_scene"][whole["sample"]]
    before = links(
        path, previous, row_of, field="prev", notes=notes, stamp=whole["stamp"], same=channel
    )
    order = np.lexsort((whole["stamp"], channel, scene))
    order = order[channel[order] >= 0]
    new_row = np.full(len(channel) + 1, -1, np.int32)
    new_row[order] = np.arange(len(order))
    result = {f"record_{name}": values[order] for name, values in whole.items()}
    block = scene[order].astype(np.int64) * len(CHANNELS) + channel[order]
    blocks = np.arange(len(known["scene_name"]) * len(CHANNELS) + 1)
    speed = velocity_of_vehicle(result["record_stamp"], result["record_pose"], block)
    if speed > _SPEED:
        raise NuScenesError(
            f"{folder / 'ego_pose.json'}: translation: expected metres; read so, the vehicle "
            f"drives at {speed:.3g} m/s (median)"
        )
    # "No record", -1, picks the last of new_row, which is -1.
    before = new_row[before[order]]
    key = np.full((len(samples), len(CHANNELS)), -1, np.int32)
    keys = np.flatnonzero(result["record_is_key"])
    place = result["record_sample"][keys], channel[order][keys]
    key[place] = keys
    if (key[place] != keys).any():
        first = int(np.argmax(key[place] != keys))
        one, other = (int(order[row]) for row in (keys[first], key[place][first]))
        tokens = list(row_of)
        raise columns.bad_row(
            path,
            other,
            tokens[other],
            f"is_key_frame: {CHANNELS[channel[other]]} has two key frames in one sample, this and "
            f"row {one} ({tokens[one]})",
        )
    return result | {
        "record_previous": before,
        "sample_key": key,
        "scene_records": np.searchsorted(block, blocks),
    }
