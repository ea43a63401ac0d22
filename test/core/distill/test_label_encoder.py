"""Labels as features: how boxes are drawn, files of encoders, training and measuring them."""

from __future__ import annotations

import dataclasses
import shutil
import signal

import numpy as np
import pytest
import torch
import vod_tiny
from crkd_maps import truths
from distill_tiny import FRAMES, TEACHER, settled
from model_tiny import TINY
from train_tiny import Interrupted, StopsAfter, Told
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.config import AugmentConfig, ConfigError, GridConfig, TaskConfig, TrainConfig
from crkd_core.data.augment import ground_matrix
from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.data.vod.errors import VodError
from crkd_core.distill.held_out import ProtocolError
from crkd_core.distill.label_checkpoint import LabelCheckpoint, LabelTrainingError
from crkd_core.distill.label_encoder import LabelEncoder, label_maps
from crkd_core.distill.label_teacher import LabelTeacher, load_label_encoder, save_label_encoder
from crkd_core.distill.label_training import (
    answered,
    movements,
    targets_shown,
    train_label_encoder,
)
from crkd_core.distill.teacher import Teacher, TeacherError
from crkd_core.files import OutputError
from crkd_core.infer.detector import InferError
from crkd_core.losses.detection import DetectionLoss
from crkd_core.losses.targets import targets_of
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import CheckpointError, save_weights
from crkd_core.model.decode import decode
from crkd_core.model.output import ModelOutput
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import seen


def test_boxes_are_drawn_as_the_slow_way_draws_them() -> None:
    """Every cell of a shrunken box says where its centre is, its sides, yaw, speed and class."""
    grid = dataclasses.replace(TINY.grid, cell=1.0)
    config = dataclasses.replace(TINY, grid=grid)
    boxes = [truth.select(truth.label == truth.label[0]) for truth in truths(3, 4)]
    # A long one across the axes, and one that reaches the middle of no cell.
    boxes = [
        dataclasses.replace(
            truth.select(slice(0, 1)),
            center=np.array([[3.1, 2.2, 0.5]]),
            size=np.array([size]),
            yaw=np.array([0.6]),
        )
        for truth, size in zip(boxes, [(20.0, 4.0, 2.0), (0.4, 0.4, 1.0)], strict=True)
    ]
    numbers, classes = label_maps(targets_of(boxes, config), config)
    for sample, truth in enumerate(boxes):
        x, y = truth.center[0, :2]
        (length, width, height), yaw = truth.size[0], truth.yaw[0]
        for i, j in np.ndindex(*grid.shape):
            cx, cy = grid.low[0] + i + 0.5, grid.low[1] + j + 0.5
            along = np.cos(yaw) * (x - cx) + np.sin(yaw) * (y - cy)
            across = np.cos(yaw) * (y - cy) - np.sin(yaw) * (x - cx)
            own = (np.floor(x - grid.low[0]), np.floor(y - grid.low[1])) == (i, j)
            drawn = own or (abs(along) <= length / 4 and abs(across) <= width / 4)
            found = numbers[sample, :, i, j].numpy()
            expected = np.zeros(10)
            if drawn:
                expected = np.array(
                    [
                        *(x - grid.low[0] - i, y - grid.low[1] - j, truth.center[0, 2]),
                        *np.log([length, width, height]),
                        *(np.sin(yaw), np.cos(yaw), *truth.velocity[0]),
                    ]
                )
            np.testing.assert_allclose(found, expected, atol=1e-4)
            assert classes[sample, :, i, j].sum() == drawn
            if drawn:
                assert classes[sample, truth.label[0], i, j] == 1


def test_of_two_boxes_the_nearer_counts_and_unknown_speed_is_none() -> None:
    truth = truths(3)[0].select(slice(0, 2))
    truth = dataclasses.replace(
        truth,
        center=np.array([[0.5, 0.5, 0], [4.5, 0.5, 0]]),
        size=np.tile([40.0, 4, 2], (2, 1)),
        yaw=np.zeros(2),
        label=np.array([0, 1]),
        velocity=np.full((2, 2), np.nan),
    )
    numbers, classes = label_maps(targets_of([truth], TINY), TINY)
    assert numbers.isfinite().all()
    row = classes[0, :2, :, 8]
    middle = int((2.5 + 24) / 2)
    assert row[0, 8:middle].all() and not row[0, middle + 1 :].any()
    assert row[1, middle + 1 : 15].all()


