"""IMKD's losses: weights of cells, parts of channels, what they reach, and runs of them."""

from __future__ import annotations

import dataclasses
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from crkd_maps import maps, output, targets, truths
from distill_tiny import FRAMES, TEACHER, a_config, settled, start
from model_tiny import TINY
from train_tiny import logged

from crkd_core.config import (
    IMKD_LOSSES,
    RESPD_CHANNELS,
    AugmentConfig,
    CellWeightConfig,
    ConfigError,
    GuideConfig,
    ImkdConfig,
    RadarViewConfig,
    TaskConfig,
    TemporalConfig,
)
from crkd_core.distill.adapt import AdaptError
from crkd_core.distill.cell_weights import cell_weights
from crkd_core.distill.criterion import DistillationLoss
from crkd_core.distill.features import weighted_error
from crkd_core.distill.foreground import ray_foreground
from crkd_core.distill.imkd import Imkd
from crkd_core.distill.label_encoder import LabelEncoder
from crkd_core.distill.label_teacher import LabelTeacher, load_label_encoder, save_label_encoder
from crkd_core.distill.responses import probability
from crkd_core.distill.settings import default_losses, distill_config
from crkd_core.distill.teacher import PARTS, Teacher
from crkd_core.distill.training import DistillError, distill, methods_of
from crkd_core.distill.views import TaughtViews
from crkd_core.frame import PastFrame
from crkd_core.losses.targets import targets_of
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import load_weights, save_weights
from crkd_core.model.intensity import activation, cell_returns
from crkd_core.model.output import ModelOutput
from crkd_core.train.run_folder import Run

X, Y = TINY.grid.shape
MASTER = Teacher(build_detector(TEACHER), keep=PARTS)


def labels() -> LabelTeacher:
    torch.manual_seed(1)
    return LabelTeacher(LabelEncoder(TEACHER, width=8), teacher_checksum=MASTER.checksum)


def imkd(*, teacher: Teacher = MASTER, **changes) -> Imkd:
    torch.manual_seed(0)
    config = ImkdConfig(teacher="", teacher_checksum="", **changes)
    return Imkd(config, student=TINY, teacher=teacher, labels=labels())


def said(seed: int) -> ModelOutput:
    """A LiDAR teacher's answer."""
    given = output(seed)
    noise = torch.rand((2, 2, X, Y), generator=torch.Generator().manual_seed(seed))
    return dataclasses.replace(given, lidar_bev=given.fused, lidar_returns=noise)


def test_the_document_has_the_default_weights() -> None:
    row = re.compile(r"^\| `(\w+)`(?: \(stage \d\))? \| ([\d.]+) \|", re.M)
    rows = row.findall(Path("docs/method.md").read_text())
    assert {name: float(weight) for name, weight in rows} == IMKD_LOSSES


def test_points_are_counted_per_cell() -> None:
    xyz = torch.tensor([[-23.0, -15, 0], [-23.5, -15.5, 1], [23, 15, 0], [99, 0, 0]])
    value = torch.tensor([0.25, 0.75, 1.0, 9.0])
    found = cell_returns(xyz, value, torch.tensor([0, 0, 1, 1]), 2, TINY.grid)
    assert found.shape == (2, 2, X, Y)
    assert found[0, 0, 0, 0] == 0.5
    assert found[0, 1, 0, 0] == pytest.approx(np.log(3))
    assert found[1, 0, -1, -1] == 1.0
    assert (found > 0).sum() == 4


def test_activation_is_stretched_per_sample() -> None:
    features = torch.randn((3, 4, X, Y)) * torch.tensor([1.0, 10, 0])[:, None, None, None]
    found = activation(features)
    assert found.amin((1, 2)).tolist() == [0, 0, 0]
    assert found.amax((1, 2)).tolist() == pytest.approx([1, 1, 0])
    torch.testing.assert_close(found[1], activation(features[1:2] / 7)[0])


