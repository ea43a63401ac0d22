import dataclasses

import numpy as np
import pytest
import torch
from model_tiny import TINY, batch

from crkd_core.model.camera.depth_lift import DepthLift
from crkd_core.model.camera.lift import Lift, LiftError, Points

INPUTS = 6
CAMERA = dataclasses.replace(TINY.camera, lidar_depth=True, lift_cell=1.0)


@pytest.fixture
def lift():
    torch.manual_seed(0)
    return DepthLift(INPUTS, CAMERA, TINY.image, TINY.grid).eval()


def scene(seed=0, count=300):
    """Two samples with six cameras each, and points around them."""
    b = batch(seed, seed + 1)
    rng = np.random.default_rng(seed)
    points = rng.uniform((-20, -14, -1, 0, 0), (20, 14, 3, 255, 1), (count, 5))
    sample = np.sort(rng.integers(0, 2, count))
    return b, torch.from_numpy(points.astype(np.float32)), torch.from_numpy(sample)


def maps(present, seed=1):
    torch.manual_seed(seed)
    return torch.randn(int(present.sum()), INPUTS, 4, 8)


def slow_depth(points, matrix):
    """One point after the other, float64; the nearest point of a pixel stays."""
    height, width = TINY.image.height, TINY.image.width
    depth = np.zeros((height, width))
    pixel_T_grid = np.linalg.inv(matrix.double().numpy())
    for point in points.double().numpy():
        u, v, d = (pixel_T_grid @ [*point[:3], 1])[:3]
        if d <= 1e-3:
            continue
        column, row = int(np.floor(u / d)), int(np.floor(v / d))
        if 0 <= column < width and 0 <= row < height:
            depth[row, column] = min(depth[row, column] or np.inf, d)
    return depth


def test_depth_map_equals_the_point_by_point_projection(lift):
    b, points, sample = scene()
    b.camera_present[0, 2] = False
    found = lift.project(points, sample, b.grid_T_pixel, b.camera_present)
    assert found.shape == (11, 1, TINY.image.height, TINY.image.width)
    for slot, (index, camera) in enumerate(b.camera_present.nonzero().tolist()):
        expected = slow_depth(points[sample == index], b.grid_T_pixel[index, camera])
        np.testing.assert_allclose(found[slot, 0], expected, rtol=1e-5)
        assert (expected > 0).sum() > 3


def test_augmentation_of_the_ground_leaves_the_depth_map_alone(lift):
    b, points, sample = scene()
    before = lift.project(points, sample, b.grid_T_pixel, b.camera_present)
    angle, scale = 0.4, 1.07
    move = scale * torch.tensor(
        [[np.cos(angle), np.sin(angle), 0], [np.sin(angle), -np.cos(angle), 0], [0, 0, 1]],
        dtype=torch.float64,
    )
    moved = points.clone()
    moved[:, :3] = (points[:, :3].double() @ move.T).float()
    four = torch.eye(4, dtype=torch.float64)
    four[:3, :3] = move
    after = lift.project(moved, sample, (four @ b.grid_T_pixel.double()).float(), b.camera_present)
    # Float32 may move a point on the rim of its pixel to the next.
    same = (before > 0) == (after > 0)
    assert same.float().mean() > 0.9999
    both = (before > 0) & (after > 0)
    torch.testing.assert_close(before[both], after[both], rtol=1e-4, atol=1e-4)


def test_splat_is_that_of_the_plain_lift_on_the_finer_grid(lift):
    b, points, sample = scene()
    features = maps(b.camera_present)
    pooled = []
    lift.compress.register_forward_pre_hook(lambda _, inputs: pooled.append(inputs[0]))
    bev, logits = lift(features, b.grid_T_pixel, b.camera_present, Points(points, sample))
    fine = dataclasses.replace(TINY.grid, cell=1.0)
    plain = Lift(INPUTS, TINY.camera, TINY.image, fine).eval()
    depth = lift.project(points, sample, b.grid_T_pixel, b.camera_present)
    both = lift.depth_context(torch.cat([lift.depth_map(depth), features], 1))
    plain.depth_context = torch.nn.Identity()
    expected, expected_logits = plain(both, b.grid_T_pixel, b.camera_present)
    torch.testing.assert_close(pooled[0], expected)
    torch.testing.assert_close(logits, expected_logits)
    assert pooled[0].shape == (2, 8, 48, 32)
    assert bev.shape == (2, 8, *TINY.grid.shape)


def test_points_change_the_answer_and_all_weights_learn():
    torch.manual_seed(0)
    lift = DepthLift(INPUTS, CAMERA, TINY.image, TINY.grid).train()
    b, points, sample = scene()
    features = maps(b.camera_present).requires_grad_()
    bev, _ = lift(features, b.grid_T_pixel, b.camera_present, Points(points, sample))
    nowhere = Points(points[:0], sample[:0])
    without, _ = lift(features, b.grid_T_pixel, b.camera_present, nowhere)
    assert (bev - without).abs().max() > 1e-3
    (bev * torch.randn_like(bev)).sum().backward()
    # The bias before a BatchNorm has no effect, so no gradient but rounding.
    for name, parameter in lift.named_parameters():
        assert parameter.grad is not None, name
        if name.endswith("weight"):
            assert parameter.grad.abs().sum() > 1e-4, name
    assert features.grad.abs().sum() > 0


def test_sample_without_cameras_is_like_one_that_sees_nothing(lift):
    b, points, sample = scene()
    nothing = torch.zeros_like(b.camera_present)
    bev, logits = lift(maps(nothing), b.grid_T_pixel, nothing, Points(points, sample))
    assert logits.shape == (0, lift.bins, 4, 8)
    half = b.camera_present.clone()
    half[1] = False
    mixed, _ = lift(maps(half), b.grid_T_pixel, half, Points(points, sample))
    torch.testing.assert_close(mixed[1], bev[1])
    assert (mixed[0] - bev[0]).abs().max() > 1e-3


def test_cells_and_strides_that_do_not_fit_are_refused():
    with pytest.raises(LiftError, match="divided by a whole number"):
        DepthLift(INPUTS, dataclasses.replace(CAMERA, lift_cell=0.9), TINY.image, TINY.grid)
    with pytest.raises(LiftError, match=r"camera\.stride must be 8, got 4"):
        DepthLift(INPUTS, dataclasses.replace(CAMERA, stride=4), TINY.image, TINY.grid)
