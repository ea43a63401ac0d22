"""Triangles ready for rays: an Embree tree each for what stands and for every moving body.

Embree is called directly: trimesh's wrapper costs two to three times as much. A body's tree is
built once in the axes of its box, and rays are moved into these axes; to rebuild a tree for every
firing of a sensor costs more than all rays that meet it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from embreex.mesh_construction import TriangleMesh
from embreex.rtcore import EmbreeDevice
from embreex.rtcore_scene import EmbreeScene
from numpy.typing import NDArray

from crkd_core.world.content.shapes import Mesh


@dataclass(frozen=True, kw_only=True)
class Faces:
    """Of triangles: normal [3, F], colour [3, F], material [F], owner [F] (actor, or below 0)."""

    normal: NDArray[np.float32]
    colour: NDArray[np.float32]
    material: NDArray[np.int8]
    owner: NDArray[np.int32]


class Tree:
    """Some triangles as an Embree scene."""

    def __init__(self, device: EmbreeDevice, vertices: NDArray[Any], faces: NDArray[Any]) -> None:
        self._scene = EmbreeScene(device)
        self._mesh = TriangleMesh(
            self._scene, np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces)
        )

    def first(
        self, origins: NDArray[Any], directions: NDArray[Any]
    ) -> tuple[NDArray[Any], NDArray[Any]]:
        """Triangle (-1 for none) and distance of the first hit of each ray, float32 [N, 3]."""
        answer = self._scene.run(origins, directions, output=True)
        return answer["primID"], answer["tfar"]

    def blocked(self, origins: NDArray[Any], directions: NDArray[Any]) -> NDArray[np.bool_]:
        """Whether each ray meets anything."""
        return self._scene.run(origins, directions, query="OCCLUDED") != -1


def normals(vertices: NDArray[Any], faces: NDArray[Any]) -> NDArray[np.float32]:
    """[F, 3] unit normals."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    normal = np.cross(b - a, c - a)
    normal /= np.linalg.norm(normal, axis=1, keepdims=True) + 1e-12
    return normal.astype(np.float32)


def face_table(meshes: list[Mesh], owners: list[int], places: list[NDArray[Any]] | None) -> Faces:
    """Attributes of all triangles of meshes, one after the other; ``places`` [4, 4] turn them."""
    turned = [
        normals(m.vertices, m.faces) if places is None
        else normals(m.vertices @ places[i][:3, :3].T, m.faces)
        for i, m in enumerate(meshes)
    ]  # fmt: skip
    empty = [np.zeros((0, 3), np.float32)]
    return Faces(
        normal=np.ascontiguousarray(np.concatenate([*empty, *turned]).T),
        colour=np.ascontiguousarray(np.concatenate([*empty, *(m.colour for m in meshes)]).T),
        material=np.concatenate([np.zeros(0, np.int8), *(m.material for m in meshes)]),
        owner=np.repeat(np.asarray(owners, np.int32), [len(m.faces) for m in meshes]),
    )


def joined_faces(parts: list[Faces]) -> Faces:
    """Tables one after the other."""
    return Faces(
        normal=np.concatenate([p.normal for p in parts], 1),
        colour=np.concatenate([p.colour for p in parts], 1),
        material=np.concatenate([p.material for p in parts]),
        owner=np.concatenate([p.owner for p in parts]),
    )
