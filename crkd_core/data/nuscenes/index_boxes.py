"""Annotations of all samples as arrays, for Index: class mapping, attributes, velocities."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.nuscenes import columns
from crkd_core.data.nuscenes.classes import (
    CATEGORY_CLASS,
    CLASSLESS,
    NUSCENES_ATTRIBUTES,
    NUSCENES_CLASSES,
)
from crkd_core.data.nuscenes.columns import Advance
from crkd_core.data.nuscenes.links import links

#: Values of ``box_label`` beside the class numbers.
OTHER, BICYCLE_RACK = -1, -2

# The devkit gives no velocity when neighbouring annotations are further apart than this, seconds.
_MAX_TIME_DIFFERENCE = 1.5


def read_boxes(
    folder: Path,
    advance: Advance,
    samples: dict[str, int],
    sample_stamp: NDArray[np.int64],
    notes: list[str],
) -> dict[str, Any]:
    """The ``box_`` arrays of Index and its ``sample_boxes``.

    Args:
        folder: ``<root>/<version>``.
        advance: called with the bytes read since the last call.
        samples: token -> row of Index.
        sample_stamp: [S] times of these rows, nanoseconds.
        notes: takes what is missing, in words.

    Raises:
        NuScenesError: see ``build_index``.
    """
    part = columns.whole(folder, "category", advance)
    columns.numbered(part)
    categories = dict(zip(part["token"], part["name"], strict=True))
    labels = {
        token: NUSCENES_CLASSES.index(CATEGORY_CLASS[name])
        if name in CATEGORY_CLASS
        else (BICYCLE_RACK if name == "static_object.bicycle_rack" else OTHER)
        for token, name in categories.items()
    }
    part = columns.whole(folder, "attribute", advance)
    columns.numbered(part)
    attribute_names = dict(zip(part["token"], part["name"], strict=True))
    attributes = {
        token: NUSCENES_ATTRIBUTES.index(name) if name in NUSCENES_ATTRIBUTES else -1
        for token, name in attribute_names.items()
    }
    part = columns.whole(folder, "instance", advance)
    instances = columns.numbered(part)
    label_of = np.array(part.lookup("category_token", labels, "category"), np.int64)
    category_of = [categories[token] for token in part["category_token"]]

    found: dict[str, list[Any]] = {}
    row_of: dict[str, int] = {}
    strange: Counter[str] = Counter()
    near: dict[str, list[str]] = {"prev": [], "next": []}
    for part in columns.parts(folder, "sample_annotation", advance):
        columns.numbered(part, row_of)
        for name, values in near.items():
            values += part[name]
        objects_here = np.array(part.lookup("instance_token", instances, "instance"), np.int64)
        used = label_of[objects_here] >= 0
        strange.update(
            attribute_names[token]
            for tokens, is_used in zip(part["attribute_tokens"], used.tolist(), strict=True)
            for token in tokens
            if is_used and attributes.get(token) == -1
        )
        forward = geometry.quat_wxyz_to_matrix(part["rotation"])[:, :, 0]
        for name, array in {
            "sample": np.array(part.lookup("sample_token", samples, "sample"), np.int64),
            "object": objects_here,
            "center": part["translation"],
            "yaw": np.arctan2(forward[:, 1], forward[:, 0]),
            "size": geometry.wlh_to_lwh(part["size"]),
            "attribute": np.array(_attributes(part, attributes, used)),
            "lidar": part["num_lidar_pts"],
            "radar": part["num_radar_pts"],
        }.items():
            found.setdefault(name, []).append(array)
    shapes: dict[str, tuple[int, ...]] = {"center": (0, 3), "size": (0, 3)}
    names = ("sample", "object", "center", "yaw", "size", "attribute", "lidar", "radar")
    whole = {
        name: columns.concatenate(found.get(name, []), shapes.get(name, (0,))) for name in names
    }
    sample_row, objects = (whole.pop(name).astype(np.int64) for name in ("sample", "object"))
    whole["label"] = label_of[objects]
    others: Counter[str] = Counter()
    boxes_of = np.bincount(objects, minlength=len(category_of)).tolist()
    for name, count in zip(category_of, boxes_of, strict=True):
        if count and name not in CATEGORY_CLASS and name not in CLASSLESS:
            others[name] += count
    _note(notes, "category.json", others, "nuScenes has no such category: they are left out")
    _note(notes, "attribute.json", strange, "nuScenes has no such attribute: they have none")
    stamp = sample_stamp[sample_row]
    path = folder / "sample_annotation.json"
    ends = {
        name: links(path, tokens, row_of, field=name, notes=notes, stamp=stamp, same=objects)
        for name, tokens in near.items()
    }
    whole["velocity"] = _velocity(whole["center"], stamp, ends["prev"], ends["next"])
    classed = whole["label"] >= 0
    if classed.any() and np.isnan(whole["velocity"][classed]).all():
        notes.append(
            f"{path.name}: the velocity of none of {classed.sum()} boxes is known, as prev and "
            f"next name none of the same object at most {_MAX_TIME_DIFFERENCE:g} s away: nothing "
            "is learned of velocities, and every error of theirs (AVE) counts as 1"
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


def _note(notes: list[str], table: str, boxes: Counter[str], text: str) -> None:
    """Take a note of boxes, counted by a name that means nothing here."""
    if boxes:
        counts = ", ".join(f"{n} of {columns.shown(name)}" for name, n in boxes.most_common(20))
        notes.append(f"{table}: boxes {counts}: {text}")


def _velocity(
    center: NDArray[np.float64],
    stamp: NDArray[np.int64],
    previous: NDArray[np.int64],
    following: NDArray[np.int64],
) -> NDArray[np.float64]:
    """[B, 2] global velocity by the devkit's rule: centred, one-sided, or NaN."""
    rows = np.arange(len(center))
    has = [found >= 0 for found in (previous, following)]
    first, last = (np.where(found >= 0, found, rows) for found in (previous, following))
    # The devkit's arithmetic, rounding included, so that its limit is hit at the same times.
    seconds = 1e-6 * (stamp // 1000)
    elapsed = seconds[last] - seconds[first]
    limit = np.where(has[0] & has[1], 2 * _MAX_TIME_DIFFERENCE, _MAX_TIME_DIFFERENCE)
    with np.errstate(divide="ignore", invalid="ignore"):
        velocity = (center[last] - center[first])[:, :2] / elapsed[:, None]
    known = (elapsed <= limit) & (has[0] | has[1])
    return np.where(known[:, None] & np.isfinite(velocity), velocity, np.nan)


def _attributes(
    part: columns.Part, attributes: dict[str, int], used: NDArray[np.bool_]
) -> list[int]:
    """Of each row, -1 for none. Boxes that nothing uses may have several."""
    lists = part["attribute_tokens"]
    for index, tokens in enumerate(lists):
        several = len(tokens) > 1 and used[index]
        if several or any(token not in attributes for token in tokens):
            raise part.error(
                index,
                f"attribute_tokens: expected at most one attribute, known to attribute.json, got "
                f"{columns.shown(tokens)}",
            )
    return [attributes[tokens[0]] if len(tokens) == 1 else -1 for tokens in lists]
