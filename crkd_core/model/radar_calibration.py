"""The calibration block of CSRD: radar features closer to what a LiDAR shows (docs/method.md 1.7).

Shapes: B batch, C channels, X Y grid cells.
"""

from __future__ import annotations

from typing import Literal

from torch import Tensor, nn

from crkd_core.model.layers import he_normal

#: As released; the configuration key that asks for undilated convolutions is not read there.
DILATION = 2
BLOCKS = 3

#: Logit of the share of cells a fresh activation should claim, 0.1 (RetinaNet).
ACTIVATION_BIAS = -2.2


class Calibration(nn.Module):
    """Three dilated 3x3 convolutions with BatchNorm and ReLU, and a one-channel activation.

    The activation is what the loss compares with the teacher's objectness; nothing else reads it.

    As "released", the last convolution has its ReLU too, and so has the activation, which no bias
    can revive once it is 0 everywhere. As "residual", the convolutions are added to what goes in,
    and start with nothing to add; the activation is a logit.
    """

    def __init__(self, channels: int, *, block: Literal["released", "residual"]):
        super().__init__()
        self.residual = block == "residual"
        layers: list[nn.Module] = []
        for _ in range(BLOCKS):
            convolution = nn.Conv2d(channels, channels, 3, padding=DILATION, dilation=DILATION)
            he_normal(convolution.weight)
            layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        activation: list[nn.Module] = [nn.Conv2d(channels, 1, 1, bias=self.residual)]
        if self.residual:
            *layers, last, _ = layers
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            layers.append(last)
            nn.init.constant_(activation[0].bias, ACTIVATION_BIAS)  # type: ignore[arg-type]
        else:
            activation.append(nn.ReLU(inplace=True))
        self.blocks = nn.Sequential(*layers)
        self.activation = nn.Sequential(*activation)

    def forward(self, radar_bev: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, X, Y] -> calibrated [B, C, X, Y] and activation [B, 1, X, Y].

        As released, both are >= 0.
        """
        calibrated = self.blocks(radar_bev)
        if self.residual:
            calibrated = radar_bev + calibrated
        return calibrated, self.activation(calibrated)