def test_classes_are_those_of_the_boxes_whatever_the_tasks_and_cells() -> None:
    """Of a student with other tasks and another order of classes; two of a task in one cell."""
    cone, walker = (TEACHER.classes.index(name) for name in ("traffic_cone", "pedestrian"))
    truth = dataclasses.replace(
        truths(3)[0].select(slice(0, 3)),
        center=np.array([[8.4, 0.4, 0], [9.6, 1.6, 0], [-9, 5, 0]]),
        size=np.tile([3.9, 3.9, 2], (3, 1)),
        yaw=np.zeros(3),
        label=np.array([cone, walker, TEACHER.classes.index("car")]),
    )
    given = targets_of([truth], TEACHER)
    # Tasks in their order: the car, then cone and pedestrian.
    assert given.cell[1] == given.cell[2]
    assert given.label.tolist() == [truth.label[2], cone, walker]
    _, drawn = label_maps(given, TEACHER)
    assert drawn[0].sum() == len(drawn[0].sum(0).nonzero())
    assert {*drawn[0].sum((1, 2)).nonzero()[:, 0].tolist()} == {*truth.label[[2, 0]].tolist()}
    one = tuple(TaskConfig(classes=(name,)) for name in reversed(TEACHER.classes))
    head = dataclasses.replace(TEACHER.head, tasks=one)
    student = dataclasses.replace(TEACHER, head=head, classes=tuple(sorted(TEACHER.classes)))
    boxes = truth.select(slice(1, 3))
    expected = label_maps(targets_of([boxes], TEACHER), TEACHER)
    theirs = targets_of([boxes.of_classes(student.classes)], student)
    found = label_maps(theirs, TEACHER, student.classes)
    for map_, wanted in zip(found, expected, strict=True):
        assert torch.equal(map_, wanted)


def test_a_file_keeps_the_encoder_and_its_teacher(tmp_path) -> None:
    torch.manual_seed(0)
    encoder, path = LabelEncoder(TEACHER, width=8).eval(), tmp_path / "labels.safetensors"
    save_label_encoder(encoder, path, teacher_checksum="abc", measured={"mean_ap": 0.9})
    found = load_label_encoder(path)
    assert found.teacher_checksum == "abc"
    given = targets_of(truths(3, 4), TINY)
    with torch.no_grad():
        assert torch.equal(found(given), encoder(given))
    found.verify()
    found.encoder.out[0].bias.data += 1
    with pytest.raises(TeacherError, match="label encoder of tiny_teacher has changed"):
        found.verify()
    save_weights(settled(TINY), tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="expected a label encoder"):
        load_label_encoder(tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="expected a label encoder"):
        load_label_encoder(tmp_path / "none.safetensors")


def a_taught_teacher() -> Teacher:
    """Decoder and head that answer labels: a random head answers nothing, whatever it is shown."""
    teacher = Teacher(settled(TEACHER))
    teacher.model.requires_grad_(True)
    encoder, criterion = LabelEncoder(TEACHER, width=16), DetectionLoss(TEACHER)
    given = targets_of([seen(frame).truth for frame in FRAMES], TEACHER)
    optimiser = torch.optim.AdamW([*teacher.model.parameters(), *encoder.parameters()], lr=3e-3)
    for _ in range(60):
        optimiser.zero_grad()
        criterion(answered(encoder, teacher, given), given)["total"].backward()
        optimiser.step()
    return Teacher(teacher.model.zero_grad() or teacher.model)


def test_training_goes_through_the_frozen_teacher() -> None:
    teacher = a_taught_teacher()
    encoder, losses = train_label_encoder(teacher, FRAMES, steps=60, width=16, batch_size=2)
    teacher.verify()
    assert len(losses) == 60
    # Batches differ more than few steps help, so before and after are compared on the same boxes.
    given, criterion = targets_of([seen(f).truth for f in FRAMES], TEACHER), DetectionLoss(TEACHER)
    after, before = (
        float(criterion(answered(one, teacher, given), given)["total"].detach())
        for one in (encoder, LabelEncoder(TEACHER, width=16).eval())
    )
    assert after < before
    again, same = train_label_encoder(teacher, FRAMES, steps=3, width=16, batch_size=2)
    _, other = train_label_encoder(teacher, FRAMES, steps=3, width=16, batch_size=2)
    assert same == other
    LabelTeacher(again, teacher_checksum=teacher.checksum).verify()
    assert not encoder.training


