"""Where the branches meet: the gated fuser of CRKD, or one plain convolution.

docs/method.md 1.5. Maps come in the order of DetectorConfig.branches: camera, radar, LiDAR, those
that there are. Factors [B, 1, X, Y] of the first of them come from an IntensityGuide; () = none.

Shapes: B batch, C_i channels of branch i, C fused channels, X Y grid cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crkd_core.model.layers import conv_norm


class GatedFuser(nn.Module):
    """F = ReLU(BN(conv([F_i * g_i]))) with gates g = sigmoid(conv([F_i])).

    The gate convolutions of the paper, one a branch, read the same input; here they are one
    convolution with sum C_i outputs.
    """

    def __init__(self, widths: Sequence[int], outputs: int, *, gate_kernel: int):
        super().__init__()
        self.widths = list(widths)
        self.gate = nn.Conv2d(sum(widths), sum(widths), gate_kernel, padding=gate_kernel // 2)
        self.out = conv_norm(sum(widths), outputs)

    def forward(
        self, maps: Sequence[Tensor], factors: Sequence[Tensor] = ()
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Maps [B, C_i, X, Y] -> the same maps after their gates, and fused [B, C, X, Y]."""
        joint = torch.cat(weighed(maps, factors), 1)
        gated = joint * self.gate(joint).sigmoid()
        return gated.split(self.widths, 1), self.out(gated)


class ConvFuser(nn.Module):
    """F = ReLU(BN(conv([F_i]))): BEVFusion's fuser, the baseline without gates.

    With a single branch there is nothing to weigh, and this is all that happens between its map
    and the decoder.
    """

    def __init__(self, widths: Sequence[int], outputs: int):
        super().__init__()
        self.out = conv_norm(sum(widths), outputs)

    def forward(
        self, maps: Sequence[Tensor], factors: Sequence[Tensor] = ()
    ) -> tuple[tuple[Tensor, ...], Tensor]:
        """Maps [B, C_i, X, Y] -> the same times their factors, and fused [B, C, X, Y]."""
        maps = weighed(maps, factors)
        return tuple(maps), self.out(torch.cat(maps, 1))


def weighed(maps: Sequence[Tensor], factors: Sequence[Tensor]) -> list[Tensor]:
    """The first maps times their factors, the others as they came."""
    own = [one * factor.to(one) for one, factor in zip(maps, factors, strict=False)]
    return [*own, *maps[len(own) :]]