def test_the_weighted_error_is_what_it_says() -> None:
    generator = torch.Generator().manual_seed(0)
    s, t = (torch.randn((2, 3, 4, 5), generator=generator) for _ in range(2))
    w = torch.rand((2, 4, 5), generator=generator) * (torch.rand((2, 4, 5)) > 0.5)
    t[0, 1, 2, 3] = torch.nan
    total = weight = 0.0
    for b, x, y in np.ndindex(2, 4, 5):
        error = [(float(s[b, c, x, y]) - float(t[b, c, x, y])) ** 2 for c in range(3)]
        total += float(w[b, x, y]) * sum(e for e in error if np.isfinite(e)) / 3
        weight += float(w[b, x, y])
    found = weighted_error(s, t, w, standard=False)
    assert float(found) == pytest.approx(total / weight, rel=1e-5)
    # Neither scale nor place of the teacher's channels says anything once they are standardised.
    scaled = t * torch.tensor([2.0, 30, 0.1])[:, None, None] + 5
    a, b = (weighted_error(s, one, w, standard=True) for one in (t, scaled))
    torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert float(weighted_error(s, t, 0 * w, standard=True)) == 0


@pytest.mark.parametrize("name", IMKD_LOSSES)
def test_what_each_loss_reaches(name) -> None:
    method = imkd(losses={name: 1.0})
    assert set(method.adapters) == {name} & {"lidar_radar", "lidar_fused", "label_fused"}
    student = output(0, grad=True)
    terms = method.terms(student, said(1), targets(truths(3, 4)))
    assert set(terms) == {name}
    terms[name].backward()
    assert float(terms[name].detach()) > 0
    features = {"lidar_radar": "radar_bev", "lidar_fused": "fused", "label_fused": "fused"}
    for feature in ("radar_bev", "fused", "camera_bev"):
        reached = getattr(student, feature).grad is not None
        assert reached == (features.get(name) == feature)
    if name in ("lidar_fused", "label_fused"):
        # 16 channels: five for the label, five for LiDAR, six free.
        used = student.fused.grad.abs().sum((0, 2, 3)) > 0
        first = {"label_fused": 0, "lidar_fused": 5}[name]
        assert used.nonzero()[:, 0].tolist() == list(range(first, first + 5))
    assert all(p.grad is not None for p in method.parameters())


def test_the_whole_map_is_the_control_of_thirds() -> None:
    student = output(0, grad=True)
    method = imkd(losses={"lidar_fused": 1.0}, partition="whole")
    method.terms(student, said(1), targets(truths(3, 4)))["lidar_fused"].backward()
    assert (student.fused.grad.abs().sum((0, 2, 3)) > 0).all()


#: What an intensity and the cells that count can be together.
PAIRS = {
    *product(
        ("activation", "reflectance", "density", "uniform"),
        ("all", "gaussians", "support", "rays", "bright"),
    )
} - {("uniform", "bright")}


@pytest.mark.parametrize(("intensity", "cells"), sorted(PAIRS))
def test_weights_of_cells(intensity, cells) -> None:
    """Sample by sample, as docs/method.md 1.10 has it."""
    boxes = truths(3, 4)
    config = CellWeightConfig(intensity=intensity, cells=cells)
    method = imkd(fused=config)
    given = dataclasses.replace(
        targets(boxes), rays=ray_foreground(boxes, TINY.grid, method.config.rays)
    )
    teacher = said(1)
    # Samples of other brightness, neither of which fills 0 to 1.
    returns = torch.stack([teacher.lidar_returns[0] / 2, teacher.lidar_returns[1] ** 3 + 2])
    teacher = dataclasses.replace(teacher, lidar_returns=returns)
    found = cell_weights(config, teacher.fused, teacher, given)
    assert found.shape == (2, X, Y)
    for b in range(2):
        strength = {
            "activation": teacher.fused[b].abs().mean(0),
            "reflectance": returns[b, 0],
            "density": returns[b, 1],
            "uniform": torch.ones(X, Y),
        }[intensity].numpy()
        if intensity != "uniform":
            strength = (strength - strength.min()) / (strength.max() - strength.min())
        truth = given.heatmap[b].numpy().sum(0)
        counts = {
            "all": 1.0,
            "gaussians": np.minimum(truth, 1),
            "support": truth > 0,
            "rays": given.rays[b].numpy(),
            "bright": strength > strength.mean(),
        }[cells]
        np.testing.assert_allclose(found[b].numpy(), strength * counts, atol=1e-5)


