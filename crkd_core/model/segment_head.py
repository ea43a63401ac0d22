"""The second head: per class, which cells of the grid are of it (docs/method.md 1.11).

Shapes: B batch, C channels, X Y grid cells, S classes.
"""

from __future__ import annotations

from torch import Tensor, nn

from crkd_core.config import SegmentsConfig
from crkd_core.model.layers import conv_norm


class SegmentHead(nn.Module):
    """Two convolutions with BatchNorm and ReLU, and one to a logit per class.

    After the segmentation head of BEVFusion (Liu et al. 2023), which classifies every cell and
    class by itself. There it reads a finer grid; here it reads what the detection head reads.
    """

    def __init__(self, inputs: int, config: SegmentsConfig):
        super().__init__()
        self.hidden = nn.Sequential(
            conv_norm(inputs, config.channels), conv_norm(config.channels, config.channels)
        )
        self.output = nn.Conv2d(config.channels, len(config.classes), 1)

    def forward(self, decoded: Tensor) -> Tensor:
        """[B, inputs, X, Y] -> logits [B, S, X, Y]."""
        logits: Tensor = self.output(self.hidden(decoded))
        return logits
