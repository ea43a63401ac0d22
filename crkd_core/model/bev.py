"""BEV decoder: residual groups and the pyramid that brings them back to the grid.

docs/method.md 1.6. Shapes: B batch, C channels, X Y grid cells, S stride of the first group.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd_core.config import DecoderConfig
from crkd_core.model.layers import BasicBlock, conv_norm


class BevDecoder(nn.Module):
    """Groups of BasicBlocks; the deepest map joins the first group's and is upsampled by S."""

    def __init__(self, inputs: int, config: DecoderConfig):
        super().__init__()
        groups = []
        width = inputs
        for channels, stride in zip(config.channels, config.strides, strict=True):
            blocks = [BasicBlock(width, channels, stride=stride, project=True)]
            blocks += [BasicBlock(channels, channels) for _ in range(config.blocks - 1)]
            groups.append(nn.Sequential(*blocks))
            width = channels
        self.groups = nn.ModuleList(groups)
        self.fuse = nn.Sequential(
            conv_norm(config.channels[-1] + config.channels[0], config.out_channels, kernel=1),
            conv_norm(config.out_channels, config.out_channels),
        )
        self.out = conv_norm(config.out_channels, config.out_channels)

    def forward(self, fused: Tensor) -> Tensor:
        """[B, inputs, X, Y] -> [B, out_channels, X, Y]."""
        maps = []
        x = fused
        for group in self.groups:
            x = group(x)
            maps.append(x)
        deep = upsample(maps[-1], size=maps[0].shape[2:])
        x = self.fuse(torch.cat([deep, maps[0]], 1))
        return self.out(upsample(x, size=fused.shape[2:]))


def upsample(x: Tensor, *, size: torch.Size) -> Tensor:
    """Bilinear, corners aligned, as published. [B, C, x, y] -> [B, C, *size]."""
    if x.shape[2:] == size:
        return x
    return nn.functional.interpolate(x, size=size, mode="bilinear", align_corners=True)
