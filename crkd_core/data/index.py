"""The nuScenes tables as flat arrays.

Rows of samples are ordered by scene and time; rows of sensor records by scene, channel and time;
rows of boxes by sample. Numbers that point to other rows are row numbers, -1 for none. Strings are
fixed-width UTF-8. Times are nanoseconds (nuScenes writes microseconds).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import ATTRIBUTE_NAMES, CLASS_NAMES
from crkd_core.data.tables import NuScenesError, Row, column, read_table
from crkd_core.frame import CAMERAS, RADARS

LIDAR = "LIDAR_TOP"

#: Sensors that the index holds, in the order of its channel columns.
CHANNELS = (*CAMERAS, *RADARS, LIDAR)

#: Fourteen of the 23 categories and their detection class; the others are none (conventions 5.5).
CATEGORY_CLASS = {
    "vehicle.car": "car",
    "vehicle.truck": "truck",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.trailer": "trailer",
    "vehicle.construction": "construction_vehicle",
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.bicycle": "bicycle",
    "movable_object.trafficcone": "traffic_cone",
    "movable_object.barrier": "barrier",
}

#: Values of ``box_label`` beside the class numbers.
OTHER, BICYCLE_RACK = -1, -2

# The devkit gives no velocity when neighbouring annotations are further apart than this, seconds.
_MAX_TIME_DIFFERENCE = 1.5

Advance = Callable[[int], None]


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
    #: Index into CLASS_NAMES, OTHER or BICYCLE_RACK.
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
    parts |= _boxes(folder, advance, samples, parts["sample_stamp"])
    return Index(**parts)


def _scenes_and_samples(folder: Path, advance: Advance) -> dict[str, Any]:
    path, rows = _table(folder, "log", advance)
    locations = dict(zip(column(path, rows, "token"), column(path, rows, "location"), strict=True))
    path, rows = _table(folder, "scene", advance)
    scenes = _numbered(path, rows)
    logs = column(path, rows, "log_token")
    parts = {
        "scene_name": _strings(column(path, rows, "name")),
        "scene_description": _strings(column(path, rows, "description")),
        "scene_location": _strings(_lookup(path, rows, logs, locations, "log_token", "log")),
    }
    path, rows = _table(folder, "sample", advance)
    scene = _lookup(path, rows, column(path, rows, "scene_token"), scenes, "scene_token", "scene")
    stamp = _numbers(path, rows, "timestamp", np.int64) * 1000
    order = np.lexsort((stamp, scene))
    return parts | {
        "sample_token": _strings(column(path, rows, "token"))[order],
        "sample_stamp": stamp[order],
        "sample_scene": np.array(scene, np.int32)[order],
    }


def _calibrations(folder: Path, advance: Advance) -> tuple[dict[str, int], dict[str, Any]]:
    path, rows = _table(folder, "sensor", advance)
    channels = dict(zip(column(path, rows, "token"), column(path, rows, "channel"), strict=True))
    path, rows = _table(folder, "calibrated_sensor", advance)
    tokens = column(path, rows, "sensor_token")
    names = _lookup(path, rows, tokens, channels, "sensor_token", "sensor")
    intrinsics = np.zeros((len(rows), 3, 3))
    for index, matrix in enumerate(column(path, rows, "camera_intrinsic")):
        if matrix:
            try:
                intrinsics[index] = matrix
            except (ValueError, TypeError) as error:
                raise NuScenesError(
                    f"{path}: camera_intrinsic of {rows[index].get('token')!r}: expected a 3x3 "
                    f"matrix or [], got {matrix!r}"
                ) from error
    poses = _poses(path, rows)
    matrices = np.tile(np.eye(4), (len(rows), 1, 1))
    matrices[:, :3, :3] = geometry.quat_wxyz_to_matrix(poses[:, 3:])
    matrices[:, :3, 3] = poses[:, :3]
    channel = [CHANNELS.index(name) if name in CHANNELS else -1 for name in names]
    return _numbered(path, rows), {
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
        pose_row.update(zip(column(path, rows, "token"), range(len(pose_row), 1 << 40)))  # noqa: B905
        poses.append(_poses(path, rows))
    pose = _concatenate(poses, (0, 7))

    path = folder / "sample_data.json"
    row_of: dict[str, int] = {}
    parts: dict[str, list[Any]] = {}
    previous: list[str] = []
    for rows in read_table(path, advance):

        def link(field: str, table: dict[str, int], name: str, rows: list[Row] = rows) -> Any:
            tokens = column(path, rows, field)
            return np.array(_lookup(path, rows, tokens, table, field, name), np.int32)

        tokens = column(path, rows, "token")
        row_of.update(zip(tokens, range(len(row_of), len(row_of) + len(tokens)), strict=True))
        previous += column(path, rows, "prev")
        size = [[row.get("width") or 0, row.get("height") or 0] for row in rows]
        for name, values in {
            "stamp": _numbers(path, rows, "timestamp", np.int64) * 1000,
            "calib": link("calibrated_sensor_token", calibrations, "calibrated_sensor"),
            "sample": link("sample_token", samples, "sample"),
            "is_key": _numbers(path, rows, "is_key_frame", np.bool_),
            "pose": pose[link("ego_pose_token", pose_row, "ego_pose")],
            "file": _strings(column(path, rows, "filename")),
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


def _boxes(
    folder: Path, advance: Advance, samples: dict[str, int], sample_stamp: NDArray[np.int64]
) -> dict[str, Any]:
    path, rows = _table(folder, "category", advance)
    labels = {}
    for row, name in zip(rows, column(path, rows, "name"), strict=True):
        label = BICYCLE_RACK if name == "static_object.bicycle_rack" else OTHER
        if name in CATEGORY_CLASS:
            label = CLASS_NAMES.index(CATEGORY_CLASS[name])
        labels[row["token"]] = label
    path, rows = _table(folder, "attribute", advance)
    names = column(path, rows, "name")
    attributes = {
        row["token"]: ATTRIBUTE_NAMES.index(name) if name in ATTRIBUTE_NAMES else -1
        for row, name in zip(rows, names, strict=True)
    }
    path, rows = _table(folder, "instance", advance)
    tokens = column(path, rows, "category_token")
    categories = _lookup(path, rows, tokens, labels, "category_token", "category")
    label_of = dict(zip(column(path, rows, "token"), categories, strict=True))

    path = folder / "sample_annotation.json"
    parts: dict[str, list[Any]] = {}
    row_of: dict[str, int] = {}
    links: dict[str, list[str]] = {"prev": [], "next": []}
    for rows in read_table(path, advance):
        tokens = column(path, rows, "token")
        row_of.update(zip(tokens, range(len(row_of), len(row_of) + len(tokens)), strict=True))
        for name, values in links.items():
            values += column(path, rows, name)
        sample = column(path, rows, "sample_token")
        instance = column(path, rows, "instance_token")
        pose = _poses(path, rows)
        forward = geometry.quat_wxyz_to_matrix(pose[:, 3:])[:, :, 0]
        for name, array in {
            "sample": np.array(_lookup(path, rows, sample, samples, "sample_token", "sample")),
            "label": np.array(
                _lookup(path, rows, instance, label_of, "instance_token", "instance")
            ),
            "center": pose[:, :3],
            "yaw": np.arctan2(forward[:, 1], forward[:, 0]),
            "size": geometry.wlh_to_lwh(_numbers(path, rows, "size", np.float64, (3,))),
            "attribute": np.array(_attributes(path, rows, attributes)),
            "lidar": _numbers(path, rows, "num_lidar_pts", np.int32),
            "radar": _numbers(path, rows, "num_radar_pts", np.int32),
        }.items():
            parts.setdefault(name, []).append(array)
    shapes: dict[str, tuple[int, ...]] = {"center": (0, 3), "size": (0, 3)}
    names = ["sample", "label", "center", "yaw", "size", "attribute", "lidar", "radar"]
    whole = {name: _concatenate(parts.get(name, []), shapes.get(name, (0,))) for name in names}
    sample_row = whole.pop("sample").astype(np.int64)
    whole["velocity"] = _velocity(
        path, whole["center"], sample_stamp[sample_row], row_of, links["prev"], links["next"]
    )
    # Stable: boxes of a sample stay in the order of the table, as in the devkit.
    order = np.argsort(sample_row, kind="stable")
    types = {"label": np.int8, "attribute": np.int8, "lidar": np.int32, "radar": np.int32}
    result = {
        f"box_{name}": values[order].astype(types.get(name, np.float64))
        for name, values in whole.items()
    }
    bounds = np.searchsorted(sample_row[order], np.arange(len(samples) + 1))
    return result | {"sample_boxes": bounds.astype(np.int64)}


def _velocity(
    path: Path,
    center: NDArray[np.float64],
    stamp: NDArray[np.int64],
    row_of: dict[str, int],
    previous: Sequence[str],
    following: Sequence[str],
) -> NDArray[np.float64]:
    """[B, 2] global velocity by the devkit's rule: centred, one-sided, or NaN."""
    rows = np.arange(len(center))
    ends, has = [], []
    for field, tokens in (("prev", previous), ("next", following)):
        found = np.array([row_of.get(token, -2) if token else -1 for token in tokens], np.int64)
        if (found == -2).any():
            token = tokens[int(np.argmax(found == -2))]
            raise NuScenesError(f"{path}: an annotation's {field} is {token!r}, which none has")
        has.append(found >= 0)
        ends.append(np.where(found >= 0, found, rows))
    first, last = ends
    # The devkit's arithmetic, rounding included, so that its limit is hit at the same times.
    seconds = 1e-6 * (stamp // 1000)
    elapsed = seconds[last] - seconds[first]
    limit = np.where(has[0] & has[1], 2 * _MAX_TIME_DIFFERENCE, _MAX_TIME_DIFFERENCE)
    with np.errstate(divide="ignore", invalid="ignore"):
        velocity = (center[last] - center[first])[:, :2] / elapsed[:, None]
    known = (elapsed <= limit) & (has[0] | has[1])
    return np.where(known[:, None] & np.isfinite(velocity), velocity, np.nan)


def _attributes(path: Path, rows: list[Row], attributes: dict[str, int]) -> list[int]:
    lists = column(path, rows, "attribute_tokens")
    for row, tokens in zip(rows, lists, strict=True):
        if len(tokens) > 1 or any(token not in attributes for token in tokens):
            raise NuScenesError(
                f"{path}: annotation {row.get('token')!r}: expected at most one attribute, known "
                f"to attribute.json, got {tokens!r}"
            )
    return [attributes[tokens[0]] if tokens else -1 for tokens in lists]


def _table(folder: Path, name: str, advance: Advance) -> tuple[Path, list[Row]]:
    path = folder / f"{name}.json"
    return path, [row for rows in read_table(path, advance) for row in rows]


def _numbered(path: Path, rows: list[Row]) -> dict[str, int]:
    return {token: index for index, token in enumerate(column(path, rows, "token"))}


def _lookup(
    path: Path, rows: list[Row], tokens: list[str], table: dict[str, Any], field: str, other: str
) -> list[Any]:
    """What each token stands for in another table."""
    try:
        return [table[token] for token in tokens]
    except (KeyError, TypeError):
        bad = next(
            i for i, token in enumerate(tokens) if not isinstance(token, str) or token not in table
        )
        raise NuScenesError(
            f"{path}: record {rows[bad].get('token')!r}: {field} is {tokens[bad]!r}, which is not "
            f"in {other}.json"
        ) from None


def _numbers(
    path: Path, rows: list[Row], field: str, dtype: Any, shape: tuple[int, ...] = ()
) -> NDArray[Any]:
    """One numeric field of all rows, [rows, *shape], checked."""
    values = column(path, rows, field)
    try:
        array = np.asarray(values or np.zeros((0, *shape)))
        if array.shape != (len(rows), *shape) or array.dtype.kind not in "iufb":
            raise ValueError(f"shape {array.shape} of type {array.dtype}")
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ValueError("a value is not finite")
        return array.astype(dtype)
    except ValueError as error:
        expected = f"{shape[0]} numbers" if shape else "a number"
        raise NuScenesError(
            f"{path}: field {field!r}: expected {expected} in every record: {error}"
        ) from error


def _poses(path: Path, rows: list[Row]) -> NDArray[np.float64]:
    """[rows, 7] translation and quaternion w x y z."""
    translation = _numbers(path, rows, "translation", np.float64, (3,))
    rotation = _numbers(path, rows, "rotation", np.float64, (4,))
    zero = np.linalg.norm(rotation, axis=1) < 1e-9
    if zero.any():
        bad = rows[int(np.argmax(zero))]
        raise NuScenesError(f"{path}: record {bad.get('token')!r}: rotation of length zero")
    return np.concatenate([translation, rotation], 1)


def _strings(values: list[str]) -> NDArray[np.bytes_]:
    return np.array([value.encode() for value in values] or [b""], np.bytes_)[: len(values)]


def _concatenate(arrays: list[NDArray[Any]], empty: tuple[int, ...]) -> NDArray[Any]:
    return np.concatenate(arrays) if arrays else np.zeros(empty)
