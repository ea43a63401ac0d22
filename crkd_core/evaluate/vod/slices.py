"""The metrics of parts of a View-of-Delft split: by range, and by how hidden objects are.

Each part is scored by the same code as the whole. What does not belong to it is ignored: it may be
matched and counts neither way, as KITTI leaves out what is harder than a difficulty. Speed,
weather and light are not told by the files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.vod.labels import Objects
from crkd_core.evaluate.slices import RANGES
from crkd_core.evaluate.vod.metrics import Pair, evaluate_pairs
from crkd_core.evaluate.vod.rules import Area, VodRules
from crkd_core.tables import Table, number

#: What is parted: all that is annotated.
_AREA: Area = "entire_area"
#: The labels' degrees of being hidden, each with those before it.
HIDDEN = ("visible", "up to partly hidden", "up to largely hidden")


@dataclass(frozen=True, kw_only=True)
class Part:
    """One part of a split.

    Attributes:
        group: what is told apart: "range" or "hidden".
        name: of the part, for a table.
        truth, found: objects of a frame -> [N] which belong to it.
    """

    group: str
    name: str
    truth: Callable[[Objects], NDArray[np.bool_]]
    found: Callable[[Objects], NDArray[np.bool_]]


def parts() -> list[Part]:
    """All parts.

    - Range: truth and detections by their own distance from the camera on its x-z plane.
    - Hidden: truth up to a degree of the labels. Detections tell none, so all of them count, and
      what takes a more hidden object is no false alarm.
    """
    found = []
    for low, high in RANGES:
        name = f"{low:g}+ m" if np.isinf(high) else f"{low:g}-{high:g} m"
        inside = _within(low, high)
        found.append(Part(group="range", name=name, truth=inside, found=inside))
    for most, name in enumerate(HIDDEN):
        found.append(Part(group="hidden", name=name, truth=_hidden(most), found=_all))
    return found


def score_parts(frames: Sequence[Pair], rules: VodRules) -> list[dict[str, Any]]:
    """The metrics of every part on the entire annotated area, for slices.json.

    Returns:
        One mapping a part: group, name, objects (truth that counts), and of the classes that it
        holds class -> "3d", "bev", "aos" (percent) and "objects"; "mean" -> the same three over
        these classes, not there without any.
    """
    scored = []
    for part in parts():
        chosen = [one.part(part.truth(one.truth), part.found(one.found)) for one in frames]
        rows = evaluate_pairs(chosen, rules=rules, areas=(_AREA,)).summary[_AREA]
        held = {name: rows[name] for name in rules.classes if rows[name]["objects"]}
        one: dict[str, Any] = {
            "group": part.group,
            "name": part.name,
            "objects": sum(row["objects"] for row in held.values()),
            "classes": held,
        }
        if held:
            one["mean"] = {
                key: float(np.mean([row[key] for row in held.values()]))
                for key in ("3d", "bev", "aos")
            }
        scored.append(one)
    return scored


def parts_table(scored: Sequence[dict[str, Any]], rules: VodRules) -> Table:
    """What ``score_parts`` gave, one row a part."""
    return Table(
        title="parts of the data: AP (%), means over the classes that a part holds",
        columns=("by", "part", "objects", "3D", "BEV", "AOS", *(f"{n} 3D" for n in rules.classes)),
        texts=("part",),
        rows=[
            [
                part["group"],
                part["name"],
                str(part["objects"]),
                *(_cell(part.get("mean", {}), key) for key in ("3d", "bev", "aos")),
                *(_cell(part["classes"].get(name, {}), "3d") for name in rules.classes),
            ]
            for part in scored
        ],
    )


def _cell(row: dict[str, float], key: str) -> str:
    return number(row.get(key, np.nan), 2)


def _within(low: float, high: float) -> Callable[[Objects], NDArray[np.bool_]]:
    def inside(objects: Objects) -> NDArray[np.bool_]:
        away = np.hypot(objects.bottom[:, 0], objects.bottom[:, 2])
        return np.asarray((low <= away) & (away < high))

    return inside


def _hidden(most: int) -> Callable[[Objects], NDArray[np.bool_]]:
    return lambda objects: np.asarray(objects.occluded <= most)


def _all(objects: Objects) -> NDArray[np.bool_]:
    return np.ones(len(objects), bool)
