"""A detector's boxes where nobody drew any: the same as truth to whoever learns."""

from __future__ import annotations

import dataclasses
import json
import warnings

import numpy as np
import pytest
from distill_tiny import TEACHER, settled
from model_tiny import TINY
from train_tiny import a_config
from typer.testing import CliRunner

from crkd_core.boxes import Detections
from crkd_core.cli import app
from crkd_core.config import ConfigError, CrkdConfig, UnlabelledConfig
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.distill.cache import FeatureCache
from crkd_core.distill.views import TeacherViews
from crkd_core.evaluate.submission import (
    Answer,
    SubmissionError,
    make_submission,
    write_submission,
)
from crkd_core.model.checkpoint import save_weights
from crkd_core.train.mixed import MixedFrames
from crkd_core.train.pseudo_labels import PseudoLabels
from crkd_core.train.run_folder import Run, RunError
from crkd_core.train.samples import Views
from crkd_core.train.start import TrainError


def frames_of(root, split):
    return NuScenesFrames.for_detectors(NuScenes(root, split=split), split, TINY, recorded=True)


def as_detections(truth, score):
    """Truth as a detector would have said it."""
    shared = {f.name: getattr(truth, f.name) for f in dataclasses.fields(Detections)
              if hasattr(truth, f.name)}  # fmt: skip
    return Detections(**shared, score=np.broadcast_to(score, len(truth)).astype(float))


def told(frames, path, score=0.9):
    """A results JSON that says of every sample what was annotated."""
    answers = [Answer.to(frame, as_detections(frame.truth, score)) for frame in frames]
    write_submission(make_submission(answers, classes=NUSCENES_CLASSES), path)
    return path


def labels_of(frames, path, **options):
    values = {"score": 0.3, "tokens": frames.tokens, "classes": NUSCENES_CLASSES} | options
    with warnings.catch_warnings():
        # The tiny world has not every class.
        warnings.filterwarnings("ignore", message=".*are learned as ground")
        return PseudoLabels(path, **values)


def test_boxes_come_back_as_they_were_drawn(tiny_world, tmp_path):
    frames = frames_of(tiny_world, "mini_val")
    labels = labels_of(frames, told(frames, tmp_path / "results.json"))
    assert len(labels) == sum(len(frame.truth) for frame in frames) > 0
    for frame in frames:
        truth = frame.truth
        found = labels.truth_of(dataclasses.replace(frame, truth=None))
        assert found.counts.all() and found.classes == truth.classes
        # A pose that is not level turns velocities, which have no z, a little.
        for name in ("center", "size", "velocity", "label"):
            ours, theirs = getattr(found, name), getattr(truth, name)
            np.testing.assert_allclose(ours, theirs, atol=0.01, err_msg=name)
        np.testing.assert_allclose(np.cos(found.yaw - truth.yaw), 1, atol=1e-4)


def test_only_sure_boxes_of_the_learners_classes_are_taken(tiny_world, tmp_path):
    frames = frames_of(tiny_world, "mini_val")
    count = max(len(frame.truth) for frame in frames)
    scores = np.linspace(0.05, 0.95, count)
    answers = [
        Answer.to(frame, as_detections(frame.truth, scores[: len(frame.truth)]))
        for frame in frames
    ]
    path = tmp_path / "results.json"
    write_submission(make_submission(answers, classes=NUSCENES_CLASSES), path)
    for least in (0.1, 0.5):
        labels = labels_of(frames, path, score=least, classes=("car", "pedestrian"))
        for frame in frames:
            names = np.array(NUSCENES_CLASSES)[frame.truth.label]
            sure = scores[: len(frame.truth)] >= least
            expected = int((np.isin(names, ("car", "pedestrian")) & sure).sum())
            found = labels.truth_of(frame)
            assert len(found) == expected and found.classes == ("car", "pedestrian")
    digests = {labels_of(frames, path, score=least).digest() for least in (0.1, 0.5)}
    assert len(digests) == 2


