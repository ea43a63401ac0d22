import dataclasses
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tiny import TINY, batch

from crkd_core.model.camera.lift import Lift, LiftError, _counted, _sorted

INPUTS = 5


@pytest.fixture
def lift():
    torch.manual_seed(0)
    return Lift(INPUTS, TINY.camera, TINY.image, TINY.grid).eval()


def features(present, seed=1):
    torch.manual_seed(seed)
    return torch.randn(int(present.sum()), INPUTS, 4, 8)


def slow_lift(lift, maps, grid_T_pixel, present):
    """One frustum point after the other, float64."""
    (size_x, size_y), low, cell = TINY.grid.shape, TINY.grid.low, TINY.grid.cell
    start, stop, step = TINY.camera.depth
    bev = np.zeros((len(present), TINY.camera.context_channels, size_x, size_y))
    both = lift.depth_context(maps).detach().double().numpy()
    bins = len(np.arange(start, stop, step))
    for slot, (sample, camera) in enumerate(np.argwhere(present.numpy())):
        matrix = grid_T_pixel[sample, camera].double().numpy()
        logits, context = both[slot, :bins], both[slot, bins:]
        depth = np.exp(logits) / np.exp(logits).sum(0)
        for row in range(maps.shape[2]):
            for column in range(maps.shape[3]):
                u = column * (TINY.image.width - 1) / (maps.shape[3] - 1)
                v = row * (TINY.image.height - 1) / (maps.shape[2] - 1)
                for k, d in enumerate(np.arange(start, stop, step)):
                    x, y, z = (matrix @ [u * d, v * d, d, 1])[:3]
                    i, j = int(np.floor((x - low[0]) / cell)), int(np.floor((y - low[1]) / cell))
                    height = TINY.camera.z[0] <= z < TINY.camera.z[1]
                    if height and 0 <= i < size_x and 0 <= j < size_y:
                        bev[sample, :, i, j] += depth[k, row, column] * context[:, row, column]
    return bev


def test_lift_equals_the_point_by_point_sum(lift):
    b = batch(0, 1)
    b.camera_present[0, 2] = b.camera_present[1, 4] = False
    maps = features(b.camera_present)
    bev, logits = lift(maps, b.grid_T_pixel, b.camera_present)
    expected = slow_lift(lift, maps, b.grid_T_pixel, b.camera_present)
    assert np.abs(expected).max() > 0.1
    np.testing.assert_allclose(bev.detach().numpy(), expected, atol=1e-4)
    assert logits.shape == (10, 12, 4, 8)


def test_points_below_the_lowest_height_and_outside_are_dropped_not_truncated_in(lift):
    # One camera that looks straight down from 2 m above the lower border of the z range.
    matrix = torch.eye(4).repeat(1, 6, 1, 1)
    matrix[:, :, :3, :3] = torch.diag(torch.tensor([1e-4, 1e-4, -1.0]))
    matrix[:, :, :3, 3] = torch.tensor([0.0, 0.0, -1.0])
    present = torch.zeros(1, 6, dtype=torch.bool)
    present[0, 0] = True
    index = lift.index(matrix, present)
    depth = lift.depths[index.point % lift.bins]
    assert depth.tolist() == [1.0] * 32  # z = -2; depth 3 is z = -4


def test_mirrored_cameras_give_the_mirrored_view(lift):
    b = batch(3)
    b.grid_T_pixel[..., :2, 3] += 0.0137  # no point on a border between cells
    mirror = torch.diag(torch.tensor([1.0, -1.0, 1.0, 1.0]))
    maps = features(b.camera_present)
    bev, _ = lift(maps, b.grid_T_pixel, b.camera_present)
    mirrored, _ = lift(maps, mirror @ b.grid_T_pixel, b.camera_present)
    torch.testing.assert_close(mirrored, bev.flip(3), atol=1e-5, rtol=1e-4)


def test_the_view_is_the_sum_over_cameras(lift):
    b = batch(0)
    maps = features(b.camera_present)
    whole, _ = lift(maps, b.grid_T_pixel, b.camera_present)
    parts = torch.zeros_like(whole)
    for camera in range(6):
        present = torch.zeros_like(b.camera_present)
        present[0, camera] = True
        parts += lift(maps[camera : camera + 1], b.grid_T_pixel, present)[0]
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=1e-4)


