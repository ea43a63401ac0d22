import dataclasses

import numpy as np
import pytest
import torch
from model_tiny import TINY, batch, truth

from crkd_core.boxes import Truth
from crkd_core.config import ConfigError
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.losses.depth import DepthLoss, DepthLossError, depth_truth
from crkd_core.losses.detection import DetectionLoss, gaussian_focal
from crkd_core.losses.targets import TargetError, build_targets, targets_of
from crkd_core.model.build import build_detector
from crkd_core.model.camera.lift import cell_pixels

NOTHING = Truth.empty(NUSCENES_CLASSES)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return build_detector(TINY)


@pytest.fixture
def output(model):
    return model(batch(0, 1))


def test_focal_loss_equals_the_formula_cell_by_cell():
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 4, (2, 2, 3, 3))
    target = rng.uniform(0, 0.99, (2, 2, 3, 3))
    target[0, 0, 1, 1] = target[1, 1, 0, 2] = 1
    logits[0, 0, 1, 1], logits[1, 0, 2, 2] = -20, 20  # surer than the clip allows
    total = 0.0
    for z, y in zip(logits.ravel(), target.ravel(), strict=True):
        p = min(max(1 / (1 + np.exp(-z)), 1e-4), 1 - 1e-4)
        if y == 1:
            total -= (1 - p) ** 2 * np.log(p)
        else:
            total -= (1 - y) ** 4 * p**2 * np.log(1 - p)
    maps = torch.from_numpy(logits).float(), torch.from_numpy(target).float()
    assert gaussian_focal(*maps, divisor=2).item() == pytest.approx(total / 2, rel=1e-5)


def test_box_loss_equals_the_sum_over_boxes(output):
    truths = [truth(np.random.default_rng(s), 9) for s in (0, 1)]
    weights = np.arange(1, 11) / 8
    head = dataclasses.replace(TINY.head, code_weights=tuple(weights), box_weight=0.5)
    weighed = dataclasses.replace(TINY, head=head)
    losses = DetectionLoss(weighed)(output, targets_of(truths, TINY))
    expected = dict.fromkeys(("reg", "height", "dim", "rot", "vel"), 0.0)
    for maps, target in zip(output.tasks, build_targets(truths, TINY), strict=True):
        columns = {"reg": (0, 2), "height": (2, 3), "dim": (3, 6), "rot": (6, 8), "vel": (8, 10)}
        for k in range(len(target.cell)):
            i, j = divmod(int(target.cell[k]), TINY.grid.shape[1])
            for name, (a, b) in columns.items():
                predicted = maps[name][target.sample[k], :, i, j]
                error = (predicted - target.code[k, a:b]).abs().detach().numpy()
                expected[name] += 0.5 * error @ weights[a:b] / (len(target.cell) + 1e-4)
    for name, value in expected.items():
        assert losses[name].item() == pytest.approx(value, rel=1e-4), name
    parts = sum(value.item() for name, value in losses.items() if name != "total")
    assert losses["total"].item() == pytest.approx(parts, rel=1e-5)


def test_unknown_velocity_is_neither_in_the_loss_nor_in_the_gradient(output):
    boxes = truth(np.random.default_rng(0), 9)
    unknown = dataclasses.replace(boxes, velocity=np.full((9, 2), np.nan))
    criterion = DetectionLoss(TINY)
    losses, known = (
        criterion(output, targets_of([first, NOTHING], TINY)) for first in (unknown, boxes)
    )
    assert losses["vel"].item() == 0
    assert losses["reg"].item() == known["reg"].item() > 0
    velocities = [maps["vel"] for maps in output.tasks]
    gradients = torch.autograd.grad(losses["total"], velocities, allow_unused=True)
    assert all(g is None or not g.any() for g in gradients)


def test_a_batch_without_boxes_has_a_finite_loss_and_gradient(model):
    nothing = targets_of([NOTHING, NOTHING], TINY)
    losses = DetectionLoss(TINY)(model(batch(0, 1)), nothing)
    model.zero_grad()
    losses["total"].backward()
    assert losses["heatmap"].item() > 0
    assert losses["total"].item() == losses["heatmap"].item()
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    model.zero_grad()


def test_unknown_truth_is_refused():
    with pytest.raises(TargetError, match=r"samples \[1\] of the batch have no truth"):
        targets_of([NOTHING, None], TINY)


def test_code_weights_must_be_ten():
    with pytest.raises(ConfigError, match=r"head\.code_weights: expected 10 entries, got 8"):
        dataclasses.replace(TINY.head, code_weights=(1.0,) * 8)


def test_every_weight_gets_a_gradient(model):
    b = batch(0, 1)
    model.zero_grad()
    DetectionLoss(TINY)(model(b), targets_of(b.truth, TINY))["total"].backward()
    # The last stage of the backbone feeds no level of this neck.
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert not [name for name in dead if ".stages.3." not in name]
    model.zero_grad()


def test_training_on_one_batch_brings_the_loss_down():
    torch.manual_seed(0)
    model = build_detector(TINY)
    b = batch(0, 1)
    targets = targets_of(b.truth, TINY)
    criterion, optimiser = DetectionLoss(TINY), torch.optim.Adam(model.parameters(), 1e-2)
    history = []
    for _ in range(40):
        loss = criterion(model(b), targets)["total"]
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        history.append(loss.item())
    assert history[-1] < 0.25 * history[0]


