"""Intensity maps: how strongly a modality answers in each cell (docs/method.md 1.10).

IMKD (WACV 2026) weighs by intensity and does not say, where we could read it, what that is. As its
fusion runs without LiDAR, activation is the reading that fits all of its stages; reflectance or
radar cross section, and density, are the others.

Shapes: B batch, C channels, X Y grid cells, M points of the whole batch.
"""

from __future__ import annotations

import torch
from torch import Tensor

from crkd_core.config import GridConfig
from crkd_core.data.batch import Batch
from crkd_core.data.radar import ENCODED_COLUMNS
from crkd_core.model.cells import cells_of
from crkd_core.sensors import FULL_INTENSITY

RCS = ENCODED_COLUMNS.index("rcs")
#: Echoes between these, dBsm, become 0 to 1.
RCS_RANGE = (-10.0, 30.0)


def activation(features: Tensor) -> Tensor:
    """Mean of |F| over channels, from 0 to 1 per sample. [B, C, X, Y] -> float32 [B, X, Y]."""
    return unit_range(features.float().abs().mean(1))


def unit_range(values: Tensor) -> Tensor:
    """[B, X, Y] stretched to 0..1 per sample; 0 where a sample is the same everywhere."""
    flat = values.flatten(1)
    low, high = flat.amin(1)[:, None, None], flat.amax(1)[:, None, None]
    return (values - low) / (high - low).clamp(min=1e-6)


def lidar_returns(batch: Batch, grid: GridConfig) -> Tensor:
    """Mean intensity as a share, and log(1 + number), of the LiDAR points of every cell.

    Args:
        batch: with LiDAR.
        grid: whose cells.

    Returns:
        float32 [B, 2, X, Y]; zeros where there is no point.
    """
    assert batch.lidar is not None and batch.lidar_sample is not None
    value = batch.lidar[:, 3] / FULL_INTENSITY
    return cell_returns(batch.lidar[:, :3], value, batch.lidar_sample, len(batch), grid)


def radar_returns(batch: Batch, grid: GridConfig) -> Tensor:
    """The same of radar points, with their cross section, -10..30 dBsm as 0..1."""
    low, high = RCS_RANGE
    value = ((batch.radar[:, RCS] - low) / (high - low)).clamp(0, 1)
    return cell_returns(batch.radar[:, :3], value, batch.radar_sample, len(batch), grid)


def cell_returns(
    xyz: Tensor, value: Tensor, sample: Tensor, batch_size: int, grid: GridConfig
) -> Tensor:
    """Mean of a value, and log(1 + number), of the points of every cell. -> [B, 2, X, Y].

    Args:
        xyz: [M, 3] metres; points outside the grid are left out.
        value: [M].
        sample: int64 [M] in [0, B).
        batch_size: B.
        grid: whose cells.
    """
    size_x, size_y = grid.shape
    low, high = xyz.new_tensor(grid.low), xyz.new_tensor(grid.high)
    inside = ((xyz >= low) & (xyz < high)).all(1)
    xyz, value, sample = xyz[inside], value[inside].float(), sample[inside]
    _, place = cells_of(xyz, sample, low, grid)
    length = batch_size * size_x * size_y
    count = torch.bincount(place, minlength=length).float()
    total = count.new_zeros(length).index_add(0, place, value)
    maps = torch.stack([total / count.clamp(min=1), count.log1p()])
    return maps.view(2, batch_size, size_x, size_y).transpose(0, 1)