def test_boxes_remain_on_a_grid_of_what_lies_ahead() -> None:
    """Neither mirrored behind the vehicle nor turned far off it; elsewhere moved as widely."""
    ahead = dataclasses.replace(TINY, grid=GridConfig(low=(0, -16, -5), high=(32, 16, 3), cell=2))
    rng = np.random.default_rng(0)
    place = np.column_stack([rng.uniform((4, -8), (26, 8), (40, 2)), np.zeros(40)])
    boxes = dataclasses.replace(
        FRAMES[0].truth.select(np.zeros(40, int)), center=place, num_lidar_points=np.ones(40, int)
    )
    frame = dataclasses.replace(FRAMES[0], truth=boxes)
    left = [len(targets_shown([frame], ahead, moved_by=rng).cell) for _ in range(40)]
    still = len(targets_shown([frame], ahead).cell)
    assert still == 40 and np.mean(left) > 0.95 * still and min(left) > 0.7 * still
    # The side to which it is even is mirrored.
    mirrored = {ground_matrix(augment=movements(ahead.grid), rng=rng)[1, 1] < 0 for _ in range(20)}
    assert mirrored == {True, False}
    uneven = dataclasses.replace(ahead.grid, low=(0, -8, -5), high=(32, 16, 3))
    assert movements(uneven).bev_flip == 0
    assert movements(TINY.grid) == AugmentConfig(bev_rotation=45.0)


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tmp_path) -> None:
    teacher = Teacher(settled(TEACHER))
    checkpoint = LabelCheckpoint(path=tmp_path / "c.pt", facts={"steps": 6}, every=2)
    shape = {"steps": 6, "width": 8, "batch_size": 2, "checkpoint": checkpoint}
    expected, losses = train_label_encoder(teacher, FRAMES, **shape)
    checkpoint.remove()
    with pytest.raises(LabelTrainingError, match="nothing to go on from"):
        train_label_encoder(teacher, FRAMES, **shape, resume=True)
    checkpoint.path.write_bytes(b"not one")
    with pytest.raises(LabelTrainingError, match=r"c\.pt: damaged, or no checkpoint") as told:
        train_label_encoder(teacher, FRAMES, **shape, resume=True)
    assert "weights_only" not in str(told.value)
    with pytest.raises(Interrupted):
        train_label_encoder(teacher, StopsAfter(FRAMES, 11), **shape)
    found, same = train_label_encoder(teacher, FRAMES, **shape, resume=True)
    assert same == losses
    for name, tensor in expected.state_dict().items():
        assert torch.equal(tensor, found.state_dict()[name]), name
    other = dataclasses.replace(checkpoint, facts={"steps": 7})
    with pytest.raises(LabelTrainingError, match="begun with steps 6, not 7; say the same"):
        train_label_encoder(teacher, FRAMES, **(shape | {"checkpoint": other}), resume=True)


def test_a_training_that_is_told_to_end_keeps_its_last_step(tmp_path) -> None:
    teacher = Teacher(settled(TEACHER))
    checkpoint = LabelCheckpoint(path=tmp_path / "c.pt", facts={"steps": 5})
    shape = {"steps": 5, "width": 8, "batch_size": 2, "checkpoint": checkpoint}
    _, losses = train_label_encoder(teacher, FRAMES, **shape)
    assert not checkpoint.path.exists()  # One every 100 steps.
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as left:
        # The first sample of step 3.
        train_label_encoder(teacher, Told(FRAMES, [signal.SIGTERM], at=5), **shape)
    assert left.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    assert torch.load(checkpoint.path, weights_only=True)["step"] == 3
    _, same = train_label_encoder(teacher, FRAMES, **shape, resume=True)
    assert same == losses


def test_what_a_perfect_encoder_would_give_back() -> None:
    """Head maps that are the targets themselves decode to the boxes they are of."""
    config = dataclasses.replace(
        TINY, grid=GridConfig(low=(-24, -16, -5), high=(24, 16, 3), cell=0.8)
    )
    truth = truths(3)[0].select(slice(0, 3))
    given = targets_of([truth], config)
    tasks = []
    for task in given.tasks():
        maps = {"heatmap": torch.logit(task.heatmap.clamp(1e-3, 1 - 1e-3))}
        code = torch.zeros((1, 10, *config.grid.shape)).flatten(2)
        code[0][:, task.cell] = task.code.T
        parts = code.unflatten(2, config.grid.shape).split([2, 1, 3, 2, 2], 1)
        maps |= dict(zip(("reg", "height", "dim", "rot", "vel"), parts, strict=True))
        tasks.append(maps)
    found = decode(ModelOutput(tasks=tasks, fused=torch.zeros(1)), config, score_threshold=0.9)[0]
    order = np.argsort(found.center[:, 0])
    np.testing.assert_allclose(
        found.center[order], truth.center[np.argsort(truth.center[:, 0])], atol=1e-3
    )