def test_no_camera_at_all_gives_zeros(lift):
    b = batch(0)
    bev, logits = lift(
        torch.zeros(0, INPUTS, 4, 8), b.grid_T_pixel, torch.zeros_like(b.camera_present)
    )
    assert bev.shape == (1, 8, 24, 16) and not bev.any()
    assert logits.shape == (0, 12, 4, 8)


def test_gradients_agree_with_finite_differences():
    grid = dataclasses.replace(TINY.grid, cell=8.0)
    torch.manual_seed(0)
    lift = Lift(2, dataclasses.replace(TINY.camera, context_channels=2), TINY.image, grid).double()
    lift.pixels, lift.depths = lift.pixels.float(), lift.depths.float()  # geometry stays float32
    b = batch(0)
    present = torch.zeros_like(b.camera_present)
    present[0, 0] = True
    maps = torch.randn(1, 2, 4, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: lift(m, b.grid_T_pixel, present)[0], maps)


def test_the_cache_follows_the_numbers_not_the_object(lift):
    b = batch(0)
    first = lift.index(b.grid_T_pixel, b.camera_present)
    assert lift.index(b.grid_T_pixel.clone(), b.camera_present) is first
    b.grid_T_pixel[0, 0, 0, 3] += 1
    moved = lift.index(b.grid_T_pixel, b.camera_present)
    assert moved is not first
    assert not torch.equal(moved.offset, first.offset)
    for shift in range(10):
        b.grid_T_pixel[0, 0, 0, 3] += shift + 1
        lift.index(b.grid_T_pixel, b.camera_present)
    assert len(lift._cache) <= 4


def test_the_cache_tells_whose_cameras_they_are(lift):
    """Of two Frames of one rig the first has no cameras, and then the second."""
    b = batch(0, 0)
    for blind in (0, 1):
        present = torch.ones_like(b.camera_present)
        present[blind] = False
        bev, _ = lift(features(present), b.grid_T_pixel, present)
        assert not bev[blind].any() and bev[1 - blind].any()


def test_a_matrix_that_is_not_finite_is_refused_only_where_the_camera_is_present(lift):
    b = batch(0)
    b.grid_T_pixel[0, 3] = float("nan")
    with pytest.raises(LiftError, match="not finite"):
        lift.index(b.grid_T_pixel, b.camera_present)
    b.camera_present[0, 3] = False
    lift.index(b.grid_T_pixel, b.camera_present)


def test_cells_by_point_are_those_that_the_sorted_points_lie_in(lift):
    b = batch(0, 1)
    b.camera_present[0, 2] = b.camera_present[1, 4] = False
    index = lift.index(b.grid_T_pixel, b.camera_present)
    outside = 2 * TINY.grid.shape[0] * TINY.grid.shape[1]
    expected = torch.full((10 * 4 * 8 * lift.bins,), outside, dtype=torch.int32)
    expected[index.point] = torch.repeat_interleave(
        torch.arange(outside, dtype=torch.int32), index.offset.diff()
    )
    cells = lift.cells(b.grid_T_pixel, b.camera_present)
    assert 0 < len(index.point) < len(cells)
    torch.testing.assert_close(cells, expected)


@settings(max_examples=50, deadline=None)
@given(
    cells=st.lists(st.tuples(st.integers(0, 6), st.booleans()), max_size=60),
    more=st.integers(0, 3),
    bins=st.integers(1, 4),
)
def test_points_that_are_counted_into_cells_are_those_that_are_sorted(cells, more, bins) -> None:
    count = 7 + more
    cell = torch.tensor([c for c, _ in cells], dtype=torch.int32)
    inside = torch.tensor([i for _, i in cells], dtype=torch.bool)
    # One cell after the other, and in each the points in their order.
    expected = [[k for k, one in enumerate(cells) if one == (c, True)] for c in range(count)]
    for by_cell in (_counted, _sorted):
        point, pixel, offset = by_cell(cell.clone(), inside, count, bins)
        assert point.dtype == pixel.dtype == offset.dtype == torch.int64
        ends = offset.tolist()
        assert [point[a:b].tolist() for a, b in itertools.pairwise(ends)] == expected
        assert ends[0] == 0 and ends[-1] == len(point)
        assert pixel.tolist() == [k // bins for k in point.tolist()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_leaves_points_in_their_cells(lift, dtype):
    """The matrix product that places them would otherwise round them by tens of centimetres."""
    b = batch(0, 1)
    expected = lift.cells(b.grid_T_pixel, b.camera_present)
    with torch.autocast("cpu", dtype):
        found = lift.cells(b.grid_T_pixel, b.camera_present)
    assert torch.equal(found, expected)
