"""Coloured triangle meshes and the solids that they are put together from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Materials. They select the texture in the pictures and the echo in LiDAR and radar.
PAINT, DARK, CLOTH, SIGNAL, WALL, LEAF, WOOD, METAL, COACH, LIGHT = range(10)

Colour = Sequence[float] | NDArray[np.float64]
Vector = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Mesh:
    """Triangles with a colour and a material each.

    Attributes:
        vertices: [V, 3] metres.
        faces: [F, 3] indices into ``vertices``.
        colour: [F, 3] albedo in [0, 1], RGB.
        material: [F] one of the material codes.
    """

    vertices: NDArray[np.float32]
    faces: NDArray[np.int32]
    colour: NDArray[np.float32]
    material: NDArray[np.int8]

    def fitted(self, size: Vector) -> Mesh:
        """The mesh stretched to fill a box of ``size`` (l, w, h) centred at the origin."""
        low, high = self.vertices.min(0), self.vertices.max(0)
        unit = (self.vertices - (low + high) / 2) / (high - low)
        return Mesh(
            vertices=(unit * np.asarray(size)).astype(np.float32),
            faces=self.faces,
            colour=self.colour,
            material=self.material,
        )


def join(parts: Sequence[Mesh]) -> Mesh:
    """All parts as one mesh."""
    starts = np.cumsum([0] + [len(p.vertices) for p in parts[:-1]])
    return Mesh(
        vertices=np.concatenate([p.vertices for p in parts]),
        faces=np.concatenate([p.faces + s for p, s in zip(parts, starts, strict=True)]).astype(
            np.int32
        ),
        colour=np.concatenate([p.colour for p in parts]),
        material=np.concatenate([p.material for p in parts]),
    )


def solid(vertices: NDArray[Any], faces: NDArray[Any], colour: Colour, material: int) -> Mesh:
    """A mesh of one colour and material."""
    return Mesh(
        vertices=np.asarray(vertices, np.float32),
        faces=np.asarray(faces, np.int32),
        colour=np.tile(np.asarray(colour, np.float32), (len(faces), 1)),
        material=np.full(len(faces), material, np.int8),
    )


_CUBE = np.array([[x, y, z] for z in (-0.5, 0.5) for x in (-0.5, 0.5) for y in (-0.5, 0.5)])
_CUBE_FACES = np.array(
    [
        [0, 1, 3], [0, 3, 2], [4, 7, 5], [4, 6, 7], [0, 5, 1], [0, 4, 5],
        [2, 3, 7], [2, 7, 6], [0, 2, 6], [0, 6, 4], [1, 7, 3], [1, 5, 7],
    ]
)  # fmt: skip


def block(
    low: Vector, high: Vector, colour: Colour, material: int = PAINT, *, taper: Vector = (1, 1)
) -> Mesh:
    """A box between two corners; ``taper`` scales the top face in x and y."""
    low_, high_ = np.asarray(low, float), np.asarray(high, float)
    unit = _CUBE.copy()
    unit[4:, :2] *= taper
    return solid(unit * (high_ - low_) + (low_ + high_) / 2, _CUBE_FACES, colour, material)


def tube(
    start: Vector,
    end: Vector,
    radius: float,
    colour: Colour,
    material: int = PAINT,
    *,
    end_radius: float | None = None,
    sides: int = 8,
    caps: int = 0,
) -> Mesh:
    """A cylinder or frustum between two points; ``caps`` 0 leaves it open, 1 closes its end."""
    a, b = np.asarray(start, float), np.asarray(end, float)
    axis = (b - a) / np.linalg.norm(b - a)
    side = np.cross(axis, [0, 0, 1] if abs(axis[2]) < 0.9 else [1, 0, 0])
    side /= np.linalg.norm(side)
    angle = np.arange(sides) * 2 * np.pi / sides
    ring = np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * np.cross(axis, side)
    top = radius if end_radius is None else end_radius
    i = np.arange(sides)
    j = (i + 1) % sides
    faces = [[i, j, i + sides], [j, j + sides, i + sides]]
    vertices = np.concatenate([a + radius * ring, b + top * ring])
    if caps:
        faces.append([i + sides, j + sides, np.full(sides, 2 * sides)])
        vertices = np.concatenate([vertices, [b]])
    return solid(vertices, np.concatenate([np.stack(f, 1) for f in faces]), colour, material)


def ball(
    centre: Vector, radius: Vector | float, colour: Colour, material: int, *, sides: int = 7
) -> Mesh:
    """An ellipsoid of ``sides`` meridians and four parallels."""
    angle = np.arange(sides) * 2 * np.pi / sides
    rows = [
        np.stack([np.cos(angle) * r, np.sin(angle) * r, np.full(sides, z)], 1)
        for z, r in ((-0.75, 0.66), (0.0, 1.0), (0.75, 0.66))
    ]
    unit = np.concatenate([*rows, [[0, 0, -1], [0, 0, 1]]])
    i = np.arange(sides)
    j = (i + 1) % sides
    bottom, top = np.full(sides, 3 * sides), np.full(sides, 3 * sides + 1)
    quads = [
        f
        for s in (0, sides)
        for f in ([i + s, j + s, i + s + sides], [j + s, j + s + sides, i + s + sides])
    ]
    faces = [*quads, [i, j, bottom], [i + 2 * sides, j + 2 * sides, top]]
    return solid(
        unit * radius + np.asarray(centre, float),
        np.concatenate([np.stack(f, 1) for f in faces]),
        colour,
        material,
    )


def panel(x: float | None, y: float | None, a: Vector, b: Vector, colour: Colour,
          material: int = PAINT) -> Mesh:  # fmt: skip
    """An upright rectangle at constant x or constant y; ``a`` and ``b`` are (other axis, z)."""
    corners = [(a[0], a[1]), (b[0], a[1]), (b[0], b[1]), (a[0], b[1])]
    vertices = [(x, h, z) if y is None else (h, y, z) for h, z in corners]
    return solid(np.array(vertices), np.array([[0, 1, 2], [0, 2, 3]]), colour, material)