def test_a_step_in_mixed_precision(model):
    b = batch(0, 1)
    model.zero_grad()
    with torch.autocast("cpu", torch.bfloat16):
        output = model(b)
    targets = targets_of(b.truth, TINY)
    losses = DetectionLoss(TINY)(output, targets)
    losses["total"].backward()
    full = DetectionLoss(TINY)(model(b), targets)["total"].item()
    assert losses["total"].dtype == torch.float32
    assert losses["total"].item() == pytest.approx(full, rel=0.02)
    assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
    model.zero_grad()


def lidar_batch(points):
    """Points in ego metres as the LiDAR of a one-sample batch, all fresh."""
    cloud = torch.zeros(len(points), 5)
    cloud[:, :3] = torch.as_tensor(points, dtype=torch.float32)
    sample = torch.zeros(len(points), dtype=torch.int64)
    return dataclasses.replace(batch(0), lidar=cloud, lidar_sample=sample)


def test_depth_truth_is_the_nearest_return_along_the_optical_axis():
    # CAM_FRONT stands at (0.7, 0, 1.5); straight ahead is the middle of the image, cell (2, 4).
    b = lidar_batch([[10.7, 0, 1.5], [15.7, 0, 1.5], [-20.7, 0, 1.5]])
    config = dataclasses.replace(
        TINY, camera=dataclasses.replace(TINY.camera, align_corners=False)
    )
    depth = depth_truth(b, config)
    assert depth.shape == (6, 4, 8)
    assert depth[0].nonzero().tolist() == [[2, 4]]
    assert depth[0, 2, 4].item() == pytest.approx(10, abs=1e-4)
    assert depth[3, 2, 4].item() == pytest.approx(20, abs=1e-4)
    old = dataclasses.replace(b, lidar=b.lidar + torch.tensor([0, 0, 0, 0, 0.3]))
    assert not depth_truth(old, config).any()


def test_depth_loss_is_small_where_the_right_bin_is_sure(output):
    b = lidar_batch([[10.7, 0, 1.5]])
    logits = torch.zeros(6, 12, 4, 8)
    criterion = DepthLoss(TINY)
    row, column = depth_truth(b, TINY)[0].nonzero()[0].tolist()
    even = criterion(dataclasses.replace(output, depth_logits=logits), b).item()
    assert even == pytest.approx(np.log(12), rel=1e-5)
    logits[0, 4, row, column] = 20  # bin of 9 m; bins are 2 m wide, 10 m rounds to the even one
    sure = criterion(dataclasses.replace(output, depth_logits=logits), b).item()
    assert sure < 1e-3


def slow_depth(b, camera):
    """Depth of each place of the lift, one return after the other."""
    columns, rows = (places.double().numpy() for places in cell_pixels(camera, TINY.image))
    depth = np.zeros((6, len(rows), len(columns)))
    for slot, matrix in enumerate(b.grid_T_pixel[0].double().numpy()):
        for x, y, z, _, age in b.lidar.double().numpy():
            u, v, d = (np.linalg.inv(matrix) @ [x, y, z, 1])[:3]
            if age > 0.06 or d <= 0.1:
                continue
            i, j = np.abs(rows - v / d).argmin(), np.abs(columns - u / d).argmin()
            near = abs(rows[i] - v / d) < rows[1] / 2 and abs(columns[j] - u / d) < columns[1] / 2
            if near:
                depth[slot, i, j] = min(depth[slot, i, j] or np.inf, d)
    return depth


@pytest.mark.parametrize("align_corners", [True, False])
def test_returns_are_those_of_the_nearest_place_of_the_lift(output, align_corners):
    camera = dataclasses.replace(TINY.camera, align_corners=align_corners)
    config = dataclasses.replace(TINY, camera=camera)
    rng = np.random.default_rng(1)
    b = lidar_batch(rng.uniform((-40, -40, -3), (40, 40, 5), (400, 3)))
    b.lidar[:, 4] = torch.tensor([0.0, 0.05, 0.1, 0.5]).repeat(100)
    expected = slow_depth(b, camera)
    np.testing.assert_allclose(depth_truth(b, config), expected, rtol=1e-5)
    # Of each the bin with the nearest depth; what lies beyond the last one teaches nothing.
    logits = torch.randn((6, 12, 4, 8), generator=torch.Generator().manual_seed(0))
    share = logits.log_softmax(1).numpy()
    bins, losses = np.arange(1, 25, 2), []
    for slot, i, j in np.argwhere(expected):
        far = np.abs(bins - expected[slot, i, j])
        if far.min() < 1:
            losses.append(-share[slot, far.argmin(), i, j])
    assert 10 < len(losses) < np.count_nonzero(expected)
    found = DepthLoss(config)(dataclasses.replace(output, depth_logits=logits), b)
    assert found.item() == pytest.approx(np.mean(losses), rel=1e-4)


def test_depth_loss_without_lidar_is_refused(output):
    with pytest.raises(DepthLossError, match="lidar_sweeps"):
        depth_truth(batch(0), TINY)
    with pytest.raises(DepthLossError, match="lidar_sweeps"):
        DepthLoss(TINY)(output, batch(0))
