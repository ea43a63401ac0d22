"""Fused maps of earlier moments, moved to where the vehicle is now, beside the present one.

docs/method.md 1.10: key frames as in CRN (Kim et al. 2023), past ones without gradient. CRN
concatenates and convolves; here what this gives is added to the present map and starts at nothing,
so that a network may begin as a trained one without memory.

Shapes: B batch, T earlier moments, C channels, X Y grid cells.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import GridConfig, TemporalConfig
from crkd_core.model.layers import conv_norm


class TemporalFusion(nn.Module):
    """fused + conv([fused, past 1, ..., past T])."""

    def __init__(self, channels: int, config: TemporalConfig) -> None:
        super().__init__()
        self.frames = config.frames
        self.join = conv_norm(channels * (1 + config.frames), channels, kernel=1)
        self.out = conv_norm(channels, channels, relu=False)
        nn.init.zeros_(self.out[1].weight)  # type: ignore[arg-type]

    def forward(self, fused: Tensor, past: Tensor) -> Tensor:
        """Present [B, C, X, Y] and past [B, T, C, X, Y], zeros where there is none."""
        return self.joined(fused, past.flatten(1, 2))

    def joined(self, fused: Tensor, past: Tensor) -> Tensor:
        """The same of a past whose moments are one after the other, [B, T C, X, Y]."""
        return fused + self.out(self.join(torch.cat([fused, past.to(fused)], 1)))


def moved_map(features: Tensor, now_T_past: Tensor, grid: GridConfig) -> Tensor:
    """A map as it lies in the grid of another moment; zeros where it does not reach.

    Args:
        features: [B, C, X, Y] of the past grid.
        now_T_past: [B, 4, 4], past grid frame to the present one, metres; the ground plane counts.
        grid: of both.

    Returns:
        [B, C, X, Y] of the present grid, between the four nearest cells, channels last in memory.
    """
    size_x, size_y = grid.shape
    cells = features.permute(0, 2, 3, 1).float().flatten(0, 2)  # A view where maps are kept so.
    # From cells, counted from the middle of the first one, to metres on the common ground.
    metres_T_cell = torch.diag(torch.tensor([grid.cell, grid.cell, 1.0], dtype=torch.float64))
    metres_T_cell[:2, 2] = torch.tensor(grid.low[:2], dtype=torch.float64) + grid.cell / 2
    metres_T_cell = metres_T_cell.to(now_T_past.device)
    past_T_now = torch.linalg.inv(now_T_past.double())[:, [0, 1, 3]][:, :, [0, 1, 3]]
    moves = torch.linalg.inv(metres_T_cell) @ past_T_now @ metres_T_cell
    along_x, along_y, shift = moves[:, :2, :, None, None].float().to(features.device).unbind(2)
    x = torch.arange(size_x, device=features.device)[:, None]
    y = torch.arange(size_y, device=features.device)
    place = along_x * x + along_y * y + shift  # [B, 2, X, Y], in cells of the past.
    corner = place.floor()
    share = place - corner
    first = size_x * size_y * torch.arange(len(features), device=features.device)[:, None, None]
    rows, weights = [], []
    for step in ((0, 0), (0, 1), (1, 0), (1, 1)):
        at = [corner[:, axis] + step[axis] for axis in (0, 1)]
        weight = [share[:, axis] if step[axis] else 1 - share[:, axis] for axis in (0, 1)]
        inside = (at[0] >= 0) & (at[0] < size_x) & (at[1] >= 0) & (at[1] < size_y)
        row = torch.where(inside, at[0] * size_y + at[1], 0).long()
        rows.append(row + first)
        weights.append((weight[0] * weight[1]).masked_fill(~inside, 0))
    # Row by row, four a cell. grid_sample answers channel by channel, and to put that in the order
    # in which a network on a CPU reads it took longer than all of this.
    moved = F.embedding_bag(
        torch.stack(rows, -1).view(-1, 4),
        cells,
        mode="sum",
        per_sample_weights=torch.stack(weights, -1).view(-1, 4),
    )
    return moved.view(len(features), size_x, size_y, -1).permute(0, 3, 1, 2).to(features)
