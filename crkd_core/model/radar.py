"""Radar points to the bird's-eye view: a point network and a maximum over each pillar.

Shapes: M points of the whole batch, K occupied pillars, C channels, X Y grid cells.

Pillars as in PointPillars (Lang et al. 2019) with the features of CRKD (docs/method.md 1.4).
Points are kept as one list with sample indices: there are no padded slots that could enter the
maximum or the statistics (docs/method.md 1.13, defect 4), and a sample without a point is simply
all zeros. Weights of the released code were trained with such slots and need them:
``points_per_pillar``.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import GridConfig, RadarConfig
from crkd_core.data.radar import ENCODED_COLUMNS
from crkd_core.model.cells import cells_of

#: Channels of crkd_core.data.radar.encode (x, y, z first) and of the offsets to the pillar centre.
POINT_CHANNELS = len(ENCODED_COLUMNS)
INPUT_CHANNELS = POINT_CHANNELS + 2


class RadarBranchError(ValueError):
    """Points that the radar branch cannot read."""


class PointNorm(nn.BatchNorm1d):
    """BatchNorm over points [M, C]; one point alone has no variance and takes the running one."""

    def forward(self, points: Tensor) -> Tensor:
        """[M, C] -> [M, C]."""
        if self.training and len(points) < 2:
            return F.batch_norm(
                points, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(points)


class RadarPillars(nn.Module):
    """Linear-BatchNorm-ReLU layers on points, maximum per pillar, scattered to the grid."""

    low: Tensor
    high: Tensor

    def __init__(self, config: RadarConfig, grid: GridConfig):
        super().__init__()
        self.grid = grid
        self.channels = config.channels[-1]
        self.points_per_pillar = config.points_per_pillar
        widths = (INPUT_CHANNELS, *config.channels)
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Linear(a, b, bias=False), PointNorm(b, eps=1e-3), nn.ReLU(inplace=True)
                )
                for a, b in pairwise(widths)
            )
        )
        self.register_buffer("low", torch.tensor(grid.low), False)
        self.register_buffer("high", torch.tensor(grid.high), False)

    def forward(self, points: Tensor, sample: Tensor, batch_size: int) -> Tensor:
        """Points float32 [M, 45] (x, y, z in metres) of samples int64 [M] -> [B, C, X, Y].

        Points outside the grid are dropped. The order of points matters with
        ``points_per_pillar`` only: the first ones of a pillar count. The row of zeros that stands
        for all empty slots counts once in the statistics of a training batch.

        Raises:
            RadarBranchError: another number of channels.
        """
        size_x, size_y = self.grid.shape
        inputs, place = self.inputs(points, sample)
        inputs = inputs.to(next(self.parameters()).dtype)
        if self.points_per_pillar is not None and len(inputs):
            inputs = torch.cat([inputs, inputs.new_zeros((1, inputs.shape[1]))])
        features = self.layers(inputs) if len(inputs) else inputs.new_zeros((0, self.channels))
        occupied, pillar = torch.unique(place, return_inverse=True)
        # Features are not negative after ReLU, so starting from zero leaves the maximum alone.
        pillars = features.new_zeros((len(occupied), self.channels))
        if self.points_per_pillar is not None and len(inputs):
            features, empty = features[:-1], features[-1]
            full = torch.bincount(pillar, minlength=len(occupied)) >= self.points_per_pillar
            pillars = torch.where(full[:, None], pillars, empty)
        pillars = pillars.scatter_reduce(0, pillar[:, None].expand_as(features), features, "amax")
        dense = features.new_zeros((batch_size * size_x * size_y, self.channels))
        dense = dense.index_copy(0, occupied, pillars)
        return dense.view(batch_size, size_x, size_y, self.channels).permute(0, 3, 1, 2)

    def inputs(self, points: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        """What the point network reads, float32 [m, 47], and the pillar of each, int64 [m].

        Of points float32 [M, 45] of samples int64 [M] those that count; the pillar is
        (sample X + x) Y + y.

        Raises:
            RadarBranchError: another number of channels.
        """
        if points.ndim != 2 or points.shape[1] != POINT_CHANNELS:
            raise RadarBranchError(
                f"radar: expected [M, {POINT_CHANNELS}] encoded points, got {tuple(points.shape)}"
            )
        xyz = points[:, :3]
        inside = ((xyz >= self.low) & (xyz < self.high)).all(1)
        points, sample, xyz = points[inside], sample[inside], xyz[inside]
        cell, place = cells_of(xyz, sample, self.low, self.grid)
        offset = xyz[:, :2] - self.low[:2] - (cell + 0.5) * self.grid.cell
        unit = (xyz - self.low) / (self.high - self.low)
        inputs = torch.cat([unit, points[:, 3:], offset], 1)
        if self.points_per_pillar is None:
            return inputs, place
        kept = _first_of_each(place, self.points_per_pillar)
        return inputs[kept], place[kept]


def _first_of_each(place: Tensor, count: int) -> Tensor:
    """Indices of the first ``count`` points of every pillar, ascending."""
    ordered, order = place.sort(stable=True)
    rank = torch.arange(len(place), device=place.device) - torch.searchsorted(ordered, ordered)
    return order[rank < count].sort().values
