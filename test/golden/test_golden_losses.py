"""The distillation losses, and the detection loss beside them, against the released code.

What is stored is what one published training step returned, weights included. Our terms carry
their own weights and no division by the batch, so each test says how they hang together.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from golden import Vectors, check, needs_golden, tensor, value, weights
from official_models import RELEASED_CLASSES
from torch import Tensor

from crkd_core.boxes import Truth
from crkd_core.config import (
    PUBLISHED_LOSSES,
    CrkdConfig,
    EnlargeConfig,
    GridConfig,
    HeadConfig,
    RadarConfig,
)
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.distill.crkd import Crkd
from crkd_core.distill.features import RelationAdapter, masked_error
from crkd_core.distill.foreground import enlarge, foreground
from crkd_core.distill.responses import objectness
from crkd_core.distill.teacher import Teacher
from crkd_core.losses.detection import DetectionLoss, gaussian_focal
from crkd_core.losses.targets import Targets, targets_of
from crkd_core.model.head import REGRESSION
from crkd_core.model.output import ModelOutput
from crkd_core.presets import crkd_r50
from crkd_core.presets.crkd import SIX_TASKS

pytestmark = needs_golden

SCALES = (32, 16, 8, 4)
CLASSES_PER_TASK = (1, 2, 2, 1, 2, 2)
#: The two frames together, and each alone.
BATCHES = {"batch2": slice(0, 2), "batch1_frame0": slice(0, 1), "batch1_frame1": slice(1, 2)}
RELATIVE = 1e-5
ENDS = ("student", "teacher")
GRID = GridConfig(low=(-54.0, -54.0, -5.0), high=(54.0, 54.0, 3.0), cell=0.6)
DETECTOR = dataclasses.replace(
    crkd_r50().detector,
    grid=GRID,
    radar=RadarConfig(calibration="path"),
    head=HeadConfig(tasks=SIX_TASKS),
)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors("losses")


class Silent(torch.nn.Module):
    """In the place of a network whose answers are stored."""

    config = DETECTOR


def crkd(**changes) -> Crkd:
    config = CrkdConfig.published(teacher="", teacher_checksum="", **changes)
    return Crkd(config, student=DETECTOR, teacher=Teacher(Silent()))


def answer(
    tasks: list[dict[str, Tensor]] | None = None,
    *,
    fused: Tensor | None = None,
    camera: Tensor | None = None,
    activation: Tensor | None = None,
) -> ModelOutput:
    """What a network gave, as far as a loss reads it."""
    return ModelOutput(
        tasks=tasks or [],
        fused=torch.zeros(0) if fused is None else fused,
        gated_camera=camera,
        radar_activation=activation,
    )


@pytest.fixture(scope="module")
def targets(truths: list[Truth]) -> Targets:
    mask = foreground(truths, GRID, EnlargeConfig())
    return dataclasses.replace(targets_of(truths, DETECTOR), foreground=mask)


def official_boxes(rows: np.ndarray, labels: np.ndarray) -> Truth:
    """Ours from x y bottom-z w l h yaw vx vy with yaw = -ours - pi/2, in the same frame."""
    rows = rows.astype(float)
    count = len(rows)
    return Truth(
        center=rows[:, :3] + [[0, 0, 0.5]] * rows[:, 5:6],
        size=rows[:, [4, 3, 5]],
        yaw=-rows[:, 6] - np.pi / 2,
        velocity=rows[:, 7:],
        label=np.array([NUSCENES_CLASSES.index(RELEASED_CLASSES[k]) for k in labels], np.int64),
        attribute=np.full(count, -1),
        num_lidar_points=np.ones(count, np.int64),
        num_radar_points=np.ones(count, np.int64),
        classes=NUSCENES_CLASSES,
    )


@pytest.fixture(scope="module")
def truths(vectors: Vectors) -> list[Truth]:
    return [
        official_boxes(vectors[f"frame{i}.boxes"], vectors[f"frame{i}.labels"]) for i in range(2)
    ]


def tasks(who: str) -> list[dict[str, Tensor]]:
    """The maps of a network, in our convention: l before w, sine and cosine of our yaw."""
    found = []
    for task, count in enumerate(CLASSES_PER_TASK):
        sizes = {**REGRESSION, "heatmap": count}
        maps = {
            name: tensor(f"input/loss/{who}/task{task}/{name}", (2, c, 180, 180))
            for name, c in sizes.items()
        }
        maps["heatmap"] = maps["heatmap"] * (1.0 if who == "student" else 1.5) - 2
        maps["dim"] = maps["dim"][:, [1, 0, 2]]
        maps["rot"] = -maps["rot"][:, [1, 0]]
        found.append(maps)
    return found


@pytest.fixture(scope="module")
def maps() -> dict[str, Tensor]:
    x, y = np.meshgrid(np.arange(180), np.arange(180), indexing="ij")
    keep = torch.from_numpy((x + 2 * y) % 11 != 0)
    fused, camera = (2, 256, 180, 180), (2, 80, 180, 180)
    return {
        "fused_student": tensor("input/loss/fused_student", fused).relu(),
        "fused_teacher": tensor("input/loss/fused_teacher", fused).relu() * keep,
        "camera_student": tensor("input/loss/camera_student", camera),
        "camera_teacher": tensor("input/loss/camera_teacher", camera) * keep,
        "radar_activation": torch.from_numpy(
            np.float32(0.3) * value("input/loss/radar_activation", (2, 1, 180, 180))
        ).relu(),
    }


@pytest.fixture(scope="module")
def responses() -> dict[str, list[dict[str, Tensor]]]:
    return {who: tasks(who) for who in ENDS}


def part(responses: list[dict[str, Tensor]], pick: slice) -> list[dict[str, Tensor]]:
    return [{name: m[pick] for name, m in maps.items()} for maps in responses]


def test_enlarged_boxes(vectors: Vectors, truths: list[Truth]) -> None:
    rows, labels = vectors["enlarge.boxes"], np.zeros(len(vectors["enlarge.boxes"]), int)
    cases = [(official_boxes(rows, labels), vectors["enlarge.result"])]
    cases += [(truths[i], vectors[f"frame{i}.enlarged_boxes"]) for i in range(2)]
    for boxes, expected in cases:
        found = enlarge(boxes, EnlargeConfig())
        np.testing.assert_allclose(found.size, expected[:, [4, 3, 5]], rtol=RELATIVE)
        np.testing.assert_array_equal(found.center, boxes.center)


def test_foreground(vectors: Vectors, truths: list[Truth]) -> None:
    found = foreground(truths, GRID, EnlargeConfig())
    assert found.nonzero().tolist() == sorted(vectors["mask_cells"].tolist())


@pytest.mark.parametrize("name", BATCHES)
def test_csrd(name: str, vectors: Vectors, maps, responses, targets) -> None:
    pick = BATCHES[name]
    loss = crkd(csrd_target="code")
    student = answer(activation=maps["radar_activation"][pick])
    teacher = answer(part(responses["teacher"], pick))
    found = 100 * loss.loss_csrd(student, teacher, targets)
    assert float(found) == pytest.approx(float(vectors[f"{name}.lr_kd"]), rel=RELATIVE)


def test_objectness(vectors: Vectors, responses) -> None:
    heatmaps = [m["heatmap"] for m in responses["teacher"]]
    check(objectness(heatmaps, form="code"), vectors, "teacher_objectness")
    assert not torch.allclose(
        objectness(heatmaps, form="code"), objectness(heatmaps, form="paper"), atol=0.05
    )


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize(("ours", "term"), [("fused", "fused"), ("camera", "cam")])
def test_msfd(name: str, ours: str, term: str, vectors: Vectors, maps, truths) -> None:
    """Published: 10 / B times the mean of 0.5 (S - T)^2."""
    pick = BATCHES[name]
    mask = foreground(truths[pick], GRID, EnlargeConfig())
    loss = masked_error(maps[f"{ours}_student"][pick], maps[f"{ours}_teacher"][pick], mask)
    published = 10 / len(mask) * 0.5 * float(loss)
    stored = vectors[f"{name}.{term}_mask_scale_feat_kd"]
    assert published == pytest.approx(float(stored), rel=RELATIVE)


@pytest.fixture(scope="module")
def relation() -> Crkd:
    """RelD with the official adapters, raw affinities."""
    state = weights("r50_distilled", prefix="fused_feat_affinity_loss.adapt_modules.")
    loss = crkd(reld_affinity="raw")
    own = {
        key.replace("fused_feat_affinity_loss.adapt_modules.", "").replace(
            ".conv_channel_layer", ""
        ): t
        for key, t in state.items()
    }
    loss.relation.load_state_dict(own)
    return loss.requires_grad_(False)


@pytest.mark.parametrize("name", BATCHES)
def test_reld(name: str, vectors: Vectors, maps, relation: Crkd, targets) -> None:
    """Published: 0.25 / B times the sum over scales of the mean |K_S - K_T|."""
    pick = BATCHES[name]
    student, teacher = (answer(fused=maps[f"fused_{who}"][pick]) for who in ENDS)
    found = 0.25 / len(student.fused) * float(relation.loss_reld(student, teacher, targets))
    stored = vectors[f"{name}.fused_affinity_kd"]
    assert found == pytest.approx(float(stored), rel=RELATIVE)


@pytest.mark.parametrize("index", range(len(SCALES)))
def test_relation_scales(index: int, vectors: Vectors, maps, relation: Crkd, targets) -> None:
    size = SCALES[index]
    adapter = relation.relation[index]
    assert isinstance(adapter, RelationAdapter)
    student, teacher = (
        torch.nn.functional.interpolate(maps[f"fused_{who}"], (size, size), mode="bilinear")
        for who in ENDS
    )
    check(adapter(student), vectors, f"relation.scale{size}.adapted_student")
    check(teacher, vectors, f"relation.scale{size}.resized_teacher")
    one = crkd(reld_affinity="raw", reld_scales=(size,))
    one.relation[0] = adapter
    bare = crkd(reld_affinity="raw", reld_scales=(size,), reld_adapter=False)
    pairs = {"batch2": slice(0, 2), "batch1_frame0": slice(0, 1)}
    for name, pick in pairs.items():
        count = pick.stop - pick.start
        ends = [answer(fused=maps[f"fused_{who}"][pick]) for who in ENDS]
        stored = float(vectors[f"relation.scale{size}.{name}"])
        assert float(one.loss_reld(*ends, targets)) / count == pytest.approx(stored, rel=RELATIVE)
    stored = float(vectors[f"relation.scale{size}.no_adapter.batch2"])
    ends = [answer(fused=maps[f"fused_{who}"]) for who in ENDS]
    found = float(bare.loss_reld(*ends, targets)) / 2
    assert found == pytest.approx(stored, rel=RELATIVE)


@pytest.mark.parametrize("name", BATCHES)
def test_respd_task_by_task(name: str, vectors: Vectors, responses, targets) -> None:
    student = part(responses["student"], BATCHES[name])
    teacher = part(responses["teacher"], BATCHES[name])
    for task in range(len(CLASSES_PER_TASK)):
        loss = crkd()
        head = dataclasses.replace(DETECTOR.head, tasks=DETECTOR.head.tasks[task : task + 1])
        (one,) = head.tasks
        loss.student = dataclasses.replace(DETECTOR, head=head, classes=one.classes)
        ends = [answer(maps[task : task + 1]) for maps in (student, teacher)]
        heatmap = loss.loss_respd_heatmap(*ends, targets)
        box = loss.config.losses["respd_box"] * loss.loss_respd_box(*ends, targets)
        for term, found in {"heatmap": heatmap, "bbox": box}.items():
            stored = float(vectors[f"{name}.{term}.task{task}.kd"])
            assert float(found) == pytest.approx(stored, rel=RELATIVE), (task, term)


@pytest.mark.parametrize("name", BATCHES)
def test_detection_terms(name: str, vectors: Vectors, responses, truths) -> None:
    pick = BATCHES[name]
    loss = DetectionLoss(DETECTOR)
    maps = part(responses["student"], pick)
    targets = targets_of(truths[pick], DETECTOR)
    for task, target in enumerate(targets.tasks()):
        peaks, boxes = targets.divisors[task]
        heatmap = gaussian_focal(maps[task]["heatmap"], target.heatmap, divisor=peaks)
        box = sum(loss.box_loss(maps[task], target, divisor=boxes).values())
        for term, found in {"heatmap": heatmap, "bbox": box}.items():
            stored = float(vectors[f"{name}.{term}.task{task}"])
            assert float(found) == pytest.approx(stored, rel=RELATIVE), (task, term)


def test_sum_of_all_terms(vectors: Vectors, maps, responses, targets, relation: Crkd) -> None:
    """Our total with the weights that make it the published one at two samples."""
    weights = {**PUBLISHED_LOSSES, "reld": 0.125}
    relation.config = dataclasses.replace(relation.config, csrd_target="code", losses=weights)
    student, teacher = (
        answer(
            responses[who],
            fused=maps[f"fused_{who}"],
            camera=maps[f"camera_{who}"],
            activation=maps["radar_activation"],
        )
        for who in ENDS
    )
    with torch.no_grad():
        terms = relation.terms(student, teacher, targets)
    detection = sum(
        float(vectors[f"batch2.{term}.task{task}"])
        for term in ("heatmap", "bbox")
        for task in range(6)
    )
    stored = float(vectors["batch2.sum_of_all_terms"])
    assert detection + float(sum(terms.values())) == pytest.approx(stored, rel=RELATIVE)
