"""The one ray caster behind cameras, LiDAR and radars, so that they agree on what hides what.

What never moves is one tree of triangles, every moving object another (bodies.py). Of a body only
the rays that pass near it are asked; sensors whose rays come in columns say so (``Columns``), and
most columns need not even be looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex.rtcore import EmbreeDevice
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.world.content.scene import Scene
from crkd_core.world.sensors.bodies import Faces, Tree, face_table, joined_faces
from crkd_core.world.sensors.shadows import GroundShadows

#: Face codes of rays that end on the ground, or nowhere.
GROUND, NOTHING = -1, -2
#: Owner of faces that belong to no annotated object.
SCENERY = -1
#: The ground ends here, metres from the drive: haze.
HAZE = 900.0

_FAR = np.float32(1e30)
_CORNERS = np.array([[1, 1], [1, -1], [-1, -1], [-1, 1]], np.float32)


@dataclass(frozen=True, kw_only=True)
class Hits:
    """What N rays met.

    Attributes:
        distance: [N] metres; 1e30 where nothing.
        face: [N] index into ``Moment.faces``, or GROUND, or NOTHING.
    """

    distance: NDArray[np.float32]
    face: NDArray[np.int32]


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
        self, origin: NDArray, directions: NDArray[np.float32], columns: Columns | None = None
    ) -> Hits:
        """First hits of rays from one origin [3], or from one for each ray [N, 3].

        Args:
            origin: metres.
            directions: [N, 3].
            columns: how the rays are ordered; needs a single origin.
        """
        origins = np.empty_like(directions)
        origins[:] = origin
        face, distance = self._still.first(origins, directions)
        missed = face < 0
        # The ground's triangles come first in the tree.
        face -= self._ground
        face[face < 0] = GROUND
        face[missed] = NOTHING
        distance[missed] = _FAR
        if np.ndim(origin) > 1:
            groups = self._along_each(origins, directions, distance)
        elif columns is None:
            groups = self._along_any(origins[:1], directions, distance)
        else:
            groups = self._along_columns(origins[:1], directions, distance, columns)
        bodies, single = self._bodies, np.ndim(origin) == 1
        for i, rows in groups:
            turn = bodies.turn[i]
            inward = directions[rows] @ turn
            starts = np.empty_like(inward)
            starts[:] = ((origin if single else origins[rows]) - bodies.place[i]) @ turn
            found, far = bodies.tree[i].first(starts, inward)
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
        self, origin: NDArray, directions: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        """Distance and owner of what few rays meet first, moving bodies taken for their boxes.

        For radars, to whom it makes no difference; faster than ``cast`` for some hundred rays.

        Args:
            origin: [3] metres.
            directions: [N, 3].
        """
        origins = np.empty_like(directions)
        origins[:] = origin
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
            with np.errstate(divide="ignore", invalid="ignore"):
                inverse = 1 / inward
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

    def _cones(self, origin: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        """Offset [B, 3] of the bodies, distance [B], least scalar product [B] that meets one."""
        offset = self._bodies.place - origin
        away = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        apart = np.square(away) - np.square(self._bodies.radius)
        # From inside the ball every ray may meet it.
        limit = np.where(apart > 0, np.sqrt(np.maximum(apart, 0)), -np.inf)
        return offset, away - self._bodies.radius, limit.astype(np.float32)

    def _along_any(
        self, origin: NDArray, directions: NDArray, distance: NDArray
    ) -> list[tuple[int, NDArray]]:
        """Bodies and the rays from one place that may meet them, rays in any order."""
        offset, nearest, limit = self._cones(origin)
        if not len(offset):
            return []
        meets = (directions @ offset.T >= limit) & (distance[:, None] > nearest)
        return [(int(i), meets[:, i].nonzero()[0]) for i in meets.any(0).nonzero()[0]]

    def _along_columns(
        self, origin: NDArray, directions: NDArray, distance: NDArray, columns: Columns
    ) -> list[tuple[int, NDArray]]:
        """The same for rays in columns: those that pass the upright outline of each box."""
        bodies = self._bodies
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
        bearing = (bearing - self._heading - middle + np.pi) % (2 * np.pi) - np.pi + middle
        # Nearest and furthest place of the outline bound the slopes towards it.
        nearest = np.maximum(level - radius, 1e-3)
        furthest = away.max(1)
        high, low = offset[:, 2] + bodies.half[:, 2], offset[:, 2] - bodies.half[:, 2]
        steepest = np.where(beside, np.maximum(high / nearest, high / furthest), np.inf) + 1e-3
        flattest = np.where(beside, np.minimum(low / nearest, low / furthest), -np.inf) - 1e-3
        slope = directions[:, 2] / np.sqrt(
            np.square(directions[:, 0]) + np.square(directions[:, 1])
        )
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

    def _along_each(
        self, origins: NDArray, directions: NDArray, distance: NDArray
    ) -> list[tuple[int, NDArray]]:
        """The same for rays with an origin each."""
        result = []
        for i, (place, radius) in enumerate(
            zip(self._bodies.place, self._bodies.radius, strict=True)
        ):
            offset = place - origins
            along = np.einsum("ij,ij->i", directions, offset)
            apart = np.einsum("ij,ij->i", offset, offset) - np.square(along)
            meets = (apart <= radius**2) & (along > -radius) & (distance > along - radius)
            rows = np.flatnonzero(meets)
            if len(rows):
                result.append((i, rows))
        return result

    def sunless(
        self, origins: NDArray[np.float32], ground: NDArray[np.bool_]
    ) -> NDArray[np.bool_]:
        """Whether anything stands between each origin [N, 3] and the sun.

        Args:
            origins: metres, a little above what they lie on.
            ground: [N] which of them lie on the ground: there a map says what still things hide.
        """
        toward = self._sun
        directions = np.empty_like(origins)
        directions[:] = toward
        hidden = np.empty(len(origins), bool)
        hidden[ground] = self._shadows.at(origins[ground, 0], origins[ground, 1])
        above = (~ground).nonzero()[0]
        hidden[above] = self._still.blocked(origins[above], directions[above])
        free = (~hidden).nonzero()[0]
        if not len(free) or not len(self._bodies.radius):
            return hidden
        # Coordinates across the direction: a body's shadow lies within a disc there.
        side = np.cross(toward, [0, 0, 1] if abs(toward[2]) < 0.9 else [1, 0, 0])
        axes = np.stack([side / np.linalg.norm(side), np.zeros(3), toward]).astype(np.float32)
        axes[1] = np.cross(toward, axes[0])
        u, v, w = np.ascontiguousarray((origins[free] @ axes.T).T)
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
                starts = (origins[rows] - self._bodies.place[i]) @ turn
                hidden[rows] |= self._bodies.tree[i].blocked(starts, directions[rows] @ turn)
        return hidden

    def owner(self, hits: Hits) -> NDArray[np.int32]:
        """[N] actor that each ray met, -1 for scenery, ground and sky."""
        owner = np.full(len(hits.face), SCENERY, np.int32)
        on = hits.face >= 0
        owner[on] = self.faces.owner[hits.face[on]]
        return owner

    def normals(self, face: NDArray) -> NDArray[np.float32]:
        """[N, 3] unit normals of triangles in the local frame."""
        normal = self.faces.normal[face]
        turn = self._turns[self.faces.owner[face]]
        x, y = normal[:, 0].copy(), normal[:, 1]
        normal[:, 0] = turn[:, 0] * x - turn[:, 1] * y
        normal[:, 1] = turn[:, 1] * x + turn[:, 0] * y
        return normal


def placement(position: NDArray, yaw: float) -> NDArray[np.float32]:
    """Pose of an upright object, float32 [4, 4]."""
    c, s = np.cos(yaw), np.sin(yaw)
    x, y, z = position
    return np.array([[c, -s, 0, x], [s, c, 0, y], [0, 0, 1, z], [0, 0, 0, 1]], np.float32)


class Caster:
    """Makes Moments of one drive."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        self._device = EmbreeDevice()
        still, moving = np.flatnonzero(~scene.moving), np.flatnonzero(scene.moving)
        xy, yaw = scene.place(0.0)
        position = scene.upright(xy)
        ground, ground_faces = scene.terrain.mesh(HAZE)
        meshes = [*scene.scenery, *(scene.actors[i].mesh for i in still)]
        owners = [SCENERY] * len(scene.scenery) + [int(i) for i in still]
        places = [np.eye(4, dtype=np.float32)] * len(scene.scenery)
        places += [placement(position[i], yaw[i]) for i in still]
        vertices, faces, count = [ground], [ground_faces], len(ground)
        for mesh, place in zip(meshes, places, strict=True):
            vertices.append(mesh.vertices @ place[:3, :3].T + place[:3, 3])
            faces.append(mesh.faces + np.int32(count))
            count += len(mesh.vertices)
        self._still = Tree(self._device, np.concatenate(vertices), np.concatenate(faces))
        self._ground = len(ground_faces)
        self._sun = scene.weather.sun.astype(np.float32)
        self._shadows = GroundShadows(
            still=self._still,
            terrain=scene.terrain,
            low=scene.ground.low,
            high=scene.ground.high,
            direction=self._sun,
        )
        bodies = [scene.actors[i].mesh for i in moving]
        self._faces = joined_faces(
            [
                face_table(meshes, owners, places),
                face_table(bodies, [int(i) for i in moving], None),
            ]
        )
        counts = np.array([len(m.faces) for m in [*meshes, *bodies]], np.int64)
        self._first = np.zeros(len(scene.actors), np.int32)
        self._first[moving] = (np.cumsum(counts) - counts)[len(meshes) :]
        self._radius = (np.linalg.norm(scene.sizes, axis=1) / 2 + 0.01).astype(np.float32)
        self._half = (scene.sizes / 2 + 0.01).astype(np.float32)
        self._trees: dict[int, Tree] = {}

    def at(self, t: float) -> Moment:
        """The world at t seconds after the first key frame."""
        scene = self.scene
        state = scene.state(t)
        rows = np.flatnonzero(scene.moving[state.index])
        index, yaw = state.index[rows], state.yaw[rows]
        c, s = np.cos(yaw), np.sin(yaw)
        turn = np.zeros((len(index), 3, 3), np.float32)
        turn[:, 0, 0], turn[:, 0, 1], turn[:, 1, 0], turn[:, 1, 1] = c, -s, s, c
        turn[:, 2, 2] = 1
        # Cosine and sine by owner; what stands, and scenery (the last row), is not turned.
        turns = np.zeros((len(scene.actors) + 1, 2), np.float32)
        turns[:, 0] = 1
        turns[index, 0], turns[index, 1] = c, s
        return Moment(
            t=t,
            still=self._still,
            ground=self._ground,
            faces=self._faces,
            bodies=Bodies(
                actor=index.astype(np.int32),
                tree=[self._tree(int(i)) for i in index],
                first=self._first[index],
                radius=self._radius[index],
                half=self._half[index],
                place=state.position[rows].astype(np.float32),
                turn=turn,
            ),
            turns=turns,
            heading=geometry.yaw_of(scene.ego_pose(t)),
            shadows=self._shadows,
            sun=self._sun,
        )

    def _tree(self, actor: int) -> Tree:
        if actor not in self._trees:
            mesh = self.scene.actors[actor].mesh
            self._trees[actor] = Tree(self._device, mesh.vertices, mesh.faces)
        return self._trees[actor]
