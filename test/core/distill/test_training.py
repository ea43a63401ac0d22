"""Distillation runs: what they train, what they leave alone, what they write."""

from __future__ import annotations

import dataclasses
import shutil

import numpy as np
import pytest
import torch
import vod_tiny
from crkd_maps import only
from distill_tiny import FRAMES, STUDENT, TEACHER, a_config, settled, start
from model_tiny import LIDAR, ONE_CLASS, TINY, batch, with_branches
from safetensors.torch import save_file
from train_tiny import Interrupted, StopsAfter, logged
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.commands.runs import recorded_frames
from crkd_core.config import (
    CRKD_LOSSES,
    PUBLISHED_LOSSES,
    AugmentConfig,
    ConfigError,
    CrkdConfig,
    GuideConfig,
    ImkdConfig,
    RadarViewConfig,
    TemporalConfig,
    TrainConfig,
)
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.data.tensors import Tensors
from crkd_core.distill.adapt import AdaptError, check_sweeps
from crkd_core.distill.cache import FeatureCache
from crkd_core.distill.criterion import DistillationLoss
from crkd_core.distill.crkd import Crkd
from crkd_core.distill.settings import distill_config
from crkd_core.distill.teacher import Teacher, TeacherError, checksum
from crkd_core.distill.training import DistillError, distill, inherit, teacher_configs
from crkd_core.distill.views import TaughtViews
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import CheckpointError, load_weights, save_weights
from crkd_core.presets import preset
from crkd_core.report.maps import loss_maps
from crkd_core.sensors import CAMERAS, RADARS
from crkd_core.train.batch import Taught
from crkd_core.train.loop import TrainError, train
from crkd_core.train.run_folder import Run, RunError
from crkd_core.train.samples import Views
from crkd_core.train.start import StartError, initial_network


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    save_weights(settled(TEACHER), path)
    return path


def test_a_lidar_teacher_teaches_and_only_the_student_is_exported(teacher_file, tmp_path) -> None:
    before = teacher_file.read_bytes()
    run = start(tmp_path, a_config(teacher_file))
    distill(run, FRAMES)
    assert teacher_file.read_bytes() == before
    terms = {"csrd", "msfd_fused", "msfd_camera", "reld", "respd_heatmap", "respd_box"}
    for line in logged(run):
        assert terms <= set(line)
        parts = set(line) - {"total", "step", "lr", "gradient_norm", "norm_samples"}
        assert line["total"] == pytest.approx(sum(line[name] for name in parts), rel=1e-4)
    student = load_weights(tmp_path / "weights.safetensors")
    assert student.state_dict().keys() == build_detector(STUDENT).state_dict().keys()
    assert student.config == STUDENT
    checkpoint = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    adapters = {tuple(name.split(".")[:3]) for name in checkpoint["criterion"]}
    assert adapters == {("methods", "crkd", part) for part in ("fused", "camera", "relation")}


def test_a_side_branch_is_trained_and_not_exported(teacher_file, tmp_path) -> None:
    radar = dataclasses.replace(STUDENT.radar, calibration="side")
    config = a_config(teacher_file, detector=dataclasses.replace(TINY, radar=radar))
    run = start(tmp_path, config)
    trained = distill(run, FRAMES)
    assert all(line["csrd"] > 0 for line in logged(run))
    exported = load_weights(tmp_path / "weights.safetensors")
    assert exported.calibration is None
    assert exported.config == TINY
    assert torch.equal(exported(batch(0)).fused, trained(batch(0)).fused)
    assert distill(Run.open(tmp_path), FRAMES, resume=True).calibration is not None


@pytest.mark.parametrize(
    ("sensors", "message"),
    [
        (CAMERAS, "student tiny sees no radar.*--losses csrd=0"),
        (RADARS, "student tiny sees no camera.*--losses msfd_camera=0"),
    ],
)
def test_losses_about_a_missing_sensor_are_refused(sensors, message, teacher_file, tmp_path):
    run = start(tmp_path, a_config(teacher_file, sensors=sensors))
    with pytest.raises(AdaptError, match=message):
        distill(run, FRAMES)


