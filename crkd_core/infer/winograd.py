"""3x3 convolutions with a quarter of the multiplications, on a CPU in float32.

Winograd's minimal filtering F(4 x 4, 3 x 3) (Lavin and Gray, CVPR 2016): a square of 4 x 4 outputs
is made of 6 x 6 inputs by 36 multiplications a channel pair instead of 144. The transforms of
inputs and outputs are additions, and pay where channels are many. Rounding grows from 1e-6 to 5e-6
of what is summed up, which moves boxes by far less than a millimetre.

Shapes: N samples, C and O channels, H W map, R rows of T tiles of 4 x 4 outputs.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.infer.fused import FusedConv

M = TypeVar("M", bound=nn.Module)

#: With fewer pairs of an input and an output channel, and with fewer tiles, transforms cost more
#: than is saved (measured on AVX-512).
FEWEST_PAIRS = 128 * 128
FEWEST_TILES = 64
#: Tiles that are transformed and multiplied at once: what they take stays near the processor.
_BLOCK = 360

#: The points 0, 1, -1, 2, -2 and infinity: how filters are transformed.
_FILTER = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)


class WinogradConv(FusedConv):
    """A trained 3x3 convolution of stride 1 with a border of zeros; maps in channels_last."""

    filters: Tensor

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__(layer)
        points = torch.tensor(_FILTER, dtype=torch.float64)
        turned = torch.einsum("ai,ocij,bj->abco", points, layer.weight.double(), points)
        self.register_buffer("filters", turned.flatten(0, 1).float().contiguous(), False)

    def forward(self, maps: Tensor, added: Tensor | None = None) -> Tensor:
        """[N, C, H, W] -> [N, O, H, W]; see FusedConv."""
        n, c, h, w = maps.shape
        rows, tiles = math.ceil(h / 4), math.ceil(w / 4)
        if self.direct or n * rows * tiles < FEWEST_TILES:
            return super().forward(maps, added)
        outputs = self.filters.shape[2]
        padded = F.pad(maps.permute(0, 2, 3, 1), (0, 0, 1, 4 * tiles + 1 - w, 1, 4 * rows + 1 - h))
        found = maps.new_empty((n, rows, 4, tiles, 4, outputs))
        step = min(rows, max(1, _BLOCK // (n * tiles)))
        upright = maps.new_empty((6, n, step, 4 * tiles + 2, c))
        squares = maps.new_empty((6, 6, n, step, tiles, c))
        products = maps.new_empty((6, 6, n, step, tiles, outputs))
        halves = maps.new_empty((4, 6, n, step, tiles, outputs))
        for first in range(0, rows, step):
            if rows - first < step:
                step = rows - first
                # The same memory for a last block with fewer rows.
                upright, squares, products, halves = (
                    _cut(whole, step) for whole in (upright, squares, products, halves)
                )
            y = 4 * first
            _inputs([padded[:, y + a : y + a + 4 * step - 3 : 4] for a in range(6)], upright)
            columns = [upright[:, :, :, a : a + 4 * tiles - 3 : 4] for a in range(6)]
            _inputs(columns, squares.transpose(0, 1))
            torch.bmm(squares.view(36, -1, c), self.filters, out=products.view(36, -1, outputs))
            if self.bias is not None:
                # What is in this plane goes into each of the 4 x 4 outputs once.
                products[1, 1] += self.bias
            _outputs(products, halves)
            there = found[:, first : first + step].permute(4, 2, 0, 1, 3, 5)
            _outputs(halves.transpose(0, 1), there)
            lines = found.view(n, 4 * rows, 4 * tiles, outputs)[:, 4 * first :, :w]
            lines = lines[:, : min(4 * step, h - 4 * first)]
            if added is not None:
                lines += added[:, :, 4 * first : 4 * (first + step)].permute(0, 2, 3, 1)
            if self.activates:
                lines.relu_()
        return found.view(n, 4 * rows, 4 * tiles, outputs)[:, :h, :w].permute(0, 3, 1, 2)


def _cut(whole: Tensor, step: int) -> Tensor:
    """The memory of [a, (b,) N, R, ...] as that of fewer rows."""
    row = whole.dim() - 3
    shape = (*whole.shape[:row], step, *whole.shape[row + 1 :])
    return whole.flatten()[: math.prod(shape)].view(shape)


def _inputs(line: Sequence[Tensor], found: Sequence[Tensor] | Tensor) -> None:
    """Six inputs in a line to their values at the six points, into ``found``."""
    d0, d1, d2, d3, d4, d5 = line
    even, odd = torch.sub(d4, d2, alpha=4), torch.sub(d3, d1, alpha=4)
    torch.add(even, odd, out=found[1])
    torch.sub(even, odd, out=found[2])
    torch.sub(d4, d2, out=even)
    torch.sub(d3, d1, out=odd)
    torch.add(even, odd, alpha=2, out=found[3])
    torch.sub(even, odd, alpha=2, out=found[4])
    torch.sub(even, d2, alpha=4, out=found[0]).add_(d0, alpha=4)
    torch.sub(d5, d3, out=found[5]).sub_(odd, alpha=4)


def _outputs(line: Sequence[Tensor] | Tensor, found: Sequence[Tensor] | Tensor) -> None:
    """Products at the six points to four outputs in a line, into ``found``."""
    m0, m1, m2, m3, m4, m5 = line
    one, two = m1 + m2, m3 + m4
    torch.add(m0, one, out=found[0]).add_(two)
    torch.add(one, two, alpha=4, out=found[2])
    torch.sub(m1, m2, out=one)
    torch.sub(m3, m4, out=two)
    torch.add(one, two, alpha=2, out=found[1])
    torch.add(one, two, alpha=8, out=found[3]).add_(m5)


def with_winograd(model: M) -> M:
    """The same network, whose 3x3 convolutions of many channels are computed so; changed in place.

    Args:
        model: in evaluation mode and float32, on a CPU.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.Conv2d) and pays(child):
                setattr(parent, name, WinogradConv(child))
    return model


def pays(layer: nn.Conv2d) -> bool:
    """Whether a convolution is of the kind, and large enough."""
    return (
        layer.kernel_size == (3, 3)
        and layer.stride == layer.dilation == (1, 1)
        and cast(tuple[int, int], layer.padding) == (1, 1)
        and layer.groups == 1
        and layer.padding_mode == "zeros"
        and layer.in_channels * layer.out_channels >= FEWEST_PAIRS
    )
