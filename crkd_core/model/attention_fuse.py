"""Deformable cross-attention over the maps of the branches, as CRN fuses (Kim et al. 2023, 3.3).

CRN has a compiled kernel; here values are sampled by ``grid_sample``. What a query is, how many
layers, heads and points, and normalisation after each part are CRN's.

Shapes: B batch, C_i channels of branch i, C fused channels, X Y grid cells, N = X Y queries, L
branches, H heads, K points.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import AttentionConfig, ConfigError, GridConfig
from crkd_core.model.fuse import weighed
from crkd_core.model.layers import RECKONED_ON


class AttentionFuser(nn.Module):
    """Queries from all maps together; each layer looks a few places up in every map."""

    def __init__(
        self, widths: Sequence[int], outputs: int, config: AttentionConfig, grid: GridConfig
    ) -> None:
        """For branches of ``widths`` channels.

        Raises:
            ConfigError: ``outputs`` cannot be shared out among the heads.
        """
        super().__init__()
        if outputs % config.heads:
            raise ConfigError(
                f"attention.heads: expected a divisor of fused_channels {outputs}, got "
                f"{config.heads}"
            )
        self.norms = nn.ModuleList(nn.LayerNorm(width) for width in widths)
        self.values = nn.ModuleList(nn.Linear(width, outputs) for width in widths)
        self.query = nn.Linear(sum(widths), outputs)
        self.position = nn.Parameter(torch.zeros(1, *grid.shape, outputs))
        self.layers = nn.ModuleList(
            AttentionLayer(outputs, len(widths), config) for _ in range(config.layers)
        )

    def forward(
        self, maps: Sequence[Tensor], factors: Sequence[Tensor] = ()
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Maps [B, C_i, X, Y] -> the same times their factors, and fused [B, C, X, Y]."""
        normed = [n(m.permute(0, 2, 3, 1)) for n, m in zip(self.norms, maps, strict=True)]
        # Behind the norms: these divide every cell by its own scale, and a factor with it.
        normed = weighed(normed, [factor.permute(0, 2, 3, 1) for factor in factors])
        query = self.query(torch.cat(normed, -1)) + self.position
        values = [value(one) for value, one in zip(self.values, normed, strict=True)]
        for layer in self.layers:
            query = layer(query, values)
        return tuple(weighed(maps, factors)), query.permute(0, 3, 1, 2)


class AttentionLayer(nn.Module):
    """One deformable attention and the two-layer network behind it, each with its LayerNorm."""

    def __init__(self, channels: int, maps: int, config: AttentionConfig) -> None:
        super().__init__()
        self.maps, self.heads, self.points = maps, config.heads, config.points
        looks = maps * config.heads * config.points
        self.offsets = nn.Linear(channels, 2 * looks)
        self.weights = nn.Linear(channels, looks)
        self.projections = nn.ModuleList(nn.Linear(channels, channels) for _ in range(maps))
        self.out = nn.Linear(channels, channels)
        self.first = nn.LayerNorm(channels)
        self.network = nn.Sequential(
            nn.Linear(channels, config.hidden), nn.ReLU(), nn.Linear(config.hidden, channels)
        )
        self.second = nn.LayerNorm(channels)
        nn.init.zeros_(self.offsets.weight)
        nn.init.zeros_(self.weights.weight)
        nn.init.zeros_(self.weights.bias)
        with RECKONED_ON:
            star = _star(maps, config.heads, config.points)
        self.offsets.bias.data.copy_(star)

    def forward(self, query: Tensor, values: Sequence[Tensor]) -> Tensor:
        """Queries [B, X, Y, C] and a map [B, X, Y, C] per branch -> queries."""
        query = self.first(query + self._attended(query, values))
        return self.second(query + self.network(query))

    def _attended(self, query: Tensor, values: Sequence[Tensor]) -> Tensor:
        b, x, y, c = query.shape
        shape = (b, x * y, self.maps, self.heads, self.points)
        # Places in half precision would be off by cells.
        offsets = self.offsets(query).float().view(*shape, 2)
        weights = self.weights(query).float().view(*shape[:2], self.maps, self.heads, -1)
        weights = weights.permute(0, 1, 3, 2, 4).flatten(3).softmax(-1).view(
            b, x * y, self.heads, self.maps, self.points
        )  # fmt: skip
        i, j = (torch.arange(n, device=query.device, dtype=torch.float32) for n in (x, y))
        cells = torch.stack(torch.meshgrid(i, j, indexing="ij"), -1).view(1, x * y, 1, 1, 2)
        size = offsets.new_tensor([x, y])
        total = query.new_zeros((b * self.heads, c // self.heads, x * y), dtype=torch.float32)
        for index, (project, value) in enumerate(zip(self.projections, values, strict=True)):
            place = (2 * (cells + offsets[:, :, index]) + 1) / size - 1
            # grid_sample names the last axis of the map first.
            place = place.flip(-1).permute(0, 2, 1, 3, 4).flatten(0, 1)
            heads = project(value).float().view(b, x, y, self.heads, -1)
            maps = heads.permute(0, 3, 4, 1, 2).flatten(0, 1)
            looked = F.grid_sample(maps, place, align_corners=False)
            own = weights[:, :, :, index].permute(0, 2, 1, 3).flatten(0, 1)[:, None]
            total = total + (looked * own).sum(-1)
        joined = total.view(b, c, x, y).permute(0, 2, 3, 1)
        return self.out(joined.to(self.out.weight.dtype))


def _star(maps: int, heads: int, points: int) -> Tensor:
    """Offsets to begin with: each head in its own direction, its points farther and farther."""
    angle = torch.arange(heads) * (2 * torch.pi / heads)
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    steps = torch.arange(1, points + 1, dtype=torch.float32)
    star = direction[None, :, None] * steps[None, None, :, None]
    return star.expand(maps, -1, -1, -1).flatten().clone()