def seen_at(teacher: ModelOutput, *cells: tuple[int, int]) -> ModelOutput:
    """A teacher that sees cars at these cells of the second sample, and nothing else there."""
    tasks = []
    for task in teacher.tasks:
        logits = task["heatmap"].clone()
        logits[1] = -20.0
        tasks.append({**task, "heatmap": logits})
    for x, y in cells:
        tasks[0]["heatmap"][1, 0, x, y] = 3.0
    return dataclasses.replace(teacher, tasks=tasks)


@pytest.mark.parametrize("cells", ["gaussians", "support", "rays"])
def test_without_truth_cells_count_where_the_teacher_sees_something(cells) -> None:
    boxes = truths(3, 4)
    given = dataclasses.replace(
        targets(boxes),
        rays=ray_foreground(boxes, TINY.grid, ImkdConfig(teacher="", teacher_checksum="").rays),
    )
    half = dataclasses.replace(given, labelled=torch.tensor([True, False]))
    config = CellWeightConfig(intensity="uniform", cells=cells)
    teacher = seen_at(said(1), (5, 6))
    known = cell_weights(config, teacher.fused, teacher, given)
    found = cell_weights(config, teacher.fused, teacher, half)
    assert torch.equal(found[0], known[0])
    near = torch.zeros((X, Y), dtype=torch.bool)
    near[4:7, 5:8] = True
    assert (found[1][~near] == 0).all()
    assert float(found[1][5, 6]) > 0.9
    assert (found[1][near] > 0).all()
    # A sample of which nobody knows anything changes nothing of what the other one teaches.
    empty = seen_at(said(1))
    alone = cell_weights(config, empty.fused, empty, half)
    assert (alone[1] == 0).all() and torch.equal(alone[0], known[0])


def test_where_the_radars_see_nothing_lidar_does_not_insist() -> None:
    student, teacher, given = output(0), said(1), targets(truths(3, 4))
    dim = student.radar_bev.abs() / 100
    dim[:, :, :2] = 5.0
    uniform = CellWeightConfig(intensity="uniform")
    pulled = []
    for evidence in (0.0, 1.0):
        method = imkd(losses={"lidar_radar": 1.0}, radar=uniform, evidence=evidence, scale="raw")
        radar = dim.clone().requires_grad_()
        method.adapters.eval()
        seen = dataclasses.replace(student, radar_bev=radar)
        method.terms(seen, teacher, given)["lidar_radar"].backward()
        # Adapters see three cells around each.
        pulled.append(float(radar.grad[:, :, 6:].abs().sum() / radar.grad.abs().sum()))
    assert pulled[0] < 0.1 * pulled[1]


def test_a_radar_map_does_not_escape_by_going_dark() -> None:
    """Its activation weighs cells and is not learned by that."""
    method = imkd(losses={"lidar_radar": 1.0})
    torch.nn.init.zeros_(method.adapters["lidar_radar"][-1].weight)
    student = output(0, grad=True)
    method.terms(student, said(1), targets(truths(3, 4)))["lidar_radar"].backward()
    assert not student.radar_bev.grad.any()


