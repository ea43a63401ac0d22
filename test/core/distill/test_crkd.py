"""The losses of CRKD: slow oracles, what they leave alone, and what they do not depend on."""

from __future__ import annotations

import dataclasses
import re
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from crkd_maps import (
    CALIBRATED,
    RELEASED,
    X,
    Y,
    crkd,
    maps,
    of,
    only,
    output,
    published,
    targets,
    teacher,
    teacher_of,
    truths,
)
from model_tiny import TINY
from other_classes import CLASSES, TOY
from torch import Tensor

from crkd_core.config import CRKD_LOSSES, PUBLISHED_LOSSES, ConfigError, CrkdConfig
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.distill.adapt import AdaptError
from crkd_core.distill.features import masked_error
from crkd_core.distill.responses import objectness, probability
from crkd_core.model.head import REGRESSION
from crkd_core.model.output import ModelOutput


def repeated(tensors: list[dict[str, Tensor]], pick: list[int]) -> list[dict[str, Tensor]]:
    return [{name: m[pick] for name, m in task.items()} for task in tensors]


def picked(given: ModelOutput, pick: list[int]) -> ModelOutput:
    fields = {
        f.name: value[pick]
        for f in dataclasses.fields(given)
        if isinstance(value := getattr(given, f.name), Tensor) and f.name != "depth_logits"
    }
    return dataclasses.replace(given, tasks=repeated(given.tasks, pick), **fields)


# ---- what all of them share


@pytest.mark.parametrize("form", [crkd, published])
def test_the_same_samples_twice_are_the_same_loss(form) -> None:
    """No loss may depend on how many samples a GPU happens to hold."""
    loss = form().requires_grad_(False)
    student, master, boxes = output(1), output(2), truths(1, 2)
    once = loss.terms(student, of(master), targets(boxes))
    pick = [1, 0, 1, 0]
    many = targets([boxes[i] for i in pick])
    more = loss.terms(picked(student, pick), of(picked(master, pick)), many)
    assert once.keys() == more.keys()
    assert once.keys() == CRKD_LOSSES.keys()
    for name, value in once.items():
        assert float(more[name]) == pytest.approx(float(value), rel=1e-5), name


@pytest.mark.parametrize("form", [crkd, published])
def test_losses_leave_their_inputs_alone(form) -> None:
    student, master = output(1), teacher(2)
    expected, expected_teacher = output(1), teacher(2)
    form().terms(student, master, targets(truths(1, 2)))
    for found, given in ((student, expected), (master, expected_teacher)):
        for task, before in zip(found.tasks, given.tasks, strict=True):
            for name in task:
                assert torch.equal(task[name], before[name]), name
        assert torch.equal(found.fused, given.fused)
        assert torch.equal(found.gated_camera, given.gated_camera)


@pytest.mark.parametrize("form", ["balanced", "published"])
def test_the_teacher_itself_has_nothing_to_learn(form: str) -> None:
    bare = {"reld_adapter": False, "msfd_adapter": "needed", "msfd_scale": "raw"}
    loss = published(reld_adapter=False) if form == "published" else crkd(**bare)
    master = teacher(3)
    activation = objectness([m["heatmap"] for m in master.tasks], form=loss.config.csrd_target)
    if form == "balanced":
        activation = torch.logit(activation)
    student = dataclasses.replace(output(3), radar_activation=activation)
    for name, value in loss.terms(student, master, targets(truths(1, 2))).items():
        assert float(value) == pytest.approx(0, abs=1e-6), name


#: What each loss reads of the student.
READS = {
    "csrd": {"radar_activation"},
    "msfd_fused": {"fused"},
    "msfd_camera": {"gated_camera"},
    "reld": {"fused"},
    "respd_heatmap": {"heatmap"},
    "respd_box": set(REGRESSION),
}


