"""In which cell of the grid a point lies. Shapes: M points, X Y grid cells."""

from __future__ import annotations

import torch
from torch import Tensor

from crkd_core.config import GridConfig


def cells_of(xyz: Tensor, sample: Tensor, low: Tensor, grid: GridConfig) -> tuple[Tensor, Tensor]:
    """The cell of every point, int64 [M, 2], and its place (sample X + x) Y + y, int64 [M].

    Args:
        xyz: float [M, 3] metres, inside the grid.
        sample: int64 [M].
        low: [3] lower corner of ``grid``, on the device of the points.
        grid: whose cells.
    """
    size_x, size_y = grid.shape
    # float32 division may round a point just below the upper border up to it.
    top = torch.tensor([size_x - 1, size_y - 1], device=xyz.device)
    cell = ((xyz[:, :2] - low[:2]) / grid.cell).long().clamp(max=top)
    return cell, (sample * size_x + cell[:, 0]) * size_y + cell[:, 1]
