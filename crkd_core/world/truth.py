"""What is annotated at a key frame: boxes near the car, how visible, how many returns inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.world import rig
from crkd_core.world.content.scene import Scene
from crkd_core.world.sensors.caster import Moment

#: Objects further from the car than this are not annotated, metres in the ground plane.
ANNOTATION_RANGE = 80.0
#: Points on the surface of an object that decide how much of it is seen.
PROBES = 24
#: Key frames that an annotator fills in between two in which an object was noticed.
GAP = 5
#: Share of an object that the cameras must see for it to be noticed without a LiDAR return.
GLIMPSE = 0.1


@dataclass(frozen=True, kw_only=True)
class Annotation:
    """One row of sample_annotation before it gets its tokens.

    Attributes:
        actor: index into ``Scene.actors``.
        translation: global x, y, z of the centre.
        rotation: global quaternion w, x, y, z.
        visible: fraction of the object that the six cameras see together.
        lidar, radar: returns of the key sweeps inside the box.
    """

    actor: int
    translation: list[float]
    rotation: list[float]
    visible: float
    lidar: int
    radar: int


def noticed(rows_by_key: Mapping[int, Sequence[Annotation]]) -> dict[int, list[Annotation]]:
    """What an annotator would write down of everything that is there, by key frame.

    An object counts where a LiDAR return or a glimpse of a camera shows it, and in gaps of up to
    GAP key frames between two such times. nuScenes too has no boxes of what nothing ever showed.
    """
    shown: dict[int, list[int]] = {}
    for k, rows in sorted(rows_by_key.items()):
        for row in rows:
            if row.lidar or row.visible >= GLIMPSE:
                shown.setdefault(row.actor, []).append(k)
    keep = {
        (actor, k)
        for actor, keys in shown.items()
        for first, last in pairwise([*keys, keys[-1]])
        for k in (range(first, last + 1) if last - first <= GAP + 1 else (first, last))
    }
    return {k: [row for row in rows if (row.actor, k) in keep] for k, rows in rows_by_key.items()}


def probe_points(vertices: NDArray, faces: NDArray, rng: np.random.Generator) -> NDArray:
    """[PROBES, 3] points on a mesh, by area, moved 2 mm inwards to the centre of the object."""
    a, b, c = (vertices[faces[:, i]] for i in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    pick = rng.choice(len(faces), PROBES, p=area.astype(float) / area.sum(dtype=float))
    weight = rng.dirichlet([1, 1, 1], PROBES)
    points = (np.stack([a, b, c], 1)[pick] * weight[..., None]).sum(1)
    return points - 0.002 * points / (np.linalg.norm(points, axis=1, keepdims=True) + 1e-9)


def count_inside(
    points: NDArray, center: NDArray, size: NDArray, yaw: float, *, flat: bool = False
) -> int:
    """How many points [P, 3] lie in a box; ``flat`` ignores height."""
    reach = np.hypot(size[0], size[1]) / 2
    offset = points[:, :2] - center[:2]
    near = np.flatnonzero((np.abs(offset[:, 0]) <= reach) & (np.abs(offset[:, 1]) <= reach))
    c, s = np.cos(yaw), np.sin(yaw)
    dx, dy = offset[near].T
    inside = np.abs(c * dx + s * dy) <= size[0] / 2
    inside &= np.abs(c * dy - s * dx) <= size[1] / 2
    if not flat:
        inside &= np.abs(points[near, 2] - center[2]) <= size[2] / 2
    return int(inside.sum())


def annotate(
    *,
    scene: Scene,
    moment: Moment,
    mounts: Sequence[rig.Mount],
    lidar: NDArray[np.float64],
    radar: NDArray[np.float64],
    rng: np.random.Generator,
) -> list[Annotation]:
    """The annotations of one key frame.

    Args:
        scene: the drive.
        moment: the world at the key frame's time.
        mounts: the six cameras.
        lidar: [P, 3] returns of the key sweep in the local frame.
        radar: [P, 3] returns of the five key sweeps in the local frame.
        rng: draws the probes of visibility.
    """
    state = scene.state(moment.t)
    local_T_ego = scene.ego_pose(moment.t)
    close = np.hypot(*(state.position[:, :2] - local_T_ego[:2, 3]).T) < ANNOTATION_RANGE
    rows = np.flatnonzero(close)
    seen = _seen(scene, moment, mounts, [int(r) for r in rows], rng)
    heading = geometry.yaw_of(scene.global_T_local)
    result = []
    for row, fraction in zip(rows, seen, strict=True):
        actor, center, yaw = int(state.index[row]), state.position[row], float(state.yaw[row])
        size = scene.sizes[actor]
        result.append(
            Annotation(
                actor=actor,
                translation=geometry.apply(scene.global_T_local, center).tolist(),
                rotation=geometry.yaw_to_quat_wxyz(geometry.wrap_angle(yaw + heading)).tolist(),
                visible=float(fraction),
                lidar=count_inside(lidar, center, size, yaw),
                radar=count_inside(radar, center, size, yaw, flat=True),
            )
        )
    return result


def _seen(
    scene: Scene,
    moment: Moment,
    mounts: Sequence[rig.Mount],
    rows: list[int],
    rng: np.random.Generator,
) -> NDArray[np.float64]:
    """[len(rows)] fraction of each object's probes that some camera sees.

    A probe counts as seen when the ray towards it meets the object first, wherever on it, so an
    object never hides itself.
    """
    state = scene.state(moment.t)
    if not rows:
        return np.zeros(0)
    probes = []
    for row in rows:
        mesh = scene.actors[state.index[row]].mesh
        points = probe_points(mesh.vertices, mesh.faces, rng)
        yaw = float(state.yaw[row])
        turn = geometry.quat_wxyz_to_matrix(geometry.yaw_to_quat_wxyz(yaw))
        probes.append(points @ turn.T + state.position[row])
    targets = np.concatenate(probes)
    owner = np.repeat(state.index[rows], PROBES)
    seen = np.zeros(len(targets), bool)
    local_T_ego = scene.ego_pose(moment.t)
    for mount in mounts:
        local_T_cam = local_T_ego @ mount.ego_T_sensor
        in_camera = geometry.apply(geometry.invert(local_T_cam), targets)
        depth = np.maximum(in_camera[:, 2], 1e-6)
        u, v, _ = (in_camera / depth[:, None] @ mount.intrinsics.T).T  # type: ignore[union-attr]
        inside = (in_camera[:, 2] > 0.1) & (np.abs(u / mount.width - 0.5) < 0.5)
        inside &= np.abs(v / mount.height - 0.5) < 0.5
        look = np.flatnonzero(inside & ~seen)
        if not len(look):
            continue
        rays = targets[look] - local_T_cam[:3, 3]
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        hits = moment.cast(local_T_cam[:3, 3].astype(np.float32), rays.astype(np.float32))
        seen[look] = moment.owner(hits) == owner[look]
    return seen.reshape(len(rows), PROBES).mean(1)
