"""The published evaluation of View-of-Delft once more: slow, object by object, by its rules.

Written from the description of KITTI's protocol and of what View-of-Delft changes. Overlaps come
from cutting one polygon along the sides of the other, in exact arithmetic but for the corners.
"""

from __future__ import annotations

import math
from fractions import Fraction

from crkd_core.data.vod.labels import Objects

LEAST = {
    "3d": {"Car": 0.5, "Pedestrian": 0.25, "Cyclist": 0.25},
    "bev": {"Car": 0.5, "Pedestrian": 0.25, "Cyclist": 0.25},
    "image": {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5},
}
Point = tuple[Fraction, Fraction]


def rows(objects: Objects) -> list[dict]:
    names = ("occluded", "alpha", "box", "size", "bottom", "rotation", "score")
    return [
        {"name": str(objects.name[i]), **{n: getattr(objects, n)[i].tolist() for n in names}}
        for i in range(len(objects))
    ]


def footprint(one: dict) -> list[Point]:
    _, width, length = one["size"]
    x, _, z = one["bottom"]
    corners = []
    for a, b in ((0.5, 0.5), (-0.5, 0.5), (-0.5, -0.5), (0.5, -0.5)):
        u, v = a * length, b * width
        c, s = math.cos(one["rotation"]), math.sin(one["rotation"])
        corners.append((Fraction(x + c * u + s * v), Fraction(z - s * u + c * v)))
    return corners


def cut(polygon: list[Point], a: Point, b: Point) -> list[Point]:
    """What of a polygon lies left of the line from a to b."""

    def side(p: Point) -> Fraction:
        return (b[0] - a[0]) * (p[1] - a[1]) - (b[1] - a[1]) * (p[0] - a[0])

    kept = []
    for here, there in zip(polygon, [*polygon[1:], *polygon[:1]], strict=True):
        if side(here) >= 0:
            kept.append(here)
        if (side(here) > 0 > side(there)) or (side(here) < 0 < side(there)):
            t = side(here) / (side(here) - side(there))
            kept.append((here[0] + t * (there[0] - here[0]), here[1] + t * (there[1] - here[1])))
    return kept


def area(polygon: list[Point]) -> float:
    ends = zip(polygon, [*polygon[1:], *polygon[:1]], strict=True)
    return float(sum((p[0] * q[1] - p[1] * q[0] for p, q in ends), Fraction(0)) / 2)


def iou(one: dict, other: dict, metric: str) -> float:
    if metric == "image":
        (l, t, r, b), (k, s, q, a) = one["box"], other["box"]
        wide, high = min(r, q) - max(l, k), min(b, a) - max(t, s)
        if wide <= 0 or high <= 0:
            return 0.0
        return wide * high / ((r - l) * (b - t) + (q - k) * (a - s) - wide * high)
    shared, window = footprint(one), footprint(other)
    for start, end in zip(window, [*window[1:], *window[:1]], strict=True):
        shared = cut(shared, start, end)
    flat = area(shared) if shared else 0.0
    if metric == "bev":
        return flat / (math.prod(one["size"][1:]) + math.prod(other["size"][1:]) - flat)
    low = max(one["bottom"][1] - one["size"][0], other["bottom"][1] - other["size"][0])
    common = flat * max(0.0, min(one["bottom"][1], other["bottom"][1]) - low)
    return common / (math.prod(one["size"]) + math.prod(other["size"]) - common)


def state(one: dict, name: str, corridor: bool, truth: bool) -> int:
    """0 counts, 1 is ignored, -1 is not there."""
    x, _, z = one["bottom"]
    outside = corridor and (x < -4 or x > 4 or z > 25)
    height = one["box"][3] - one["box"][1]
    if not truth:
        if abs(height) < 40 or outside:
            return 1
        return 0 if one["name"] == name else -1
    if one["name"] == name:
        return int(one["occluded"] > 4 or height <= 40 or outside)
    near = {"Car": "Van", "Pedestrian": "Person_sitting"}.get(name)
    return 1 if one["name"] == near else -1


def frame_counts(truth, found, name, metric, corridor, threshold):
    """Hits, false alarms, misses, likeness; with threshold None, the scores of the hits."""
    least = LEAST[metric][name]
    taken, scores = set(), []
    hits = misses = 0
    likeness = 0.0
    able = [
        j
        for j, one in enumerate(found)
        if state(one, name, corridor, truth=False) != -1
        and (threshold is None or one["score"] >= threshold)
    ]
    for one in truth:
        kind = state(one, name, corridor, truth=True)
        if kind == -1:
            continue
        near = [j for j in able if j not in taken and iou(found[j], one, metric) > least]
        if threshold is None:
            best = max(near, key=lambda j: (found[j]["score"], -j), default=None)
        else:
            good = [j for j in near if state(found[j], name, corridor, truth=False) == 0]
            best = max(good, key=lambda j: (iou(found[j], one, metric), -j), default=None)
            if best is None and near:
                best = near[0]
        if best is None:
            misses += kind == 0
            continue
        taken.add(best)
        if kind == 0 and state(found[best], name, corridor, truth=False) == 0:
            hits += 1
            scores.append(found[best]["score"])
            likeness += (1 + math.cos(one["alpha"] - found[best]["alpha"])) / 2
    if threshold is None:
        return scores
    alarms = 0
    for j in able:
        if j in taken or state(found[j], name, corridor, truth=False) != 0:
            continue
        l, t, r, b = found[j]["box"]
        wasted = False
        for one in truth if metric == "image" else []:
            if one["name"] == "DontCare":
                k, s, q, a = one["box"]
                wide, high = min(r, q) - max(l, k), min(b, a) - max(t, s)
                wasted |= wide > 0 and high > 0 and wide * high / ((r - l) * (b - t)) > least
        alarms += not wasted
    return hits, alarms, misses, likeness


def average_precision(truth, found, name, metric, corridor) -> tuple[float, float]:
    """AP and its likeness-weighted sister, percent, of frames of ``rows``."""
    scores = []
    for one, other in zip(truth, found, strict=True):
        scores += frame_counts(one, other, name, metric, corridor, None)
    scores.sort(reverse=True)
    wanted = sum(state(o, name, corridor, truth=True) == 0 for frame in truth for o in frame)
    thresholds, recall = [], 0.0
    for i, score in enumerate(scores):
        left = (i + 1) / wanted
        right = (i + 2) / wanted if i < len(scores) - 1 else left
        if right - recall < recall - left and i < len(scores) - 1:
            continue
        thresholds.append(score)
        recall += 1 / 40.0
    precision, likeness = [0.0] * 41, [0.0] * 41
    for i, threshold in enumerate(thresholds):
        totals = [0.0] * 4
        for one, other in zip(truth, found, strict=True):
            counts = frame_counts(one, other, name, metric, corridor, threshold)
            totals = [a + b for a, b in zip(totals, counts, strict=True)]
        if totals[0] + totals[1]:
            precision[i] = totals[0] / (totals[0] + totals[1])
            likeness[i] = totals[3] / (totals[0] + totals[1])
    for curve in (precision, likeness):
        for i in range(len(thresholds)):
            curve[i] = max(curve[i:])
    return tuple(sum(curve[::4]) / 11 * 100 for curve in (precision, likeness))
