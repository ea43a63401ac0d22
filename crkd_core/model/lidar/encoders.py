"""LiDAR points to the bird's-eye view: sparse 3D convolutions, or pillars for small teachers.

Shapes: L LiDAR points of the whole batch, V voxels of the whole batch, C channels, X Y grid cells.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from crkd_core.config import GridConfig, LidarConfig
from crkd_core.model.lidar import sites_spconv
from crkd_core.model.lidar.sites import Sites
from crkd_core.model.lidar.sites_spconv import SpconvSites
from crkd_core.model.lidar.sparse_encoder import SparseEncoder
from crkd_core.model.lidar.sparse_map import SparseMap, Triple
from crkd_core.model.lidar.voxels import Voxels, voxel_counts, voxelise
from crkd_core.model.radar import PointNorm
from crkd_core.sensors import FULL_INTENSITY, LIDAR_COLUMNS

POINT_CHANNELS = len(LIDAR_COLUMNS)


class LidarBranchError(ValueError):
    """Points or sizes that the LiDAR branch cannot work with."""


class SparseLidar(nn.Module):
    """The encoder of BEVFusion and CRKD's teacher: stride 8 (docs/method.md 1.3)."""

    def __init__(self, config: LidarConfig, grid: GridConfig) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        size_x, size_y, size_z = voxel_counts(grid.low, grid.high, config.voxel)
        # One layer more than there are voxels in z, as published: 41 -> 21 -> 11 -> 5 -> 2.
        self.shape: Triple = (size_x, size_y, size_z + 1)
        self.encoder = SparseEncoder(
            POINT_CHANNELS, channels=config.channels, blocks=config.blocks
        )
        out = self.encoder.out_shape(self.shape)
        if out[:2] != grid.shape or out[2] < 1:
            across = 2 ** (len(config.channels) - 1)
            # So many layers leave two cells in height, as published.
            height = config.voxel[2] if out[2] > 0 else (grid.high[2] - grid.low[2]) / (5 * across)
            raise LidarBranchError(
                f"lidar.voxel {config.voxel} with {len(config.channels)} stages gives "
                f"{out[0]} x {out[1]} BEV cells and {max(out[2], 0)} in height; expected the "
                f"grid's {grid.shape[0]} x {grid.shape[1]} and 1 or more. Let the BEV cell be "
                f"{across} voxels, {_fitting(grid, across, height)}"
            )
        self.channels = config.channels[-1] * out[2]

    def forward(self, points: Tensor, sample: Tensor, batch_size: int) -> Tensor:
        """Points float32 [L, 5] of samples int64 [L], ascending -> [B, C, X, Y].

        Points outside the grid are dropped; of crowded voxels and samples the first count.

        Raises:
            LidarBranchError: another number of point features.
        """
        voxels = _voxels(points, sample, self.config, self.grid, training=self.training)
        dtype = next(self.parameters()).dtype
        if not len(voxels.coords):
            return points.new_zeros((batch_size, self.channels, *self.grid.shape), dtype=dtype)
        features = voxels.features.to(dtype)
        if points.is_cuda and sites_spconv.installed():
            spconv = SpconvSites.of(voxels.coords, batch=batch_size, shape=self.shape)
            return self.encoder(SparseMap(features, spconv))
        sites, order = Sites.of(voxels.coords, batch=batch_size, shape=self.shape)
        return self.encoder(SparseMap(features[order], sites))