def test_a_resumed_distillation_is_the_uninterrupted_one(teacher_file, tmp_path) -> None:
    """The adapters and their optimiser state are part of what is resumed."""
    config = a_config(teacher_file, augment=AugmentConfig(image_zoom=(1.0, 1.3)))
    whole, broken = start(tmp_path / "whole", config), start(tmp_path / "broken", config)
    distill(whole, FRAMES)
    with pytest.raises(Interrupted):
        distill(broken, StopsAfter(FRAMES, 5))
    distill(Run.open(tmp_path / "broken"), FRAMES, resume=True)
    assert logged(broken) == logged(whole)
    a, b = (torch.load(r.path / "checkpoint.pt", weights_only=True) for r in (whole, broken))
    for part in ("model", "criterion"):
        assert all(torch.equal(value, b[part][name]) for name, value in a[part].items())


def test_a_cache_is_shared_and_changes_no_more_than_its_rounding(teacher_file, tmp_path) -> None:
    runs = {}
    for name in ("plain", "fills", "uses"):
        settings = {} if name == "plain" else {"cache": str(tmp_path / "cache")}
        runs[name] = start(tmp_path / name, a_config(teacher_file, settings=settings))
        distill(runs[name], FRAMES)
    assert len(list((tmp_path / "cache").glob("*/*.safetensors"))) == len(FRAMES)
    plain, fills, uses = (logged(run) for run in runs.values())
    # From the second step on the weights differ too.
    assert fills[0] == pytest.approx(plain[0], rel=1e-2)
    for rounded, again in zip(fills, uses, strict=True):
        # In another batch the same sample may differ in the last digits.
        assert again == pytest.approx(rounded, rel=5e-3)


def test_a_cache_that_is_read_teaches_to_the_bit_what_it_did_while_it_was_filled(
    teacher_file, tmp_path
) -> None:
    """A run that was killed goes on exactly, whatever of its batches is known by then."""
    runs = []
    for name in ("fills", "uses"):
        settings = {"cache": str(tmp_path / "cache")}
        augment = AugmentConfig(image_zoom=(1.0, 1.3))
        config = a_config(teacher_file, settings=settings, augment=augment)
        runs.append(start(tmp_path / name, config))
        distill(runs[-1], FRAMES)
    assert logged(runs[1]) == logged(runs[0])


def test_without_losses_it_is_the_plain_training(teacher_file, tmp_path) -> None:
    config = a_config(teacher_file, settings={"losses": {}})
    silent = start(tmp_path / "silent", config)
    distill(silent, FRAMES)
    plain = start(tmp_path / "plain", dataclasses.replace(config, crkd=None))
    train(plain, FRAMES)
    assert logged(silent) == logged(plain)


def test_the_teacher_is_checked_while_training(teacher_file, tmp_path, monkeypatch) -> None:
    seen = []
    real = Teacher.verify

    def verify(self) -> None:
        seen.append(self.checksum)
        if len(seen) == 2:
            self.model.head.outputs[0].bias[0] += 1
        real(self)

    monkeypatch.setattr(Teacher, "verify", verify)
    run = start(tmp_path, a_config(teacher_file))
    with pytest.raises(TeacherError, match="has changed"):
        distill(run, FRAMES)
    assert len(seen) == 2  # before the first step, and at the first checkpoint
    assert not (run.path / "checkpoint.pt").exists()


def method(config, teacher) -> Crkd:
    return Crkd(config.crkd, student=config.detector, teacher=teacher)


@pytest.mark.parametrize("name", CRKD_LOSSES)
def test_each_loss_goes_down_and_reaches_only_the_student(name, teacher_file) -> None:
    torch.manual_seed(0)
    config = a_config(teacher_file, settings={"losses": only(name)})
    teacher = Teacher(load_weights(teacher_file))
    student = build_detector(STUDENT)
    criterion = DistillationLoss(config, [method(config, teacher)])
    views = TaughtViews(FRAMES, config, [teacher])
    seen = views.collate([views[0], views[1]])
    parameters = [*student.parameters(), *criterion.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=3e-3)
    history = []
    for _ in range(25):
        terms = criterion(student(seen.inputs), seen)
        own = terms[name]
        history.append(own.item())
        optimiser.zero_grad()
        own.backward()
        if len(history) == 1:
            reached = {
                n.split(".")[0] for n, p in student.named_parameters() if p.grad is not None
            }
        optimiser.step()
    assert np.mean(history[-3:]) < 0.8 * history[0]
    everything = {"image", "lift", "radar", "calibration", "fuser", "decoder", "head"}
    expected = {
        "csrd": {"radar", "calibration"},
        "msfd_fused": everything - {"decoder", "head"},
        "msfd_camera": everything - {"decoder", "head"},
        "reld": everything - {"decoder", "head"},
        "respd_heatmap": everything,
        "respd_box": everything,
    }
    assert reached == expected[name]
    assert all(p.grad is not None for p in criterion.parameters())
    assert all(p.grad is None for p in teacher.model.parameters())
    teacher.verify()