def test_responses_against_loops() -> None:
    """A sample with truth and one without, cell by cell in float64."""
    student, teacher = output(0), said(1)
    given = targets_of([truths(3)[0], None], TINY, partly=True)
    losses = {"response_box": 1.0, "response_heatmap": 1.0}
    method = imkd(losses=losses, alone=4.0, response_channels=("size", "velocity"))
    heat = box = 0.0
    for s, t, own in zip(student.tasks, teacher.tasks, given.tasks(), strict=True):
        h_s, h_t = (probability(one["heatmap"]).double().numpy() for one in (s, t))
        goal = h_t * np.stack([own.heatmap[0].numpy(), np.ones_like(h_t[1])])
        focal = -((h_s - goal) ** 2) * (goal * np.log(h_s) + (1 - goal) * np.log(1 - h_s))
        heat += (focal[0].sum() + 4 * focal[1].sum()) / max(1, (goal > 0.3).sum())
        cells = [(0, *divmod(cell, Y), 1.0) for cell in own.cell.tolist()]
        best = h_t[1].max(0)
        for i, j in np.ndindex(X, Y):
            around = best[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]
            if best[i, j] > 0.3 and best[i, j] == around.max():
                cells.append((1, i, j, 4.0))
        errors = []
        for b, i, j, weight in cells:
            a, z = (torch.cat([one[n][b, :, i, j] for n in ("dim", "vel")]) for one in (s, t))
            d = (a - z).abs()
            errors.append(weight * float(torch.where(d < 1, 0.5 * d * d, d - 0.5).mean()))
        box += float(np.mean(errors))
    found = method.terms(student, teacher, given)
    assert float(found["response_heatmap"]) == pytest.approx(heat, rel=1e-4)
    assert float(found["response_box"]) == pytest.approx(box, rel=1e-4)


def test_responses_agree_with_the_truth_or_do_not_teach() -> None:
    student, teacher = output(0), said(1)
    none = targets([truth.select(slice(0)) for truth in truths(3, 4)])
    boxes = imkd(losses={"response_box": 1.0}).terms(student, teacher, none)["response_box"]
    assert float(boxes) == 0
    unlabelled = dataclasses.replace(none, labelled=torch.tensor([False, False]))
    method = imkd(losses={"response_box": 1.0, "response_heatmap": 1.0})
    for name, value in method.terms(student, teacher, unlabelled).items():
        assert float(value) > 0, name
    same = ModelOutput(tasks=maps(1), fused=student.fused)
    agreed = method.terms(same, teacher, unlabelled)
    assert [float(v) for v in agreed.values()] == pytest.approx([0, 0], abs=1e-6)


def test_samples_without_truth_teach_by_the_teacher_alone() -> None:
    given = dataclasses.replace(targets(truths(3, 4)), labelled=torch.tensor([True, False]))
    method = imkd(losses={"label_fused": 1.0, "lidar_fused": 1.0})
    method.adapters.eval()  # Batch statistics would tie the samples together.
    student = output(0, grad=True)
    terms = method.terms(student, said(1), given)
    terms["label_fused"].backward(retain_graph=True)
    assert float(student.fused.grad[1].abs().sum()) == 0
    student.fused.grad = None
    terms["lidar_fused"].backward()
    assert float(student.fused.grad[1].abs().sum()) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"losses": {"respd": 1.0}}, "imkd.losses: unknown loss 'respd'"),
        ({"losses": {"response_box": 40.0}}, "expected at most 2 for response_box"),
        ({"evidence": 2.0}, "imkd.evidence: expected 0 to 1"),
        ({"response_channels": ("yaw",)}, "imkd.response_channels: unknown yaw"),
        ({"response_channels": ()}, "response_box=0 leaves the loss out"),
        ({"label": CellWeightConfig()}, "imkd.label.intensity: expected uniform"),
        *(
            (
                {name: CellWeightConfig(intensity="uniform", cells="bright")},
                f"imkd.{name}.cells: .* imkd.{name}.intensity=uniform, got bright",
            )
            for name in ("radar", "fused", "label")
        ),
    ],
)
def test_settings_that_cannot_be(changes, message) -> None:
    with pytest.raises(ConfigError, match=message):
        ImkdConfig(teacher="", teacher_checksum="", **changes)


