"""Annotations of all samples as arrays, for Index: class mapping, attributes, velocities."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.nuscenes import columns
from crkd_core.data.nuscenes.classes import CATEGORY_CLASS, NUSCENES_ATTRIBUTES, NUSCENES_CLASSES
from crkd_core.data.nuscenes.columns import Advance
from crkd_core.data.nuscenes.tables import NuScenesError, Row, read_table

#: Values of ``box_label`` beside the class numbers.
OTHER, BICYCLE_RACK = -1, -2

# The devkit gives no velocity when neighbouring annotations are further apart than this, seconds.
_MAX_TIME_DIFFERENCE = 1.5


def read_boxes(
    folder: Path, advance: Advance, samples: dict[str, int], sample_stamp: NDArray[np.int64]
) -> dict[str, Any]:
    """The ``box_`` arrays of Index and its ``sample_boxes``.

    Args:
        folder: ``<root>/<version>``.
        advance: called with the bytes read since the last call.
        samples: token -> row of Index.
        sample_stamp: [S] times of these rows, nanoseconds.

    Raises:
        NuScenesError: see ``build_index``.
    """
    path, rows = columns.whole_table(folder, "category", advance)
    labels = {
        token: NUSCENES_CLASSES.index(CATEGORY_CLASS[name])
        if name in CATEGORY_CLASS
        else (BICYCLE_RACK if name == "static_object.bicycle_rack" else OTHER)
        for token, name in _names(path, rows)
    }
    path, rows = columns.whole_table(folder, "attribute", advance)
    attributes = {
        token: NUSCENES_ATTRIBUTES.index(name) if name in NUSCENES_ATTRIBUTES else -1
        for token, name in _names(path, rows)
    }
    path, rows = columns.whole_table(folder, "instance", advance)
    categories = columns.lookup(path, rows, "category_token", labels, "category")
    label_of = dict(zip(columns.column(path, rows, "token"), categories, strict=True))

    path = folder / "sample_annotation.json"
    parts: dict[str, list[Any]] = {}
    row_of: dict[str, int] = {}
    links: dict[str, list[str]] = {"prev": [], "next": []}
    for rows in read_table(path, advance):
        columns.numbered(path, rows, row_of)
        for name, values in links.items():
            values += columns.column(path, rows, name)
        sample = columns.lookup(path, rows, "sample_token", samples, "sample")
        label = columns.lookup(path, rows, "instance_token", label_of, "instance")
        pose = columns.poses(path, rows)
        forward = geometry.quat_wxyz_to_matrix(pose[:, 3:])[:, :, 0]
        for name, array in {
            "sample": np.array(sample),
            "label": np.array(label),
            "center": pose[:, :3],
            "yaw": np.arctan2(forward[:, 1], forward[:, 0]),
            "size": _sizes(path, rows),
            "attribute": np.array(_attributes(path, rows, attributes)),
            "lidar": columns.numbers(path, rows, "num_lidar_pts", np.int32),
            "radar": columns.numbers(path, rows, "num_radar_pts", np.int32),
        }.items():
            parts.setdefault(name, []).append(array)
    shapes: dict[str, tuple[int, ...]] = {"center": (0, 3), "size": (0, 3)}
    whole = {
        name: columns.concatenate(parts.get(name, []), shapes.get(name, (0,)))
        for name in ("sample", "label", "center", "yaw", "size", "attribute", "lidar", "radar")
    }
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


def _names(path: Path, rows: list[Row]) -> list[tuple[str, str]]:
    tokens, names = (columns.column(path, rows, field) for field in ("token", "name"))
    return list(zip(tokens, names, strict=True))


def _sizes(path: Path, rows: list[Row]) -> NDArray[np.float64]:
    """[rows, 3] length, width, height."""
    size = columns.numbers(path, rows, "size", np.float64, (3,))
    bad = ~(size > 0).all(1)
    if bad.any():
        row = rows[int(np.argmax(bad))]
        raise NuScenesError(
            f"{path}: record {row.get('token')!r}: size: expected three numbers above 0, got "
            f"{row['size']}"
        )
    return geometry.wlh_to_lwh(size)


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
    lists = columns.column(path, rows, "attribute_tokens")
    for row, tokens in zip(rows, lists, strict=True):
        if len(tokens) > 1 or any(token not in attributes for token in tokens):
            raise NuScenesError(
                f"{path}: annotation {row.get('token')!r}: expected at most one attribute, known "
                f"to attribute.json, got {tokens!r}"
            )
    return [attributes[tokens[0]] if tokens else -1 for tokens in lists]
