import dataclasses

import numpy as np
import pytest
import torch
from model_tiny import TINY, batch, truth

from crkd_core.boxes import Truth
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.losses.detection import DetectionLoss
from crkd_core.losses.targets import (
    TargetError,
    Targets,
    build_targets,
    counted_together,
    gaussian_radius,
    targets_of,
)
from crkd_core.model.build import build_detector

NOTHING = Truth.empty(NUSCENES_CLASSES)


def slow_heatmap(truths, task):
    """One cell of one box after the other; radius rule of CenterPoint spelled out."""
    grid, head = TINY.grid, TINY.head
    heatmap = np.zeros((len(truths), len(task.classes), *grid.shape))
    for b, boxes in enumerate(truths):
        for k in range(len(boxes)):
            name = NUSCENES_CLASSES[boxes.label[k]]
            if name not in task.classes:
                continue
            cx, cy = (boxes.center[k, :2] - grid.low[:2]) / grid.cell
            l, w = boxes.size[k, :2] / grid.cell
            o = head.gaussian_overlap
            r1 = ((l + w) + np.sqrt((l + w) ** 2 - 4 * l * w * (1 - o) / (1 + o))) / 2
            r2 = (2 * (l + w) + np.sqrt(4 * (l + w) ** 2 - 16 * (1 - o) * l * w)) / 2
            r3 = (
                -2 * o * (l + w) + np.sqrt(4 * o**2 * (l + w) ** 2 - 16 * o * (o - 1) * l * w)
            ) / 2
            radius = max(head.min_radius, int(min(r1, r2, r3)))
            sigma = (2 * radius + 1) / 6
            for i in range(grid.shape[0]):
                for j in range(grid.shape[1]):
                    dx, dy = i - int(cx), j - int(cy)
                    if max(abs(dx), abs(dy)) <= radius:
                        value = np.exp(-(dx**2 + dy**2) / (2 * sigma**2))
                        c = task.classes.index(name)
                        heatmap[b, c, i, j] = max(heatmap[b, c, i, j], value)
    return heatmap


def large(rng, count):
    """Boxes of up to 20 m, so that radii differ."""
    boxes = truth(rng, count)
    return dataclasses.replace(boxes, size=boxes.size * rng.uniform(0.5, 4, (count, 1)))


def test_heatmaps_equal_the_slow_ones():
    rng = np.random.default_rng(0)
    truths = [large(rng, 40), NOTHING, large(rng, 25)]
    for target, task in zip(build_targets(truths, TINY), TINY.head.tasks, strict=True):
        np.testing.assert_allclose(target.heatmap, slow_heatmap(truths, task), atol=1e-6)


