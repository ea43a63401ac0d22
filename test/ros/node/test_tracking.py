"""Ids that stay with their objects: drives whose objects are known, with noise and misses."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.boxes import Detections, Tracked
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_ros.node.tracking import Tracker
from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.parameters.outputs import GateConfig, TrackingConfig

START = 1_700_000_000_000_000_000
STEP = 83_333_333
CAR, PEDESTRIAN, BARRIER = (NUSCENES_CLASSES.index(n) for n in ("car", "pedestrian", "barrier"))


def boxes(center, velocity=None, label=CAR) -> Detections:
    center = np.asarray(center, float).reshape(-1, 2)
    count = len(center)
    velocity = np.zeros((count, 2)) if velocity is None else np.asarray(velocity, float)
    return Detections(
        center=np.pad(center, ((0, 0), (0, 1))),
        size=np.full((count, 3), 0.5),
        yaw=np.zeros(count),
        velocity=velocity,
        label=np.broadcast_to(label, count).astype(np.int64),
        score=np.ones(count),
        classes=NUSCENES_CLASSES,
    )


def follow(tracker: Tracker, frames) -> list[np.ndarray]:
    """Ids of frames (stamp, detections) of a vehicle that stands still."""
    return [tracker(d, stamp_ns=stamp, fixed_T_base=np.eye(4)).id for stamp, d in frames]


def drive(
    *, frames: int, seed: int, miss: float, noise: float
) -> Iterator[tuple[int, np.ndarray, Detections, np.ndarray]]:
    """A vehicle that turns at 8 m/s among objects never closer than 12 m to one another.

    Yields (stamp, map_T_base, what is detected, and which object each detection is).
    """
    rng = np.random.default_rng(seed)
    place = np.stack(np.meshgrid(np.arange(-60, 61, 24), np.arange(-60, 61, 24)), -1)
    place = place.reshape(-1, 2).astype(float) + rng.uniform(-3, 3, (36, 2))
    label = rng.integers(0, 10, 36)
    # Not one faster than the room it has: 6 m in the time of the drive.
    heading, speed = rng.uniform(-np.pi, np.pi, 36), rng.uniform(0, 2, 36)
    velocity = speed[:, None] * np.stack([np.cos(heading), np.sin(heading)], -1)
    for index in range(frames):
        seconds = index / 12
        map_T_base = geometry.pose(
            [8 * seconds, 0.4 * seconds**2, 0], geometry.yaw_to_quat_wxyz(0.3 * seconds)
        )
        seen = rng.permutation(36)[rng.uniform(size=36) >= miss]
        world = boxes(place[seen] + seconds * velocity[seen], velocity[seen], label[seen])
        found = world.transformed(geometry.invert(map_T_base))
        found.center[:, :2] += rng.normal(0, noise, (len(seen), 2))
        found.velocity[:] += rng.normal(0, 2 * noise, (len(seen), 2))
        yield START + index * STEP, map_T_base, found, seen


def switches(history: dict[int, list[int]]) -> tuple[int, int]:
    """(changes of an object's id, ids that more than one object had); 0 is no id."""
    named = {thing: [i for i in ids if i] for thing, ids in history.items()}
    changed = sum(a != b for ids in named.values() for a, b in itertools.pairwise(ids))
    owners = [i for ids in named.values() for i in set(ids)]
    return changed, len(owners) - len(set(owners))


@pytest.mark.parametrize("miss", [0.0, 0.1, 0.3])
def test_no_id_changes_on_separate_objects_with_noise_and_misses(miss):
    tracker, history = Tracker(), {}
    for stamp, map_T_base, found, seen in drive(frames=36, seed=3, miss=miss, noise=0.15):
        answer = tracker(found, stamp_ns=stamp, fixed_T_base=map_T_base)
        for thing, number in zip(seen, answer.id, strict=True):
            history.setdefault(thing, []).append(int(number))
    assert switches(history) == (0, 0)
    # Every one is known from its second detection on.
    assert len(history) == 36
    for ids in history.values():
        assert ids[0] == 0
        assert all(ids[1:])


def test_without_the_vehicles_motion_the_same_objects_are_lost():
    """The control of the test above: it is the compensation that keeps the ids."""
    tracker, history = Tracker(), {}
    for stamp, _, found, seen in drive(frames=36, seed=3, miss=0.1, noise=0.15):
        answer = tracker(found, stamp_ns=stamp, fixed_T_base=None)
        for thing, number in zip(seen, answer.id, strict=True):
            history.setdefault(thing, []).append(int(number))
    changed, _ = switches(history)
    unnamed = sum(ids[1:].count(0) for ids in history.values())
    assert changed + unnamed > 100


def test_detections_are_neither_changed_nor_held_back():
    tracker = Tracker()
    for stamp, map_T_base, found, _ in drive(frames=3, seed=1, miss=0.2, noise=0.2):
        answer = tracker(found, stamp_ns=stamp, fixed_T_base=map_T_base)
        assert isinstance(answer, Tracked)
        for field in dataclasses.fields(Detections):
            np.testing.assert_array_equal(getattr(answer, field.name), getattr(found, field.name))
    assert (
        len(tracker(Detections.empty(NUSCENES_CLASSES), stamp_ns=stamp, fixed_T_base=map_T_base))
        == 0
    )


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 1000), st.integers(1, 6))
def test_ids_of_a_frame_are_unique_and_begin_after_birth(seed, birth):
    rng = np.random.default_rng(seed)
    tracker = Tracker(TrackingConfig(birth=birth))
    for index in range(birth + 3):
        # Crowded and wild: pairs of all kinds.
        found = boxes(rng.uniform(-4, 4, (12, 2)), rng.normal(0, 3, (12, 2)), rng.integers(0, 3))
        ids = tracker(found, stamp_ns=START + index * STEP, fixed_T_base=np.eye(4)).id
        named = ids[ids > 0]
        assert len(set(named)) == len(named)
        assert index + 1 >= birth or not named.size