def test_files_that_cannot_label_are_refused(tiny_world, tmp_path):
    frames = frames_of(tiny_world, "mini_val")
    path = told(frames, tmp_path / "results.json", score=0.2)
    with pytest.raises(TrainError, match=r"score of at least 0\.3 .*the best has 0\.200"):
        labels_of(frames, path)
    others = frames_of(tiny_world, "mini_train")
    with pytest.raises(TrainError, match=r"no answer to \d+ of \d+ unlabelled samples, first"):
        labels_of(others, path, score=0.1)
    labels = labels_of(frames, path, score=0.1)
    with pytest.raises(TrainError, match="expected one with a pose"):
        labels.truth_of(dataclasses.replace(frames[0], global_T_ego=None))
    with pytest.raises(TrainError, match="expected one with a pose"):
        labels.truth_of(others[0])
    first = labels_of(frames, path, score=0.1, tokens=frames.tokens[:1])
    with pytest.raises(TrainError, match="expected one with a pose"):
        first.truth_of(frames[1])
    path.write_text("{")
    with pytest.raises(SubmissionError, match="expected a JSON file"):
        labels_of(frames, path)
    with pytest.raises(ConfigError, match=r"unlabelled\.pseudo_score"):
        UnlabelledConfig(data="", split="", pseudo_score=1.5)
    with pytest.raises(ConfigError, match="give --pseudo-labels too"):
        UnlabelledConfig(data="", split="", pseudo_score=0.5)


def test_a_class_without_a_box_is_told_of(tiny_world, tmp_path):
    frames = frames_of(tiny_world, "mini_val")
    answers = []
    for frame in frames:
        found = as_detections(frame.truth, 0.9)
        car = NUSCENES_CLASSES.index("car")
        answers.append(Answer.to(frame, found.select(found.label != car)))
    path = tmp_path / "results.json"
    write_submission(make_submission(answers, classes=NUSCENES_CLASSES), path)
    with pytest.warns(UserWarning, match="no box of car.* are learned as ground"):
        PseudoLabels(path, score=0.3, tokens=frames.tokens, classes=NUSCENES_CLASSES)


def test_a_step_sees_them_like_drawn_ones_and_kept_samples_do_not_hold_them(tiny_world, tmp_path):
    """The targets of a training on told drives are those of one on drawn drives, to rounding."""
    labelled, others = (frames_of(tiny_world, split) for split in ("mini_train", "mini_val"))
    labels = labels_of(others, told(others, tmp_path / "results.json"), classes=TINY.classes)
    config = a_config(
        keep_folder=str(tmp_path / "kept"),
        unlabelled=UnlabelledConfig(data="", split="", pseudo_labels="results.json"),
    )
    mixed = MixedFrames(labelled, others, share=0.5, pseudo=labels)
    bare = MixedFrames(labelled, others, share=0.5)
    assert mixed.identity() == bare.identity()
    assert mixed.digest() != bare.digest() == mixed.digest().rpartition(" ")[0]
    assert mixed.with_lidar_sweeps(0).pseudo is labels
    # A teacher says the same, whoever drew boxes.
    cache = FeatureCache(tmp_path / "answers", gigabytes=0)
    said = [
        TeacherViews(Views(frames, config), TEACHER, sensors=(), cache=cache).known(1).key
        for frames in (mixed, bare)
    ]
    assert said[0] == said[1] != ""
    views = Views(mixed, config)
    for _ in range(2):  # Read, then from the files.
        batch = views.collate([views[position] for position in range(4)])
        assert batch.targets.labelled is not None and batch.targets.labelled.all()
    alone = [view.truth for view in (Views(bare, config)[position] for position in range(4))]
    assert [truth is None for truth in alone] == [False, True, False, True]
    for position in (1, 3):
        index = Views(bare, config).order[position] - len(labelled)
        drawn = Views(mixed, dataclasses.replace(config, keep_folder=None))
        frame = drawn.view(
            dataclasses.replace(others[index], truth=others[index].truth.of_classes(TINY.classes)),
            position,
        )
        ours, theirs = views[position].truth, frame.truth
        assert len(ours) == len(theirs)
        for name in ("center", "velocity"):
            rows = [np.sort(getattr(truth, name), axis=0) for truth in (ours, theirs)]
            np.testing.assert_allclose(*rows, atol=0.01)