@pytest.mark.parametrize("name", CRKD_LOSSES)
def test_gradients_reach_what_a_loss_reads_and_nothing_else(name: str) -> None:
    student = output(1, grad=True)
    loss = crkd(losses=only(name))
    terms = loss.terms(student, teacher(2), targets(truths(1, 2)))
    assert terms.keys() == {name}
    terms[name].backward()
    reached = {
        f.name
        for f in dataclasses.fields(student)
        if isinstance(t := getattr(student, f.name), Tensor) and t.grad is not None
    }
    for task in student.tasks:
        maps_reached = {key for key, m in task.items() if m.grad is not None}
        assert maps_reached == READS[name] & task.keys()
        reached |= maps_reached
    assert reached == READS[name]
    parameters = list(loss.parameters())
    assert bool(parameters) == (name in ("reld", "msfd_fused", "msfd_camera"))
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in parameters)


def test_unknown_losses_and_weights_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"crkd\.losses: unknown loss 'msfd_fusd'; did you mean"):
        crkd(losses={"msfd_fusd": 1.0})
    for weight in (-1.0, float("nan"), float("inf")):
        with pytest.raises(ConfigError, match="a weight of 0 or more for csrd"):
            crkd(losses={"csrd": weight})
    with pytest.raises(ConfigError, match="class_weights: expected 10 numbers, for car, truck"):
        crkd(respd_class_weights=(1.0, 2.0))