def test_the_teacher_sees_what_is_hidden_from_the_student(teacher_file) -> None:
    """Same world, same turn of it; dropped sensors, other image sizes are the student's own."""
    augment = AugmentConfig(image_zoom=(1.0, 1.3), drop_camera=1.0)
    radar_only = a_config(teacher_file, augment=augment, sensors=RADARS)
    size = dataclasses.replace(TINY.image, height=64, width=128)
    views = TaughtViews(FRAMES, radar_only, [a_teacher(image=size)])
    seen = views.collate([views[0], views[1]])
    master = seen.taught[0].batch
    assert master is not None
    assert not seen.inputs.camera_present.any()
    assert master.camera_present.all()
    assert master.images.shape[2:4] == (64, 128)
    assert seen.inputs.lidar is None
    assert master.lidar is not None
    np.testing.assert_array_equal(seen.inputs.truth[0].center, master.truth[0].center)
    camera_teacher = a_config(teacher_file, settings={"teacher_sensors": CAMERAS})
    ours, (theirs,) = TaughtViews(FRAMES, camera_teacher, [Teacher(build_detector(TINY))])[0]
    assert len(ours.radar)
    assert not len(theirs.frame.radar)
    config = a_config(teacher_file, augment=AugmentConfig(), seed=3)
    ours, (theirs,) = TaughtViews(FRAMES, config, [a_teacher()])[4]
    np.testing.assert_array_equal(ours.ego_T_cam, theirs.frame.ego_T_cam)
    np.testing.assert_array_equal(ours.intrinsics, theirs.frame.intrinsics)


@pytest.mark.parametrize("name", ["camera", "radar", "all_cameras", "all_radars"])
def test_no_sensor_is_dropped_for_a_teacher(name, teacher_file) -> None:
    augment = AugmentConfig(**{f"drop_{name}": 1.0})
    config = a_config(teacher_file, augment=augment)
    ours, (theirs,) = TaughtViews(FRAMES, config, [Teacher(build_detector(TINY))])[0]
    plain = dataclasses.replace(config, augment=AugmentConfig())
    every, (whole,) = TaughtViews(FRAMES, plain, [Teacher(build_detector(TINY))])[0]
    assert ours.sensors < every.sensors
    assert theirs.frame.sensors == whole.frame.sensors
    np.testing.assert_array_equal(theirs.frame.radar, whole.frame.radar)


def test_what_is_the_students_own_does_not_bother_its_teacher() -> None:
    """A file of an image branch beside a teacher without cameras, weights of classes it lacks."""
    blind = Teacher(build_detector(with_branches("lidar")))
    imkd = ImkdConfig(teacher="", teacher_checksum="", losses={"lidar_fused": 1.0})
    config = TrainConfig(detector=TINY, augment=None, start_image="other.safetensors", imkd=imkd)
    _, (seen,) = TaughtViews(FRAMES, config, [blind])[0]
    assert seen.frame.lidar is not None
    cars = dataclasses.replace(ONE_CLASS, lidar=LIDAR)
    weights = (1.0,) * len(TINY.classes)
    crkd = CrkdConfig(
        teacher="", teacher_checksum="", losses={"reld": 1.0}, respd_class_weights=weights
    )
    config = TrainConfig(detector=TINY, augment=None, crkd=crkd)
    _, (seen,) = TaughtViews(FRAMES, config, [Teacher(build_detector(cars))])[0]
    assert seen.frame.lidar is not None


def values(given: Tensors) -> list:
    """Everything in a dataclass of tensors, in order."""
    found: list = []
    for field in dataclasses.fields(given):
        value = getattr(given, field.name)
        found += values(value) if isinstance(value, Tensors) else [value]
    return found


