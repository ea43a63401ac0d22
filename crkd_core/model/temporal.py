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
        return fused + self.out(self.join(torch.cat([fused, past.flatten(1, 2).to(fused)], 1)))


def moved_map(features: Tensor, now_T_past: Tensor, grid: GridConfig) -> Tensor:
    """A map as it lies in the grid of another moment; zeros where it does not reach.

    Args:
        features: [B, C, X, Y] of the past grid.
        now_T_past: [B, 4, 4], past grid frame to the present one, metres; the ground plane counts.
        grid: of both.

    Returns:
        [B, C, X, Y] of the present grid.
    """
    size_x, size_y = grid.shape
    device = features.device
    x = grid.low[0] + (torch.arange(size_x, device=device) + 0.5) * grid.cell
    y = grid.low[1] + (torch.arange(size_y, device=device) + 0.5) * grid.cell
    places = torch.stack([*torch.meshgrid(x, y, indexing="ij"), torch.ones(grid.shape).to(x)], -1)
    # The ground plane of the present in the past: rows x, y of columns x, y, 1.
    past_T_now = torch.linalg.inv(now_T_past.double())[:, :2][:, :, [0, 1, 3]].float()
    there = torch.einsum("bij,xyj->bxyi", past_T_now.to(device), places)
    low = there.new_tensor(grid.low[:2])
    high = there.new_tensor(grid.high[:2])
    # grid_sample names the last axis of the map first; -1 and 1 are the outer borders.
    unit = (2 * (there - low) / (high - low) - 1).flip(-1)
    return F.grid_sample(features.float(), unit, align_corners=False).to(features)
