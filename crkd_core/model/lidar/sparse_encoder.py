"""The sparse 3D encoder: layers over SparseMap, whoever keeps the sites.

Shapes: V input sites, W output sites, K = kx ky kz kernel cells, C channels. Spatial order is
x, y, z, in coordinates, kernels and grids.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from crkd_core.model.layers import he_normal
from crkd_core.model.lidar.sparse_map import SparseMap, Triple, strided_shape
from crkd_core.model.radar import PointNorm


class SparseConv(nn.Module):
    """A sparse convolution without bias: submanifold when ``stride`` is None, else strided.

    ``weight`` is [K, inputs, outputs]; kernel cells in the order x, y, z, z fastest. It equals a
    dense ``conv3d`` on ``SparseMap.dense()`` read at the output sites.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        *,
        kernel: Triple = (3, 3, 3),
        stride: Triple | None = None,
        padding: Triple = (1, 1, 1),
    ) -> None:
        super().__init__()
        self.kernel, self.stride, self.padding = kernel, stride, padding
        count = kernel[0] * kernel[1] * kernel[2]
        self.weight = nn.Parameter(torch.empty(count, inputs, outputs))
        # He et al. 2015 for ReLU; most kernel cells of a surface are empty, norms follow anyway.
        he_normal(self.weight, std=(2 / (count * inputs)) ** 0.5)

    def forward(self, x: SparseMap) -> SparseMap:
        """[V, inputs] -> [W, outputs]."""
        return SparseMap(*x.sites.convolve(x.features, self))


class SparseNorm(nn.Sequential):
    """A sparse convolution, BatchNorm over sites, and a ReLU unless told otherwise."""

    def __init__(self, convolution: SparseConv, *, relu: bool = True) -> None:
        norm = PointNorm(convolution.weight.shape[2], eps=1e-3)
        super().__init__(convolution, norm, *([nn.ReLU()] if relu else []))

    def forward(self, x: SparseMap) -> SparseMap:
        """SparseMap -> SparseMap."""
        convolution, *rest = self
        x = convolution(x)
        features = x.features
        for layer in rest:
            features = layer(features)
        return x._replace(features=features)


class SparseBlock(nn.Module):
    """Two submanifold convolutions and a shortcut (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = SparseNorm(SparseConv(channels, channels))
        self.second = SparseNorm(SparseConv(channels, channels), relu=False)

    def forward(self, x: SparseMap) -> SparseMap:
        """[V, channels] -> [V, channels] at the same sites."""
        return x._replace(features=(self.second(self.first(x)).features + x.features).relu())


class SparseEncoder(nn.Module):
    """Voxels to the bird's-eye view (SECOND, Yan et al. 2018, with residual blocks).

    Stage i: ``blocks`` residual blocks of ``channels[i]``, then, but for the last stage, a
    strided convolution to ``channels[i + 1]`` that halves x, y and z. The last of these does not
    pad z. A kernel of three in z alone halves what is left, and z is laid into the channels,
    channel index c * Z + z.
    """

    def __init__(self, inputs: int, *, channels: tuple[int, ...], blocks: int) -> None:
        super().__init__()
        self.input = SparseNorm(SparseConv(inputs, channels[0]))
        stages = []
        for index, width in enumerate(channels):
            stage: list[nn.Module] = [SparseBlock(width) for _ in range(blocks)]
            if index + 1 < len(channels):
                down = SparseConv(
                    width,
                    channels[index + 1],
                    stride=(2, 2, 2),
                    padding=(1, 1, 0 if index + 2 == len(channels) else 1),
                )
                stage.append(SparseNorm(down))
            stages.append(nn.Sequential(*stage))
        self.stages = nn.ModuleList(stages)
        self.out = SparseNorm(
            SparseConv(
                channels[-1], channels[-1], kernel=(1, 1, 3), stride=(1, 1, 2), padding=(0, 0, 0)
            )
        )

    def out_shape(self, shape: Triple) -> Triple:
        """X', Y', Z' of the last map for a grid of ``shape``."""
        for module in self.modules():
            if isinstance(module, SparseConv) and module.stride is not None:
                shape = strided_shape(shape, module.kernel, module.stride, module.padding)
        return shape

    def maps(self, x: SparseMap) -> Iterator[SparseMap]:
        """The map after each stage."""
        # Metres lose too much in bfloat16.
        with torch.autocast(x.features.device.type, enabled=False):
            x = self.input(x)
        for stage in self.stages:
            x = stage(x)
            yield x

    def forward(self, x: SparseMap) -> Tensor:
        """[V, inputs] on [X, Y, Z] -> [B, channels[-1] * Z', X', Y']."""
        for last in self.maps(x):
            x = last
        return self.out(x).dense().permute(0, 1, 4, 2, 3).flatten(1, 2)
