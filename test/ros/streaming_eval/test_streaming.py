"""Streaming metrics: no latency is the offline metric, endless latency is nothing, and between."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.boxes import Detections
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.evaluate.scoring import score
from crkd_core.evaluate.submission import make_submission
from crkd_core.sensors import ANCHOR_CAMERA
from crkd_ros.bags.samples import key_frames
from crkd_ros.streaming_eval.streaming import (
    VARIANTS,
    Answer,
    Stream,
    StreamingError,
    forwarded,
    score_stream,
    submission_of,
)

SECOND = 1_000_000_000


def boxes(count: int = 1, *, x: float = 10.0, vx: float = 0.0, score_: float = 0.9) -> Detections:
    """Cars in a row."""
    return Detections(
        center=np.column_stack([np.full(count, x), np.arange(count) * 4.0, np.zeros(count)]),
        size=np.full((count, 3), [4.5, 1.9, 1.6]),
        yaw=np.zeros(count),
        velocity=np.full((count, 2), [vx, 0.0]),
        label=np.zeros(count, np.int64),
        score=np.full(count, score_),
        classes=NUSCENES_CLASSES,
    )


def answer(stamp: int, available: int, detections: Detections | None = None) -> Answer:
    return Answer(
        stamp_ns=stamp,
        available_ns=available,
        detections=boxes() if detections is None else detections,
        global_T_ego=np.eye(4),
    )


@pytest.fixture(scope="module")
def tables(tiny_world) -> NuScenes:
    return NuScenes(tiny_world)


@pytest.fixture(scope="module")
def samples(tables) -> dict[int, str]:
    return key_frames(tables, tables.scenes[:1])


@pytest.fixture(scope="module")
def noisy(tables, samples) -> list[Answer]:
    """Truth with errors, at each key frame, in ego axes."""
    rng = np.random.default_rng(3)
    out = []
    for stamp, token in samples.items():
        pose = tables.key_record(token, ANCHOR_CAMERA).global_T_ego
        truth = tables.truth_global(token).transformed(geometry.invert(pose))
        n = len(truth)
        velocity = np.nan_to_num(truth.velocity)
        found = Detections(
            center=truth.center + rng.normal(0, 0.3, (n, 3)) * [1, 1, 0.2],
            size=truth.size,
            yaw=truth.yaw,
            velocity=velocity,
            label=truth.label,
            score=np.sort(rng.uniform(0.1, 1, n))[::-1].copy(),
            classes=NUSCENES_CLASSES,
        )
        out.append(Answer(stamp_ns=stamp, available_ns=stamp, detections=found, global_T_ego=pose))
    return out


def stream(answers) -> Stream:
    return Stream(answers, classes=NUSCENES_CLASSES)


def delayed(answers, nanoseconds):
    return stream(dataclasses.replace(a, available_ns=a.stamp_ns + nanoseconds) for a in answers)


def test_without_latency_every_variant_is_the_offline_metric_exactly(tables, samples, noisy):
    answers = [(samples[a.stamp_ns], a.global_T_ego, a.detections) for a in noisy]
    plain = make_submission(answers, classes=NUSCENES_CLASSES)
    reference = score(tables, plain, list(samples.values())).summary
    scores = score_stream(tables, delayed(noisy, 0), samples)
    assert 0.1 < reference["nd_score"] < 1
    for variant in VARIANTS:
        summary = scores.evaluations[variant].summary
        for key in ("mean_ap", "nd_score", "tp_errors", "mean_dist_aps"):
            np.testing.assert_equal(summary[key], reference[key])
    assert scores.ages == (0.0,) * len(samples)


def test_with_endless_latency_there_is_nothing(tables, samples, noisy):
    scores = score_stream(tables, delayed(noisy, 3600 * SECOND), samples)
    assert scores.evaluations["streaming"].summary["mean_ap"] == 0
    assert scores.evaluations["forwarded"].summary["mean_ap"] == 0
    assert scores.evaluations["offline"].summary["mean_ap"] > 0.1
    assert scores.ages == ()
    assert scores.as_dict()["mean_age_s"] is None
    assert scores.as_dict()["samples_with_detections"] == 0


def test_latency_costs_and_forwarding_gives_some_of_it_back(tables, samples, noisy):
    stamps = sorted(samples)
    half = (stamps[1] - stamps[0]) // 2
    first, second = (score_stream(tables, delayed(noisy, half * k), samples) for k in (1, 3))
    offline = first.evaluations["offline"].summary["mean_ap"]
    streaming = [s.evaluations["streaming"].summary["mean_ap"] for s in (first, second)]
    moved = [s.evaluations["forwarded"].summary["mean_ap"] for s in (first, second)]
    assert offline > streaming[0] > streaming[1]
    assert moved[0] > streaming[0]
    # 0.5 s between key frames: each is answered by the one before, or by the one before that.
    assert len(first.ages) == len(samples) - 1 and len(second.ages) == len(samples) - 2
    assert first.ages[0] == pytest.approx(2 * half * 1e-9, rel=0.1)


def test_a_moving_car_by_hand():
    """10 m/s forward, answered 0.3 s late, used at 0.5 s: the box is 5 m behind, or in place."""
    one = stream([answer(0, 3 * SECOND // 10, boxes(vx=10.0))])
    use = {SECOND // 2: "sample"}
    late = submission_of(one, use, "streaming").boxes
    moved = submission_of(one, use, "forwarded").boxes
    assert late.center[0, 0] == 10.0
    assert moved.center[0, 0] == pytest.approx(15.0)
    assert len(submission_of(one, use, "offline").boxes) == 0
    assert len(submission_of(one, {SECOND // 4: "sample"}, "streaming").boxes) == 0


def test_boxes_are_forwarded_in_the_map_whatever_the_heading_of_the_vehicle():
    pose = geometry.pose([100.0, 50.0, 0.0], geometry.yaw_to_quat_wxyz(np.pi / 2))
    found = dataclasses.replace(answer(0, 0, boxes(vx=2.0)), global_T_ego=pose)
    moved = submission_of(stream([found]), {SECOND: "sample"}, "forwarded").boxes
    # Ahead of a vehicle that looks along +y.
    np.testing.assert_allclose(moved.center[0, :2], [100.0, 62.0], atol=1e-9)


def test_unknown_velocities_stand_still():
    found = dataclasses.replace(boxes(2), velocity=np.array([[np.nan, np.nan], [1.0, -1.0]]))
    moved = forwarded(found, 2.0)
    np.testing.assert_array_equal(moved.center[0], found.center[0])
    np.testing.assert_array_equal(moved.center[1], found.center[1] + [2, -2, 0])


def test_answers_before_their_stamp_are_refused():
    with pytest.raises(StreamingError, match="expected bag time for both"):
        answer(10, 9)


answers_ = st.lists(st.tuples(st.integers(0, 60), st.integers(0, 60)), max_size=25)


@given(answers_, st.integers(0, 130))
@settings(deadline=None)
def test_the_latest_is_the_newest_stamp_of_the_available_ones(pairs, at):
    """Against the definition, looked up the slow way."""
    given_ = [answer(stamp, stamp + latency) for stamp, latency in pairs]
    first = {}
    for one in sorted(given_, key=lambda a: a.available_ns):
        first.setdefault(one.stamp_ns, one)
    ready = [a for a in first.values() if a.available_ns <= at]
    expected = max((a.stamp_ns for a in ready), default=None)
    found = stream(given_).latest(at)
    assert (found.stamp_ns if found else None) == expected
    assert len(stream(given_)) == len({stamp for stamp, _ in pairs})


@given(answers_, st.integers(0, 130), st.integers(0, 40), st.integers(0, 40))
@settings(deadline=None)
def test_a_smaller_latency_never_gives_an_older_answer(pairs, at, less, more):
    def stamp_with(latency):
        found = stream(answer(stamp, stamp + latency) for stamp, _ in pairs).latest(at)
        return -1 if found is None else found.stamp_ns

    low, high = sorted((less, more))
    assert stamp_with(low) >= stamp_with(high)
