"""Which rays pass so near to which moving bodies that they may meet them.

Of a body only these rays are asked; sensors whose rays come in columns say so (``Columns``), and
most columns need not even be looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.world.sensors.bodies import Tree

_CORNERS = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]], np.float32)


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Rays in columns one after the other, of equally many rays each.

    Attributes:
        azimuth: [C] radians in the ego frame, ascending, at most one turn.
        margin: how far the rays of a column lie beside its azimuth, radians.
    """

    azimuth: NDArray[np.float64]
    margin: float


@dataclass(frozen=True, kw_only=True)
class Bodies:
    """B moving objects at one time.

    Attributes:
        actor: [B] index into ``Scene.actors``.
        tree: triangles of each, in the axes of its box.
        first: [B] number of its first triangle in ``Moment.faces``.
        radius: [B] of the ball around its box, metres.
        half: [B, 3] half its length, width and height.
        place: [B, 3] centre of the box, local frame.
        turn: [B, 3, 3] box axes -> local axes.
    """

    actor: NDArray[np.int32]
    tree: list[Tree]
    first: NDArray[np.int32]
    radius: NDArray[np.float32]
    half: NDArray[np.float32]
    place: NDArray[np.float32]
    turn: NDArray[np.float32]


def _cones(
    bodies: Bodies, origin: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Offset [B, 3] of the bodies, distance [B], least scalar product [B] that meets one."""
    offset = bodies.place - origin
    away = np.sqrt(np.einsum("ij,ij->i", offset, offset))
    apart = np.square(away) - np.square(bodies.radius)
    # From inside the ball every ray may meet it.
    limit = np.where(apart > 0, np.sqrt(np.maximum(apart, 0)), -np.inf)
    return offset, away - bodies.radius, limit.astype(np.float32)


def along_any(
    bodies: Bodies, origin: NDArray[Any], directions: NDArray[Any], distance: NDArray[Any]
) -> list[tuple[int, NDArray[Any]]]:
    """Bodies and the rays from one place that may meet them, rays in any order."""
    offset, nearest, limit = _cones(bodies, origin)
    if not len(offset):
        return []
    meets = (directions @ offset.T >= limit) & (distance[:, None] > nearest)
    return [(int(i), meets[:, i].nonzero()[0]) for i in meets.any(0).nonzero()[0]]


def along_columns(
    bodies: Bodies,
    origin: NDArray[Any],
    directions: NDArray[Any],
    distance: NDArray[Any],
    columns: Columns,
    heading: float,
) -> list[tuple[int, NDArray[Any]]]:
    """The same for rays in columns: those that pass the upright outline of each box."""
    size = len(directions) // len(columns.azimuth)
    offset = bodies.place - origin
    corners = offset[:, None, :2] + (_CORNERS * bodies.half[:, None, :2]) @ (
        bodies.turn[:, :2, :2].transpose(0, 2, 1)
    )
    away = np.hypot(corners[..., 0], corners[..., 1])
    level = np.hypot(offset[:, 0], offset[:, 1])
    radius = np.hypot(bodies.half[:, 0], bodies.half[:, 1])
    beside = level > radius * 1.01
    # Angles of the corners against the centre's bearing, which may lie anywhere on the turn.
    middle = columns.azimuth[[0, -1]].mean()
    bearing = np.arctan2(offset[:, 1], offset[:, 0])
    spread = np.arctan2(corners[..., 1], corners[..., 0]) - bearing[:, None]
    spread = (spread + np.pi) % (2 * np.pi) - np.pi
    start = np.where(beside, spread.min(1), -4.0) - columns.margin
    end = np.where(beside, spread.max(1), 4.0) + columns.margin
    bearing = (bearing - heading - middle + np.pi) % (2 * np.pi) - np.pi + middle
    # Nearest and furthest place of the outline bound the slopes towards it.
    nearest = np.maximum(level - radius, 1e-3)
    furthest = away.max(1)
    high, low = offset[:, 2] + bodies.half[:, 2], offset[:, 2] - bodies.half[:, 2]
    steepest = np.where(beside, np.maximum(high / nearest, high / furthest), np.inf) + 1e-3
    flattest = np.where(beside, np.minimum(low / nearest, low / furthest), -np.inf) - 1e-3
    slope = directions[:, 2] / np.sqrt(np.square(directions[:, 0]) + np.square(directions[:, 1]))
    result = []
    for lap in (-2 * np.pi, 0.0, 2 * np.pi):
        first = np.searchsorted(columns.azimuth, bearing + lap + start)
        last = np.searchsorted(columns.azimuth, bearing + lap + end)
        for i in ((last > first) & ((lap == 0) | beside)).nonzero()[0]:
            rows = slice(first[i] * size, last[i] * size)
            meets = slope[rows] <= steepest[i]
            meets &= slope[rows] >= flattest[i]
            meets &= distance[rows] > nearest[i]
            found = meets.nonzero()[0]
            if len(found):
                result.append((int(i), found + rows.start))
    return result


def along_each(
    bodies: Bodies, origins: NDArray[Any], directions: NDArray[Any], distance: NDArray[Any]
) -> list[tuple[int, NDArray[Any]]]:
    """The same for rays with an origin each."""
    result = []
    for i, (place, radius) in enumerate(zip(bodies.place, bodies.radius, strict=True)):
        offset = place - origins
        along = np.einsum("ij,ij->i", directions, offset)
        apart = np.einsum("ij,ij->i", offset, offset) - np.square(along)
        meets = (apart <= radius**2) & (along > -radius) & (distance > along - radius)
        rows = np.flatnonzero(meets)
        if len(rows):
            result.append((i, rows))
    return result