class LidarPillars(nn.Module):
    """Voxel means through Linear-BatchNorm-ReLU layers, maximum per cell (after PointPillars).

    Averaging within voxels first makes ten sweeps of a standing world one tenth of the work; with
    ``age_step`` only sweeps of about the same age are averaged, and motion is not.
    """

    low: Tensor
    high: Tensor

    #: Of a voxel: position as a share of the range 3, offset to the cell's centre in cells 2,
    #: intensity as a share, age in seconds, logarithm of its number of points.
    INPUTS = 8

    def __init__(self, config: LidarConfig, grid: GridConfig) -> None:
        super().__init__()
        self.config, self.grid = config, grid
        for edge in config.voxel[:2]:
            if abs(grid.cell / edge - round(grid.cell / edge)) > 1e-6:
                raise LidarBranchError(
                    f"lidar.voxel: expected edges in x and y that divide the BEV cell of "
                    f"{grid.cell} m, got {config.voxel}; two voxels a cell are "
                    f"{_fitting(grid, 2, config.voxel[2])}"
                )
        self.channels = config.channels[-1]
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Linear(a, b, bias=False), PointNorm(b, eps=1e-3), nn.ReLU(inplace=True)
                )
                for a, b in pairwise((self.INPUTS, *config.channels))
            )
        )
        self.register_buffer("low", torch.tensor(grid.low), False)
        self.register_buffer("high", torch.tensor(grid.high), False)

    def forward(self, points: Tensor, sample: Tensor, batch_size: int) -> Tensor:
        """Points float32 [L, 5] of samples int64 [L], ascending -> [B, C, X, Y].

        Points outside the grid are dropped.

        Raises:
            LidarBranchError: another number of point features.
        """
        step = self.config.age_step
        layer = None if step is None or points.ndim != 2 else (points[:, -1] / step).long()
        voxels = _voxels(
            points, sample, self.config, self.grid, training=self.training, layer=layer
        )
        size_x, size_y = self.grid.shape
        dtype = next(self.parameters()).dtype
        across = [round(self.grid.cell / edge) for edge in self.config.voxel[:2]]
        x, y = voxels.coords[:, 1] // across[0], voxels.coords[:, 2] // across[1]
        features = self.layers(self._inputs(voxels, torch.stack([x, y], 1)).to(dtype))
        place = (voxels.coords[:, 0] * size_x + x) * size_y + y
        # Features are not negative after ReLU, so zeros leave the maximum alone.
        dense = features.new_zeros((batch_size * size_x * size_y, self.channels))
        if len(place):
            index = place[:, None].expand_as(features)
            dense = dense.scatter_reduce(0, index, features, "amax")
        return dense.view(batch_size, size_x, size_y, self.channels).permute(0, 3, 1, 2)

    def _inputs(self, voxels: Voxels, cell: Tensor) -> Tensor:
        xyz, intensity, age = voxels.features.split([3, 1, 1], 1)
        offset = (xyz[:, :2] - self.low[:2]) / self.grid.cell - (cell + 0.5)
        unit = (xyz - self.low) / (self.high - self.low)
        count = voxels.counts[:, None].to(xyz.dtype).log()
        return torch.cat([unit, offset, intensity / FULL_INTENSITY, age, count], 1)


def build_lidar(config: LidarConfig, grid: GridConfig) -> SparseLidar | LidarPillars:
    """The encoder of a configuration.

    Raises:
        LidarBranchError: voxels that do not fit the grid.
    """
    return (SparseLidar if config.kind == "sparse" else LidarPillars)(config, grid)


def _fitting(grid: GridConfig, across: int, height: float) -> str:
    """The change that makes a BEV cell ``across`` voxels wide, each ``height`` metres high."""
    edge = f"{grid.cell / across:g}"
    return f"detector.lidar.voxel=[{edge}, {edge}, {height:g}]"


def _voxels(
    points: Tensor,
    sample: Tensor,
    config: LidarConfig,
    grid: GridConfig,
    *,
    training: bool,
    layer: Tensor | None = None,
) -> Voxels:
    if points.ndim != 2 or points.shape[1] != POINT_CHANNELS:
        raise LidarBranchError(
            f"lidar: expected [L, {POINT_CHANNELS}] points (x, y, z, intensity, age), got "
            f"{tuple(points.shape)}"
        )
    return voxelise(
        points,
        sample,
        low=grid.low,
        high=grid.high,
        voxel=config.voxel,
        max_points=config.max_points,
        max_voxels=config.max_voxels[0 if training else 1],
        layer=layer,
    )
