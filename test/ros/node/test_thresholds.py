"""Thresholds per class and range, and published classes, against slow oracles."""

from __future__ import annotations

import dataclasses

import numpy as np
import other_classes
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.boxes import Detections
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_ros.node.thresholds import above, renamed
from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.parameters.outputs import RemapConfig, ThresholdsConfig


def detections(count: int, seed: int = 0) -> Detections:
    rng = np.random.default_rng(seed)
    return Detections(
        center=rng.uniform(-60, 60, (count, 3)),
        size=rng.uniform(0.3, 12, (count, 3)),
        yaw=rng.uniform(-np.pi, np.pi, count),
        velocity=rng.normal(0, 5, (count, 2)),
        label=rng.integers(0, 10, count),
        # Two digits, so that thresholds are met exactly.
        score=np.round(np.sort(rng.uniform(0, 1, count))[::-1], 2),
        classes=NUSCENES_CLASSES,
    )


def same(one: Detections, other: Detections) -> None:
    for field in dataclasses.fields(Detections):
        np.testing.assert_array_equal(
            getattr(one, field.name), getattr(other, field.name), err_msg=field.name
        )


def test_the_defaults_change_nothing():
    found = detections(40)
    same(above(found, ThresholdsConfig()), found)
    same(renamed(found, RemapConfig()), found)
    same(
        renamed(above(Detections.empty(NUSCENES_CLASSES), ThresholdsConfig()), RemapConfig()),
        Detections.empty(NUSCENES_CLASSES),
    )


scores = st.integers(0, 100).map(lambda percent: percent / 100)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_each_box_meets_the_threshold_of_its_class_and_range(data):
    metres = data.draw(st.lists(st.integers(1, 80), unique=True, max_size=4))
    ranges = (0.0, *(float(m) for m in sorted(metres)))
    per_class = {}
    for name in NUSCENES_CLASSES:
        count = data.draw(st.sampled_from([1, len(ranges)]))
        per_class[name] = tuple(data.draw(st.lists(scores, min_size=count, max_size=count)))
    found = detections(60, data.draw(st.integers(0, 1000)))
    # One box at the very beginning of each range: it belongs to that range.
    found.center[: len(ranges), :2] = np.column_stack([ranges, np.zeros(len(ranges))])
    keep = []
    for index in range(len(found)):
        x, y, _ = found.center[index]
        place = max(i for i, start in enumerate(ranges) if (x * x + y * y) ** 0.5 >= start)
        least = per_class[NUSCENES_CLASSES[found.label[index]]]
        keep.append(found.score[index] >= (least[place] if len(least) > 1 else least[0]))
    config = ThresholdsConfig(ranges=ranges, scores=per_class)
    same(above(found, config), found.select(np.array(keep)))


@settings(deadline=None, max_examples=40)
@given(st.tuples(*[st.sampled_from([*NUSCENES_CLASSES, ""])] * 10), st.integers(0, 1000))
def test_classes_are_renamed_or_dropped(names, seed):
    found = detections(40, seed)
    config = RemapConfig(classes=dict(zip(NUSCENES_CLASSES, names, strict=True)))
    kept = renamed(found, config)
    expected = [names[label] for label in found.label if names[label]]
    assert [NUSCENES_CLASSES[label] for label in kept.label] == expected
    order = [index for index, label in enumerate(found.label) if names[label]]
    np.testing.assert_array_equal(kept.center, found.center[order])
    np.testing.assert_array_equal(kept.score, found.score[order])


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"ranges": ()}, r"thresholds\.ranges: expected metres that rise from 0\.0, .* got \[\]"),
        ({"ranges": (5.0, 10.0)}, "rise from 0.0"),
        ({"ranges": (0.0, 30.0, 30.0)}, "rise from 0.0"),
        ({"ranges": (0.0, float("nan"))}, "rise from 0.0"),
        ({"ranges": (0.0, float("inf"))}, "rise from 0.0"),
        ({"scores": {"car": ()}}, r"thresholds\.car: expected one score"),
        ({"scores": {"car": (0.1, 0.2)}}, "or one for each of the 1 thresholds.ranges"),
        (
            {"ranges": (0.0, 9.0), "scores": {"bus": (0.1, 0.2, 0.3)}},
            r"thresholds\.bus: .* of the 2 ",
        ),
        ({"scores": {"barrier": (1.5,)}}, r"each 0\.0 to 1\.0; got \[1\.5\]"),
        ({"scores": {"barrier": (float("nan"),)}}, r"thresholds\.barrier: .*got \[nan\]"),
    ],
)
def test_wrong_thresholds_are_refused_by_name(values, text):
    with pytest.raises(ParameterError, match=text):
        ThresholdsConfig(**values)


def test_a_class_that_does_not_exist_is_refused():
    with pytest.raises(ParameterError, match=r"remap\.car: expected one of car, .*got 'van'"):
        RemapConfig(classes={"car": "van"}).check_classes(NUSCENES_CLASSES)


def test_other_classes_are_judged_and_renamed_by_name():
    found = other_classes.found(0)
    rider, van, walker = other_classes.CLASSES
    kept = above(found, ThresholdsConfig(scores={van: (0.5,), "car": (0.99,)}))
    expected = (found.label != 1) | (found.score >= 0.5)
    np.testing.assert_array_equal(kept.center, found.center[expected])
    moved = renamed(found, RemapConfig(classes={rider: walker, van: ""}))
    assert moved.classes == found.classes
    assert {moved.classes[label] for label in moved.label} == {walker}
    assert len(moved) == (found.label != 1).sum()
