"""IMKD's losses of features beside plain loops, with settings of their own for each loss."""

from __future__ import annotations

import dataclasses
from functools import partial

import numpy as np
import pytest
import torch
from crkd_maps import output, targets, truths
from distill_tiny import FRAMES, TEACHER, a_config, settled
from model_tiny import TINY

from crkd_core.config import CellWeightConfig, ImkdConfig, TaskConfig
from crkd_core.distill.adapt import AdaptError
from crkd_core.distill.criterion import DistillationLoss
from crkd_core.distill.features import weighted_error
from crkd_core.distill.imkd import Imkd
from crkd_core.distill.label_encoder import LabelEncoder
from crkd_core.distill.label_teacher import LabelTeacher
from crkd_core.distill.teacher import PARTS, Teacher, TeacherError
from crkd_core.distill.training import methods_of
from crkd_core.distill.views import TaughtViews
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.model.output import ModelOutput

X, Y = TINY.grid.shape
#: Every class in a task of its own.
ALONE = dataclasses.replace(
    TINY.head, tasks=tuple(TaskConfig(classes=(name,)) for name in TINY.classes)
)
MASTER = Teacher(build_detector(TEACHER), keep=PARTS)


def slow_error(ours, theirs, weights, *, standard: bool) -> float:
    """sum w mean_c (S - T)^2 / sum w, T by mean and deviation of the cells that count, float64."""
    s, t, w = (one.detach().double().numpy() for one in (ours, theirs, weights))
    cells = [(b, x, y) for b, x, y in np.ndindex(w.shape) if w[b, x, y] > 0]
    means, deviations = np.zeros(t.shape[1]), np.ones(t.shape[1])
    if standard:
        values = np.array([t[b, :, x, y] for b, x, y in cells])
        means, deviations = values.mean(0), np.maximum(values.std(0), 1e-3)
    total = 0.0
    for b, x, y in cells:
        error = s[b, :, x, y] - (t[b, :, x, y] - means) / deviations
        total += w[b, x, y] * (error**2).mean()
    return float(total / w.sum())


