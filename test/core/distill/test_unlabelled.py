"""Drives without boxes: the teacher alone speaks there, and nothing is called wrong."""

from __future__ import annotations

import dataclasses
import json
import shutil

import numpy as np
import pytest
import torch
from crkd_maps import X, Y, crkd, only, output, targets, teacher, truths
from distill_tiny import FRAMES, STUDENT, TEACHER, settled
from model_tiny import TINY
from torch import Tensor
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.config import ConfigError, CrkdConfig, TrainConfig, UnlabelledConfig
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.distill.responses import peaks, teacher_foreground
from crkd_core.losses.depth import depth_truth
from crkd_core.losses.detection import DetectionLoss
from crkd_core.losses.targets import TargetError, Targets, targets_of
from crkd_core.model.checkpoint import save_weights
from crkd_core.model.output import ModelOutput
from crkd_core.train.balance import Order
from crkd_core.train.batch import training_batch
from crkd_core.train.gradients import read_gradient_ratios
from crkd_core.train.mixed import MixedFrames, MixedOrder
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Views


@pytest.fixture(scope="module")
def bare_world(tiny_world, tmp_path_factory):
    """The tiny world as real recordings without boxes are: the tables of annotations are empty."""
    root = tmp_path_factory.mktemp("bare") / "world"
    shutil.copytree(tiny_world, root, ignore=shutil.ignore_patterns(".crkd*"))
    for name in ("sample_annotation", "instance"):
        (root / "v1.0-mini" / f"{name}.json").write_text("[]")
    return root


# ---- order


def test_labelled_samples_keep_their_order_and_the_others_are_strewn_in() -> None:
    labelled = Order(10, seed=3)
    for share in (0.25, 0.5, 0.75, 0.3):
        order = MixedOrder(Order(10, seed=3), 30, share=share)
        picks = [order[position] for position in range(400)]
        others = [index - 10 for index in picks if index >= 10]
        assert [index for index in picks if index < 10] == [
            labelled[position] for position in range(400 - len(others))
        ]
        assert len(others) == pytest.approx(400 * share, abs=1)
        for start in range(0, 400, 4):
            in_batch = sum(index >= 10 for index in picks[start : start + 4])
            assert abs(in_batch - 4 * share) <= 1
        assert sorted(others[:30]) == list(range(30))
    assert len(MixedOrder(Order(10, seed=0), 30, share=0.75)) == 40


def test_what_unlabelled_drives_say_of_boxes_is_not_read(tiny_world, bare_world) -> None:
    sets = [
        NuScenesFrames.for_detectors(NuScenes(root, split=split), split, TINY, recorded=True)
        for root, split in (
            (tiny_world, "mini_train"),
            (bare_world, "mini_val"),
            (tiny_world, "mini_val"),
        )
    ]
    bare, full = (MixedFrames(sets[0], other, share=0.5) for other in sets[1:])
    count = len(sets[0])
    assert len(full) == len(full.tokens) == count + len(sets[2])
    assert full[count - 1].truth is not None and len(full[count - 1].truth)
    assert full[count].truth is None
    assert bare[count].truth is None
    assert full[count].token == bare[count].token
    # As a sample of the other set it may have the name of a labelled one.
    assert full.tokens[count] == f"unlabelled {full[count].token}"
    assert full.digest() != bare.digest()
    run = a_config_with(share=0.5)
    views = Views(full, run)
    batch = views.collate([views[position] for position in range(4)])
    assert batch.targets.labelled is not None
    assert batch.targets.labelled.tolist() == [True, False, True, False]


def a_config_with(*, share: float = 0.5, **changes):
    """A configuration without a teacher's file; nothing here asks for it."""
    values = {
        "detector": STUDENT,
        "augment": None,
        "workers": 0,
        "crkd": CrkdConfig(teacher="", teacher_checksum=""),
        "unlabelled": UnlabelledConfig(data="", split="", share=share),
    }
    return TrainConfig(**(values | changes))


# ---- targets and losses


