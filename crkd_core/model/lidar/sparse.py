"""Sparse 3D convolution in plain PyTorch: pair tables, gather, matmul, index_add.

Only occupied cells ("sites") are stored and computed. Two kinds (Graham et al. 2018): a
*submanifold* convolution answers at the sites of its input, so sites do not spread; a *strided*
one answers wherever its kernel covers a site.

Shapes: V input sites, W output sites, K = kx ky kz kernel cells, C channels. Spatial order is
x, y, z, in coordinates, kernels and grids.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from crkd_core.model.lidar.sparse_spconv import SpconvSites
from crkd_core.model.radar import PointNorm

Triple = tuple[int, int, int]


class SparseError(ValueError):
    """Sites or features that do not belong together."""


def strided_shape(shape: Triple, kernel: Triple, stride: Triple, padding: Triple) -> Triple:
    """Output cells along x, y, z of a strided convolution."""
    x, y, z = (
        (size + 2 * p - k) // s + 1
        for size, k, s, p in zip(shape, kernel, stride, padding, strict=True)
    )
    return x, y, z


class Pairs(NamedTuple):
    """For one kernel cell, which input rows add to which output rows.

    Attributes:
        source: [n] int64 input rows.
        target: [n] int64 output rows, each at most once.
    """

    source: Tensor
    target: Tensor


class Sites:
    """Occupied cells of a batch of grids, sorted by sample, x, y, z.

    Attributes:
        keys: [V] int64, ascending and unique: ((sample * X + x) * Y + y) * Z + z.
        batch: number of samples.
        shape: X, Y, Z.
    """

    def __init__(self, keys: Tensor, *, batch: int, shape: Triple) -> None:
        self.keys, self.batch, self.shape = keys, batch, shape
        # Layers between two strides share their sites, and so this table.
        self._tables: dict[Triple, list[Pairs | None]] = {}

    @classmethod
    def of(cls, coords: Tensor, *, batch: int, shape: Triple) -> tuple[Sites, Tensor]:
        """Sites of cells [V, 4] int64 (sample, x, y, z), and the row of each site in ``coords``.

        Raises:
            SparseError: a cell outside the grid or named twice.
        """
        limits = coords.new_tensor((batch, *shape))
        if len(coords) and not ((coords >= 0) & (coords < limits)).all():
            raise SparseError(f"a cell lies outside {batch} grids of {shape}")
        keys, order = cls._key(coords.unbind(1), shape).sort()
        if (keys[1:] == keys[:-1]).any():
            raise SparseError("a cell is named twice")
        return cls(keys, batch=batch, shape=shape), order

    @staticmethod
    def _key(parts: tuple[Tensor, ...], shape: Triple) -> Tensor:
        sample, x, y, z = parts
        return ((sample * shape[0] + x) * shape[1] + y) * shape[2] + z

    def __len__(self) -> int:
        return len(self.keys)

    def coords(self) -> Tensor:
        """[V, 4] int64: sample, x, y, z."""
        size_x, size_y, size_z = self.shape
        rest, z = self.keys // size_z, self.keys % size_z
        rest, y = rest // size_y, rest % size_y
        return torch.stack([rest // size_x, rest % size_x, y, z], 1)

    def neighbours(self, kernel: Triple) -> list[Pairs | None]:
        """Pairs of a submanifold convolution per kernel cell; None = every site with itself.

        ``kernel`` has odd edges.
        """
        if kernel not in self._tables:
            self._tables[kernel] = self._neighbours(kernel)
        return self._tables[kernel]

    @torch.no_grad()
    def _neighbours(self, kernel: Triple) -> list[Pairs | None]:
        count = kernel[0] * kernel[1] * kernel[2]
        table: list[Pairs | None] = [None] * count
        coords = self.coords()
        limits = coords.new_tensor(self.shape)
        cells = list(product(*(range(-(k // 2), k // 2 + 1) for k in kernel)))
        # Opposite kernel cells hold the same pairs, turned round: half of the search is enough.
        for index, offset in enumerate(cells[: count // 2]):
            other = coords[:, 1:] + coords.new_tensor(offset)
            inside = ((other >= 0) & (other < limits)).all(1).nonzero()[:, 0]
            wanted = self._key((coords[inside, 0], *other[inside].unbind(1)), self.shape)
            row = torch.searchsorted(self.keys, wanted).clamp(max=max(len(self) - 1, 0))
            found = self.keys[row] == wanted
            table[index] = Pairs(row[found], inside[found])
            table[count - 1 - index] = Pairs(inside[found], row[found])
        return table

    @torch.no_grad()
    def strided(
        self, kernel: Triple, stride: Triple, padding: Triple
    ) -> tuple[Sites, list[Pairs | None]]:
        """Output sites of a strided convolution, and its pairs per kernel cell."""
        shape = strided_shape(self.shape, kernel, stride, padding)
        coords = self.coords()
        limits, step = coords.new_tensor(shape), coords.new_tensor(stride)
        sources, keys = [], []
        for cell in product(*(range(k) for k in kernel)):
            # Output o reads input o * stride - padding + cell.
            reach = coords[:, 1:] + coords.new_tensor(padding) - coords.new_tensor(cell)
            out = torch.div(reach, step, rounding_mode="floor")
            fits = ((out * step == reach) & (out >= 0) & (out < limits)).all(1)
            source = fits.nonzero()[:, 0]
            sources.append(source)
            keys.append(self._key((coords[source, 0], *out[source].unbind(1)), shape))
        unique, inverse = torch.unique(torch.cat(keys), return_inverse=True)
        targets = inverse.split([len(source) for source in sources])
        sites = Sites(unique, batch=self.batch, shape=shape)
        return sites, [Pairs(s, t) for s, t in zip(sources, targets, strict=True)]

    def convolve(self, features: Tensor, convolution: SparseConv) -> tuple[Tensor, Sites]:
        """Features [V, C] -> features [W, C'] and their sites."""
        sites = self
        if convolution.stride is None:
            pairs = self.neighbours(convolution.kernel)
        else:
            sites, pairs = self.strided(
                convolution.kernel, convolution.stride, convolution.padding
            )
        return gather_matmul_add(features, convolution.weight, pairs, len(sites)), sites

    def dense(self, features: Tensor) -> Tensor:
        """Features [V, C] -> [B, C, X, Y, Z], zeros where no site is."""
        channels = features.shape[1]
        size_x, size_y, size_z = self.shape
        flat = features.new_zeros((self.batch * size_x * size_y * size_z, channels))
        flat = flat.index_copy(0, self.keys, features)
        return flat.view(self.batch, size_x, size_y, size_z, channels).permute(0, 4, 1, 2, 3)


class SparseMap(NamedTuple):
    """Features at sites.

    Attributes:
        features: [V, C].
        sites: of length V.
    """

    features: Tensor
    sites: Sites | SpconvSites

    def dense(self) -> Tensor:
        """[B, C, X, Y, Z], zeros where no site is."""
        return self.sites.dense(self.features)


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
        nn.init.normal_(self.weight, std=(2 / (count * inputs)) ** 0.5)

    def forward(self, x: SparseMap) -> SparseMap:
        """[V, inputs] -> [W, outputs]."""
        return SparseMap(*x.sites.convolve(x.features, self))


def gather_matmul_add(
    features: Tensor, weight: Tensor, pairs: list[Pairs | None], outputs: int
) -> Tensor:
    """Sum over kernel cells k of features[source_k] @ weight[k] at target_k. -> [outputs, C'].

    Products are in the precision of ``features`` or of autocast, sums in float32 at least. Within
    a kernel cell a source and a target occur at most once, so the order of additions is fixed and
    the result is the same on every run, on a GPU too.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device) and features.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        features, weight = features.to(dtype), weight.to(dtype)
    with torch.autocast(device, enabled=False):
        return _GatherMatmulAdd.apply(features, weight, pairs, outputs)


class _GatherMatmulAdd(torch.autograd.Function):
    """Its backward pass gathers again: kept rows would be most of the memory of a training."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, pairs: list[Pairs | None], outputs: int
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        out = _sums(features, outputs, weight.shape[2])
        for cell, pair in zip(weight, pairs, strict=True):
            if pair is None:
                out += features @ cell
            else:
                rows = features.index_select(0, pair.source) @ cell
                out.index_add_(0, pair.target, rows.to(out.dtype))
        return out.to(features.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, weight = ctx.saved_tensors
        to_features = _sums(features, *features.shape)
        to_weight = torch.empty_like(weight)
        for index, pair in enumerate(ctx.pairs):
            if pair is None:
                to_features += gradient @ weight[index].T
                to_weight[index] = features.T @ gradient
            else:
                rows = gradient.index_select(0, pair.target)
                part = rows @ weight[index].T
                to_features.index_add_(0, pair.source, part.to(to_features.dtype))
                to_weight[index] = features.index_select(0, pair.source).T @ rows
        return to_features.to(features.dtype), to_weight, None, None


def _sums(like: Tensor, rows: int, columns: int) -> Tensor:
    """Zeros to add to, float32 for everything shorter."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return like.new_zeros((rows, columns), dtype=dtype)


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
