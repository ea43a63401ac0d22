"""Boxes from head maps, and non-maximum suppression, as the released code answers them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from golden import Vectors, needs_golden, tensor
from official_models import RELEASED_CLASSES, our_boxes, our_maps

from crkd_core import geometry
from crkd_core.boxes import Detections
from crkd_core.config import IDENTITY, DetectorConfig
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.model.decode import decode
from crkd_core.model.head import REGRESSION
from crkd_core.model.nms import Circles, Rectangles, rotated_iou, suppressed
from crkd_core.model.output import ModelOutput
from crkd_core.official.student import released_student

pytestmark = needs_golden

#: Logit offsets of the tasks.
OFFSETS = (-5.5, -9.5, -5.5, -9.0, -5.5, -9.0)


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors("decode")


@pytest.fixture(scope="module")
def config() -> DetectorConfig:
    return dataclasses.replace(released_student(), ego_T_grid=IDENTITY)


@pytest.fixture(scope="module")
def tasks(vectors: Vectors, config: DetectorConfig) -> list[dict[str, torch.Tensor]]:
    """Head maps of two frames in our order."""
    salt = int(vectors["input_salt"])
    found = []
    for task, settings in enumerate(config.head.tasks):
        sizes = {**REGRESSION, "heatmap": len(settings.classes)}
        n = {
            name: tensor(f"input/decode{salt}/task{task}/{name}", (2, c, 180, 180))
            for name, c in sizes.items()
        }
        region = torch.zeros(180, 180)
        if task % 2:
            region += 1
            region[60:120, 66:118] = 0.5
        elif task == 2:
            region[80:110, 80:106] = 1
        else:
            region[60:120, 66:118] = 1
        offset = torch.from_numpy(vectors[f"task{task}.dim_offset"])[:, None, None]
        maps = {
            "reg": 0.3 * n["reg"] + 0.5,
            "height": n["height"],
            "dim": 0.15 * n["dim"] + offset,
            "rot": n["rot"],
            "vel": 2 * n["vel"],
            "heatmap": 1.5 * n["heatmap"] + OFFSETS[task] + 2.5 * region,
        }
        found.append(our_maps(maps))
    return found


def output(tasks: list[dict[str, torch.Tensor]]) -> ModelOutput:
    empty = torch.zeros(0)
    return ModelOutput(
        tasks=tasks,
        camera_bev=empty,
        gated_camera=empty,
        radar_bev=empty,
        fused=empty,
        decoded=empty,
        depth_logits=empty,
    )


def assert_same_boxes(found: Detections, expected: Detections) -> None:
    """Equal as sets; every box has one partner."""
    assert len(found) == len(expected)
    rows = [np.column_stack([d.center, d.size, 10 * d.score, d.label]) for d in (found, expected)]
    partner = np.abs(rows[0][:, None] - rows[1][None]).sum(2).argmin(1)
    assert len(set(partner)) == len(found)
    other = expected.select(partner)
    assert (found.label == other.label).all()
    for name in ("center", "size", "velocity", "score"):
        np.testing.assert_allclose(
            getattr(found, name), getattr(other, name), rtol=1e-5, atol=3e-5, err_msg=name
        )
    np.testing.assert_allclose(geometry.wrap_angle(found.yaw - other.yaw), 0, atol=1e-4)


@pytest.mark.parametrize("task", range(6))
def test_before_suppression(
    vectors: Vectors, config: DetectorConfig, tasks: list[dict[str, torch.Tensor]], task: int
) -> None:
    settings = config.head.tasks[task]
    # No overlap is above 2; small boxes have few neighbours to look at.
    scale = (1e-6,) * len(settings.classes)
    alone = dataclasses.replace(settings, nms="rotated", nms_threshold=2.0, nms_scale=scale)
    head = dataclasses.replace(config.head, tasks=(alone,), keep=10_000)
    one = dataclasses.replace(config, head=head, classes=settings.classes)
    answers = decode(output([tasks[task]]), one)
    for frame, found in enumerate(answers):
        name = f"decoded.frame{frame}.task{task}"
        boxes = vectors[f"{name}.bboxes"].copy()
        # Stored with gravity centres here.
        boxes[:, 2] -= boxes[:, 5] / 2
        first = RELEASED_CLASSES.index(settings.classes[0])
        labels = vectors[f"{name}.labels"] + first
        assert RELEASED_CLASSES[first : first + len(settings.classes)] == settings.classes
        expected = our_boxes(boxes, vectors[f"{name}.scores"], labels)
        assert_same_boxes(found, expected.of_classes(settings.classes))


def test_final_boxes(
    vectors: Vectors, config: DetectorConfig, tasks: list[dict[str, torch.Tensor]]
) -> None:
    for frame, found in enumerate(decode(output(tasks), config)):
        name = f"final.frame{frame}"
        expected = our_boxes(
            *(vectors[f"{name}.{part}"] for part in ("boxes", "scores", "labels"))
        )
        assert_same_boxes(found, expected)
        assert (np.diff(found.score) <= 0).all()


def test_final_boxes_in_another_frame(
    config: DetectorConfig, tasks: list[dict[str, torch.Tensor]]
) -> None:
    moved = dataclasses.replace(config, ego_T_grid=released_student().ego_T_grid)
    plain, ego = decode(output(tasks), config)[0], decode(output(tasks), moved)[0]
    assert_same_boxes(ego, plain.transformed(np.array(moved.ego_T_grid)))
    # LIDAR_TOP looks to the left of the vehicle's axes: its y axis is forward.
    assert not np.allclose(ego.center[0], plain.center[0], atol=0.1)


def test_stand_alone_suppression(vectors: Vectors) -> None:
    boxes, scores = vectors["nms.bev_boxes"].astype(np.float64), vectors["nms.scores"]
    # Stored headings turn clockwise.
    flat = boxes * (1, 1, 1, 1, -1)
    pairs = np.stack(np.meshgrid(*[np.arange(len(flat))] * 2, indexing="ij"), -1).reshape(-1, 2)
    iou = rotated_iou(flat[pairs[:, 0]], flat[pairs[:, 1]]).reshape(len(flat), len(flat))
    np.testing.assert_allclose(iou, vectors["nms.iou"], atol=1e-5)
    order = np.argsort(-scores, kind="stable")
    rectangles = Rectangles(boxes=flat[order], overlap=0.2)
    kept = order[suppressed([rectangles], keep=83)[0]]
    assert kept.tolist() == vectors["nms.rotated_keep_0.2"].tolist()
    for squared in (4, 1):
        circles = Circles(centers=flat[order, :2], distance=np.sqrt(squared))
        kept = order[suppressed([circles], keep=83)[0]]
        assert kept.tolist() == vectors[f"nms.circle_keep_{squared}"].tolist()


def test_class_names_cover_the_tasks(config: DetectorConfig) -> None:
    names = [name for task in config.head.tasks for name in task.classes]
    assert tuple(names) == RELEASED_CLASSES
    assert set(names) == set(NUSCENES_CLASSES)