def test_a_distilled_student_sees_what_a_plain_one_sees(tiny_world, teacher_file, tmp_path):
    """Order, draws, dropped sensors, targets, depth: to the bit, whatever the teacher looks at."""
    detector = dataclasses.replace(STUDENT, image=dataclasses.replace(TINY.image, zoom=0.5))
    augment = AugmentConfig(drop_camera=0.2, drop_radar=0.2, drop_all_cameras=0.2)
    taught = a_config(
        teacher_file,
        detector=detector,
        augment=augment,
        depth_weight=0.5,
        settings={"losses": only("respd_heatmap"), "cache": str(tmp_path)},
    )
    plain = dataclasses.replace(taught, crkd=None)
    tables = NuScenes(tiny_world, split="mini_train")
    sets = [
        NuScenesFrames.for_detectors(
            tables, "mini_train", *networks, lidar_sweeps=1, recorded=True
        )
        for networks in ((detector,), (detector, TEACHER))
    ]
    cache = FeatureCache(tmp_path, gigabytes=1)
    teacher = Teacher(load_weights(teacher_file), keep=("heatmap",), cache=cache)
    views, reads = Views(sets[0], plain), []
    streams = TaughtViews(sets[1], taught, [teacher])
    for _ in range(2):
        alone = views.collate([views[3], views[4]])
        beside = streams.collate([streams[3], streams[4]])
        assert alone.inputs.lidar is not None and len(alone.inputs.lidar)
        for part in ("inputs", "targets"):
            ours, theirs = values(getattr(alone, part)), values(getattr(beside, part))
            for a, b in zip(ours, theirs, strict=True):
                if isinstance(a, torch.Tensor):
                    # Unknown velocities are NaN in both.
                    torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
                elif part == "targets":
                    assert a == b
        (seen,) = beside.taught
        reads.append(None if seen.batch is None else len(seen.batch.lidar))
        teacher.answer(seen)
    # The second time nothing is prepared for the teacher; the first time it saw both sweeps.
    assert reads[1] is None
    assert reads[0] > len(sets[0][0].lidar)


def a_teacher(**changes) -> Teacher:
    return Teacher(build_detector(dataclasses.replace(TEACHER, **changes)))


def test_students_start_from_weights_with_a_fresh_calibration(teacher_file, tmp_path) -> None:
    file = tmp_path / "student.safetensors"
    plain = settled(TINY)
    save_weights(plain, file)
    config = a_config(teacher_file, start=str(file))
    model = initial_network(config)
    assert model.calibration is not None
    for name, value in plain.state_dict().items():
        assert torch.equal(value, model.state_dict()[name]), name
    other = dataclasses.replace(STUDENT, fused_channels=24)
    with pytest.raises(StartError, match=r"does not fit the network.*expected \(24"):
        initial_network(dataclasses.replace(config, detector=other))
    # A guide and a memory may be new; a block in the place of others may not.
    more = dataclasses.replace(STUDENT, guide=GuideConfig(), temporal=TemporalConfig(frames=1))
    assert initial_network(dataclasses.replace(config, detector=more)).guide is not None
    view = RadarViewConfig(channels=(8,), blocks=1, context_channels=4)
    camera = dataclasses.replace(STUDENT.camera, radar_view=view)
    other = dataclasses.replace(STUDENT, camera=camera)
    with pytest.raises(StartError, match="only calibration, guide, temporal may be new"):
        initial_network(dataclasses.replace(config, detector=other))


