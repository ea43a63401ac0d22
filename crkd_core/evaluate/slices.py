"""The metrics of parts of a data set: by range, weather, light and speed of the objects.

Each part is scored by the same code as the whole, on the truth and the detections that belong to
it. As in the whole, AP counts a class that the part holds and nobody finds; one that it does not
hold (no barrier moves) has no part in its means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.classes import describes
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.evaluate.matching import ScoredBoxes, center_distance
from crkd_core.evaluate.metrics import evaluate
from crkd_core.evaluate.report import MEAN_NAMES
from crkd_core.evaluate.scoring import Countable
from crkd_core.tables import Table, number

#: Limits of the distance from the vehicle, metres. The outermost ends with each class's own range.
RANGES = ((0.0, 20.0), (20.0, 30.0), (30.0, np.inf))
#: From this speed over ground on an object moves, m/s.
MOVING = 0.5


@dataclass(frozen=True, kw_only=True)
class Slice:
    """One part of a data set.

    Attributes:
        group: what is told apart: "range", "weather", "light" or "speed".
        name: of the part, for a table.
        truth, detections: which boxes of a ``Countable`` belong to it, [G] and [N].
        is_scored: whether NDS means something; not where objects are chosen by one of its errors.
    """

    group: str
    name: str
    truth: NDArray[np.bool_]
    detections: NDArray[np.bool_]
    is_scored: bool = True


def slices_of(tables: NuScenes, counted: Countable) -> list[Slice]:
    """All parts, those without truth too.

    - Range: every box by its own distance from the vehicle, as the benchmark's limits.
    - Weather and light: samples, by the words "rain" and "night" in the description of their
      scene, as nuScenes writes them.
    - Speed: truth by its own, that of unknown speed in neither part. A detection goes with the
      nearest truth of its class and sample within the largest match distance, wherever that
      belongs, and where there is none by its own speed: otherwise a wrong speed would count as a
      missed object here and as a false one there. One that says no speed stands, as it does for
      ``attribute_by_speed``: in neither part it would be a false box nowhere.
    """
    truth, found = counted.truth, counted.detections
    parts = []
    for low, high in RANGES:
        name = f"{low:g}+ m" if np.isinf(high) else f"{low:g}-{high:g} m"
        inside = [
            (low <= away) & (away < high)
            for away in (_distance(counted, truth), _distance(counted, found))
        ]
        parts.append(Slice(group="range", name=name, truth=inside[0], detections=inside[1]))
    words = [tables.description_of(tables.scene_of(token)) for token in counted.tokens]
    for group, word, names in (
        ("weather", "rain", ("dry", "rain")),
        ("light", "night", ("day", "night")),
    ):
        has = np.array([describes(text, word) for text in words], bool)
        for name, samples in zip(names, (~has, has), strict=True):
            of_truth, of_found = samples[truth.sample], samples[found.sample]
            parts.append(Slice(group=group, name=name, truth=of_truth, detections=of_found))
    speed = np.linalg.norm(truth.velocity, axis=-1)
    judged = _speed_of_nearest(truth, found, within=max(counted.rules.distances))
    for name, of_truth, of_found in (
        ("standing", speed < MOVING, judged < MOVING),
        ("moving", speed >= MOVING, judged >= MOVING),
    ):
        parts.append(
            Slice(group="speed", name=name, truth=of_truth, detections=of_found, is_scored=False)
        )
    return parts


def score_slices(tables: NuScenes, counted: Countable) -> list[dict[str, Any]]:
    """The metrics of every part, for slices.json.

    Returns:
        One mapping a part: group, name, boxes (truth), mean_ap, nd_score (None where it means
        nothing), tp_errors, mean_dist_aps (class -> AP). A part without truth has no metrics, only
        boxes 0.
    """
    return [_scored(counted, part) for part in slices_of(tables, counted)]


def slices_table(scored: Sequence[dict[str, Any]]) -> Table:
    """What ``score_slices`` gave, one row a part."""
    return Table(
        title="parts of the data",
        columns=("by", "part", "boxes", "mAP", "NDS", *MEAN_NAMES.values()),
        texts=("part",),
        rows=[
            [
                part["group"],
                part["name"],
                str(part["boxes"]),
                *(_cell(part.get(key)) for key in ("mean_ap", "nd_score")),
                *(_cell(part.get("tp_errors", {}).get(error)) for error in MEAN_NAMES),
            ]
            for part in scored
        ],
    )


def _cell(value: float | None) -> str:
    return number(np.nan if value is None else value)


def _scored(counted: Countable, part: Slice) -> dict[str, Any]:
    truth = counted.truth.select(part.truth)
    head: dict[str, Any] = {"group": part.group, "name": part.name, "boxes": len(truth)}
    if not len(truth):
        return head
    held = [name for i, name in enumerate(truth.classes) if np.any(truth.label == i)]
    found = counted.detections.select(part.detections)
    summary = evaluate(truth.of_classes(held), found.of_classes(held), rules=counted.rules).summary
    return head | {
        "mean_ap": summary["mean_ap"],
        "nd_score": summary["nd_score"] if part.is_scored else None,
        "tp_errors": summary["tp_errors"],
        "mean_dist_aps": summary["mean_dist_aps"],
    }


def _distance(counted: Countable, boxes: ScoredBoxes) -> NDArray[np.float64]:
    """[N] horizontal distance of centres from the vehicle, metres."""
    offset = boxes.center[:, :2] - counted.ego[boxes.sample]
    return np.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2)


def _speed_of_nearest(
    truth: ScoredBoxes, found: ScoredBoxes, *, within: float
) -> NDArray[np.float64]:
    """[N] speed of the truth that each detection is nearest to, else its own, m/s.

    NaN where that truth's is unknown; 0 for one that is near none and says no speed itself.
    """
    own = np.linalg.norm(found.velocity, axis=-1)
    speed = np.where(np.isnan(own), 0.0, own)
    of_truth = np.linalg.norm(truth.velocity, axis=-1)
    # Both sorted by sample once: a search of all for each is slow.
    order, others = (np.argsort(boxes.sample, kind="stable") for boxes in (found, truth))
    samples = np.unique(found.sample)
    bounds = [
        np.searchsorted(boxes.sample[rows], samples, side=side)
        for boxes, rows in ((found, order), (truth, others))
        for side in ("left", "right")
    ]
    for first, last, low, high in zip(*bounds, strict=True):
        rows, near = order[first:last], others[low:high]
        if not len(near):
            continue
        away = center_distance(found.center[rows, None], truth.center[None, near])
        away[found.label[rows, None] != truth.label[None, near]] = np.inf
        nearest = away.argmin(1)
        close = away[np.arange(len(rows)), nearest] < within
        speed[rows[close]] = of_truth[near[nearest[close]]]
    return speed
