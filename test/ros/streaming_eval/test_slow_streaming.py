"""Streaming mAP against a second computation, box by box, that shares nothing with the first."""

from __future__ import annotations

import math

import numpy as np
import pytest

from crkd_core import geometry
from crkd_core.boxes import Detections
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.sensors import ANCHOR_CAMERA
from crkd_ros.bags.samples import key_frames
from crkd_ros.streaming_eval.streaming import VARIANTS, Answer, Stream, score_stream

SECOND = 1_000_000_000
#: Of nuScenes' detection task (detection_cvpr_2019).
REACH = {"pedestrian": 40, "motorcycle": 40, "bicycle": 40, "traffic_cone": 30, "barrier": 30}
DISTANCES = (0.5, 1.0, 2.0, 4.0)


@pytest.fixture(scope="module")
def tables(tiny_world) -> NuScenes:
    return NuScenes(tiny_world)


def noisy_answers(tables, samples, seed):
    """Truth with errors; some moments unanswered, some late, overtaken or answered twice."""
    rng = np.random.default_rng(seed)
    answers = []
    for stamp, token in samples.items():
        if rng.random() < 0.2:
            continue
        pose = tables.key_record(token, ANCHOR_CAMERA).global_T_ego
        truth = tables.truth_global(token).transformed(geometry.invert(pose))
        count = len(truth)
        for latency in rng.uniform(0, 1.3, size=rng.integers(1, 3)):
            found = Detections(
                center=truth.center + rng.normal(0, 0.4, (count, 3)),
                size=truth.size,
                yaw=truth.yaw,
                velocity=np.nan_to_num(truth.velocity) + rng.normal(0, 0.3, (count, 2)),
                label=truth.label,
                score=np.sort(rng.uniform(0.1, 1, count))[::-1].copy(),
                classes=NUSCENES_CLASSES,
            )
            due = stamp + round(latency * SECOND)
            answers.append(
                Answer(stamp_ns=stamp, available_ns=due, detections=found, global_T_ego=pose)
            )
    return answers


def used(answers, at, variant):
    """The answer that somebody at this time looks at, and how old it is."""
    best = None
    for one in answers:
        first = min(o.available_ns for o in answers if o.stamp_ns == one.stamp_ns)
        if one.available_ns != first:
            continue
        there = one.stamp_ns == at if variant == "offline" else one.available_ns <= at
        if there and (best is None or one.stamp_ns > best.stamp_ns):
            best = one
    return best


def on_the_map(one, at, variant):
    """(class, x, y, score) of each of its boxes, by hand."""
    pose, found = one.global_T_ego, one.detections
    for index in range(len(found)):
        x, y, z = found.center[index]
        if variant == "forwarded":
            x += found.velocity[index, 0] * (at - one.stamp_ns) / SECOND
            y += found.velocity[index, 1] * (at - one.stamp_ns) / SECOND
        there = [sum(pose[row, k] * v for k, v in enumerate((x, y, z, 1.0))) for row in (0, 1)]
        yield NUSCENES_CLASSES[found.label[index]], *there, found.score[index]


def in_reach(name, x, y, ego):
    return math.hypot(x - ego[0], y - ego[1]) < REACH.get(name, 50)


def average_precision(boxes, truth, distance):
    """Of one class: boxes (sample, x, y, score) against truth (sample, x, y)."""
    taken, hits, curve = set(), 0, []
    # An answer that two moments use has its scores twice: of equal ones the later comes first.
    order = sorted(range(len(boxes)), key=lambda index: (boxes[index][3], index), reverse=True)
    for rank, (sample, x, y, _) in enumerate((boxes[index] for index in order), 1):
        away = {
            k: math.hypot(x - a, y - b)
            for k, (s, a, b) in enumerate(truth)
            if s == sample and k not in taken
        }
        nearest = min(away, key=away.get, default=None)
        if nearest is not None and away[nearest] < distance:
            taken.add(nearest)
            hits += 1
        curve.append((hits / len(truth), hits / rank))
    if not hits:
        return 0.0
    recalls, precisions = zip(*curve, strict=True)
    wanted = np.interp(np.linspace(0, 1, 101), recalls, precisions, right=0)
    return float(np.mean(np.maximum(wanted[11:] - 0.1, 0)) / 0.9)


def slow_map(tables, answers, samples, variant):
    truth = {name: [] for name in NUSCENES_CLASSES}
    boxes = {name: [] for name in NUSCENES_CLASSES}
    for at, token in samples.items():
        ego = tables.key_record(token, "LIDAR_TOP").global_T_ego[:2, 3]
        real = tables.truth_global(token)
        for index in np.flatnonzero(real.num_lidar_points + real.num_radar_points):
            name, (x, y) = NUSCENES_CLASSES[real.label[index]], real.center[index, :2]
            if in_reach(name, x, y, ego):
                truth[name].append((token, x, y))
        one = used(answers, at, variant)
        for name, x, y, score in () if one is None else on_the_map(one, at, variant):
            if in_reach(name, x, y, ego):
                boxes[name].append((token, x, y, score))
    found = [
        average_precision(boxes[name], truth[name], distance) if truth[name] else 0.0
        for name in NUSCENES_CLASSES
        for distance in DISTANCES
    ]
    return sum(found) / len(found)


@pytest.mark.parametrize("seed", range(4))
def test_every_variant_has_the_map_of_a_slow_computation(tables, seed):
    samples = key_frames(tables, tables.scenes[:1])
    answers = noisy_answers(tables, samples, seed)
    scores = score_stream(tables, Stream(answers, classes=NUSCENES_CLASSES), samples)
    slow = [slow_map(tables, answers, samples, variant) for variant in VARIANTS]
    fast = [scores.evaluations[variant].summary["mean_ap"] for variant in VARIANTS]
    assert fast == pytest.approx(slow, abs=1e-9)
    assert max(slow) > 0.1
