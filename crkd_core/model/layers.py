"""The two convolution blocks that every part of the network is made of, and how weights start.

Shapes: B batch, C channels, H W (image) or X Y (bird's-eye view).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

#: Where a network reckons with its configuration's numbers while it is made, also where it is only
#: laid out (on the meta device, for shapes): for arithmetic there torch would import its compiler,
#: more than a second of every process that reads a file of weights.
RECKONED_ON = torch.device("cpu")


def he_normal(weight: Tensor, *, std: float | None = None) -> None:
    """Draw the weights of a convolution before ReLU, in place (He et al. 2015).

    Of those on the meta device nothing is drawn, which would import torch's compiler too.

    Args:
        weight: [outputs, inputs, ...].
        std: None = of the fan-out, the square root of 2 / (outputs x kernel).
    """
    if weight.is_meta:
        return
    if std is None:
        nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")
    else:
        nn.init.normal_(weight, std=std)


def conv_norm(
    inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution without bias, BatchNorm and ReLU; [B, inputs, H, W] -> [B, outputs, H', W']."""
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if relu:
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut (He et al. 2016).

    ``project`` puts a 1x1 convolution into the shortcut; needed where shapes differ.
    """

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, project: bool = False):
        super().__init__()
        self.first = conv_norm(inputs, outputs, stride=stride)
        self.second = conv_norm(outputs, outputs, relu=False)
        self.shortcut: nn.Module = (
            conv_norm(inputs, outputs, kernel=1, stride=stride, relu=False)
            if project
            else nn.Identity()
        )
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """[B, inputs, X, Y] -> [B, outputs, X', Y']."""
        return self.relu(self.second(self.first(x)) + self.shortcut(x))