def test_the_order_of_detections_does_not_matter():
    one, other, rng = Tracker(), Tracker(), np.random.default_rng(0)
    for stamp, map_T_base, found, _ in drive(frames=12, seed=5, miss=0.1, noise=0.2):
        order = rng.permutation(len(found))
        straight = one(found, stamp_ns=stamp, fixed_T_base=map_T_base)
        mixed = other(found.select(order), stamp_ns=stamp, fixed_T_base=map_T_base)
        # Numbers are handed out in the order of detections: the same objects, named differently.
        pairs = set(zip(straight.id[order].tolist(), mixed.id.tolist(), strict=True))
        assert len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs})


def test_prediction_is_by_stamps_not_by_frames():
    """At 15 m/s, 0.9 s without a detection: 13.5 m on, far beyond the gate of where it was."""
    moving = [(START + i * STEP, boxes([[15 * i / 12, 0]], [[15, 0]])) for i in range(4)]
    late = START + 3 * STEP + 900_000_000
    moving.append((late, boxes([[15 * 3 / 12 + 13.5, 0]], [[15, 0]])))
    assert [ids[0] for ids in follow(Tracker(), moving)] == [0, 1, 1, 1, 1]
    # Empty frames between, or none: the same.
    empty = [(START + i * STEP, Detections.empty(NUSCENES_CLASSES)) for i in range(4, 14)]
    ids = follow(Tracker(), [*moving[:4], *empty, moving[4]])
    assert ids[-1][0] == 1


def test_an_object_not_seen_for_longer_gets_a_new_id():
    stay = boxes([[5, 5]])
    times = [0.0, 0.1, 1.05, 2.2, 2.3]
    ids = follow(Tracker(), [(START + round(t * 1e9), stay) for t in times])
    assert [int(i[0]) for i in ids] == [0, 1, 1, 0, 2]


def test_an_object_seen_twice_has_one_id():
    """A weaker box that reaches into another of its class begins no track; beside it, it does."""
    for away, expected in ((0.3, [1, 0]), (0.6, [1, 2])):
        found = boxes([[10, 5], [10 + away, 5]])
        found.score[1] = 0.4
        ids = follow(Tracker(), [(START + i * STEP, found) for i in range(4)])
        assert list(ids[-1]) == expected
        other = dataclasses.replace(found, label=np.array([CAR, PEDESTRIAN]))
        ids = follow(Tracker(), [(START + i * STEP, other) for i in range(4)])
        assert list(ids[-1]) == [1, 2]
        # Its strength does not matter once the object is known.
        frames = [(START, found.select(np.array([0]))), (START + STEP, found)]
        found.score[:] = [0.4, 0.9]
        assert list(follow(Tracker(), [*frames, (START + 2 * STEP, found)])[2]) == expected