def test_documents_have_the_weights_of_both_forms() -> None:
    rows = re.findall(
        r"^\| \w+ \| (`[\w`, ]+`) \| ([\d.(), ]+) \|", Path("docs/method.md").read_text(), re.M
    )
    balanced, as_published = {}, {}
    for names, weights in rows:
        pairs = re.findall(r"([\d.]+) \(([\d.]+)\)", weights)
        losses = re.findall(r"\w+", names)
        for loss, pair in zip(losses, pairs * (len(losses) // len(pairs)), strict=True):
            balanced[loss], as_published[loss] = map(float, pair)
    assert (balanced, as_published) == (CRKD_LOSSES, PUBLISHED_LOSSES)
    (decision,) = Path("docs/decisions").glob("0024-*.md")
    # The last column is of the balanced form.
    row = re.compile(r"^\| (\w[\w, ]*) \|.*\|[^|]*weight ([\d.]+)[^|]*\|$", re.M)
    decided = {name: float(weight) for name, weight in row.findall(decision.read_text())}
    assert decided == {
        "RespD, boxes": CRKD_LOSSES["respd_box"],
        "RespD, heatmaps": CRKD_LOSSES["respd_heatmap"],
        "RelD": CRKD_LOSSES["reld"],
    }


def test_class_weights_are_published_ones_by_name_or_those_given() -> None:
    assert crkd().class_weights == {
        name: 1.0 if name in ("pedestrian", "traffic_cone", "barrier") else 2.0
        for name in NUSCENES_CLASSES
    }
    toys = {"student": TOY, "teacher": teacher_of(TOY), "losses": only("respd_box")}
    assert crkd(**toys).class_weights == dict.fromkeys(CLASSES, 2.0)
    given = crkd(**toys, respd_class_weights=(1.0, 2.0, 3.0))
    assert given.class_weights == {"rider": 1.0, "van": 2.0, "walker": 3.0}


# ---- CSRD


def test_objectness_by_hand() -> None:
    logits = [torch.tensor([0.0]), torch.tensor([2.0, -4.0])]
    heatmaps = [v[None, :, None, None].expand(1, -1, X, Y) for v in logits]
    s = torch.sigmoid
    paper = (s(logits[0]).sum() + s(logits[1]).sum()) / 3
    code = (0.5 + s(torch.tensor(-1.0))) / 2
    for form, expected in (("paper", paper), ("code", code)):
        found = objectness(heatmaps, form=form)
        assert found.shape == (1, 1, X, Y)
        torch.testing.assert_close(found, expected.expand(1, 1, X, Y))


def test_csrd_is_the_mean_distance_and_needs_a_calibration_block() -> None:
    student, master = output(1), teacher(2)
    target = objectness([m["heatmap"] for m in master.tasks], form="paper")
    found = published().loss_csrd(student, master, targets(truths(1, 2)))
    assert student.radar_activation is not None
    expected = np.abs(student.radar_activation.numpy() - target.numpy()).mean()
    assert float(found) == pytest.approx(float(expected), rel=1e-5)
    with pytest.raises(AdaptError, match="--calibration path or side, or with --losses csrd=0"):
        crkd(student=TINY)
    crkd(student=TINY, losses=only("reld"))
    with pytest.raises(AdaptError, match=r"a released calibration block.*--form published"):
        crkd(student=RELEASED)
    with pytest.raises(AdaptError, match=r"a residual calibration block.*--form balanced"):
        published(student=CALIBRATED)


def test_csrd_on_logits_against_a_loop() -> None:
    student, master = output(1), teacher(2)
    assert student.radar_activation is not None
    best = torch.stack([m["heatmap"].amax(1) for m in master.tasks]).amax(0)
    s, t = student.radar_activation[:, 0].double().sigmoid(), probability(best).double()
    total = 0.0
    for a, b in zip(s.flatten().tolist(), t.flatten().tolist(), strict=True):
        total -= (a - b) ** 2 * (b * np.log(a) + (1 - b) * np.log(1 - a))
    found = crkd().loss_csrd(student, master, targets(truths(1, 2)))
    assert float(found) == pytest.approx(total / int((t > 0.3).sum()), rel=1e-4)


def test_csrd_does_not_die() -> None:
    """Where an activation is silent, the published ReLU gives no gradient, and a logit does."""
    for loss, silent, alive in ((published(), 0.0, False), (crkd(), -20.0, True)):
        activation = torch.full((2, 1, X, Y), silent).requires_grad_()
        read = activation if alive else activation.relu()
        student = dataclasses.replace(output(1), radar_activation=read)
        loss.loss_csrd(student, teacher(2), targets(truths(1, 2))).backward()
        assert activation.grad is not None
        assert bool((activation.grad != 0).all()) == alive


# ---- MSFD


def test_msfd_against_a_loop() -> None:
    student, master = output(1).gated_camera, teacher(2).gated_camera
    master[:, :, ::3] = 0
    master[:, 1, 1::3] = 0  # one channel of many, as behind a ReLU
    master[0, 2, 1, 1] = torch.nan
    mask = torch.rand((2, X, Y), generator=torch.Generator().manual_seed(5)) < 0.3
    mask[0, 1, 1] = True
    errors = []
    for b, i, j in mask.nonzero().tolist():
        if (master[b, :, i, j] == 0).all():
            continue
        d = student[b, :, i, j] - master[b, :, i, j]
        errors.append(float((d.nan_to_num() ** 2).mean()))
    found = masked_error(student, master, mask)
    assert float(found) == pytest.approx(np.mean(errors), rel=1e-5)


def test_msfd_without_foreground_is_zero_and_still_differentiable() -> None:
    student = output(1).fused.requires_grad_()
    loss = masked_error(student, teacher(2).fused, torch.zeros((2, X, Y), dtype=torch.bool))
    loss.backward()
    assert float(loss.detach()) == 0
    assert student.grad is not None
    assert not student.grad.any()


def test_far_from_objects_msfd_reads_nothing() -> None:
    student = output(1, grad=True)
    box = truths(1)[0].select(np.array([0]))
    published().loss_msfd_fused(student, teacher(2), targets([box, box])).backward()
    assert student.fused.grad is not None
    touched = (student.fused.grad != 0).any(1).nonzero()
    centre = (box.center[0, :2] - TINY.grid.low[:2]) / TINY.grid.cell
    reach = (np.hypot(*box.size[0, :2]) + 4) / TINY.grid.cell
    assert len(touched)
    assert (np.abs(touched[:, 1:].numpy() - centre) <= reach).all()


def test_standardised_features_against_a_loop() -> None:
    student, master = output(1).fused, teacher(2).fused * 7 + 3
    master[0, 2, 1, 1] = torch.nan
    master[:, 5] = 4.0  # says nothing
    mask = torch.rand((2, X, Y), generator=torch.Generator().manual_seed(5)) < 0.3
    mask[0, 1, 1] = True
    cells = [tuple(cell) for cell in mask.nonzero().tolist()]
    total = 0.0
    for c in range(master.shape[1]):
        values = [float(master[b, c, i, j]) for b, i, j in cells]
        mean, deviation = np.nanmean(values), max(np.nanstd(values), 1e-3)
        for (b, i, j), value in zip(cells, values, strict=True):
            if np.isfinite(value):
                total += (float(student[b, c, i, j]) - (value - mean) / deviation) ** 2
    found = masked_error(student, master, mask, standard=True)
    assert float(found) == pytest.approx(total / len(cells) / master.shape[1], rel=1e-4)
    scaled = masked_error(student, 100 * master - 5, mask, standard=True)
    assert float(scaled) == pytest.approx(float(found), rel=1e-3)


# ---- RelD


def test_reld_against_a_loop() -> None:
    student, master, none = output(1), teacher(2), targets(truths(1, 2))
    for form in ("cosine", "raw"):
        loss = crkd(reld_affinity=form, reld_scales=(4, 2), reld_adapter=False)
        expected = 0.0
        for size in (4, 2):
            cells = range(size * size)
            resized = [
                torch.nn.functional.interpolate(m, (size, size), mode="bilinear").flatten(2)
                for m in (student.fused, master.fused)
            ]
            total = 0.0
            for b, p, q in product(range(2), cells, cells):
                k = []
                for m in resized:
                    u, v = m[b, :, p], m[b, :, q]
                    norm = u.norm() * v.norm() if form == "cosine" else 1
                    k.append(float(u @ v / norm))
                total += abs(k[0] - k[1])
            expected += total / (2 * size**4)
        found = float(loss.loss_reld(student, master, none))
        assert found == pytest.approx(expected, rel=1e-4)


def test_cosines_do_not_see_the_scale_of_features() -> None:
    master, none = teacher(2), targets(truths(1, 2))
    found = {
        (form, scale): float(
            crkd(reld_affinity=form, reld_adapter=False).loss_reld(
                output(1), dataclasses.replace(master, fused=scale * master.fused), none
            )
        )
        for form in ("cosine", "raw")
        for scale in (0, 1, 7)
    }
    assert found["cosine", 7] == pytest.approx(found["cosine", 1], rel=1e-4)
    assert found["raw", 7] > 5 * found["raw", 1]
    assert np.isfinite(found["cosine", 0])


# ---- RespD


def respd_by_loops(student, master, weights) -> tuple[float, float]:
    """Every cell and class on its own, in float64."""
    heat = box = 0.0
    for task, s, t in zip(TINY.head.tasks, student, master, strict=True):
        w = [weights[NUSCENES_CLASSES.index(c)] for c in task.classes]
        h_s, h_t = probability(s["heatmap"]).double(), probability(t["heatmap"]).double()
        cross = -(h_t * h_s.log() + (1 - h_t) * (1 - h_s).log())
        focal = (h_s - h_t) ** 2 * cross
        positives = max(1, int((h_t > 0.3).sum()))
        heat += sum(w[k] * float(focal[:, k].sum()) for k in range(len(w))) / positives
        presence = h_t.sum(1)
        bound = 0.1
        while not (presence > bound).any():
            bound -= 0.01
        parts = []
        for b, i, j in (presence > bound).nonzero().tolist():
            strength = sum(w[k] * float(h_t[b, k, i, j]) for k in range(len(w)))
            for name in REGRESSION:
                for d in (s[name][b, :, i, j] - t[name][b, :, i, j]).abs().tolist():
                    parts.append(strength * (0.5 * d * d if d < 1 else d - 0.5))
        box += float(np.mean(parts))
    return heat, box


def respd(student, master, weights) -> tuple[float, float]:
    """Heatmap and box loss between the maps of two networks, as published."""
    loss, none = published(respd_class_weights=weights), targets(truths(1, 2))
    ends = [dataclasses.replace(output(1), tasks=tasks) for tasks in (student, master)]
    return float(loss.loss_respd_heatmap(*ends, none)), float(loss.loss_respd_box(*ends, none))


def test_respd_against_loops() -> None:
    student, master = maps(1), maps(2)
    master[0]["heatmap"] -= 9  # nobody reaches 0.1: the bound is lowered
    for weights in ((2.0, 2, 2, 2, 2, 1, 2, 2, 1, 1), (2.0, 2, 2, 2, 2, 2, 2, 2, 1, 1)):
        found = respd(student, master, weights)
        expected = respd_by_loops(student, master, weights)
        np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_pedestrians_can_weigh_more_than_the_cones_they_share_a_task_with() -> None:
    student, master = maps(1), maps(1)
    pedestrian, cone = (NUSCENES_CLASSES.index(c) for c in ("pedestrian", "traffic_cone"))
    task = next(t for t in range(6) if "pedestrian" in TINY.head.tasks[t].classes)
    terms = {}
    for channel, name in enumerate(TINY.head.tasks[task].classes):
        changed = [{k: v.clone() for k, v in m.items()} for m in master]
        changed[task]["heatmap"][:, channel] += 1
        for heavy in (1.0, 2.0):
            weights = [1.0] * 10
            weights[pedestrian] = heavy
            terms[name, heavy], _ = respd(student, changed, tuple(weights))
    assert terms["pedestrian", 2.0] == pytest.approx(2 * terms["pedestrian", 1.0], rel=1e-4)
    assert terms["traffic_cone", 2.0] == pytest.approx(terms["traffic_cone", 1.0], rel=1e-4)
    assert cone != pedestrian


#: Channels of each part of a box in ``stacked`` order.
PARTS = {
    "place": (0, 1),
    "height": (2,),
    "size": (3, 4, 5),
    "rotation": (6, 7),
    "velocity": (8, 9),
}


@pytest.mark.parametrize(
    "channels", [tuple(PARTS), ("place", "height", "size"), ("velocity",), ("size", "place")]
)
def test_boxes_at_their_own_cells_against_a_loop(channels: tuple[str, ...]) -> None:
    student, master = output(1), teacher(2)
    loss = crkd(respd_channels=channels)
    seen, total = targets(truths(1, 2)), 0.0
    picked = [index for name in channels for index in PARTS[name]]
    tasks = zip(TINY.head.tasks, student.tasks, master.tasks, seen.tasks(), strict=True)
    for task, s, t, own in tasks:
        weights = [loss.class_weights[name] for name in task.classes]
        parts = []
        for b, cell in zip(own.sample.tolist(), own.cell.tolist(), strict=True):
            i, j = divmod(cell, Y)
            h_t = probability(t["heatmap"])[b, :, i, j].tolist()
            strength = sum(w * h for w, h in zip(weights, h_t, strict=True))
            a, z = (torch.cat([m[n][b, :, i, j] for n in REGRESSION]) for m in (s, t))
            d = (a - z).abs()[picked]
            parts.append(strength * float(torch.where(d < 1, 0.5 * d * d, d - 0.5).mean()))
        total += float(np.mean(parts)) if parts else 0.0
    found = loss.loss_respd_box(student, master, seen)
    assert total > 0
    assert float(found) == pytest.approx(total, rel=1e-4)


def test_channels_that_do_not_teach_get_no_gradient() -> None:
    student = output(1, grad=True)
    loss = crkd(respd_channels=("place", "height", "size"))
    loss.loss_respd_box(student, teacher(2), targets(truths(1, 2))).backward()
    for task in student.tasks:
        for name in ("rot", "vel"):
            assert task[name].grad is None or not task[name].grad.any()
    assert any(task["dim"].grad.any() for task in student.tasks if task["dim"].grad is not None)


def test_without_objects_no_box_is_compared() -> None:
    student = output(1, grad=True)
    empty = [boxes.select(np.zeros(len(boxes), bool)) for boxes in truths(1, 2)]
    found = crkd().loss_respd_box(student, teacher(2), targets(empty))
    assert float(found.detach()) == 0
    found.backward()


# ---- what changes over the steps


def test_weights_rise_over_the_ramp() -> None:
    config = CrkdConfig(teacher="", teacher_checksum="", ramp_steps=100)
    assert [config.ramp(step) for step in (1, 50, 100, 101)] == [0.01, 0.5, 1.0, 1.0]
    assert CrkdConfig.published(teacher="", teacher_checksum="").ramp(1) == 1.0
    loss, seen = crkd(losses=only("respd_heatmap")), targets(truths(1, 2))
    full = loss.terms(output(1), teacher(2), seen)["respd_heatmap"]
    loss.share = 0.25
    part = loss.terms(output(1), teacher(2), seen)["respd_heatmap"]
    assert float(part) == pytest.approx(float(full) / 4, rel=1e-6)
