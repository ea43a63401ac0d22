"""Submissions: detections to results JSON and back, and what is refused."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.boxes import Detections
from crkd_core.data.nuscenes.classes import NUSCENES_ATTRIBUTES, NUSCENES_CLASSES
from crkd_core.evaluate.metrics import DetectionRules
from crkd_core.evaluate.reading import read_submission
from crkd_core.evaluate.submission import (
    SubmissionError,
    attribute_by_speed,
    make_submission,
    write_submission,
)
from crkd_core.files import write_json


def some_detections(rng, count):
    return Detections(
        center=rng.uniform(-60, 60, (count, 3)),
        size=rng.uniform(0.2, 8, (count, 3)),
        yaw=rng.uniform(-np.pi, np.pi, count),
        velocity=np.where(rng.random((count, 1)) < 0.3, np.nan, rng.normal(size=(count, 2))),
        label=rng.integers(0, 10, count),
        score=-np.sort(-rng.random(count)),
        classes=NUSCENES_CLASSES,
    )


POSE = geometry.pose([1000.0, -500.0, 2.0], geometry.yaw_to_quat_wxyz(2.2))


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), counts=st.lists(st.integers(0, 12), max_size=4))
def test_round_trip_through_the_file(tmp_path_factory, seed, counts):
    rng = np.random.default_rng(seed)
    found = {f"sample-{i}": some_detections(rng, count) for i, count in enumerate(counts)}
    made = make_submission(
        ((token, POSE, boxes) for token, boxes in found.items()), classes=NUSCENES_CLASSES
    )
    path = tmp_path_factory.mktemp("results") / "results.json"
    write_submission(made, path)
    read = read_submission(path)
    assert read.tokens == tuple(found)
    assert (
        read.meta
        == made.meta
        == {
            "use_camera": True,
            "use_lidar": False,
            "use_radar": True,
            "use_map": False,
            "use_external": False,
        }
    )
    for i, boxes in enumerate(found.values()):
        back = read.boxes.select(read.boxes.sample == i).transformed(geometry.invert(POSE))
        for name in ("center", "size", "velocity", "label", "score"):
            np.testing.assert_allclose(getattr(back, name), getattr(boxes, name), atol=1e-9)
        turn = geometry.wrap_angle(back.yaw - boxes.yaw)
        np.testing.assert_allclose(turn, 0, atol=1e-9)
    np.testing.assert_array_equal(read.boxes.attribute, made.boxes.attribute)


def test_the_devkit_reads_what_we_write(tmp_path):
    loaders = pytest.importorskip("nuscenes.eval.common.loaders")
    from nuscenes.eval.detection.data_classes import DetectionBox

    found = some_detections(np.random.default_rng(0), 30)
    answers = [("a", POSE, found), ("b", POSE, Detections.empty(NUSCENES_CLASSES))]
    made = make_submission(answers, classes=NUSCENES_CLASSES)
    write_submission(made, tmp_path / "r.json")
    boxes, meta = loaders.load_prediction(str(tmp_path / "r.json"), 500, DetectionBox)
    assert boxes.sample_tokens == ["a", "b"] and len(boxes["a"]) == 30 and not boxes["b"]
    assert meta == made.meta
    length, width, height = made.boxes.size[4]
    assert boxes["a"][4].size == pytest.approx((width, length, height))


def test_the_best_boxes_are_kept():
    rules = DetectionRules(max_boxes=10)
    found = some_detections(np.random.default_rng(0), 25)
    found = found.select(np.random.default_rng(1).permutation(25))
    made = make_submission([("a", np.eye(4), found)], classes=NUSCENES_CLASSES, rules=rules)
    assert sorted(made.boxes.score) == sorted(found.score)[-10:]


def test_samples_without_an_answer_are_empty_where_they_are_asked_for():
    found = some_detections(np.random.default_rng(0), 3)
    answers = [("b", POSE, found), ("a", POSE, found)]
    made = make_submission(answers, classes=NUSCENES_CLASSES, tokens=["a", "missed", "b"])
    assert made.tokens == ("a", "missed", "b")
    assert np.bincount(made.boxes.sample, minlength=3).tolist() == [3, 0, 3]
    with pytest.raises(SubmissionError, match="1 samples that were not asked for, first b"):
        make_submission(answers, classes=NUSCENES_CLASSES, tokens=["a"])
    with pytest.raises(SubmissionError, match="'a' came twice"):
        make_submission([*answers, answers[1]], classes=NUSCENES_CLASSES, tokens=["a", "b"])


def test_boxes_out_of_range_can_be_left_out():
    found = dataclasses.replace(
        some_detections(np.random.default_rng(0), 3),
        label=np.array([NUSCENES_CLASSES.index(n) for n in ("car", "pedestrian", "barrier")]),
        center=np.array([[49.0, 0, 0], [0, 41.0, 0], [20.0, 20, 0]]),
    )
    answers = [("a", POSE, found)]
    kept = make_submission(answers, classes=NUSCENES_CLASSES, only_in_range=True).boxes
    assert [NUSCENES_CLASSES[i] for i in kept.label] == ["car", "barrier"]


@pytest.mark.parametrize(
    ("name", "slow", "fast"),
    [
        ("car", "vehicle.parked", "vehicle.moving"),
        ("truck", "vehicle.parked", "vehicle.moving"),
        ("bus", "vehicle.stopped", "vehicle.moving"),
        ("trailer", "vehicle.parked", "vehicle.moving"),
        ("construction_vehicle", "vehicle.parked", "vehicle.moving"),
        ("pedestrian", "pedestrian.standing", "pedestrian.moving"),
        ("motorcycle", "cycle.without_rider", "cycle.with_rider"),
        ("bicycle", "cycle.without_rider", "cycle.with_rider"),
        ("traffic_cone", "", ""),
        ("barrier", "", ""),
    ],
)
def test_attributes_follow_the_speed(name, slow, fast):
    boxes = dataclasses.replace(
        some_detections(np.random.default_rng(0), 4),
        label=np.full(4, NUSCENES_CLASSES.index(name)),
        velocity=np.array([[0.0, 0.0], [0.15, 0.1], [0.15, 0.15], [np.nan, np.nan]]),
    )
    got = [("", *NUSCENES_ATTRIBUTES)[i + 1] for i in attribute_by_speed(boxes)]
    assert got == [slow, slow, fast, slow]


def test_answers_that_cannot_be_submitted_are_refused():
    one = some_detections(np.random.default_rng(0), 1)
    for answers, message in (
        ([("", POSE, one)], "token '' is empty"),
        ([("a", POSE, one), ("a", POSE, one)], "'a' came twice"),
        ([("a", None, one)], "sample a: expected a pose global_T_ego"),
        ([("a", POSE * np.nan, one)], "sample a: expected a pose global_T_ego of finite numbers"),
        (
            [("a", POSE, dataclasses.replace(one, size=np.zeros((1, 3))))],
            "sample a, box 0: size: expected positive",
        ),
        (
            [("a", POSE, dataclasses.replace(one, score=np.array([np.nan])))],
            "sample a, box 0: score: expected a number from 0 to 1, got nan",
        ),
        (
            [("a", POSE, dataclasses.replace(one, center=np.full((1, 3), np.inf)))],
            "box 0: center: expected finite",
        ),
    ):
        with pytest.raises(SubmissionError, match=message):
            make_submission(answers, classes=NUSCENES_CLASSES)


GOOD = {
    "sample_token": "abc",
    "translation": [1, 2.5, 3],
    "size": [2, 4, 1.5],
    "rotation": [2.0, 0, 0, 0],
    "velocity": [0.0, float("nan")],
    "detection_name": "car",
    "detection_score": 1,
    "attribute_name": "",
}


def results(**changes):
    """A file with a good box and one with ``changes``; a change to None removes the key."""
    box = copy.deepcopy(GOOD) | changes
    box = {key: value for key, value in box.items() if value is not None}
    return {"meta": {}, "results": {"abc": [GOOD, box], "def": []}}


def test_integers_nan_velocity_and_long_quaternions_are_fine(tmp_path):
    write_json(results(rotation=[0.0, 0, 0, -3]), tmp_path / "r.json")
    read = read_submission(tmp_path / "r.json")
    assert read.tokens == ("abc", "def")
    assert read.boxes.size[0].tolist() == [4, 2, 1.5]
    assert read.boxes.yaw == pytest.approx([0, np.pi])
    assert np.isnan(read.boxes.velocity[0, 1]) and read.boxes.attribute[0] == -1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"translation": [1, 2]}, "translation: expected 3 numbers"),
        ({"translation": [1, 2, float("nan")]}, "translation: expected finite values"),
        ({"translation": ["1", "2", "3"]}, "translation: expected 3 numbers"),
        ({"translation": None}, "expected a key 'translation'"),
        ({"size": [2, 0, 1]}, "size: expected positive"),
        ({"size": [2, -4, 1]}, "size: expected positive"),
        ({"size": [2, float("inf"), 1]}, "size: expected positive, finite"),
        ({"rotation": [0, 0, 0, 0]}, "rotation: expected finite parts, not all 0"),
        ({"rotation": [1, 0, 0]}, "rotation: expected 4 numbers"),
        ({"velocity": [float("inf"), 0]}, "velocity: expected finite values or NaN"),
        ({"velocity": [[], 0]}, "velocity: expected 2 numbers"),
        ({"detection_name": "tram"}, "detection_name: expected one of 'car'.*got 'tram'"),
        ({"detection_name": 3}, "detection_name: expected text, got 3"),
        ({"attribute_name": "car.moving"}, "attribute_name: expected one of '', .*'car.moving'"),
        ({"detection_score": 1.01}, "detection_score: expected a number from 0 to 1, got 1.01"),
        ({"detection_score": -0.1}, "detection_score: expected a number from 0 to 1"),
        ({"detection_score": float("nan")}, "detection_score: .*got nan"),
        ({"detection_score": "0.5"}, "detection_score: expected a number, got '0.5'"),
        ({"detection_score": None}, "expected a key 'detection_score'"),
        ({"sample_token": "def"}, "sample_token: expected the token it is listed under"),
    ],
)
def test_bad_boxes_are_named(tmp_path, changes, message):
    write_json(results(**changes), tmp_path / "r.json")
    with pytest.raises(SubmissionError, match=f"r.json: sample abc, box 1: {message}"):
        read_submission(tmp_path / "r.json")


def test_bad_files_are_named(tmp_path):
    path = tmp_path / "r.json"
    for text, message in (
        ("", "expected a JSON file"),
        ('{"meta": {}, "resul', "expected a JSON file"),
        ("\x00\x01", "expected a JSON file"),
        ("[]", 'expected {"meta"'),
        ('{"results": {}}', 'expected {"meta"'),
        ('{"meta": {}, "results": []}', 'expected {"meta"'),
        ('{"meta": {}, "results": {"abc": {}}}', "sample abc: expected a list of boxes"),
        ('{"meta": {}, "results": {"abc": [3]}}', "sample abc, box 0: expected a mapping, got 3"),
    ):
        path.write_text(text)
        with pytest.raises(SubmissionError, match="r.json: " + message):
            read_submission(path)
    path.write_bytes(b'{"meta": {}, "results": {"\xff": []}}')
    with pytest.raises(SubmissionError, match="expected a JSON file"):
        read_submission(path)
    with pytest.raises(SubmissionError, match=r"none\.json: cannot be read: No such file"):
        read_submission(tmp_path / "none.json")


@pytest.mark.parametrize("speed", [0.5, float("nan")], ids=["fast reader", "exact reader"])
@pytest.mark.parametrize("second", ["abc", "ab\\u0063"])
def test_a_sample_that_is_listed_twice_is_named(tmp_path, speed, second):
    """As where two results files were joined: JSON's readers keep the last list in silence."""
    one = json.dumps([GOOD | {"velocity": [0.0, speed]}])
    lists = {"first": '"def": []', "a": f'"abc": {one}', "b": f'"{second}": {one}'}
    path = tmp_path / "r.json"
    path.write_text(f'{{"meta": {{}}, "results": {{{", ".join(lists.values())}}}}}')
    with pytest.raises(SubmissionError, match=r"r\.json: sample abc is listed more than once"):
        read_submission(path)
    path.write_text(path.read_text().replace(f'"{second}": [', '"ghi": [', 1))
    with pytest.raises(SubmissionError, match="sample ghi, box 0: sample_token"):
        read_submission(path)


def test_too_many_boxes(tmp_path):
    data = {"meta": {}, "results": {"abc": [GOOD] * 501}}
    write_json(data, tmp_path / "r.json")
    with pytest.raises(SubmissionError, match="sample abc: expected at most 500 boxes, got 501"):
        read_submission(tmp_path / "r.json")


def test_headings_are_the_devkits_for_any_quaternion(tmp_path):
    # Tilted boxes, quaternions of any length: the heading is that of the x axis from above.
    utils = pytest.importorskip("nuscenes.eval.common.utils")
    from pyquaternion import Quaternion

    quats = np.random.default_rng(0).normal(size=(50, 4)) * 3
    boxes = [GOOD | {"rotation": quat.tolist()} for quat in quats]
    write_json({"meta": {}, "results": {"abc": boxes}}, tmp_path / "r.json")
    ours = read_submission(tmp_path / "r.json").boxes.yaw
    theirs = [utils.quaternion_yaw(Quaternion(quat.tolist())) for quat in quats]
    np.testing.assert_allclose(geometry.wrap_angle(ours - theirs), 0, atol=1e-12)