def test_codes_hold_the_boxes():
    rng = np.random.default_rng(1)
    boxes = truth(rng, 30)
    seen = 0
    for target, task in zip(build_targets([boxes], TINY), TINY.head.tasks, strict=True):
        mine = boxes.select(np.array([NUSCENES_CLASSES[c] in task.classes for c in boxes.label]))
        seen += len(mine)
        code, (_, size_y) = target.code.double().numpy(), TINY.grid.shape
        cell = np.stack([target.cell // size_y, target.cell % size_y], 1)
        xy = np.array(TINY.grid.low[:2]) + TINY.grid.cell * (cell + code[:, :2])
        assert ((code[:, :2] >= 0) & (code[:, :2] <= 1)).all()
        np.testing.assert_allclose(xy, mine.center[:, :2], atol=1e-5)
        np.testing.assert_allclose(code[:, 2], mine.center[:, 2], atol=1e-5)
        np.testing.assert_allclose(np.exp(code[:, 3:6]), mine.size, rtol=1e-5)
        np.testing.assert_allclose(np.arctan2(code[:, 6], code[:, 7]), mine.yaw, atol=1e-5)
        np.testing.assert_allclose(code[:, 8:], mine.velocity, atol=1e-5)
        peaks = target.heatmap.flatten(2).amax(1)[target.sample, target.cell]
        assert (peaks == 1).all()
    assert seen == 30


def test_mirrored_boxes_give_mirrored_heatmaps():
    boxes = truth(np.random.default_rng(2), 30)
    mirrored = dataclasses.replace(boxes, center=boxes.center * [1, -1, 1], yaw=-boxes.yaw)
    pairs = zip(build_targets([boxes], TINY), build_targets([mirrored], TINY), strict=True)
    for a, b in pairs:
        assert torch.equal(a.heatmap.flip(3), b.heatmap)


def test_boxes_outside_the_grid_are_left_out():
    boxes = truth(np.random.default_rng(3), 4)
    center = np.array([[-24.0, -16.0, 0], [24.0, 0, 0], [0, 16.0, 0], [-24.001, 0, 0]])
    boxes = dataclasses.replace(boxes, center=center, label=np.zeros(4, np.int64))
    car = build_targets([boxes], TINY)[0]
    assert car.cell.tolist() == [0]
    assert int((car.heatmap == 1).sum()) == 1


def test_no_boxes_give_empty_targets():
    for target in build_targets([NOTHING, NOTHING], TINY):
        assert target.heatmap.shape[0] == 2 and not target.heatmap.any()
        assert len(target.cell) == 0 and target.code.shape == (0, 10)


def test_targets_of_a_batch_are_those_of_its_tasks():
    tasks = build_targets([large(np.random.default_rng(5), 20), NOTHING], TINY)
    whole = Targets.of(tasks)
    for found, task in zip(whole.tasks(), tasks, strict=True):
        for name in ("heatmap", "sample", "cell", "code"):
            assert torch.equal(getattr(found, name), getattr(task, name)), name
    for place, task in enumerate(tasks):
        assert whole.peaks[place] == int((task.heatmap == 1).sum())
        assert whole.divisors[place] == (max(whole.peaks[place], 1), len(task.cell) + 1e-4)


def test_the_mean_loss_of_parts_is_the_loss_of_the_whole():
    """Samples with many boxes, few and none, one by one and together."""
    torch.manual_seed(0)
    model = build_detector(TINY).eval()
    rng = np.random.default_rng(6)
    truths = [truth(rng, count) for count in (12, 1, 0)]
    criterion, cpu = DetectionLoss(TINY), torch.device("cpu")
    model.requires_grad_(False)
    whole = criterion(model(batch(0, 1, 2)), targets_of(truths, TINY))
    parts = [targets_of([boxes], TINY) for boxes in truths]
    losses = [
        criterion(model(batch(seed)), part)
        for seed, part in enumerate(counted_together(parts, device=cpu))
    ]
    for name, value in whole.items():
        mean = sum(float(part[name]) for part in losses) / len(losses)
        assert mean == pytest.approx(float(value), rel=1e-5), name
    assert counted_together(parts[:1], device=cpu)[0].divisors == parts[0].divisors


def test_truth_that_is_no_truth_is_refused():
    boxes = truth(np.random.default_rng(4), 2)
    flat = dataclasses.replace(boxes, size=boxes.size * [1, 0, 1])
    lost = dataclasses.replace(boxes, center=boxes.center * np.nan)
    for bad in (flat, lost):
        with pytest.raises(TargetError, match="sample 1: expected finite centres"):
            build_targets([boxes, bad], TINY)
        with pytest.raises(TargetError, match=r"sample 1 \(00017\): expected finite"):
            targets_of([boxes, bad], TINY, tokens=("", "00017"))


def test_a_box_far_larger_than_the_grid_takes_no_more_memory():
    """A detector that went astray says such boxes, and their scores may be high."""
    boxes = dataclasses.replace(truth(np.random.default_rng(0), 20), size=np.full((20, 3), 1e9))
    drawn = build_targets([boxes], TINY)
    assert any(len(target.code) for target in drawn)
    for target in drawn:
        channels = target.heatmap[0].flatten(1).max(1).values
        assert set(channels.tolist()) <= {0.0, 1.0} and torch.isfinite(target.code[:, :6]).all()


def test_radius_of_a_car_by_hand():
    # 4.6 x 1.9 m in cells of 0.6 m: the third case is the smallest, 2.065 cells.
    assert gaussian_radius(np.array([[4.6, 1.9]]) / 0.6, overlap=0.1) == pytest.approx(
        2.0654, abs=1e-3
    )
