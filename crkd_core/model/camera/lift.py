"""Camera features to the bird's-eye view: lift by depth, splat by summing (Philion & Fidler 2020).

Shapes: B batch, N = 6 cameras, P cameras present in the whole batch, h w feature map, D depth
bins, C context channels, X Y grid cells, K frustum points that fall into the grid.

The outer product depth x context is never formed. The frustum points are sorted by cell once per
geometry; then the sum over a cell is one ``embedding_bag``: rows = pixels, weights = depth
probabilities (the idea of BEVPoolv2, Huang & Huang 2022, in stock PyTorch).
"""

from __future__ import annotations

from collections import OrderedDict
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import CameraConfig, GridConfig, ImageConfig
from crkd_core.model.layers import RECKONED_ON

#: Geometries kept for reuse. A fixed rig that stands needs one; of a vehicle that drives, cameras
#: at their own times never repeat one.
CACHE_SIZE = 4


class LiftError(ValueError):
    """Tensors that do not describe one camera geometry."""


class LiftIndex(NamedTuple):
    """Which frustum points go where, sorted by cell.

    Attributes:
        point: [K] int64, index into depth probabilities [P, h, w, D] laid flat.
        pixel: [K] int64, index into features [P, h, w] laid flat.
        offset: [B * X * Y + 1] int64, where each cell's points start in ``point`` and ``pixel``.
    """

    point: Tensor
    pixel: Tensor
    offset: Tensor


class Points(NamedTuple):
    """Points of a sensor, of the whole batch.

    Attributes:
        rows: [M, 3 or more] float32, x, y, z first, grid frame, metres.
        sample: [M] int64, the sample of each point.
    """

    rows: Tensor
    sample: Tensor