def test_the_image_branch_starts_from_that_of_another_detector(tmp_path) -> None:
    file = tmp_path / "other.safetensors"
    trained = settled(dataclasses.replace(TINY, fused_channels=24, radar=None))
    save_weights(trained, file)
    config = TrainConfig(detector=TINY, start_image=str(file))
    torch.manual_seed(0)
    plain = initial_network(dataclasses.replace(config, start_image=None)).state_dict()
    torch.manual_seed(0)
    model = initial_network(config).state_dict()
    taken = {name for name in model if name.startswith("image.")}
    assert taken and all(torch.equal(model[k], trained.state_dict()[k]) for k in taken)
    assert any(not torch.equal(model[k], plain[k]) for k in taken)
    assert all(torch.equal(model[k], plain[k]) for k in model.keys() - taken)
    wider = dataclasses.replace(TINY.camera, neck_channels=TINY.camera.neck_channels + 8)
    with pytest.raises(StartError, match="does not fit the image branch of the network"):
        initial_network(
            dataclasses.replace(config, detector=dataclasses.replace(TINY, camera=wider))
        )
    with pytest.raises(ConfigError, match="start already brings an image branch"):
        dataclasses.replace(config, start=str(file))
    backbone = dataclasses.replace(TINY.camera.backbone, weights="somewhere")
    camera = dataclasses.replace(TINY.camera, backbone=backbone)
    with pytest.raises(ConfigError, match=r"backbone\.weights already says"):
        dataclasses.replace(config, detector=dataclasses.replace(TINY, camera=camera))
    with pytest.raises(ConfigError, match="has no cameras"):
        dataclasses.replace(
            config, depth_weight=0.0, detector=dataclasses.replace(TINY, camera=None)
        )


def test_configurations(teacher_file, tmp_path) -> None:
    made = distill_config(teacher_file, "demo_student")
    radar = made.detector.radar
    assert (radar.calibration, radar.calibration_block) == ("side", "residual")
    assert made.start is None
    assert made.crkd is not None
    assert made.crkd.teacher_checksum == checksum(load_weights(teacher_file))
    made = distill_config(teacher_file, "demo_student", losses=only("respd_box"))
    assert made.detector.radar.calibration == "none"
    made = distill_config(teacher_file, "demo_student", form="published", inherits=True)
    radar = made.detector.radar
    assert (radar.calibration, radar.calibration_block) == ("path", "released")
    assert made.crkd is not None
    assert made.crkd.losses == PUBLISHED_LOSSES
    assert made.crkd.inherit == ("decoder", "head")
    with pytest.raises(ValueError, match="form: expected one of balanced, published, got 'paper'"):
        distill_config(teacher_file, "demo_student", form="paper")
    with pytest.raises(DistillError, match="CSRD reads the radar calibration block"):
        distill_config(teacher_file, "demo_student", losses=only("csrd"), calibration="none")
    with pytest.raises(DistillError, match="does not say how it was trained; pass --preset"):
        distill_config(teacher_file, str(teacher_file), losses={})
    with pytest.raises(CheckpointError, match="there is no such file; expected a weights file"):
        distill_config(tmp_path / "nothing", "demo_student", losses={})
    bare = tmp_path / "bare.safetensors"
    save_file({"weight": torch.zeros(1)}, bare)
    with pytest.raises(CheckpointError, match="no 'config' in the metadata"):
        distill_config(teacher_file, str(bare), losses={})
    with pytest.raises(DistillError, match="no such run or weights file; a preset is one of demo"):
        distill_config(teacher_file, "runs/nothing", losses={})
    with pytest.raises(ValueError, match="unknown preset 'demo_studnt'; did you mean"):
        distill_config(teacher_file, "demo_studnt", losses={})
    run = start(tmp_path / "run", a_config(teacher_file, sensors=CAMERAS, crkd=None))
    save_weights(settled(TINY), run.path / "weights.safetensors")
    made = distill_config(run.path, str(run.path), losses=only("respd_box"))
    assert made.crkd is not None
    assert made.crkd.teacher_sensors == CAMERAS
    assert made.start == str(run.path / "weights.safetensors")
    assert made.detector.name == "tiny"


def test_a_fresh_block_in_the_path_changes_nothing(teacher_file) -> None:
    """A residual block starts with nothing to add; the released one changes the radar map."""
    file = teacher_file.with_name("plain.safetensors")
    plain = settled(TINY)
    save_weights(plain, file)
    config = a_config(teacher_file, start=str(file))
    same = initial_network(config).eval()
    assert torch.equal(same(batch(0)).fused, plain(batch(0)).fused)
    radar = dataclasses.replace(config.detector.radar, calibration_block="released")
    released = dataclasses.replace(
        config, detector=dataclasses.replace(config.detector, radar=radar)
    )
    other = initial_network(released).eval()
    assert not torch.allclose(other(batch(0)).fused, plain(batch(0)).fused)