def test_networks_that_cannot_be_compared() -> None:
    config = ImkdConfig(teacher="", teacher_checksum="")
    with pytest.raises(AdaptError, match="make one by crkd label-encoder"):
        Imkd(config, student=TINY, teacher=MASTER)
    blind = dataclasses.replace(TINY, radar=None)
    with pytest.raises(AdaptError, match=r"sees no radar.*lidar_radar=0"):
        Imkd(config, student=blind, teacher=MASTER, labels=labels())
    camera_radar = Teacher(build_detector(TINY))
    shine = CellWeightConfig(intensity="reflectance")
    config = dataclasses.replace(config, losses={"lidar_radar": 1.0}, radar=shine)
    with pytest.raises(AdaptError, match="has no LiDAR branch, and lidar_radar reads LiDAR"):
        Imkd(config, student=TINY, teacher=camera_radar)
    narrow = dataclasses.replace(TINY, fused_channels=2)
    for name in ("lidar_fused", "label_fused"):
        config = ImkdConfig(teacher="", teacher_checksum="", losses={name: 1.0})
        with pytest.raises(AdaptError, match=rf"has 2 fused .* imkd\.partition=whole, .*{name}=0"):
            Imkd(config, student=narrow, teacher=MASTER, labels=labels())
        whole = dataclasses.replace(config, partition="whole")
        Imkd(whole, student=narrow, teacher=MASTER, labels=labels())
    cars = dataclasses.replace(TINY.head, tasks=(TaskConfig(classes=("car",)),))
    only = Teacher(build_detector(dataclasses.replace(TEACHER, head=cars, classes=("car",))))
    config = dataclasses.replace(config, losses={"label_fused": 1.0})
    with pytest.raises(AdaptError, match=r"does not know truck, .*label_fused=0"):
        Imkd(config, student=TINY, teacher=only, labels=labels())


def test_labels_teach_a_student_of_other_tasks_and_classes() -> None:
    """The same boxes are the same features."""
    one = tuple(TaskConfig(classes=(name,)) for name in TINY.classes)
    classes = tuple(sorted(TINY.classes))
    head = dataclasses.replace(TINY.head, tasks=one)
    student = dataclasses.replace(TINY, head=head, classes=classes)
    config = ImkdConfig(teacher="", teacher_checksum="", losses={"label_fused": 1.0})
    boxes = [truth.select(slice(0, 2)) for truth in truths(3, 4)]
    terms = []
    for of in (TINY, student):
        torch.manual_seed(0)
        method = Imkd(config, student=of, teacher=MASTER, labels=labels())
        given = targets_of([truth.of_classes(of.classes) for truth in boxes], of)
        terms.append(float(method.loss_label_fused(output(0), said(1), given).detach()))
    assert terms[0] == pytest.approx(terms[1], rel=1e-6)
    assert terms[0] > 0


@pytest.fixture(scope="module")
def teacher_file(tmp_path_factory):
    """A teacher with its label encoder beside."""
    folder = tmp_path_factory.mktemp("teacher")
    teacher = settled(TEACHER)
    save_weights(teacher, folder / "weights.safetensors")
    torch.manual_seed(1)
    save_label_encoder(
        LabelEncoder(TEACHER, width=8),
        folder / "label_encoder.safetensors",
        teacher_checksum=Teacher(teacher).checksum,
        measured=None,
    )
    return folder / "weights.safetensors"


def a_run_config(teacher_file, *, method: str = "imkd", **settings):
    """The configuration of a distillation of TINY by IMKD, or by both."""
    made = distill_config(teacher_file, "demo_student", method=method)
    assert made.imkd is not None
    own = dataclasses.replace(made.imkd, **({"ramp_steps": 0} | settings))
    changes = {} if method == "crkd+imkd" else {"crkd": None, "detector": TINY}
    return a_config(teacher_file, imkd=own, **changes)


