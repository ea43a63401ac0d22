"""Our metrics against the official devkit, which is the oracle."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from same_metrics import assert_same

from crkd_core import geometry
from crkd_core.boxes import BoxError
from crkd_core.data.nuscenes.classes import NUSCENES_ATTRIBUTES, NUSCENES_CLASSES
from crkd_core.evaluate.matching import ScoredBoxes, center_distance, match
from crkd_core.evaluate.metrics import ERROR_NAMES, DetectionRules, evaluate


def random_boxes(rng, count, *, samples=3, classes=range(10), spread=4.0, ties=True):
    """Boxes on half-metre positions: distances on a threshold and equal distances are common."""
    label = rng.choice(np.array(classes), count)
    score = rng.integers(1, 11, count) / 10 if ties else rng.random(count)
    unknown = rng.random((count, 1)) < 0.2
    return ScoredBoxes(
        center=np.c_[np.round(rng.uniform(-spread, spread, (count, 2)) * 2) / 2, np.zeros(count)],
        size=rng.uniform(0.3, 5, (count, 3)),
        yaw=rng.choice([0, np.pi, -np.pi, np.pi / 2, 1.0, 3.0], count),
        velocity=np.where(unknown, np.nan, rng.normal(size=(count, 2))),
        label=label.astype(np.int64),
        sample=np.sort(rng.integers(0, samples, count)),
        attribute=rng.integers(-1, len(NUSCENES_ATTRIBUTES), count),
        score=score,
        classes=NUSCENES_CLASSES,
    )


def perfect(**changes):
    """Truth with all ten classes, and the same as detections with ``changes``."""
    truth = dataclasses.replace(
        random_boxes(np.random.default_rng(0), 400, samples=20, spread=100),
        velocity=np.ones((400, 2)),
    )
    return truth, dataclasses.replace(truth, **changes)


def devkit_boxes(boxes, samples):
    from nuscenes.eval.common.data_classes import EvalBoxes
    from nuscenes.eval.detection.data_classes import DetectionBox

    answer = EvalBoxes()
    for sample in range(samples):
        answer.add_boxes(str(sample), [])
    quats, sizes = geometry.yaw_to_quat_wxyz(boxes.yaw), geometry.lwh_to_wlh(boxes.size)
    for i in range(len(boxes)):
        token = str(boxes.sample[i])
        box = DetectionBox(
            sample_token=token,
            translation=tuple(boxes.center[i].tolist()),
            size=tuple(sizes[i].tolist()),
            rotation=tuple(quats[i].tolist()),
            velocity=tuple(boxes.velocity[i].tolist()),
            detection_name=NUSCENES_CLASSES[boxes.label[i]],
            detection_score=float(boxes.score[i]),
            attribute_name=""
            if boxes.attribute[i] < 0
            else NUSCENES_ATTRIBUTES[boxes.attribute[i]],
        )
        answer.add_boxes(token, [box])
    return answer


def devkit_summary(truth, detections, samples):
    """metrics_summary.json of the official evaluation, without its data set loading."""
    config = pytest.importorskip("nuscenes.eval.common.config")
    evaluation = pytest.importorskip("nuscenes.eval.detection.evaluate")
    run = object.__new__(evaluation.DetectionEval)
    run.cfg, run.verbose = config.config_factory("detection_cvpr_2019"), False
    run.gt_boxes = devkit_boxes(truth, samples)
    run.pred_boxes = devkit_boxes(detections, samples)
    metrics, _ = run.evaluate()
    return json.loads(json.dumps(metrics.serialize()))


def check(truth, detections, samples):
    ours = json.loads(json.dumps(evaluate(truth, detections).summary))
    assert_same(ours, devkit_summary(truth, detections, samples))
    return ours


@pytest.mark.parametrize("seed", range(12))
def test_random_submissions_equal_the_devkit(seed):
    rng = np.random.default_rng(seed)
    samples = int(rng.integers(1, 7))
    classes = rng.choice(10, rng.integers(1, 11), replace=False)
    spread = float(rng.choice([1, 4, 12]))
    options = {"samples": samples, "classes": classes, "spread": spread, "ties": bool(seed % 2)}
    truth = random_boxes(rng, int(rng.integers(10, 150)), **options)
    detections = random_boxes(rng, int(rng.integers(10, 250)), **options)
    summary = check(truth, detections, samples)
    assert summary["mean_ap"] > 0 or spread > 1


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    truths=st.integers(0, 25),
    founds=st.integers(0, 40),
    samples=st.integers(1, 4),
    classes=st.lists(st.sampled_from([0, 5, 8, 9]), min_size=1, unique=True),
    spread=st.sampled_from([0.0, 1.0, 3.0]),
)
def test_small_crowded_scenes_equal_the_devkit(seed, truths, founds, samples, classes, spread):
    rng = np.random.default_rng(seed)
    options = {"samples": samples, "classes": classes, "spread": spread}
    check(random_boxes(rng, truths, **options), random_boxes(rng, founds, **options), samples)


def _one_score(found):
    return dataclasses.replace(found, score=np.full(len(found), 0.5))


def _zero_scores(found):
    return dataclasses.replace(found, score=np.zeros(len(found)))


def _some_zero_scores(found):
    return dataclasses.replace(found, score=np.where(np.arange(len(found)) % 2, found.score, 0))


def _no_velocity(found):
    return dataclasses.replace(found, velocity=np.full((len(found), 2), np.nan))


def _every_box_thrice(found):
    return found.select(np.repeat(np.arange(len(found)), 3))


def _only_cars(found):
    return dataclasses.replace(found, label=np.zeros(len(found), np.int64))


def _turned_about(found):
    return dataclasses.replace(found, yaw=found.yaw + np.pi)


def _on_the_threshold(found):
    return dataclasses.replace(found, center=found.center + np.array([0.5, 0, 0]))


def _single(found):
    return found.select(np.array([7]))


def _empty_frames(found):
    return found.select(found.sample == 1)


def _no_pedestrians(found):
    return found.select(found.label != NUSCENES_CLASSES.index("pedestrian"))


def _no_attributes(found):
    return dataclasses.replace(found, attribute=np.full(len(found), -1))


@pytest.mark.parametrize(
    "change",
    [
        _one_score,
        _zero_scores,
        _some_zero_scores,
        _no_velocity,
        _every_box_thrice,
        _only_cars,
        _turned_about,
        _on_the_threshold,
        _single,
        _empty_frames,
        _no_pedestrians,
        _no_attributes,
    ],
    ids=lambda f: f.__name__.strip("_"),
)
@pytest.mark.parametrize("swap", [False, True], ids=["detections", "truth"])
def test_adversarial_submissions_equal_the_devkit(change, swap):
    rng = np.random.default_rng(3)
    truth = random_boxes(rng, 120, samples=4, spread=10)
    # Detections near the truth, so that curves are long.
    found = dataclasses.replace(
        truth.select(np.sort(rng.choice(120, 150))), score=rng.integers(1, 20, 150) / 20
    )
    found = dataclasses.replace(
        found, center=found.center + np.round(rng.normal(size=(150, 3)) * 2) / 4
    )
    pair = (change(truth), found) if swap else (truth, change(found))
    check(*pair, 4)


def test_order_of_equal_scores_is_the_devkits():
    # One score, the second nearer or not: the later row goes first and takes the truth.
    one = random_boxes(np.random.default_rng(0), 1, samples=1, classes=[0])
    center = one.center + np.array([[0.9, 0, 0], [0.1, 0, 0]])
    two = dataclasses.replace(one.select(np.array([0, 0])), center=center)
    for rows in ([0, 1], [1, 0]):
        found = two.select(np.array(rows))
        check(one, found, 1)
        assert match(one, found, (2.0,)).tolist() == [[-1, 0]]


def test_distances_round_as_in_the_devkit():
    utils = pytest.importorskip("nuscenes.eval.common.utils")
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 500, 2)) * 1000

    class Box:
        def __init__(self, translation):
            self.translation = translation

    theirs = [utils.center_distance(Box(p), Box(q)) for p, q in zip(a, b, strict=True)]
    assert np.array_equal(center_distance(a, b), theirs)


def test_matching_is_greedy_and_strict():
    rng = np.random.default_rng(1)
    truth = random_boxes(rng, 40, samples=3, classes=[0, 1], spread=3)
    found = random_boxes(rng, 60, samples=3, classes=[0, 1], spread=3)
    thresholds = (0.5, 2.0)
    got = match(truth, found, thresholds)
    for level, limit in enumerate(thresholds):
        free = set(range(len(truth)))
        for i in sorted(range(len(found)), key=lambda i: (found.score[i], i), reverse=True):
            near = [
                (np.hypot(*(truth.center[j] - found.center[i])[:2]), j)
                for j in sorted(free)
                if truth.sample[j] == found.sample[i] and truth.label[j] == found.label[i]
            ]
            distance, j = min(near, default=(np.inf, -1))
            expected = j if distance < limit else -1
            assert got[level, i] == expected
            free.discard(expected)


def test_nothing_to_find_or_nothing_found_gives_zeros():
    some, none = random_boxes(np.random.default_rng(0), 30), ScoredBoxes.empty(NUSCENES_CLASSES)
    for truth, found in ((none, some), (some, none), (none, none)):
        summary = check(truth, found, 3)
        assert summary["mean_ap"] == 0 and summary["nd_score"] == 0
        assert set(summary["tp_errors"].values()) == {1.0}


def test_ceiling_of_a_perfect_submission_is_one():
    truth, found = perfect(score=np.ones(400))
    summary = check(truth, found, 20)
    assert summary["mean_ap"] == pytest.approx(1, abs=1e-12)
    assert summary["nd_score"] == pytest.approx(1, abs=1e-12)


def test_absent_classes_lower_the_ceiling():
    # Conventions 5.2: a perfect answer on a set with one class.
    truth, _ = perfect()
    cars = truth.select(truth.label == 0)
    summary = check(cars, cars, 20)
    assert summary["mean_ap"] == pytest.approx(0.1)
    # Errors are means over 10, 9 (no cone) and 8 (no cone, no barrier) classes.
    assert summary["nd_score"] == pytest.approx((5 * 0.1 + 0.1 + 0.1 + 1 / 9 + 1 / 8 + 1 / 8) / 10)


def one_car(**changes):
    truth = ScoredBoxes(
        center=np.zeros((1, 3)),
        size=np.array([[4.5, 2.0, 1.6]]),
        yaw=np.zeros(1),
        velocity=np.zeros((1, 2)),
        label=np.zeros(1, np.int64),
        sample=np.zeros(1, np.int64),
        attribute=np.zeros(1, np.int64),
        score=np.ones(1),
        classes=NUSCENES_CLASSES,
    )
    found = dataclasses.replace(truth, **{k: np.array([v]) for k, v in changes.items()})
    summary = check(truth, found, 1)
    return summary["mean_dist_aps"]["car"], summary["label_tp_errors"]["car"]


def test_known_errors_of_a_single_car():
    # The measured oracles of docs/nuscenes.md, "Files and tables".
    ap, errors = one_car(center=[1.5, 0, 0])
    assert (ap, errors["trans_err"]) == (pytest.approx(0.5), pytest.approx(1.5))
    assert one_car(size=[2.0, 4.5, 1.6])[1]["scale_err"] == pytest.approx(0.714, abs=1e-3)
    assert one_car(yaw=np.pi)[1]["orient_err"] == pytest.approx(np.pi)
    assert one_car(velocity=[np.nan, np.nan])[1]["vel_err"] == 1.0
    assert one_car(attribute=1)[1]["attr_err"] == 1.0


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), factor=st.floats(0.01, 1.0))
def test_scores_count_by_order_only_and_samples_by_any_number(seed, factor):
    rng = np.random.default_rng(seed)
    truth, found = random_boxes(rng, 40), random_boxes(rng, 60, ties=False)
    base = evaluate(truth, found).summary
    renamed = np.array([7, 3, 11])
    other = evaluate(
        dataclasses.replace(truth, sample=renamed[truth.sample]),
        dataclasses.replace(found, sample=renamed[found.sample], score=found.score * factor),
    ).summary
    assert other["label_aps"] == base["label_aps"]


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), angle=st.floats(-3, 3), x=st.floats(-1e3, 1e3))
def test_metrics_do_not_depend_on_the_axes(seed, angle, x):
    rng = np.random.default_rng(seed)
    truth = random_boxes(rng, 40)
    found = random_boxes(rng, 60, ties=False)
    # Off the half-metre positions: rounding must not decide a match.
    shift = rng.normal(size=(60, 3))
    found = dataclasses.replace(found, center=found.center + shift)
    moved = geometry.pose([x, -x, 0], geometry.yaw_to_quat_wxyz(angle))
    base = evaluate(truth, found).summary
    other = evaluate(truth.transformed(moved), found.transformed(moved)).summary
    assert other["mean_ap"] == pytest.approx(base["mean_ap"], abs=1e-9)
    for name in ERROR_NAMES:
        assert other["tp_errors"][name] == pytest.approx(base["tp_errors"][name], abs=1e-6)


def test_non_finite_boxes_are_refused():
    boxes = random_boxes(np.random.default_rng(0), 5)
    for change in ({"center": np.full((5, 3), np.inf)}, {"score": np.full(5, np.nan)}):
        with pytest.raises(BoxError, match=rf"detections\.{next(iter(change))}: expected finite"):
            evaluate(boxes, dataclasses.replace(boxes, **change))


def test_rules_in_the_devkits_words():
    config = pytest.importorskip("nuscenes.eval.common.config")
    assert DetectionRules().to_dict() == config.config_factory("detection_cvpr_2019").serialize()
