"""Makes the moments of one drive: its triangles and shadows once, what moves for each time."""

from __future__ import annotations

from typing import Any

import numpy as np
from embreex.rtcore import EmbreeDevice
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.world.content.scene import Scene
from crkd_core.world.sensors.bodies import Tree, face_table, joined_faces
from crkd_core.world.sensors.moment import SCENERY, Moment
from crkd_core.world.sensors.passing import Bodies
from crkd_core.world.sensors.shadows import GroundShadows

#: The ground ends here, metres from the drive: haze.
HAZE = 900.0


def placement(position: NDArray[Any], yaw: float) -> NDArray[np.float32]:
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
        turns = np.zeros((2, len(scene.actors) + 1), np.float32)
        turns[0] = 1
        turns[:, index] = c, s
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