def test_a_resumed_run_is_the_uninterrupted_one(teacher_file, tmp_path) -> None:
    """With adapters and label encoder; losses are finite, and the teacher stays as it is."""
    shine = CellWeightConfig(intensity="density", cells="rays")
    config = a_run_config(teacher_file, radar=shine)
    config = dataclasses.replace(config, augment=AugmentConfig(image_zoom=(1.0, 1.3)))
    whole, broken = start(tmp_path / "whole", config), start(tmp_path / "broken", config)
    distill(whole, FRAMES)

    class Stops(list):
        def __getitem__(self, index):
            self.reads = getattr(self, "reads", 0) + 1
            if self.reads > 5:
                raise KeyboardInterrupt
            return super().__getitem__(index)

    with pytest.raises(KeyboardInterrupt):
        distill(broken, Stops(FRAMES))
    distill(Run.open(tmp_path / "broken"), FRAMES, resume=True)
    assert logged(broken) == logged(whole)
    assert {*IMKD_LOSSES} <= set(logged(whole)[0])
    student = load_weights(tmp_path / "whole" / "weights.safetensors")
    assert student.config == TINY
    adapters = torch.load(whole.path / "checkpoint.pt", weights_only=True)["criterion"]
    assert all(name.startswith("methods.imkd.adapters.") for name in adapters)


def test_both_methods_teach_one_student(teacher_file, tmp_path) -> None:
    run = start(tmp_path, a_run_config(teacher_file, method="crkd+imkd"))
    distill(run, FRAMES)
    names = default_losses("crkd+imkd", "balanced")
    for line in logged(run):
        assert names.keys() <= line.keys()
        parts = set(line) - {"total", "step", "lr", "gradient_norm", "norm_samples"}
        assert line["total"] == pytest.approx(sum(line[name] for name in parts), rel=1e-4)


def test_a_student_with_memory_learns_and_resumes(teacher_file, tmp_path) -> None:
    """Guided fusion, radar in the image, earlier moments in the Frames, augmented along."""
    view = RadarViewConfig(channels=(8,), blocks=1, context_channels=4)
    detector = dataclasses.replace(
        TINY,
        camera=dataclasses.replace(TINY.camera, radar_view=view),
        guide=GuideConfig(),
        temporal=TemporalConfig(frames=2),
    )
    config = a_run_config(teacher_file, losses={"lidar_fused": 1.0})
    config = dataclasses.replace(
        config, detector=detector, augment=AugmentConfig(image_zoom=(1.0, 1.3), drop_camera=0.2)
    )
    frames = [
        dataclasses.replace(
            one,
            past=(
                PastFrame(frame=dataclasses.replace(one, truth=None), now_T_past=np.eye(4)),
                None,
            ),
        )
        for one in FRAMES
    ]
    whole, broken = start(tmp_path / "whole", config), start(tmp_path / "broken", config)
    trained = distill(whole, frames)
    assert trained.temporal is not None
    assert trained.temporal.out[1].weight.abs().sum() > 0
    short = dataclasses.replace(config, steps=2)
    distill(start(tmp_path / "short", short), frames)
    (broken.path / "checkpoint.pt").write_bytes(
        (tmp_path / "short" / "checkpoint.pt").read_bytes()
    )
    distill(Run.open(tmp_path / "broken"), frames, resume=True)
    assert logged(broken)[-1].keys() == logged(whole)[-1].keys()
    again = load_weights(tmp_path / "broken" / "weights.safetensors")
    assert again.config == detector


def test_losses_fall_over_a_few_steps(teacher_file) -> None:
    torch.manual_seed(0)
    config = a_run_config(teacher_file)
    (method,) = methods_of(config)
    student = build_detector(TINY)
    criterion = DistillationLoss(config, [method])
    views = TaughtViews(FRAMES, config, [method.teacher])
    seen = views.collate([views[0], views[1]])
    optimiser = torch.optim.AdamW([*student.parameters(), *criterion.parameters()], lr=3e-3)
    history = []
    for _ in range(25):
        terms = criterion(student(seen.inputs), seen)
        history.append({name: float(terms[name].detach()) for name in IMKD_LOSSES})
        optimiser.zero_grad()
        # Without the detection loss: a teacher with random weights contradicts the truth.
        sum(terms[name] for name in IMKD_LOSSES).backward()
        optimiser.step()
    criterion.check()
    for name in IMKD_LOSSES:
        assert np.mean([line[name] for line in history[-3:]]) < 0.9 * history[0][name], name


