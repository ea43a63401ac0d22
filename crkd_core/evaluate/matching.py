"""Greedy matching of detections to truth by distance of centres, many samples at once.

The rule is that of the nuScenes detection task: best score first; each detection takes the nearest
truth of its sample and class that is still free, if that is nearer than the threshold. Samples and
classes do not disturb each other, so the k-th detections of all of them are matched together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.boxes import BoxError, Boxes, require_classes


@dataclass(frozen=True, kw_only=True)
class ScoredBoxes(Boxes):
    """Boxes of many samples in one list, in global axes. Truth and detections alike.

    The order of rows matters where scores tie: of equal scores the later row counts as the better
    one, as in the nuScenes devkit.

    Attributes:
        sample: [N] int64, which sample of the split; equal numbers in truth and detections meet.
        attribute: [N] int64, index into the attribute names of the data set, -1 for none.
        score: [N] in [0, 1]; not used in truth.
    """

    sample: NDArray[np.int64]
    attribute: NDArray[np.int64]
    score: NDArray[np.float64]


def score_order(score: NDArray[np.float64]) -> NDArray[np.int64]:
    """[N] rows by falling score; of equal scores the later row first (the devkit's order)."""
    return np.lexsort((np.arange(len(score)), score))[::-1]


def center_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Horizontal distance of points [..., >=2], metres.

    The sum of squares is a BLAS dot product, as in ``numpy.linalg.norm`` of one vector: with fused
    multiply-add it rounds otherwise than x*x + y*y, and a distance on a threshold would flip.
    """
    offset = np.ascontiguousarray(a[..., :2] - b[..., :2])
    return np.sqrt(np.matmul(offset[..., None, :], offset[..., :, None])[..., 0, 0])


def match(
    truth: ScoredBoxes, detections: ScoredBoxes, thresholds: tuple[float, ...]
) -> NDArray[np.int64]:
    """Which truth each detection takes, under each distance threshold.

    Args:
        truth: G boxes.
        detections: N boxes.
        thresholds: T distances in metres; a match is strictly nearer.

    Returns:
        [T, N] row in ``truth``, or -1 for a false positive.

    Raises:
        BoxError: boxes of other classes than the truth's, or a centre or a score that is not
            finite (it has no order).
    """
    require_classes(detections, truth.classes, "detections that are matched with truth")
    for name, array in (
        ("truth.center", truth.center),
        ("detections.center", detections.center),
        ("detections.score", detections.score),
    ):
        if not np.all(np.isfinite(array)):
            raise BoxError(f"{name}: expected finite values, got some that are not")
    answer = np.full((len(thresholds), len(detections)), -1, np.int64)
    if not len(truth) or not len(detections):
        return answer
    limits = np.asarray(thresholds, np.float64)[:, None]

    # Truth by group (sample and class), in its own order inside a group: of two truths at the same
    # distance the first is taken.
    truth_key = truth.sample * len(truth.classes) + truth.label
    truth_rows = np.argsort(truth_key, kind="stable")
    keys, first, count = np.unique(truth_key[truth_rows], return_index=True, return_counts=True)

    # Detections that have any truth to meet, best first, and how many of their group came before.
    rows = score_order(detections.score)
    key = (detections.sample * len(truth.classes) + detections.label)[rows]
    group = np.minimum(np.searchsorted(keys, key), len(keys) - 1)
    meets = keys[group] == key
    rows, group = rows[meets], group[meets]
    by_group = np.argsort(group, kind="stable")
    rows, group = rows[by_group], group[by_group]
    turn = np.arange(len(group)) - np.searchsorted(group, group)

    # Groups of like size are padded to one width, a power of two: little is computed in vain.
    width_of_group = 1 << np.ceil(np.log2(count)).astype(np.int64)
    for width in np.unique(width_of_group[group]):
        members = np.flatnonzero(width_of_group == width)
        local = np.full(len(keys), -1)
        local[members] = np.arange(len(members))
        slot = first[members, None] + np.arange(width)
        exists = np.arange(width) < count[members, None]
        row_of_slot = truth_rows[np.where(exists, slot, 0)]
        centers = np.where(exists[..., None], truth.center[row_of_slot, :2], np.inf)
        taken = np.zeros((len(thresholds), len(members), width), bool)

        here = np.flatnonzero(width_of_group[group] == width)
        here = here[np.argsort(turn[here], kind="stable")]
        for same_turn in np.split(here, np.flatnonzero(np.diff(turn[here])) + 1):
            row, member = rows[same_turn], local[group[same_turn]]
            distance = center_distance(detections.center[row, None], centers[member])
            free = np.where(taken[:, member], np.inf, distance)
            nearest = free.argmin(-1)
            hit = np.take_along_axis(free, nearest[..., None], -1)[..., 0] < limits
            level, which = np.nonzero(hit)
            taken[level, member[which], nearest[hit]] = True
            answer[level, row[which]] = row_of_slot[member[which], nearest[hit]]
    return answer
