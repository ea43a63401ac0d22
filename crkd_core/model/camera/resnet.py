"""ResNet (He et al. 2015) as image backbone: a stem and stages, each of which gives a map.

Names of weights are those of transformers' ResNet, whose files it reads, and a test holds it to
the same answers. It is written out because importing that library takes longer than importing all
the rest of this project with torch (docs/decisions/0037).

Shapes: P images, H W pixels; stage i has stride 4 * 2^i.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn

from crkd_core.config import BackboneConfig
from crkd_core.model.layers import he_normal


class Features(NamedTuple):
    """What a backbone answers.

    Attributes:
        feature_maps: [P, channels, h, w], finest first.
    """

    feature_maps: tuple[Tensor, ...]


class ConvNorm(nn.Sequential):
    """Convolution and BatchNorm, with a ReLU behind where ``activates``."""

    def __init__(
        self, inputs: int, outputs: int, *, kernel: int, stride: int = 1, activates: bool = True
    ) -> None:
        super().__init__()
        padding = kernel // 2
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        self.normalization = nn.BatchNorm2d(outputs)
        if activates:
            self.activation = nn.ReLU()


class Block(nn.Module):
    """Two 3 x 3 convolutions, or 1 x 1, 3 x 3, 1 x 1 with a quarter of the channels inside."""

    def __init__(self, inputs: int, outputs: int, *, stride: int, bottleneck: bool) -> None:
        super().__init__()
        self.shortcut: nn.Module = nn.Identity()
        if inputs != outputs or stride != 1:
            self.shortcut = ConvNorm(inputs, outputs, kernel=1, stride=stride, activates=False)
        if bottleneck:
            inner = outputs // 4
            self.layer = nn.Sequential(
                ConvNorm(inputs, inner, kernel=1),
                ConvNorm(inner, inner, kernel=3, stride=stride),
                ConvNorm(inner, outputs, kernel=1, activates=False),
            )
        else:
            self.layer = nn.Sequential(
                ConvNorm(inputs, outputs, kernel=3, stride=stride),
                ConvNorm(outputs, outputs, kernel=3, activates=False),
            )
        self.activation = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """[P, inputs, h, w] -> [P, outputs, h / stride, w / stride]."""
        added: Tensor = self.layer(x) + self.shortcut(x)
        activated: Tensor = self.activation(added)
        return activated


class Stage(nn.Module):
    """Blocks one after the other."""

    def __init__(self, *blocks: Block) -> None:
        super().__init__()
        self.layers = nn.Sequential(*blocks)

    def forward(self, x: Tensor) -> Tensor:
        """The map of this stage."""
        after: Tensor = self.layers(x)
        return after


class ResNet(nn.Module):
    """Images to the maps of chosen stages.

    Attributes:
        channels: of these maps.
    """

    def __init__(self, config: BackboneConfig, *, stages: tuple[int, ...]) -> None:
        """With random weights.

        Args:
            config: of kind "resnet".
            stages: whose maps are answered, from 0, ascending.
        """
        super().__init__()
        self.stages = stages
        self.channels = tuple(config.hidden[stage] for stage in stages)
        self.embedder = nn.Sequential()
        self.embedder.embedder = ConvNorm(3, config.embedding, kernel=7, stride=2)
        self.embedder.pooler = nn.MaxPool2d(3, stride=2, padding=1)
        bottleneck = config.layer == "bottleneck"
        found = []
        inputs = config.embedding
        for index, (outputs, depth) in enumerate(zip(config.hidden, config.depths, strict=True)):
            first = Block(inputs, outputs, stride=2 if index else 1, bottleneck=bottleneck)
            others = (
                Block(outputs, outputs, stride=1, bottleneck=bottleneck) for _ in range(1, depth)
            )
            found.append(Stage(first, *others))
            inputs = outputs
        self.encoder = nn.Module()
        self.encoder.stages = nn.ModuleList(found)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                he_normal(module.weight)

    def forward(self, pixels: Tensor) -> Features:
        """[P, 3, H, W] -> the maps of the chosen stages."""
        x, maps = self.embedder(pixels), []
        for index, stage in enumerate(self.encoder.stages):  # type: ignore[arg-type]
            x = stage(x)
            if index in self.stages:
                maps.append(x)
        return Features(tuple(maps))
