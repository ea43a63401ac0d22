"""LiDAR points to voxels: hard voxelisation, sorted instead of counted (docs/method.md 1.3).

Shapes: L LiDAR points of the whole batch, V voxels of the whole batch, C point features.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor


class VoxelError(ValueError):
    """Points that cannot be put into voxels."""


class Voxels(NamedTuple):
    """Occupied voxels in the order of their first points.

    Attributes:
        coords: [V, 4] int64 sample, x, y, z.
        features: [V, C] mean of the points that were kept.
        counts: [V] int64 points that were kept.
    """

    coords: Tensor
    features: Tensor
    counts: Tensor


def voxel_counts(
    low: Sequence[float], high: Sequence[float], voxel: Sequence[float]
) -> tuple[int, int, int]:
    """Voxels along x, y, z."""
    x, y, z = (round((h - l) / v) for l, h, v in zip(low, high, voxel, strict=True))
    return x, y, z


@torch.no_grad()
def voxelise(
    points: Tensor,
    sample: Tensor,
    *,
    low: Sequence[float],
    high: Sequence[float],
    voxel: Sequence[float],
    max_points: int,
    max_voxels: int,
    layer: Tensor | None = None,
) -> Voxels:
    """Hard voxelisation as in VoxelNet (Zhou & Tuzel 2018, 2.1.3), with the mean as the feature.

    Of every voxel the first ``max_points`` points count, of every sample the first ``max_voxels``
    voxels, both in the order of the points. Float32 throughout: half precision, as in
    the released code under autocast, would move points by centimetres.

    Args:
        points: float32 [L, C], x, y, z first, metres.
        sample: int64 [L] in [0, B), ascending.
        low: lower corner, metres.
        high: upper corner, metres; points on it are outside.
        voxel: edges, metres.
        max_points: 1 or more.
        max_voxels: 1 or more.
        layer: int64 [L], 0 or more; only points of one layer share a voxel. None = all do.

    Raises:
        VoxelError: another shape, or samples that are not in order.
    """
    if points.ndim != 2 or points.shape[1] < 3 or sample.shape != points.shape[:1]:
        raise VoxelError(
            f"expected points [L, 3 or more] and samples [L], got {tuple(points.shape)} and "
            f"{tuple(sample.shape)}"
        )
    if (sample[1:] < sample[:-1]).any():
        raise VoxelError("expected the points of sample 0 first, then those of sample 1, ...")
    points = points.float()
    sizes = voxel_counts(low, high, voxel)
    cell = torch.floor((points[:, :3] - points.new_tensor(low)) / points.new_tensor(voxel))
    inside = ((cell >= 0) & (cell < cell.new_tensor(sizes))).all(1)
    points, sample, cell = points[inside], sample[inside], cell[inside].long()
    key = ((sample * sizes[0] + cell[:, 0]) * sizes[1] + cell[:, 1]) * sizes[2] + cell[:, 2]
    if layer is not None and len(key):
        key = key * (int(layer.max()) + 1) + layer[inside]

    # A stable sort puts the points of a voxel side by side, the earliest first.
    key, order = key.sort(stable=True)
    fresh = torch.ones_like(key, dtype=torch.bool)
    fresh[1:] = key[1:] != key[:-1]
    start = fresh.nonzero()[:, 0]
    run = fresh.cumsum(0) - 1
    slot = torch.arange(len(key), device=key.device) - start[run]

    # Voxels in the order of their first points; samples ascend, so they stay together.
    first, by_first = order[start].sort()
    owner = sample[first]
    rank = torch.arange(len(owner), device=key.device) - torch.searchsorted(owner, owner)
    by_first = by_first[rank < max_voxels]
    place = torch.full_like(start, -1)
    place[by_first] = torch.arange(len(by_first), device=key.device)

    target = place[run]
    kept = (slot < max_points) & (target >= 0)
    target, source = target[kept], order[kept]
    counts = torch.bincount(target, minlength=len(by_first))
    sums = points.new_zeros((len(by_first), points.shape[1]))
    sums.index_add_(0, target, points[source])
    leader = order[start[by_first]]
    coords = torch.cat([sample[leader, None], cell[leader]], 1)
    return Voxels(coords, sums / counts[:, None], counts)
