"""What is annotated at a key frame: boxes near the car, how visible, how many returns inside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.world import rig
from crkd_core.world.content.scene import Scene
from crkd_core.world.sensors.moment import Moment

#: Objects further from the car than this are not annotated, metres in the ground plane.
ANNOTATION_RANGE = 80.0
#: Points on the surface of an object that decide how much of it is seen.
PROBES = 24
#: What is slower counts as standing, m/s.
STANDING = 0.25
_STANDING = {"vehicle.moving": "vehicle.stopped", "pedestrian.moving": "pedestrian.standing"}
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
        attribute: name of its attribute at that time, empty for none.
        visible: fraction of the object that the six cameras see together.
        lidar, radar: returns of the key sweeps inside the box.
    """

    actor: int
    translation: list[float]
    rotation: list[float]
    attribute: str
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


def attribute_of(name: str, speed: float) -> str:
    """The attribute of an object: what moves by nature has another one while it stands."""
    return _STANDING.get(name, name) if speed < STANDING else name


def count_inside(
    points: NDArray[Any],
    centers: NDArray[Any],
    sizes: NDArray[Any],
    yaws: NDArray[Any],
    *,
    flat: bool = False,
) -> NDArray[np.int64]:
    """[B] how many points [P, 3] lie in each of B boxes; ``flat`` ignores height."""
    points = points[np.argsort(points[:, 0], kind="stable")]
    reach = np.hypot(sizes[:, 0], sizes[:, 1]) / 2
    low = np.searchsorted(points[:, 0], centers[:, 0] - reach)
    high = np.searchsorted(points[:, 0], centers[:, 0] + reach, side="right")
    cosine, sine = np.cos(yaws), np.sin(yaws)
    counts = np.zeros(len(centers), np.int64)
    for i in np.flatnonzero(high > low):
        near = points[low[i] : high[i]]
        dx, dy = near[:, 0] - centers[i, 0], near[:, 1] - centers[i, 1]
        inside = np.abs(cosine[i] * dx + sine[i] * dy) <= sizes[i, 0] / 2
        inside &= np.abs(cosine[i] * dy - sine[i] * dx) <= sizes[i, 1] / 2
        if not flat:
            inside &= np.abs(near[:, 2] - centers[i, 2]) <= sizes[i, 2] / 2
        counts[i] = np.count_nonzero(inside)
    return counts


class Annotator:
    """Writes down what is around the car in one drive.

    Args:
        scene: the drive.
        mounts: the cameras.
    """

    def __init__(self, *, scene: Scene, mounts: Sequence[rig.Mount]) -> None:
        self.scene, self._mounts = scene, mounts
        self._probes: dict[int, NDArray[np.float64]] = {}

    def annotate(
        self, moment: Moment, *, lidar: NDArray[np.float64], radar: NDArray[np.float64]
    ) -> list[Annotation]:
        """Everything near at a key frame, also what nothing shows (see ``noticed``).

        Args:
            moment: the world at the key frame's time.
            lidar: [P, 3] returns of the key sweep in the local frame.
            radar: [P, 3] returns of the five key sweeps in the local frame.
        """
        scene, state = self.scene, self.scene.state(moment.t)
        local_T_ego = scene.ego_pose(moment.t)
        close = np.hypot(*(state.position[:, :2] - local_T_ego[:2, 3]).T) < ANNOTATION_RANGE
        rows = np.flatnonzero(close)
        index, center, yaw = state.index[rows], state.position[rows], state.yaw[rows]
        size, speed = scene.sizes[index], np.hypot(*state.velocity[rows].T)
        seen = self._seen(moment, index, center, yaw)
        in_lidar = count_inside(lidar, center, size, yaw)
        in_radar = count_inside(radar, center, size, yaw, flat=True)
        heading = geometry.yaw_of(scene.global_T_local)
        place = geometry.apply(scene.global_T_local, center)
        turn = geometry.yaw_to_quat_wxyz(geometry.wrap_angle(yaw + heading))
        return [
            Annotation(
                actor=int(actor),
                translation=place[i].tolist(),
                rotation=turn[i].tolist(),
                attribute=attribute_of(scene.actors[actor].attribute, float(speed[i])),
                visible=float(seen[i]),
                lidar=int(in_lidar[i]),
                radar=int(in_radar[i]),
            )
            for i, actor in enumerate(index)
        ]

    def _probes_of(self, actor: int) -> NDArray[np.float64]:
        """[PROBES, 3] points on a mesh, by area, moved 2 mm inwards to the centre of the object.

        Drawn once for every object, from its number.
        """
        if actor not in self._probes:
            mesh = self.scene.actors[actor].mesh
            rng = np.random.default_rng([self.scene.key, 3, actor])
            a, b, c = (mesh.vertices[mesh.faces[:, i]] for i in range(3))
            area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
            pick = rng.choice(len(area), PROBES, p=area.astype(float) / area.sum(dtype=float))
            weight = rng.dirichlet([1, 1, 1], PROBES)
            points = (np.stack([a, b, c], 1)[pick] * weight[..., None]).sum(1)
            inward = points / (np.linalg.norm(points, axis=1, keepdims=True) + 1e-9)
            self._probes[actor] = points - 0.002 * inward
        return self._probes[actor]

    def _seen(
        self, moment: Moment, index: NDArray[Any], center: NDArray[Any], yaw: NDArray[Any]
    ) -> NDArray[np.float64]:
        """[N] fraction of each object's probes that some camera sees.

        A probe counts as seen when the ray towards it meets the object first, wherever on it, so
        an object never hides itself.
        """
        if not len(index):
            return np.zeros(0)
        probes = np.stack([self._probes_of(int(actor)) for actor in index])
        c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
        x = c * probes[..., 0] - s * probes[..., 1]
        y = s * probes[..., 0] + c * probes[..., 1]
        targets = (np.stack([x, y, probes[..., 2]], -1) + center[:, None]).reshape(-1, 3)
        owner = np.repeat(index, PROBES)
        seen = np.zeros(len(targets), bool)
        local_T_ego = self.scene.ego_pose(moment.t)
        for mount in self._mounts:
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
        return seen.reshape(len(index), PROBES).mean(1)