@pytest.mark.parametrize(
    "changes",
    [{"calibration": "none"}, {"calibration": "side"}, {"calibration_block": "released"}],
)
def test_a_calibration_in_the_path_stays_with_its_fuser(changes, teacher_file) -> None:
    """Without the block the fuser would read maps that it was never trained on."""
    file = teacher_file.with_name("calibrated.safetensors")
    save_weights(settled(STUDENT), file)
    config = a_config(teacher_file, start=str(file))
    initial_network(config)
    radar = dataclasses.replace(STUDENT.radar, **changes)
    other = dataclasses.replace(STUDENT, radar=radar)
    with pytest.raises(StartError, match=r"through a residual calibration block.*leave"):
        initial_network(dataclasses.replace(config, detector=other))


def test_a_head_of_other_tasks_is_not_inherited(teacher_file) -> None:
    """Of the same shapes: cars and barriers are a task of one class each."""
    tasks = list(STUDENT.head.tasks)
    tasks[0], tasks[3] = tasks[3], tasks[0]
    head = dataclasses.replace(STUDENT.head, tasks=tuple(tasks))
    student = build_detector(dataclasses.replace(STUDENT, head=head))
    with pytest.raises(DistillError, match=r"cannot inherit the head.*one class for another"):
        inherit(student, Teacher(load_weights(teacher_file)), ("decoder", "head"))
    inherit(student, Teacher(load_weights(teacher_file)), ("decoder",))


def test_decoder_and_head_are_inherited(teacher_file) -> None:
    config = a_config(teacher_file)
    student, teacher = initial_network(config), Teacher(load_weights(teacher_file))
    before = {k: v.clone() for k, v in student.state_dict().items()}
    inherit(student, teacher, ("decoder", "head"))
    theirs = teacher.model.state_dict()
    for name, value in student.state_dict().items():
        inherited = name.startswith(("decoder.", "head."))
        assert torch.equal(value, (theirs if inherited else before)[name]), name
    other = dataclasses.replace(STUDENT, fused_channels=24)
    with pytest.raises(DistillError, match=r"cannot inherit the decoder of teacher tiny_teacher"):
        inherit(build_detector(other), teacher, ("decoder",))


def test_the_ramp_follows_the_steps(teacher_file, tmp_path) -> None:
    runs = []
    for ramp in (0, 4):
        settings = {"losses": only("respd_heatmap"), "ramp_steps": ramp}
        runs.append(start(tmp_path / str(ramp), a_config(teacher_file, settings=settings)))
        distill(runs[-1], FRAMES)
    full, rising = (logged(run)[0]["respd_heatmap"] for run in runs)
    assert rising == pytest.approx(full / 4, rel=1e-5)


def test_two_teachers_teach_one_student(teacher_file) -> None:
    """The second stands for a method that is to come: it has a teacher and batches of its own."""

    class Second(Crkd):
        name = "second"

    config = a_config(teacher_file, settings={"losses": only("respd_box")})
    lidar, radar = Teacher(load_weights(teacher_file)), Teacher(settled(TINY))
    first = method(config, lidar)
    second = Second(config.crkd, student=config.detector, teacher=radar)
    views = TaughtViews(FRAMES, config, [a_teacher()])
    seen = views.collate([views[0], views[1]])
    both = dataclasses.replace(seen, taught=(*seen.taught, Taught(batch=batch(0, 1))))
    output = build_detector(STUDENT)(seen.inputs)
    alone = DistillationLoss(config, [first])(output, seen)
    together = DistillationLoss(config, [first, second])(output, both)
    added = second(output, both.taught[1], both.targets)
    for name, value in added.items():
        assert name in together
        gain = float((together["total"] - alone["total"]).detach())
        assert gain == pytest.approx(float(value.detach()), rel=1e-3)


