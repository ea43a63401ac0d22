"""Features at occupied cells, and what whoever keeps the cells must be able to do.

Shapes: V input sites, W output sites, K = kx ky kz kernel cells, C channels. Spatial order is
x, y, z, in coordinates, kernels and grids.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor

Triple = tuple[int, int, int]


class Convolution(Protocol):
    """What a sparse convolution is: its numbers, and where its kernel reaches."""

    kernel: Triple
    #: None = submanifold.
    stride: Triple | None
    #: Cells before and behind each axis, of a strided convolution.
    padding: Triple

    @property
    def weight(self) -> Tensor:
        """[K, inputs, outputs], kernel cells in the order x, y, z, z fastest."""
        ...


class SiteSet(Protocol):
    """Occupied cells ("sites") of a batch of grids, in an order of their own."""

    #: X, Y, Z.
    shape: Triple

    def __len__(self) -> int: ...

    def coords(self) -> Tensor:
        """[V, 4] int64: sample, x, y, z."""
        ...

    def convolve(self, features: Tensor, convolution: Convolution) -> tuple[Tensor, SiteSet]:
        """Features [V, C] -> features [W, C'] and their sites."""
        ...

    def dense(self, features: Tensor) -> Tensor:
        """Features [V, C] -> [B, C, X, Y, Z], zeros where no site is."""
        ...


class SparseMap(NamedTuple):
    """Features at sites.

    Attributes:
        features: [V, C].
        sites: of length V.
    """

    features: Tensor
    sites: SiteSet

    def dense(self) -> Tensor:
        """[B, C, X, Y, Z], zeros where no site is."""
        return self.sites.dense(self.features)


def strided_shape(shape: Triple, kernel: Triple, stride: Triple, padding: Triple) -> Triple:
    """Output cells along x, y, z of a strided convolution."""
    x, y, z = (
        (size + 2 * p - k) // s + 1
        for size, k, s, p in zip(shape, kernel, stride, padding, strict=True)
    )
    return x, y, z
