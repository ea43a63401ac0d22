"""The one ray caster behind cameras, LiDAR and radars, so that they agree on what hides what.

Embree is called directly: trimesh's wrapper costs two to three times as much. What never moves is
built once per drive, what moves is rebuilt for every firing of a sensor; the ground is a plane.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore import EmbreeDevice
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.world.content.scene import Scene, State
from crkd_core.world.content.shapes import Mesh

#: Face codes of rays that end on the ground, or nowhere.
GROUND, NOTHING = -1, -2
#: Owner of faces that belong to no annotated object.
SCENERY = -1

_FAR = np.float32(1e30)

#: What moves within this distance (m) is always there: it may throw a shadow into the view.
NEAR = 18.0


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Of triangles: normal [F, 3], colour [F, 3], material [F], owner [F] (actor or SCENERY)."""

    normal: NDArray[np.float32]
    colour: NDArray[np.float32]
    material: NDArray[np.int8]
    owner: NDArray[np.int32]

    def __add__(self, other: Faces) -> Faces:
        return Faces(
            normal=np.concatenate([self.normal, other.normal]),
            colour=np.concatenate([self.colour, other.colour]),
            material=np.concatenate([self.material, other.material]),
            owner=np.concatenate([self.owner, other.owner]),
        )


class Geometry:
    """Some placed meshes, as an Embree scene plus face attributes."""

    def __init__(
        self, device: EmbreeDevice, meshes: list[Mesh], owners: list[int], places: list[NDArray]
    ) -> None:
        vertices, starts, count = [], [], 0
        for mesh, place in zip(meshes, places, strict=True):
            vertices.append(mesh.vertices @ place[:3, :3].T + place[:3, 3])
            starts.append(count)
            count += len(mesh.vertices)
        if not meshes:
            # Embree refuses an empty mesh; this one is where no ray goes.
            vertices, starts = [np.full((3, 3), -1e4, np.float32)], [0]
            tables = [np.array([[0, 1, 2]], np.int32)]
        else:
            tables = [m.faces + s for m, s in zip(meshes, starts, strict=True)]
        points = np.concatenate(vertices).astype(np.float32)
        faces = np.concatenate(tables).astype(np.int32)
        self._scene = EmbreeScene(device)
        self._mesh = TriangleMesh(self._scene, points, faces)
        a, b, c = (points[faces[:, i]] for i in range(3))
        normal = np.cross(b - a, c - a)
        normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
        empty = not meshes
        self.faces = Faces(
            normal=normal,
            colour=np.zeros((1, 3), np.float32) if empty
            else np.concatenate([m.colour for m in meshes]),
            material=np.zeros(1, np.int8) if empty
            else np.concatenate([m.material for m in meshes]),
            owner=np.full(1, SCENERY, np.int32) if empty
            else np.repeat(np.asarray(owners, np.int32), [len(m.faces) for m in meshes]),
        )  # fmt: skip

    def first(self, origins: NDArray, directions: NDArray) -> tuple[NDArray, NDArray]:
        """Triangle (-1 for none) and distance of the first hit of each ray."""
        answer = self._scene.run(origins, directions, output=True)
        return answer["primID"], answer["tfar"]

    def blocked(self, origins: NDArray, directions: NDArray) -> NDArray[np.bool_]:
        """Whether each ray meets anything."""
        return self._scene.run(origins, directions, query="OCCLUDED") != -1


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
        state: the moving actors near the car.
        faces: attributes of all triangles, what stands first.
    """

    def __init__(self, *, t: float, state: State, still: Geometry, live: Geometry) -> None:
        self.t, self.state = t, state
        self._still, self._live = still, live
        self._split = len(still.faces.owner)
        self.faces = still.faces + live.faces

    def cast(self, origin: NDArray, directions: NDArray[np.float32]) -> Hits:
        """First hits of rays from one origin [3] or one per ray [N, 3]."""
        origins = np.empty_like(directions)
        origins[:] = origin
        face, distance = self._still.first(origins, directions)
        live_face, live_distance = self._live.first(origins, directions)
        nearer = np.flatnonzero((live_face >= 0) & (live_distance < distance))
        face[nearer] = live_face[nearer] + self._split
        distance[nearer] = live_distance[nearer]
        face[face == -1] = NOTHING
        slope = directions[:, 2]
        with np.errstate(divide="ignore"):
            # Rays flatter than this meet the ground beyond a kilometre: haze.
            ground = np.where(slope < -1e-3, origins[:, 2] / -slope, _FAR)
        lower = (ground < distance) & (ground < _FAR)
        face[lower] = GROUND
        distance = np.minimum(ground, distance)
        distance[face == NOTHING] = _FAR
        return Hits(distance=distance, face=face)

    def blocked(self, origins: NDArray[np.float32], direction: NDArray) -> NDArray[np.bool_]:
        """Whether anything stands between each origin [N, 3] and infinity along one direction."""
        directions = np.empty_like(origins)
        directions[:] = direction
        hidden = self._still.blocked(origins, directions)
        rest = np.flatnonzero(~hidden)
        hidden[rest] = self._live.blocked(origins[rest], directions[rest])
        return hidden

    def owner(self, hits: Hits) -> NDArray[np.int32]:
        """[N] actor that each ray met, -1 for scenery, ground and sky."""
        owner = np.full(len(hits.face), SCENERY, np.int32)
        on = hits.face >= 0
        owner[on] = self.faces.owner[hits.face[on]]
        return owner


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
        still = np.flatnonzero(~scene.moving)
        xy, yaw = scene.place(0.0)
        heights = scene.sizes[:, 2] / 2
        meshes = [*scene.scenery, *(scene.actors[i].mesh for i in still)]
        owners = [SCENERY] * len(scene.scenery) + [int(i) for i in still]
        places = [np.eye(4, dtype=np.float32)] * len(scene.scenery)
        places += [placement(np.append(xy[i], heights[i]), yaw[i]) for i in still]
        self._still = Geometry(self._device, meshes, owners, places)

    def at(self, t: float, *, view: tuple[float, float] | None = None) -> Moment:
        """The world at t seconds after the first key frame.

        Args:
            t: seconds.
            view: heading in the ego frame and half the opening angle (radians) of the sensor that
                will look; what moves outside and is not close is left out, which saves time.
        """
        scene = self.scene
        state = scene.state(t, only=scene.moving)
        if view is not None:
            state = self._within(state, t, *view)
        live = Geometry(
            self._device,
            [scene.actors[i].mesh for i in state.index],
            [int(i) for i in state.index],
            [placement(p, y) for p, y in zip(state.position, state.yaw, strict=True)],
        )
        return Moment(t=t, state=state, still=self._still, live=live)

    def _within(self, state: State, t: float, heading: float, half: float) -> State:
        local_T_ego = self.scene.ego_pose(t)
        offset = state.position[:, :2] - local_T_ego[:2, 3]
        bearing = np.arctan2(offset[:, 1], offset[:, 0]) - geometry.yaw_of(local_T_ego) - heading
        distance = np.hypot(*offset.T)
        # Half a long vehicle, and the sensor is up to 4 m from the ego origin.
        slack = np.arcsin(np.clip(12 / np.maximum(distance, 1e-6), 0, 1))
        keep = (distance < NEAR) | (np.abs(geometry.wrap_angle(bearing)) < half + slack)
        return State(
            index=state.index[keep],
            position=state.position[keep],
            yaw=state.yaw[keep],
            velocity=state.velocity[keep],
        )