def test_two_teachers_of_other_sweeps_are_refused(tiny_world, teacher_file, tmp_path) -> None:
    """Before there is a run: a Frame holds one number of sweeps."""
    file, out = tmp_path / "other.safetensors", tmp_path / "run"
    lidar = dataclasses.replace(TEACHER.lidar, sweeps=1)
    save_weights(settled(dataclasses.replace(TEACHER, name="newest", lidar=lidar)), file)
    sizes = ["detector.grid.low=[-24,-16,-5]", "detector.grid.high=[24,16,3]"]
    words = ["distill", "--data", tiny_world, "--split", "mini_train", "--out", out]
    words += ["--teacher", teacher_file, "--method", "crkd+imkd", "--imkd-teacher", file]
    words += ["--losses", "label_fused=0", *(word for size in sizes for word in ("--set", size))]
    with pytest.raises(AdaptError, match="tiny_teacher and newest read 2 and 1 lidar sweeps"):
        CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)
    assert not out.exists()
    radar = dataclasses.replace(TINY.radar, sweeps=TINY.radar.sweeps + 1)
    with pytest.raises(AdaptError, match="radar sweeps"):
        check_sweeps([TEACHER, TINY, dataclasses.replace(TINY, radar=radar)])
    check_sweeps([TEACHER, TINY, dataclasses.replace(TINY, radar=None)])


def test_a_teacher_sees_sensors_that_it_and_the_data_set_have(tmp_path) -> None:
    """Before anything is trained; a LiDAR is seen whatever is named."""
    files = {}
    for name in ("vod_teacher", "vod_student"):
        files[name] = tmp_path / f"{name}.safetensors"
        save_weights(build_detector(preset(name).detector), files[name])
    data = vod_tiny.write(tmp_path / "vod")

    def frames(teacher, *sensors, **options):
        made = distill_config(
            files[teacher], "vod_student", losses={}, teacher_sensors=sensors, **options
        )
        return recorded_frames(data, "train", made, *teacher_configs(made), version=None)

    assert len(frames("vod_teacher", "CAM_FRONT")) == len(frames("vod_student")) == 1
    told = r"no teacher reads RADAR_FRONT: vod_teacher has .* camera, lidar"
    with pytest.raises(ConfigError, match=told):
        frames("vod_teacher", "CAM_FRONT", "RADAR_FRONT")
    with pytest.raises(ConfigError, match="--teacher-sensor: unknown CAM_TOP"):
        frames("vod_teacher", "CAM_TOP")
    with pytest.raises(AdaptError, match=r"to see CAM_BACK, .* has CAM_FRONT, RADAR_FRONT; name"):
        frames("vod_student", "CAM_FRONT", "CAM_BACK")
    # One of two teachers reads the radar; the other has its LiDAR, or nothing.
    second = {"method": "crkd+imkd", "imkd_teacher": files["vod_student"]}
    assert len(frames("vod_teacher", "RADAR_FRONT", **second)) == 1
    cameras = dataclasses.replace(preset("vod_student").detector, radar=None)
    save_weights(build_detector(cameras), files["vod_teacher"])
    with pytest.raises(AdaptError, match="reads none of RADAR_FRONT, all that it may see; it has"):
        frames("vod_teacher", "RADAR_FRONT", **second)


def test_a_student_of_another_grid_is_refused_before_there_is_a_run(
    tiny_world, teacher_file, tmp_path
) -> None:
    out = tmp_path / "run"
    words = ["distill", "--data", tiny_world, "--split", "mini_train", "--out", out]
    with pytest.raises(AdaptError, match="grid"):
        CliRunner().invoke(
            app, [*map(str, [*words, "--teacher", teacher_file])], catch_exceptions=False
        )
    assert not out.exists()


def test_another_teacher_in_the_same_place_is_refused(tmp_path) -> None:
    file = tmp_path / "teacher.safetensors"
    save_weights(settled(TEACHER), file)
    run = start(tmp_path / "run", a_config(file))
    changed = settled(TEACHER)
    torch.nn.init.ones_(changed.head.outputs[0].bias)
    save_weights(changed, file)
    with pytest.raises(DistillError, match="holds another teacher"):
        distill(run, FRAMES)


def test_the_two_commands_do_not_continue_each_other(teacher_file, tmp_path) -> None:
    run = start(tmp_path / "a", a_config(teacher_file))
    with pytest.raises(TrainError, match="go on with crkd distill"):
        train(run, FRAMES)
    plain = start(tmp_path / "b", a_config(teacher_file, crkd=None))
    with pytest.raises(DistillError, match="go on with crkd train"):
        distill(plain, FRAMES)


def test_a_camera_radar_teacher_teaches_too(teacher_file) -> None:
    config = a_config(teacher_file)
    criterion = DistillationLoss(config, [method(config, Teacher(settled(TINY)))])
    views = TaughtViews(FRAMES, config, [a_teacher(radar=TINY.radar, lidar=None)])
    seen = views.collate([views[0], views[1]])
    assert float(criterion(build_detector(STUDENT)(seen.inputs), seen)["total"].detach()) > 0


