"""Pixels into the first convolution as they come: its weights know their mean and deviation.

What is linear in the pixels needs no passes over the images in float32, of which a frame of the
demo's network spends a tenth in float32 and a fifth in bf16. docs/decisions/0042.

Shapes: P cameras, H W image, p the convolution's border.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from crkd_core.model.camera.encoder import ImageEncoder, Normalise
from crkd_core.model.camera.resnet import ResNet

#: In the middle of what a byte can say: bytes less this are exact in bf16, and what the border and
#: the bias have to make up for is small.
_MIDDLE = 128


class PaddedPixels(nn.Module):
    """Bytes less 128 as numbers, in a border that stands for zeros behind the normalising."""

    mean: Tensor

    def __init__(self, normalise: Normalise, border: int) -> None:
        super().__init__()
        self.border = border
        self.register_buffer("mean", normalise.mean.flatten() - _MIDDLE, False)

    def forward(self, images: Tensor, dtype: torch.dtype) -> Tensor:
        """Uint8 RGB [P, H, W, 3] -> [P, 3, H + 2p, W + 2p]."""
        count, height, width, _ = images.shape
        p = self.border
        padded = self.mean.new_empty((count, height + 2 * p, width + 2 * p, 3), dtype=dtype)
        # The highest bit turned over is 128 less, in two's complement.
        padded[:, p : p + height, p : p + width] = images.bitwise_xor(_MIDDLE).view(torch.int8)
        for rim in (padded[:, :p], padded[:, p + height :]):
            rim.copy_(self.mean)
        for rim in (padded[:, :, :p], padded[:, :, p + width :]):
            rim.copy_(self.mean)
        return padded.permute(0, 3, 1, 2)


@torch.no_grad()
def fold_pixels(image: ImageEncoder) -> None:
    """Have an encoder's first convolution read pixels as they are; changed in place.

    Nothing changes with another backbone than ResNet.

    Args:
        image: folded (fold.py), in float32.
    """
    if not isinstance(image.backbone, ResNet):
        return
    layers = cast(nn.Sequential, image.backbone.embedder.embedder)
    first = cast(nn.Conv2d, layers.convolution)
    normalise, (border, _) = image.normalise, cast(tuple[int, int], first.padding)
    padded = PaddedPixels(normalise, border)
    weight = first.weight.double() / normalise.std.double()
    bias = weight.new_zeros(first.out_channels) if first.bias is None else first.bias.double()
    bias = bias - (weight.sum((2, 3)) * padded.mean.double()).sum(1)
    first.weight, first.bias = nn.Parameter(weight.float()), nn.Parameter(bias.float())
    first.padding = (0, 0)
    image.normalise = padded  # type: ignore[assignment]
