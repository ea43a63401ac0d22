"""The world at one time, ready for the rays of cameras, LiDAR and radars.

What never moves is one tree of triangles, every moving object another (bodies.py). All sensors ask
here, so that they agree on what hides what.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.world.sensors.bodies import Faces, Tree
from crkd_core.world.sensors.passing import Bodies, Columns, along_any, along_columns, along_each
from crkd_core.world.sensors.shadows import GroundShadows

#: Face codes of rays that end on the ground, or nowhere.
GROUND, NOTHING = -1, -2
#: Owner of faces that belong to no annotated object.
SCENERY = -1

_FAR = np.float32(1e30)


@dataclass(frozen=True, kw_only=True)
class Hits:
    """What N rays met.

    Attributes:
        distance: [N] metres; 1e30 where nothing.
        face: [N] index into ``Moment.faces``, or GROUND, or NOTHING.
    """

    distance: NDArray[np.float32]
    face: NDArray[np.int32]


class Moment:
    """The world at one time, ready for rays (local frame, metres, unit directions).

    Attributes:
        t: seconds after the first key frame.
        faces: attributes of all triangles; normals of moving objects in the axes of their boxes.
    """

    def __init__(
        self, *, t: float, still: Tree, ground: int, faces: Faces, bodies: Bodies,
        turns: NDArray[np.float32], heading: float, shadows: GroundShadows,
        sun: NDArray[np.float32],
    ) -> None:  # fmt: skip
        self.t, self.faces, self._bodies = t, faces, bodies
        self._still, self._ground, self._turns, self._heading = still, ground, turns, heading
        self._shadows, self._sun = shadows, sun

    def cast(
        self, origin: NDArray[Any], directions: NDArray[np.float32], columns: Columns | None = None
    ) -> Hits:
        """First hits of rays from one origin [3], or from one for each ray [N, 3].

        Args:
            origin: metres.
            directions: [N, 3].
            columns: how the rays are ordered; needs a single origin.
        """
        origins = np.broadcast_to(origin, directions.shape)
        face, distance = self._still.first(origins, directions)
        missed = face < 0
        # The ground's triangles come first in the tree.
        face -= self._ground
        face[face < 0] = GROUND
        face[missed] = NOTHING
        distance[missed] = _FAR
        if np.ndim(origin) > 1:
            groups = along_each(self._bodies, origins, directions, distance)
        elif columns is None:
            groups = along_any(self._bodies, origins[:1], directions, distance)
        else:
            groups = along_columns(
                self._bodies, origins[:1], directions, distance, columns, self._heading
            )
        bodies, single = self._bodies, np.ndim(origin) == 1
        for i, rows in groups:
            turn = bodies.turn[i]
            inward = directions.take(rows, 0) @ turn
            starts = ((origin if single else origins[rows]) - bodies.place[i]) @ turn
            found, far = bodies.tree[i].first(np.broadcast_to(starts, inward.shape), inward)
            hit = (found >= 0).nonzero()[0]
            if not len(hit):
                continue
            rows, far = rows[hit], far[hit]
            nearer = (far < distance[rows]).nonzero()[0]
            rows = rows[nearer]
            face[rows] = found[hit[nearer]] + bodies.first[i]
            distance[rows] = far[nearer]
        return Hits(distance=distance, face=face)

    def glance(
        self, origin: NDArray[Any], directions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Distance and owner of what few rays meet first, moving bodies taken for their boxes.

        For radars, to whom it makes no difference; faster than ``cast`` for some hundred rays.

        Args:
            origin: [3] metres.
            directions: [N, 3].
        """
        origins = np.broadcast_to(origin, directions.shape)
        face, distance = self._still.first(origins, directions)
        distance[face < 0] = _FAR
        face -= self._ground
        owner = np.full(len(face), SCENERY, np.int32)
        on = (face >= 0).nonzero()[0]
        owner[on] = self.faces.owner[face[on]]
        bodies = self._bodies
        offset = bodies.place - origin
        # What lies behind all rays is not met.
        ahead = (offset @ directions.mean(0) > -bodies.radius).nonzero()[0]
        if not len(ahead):
            return distance, owner
        # Where each ray [N] enters and leaves the slabs of each box [B].
        c, s = bodies.turn[ahead, 0, 0], bodies.turn[ahead, 1, 0]
        (x, y, z), half = -offset[ahead].T, bodies.half[ahead]
        dx, dy, dz = directions.T[..., None]
        enter = np.full((len(face), len(ahead)), -np.inf, np.float32)
        leave = np.full_like(enter, np.inf)
        for axis, start, inward in (
            (0, c * x + s * y, dx * c + dy * s),
            (1, c * y - s * x, dy * c - dx * s),
            (2, z, dz + 0 * c),
        ):
            # A ray along a slab is in it for ever, or never: a hair askew it is just that.
            inverse = 1 / np.where(inward == 0, np.float32(1e-30), inward)
            middle, reach = -start * inverse, half[:, axis] * np.abs(inverse)
            np.fmax(enter, middle - reach, out=enter)
            np.fmin(leave, middle + reach, out=leave)
        enter[(enter > leave) | (leave < 0)] = _FAR
        nearest = enter.argmin(1)
        enter = enter[np.arange(len(face)), nearest]
        hit = enter < distance
        return (
            np.where(hit, np.maximum(enter, 0), distance),
            np.where(hit, bodies.actor[ahead[nearest]], owner),
        )

    def sunless(self, origins: NDArray[np.float32], *, on_ground: bool) -> NDArray[np.bool_]:
        """Whether anything stands between each origin [3, N] and the sun.

        Args:
            origins: metres, a little above what they lie on.
            on_ground: whether that is the ground: there a map says what still things hide.
        """
        toward = self._sun
        if on_ground:
            hidden = self._shadows.at(origins[0], origins[1])
        else:
            directions = np.broadcast_to(toward, origins.shape[::-1])
            hidden = self._still.blocked(np.ascontiguousarray(origins.T), directions)
        free = (~hidden).nonzero()[0]
        if not len(free) or not len(self._bodies.radius):
            return hidden
        # Coordinates across the direction: a body's shadow lies within a disc there.
        side = np.cross(toward, [0, 0, 1] if abs(toward[2]) < 0.9 else [1, 0, 0])
        axes = np.stack([side / np.linalg.norm(side), np.zeros(3), toward]).astype(np.float32)
        axes[1] = np.cross(toward, axes[0])
        u, v, w = axes @ origins.take(free, 1)
        places, radii = self._bodies.place @ axes.T, self._bodies.radius
        near = (places[:, 0] > u.min() - radii) & (places[:, 0] < u.max() + radii)
        near &= (places[:, 1] > v.min() - radii) & (places[:, 1] < v.max() + radii)
        for i in np.flatnonzero(near):
            meets = np.abs(u - places[i, 0]) < radii[i]
            meets &= np.abs(v - places[i, 1]) < radii[i]
            meets &= w < places[i, 2] + radii[i]
            rows = free[np.flatnonzero(meets)]
            if len(rows):
                turn = self._bodies.turn[i]
                starts = (origins.take(rows, 1).T - self._bodies.place[i]) @ turn
                inward = np.broadcast_to(toward @ turn, starts.shape)
                hidden[rows] |= self._bodies.tree[i].blocked(starts, inward)
        return hidden

    def owner(self, hits: Hits) -> NDArray[np.int32]:
        """[N] actor that each ray met, -1 for scenery, ground and sky."""
        owner = np.full(len(hits.face), SCENERY, np.int32)
        on = hits.face >= 0
        owner[on] = self.faces.owner[hits.face[on]]
        return owner

    def normals(self, face: NDArray[Any]) -> NDArray[np.float32]:
        """[3, N] unit normals of triangles in the local frame."""
        normal = self.faces.normal.take(face, 1)
        # The last row is for scenery, whose owner is below 0.
        cosine, sine = self._turns.take(self.faces.owner.take(face), 1, mode="wrap")
        x, y = normal[0].copy(), normal[1]
        normal[0] = cosine * x - sine * y
        normal[1] = sine * x + cosine * y
        return normal