@pytest.mark.parametrize("standard", [False, True])
def test_the_weighted_error_against_loops(standard) -> None:
    """Statistics are those of the teacher, and of the cells that count."""
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn((2, 3, X, Y), generator=generator) for _ in "st")
    s, t = 2 * s + 1, 5 * t - 3
    t[:, :, : X // 2] += 20  # Where nothing counts.
    w = torch.rand((2, X, Y), generator=generator)
    w[:, : X // 2] = 0
    found = weighted_error(s, t, w, standard=standard)
    assert float(found) == pytest.approx(slow_error(s, t, w, standard=standard), rel=1e-4)


def stretched(values: torch.Tensor) -> torch.Tensor:
    """[B, X, Y] from 0 to 1 per sample."""
    return torch.stack([(v - v.min()) / (v.max() - v.min()) for v in values])


@pytest.mark.parametrize(("lidar_map", "scale"), [("fused", "raw"), ("lidar_bev", "standard")])
def test_each_loss_has_its_map_its_weights_and_its_scale(lidar_map, scale) -> None:
    torch.manual_seed(0)
    config = ImkdConfig(
        teacher="",
        teacher_checksum="",
        losses={"lidar_radar": 1.0, "lidar_fused": 2.0, "label_fused": 3.0},
        lidar_map=lidar_map,
        scale=scale,
        evidence=0.3,
        radar=CellWeightConfig(intensity="density", cells="all"),
        fused=CellWeightConfig(intensity="activation", cells="support"),
        label=CellWeightConfig(intensity="uniform", cells="gaussians"),
    )
    labels = LabelTeacher(LabelEncoder(TEACHER, width=8), teacher_checksum="")
    method = Imkd(config, student=TINY, teacher=MASTER, labels=labels).eval()
    student, given = output(0), targets(truths(3, 4))
    student.radar_bev[:, :, : X // 2] *= 3  # Errors are no other than weights.
    generator = torch.Generator().manual_seed(1)
    returns = torch.rand((2, 2, X, Y), generator=generator)
    lidar = torch.randn((2, 8, X, Y), generator=generator)
    teacher = dataclasses.replace(output(1), lidar_bev=lidar, lidar_returns=returns)
    theirs = {"fused": teacher.fused, "lidar_bev": lidar}[lidar_map]
    truth = given.heatmap.sum(1).clamp(max=1)
    echoes = stretched(student.radar_bev.abs().mean(1))
    weights = {
        "lidar_radar": stretched(returns[:, 1]) * (0.3 + 0.7 * echoes),
        "lidar_fused": stretched(theirs.abs().mean(1)) * (truth > 0),
        "label_fused": truth,
    }
    maps = {
        "lidar_radar": (student.radar_bev, theirs),
        "lidar_fused": (student.fused[:, 5:10], theirs),
        "label_fused": (student.fused[:, :5], labels(given, TINY.classes)),
    }
    found = method.terms(student, teacher, given)
    assert set(found) == set(maps)
    for name, (ours, goal) in maps.items():
        adapted = method.adapters[name](ours)
        expected = slow_error(adapted, goal, weights[name], standard=scale == "standard")
        assert float(found[name].detach()) == pytest.approx(
            config.losses[name] * expected, rel=2e-5
        ), name


def test_what_is_read_of_the_teacher() -> None:
    """No more than a chosen loss needs, and no less."""

    def read(*losses: str, **changes) -> set[str]:
        chosen = dict.fromkeys(losses, 1.0)
        return {*Imkd.reads(ImkdConfig(teacher="", teacher_checksum="", losses=chosen, **changes))}

    density = CellWeightConfig(intensity="density")
    assert read("label_fused", radar=density) == set()
    assert read("lidar_radar") == {"fused", "heatmap"}
    assert read("lidar_radar", radar=density) == {"fused", "heatmap", "lidar_returns"}
    assert read("lidar_radar", fused=density) == {"fused", "heatmap"}
    assert read("lidar_fused", lidar_map="lidar_bev") == {"lidar_bev", "heatmap"}
    assert read("response_heatmap") == {"heatmap"}
    assert read("response_box") == {"heatmap", "boxes"}


@pytest.mark.parametrize(
    ("loss", "student", "settings", "message"),
    [
        ("lidar_radar", {}, {"sensors": ("CAM_FRONT",)}, "tiny sees no radar, .*lidar_radar=0"),
        ("lidar_fused", {}, {"lidar_map": "lidar_bev"}, "no LiDAR branch, and lidar_fused reads"),
        ("label_fused", {"grid": dataclasses.replace(TINY.grid, cell=4.0)}, {}, "2 and 4 m"),
        ("response_box", {"head": ALONE}, {}, "into different tasks, .*response_box=0"),
    ],
)
def test_what_cannot_be_compared_is_refused(loss, student, settings, message) -> None:
    """Only where a chosen loss is about it."""
    sensors = settings.get("sensors", ())
    keys = {k: v for k, v in settings.items() if k != "sensors"}
    blind = Teacher(build_detector(TINY))
    ours = dataclasses.replace(TINY, **student)
    labels = LabelTeacher(LabelEncoder(TINY, width=8), teacher_checksum="")
    for name in (loss, "response_heatmap" if loss != "response_box" else "label_fused"):
        config = ImkdConfig(teacher="", teacher_checksum="", losses={name: 1.0}, **keys)
        build = partial(Imkd, config, student=ours, teacher=blind, labels=labels, sensors=sensors)
        if name != loss:
            build()
            continue
        with pytest.raises(AdaptError, match=message):
            build()


def test_a_changed_label_encoder_is_noticed() -> None:
    labels = LabelTeacher(LabelEncoder(TEACHER, width=8), teacher_checksum="")
    config = ImkdConfig(teacher="", teacher_checksum="", losses={"label_fused": 1.0})
    method = Imkd(config, student=TINY, teacher=MASTER, labels=labels)
    method.verify()
    labels.encoder.out[0].bias.data += 1
    with pytest.raises(TeacherError, match="label encoder of tiny_teacher has changed"):
        method.verify()


def test_the_whole_map_learns_from_labels_too() -> None:
    config = ImkdConfig(
        teacher="", teacher_checksum="", losses={"label_fused": 1.0}, partition="whole"
    )
    labels = LabelTeacher(LabelEncoder(TEACHER, width=8), teacher_checksum="")
    method = Imkd(config, student=TINY, teacher=MASTER, labels=labels)
    student = output(0, grad=True)
    method.terms(student, output(1), targets(truths(3, 4)))["label_fused"].backward()
    assert (student.fused.grad.abs().sum((0, 2, 3)) > 0).all()


def test_boxes_are_learned_alone_beside_a_teacher_too(tmp_path) -> None:
    """What a plain training does by its steps, and the methods' ramps, are both told the step."""
    save_weights(settled(TEACHER), tmp_path / "teacher.safetensors")
    config = a_config(
        tmp_path / "teacher.safetensors", settings={"ramp_steps": 4}, boxes_alone=(0.5, 1.0)
    )
    methods = methods_of(config)
    criterion = DistillationLoss(config, methods)
    views = TaughtViews(FRAMES, config, [method.teacher for method in methods])
    seen = views.collate([views[0], views[1]])
    with torch.no_grad():
        said: ModelOutput = build_detector(config.detector).train()(seen.inputs)
        terms = []
        for step in (2, 3):
            criterion.begin(step)
            terms.append(criterion(said, seen))
    before, then = terms
    assert float(then["heatmap"]) == pytest.approx(0.02 * float(before["heatmap"]), rel=1e-4)
    assert float(then["reld"]) == pytest.approx(1.5 * float(before["reld"]), rel=1e-4)
    for one in terms:
        parts = sum(float(value) for name, value in one.items() if name != "total")
        assert float(one["total"]) == pytest.approx(parts, rel=1e-4)
