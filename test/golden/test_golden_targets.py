"""Targets and detection loss as the released code computes them."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from golden import Vectors, needs_golden, tensor
from official_models import our_boxes, our_maps

from crkd_core.config import IDENTITY, DetectorConfig
from crkd_core.losses.detection import DetectionLoss, gaussian_focal
from crkd_core.losses.targets import Targets, TaskTargets, build_targets, gaussian_radius
from crkd_core.model.head import REGRESSION
from crkd_core.official.student import released_student

pytestmark = needs_golden


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors("targets")


@pytest.fixture(scope="module")
def config() -> DetectorConfig:
    return dataclasses.replace(released_student(), ego_T_grid=IDENTITY)


@pytest.fixture(scope="module")
def targets(vectors: Vectors, config: DetectorConfig) -> list[TaskTargets]:
    truths = []
    for frame in (0, 1):
        boxes = vectors[f"frame{frame}.boxes"]
        labels = vectors[f"frame{frame}.labels"]
        known = labels >= 0
        truths.append(our_boxes(boxes[known], np.ones(known.sum()), labels[known]))
    return build_targets(truths, config)


@pytest.mark.parametrize("frame", [0, 1])
def test_boxes_and_radii(vectors: Vectors, config: DetectorConfig, frame: int) -> None:
    boxes = vectors[f"frame{frame}.boxes"]
    found = our_boxes(boxes, np.ones(len(boxes)), np.zeros(len(boxes)))
    np.testing.assert_allclose(
        found.center, vectors[f"frame{frame}.gravity_centers"], rtol=1e-5, atol=1e-5
    )
    radius = gaussian_radius(found.size[:, :2] / config.grid.cell, overlap=0.1)
    np.testing.assert_allclose(radius, vectors[f"frame{frame}.radius_raw"], rtol=1e-5)
    corners = vectors[f"frame{frame}.corners"].astype(np.float64)
    for ours, theirs in zip(found.corners(), corners, strict=True):
        gap = np.linalg.norm(ours[:, None] - theirs[None], axis=2)
        assert sorted(gap.argmin(1).tolist()) == list(range(8))
        assert gap.min(1).max() < 1e-4


@pytest.mark.parametrize("task", range(6))
def test_heatmaps(vectors: Vectors, targets: list[TaskTargets], task: int) -> None:
    heatmap = targets[task].heatmap.numpy()
    assert heatmap.shape == tuple(vectors[f"task{task}.heatmap_shape"])
    expected = np.zeros_like(heatmap)
    expected[tuple(vectors[f"task{task}.heatmap_index"].T)] = vectors[f"task{task}.heatmap_value"]
    assert ((heatmap > 0) == (expected > 0)).all()
    assert ((heatmap == 1) == (expected == 1)).all()
    np.testing.assert_allclose(heatmap, expected, rtol=1e-5)


@pytest.mark.parametrize("task", range(6))
def test_regression(vectors: Vectors, targets: list[TaskTargets], task: int) -> None:
    target = targets[task]
    mask = vectors[f"task{task}.mask"].astype(bool)
    frame, slot = np.nonzero(mask)
    cell = vectors[f"task{task}.ind"][frame, slot]
    code = vectors[f"task{task}.anno_box"][frame, slot]
    released = target.code.numpy()[:, [0, 1, 2, 4, 3, 5, 7, 6, 8, 9]]
    released[:, 6:8] *= -1
    assert len(released) == len(code) > 0
    place = [np.column_stack([target.sample, target.cell]), np.column_stack([frame, cell])]
    rows = [
        part[np.lexsort([*np.round(values.T[::-1], 3), *where.T[::-1]])]
        for where, values in zip(place, (released, code), strict=True)
        for part in (np.column_stack([where, values]),)
    ]
    np.testing.assert_array_equal(rows[0][:, :2], rows[1][:, :2])
    np.testing.assert_allclose(rows[0], rows[1], rtol=0, atol=3e-5)


@pytest.mark.parametrize("network", ["student", "teacher"])
def test_detection_loss(
    vectors: Vectors, config: DetectorConfig, targets: list[TaskTargets], network: str
) -> None:
    velocity = 1.0 if network == "student" else 0.2
    head = dataclasses.replace(config.head, code_weights=(1.0,) * 8 + (velocity,) * 2)
    loss = DetectionLoss(dataclasses.replace(config, head=head))
    total, divisors = 0.0, Targets.of(targets).divisors
    for task, settings in enumerate(config.head.tasks):
        sizes = {**REGRESSION, "heatmap": len(settings.classes)}
        maps = {
            name: tensor(f"input/det_loss/task{task}/{name}", (2, c, 180, 180))
            for name, c in sizes.items()
        }
        maps["heatmap"] = maps["heatmap"] - 2
        maps = our_maps(maps)
        peaks, boxes = divisors[task]
        heat = float(gaussian_focal(maps["heatmap"], targets[task].heatmap, divisor=peaks))
        terms = loss.box_loss(maps, targets[task], divisor=boxes)
        box = float(torch.stack(list(terms.values())).sum())
        name = f"loss.{network}"
        np.testing.assert_allclose(heat, vectors[f"{name}.heatmap.task{task}"], rtol=1e-5)
        np.testing.assert_allclose(box, vectors[f"{name}.bbox.task{task}"], rtol=1e-5)
        total += heat + box
    np.testing.assert_allclose(total, vectors[f"loss.{network}.total"], rtol=1e-5)
