"""A detector of three classes that nuScenes does not know, from its targets to its metrics."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from other_classes import CLASSES, KNOWN, TOY, found, frame

from crkd_core.boxes import BoxError, Boxes, Detections, Truth
from crkd_core.config import ConfigError, PasteConfig, TrainConfig, check_classes
from crkd_core.data.batch import collate
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import DetectionRules, evaluate
from crkd_core.evaluate.pictures import draw_bev, draw_cameras, draw_precision_recall
from crkd_core.evaluate.report import metrics_tables
from crkd_core.evaluate.submission import make_submission
from crkd_core.infer.detector import Detector
from crkd_core.losses.targets import build_targets
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import load_weights
from crkd_core.model.decode import decode
from crkd_core.model.head import REGRESSION
from crkd_core.presets import crkd_r50
from crkd_core.train.balance import classes_held
from crkd_core.train.loop import train
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Views

FRAMES = [frame(seed) for seed in range(4)]


def names(boxes: Boxes) -> list[str]:
    return [boxes.classes[label] for label in boxes.label]


def truth_of(one) -> Truth:
    assert one.truth is not None
    return one.truth.of_classes(CLASSES)


def config(**changes) -> TrainConfig:
    values = {"augment": None, "steps": 3, "warmup_steps": 1, "batch_size": 2, "workers": 0}
    return TrainConfig(detector=TOY, **(values | changes))


def test_boxes_find_their_classes_by_name():
    truth = FRAMES[0].truth
    kept = truth.of_classes(CLASSES)
    assert kept.classes == CLASSES and "lamp_post" in names(truth)
    assert names(kept) == [name for name in names(truth) if name in CLASSES]
    np.testing.assert_array_equal(kept.center, truth.center[np.isin(names(truth), CLASSES)])
    assert truth.of_classes(KNOWN) is truth
    with pytest.raises(BoxError, match="unknown classes car: these boxes are of van, lamp_post"):
        truth.of_classes(("van", "car"))


def test_boxes_of_two_lists_are_neither_joined_nor_matched():
    truth = FRAMES[0].truth
    kept = truth.of_classes(CLASSES)
    with pytest.raises(BoxError, match="joined: expected boxes of the classes van, lamp_post"):
        Truth.joined([truth, kept])
    # The same names in another order are another list too.
    reordered = kept.of_classes(tuple(reversed(CLASSES)))
    with pytest.raises(BoxError, match="joined"):
        Truth.joined([kept, reordered])
    boxes = make_submission([("a", np.eye(4), found(0))], classes=CLASSES).boxes
    with pytest.raises(BoxError, match="matched with truth: expected boxes of the classes walker"):
        evaluate(boxes.of_classes(tuple(reversed(CLASSES))), boxes)
    with pytest.raises(BoxError, match="joined: expected boxes of the classes car, truck"):
        make_submission([("a", np.eye(4), found(0))], classes=NUSCENES_CLASSES)
    with pytest.raises(BoxError, match="truth of sample 1: expected boxes of the classes rider"):
        build_targets([kept, truth], TOY)


def test_boxes_are_arrays_of_numbers():
    some = found(0)
    for name, value, expected in (
        ("label", some.label.astype(float), "a NumPy array of whole numbers, got float64"),
        ("label", some.label == 0, "a NumPy array of whole numbers, got bool"),
        ("center", some.center.tolist(), "a NumPy array of numbers, got list"),
        ("yaw", torch.from_numpy(some.yaw), "a NumPy array of numbers, got Tensor"),
        ("score", some.score.astype(str), "a NumPy array of numbers, got <U32"),
    ):
        with pytest.raises(BoxError, match=f"Detections.{name}: expected {expected}"):
            dataclasses.replace(some, **{name: value})
    with pytest.raises(BoxError, match="classes: expected names, got the word 'rider'"):
        dataclasses.replace(some, classes="rider")


def test_names_may_come_as_a_list_and_no_labels_as_an_empty_one():
    some = found(0)
    listed = dataclasses.replace(some, classes=list(some.classes))
    assert listed.classes == some.classes and len(Detections.joined([some, listed]))
    none = dataclasses.replace(Detections.empty(CLASSES), label=np.array([]))
    assert len(none.of_classes(tuple(reversed(CLASSES)))) == 0


def test_labels_beyond_the_list_are_refused():
    some = found(0)
    for label in (-1, 3):
        with pytest.raises(BoxError, match="label: expected indices into the 3 classes rider"):
            dataclasses.replace(some, label=np.full(len(some), label))
    with pytest.raises(BoxError, match="every name once"):
        dataclasses.replace(some, classes=("van", "van", "rider"))


def test_what_targets_say_is_what_decoding_finds():
    truths = [truth_of(frame(seed, boxes=6)) for seed in (7, 8, 9)]
    tasks = []
    for target in build_targets(truths, TOY):
        code = torch.zeros(len(truths), 10, TOY.grid.shape[0] * TOY.grid.shape[1])
        code[target.sample, :, target.cell] = target.code
        maps = code.view(len(truths), -1, *TOY.grid.shape).split(list(REGRESSION.values()), 1)
        probability = torch.where(target.heatmap == 1, 0.99, target.heatmap / 2)
        heatmap = torch.logit(probability, 1e-6)
        tasks.append({**dict(zip(REGRESSION, maps, strict=True)), "heatmap": heatmap})
    model = build_detector(TOY).eval()
    with torch.inference_mode():
        output = model(collate(FRAMES[:3], TOY))
    shape = [maps["heatmap"].shape[1] for maps in output.tasks]
    assert shape == [1, 2] == [maps["heatmap"].shape[1] for maps in tasks]
    answers = decode(dataclasses.replace(output, tasks=tasks), TOY, score_threshold=0.6)
    for answer, truth in zip(answers, truths, strict=True):
        assert answer.classes == CLASSES and len(answer)
        for center, name in zip(answer.center, names(answer), strict=True):
            nearest = np.linalg.norm(truth.center - center, axis=1).argmin()
            np.testing.assert_allclose(truth.center[nearest], center, atol=1e-4)
            assert names(truth)[nearest] == name


def test_trained_saved_loaded_and_scored(tmp_path):
    run = Run.start(tmp_path / "run", config(), data="", split="")
    train(run, FRAMES)
    weights = run.path / "weights.safetensors"
    assert load_weights(weights).config.classes == CLASSES
    detector = Detector.load(weights, score_threshold=0.0)
    answers = [(one.token, one.global_T_ego, detector(one)) for one in FRAMES]
    assert {"van"} < {name for _, _, boxes in answers for name in names(boxes)} <= set(CLASSES)
    rules = DetectionRules(class_range={"van": 50, "rider": 30, "walker": 30})
    boxes = make_submission(answers, classes=CLASSES, rules=rules, only_in_range=True).boxes
    truth = ScoredBoxes.joined([scored(truth_of(one), i) for i, one in enumerate(FRAMES)])
    result = evaluate(truth, boxes, rules=rules)
    assert list(result.summary["mean_dist_aps"]) == list(CLASSES)
    _, by_class = metrics_tables(result.summary)
    assert [row[0] for row in by_class.rows] == list(CLASSES)
    for draw in (draw_bev, draw_cameras):
        draw(FRAMES[0], answers[0][2], tmp_path / "picture.png", min_score=0.0)
    draw_precision_recall(result, tmp_path / "curves.png")


def scored(truth: Truth, sample: int) -> ScoredBoxes:
    plain = {f.name: getattr(truth, f.name) for f in dataclasses.fields(Boxes)}
    count = len(truth)
    return ScoredBoxes(
        **plain,
        sample=np.full(count, sample),
        attribute=truth.attribute,
        score=np.ones(count),
    )


def test_perfect_answers_score_one_whatever_the_classes_are_called():
    # No class has attributes here, so that error is 1 for all of them and stays in NDS.
    truth = ScoredBoxes.joined([scored(truth_of(frame(seed)), seed) for seed in range(9)])
    summary = evaluate(truth, truth).summary
    assert summary["mean_ap"] == pytest.approx(1)
    assert summary["mean_dist_aps"] == pytest.approx(dict.fromkeys(CLASSES, 1))
    # Mistaking every rider for a walker costs both, and only them.
    swap = np.array([2, 1, 2])
    wrong = evaluate(truth, dataclasses.replace(truth, label=swap[truth.label])).summary
    assert wrong["mean_dist_aps"]["van"] == pytest.approx(1)
    assert wrong["mean_dist_aps"]["rider"] == 0 and wrong["mean_dist_aps"]["walker"] < 1


def test_an_error_that_no_class_defines_is_left_out_of_nds():
    truth = ScoredBoxes.joined([scored(truth_of(frame(seed)), seed) for seed in range(9)])
    rules = DetectionRules(undefined_errors=dict.fromkeys(CLASSES, ("attr_err",)))
    summary = evaluate(truth, truth, rules=rules).summary
    assert np.isnan(summary["tp_errors"]["attr_err"])
    assert summary["nd_score"] == pytest.approx(1)


def test_ranges_are_asked_for_where_the_rules_have_none():
    with pytest.raises(BoxError, match="no range for classes rider, van, walker"):
        make_submission([("a", np.eye(4), found(0))], classes=CLASSES, only_in_range=True)


def test_training_sees_its_own_classes_only():
    views = Views(FRAMES, config())
    for position in range(4):
        own = views[position].truth
        assert own.classes == CLASSES
        (whole,) = [one.truth for one in FRAMES if one.token == views[position].token]
        assert len(own) == sum(name != "lamp_post" for name in names(whole))
    strange = dataclasses.replace(
        TOY, classes=("van",), head=dataclasses.replace(TOY.head, tasks=TOY.head.tasks[:1])
    )
    one = Views(FRAMES, dataclasses.replace(config(), detector=strange))[0].truth
    assert set(names(one)) <= {"van"}
    with pytest.raises(BoxError, match="unknown classes car"):
        Views(FRAMES, dataclasses.replace(config(), detector=crkd_r50().detector))[0]


class Truths(list):
    def truth(self, index: int) -> Truth:
        return self[index].truth


def test_balance_counts_by_name():
    held = classes_held(Truths(FRAMES), CLASSES)
    for row, one in zip(held, FRAMES, strict=True):
        assert [bool(held) for held in row] == [name in names(one.truth) for name in CLASSES]


def test_a_class_that_the_data_set_does_not_know_is_refused_by_name():
    check_classes("toy", CLASSES, KNOWN)
    with pytest.raises(ConfigError, match=r"toy has classes .* does not know: rider"):
        check_classes("toy", CLASSES, ("van", "walker"))


def test_a_detector_on_frames_of_another_data_set_still_detects():
    # Only training and scoring need the truth.
    answer = Detector(build_detector(TOY), score_threshold=0.0)(
        dataclasses.replace(FRAMES[0], truth=Truth.empty(NUSCENES_CLASSES))
    )
    assert isinstance(answer, Detections) and answer.classes == CLASSES


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": (*CLASSES, "lamp_post")}, "toy: head.tasks .* no task for lamp_post"),
        ({"classes": CLASSES[:2]}, "unknown walker"),
        ({"classes": (*CLASSES, "van")}, "van twice"),
    ],
)
def test_tasks_hold_every_class_once(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(TOY, **changes)


def test_numbers_per_class_are_of_the_detectors_own():
    with pytest.raises(ConfigError, match=r"paste\.counts: expected 3 numbers, for rider, van"):
        config(paste=PasteConfig(counts=(1, 2)))
