import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.model.lidar.voxels import VoxelError, voxelise

LOW, HIGH, VOXEL = (-2.0, -1.0, 0.0), (2.0, 1.0, 1.0), (0.5, 0.25, 0.5)


def cloud(seed, count, samples=2):
    rng = np.random.default_rng(seed)
    points = rng.uniform((-2.3, -1.2, -0.2, 0, 0), (2.3, 1.2, 1.2, 255, 1), (count, 5))
    sample = np.sort(rng.integers(0, samples, count))
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(sample)


def slow(points, sample, max_points, max_voxels, layers):
    """One point after the other, as the published routine does it."""
    voxels, per_sample = {}, {}
    for point, owner, layer in zip(points.numpy(), sample.tolist(), layers, strict=True):
        cell = np.floor((point[:3] - np.float32(LOW)) / np.float32(VOXEL)).astype(int)
        if (cell < 0).any() or (cell >= (8, 8, 2)).any():
            continue
        key = (owner, *cell.tolist(), layer)
        if key not in voxels:
            if per_sample.get(owner, 0) >= max_voxels:
                continue
            per_sample[owner] = per_sample.get(owner, 0) + 1
            voxels[key] = []
        if len(voxels[key]) < max_points:
            voxels[key].append(point)
    return voxels


def run(points, sample, max_points=3, max_voxels=20, layer=None):
    return voxelise(
        points,
        sample,
        low=LOW,
        high=HIGH,
        voxel=VOXEL,
        max_points=max_points,
        max_voxels=max_voxels,
        layer=layer,
    )


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    count=st.integers(0, 150),
    max_points=st.integers(1, 4),
    max_voxels=st.integers(1, 60),
    layers=st.sampled_from([None, 1, 3]),
)
def test_equals_the_point_by_point_routine(seed, count, max_points, max_voxels, layers):
    points, sample = cloud(seed, count)
    layer = None if layers is None else (points[:, 4] * layers).long().clamp(max=layers - 1)
    found = run(points, sample, max_points, max_voxels, layer)
    per_point = [0] * count if layer is None else layer.tolist()
    expected = slow(points, sample, max_points, max_voxels, per_point)
    # dict keeps the order of insertion: that of the voxels' first points.
    assert [tuple(c) for c in found.coords.tolist()] == [key[:-1] for key in expected]
    assert found.counts.tolist() == [len(v) for v in expected.values()]
    means = [np.mean(v, 0) for v in expected.values()] or np.zeros((0, 5))
    np.testing.assert_allclose(found.features, np.stack([*means]) if len(means) else means, 1e-5)


def test_crowded_samples_do_not_take_from_others():
    points, sample = cloud(3, 300, samples=3)
    found = run(points, sample, max_voxels=5)
    assert torch.bincount(found.coords[:, 0]).tolist() == [5, 5, 5]


def test_points_on_the_upper_border_are_outside():
    points = torch.tensor([[2.0, 0, 0, 0, 0], [-2.0, -1.0, 0.0, 7, 0]])
    found = run(points, torch.zeros(2, dtype=torch.int64))
    assert found.coords.tolist() == [[0, 0, 0, 0]]
    assert found.features[0, 3] == 7


def test_half_precision_points_keep_float32_means():
    points, sample = cloud(1, 50)
    assert run(points.half(), sample).features.dtype == torch.float32


def test_wrong_shapes_and_mixed_samples_are_refused():
    points, sample = cloud(0, 10)
    with pytest.raises(VoxelError, match=r"points \[L, 3 or more\]"):
        run(points[:, :2], sample)
    with pytest.raises(VoxelError, match="sample 0 first"):
        run(points, sample.flip(0) + torch.arange(9, -1, -1))