def test_of_several_processes_the_first_one_speaks(
    tiny_world, teacher_file, tmp_path, monkeypatch
) -> None:
    """The command, but for the training itself."""

    def distilled(run, *_, **__):
        if run.writes:
            run.log({"step": 1, "share.reld": 0.0, "cosine.reld": 0.0})

    monkeypatch.setattr("crkd_core.distill.training.distill", distilled)
    words = ["distill", "--data", tiny_world, "--split", "mini_train", "--teacher", teacher_file]
    for size in ("detector.grid.low=[-24,-16,-5]", "detector.grid.high=[24,16,3]"):
        words += ["--set", size]
    said = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank in ("0", "1"):
        monkeypatch.setenv("RANK", rank)
        options = ["--out", tmp_path / rank, "--losses", "csrd=0"]
        done = CliRunner().invoke(app, [*map(str, (*words, *options))], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        said.append(done.output)
    for text in ("warning: nothing was measured", "warning: reld has died", "weights: "):
        assert text in said[0]
    assert said[1] == ""


def test_the_command(tiny_world, teacher_file, tmp_path) -> None:
    """A LiDAR teacher, a student from scratch, a real data set."""
    out = tmp_path / "run"
    sizes = ["detector.grid.low=[-24,-16,-5]", "detector.grid.high=[24,16,3]"]
    changes = [*sizes, "batch_size=1", "workers=0", "precision=fp32", "log_steps=1"]
    arguments = ["distill", "--data", str(tiny_world), "--split", "mini_train", "--out", str(out)]
    options = ["--teacher", str(teacher_file), "--student", "demo_student", "--steps", "1"]
    options += ["--losses", "reld=0", *(word for change in changes for word in ("--set", change))]
    done = CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    again = CliRunner().invoke(app, [*arguments, "--resume"], catch_exceptions=False)
    assert again.exit_code == 0, again.output
    with pytest.raises(RunError, match="Leave --losses out"):
        CliRunner().invoke(
            app, [*arguments, "--resume", "--losses", "csrd=1"], catch_exceptions=False
        )
    record = out / "config.json"
    known, elsewhere = record.read_text(), tmp_path / "elsewhere.safetensors"
    shutil.copy(teacher_file, elsewhere)
    for place in (tmp_path / "gone.safetensors", elsewhere):
        record.write_text(known.replace(str(teacher_file), str(place)))
        if place != elsewhere:
            with pytest.raises(RunError, match=r"gone.* as config\.crkd\.teacher into .*config"):
                CliRunner().invoke(app, [*arguments, "--resume"], catch_exceptions=False)
    again = CliRunner().invoke(app, [*arguments, "--resume"], catch_exceptions=False)
    assert again.exit_code == 0, again.output
    (line,) = logged(Run.open(out))
    assert {"csrd", "msfd_fused", "msfd_camera", "respd_box"} <= set(line)
    assert "reld" not in line
    assert load_weights(out / "weights.safetensors").config.radar.calibration == "none"
    with pytest.raises(ValueError, match="give --teacher"):
        CliRunner().invoke(app, [*arguments[:-1], str(tmp_path / "no")], catch_exceptions=False)


def test_a_report_sees_all_maps_whatever_the_losses_read(teacher_file) -> None:
    config = a_config(teacher_file, settings={"losses": only("reld")})
    maps, _ = loss_maps(build_detector(STUDENT).eval(), config, FRAMES[0])
    assert {"teacher, highest class", "student, highest class"} <= maps.keys()


def test_a_report_sees_maps_of_a_run_that_was_balanced_and_kept_its_samples(
    teacher_file, tmp_path
) -> None:
    config = a_config(teacher_file, settings={"losses": only("reld")})
    kept = dataclasses.replace(config, balanced=True, keep_folder=str(tmp_path / "kept"))
    model = build_detector(STUDENT).eval()
    plain, seen = (loss_maps(model, one, FRAMES[0])[0] for one in (config, kept))
    assert plain.keys() == seen.keys()
    for name, values in plain.items():
        np.testing.assert_array_equal(values, seen[name])
    assert not (tmp_path / "kept").exists()