def test_the_command(tiny_world, tmp_path) -> None:
    teacher = settled(TEACHER)
    save_weights(teacher, tmp_path / "weights.safetensors")
    words = ["label-encoder", "--data", tiny_world, "--split", "mini_train", "--teacher", tmp_path]
    words += ["--steps", 2, "--width", 8, "--held-out", "mini_val"]
    done = CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert "truth through the encoder and the teacher's head on mini_val: mAP" in done.output
    found = load_label_encoder(tmp_path / "label_encoder.safetensors")
    assert found.teacher_checksum == Teacher(teacher).checksum
    assert not (tmp_path / "label_encoder.checkpoint.pt").exists()
    with pytest.raises(OutputError, match="pass --overwrite"):
        CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    out = answered(found.encoder, Teacher(teacher), targets_of(truths(3), TEACHER))
    assert out.tasks[0]["heatmap"].shape[2:] == TEACHER.grid.shape


def test_drives_that_the_teacher_was_trained_on_measure_nothing(tiny_world, tmp_path) -> None:
    folder = tmp_path / "run"
    Run.start(folder, TrainConfig(detector=TEACHER), data=str(tiny_world), split="mini_val")
    save_weights(settled(TEACHER), folder / "weights.safetensors")
    words = ["label-encoder", "--data", tiny_world, "--split", "mini_train", "--teacher", folder]
    words += ["--held-out", "mini_val"]
    with pytest.raises(ProtocolError, match=r"was trained on .*4 of 4 samples of mini_val"):
        CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert not [*folder.glob("label_encoder*")], "nothing was begun"


def test_drives_without_labels_or_classes_are_refused_before_the_training(tmp_path) -> None:
    """And what was trained is kept, if it cannot be measured."""
    box = vod_tiny.label("Car", (15.0, 0.0, -1.0), (4.0, 2.0, 1.5), 0.2)
    data = vod_tiny.write(tmp_path / "vod", labels=(box,))
    for file in [*(data / "lidar" / "training").glob("*/00012.*")]:
        shutil.copy(file, file.with_stem("00013"))
    (data / "lidar" / "training" / "label_2" / "00013.txt").write_text("Car")
    (data / "lidar" / "ImageSets" / "val.txt").write_text("00013")
    head = dataclasses.replace(TEACHER.head, tasks=(TaskConfig(classes=("Car",)),))
    for name, changes in (("other", {}), ("teacher", {"head": head, "classes": ("Car",)})):
        (tmp_path / name).mkdir()
        teacher = build_detector(dataclasses.replace(TEACHER, **changes))
        save_weights(teacher, tmp_path / name / "weights.safetensors")

    def told(kind, match, *, teacher="teacher", split="train", more=()):
        words = ["label-encoder", "--data", data, "--split", split, "--steps", 2, "--width", 8]
        words += ["--teacher", tmp_path / teacher, *more]
        with pytest.raises(kind, match=match):
            CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)

    told(ConfigError, "classes that the data set does not know: car", teacher="other")
    bare = r"vod: frame 00099 of test .* has no labels, .* name a split of annotated drives"
    told(LabelTrainingError, bare, split="test")
    told(LabelTrainingError, bare, more=("--held-out", "test"))
    encoder = tmp_path / "teacher" / "label_encoder.safetensors"
    assert not [*encoder.parent.glob("label_encoder*")], "nothing was begun"
    told(VodError, r"00013\.txt, line 1", more=("--held-out", "val"))
    assert load_label_encoder(encoder).encoder.width == 8


def test_nothing_is_begun_that_could_not_be_written_or_would_replace_a_killed_training(tmp_path):
    """Refused before the data set, which is not there, is looked at."""
    save_weights(settled(TEACHER), tmp_path / "weights.safetensors")
    words = ["label-encoder", "--data", tmp_path / "none", "--split", "a", "--teacher", tmp_path]

    def told(kind, match, *more):
        with pytest.raises(kind, match=match):
            CliRunner().invoke(app, [*map(str, (*words, *more))], catch_exceptions=False)

    (tmp_path / "folder").mkdir()
    told(OutputError, "it is a folder", "--overwrite", "--out", tmp_path / "folder")
    told(OutputError, "weights.safetensors is not a folder", "--out",
         tmp_path / "weights.safetensors" / "encoder")  # fmt: skip
    for choice in ((), ("--overwrite",)):
        told(OutputError, "it is read; choose another --out", *choice, "--out",
             tmp_path / "folder" / ".." / "weights.safetensors")  # fmt: skip
    told(InferError, "expected cpu, cuda", "--device", "moon")
    checkpoint = tmp_path / "label_encoder.checkpoint.pt"
    checkpoint.write_bytes(b"hours")
    told(OutputError, r"checkpoint\.pt is of a training that was killed; pass --resume")
    for choice in ("--resume", "--overwrite"):
        told(NuScenesError, "none", choice)
    assert checkpoint.read_bytes() == b"hours"