def test_a_missed_end_does_not_shift_a_row():
    """Barriers 0.9 m apart, gate 1.2 m: the first is missed while one more comes into view."""
    row = np.stack([np.arange(8) * 0.9, np.zeros(8)], -1)
    frames = [(START + i * STEP, boxes(row[:7], label=BARRIER)) for i in range(3)]
    frames.append((START + 3 * STEP, boxes(row[1:], label=BARRIER)))
    ids = follow(Tracker(), frames)
    np.testing.assert_array_equal(ids[2], np.arange(1, 8))
    np.testing.assert_array_equal(ids[3], [*range(2, 8), 0])


def test_crossing_objects_keep_their_ids_by_their_speed():
    def at(seconds):
        place = [[10 * seconds - 5, 0.6], [5 - 10 * seconds, -0.6]]
        return boxes(place, [[10, 0], [-10, 0]])

    ids = follow(Tracker(), [(START + i * STEP, at(i / 12)) for i in range(12)])
    assert {tuple(i) for i in ids[1:]} == {(1, 2)}


def test_classes_have_gates_of_their_own():
    def pair(away):
        return boxes([[away, 0], [away, 30]], label=[CAR, PEDESTRIAN])

    frames = [(START, pair(0)), (START + STEP, pair(0)), (START + 2 * STEP, pair(1.9))]
    assert list(follow(Tracker(), frames)[2]) == [1, 0]
    wide = TrackingConfig(gate=GateConfig(gates={"pedestrian": 2.5}))
    assert list(follow(Tracker(wide), frames)[2]) == [1, 2]
    # Never another class, however near.
    other = boxes([[0, 0]], label=PEDESTRIAN)
    frames = [*[(START + i * STEP, boxes([[0, 0]])) for i in range(3)], (START + 3 * STEP, other)]
    assert follow(Tracker(), frames)[3][0] == 0


def test_time_set_back_begins_anew_and_never_uses_an_id_again():
    stay = boxes([[5, 5]])
    ids = follow(Tracker(), [(START + i * STEP, stay) for i in (10, 11, 12, 0, 1, 2)])
    assert [int(i[0]) for i in ids] == [0, 1, 1, 0, 2, 2]


def test_boxes_that_are_not_finite_get_no_id_and_do_no_harm():
    tracker = Tracker()
    for index in range(4):
        found = boxes([[0, 0], [np.nan, 1], [30, 0]])
        found.velocity[2] = np.inf
        answer = tracker(found, stamp_ns=START + index * STEP, fixed_T_base=np.eye(4))
        assert list(answer.id) == [min(index, 1), 0, 0]


def test_a_frame_that_becomes_known_begins_anew():
    """Numbers in axes of the vehicle and of the map are not to be compared."""
    stay, tracker = boxes([[5, 5]]), Tracker()
    poses = [None, None, np.eye(4), np.eye(4), None]
    ids = [
        int(tracker(stay, stamp_ns=START + i * STEP, fixed_T_base=pose).id[0])
        for i, pose in enumerate(poses)
    ]
    assert ids == [0, 1, 0, 2, 0]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"birth": 0}, r"tracking\.birth: expected 1 to 100, got 0"),
        ({"death": float("nan")}, r"tracking\.death: .* got nan"),
        ({"gate_growth": -1.0}, r"tracking\.gate_growth: expected"),
    ],
)
def test_wrong_settings_are_refused_by_name(values, text):
    with pytest.raises(ParameterError, match=text):
        TrackingConfig(**values)
    with pytest.raises(ParameterError, match=r"tracking\.gate\.car: expected 0.1 to 20.0"):
        GateConfig(gates={"car": 99.0})


def test_tracks_of_other_class_lists_do_not_live_on():
    tracker = Tracker(TrackingConfig(birth=1))
    found = boxes([[5.0, 0.0]])
    first = tracker(found, stamp_ns=START, fixed_T_base=None)
    assert tracker(found, stamp_ns=START + STEP, fixed_T_base=None).id == first.id
    # The same number now means another class: the object is another one.
    other = dataclasses.replace(found, classes=("tram", "cyclist"))
    assert tracker(other, stamp_ns=START + 2 * STEP, fixed_T_base=None).id > first.id