def test_the_command_trains_on_the_boxes_of_crkd_evaluate(tiny_world, tmp_path):
    teacher, other = tmp_path / "teacher.safetensors", tmp_path / "run"
    save_weights(settled(TINY), teacher)
    words = ["evaluate", "--weights", teacher, "--data", tiny_world, "--split", "mini_val"]
    done = CliRunner().invoke(app, [*map(str, words), "--out", str(tmp_path / "answers")])
    assert done.exit_code == 0, done.output
    boxes = tmp_path / "answers" / "results.json"
    words = ["train", "--data", tiny_world, "--split", "mini_train", "--out", other]
    options = ["--start", teacher, "--preset", "demo_student", "--steps", "2"]
    changes = ["batch_size=2", "workers=0", "precision=fp32", "unlabelled.pseudo_score=0.0"]
    more = ["--unlabelled", tiny_world, "--unlabelled-split", "mini_val"]
    options += [word for change in changes for word in ("--set", change)]

    def run(*given):
        return CliRunner().invoke(app, [*map(str, given)], catch_exceptions=False)

    with pytest.raises(ConfigError, match="those of a detector by --pseudo-labels, or distil"):
        run(*words, *options, *more)
    with pytest.raises(ConfigError, match="--unlabelled-split SPLIT together"):
        run(*words, *options, "--pseudo-labels", boxes)
    assert not other.exists()
    done = run(*words, *options, *more, "--pseudo-labels", boxes)
    assert done.exit_code == 0, done.output
    drives = Run.open(other).config.unlabelled
    assert drives is not None
    assert (drives.pseudo_labels, drives.pseudo_score) == (str(boxes.resolve()), 0.0)
    assert run(*words, "--resume").exit_code == 0
    moved = boxes.rename(tmp_path / "moved.json")
    said = r"put it back, or write where it lies now as config\.unlabelled\.pseudo_labels into"
    with pytest.raises(RunError, match=said):
        run(*words, "--resume")
    moved.rename(boxes)
    # With a teacher besides, they count as labelled: nothing is a teacher's alone.
    lidar, taught = tmp_path / "lidar.safetensors", tmp_path / "taught"
    save_weights(settled(TEACHER), lidar)
    words_of_teacher = ["distill", *words[1:-1], taught, "--teacher", lidar, "--student", teacher]
    words_of_teacher += ["--preset", "demo_student", "--steps", "2", "--losses", "reld=0"]
    options = [word for change in (*changes, "log_steps=1") for word in ("--set", change)]
    done = run(*words_of_teacher, *options, *more, "--pseudo-labels", boxes)
    assert done.exit_code == 0, done.output
    lines = [json.loads(line) for line in (taught / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2 and all(line["respd_box"] > 0 < line["depth"] for line in lines)
    # Who goes on from it learns them too, as a student that is distilled from there does.
    later = tmp_path / "later"
    done = run(*words[:-1], later, "--start", other, "--steps", 1)
    assert done.exit_code == 0, done.output
    assert Run.open(later).config.unlabelled == drives
    # Drives that a teacher alone spoke about are left out with a word.
    crkd = CrkdConfig(teacher=str(lidar), teacher_checksum="0")
    alone = UnlabelledConfig(data=str(tiny_world), split="mini_val")
    config = Run.open(other).config
    config = dataclasses.replace(config, crkd=crkd, unlabelled=alone)
    Run.start(tmp_path / "alone", config, data=str(tiny_world), split="mini_train")
    save_weights(settled(TINY), tmp_path / "alone" / "weights.safetensors")
    with pytest.warns(UserWarning, match="from which a training without teacher learns nothing"):
        run(*words[:-1], tmp_path / "plain", "--start", tmp_path / "alone", "--steps", 1)
    assert Run.open(tmp_path / "plain").config.unlabelled is None
    # Other boxes are another training.
    results = json.loads(boxes.read_text())
    next(boxes for boxes in results["results"].values() if boxes).pop()
    boxes.write_text(json.dumps(results))
    with pytest.raises(RunError):
        run(*words, "--resume")
