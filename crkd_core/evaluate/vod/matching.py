"""Greedy matching of one frame's detections to its truth, at many score thresholds at once.

KITTI's rule: objects of truth take turns in the order of the file; each takes, of the detections
that are still free and overlap it enough, the one that overlaps most. One that counts goes before
ignored ones. What an ignored object of truth takes, and ignored detections, count neither way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.evaluate.vod.rules import COUNTS, IGNORED


@dataclass(frozen=True, kw_only=True)
class Matchable:
    """One frame, class and metric; what is ABSENT there is not in it.

    Attributes:
        overlap: [D, G] of detections with truth.
        score: [D].
        truth, found: [G], [D] COUNTS or IGNORED.
        turn: [D, G] rotation of truth as the camera sees it less that of the detection, radians.
        covered: [D] whether the detection lies in an area where nothing counts.
        least: overlap that a match must exceed.
    """

    overlap: NDArray[np.float64]
    score: NDArray[np.float64]
    truth: NDArray[np.int64]
    found: NDArray[np.int64]
    turn: NDArray[np.float64]
    covered: NDArray[np.bool_]
    least: float


def hit_scores(frame: Matchable) -> list[float]:
    """Scores of the hits, if every object of truth takes the free detection of the best score."""
    free = np.ones(len(frame.found), bool)
    scores = []
    for row in range(len(frame.truth)):
        able = free & (frame.overlap[:, row] > frame.least)
        if not able.any():
            continue
        taken = int(np.where(able, frame.score, -np.inf).argmax())
        free[taken] = False
        if frame.truth[row] == COUNTS and frame.found[taken] == COUNTS:
            scores.append(float(frame.score[taken]))
    return scores


def count(frame: Matchable, thresholds: NDArray[np.float64]) -> NDArray[np.float64]:
    """[T, 4] hits, false alarms, misses, and the sum of the hits' likeness of orientation.

    Args:
        frame: what can be matched.
        thresholds: [T] detections with a lower score are not there.
    """
    levels = np.arange(len(thresholds))
    result = np.zeros((len(thresholds), 4))
    free = frame.score[None] >= thresholds[:, None]  # [T, D]
    counts, ignored = frame.found == COUNTS, frame.found == IGNORED
    for row in range(len(frame.truth)) if len(frame.score) else ():
        able = free & (frame.overlap[:, row] > frame.least)
        good, other = able & counts, able & ignored
        best = np.where(good, frame.overlap[:, row], -1).argmax(1)
        hit = good.any(1)
        taken = np.where(hit, best, other.argmax(1))
        found = hit | other.any(1)
        free[levels[found], taken[found]] = False
        if frame.truth[row] == COUNTS:
            result[:, 0] += hit
            result[:, 2] += ~found
            likeness = (1 + np.cos(frame.turn[best, row])) / 2
            result[:, 3] += np.where(hit, likeness, 0)
    if not len(frame.score):
        result[:, 2] = np.count_nonzero(frame.truth == COUNTS)
    # Whoever is left and counts is a false alarm, but not in an area where nothing counts.
    result[:, 1] = (free & counts & ~frame.covered).sum(1)
    return result