class Lift(nn.Module):
    """Predicts depth and context per pixel and sums the lifted context over grid cells."""

    pixels: Tensor
    depths: Tensor

    def __init__(self, inputs: int, config: CameraConfig, image: ImageConfig, grid: GridConfig):
        super().__init__()
        self.grid = grid
        self.z = config.z
        self.trunc = config.cell_rounding == "trunc"
        low, high, step = config.depth
        self.bins = round((high - low) / step)
        self.context = config.context_channels
        self.depth_context: nn.Module = nn.Conv2d(inputs, self.bins + self.context, 1)
        with RECKONED_ON:
            columns, rows = cell_pixels(config, image)
            v, u = torch.meshgrid(rows, columns, indexing="ij")
            pixels = torch.stack([u, v, torch.ones_like(u)], -1).flatten(0, 1)
            depths = low + step * torch.arange(self.bins)
        self.register_buffer("pixels", pixels, False)
        self.register_buffer("depths", depths, False)
        self._cache: OrderedDict[tuple[bytes, bytes, torch.device], LiftIndex] = OrderedDict()

    def forward(
        self,
        features: Tensor,
        grid_T_pixel: Tensor,
        present: Tensor,
        lidar: Points | None = None,
        radar: Points | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Lift the maps of the present cameras; a missing camera contributes nothing.

        Args:
            features: [P, inputs, h, w], present cameras in the order of ``present``.
            grid_T_pixel: float32 [B, N, 4, 4], takes (u d, v d, d, 1) to grid metres.
            present: bool [B, N].
            lidar: for lifts that look at it (depth_lift.py); not read here.
            radar: for lifts that look at it (radar_lift.py); not read here.

        Returns:
            BEV [B, C, X, Y] and depth logits [P, D, h, w].
        """
        shape = (present.shape[0], *self.grid.shape)
        if not len(features):
            return self._nothing(features, present)
        logits, context = self.depth_context(features).split([self.bins, self.context], 1)
        depth = logits.permute(0, 2, 3, 1).softmax(-1)
        rows = context.permute(0, 2, 3, 1).flatten(0, 2)
        index = self.index(grid_T_pixel, present)
        weights = depth.flatten().index_select(0, index.point)
        cells = summed(rows, index.pixel, weights, index)
        return cells.view(*shape, self.context).permute(0, 3, 1, 2), logits

    def _nothing(self, features: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
        """What ``forward`` answers where no camera is present in the whole batch."""
        bev = features.new_zeros((len(present), self.context, *self.grid.shape))
        return bev, features.new_zeros((0, self.bins, *features.shape[2:]))

    @torch.no_grad()
    def index(self, grid_T_pixel: Tensor, present: Tensor) -> LiftIndex:
        """The sorted points of a geometry, from the cache where its numbers are the same.

        Raises:
            LiftError: a matrix of a present camera that is not finite.
        """
        matrices = present_matrices(grid_T_pixel, present)
        key = (
            matrices.cpu().numpy().tobytes(),
            present.cpu().numpy().tobytes(),
            grid_T_pixel.device,
        )
        if key in self._cache:
            self._cache.move_to_end(key)
            return self._cache[key]
        index = self._sort(matrices, present)
        # Augmented training geometries never come back.
        if not self.training:
            self._cache[key] = index
            if len(self._cache) > CACHE_SIZE:
                self._cache.popitem(last=False)
        return index

    @torch.no_grad()
    def cells(self, grid_T_pixel: Tensor, present: Tensor) -> Tensor:
        """The cell of every frustum point, unsorted: int32 [P * h * w * D], b X Y + x Y + y.

        Points outside the grid have B X Y.

        Raises:
            LiftError: see ``index``.
        """
        inside, cell = self._place(present_matrices(grid_T_pixel, present), _samples(present))
        cell[~inside] = len(present) * self.grid.shape[0] * self.grid.shape[1]
        return cell.flatten()

    @torch.no_grad()
    def fixed_index(self, matrices: Tensor, seen: Tensor) -> LiftIndex:
        """The index of one sample in fixed shapes, for recorded computations: nothing is asked.

        Args:
            matrices: float32 [S, 4, 4] grid_T_pixel of S camera slots.
            seen: bool [S], the slots that hold a camera.

        Returns:
            All S * h * w * D points, K of which lie in the grid and come first, as ``index`` has
            them; the others are in no cell.
        """
        cells = self.grid.shape[0] * self.grid.shape[1]
        inside, cell = self._place(matrices, torch.zeros_like(seen, dtype=torch.int32))
        cell = cell.masked_fill(~(inside & seen[:, None, None]), cells)
        ordered, point = cell.flatten().sort(stable=True)
        first = torch.arange(cells + 1, dtype=torch.int32, device=cell.device)
        return LiftIndex(point, point // self.bins, torch.searchsorted(ordered, first))

    def _place(self, matrices: Tensor, sample: Tensor) -> tuple[Tensor, Tensor]:
        """Of frustum points [P, h * w, D] whether they lie in the grid, and int32 their cells.

        Args:
            matrices: [P, 4, 4].
            sample: int32 [P], the sample of each camera.
        """
        (size_x, size_y), low, cell = self.grid.shape, self.grid.low, self.grid.cell
        matrices = matrices.float()
        # In the half precision of a training points would lie in other cells.
        with torch.autocast(matrices.device.type, enabled=False):
            rays = torch.einsum("pij,kj->ipk", matrices[:, :3, :3], self.pixels)[..., None]
        places = (rays * self.depths).add_(matrices[:, :3, 3].T[:, :, None, None])
        x, y, z = places
        # In place: a large network has a million points.
        x.sub_(low[0]).div_(cell)
        y.sub_(low[1]).div_(cell)
        # Compared before the conversion to int, which would round towards zero and could overflow.
        inside = (x < size_x) & (y < size_y) & (z < self.z[1])
        if self.trunc:
            # What rounds up to cell 0; the one bin in z is as high as the whole range.
            inside &= (x > -1) & (y > -1) & (z > 2 * self.z[0] - self.z[1])
        else:
            inside &= (x >= 0) & (y >= 0) & (z >= self.z[0])
        flat = (x.int() + sample[:, None, None] * size_x).mul_(size_y).add_(y.int())
        return inside, flat

    def _sort(self, matrices: Tensor, present: Tensor) -> LiftIndex:
        """The points inside the grid, by cell."""
        inside, cell = self._place(matrices, _samples(present))
        count = len(present) * self.grid.shape[0] * self.grid.shape[1]
        by_cell = _counted if cell.device.type == "cpu" else _sorted
        return by_cell(cell.flatten(), inside.flatten(), count, self.bins)


def _sorted(cell: Tensor, inside: Tensor, count: int, bins: int) -> LiftIndex:
    """Points in the order of their cells.

    Args:
        cell: int32 [N] in [0, count) of points inside.
        inside: bool [N].
        count: of cells.
        bins: points of a pixel, one after the other.
    """
    point = inside.nonzero()[:, 0]
    # index_select: a third of the time of indexing.
    cells, order = cell.index_select(0, point).sort(stable=True)
    point = point.index_select(0, order)
    offset = cells.new_zeros(count + 1, dtype=torch.int64)
    torch.cumsum(torch.bincount(cells, minlength=count), 0, out=offset[1:])
    return LiftIndex(point, point // bins, offset)


def _counted(cell: Tensor, inside: Tensor, count: int, bins: int) -> LiftIndex:
    """``_sorted`` on a CPU: a sparse matrix is turned by counting, in a fraction of a sort's time.

    It has a row for each point and a column for each cell, and one before for what is outside.
    """
    column = ((cell + 1) * inside.int()).numpy()
    ones, begins = np.ones(len(column), np.int8), np.arange(len(column) + 1, dtype=np.int32)
    shape = (len(column), count + 1)
    by_cell = scipy.sparse.csr_array((ones, column, begins), shape=shape).tocsc()
    begins = by_cell.indptr[1:]
    point = by_cell.indices[begins[0] :]
    found = (point, point // bins, begins - begins[0])
    return LiftIndex(*(torch.from_numpy(one.astype(np.int64)) for one in found))


def _samples(present: Tensor) -> Tensor:
    """Int32 [P], the sample of every camera that is present."""
    return present.nonzero()[:, 0].int()


def present_matrices(grid_T_pixel: Tensor, present: Tensor) -> Tensor:
    """[P, 4, 4] of the cameras that are present.

    Raises:
        LiftError: one that is not finite.
    """
    matrices = grid_T_pixel[present]
    if not torch.isfinite(matrices).all():
        raise LiftError("grid_T_pixel: a present camera has a matrix that is not finite")
    return matrices


def cell_pixels(config: CameraConfig, image: ImageConfig) -> tuple[Tensor, Tensor]:
    """Where feature columns [w] and rows [h] sit in the image, pixels."""
    w, h = image.width // config.stride, image.height // config.stride
    if config.align_corners:
        return torch.linspace(0, image.width - 1, w), torch.linspace(0, image.height - 1, h)
    return config.stride * torch.arange(w).float(), config.stride * torch.arange(h).float()


def summed(rows: Tensor, picked: Tensor, weights: Tensor, index: LiftIndex) -> Tensor:
    """Weighted sums over every cell, [B * X * Y, C].

    Args:
        rows: [R, C] features.
        picked: int64 [K], the row of every point of ``index``.
        weights: [K] of the points.
        index: where they go.
    """
    return F.embedding_bag(
        picked,
        rows,
        index.offset,
        mode="sum",
        per_sample_weights=weights.to(rows.dtype),
        include_last_offset=True,
    )