def partly(boxes: list, labelled: list[bool]) -> Targets:
    """Targets of a batch of which some samples have no truth."""
    known = [truth if flag else None for truth, flag in zip(boxes, labelled, strict=True)]
    made = targets_of(known, TINY, partly=True)
    empty = torch.zeros((len(boxes), X, Y), dtype=torch.bool)
    return dataclasses.replace(made, foreground=empty)


def first(given: ModelOutput) -> ModelOutput:
    """The first sample alone."""
    fields = {
        f.name: value[:1]
        for f in dataclasses.fields(given)
        if isinstance(value := getattr(given, f.name), Tensor)
    }
    tasks = [{name: m[:1] for name, m in task.items()} for task in given.tasks]
    return dataclasses.replace(given, tasks=tasks, **fields)


def test_the_detection_loss_is_that_of_the_labelled_samples() -> None:
    boxes = truths(1, 2)
    loss, given = DetectionLoss(TINY), output(1, grad=True)
    found = loss(given, partly(boxes, [True, False]))
    expected = loss(first(output(1)), targets_of(boxes[:1], TINY))
    for name, value in expected.items():
        assert float(found[name]) == pytest.approx(float(value), rel=1e-5), name
    found["total"].backward()
    for task in given.tasks:
        assert task["heatmap"].grad is not None
        assert task["heatmap"].grad[0].any()
        assert not task["heatmap"].grad[1].any()
    none = loss(output(1), partly(boxes, [False, False]))
    assert float(none["total"]) == 0
    with pytest.raises(TargetError, match=r"samples \[1\] of the batch have no truth"):
        targets_of([boxes[0], None], TINY)


def test_depth_is_learned_from_labelled_drives_alone() -> None:
    frames = [FRAMES[0], dataclasses.replace(FRAMES[1], truth=None)]
    both = training_batch(list(FRAMES[:2]), a_config_with(unlabelled=None, depth_weight=0.5))
    found = training_batch(frames, a_config_with(depth_weight=0.5))
    network = a_config_with().detector
    ours, theirs = (
        depth_truth(made.inputs, network, labelled=made.targets.labelled) for made in (found, both)
    )
    cameras = int(found.inputs.camera_present[0].sum())
    assert torch.equal(ours[:cameras], theirs[:cameras])
    assert theirs[cameras:].any()
    assert not ours[cameras:].any()


@pytest.mark.parametrize("name", ["csrd", "reld", "respd_heatmap"])
def test_losses_that_need_no_truth_do_not_notice(name: str) -> None:
    loss = crkd(losses=only(name), alone=1.0)
    boxes = truths(1, 2)
    found = loss.terms(output(1), teacher(2), partly(boxes, [True, False]))[name]
    full = loss.terms(output(1), teacher(2), targets(boxes))[name]
    assert float(found.detach()) == float(full.detach())


@pytest.mark.parametrize("name", ["respd_heatmap", "respd_box"])
def test_responses_are_louder_where_the_teacher_is_alone(name: str) -> None:
    """Their gradient there, and only there, is ``alone`` times what it would be."""
    boxes = truths(1, 2)
    grads = []
    for alone in (1.0, 4.0):
        student, loss = output(1, grad=True), crkd(losses=only(name), alone=alone)
        loss.terms(student, teacher(2), partly(boxes, [True, False]))[name].backward()
        kind = "heatmap" if name == "respd_heatmap" else "dim"
        grads.append([task[kind].grad for task in student.tasks])
    for once, louder in zip(*grads, strict=True):
        assert once[1].any()
        torch.testing.assert_close(louder[0], once[0])
        torch.testing.assert_close(louder[1], 4 * once[1])