def test_configurations(teacher_file, tmp_path) -> None:
    made = distill_config(teacher_file, "demo_student", method="imkd")
    assert made.crkd is None and made.imkd is not None
    assert made.detector.radar.calibration == "none"
    assert made.imkd.losses == IMKD_LOSSES
    assert made.imkd.label_encoder == str(teacher_file.with_name("label_encoder.safetensors"))
    both = distill_config(teacher_file, "demo_student", method="crkd+imkd", inherits=True)
    assert [method.inherit for method in both.distillations] == [("decoder", "head"), ()]
    with pytest.raises(ConfigError, match="method: expected one of crkd, imkd, crkd"):
        distill_config(teacher_file, "demo_student", method="both")
    with pytest.raises(ConfigError, match="csrd: is of CRKD, and the method is imkd"):
        distill_config(teacher_file, "demo_student", method="imkd", losses={"csrd": 1.0})
    with pytest.raises(ConfigError, match="form: published is a form of CRKD's"):
        distill_config(teacher_file, "demo_student", method="imkd", form="published")
    bare = tmp_path / "bare.safetensors"
    save_weights(settled(TINY), bare)
    for method in ("crkd", "imkd"):
        # It would be dropped, or would take the place of --teacher.
        told = f"the method is {method}; .* pass --method crkd.imkd"
        with pytest.raises(ConfigError, match=told):
            distill_config(teacher_file, "demo_student", method=method, imkd_teacher=bare)
    with pytest.raises(DistillError, match="crkd label-encoder --teacher"):
        distill_config(bare, "demo_student", method="imkd")
    other = dataclasses.replace(made.imkd, teacher_checksum="other")
    with pytest.raises(DistillError, match="holds another teacher"):
        methods_of(a_config(teacher_file, crkd=None, detector=TINY, imkd=other))
    other = dataclasses.replace(made.imkd, label_encoder_checksum="other")
    with pytest.raises(DistillError, match="holds another label encoder"):
        methods_of(a_config(teacher_file, crkd=None, detector=TINY, imkd=other))
    assert load_label_encoder(made.imkd.label_encoder).checksum == (
        made.imkd.label_encoder_checksum
    )


def test_channels_that_a_network_never_learned_are_not_compared(teacher_file, tmp_path) -> None:
    def compared(teacher, student, method="crkd+imkd", **options):
        losses = {"response_box": 1.0} | ({} if method == "imkd" else {"respd_box": 1.0})
        made = distill_config(teacher, student, method=method, losses=losses, **options)
        crkd, imkd = made.crkd, made.imkd
        assert imkd is not None and (crkd is None) == (method == "imkd")
        return [*([] if crkd is None else [crkd.respd_channels]), imkd.response_channels]

    every = tuple(RESPD_CHANNELS)
    still = ("place", "height", "size", "rotation")
    assert compared(teacher_file, "demo_student") == [every, every]
    # View-of-Delft does not tell speeds.
    assert compared(teacher_file, "vod_student", "imkd") == [still]
    assert compared(teacher_file, "vod_student") == [still, still]
    head = dataclasses.replace(TEACHER.head, code_weights=(1.0,) * 6 + (0.0,) * 3 + (0.2,))
    other = tmp_path / "other.safetensors"
    save_weights(build_detector(dataclasses.replace(TEACHER, head=head)), other)
    upright = ("place", "height", "size", "velocity")
    assert compared(other, "demo_student") == [upright, upright]
    assert compared(other, "vod_student", imkd_teacher=teacher_file) == [still[:3], still]
    # Whoever changes the student's head, or names channels, is heard.
    changes = ["detector.head.code_weights=[1, 1, 1, 1, 1, 1, 1, 1, 0, 0]"]
    assert compared(teacher_file, "demo_student", changes=changes) == [still, still]
    changes += ["imkd.response_channels=[velocity]"]
    assert compared(teacher_file, "demo_student", changes=changes) == [still, ("velocity",)]
