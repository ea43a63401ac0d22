"""The calibration block of CSRD: radar features closer to what a LiDAR shows (docs/method.md 1.7).

Shapes: B batch, C channels, X Y grid cells.
"""

from __future__ import annotations

from torch import Tensor, nn

#: As released; the configuration key that asks for undilated convolutions is not read there.
DILATION = 2
BLOCKS = 3


class Calibration(nn.Module):
    """Three dilated 3x3 convolutions with BatchNorm and ReLU, and a one-channel activation.

    The activation is what the loss compares with the teacher's objectness; nothing else reads it.
    """

    def __init__(self, channels: int):
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(BLOCKS):
            convolution = nn.Conv2d(channels, channels, 3, padding=DILATION, dilation=DILATION)
            nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
            layers += [convolution, nn.BatchNorm2d(channels), nn.ReLU(inplace=True)]
        self.blocks = nn.Sequential(*layers)
        self.activation = nn.Sequential(
            nn.Conv2d(channels, 1, 1, bias=False), nn.ReLU(inplace=True)
        )

    def forward(self, radar_bev: Tensor) -> tuple[Tensor, Tensor]:
        """[B, C, X, Y] -> calibrated [B, C, X, Y] and activation [B, 1, X, Y], both >= 0."""
        calibrated = self.blocks(radar_bev)
        return calibrated, self.activation(calibrated)
