"""The gated fuser of CRKD: each sensor is weighted per channel and cell by both.

docs/method.md 1.5. The plain one, a single convolution, is the baseline without gates.

Shapes: B batch, C1 camera channels, C2 radar channels, C fused channels, X Y grid cells.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd_core.model.layers import conv_norm


class GatedFuser(nn.Module):
    """F = ReLU(BN(conv([F1 * g1, F2 * g2]))) with gates g = sigmoid(conv([F1, F2])).

    The two gate convolutions of the paper read the same input; here they are one convolution with
    C1 + C2 outputs, camera first.
    """

    def __init__(self, camera: int, radar: int, outputs: int):
        super().__init__()
        self.camera = camera
        self.gate = nn.Conv2d(camera + radar, camera + radar, 3, padding=1)
        self.out = conv_norm(camera + radar, outputs)

    def forward(self, camera: Tensor, radar: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C1, X, Y] and [B, C2, X, Y] -> gated camera [B, C1, X, Y] and fused [B, C, X, Y]."""
        both = torch.cat([camera, radar], 1)
        gated = both * self.gate(both).sigmoid()
        return gated[:, : self.camera], self.out(gated)


class ConvFuser(nn.Module):
    """F = ReLU(BN(conv([F1, F2]))): BEVFusion's fuser, the baseline without gates."""

    def __init__(self, camera: int, radar: int, outputs: int):
        super().__init__()
        self.out = conv_norm(camera + radar, outputs)

    def forward(self, camera: Tensor, radar: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C1, X, Y] and [B, C2, X, Y] -> camera as it came and fused [B, C, X, Y]."""
        return camera, self.out(torch.cat([camera, radar], 1))
