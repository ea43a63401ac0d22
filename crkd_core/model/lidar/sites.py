"""Occupied cells in plain PyTorch: who is whose neighbour, as pair tables.

Only occupied cells ("sites") are stored and computed. Two kinds of convolution (Graham et al.
2018): a *submanifold* one answers at the sites of its input, so sites do not spread; a *strided*
one answers wherever its kernel covers a site.

Shapes: V input sites, W output sites, K = kx ky kz kernel cells, C channels. Spatial order is
x, y, z, in coordinates, kernels and grids.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from crkd_core.model.lidar.gather import Pairs, gather_matmul_add
from crkd_core.model.lidar.sparse_map import Convolution, Triple, strided_shape


class SparseError(ValueError):
    """Sites or features that do not belong together."""


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

    def convolve(self, features: Tensor, convolution: Convolution) -> tuple[Tensor, Sites]:
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