def test_boxes_are_compared_at_the_teachers_peaks_where_no_truth_is() -> None:
    boxes, loss = truths(1, 2), crkd(losses=only("respd_box"))
    student, master = output(1, grad=True), teacher(2)
    loss.terms(student, master, partly(boxes, [True, False]))["respd_box"].backward()
    for task, theirs, own in zip(
        student.tasks, master.tasks, targets_of(boxes, TINY).tasks(), strict=True
    ):
        probability = theirs["heatmap"].sigmoid().amax(1)
        grad = task["dim"].grad
        touched = (grad != 0).any(1) if grad is not None else torch.zeros((2, X, Y)).bool()
        expected = torch.zeros((2, X, Y), dtype=torch.bool)
        expected[0].view(-1)[own.cell[own.sample == 0]] = True
        for i in range(X):
            for j in range(Y):
                around = probability[1, max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
                value = probability[1, i, j]
                expected[1, i, j] = bool(value > 0.3) and bool(value >= around.max())
        assert torch.equal(touched, expected)
        assert expected[1].any()


def test_where_a_teacher_sees_something() -> None:
    logits = torch.full((1, 2, 9, 9), -9.0)
    logits[0, 1, 4, 6] = 0.0
    logits[0, 0, 4, 5] = -1.0
    found = teacher_foreground([logits])
    assert found.shape == (1, 9, 9)
    assert {tuple(c) for c in found[0].nonzero().tolist()} == {
        (i, j) for i in (3, 4, 5) for j in (4, 5, 6, 7)
    }
    assert peaks(logits.sigmoid())[0].nonzero().tolist() == [[4, 6]]


def test_features_are_compared_where_the_teacher_sees_something() -> None:
    student, master = output(1, grad=True), teacher(2)
    for task in master.tasks:
        task["heatmap"] -= 9
    master.tasks[0]["heatmap"][1, 0, 5, 5] = 3.0
    loss = crkd(losses=only("msfd_fused"))
    loss.terms(student, master, partly(truths(1, 2), [True, False]))["msfd_fused"].backward()
    assert student.fused.grad is not None
    touched = (student.fused.grad != 0).any(1).nonzero()
    assert len(touched)
    assert (touched[:, 0] == 1).all()
    assert ((touched[:, 1:] - 5).abs() <= 1).all()


# ---- configuration and command


def test_settings_that_cannot_be_are_refused(tmp_path) -> None:
    with pytest.raises(ConfigError, match=r"unlabelled\.share: expected a share between 0 and 1"):
        UnlabelledConfig(data="", split="", share=1.0)
    with pytest.raises(ConfigError, match="a plain training learns nothing from drives without"):
        a_config_with(crkd=None)


def test_the_command_distils_on_drives_without_boxes(tiny_world, bare_world, tmp_path) -> None:
    file, own = tmp_path / "teacher.safetensors", tmp_path / "student.safetensors"
    save_weights(settled(TEACHER), file)
    save_weights(settled(TINY), own)
    out = tmp_path / "run"
    arguments = ["distill", "--data", str(tiny_world), "--split", "mini_train", "--out", str(out)]
    options = ["--teacher", str(file), "--student", str(own), "--preset", "demo_student"]
    options += ["--steps", "3", "--losses", "reld=0", "--unlabelled", str(bare_world)]
    changes = ["batch_size=4", "workers=0", "precision=fp32", "log_steps=1", "gradient_steps=1"]
    options += [word for change in changes for word in ("--set", change)]
    with pytest.raises(ConfigError, match="--unlabelled-split SPLIT together"):
        CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
    options += ["--unlabelled-split", "mini_val", "--unlabelled-share", "0.75"]
    done = CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    more = Run.open(out).config.unlabelled
    assert more is not None
    assert (more.data, more.split, more.share) == (str(bare_world.resolve()), "mini_val", 0.75)
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 3
    for line in lines:
        assert all(np.isfinite(line[name]) for name in ("total", "heatmap", "msfd_fused", "depth"))
        assert line["respd_heatmap"] > 0
    assert {"respd_heatmap", "respd_box"} <= read_gradient_ratios(out).keys()
    again = CliRunner().invoke(app, [*arguments, "--resume"], catch_exceptions=False)
    assert again.exit_code == 0, again.output
