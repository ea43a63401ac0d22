"""Area: polygons on the ground, and the cells of a grid that lie in them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import Boxes
from crkd_core.config import GridConfig

#: A closed line, [N, 2] x and y in metres; the last point is joined to the first.
Ring = NDArray[np.float64]


class AreaError(ValueError):
    """Points that are no polygon."""


@dataclass(frozen=True, kw_only=True)
class Area:
    """A part of the ground, seen from above.

    Attributes:
        polygons: each is its outline, and then the outlines of its holes. Polygons may overlap; a
            place in any of them is in the area.
    """

    polygons: tuple[tuple[Ring, ...], ...]

    def __post_init__(self) -> None:
        for polygon in self.polygons:
            for ring in polygon:
                if ring.ndim != 2 or ring.shape[1] != 2 or not np.isfinite(ring).all():
                    raise AreaError(
                        f"expected outlines [N, 2] of finite x and y, got one {ring.shape}"
                    )

    @classmethod
    def of_boxes(cls, boxes: Boxes) -> Area:
        """What boxes cover of the ground, as they stand."""
        corners = boxes.corners()[:, :4, :2]
        return cls(polygons=tuple((ring,) for ring in corners))

    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with its outlines."""
        sha = hashlib.sha256()
        for polygon in self.polygons:
            sha.update(repr([len(ring) for ring in polygon]).encode())
            for ring in polygon:
                sha.update(np.ascontiguousarray(ring, np.float64).tobytes())
        return sha.hexdigest()[:16]

    def moved(self, a_T_b: NDArray[np.float64], *, z: float = 0.0) -> Area:
        """The same area, moved from frame b to frame a.

        Args:
            a_T_b: [4, 4], of the kinds that Boxes.transformed knows.
            z: height of the ground in b, metres; it matters where the frames are tilted.
        """
        return Area(
            polygons=tuple(
                tuple(
                    geometry.apply(a_T_b, np.insert(ring, 2, z, axis=1))[:, :2] for ring in polygon
                )
                for polygon in self.polygons
            )
        )

    def near(self, center: NDArray[np.float64], reach: float) -> Area:
        """The polygons that may come within ``reach`` metres of a place [2]; others are gone."""
        kept = []
        for polygon in self.polygons:
            outline = polygon[0]
            if len(outline) == 0:
                continue
            low, high = outline.min(0) - reach, outline.max(0) + reach
            if (low <= center).all() and (center <= high).all():
                kept.append(polygon)
        return Area(polygons=tuple(kept))

    def cells(self, grid: GridConfig) -> NDArray[np.bool_]:
        """[X, Y] cells whose centre lies in the area, by the even-odd rule in every polygon."""
        mask = np.zeros(grid.shape, bool)
        for polygon in self.polygons:
            mask |= _inside(polygon, grid)
        return mask


def _inside(polygon: Sequence[Ring], grid: GridConfig) -> NDArray[np.bool_]:
    """[X, Y] cells inside one polygon.

    Along each row of cell centres (one x, all y) every edge that crosses it flips what lies behind
    the crossing.
    """
    count_x, count_y = grid.shape
    starts = np.concatenate(list(polygon))
    ends = np.concatenate([np.roll(ring, -1, 0) for ring in polygon])
    # In cells, a centre being a whole number.
    low = np.asarray(grid.low[:2])
    starts, ends = ((points - low) / grid.cell - 0.5 for points in (starts, ends))
    # An edge crosses the rows from its lower end on and before its upper one.
    first = np.ceil(np.minimum(starts[:, 0], ends[:, 0])).clip(0, count_x).astype(np.int64)
    last = np.ceil(np.maximum(starts[:, 0], ends[:, 0])).clip(0, count_x).astype(np.int64)
    crossed = last - first
    edge = np.repeat(np.arange(len(starts)), crossed)
    before = np.cumsum(crossed) - crossed
    row = np.arange(len(edge)) - before[edge] + first[edge]
    start, end = starts[edge], ends[edge]
    share = (row - start[:, 0]) / (end[:, 0] - start[:, 0])
    at = start[:, 1] + share * (end[:, 1] - start[:, 1])
    column = np.ceil(at).clip(0, count_y).astype(np.int64)
    flips = np.bincount(row * (count_y + 1) + column, minlength=count_x * (count_y + 1))
    parity = np.cumsum(flips.reshape(count_x, count_y + 1), 1)[:, :count_y] % 2
    return parity == 1
