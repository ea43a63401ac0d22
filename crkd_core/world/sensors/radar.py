"""Radars: a few returns of what a fan of rays can see, with radial velocities, and clutter.

The fan covers +-60 degrees in azimuth and a few degrees in elevation; height is not measured (z is
0 in the radar frame). An object answers with a number of points that grows with its size and
echo, or not at all when it is weak and far. Columns are RADAR_FIELDS.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import CLASS_NAMES
from crkd_core.sensors import RADAR_COLUMN, RADAR_COMPENSATED, RADAR_FIELDS, RADAR_VELOCITY
from crkd_core.world import rig
from crkd_core.world.content.scene import Scene
from crkd_core.world.sensors.caster import GROUND, SCENERY, Moment

FIELD_OF_VIEW = np.deg2rad(60.0)
MAX_RANGE = 120.0
AZIMUTHS = 361
ELEVATIONS = np.deg2rad([-4.0, -2.0, -0.7, 0.6, 2.2, 4.0])
RANGE_NOISE = 0.12
AZIMUTH_NOISE = np.deg2rad(0.6)
SPEED_NOISE = 0.08

#: Mean radar cross-section by class, dBsm, and the most points an object gives in one sweep.
RCS = dict(
    zip(CLASS_NAMES, (10.0, 16.0, 18.0, 17.0, 14.0, -3.0, 4.0, 0.0, -7.0, 3.0), strict=True)
)
MOST_POINTS = dict(zip(CLASS_NAMES, (4, 6, 8, 8, 5, 2, 2, 2, 1, 2), strict=True))
_RCS = np.array([*RCS.values(), 5.0])
_MOST = np.array([*MOST_POINTS.values(), 1])


class Radar:
    """One radar of one drive."""

    def __init__(self, *, scene: Scene, mount: rig.Mount) -> None:
        self.scene, self.mount = scene, mount
        azimuth = np.linspace(-FIELD_OF_VIEW, FIELD_OF_VIEW, AZIMUTHS)
        a, e = np.meshgrid(azimuth, ELEVATIONS, indexing="ij")
        rays = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1)
        self._rays = rays.reshape(-1, 3).astype(np.float32)
        self._azimuth = a.ravel()

    def sweep(self, moment: Moment, rng: np.random.Generator) -> NDArray[np.float32]:
        """[N, 18] points in the radar frame at the time of the moment."""
        scene, t = self.scene, moment.t
        local_T_radar = scene.ego_pose(t) @ self.mount.ego_T_sensor
        rays = self._rays @ local_T_radar[:3, :3].T.astype(np.float32)
        hits = moment.cast(local_T_radar[:3, 3].astype(np.float32), rays)
        owner = moment.owner(hits)
        far = hits.distance > MAX_RANGE
        chosen, rcs = self._objects(np.where(far, SCENERY, owner), hits.distance, rng)
        echo = np.flatnonzero((owner == SCENERY) & (hits.face >= 0) & ~far)
        walls = rng.choice(echo, min(len(echo), int(rng.poisson(14))), replace=False)
        soil = np.flatnonzero((hits.face == GROUND) & (hits.distance < 60))
        soil = rng.choice(soil, min(len(soil), int(rng.poisson(2.5))), replace=False)
        pick = np.concatenate([chosen, walls, soil]).astype(int)
        rcs = np.concatenate([rcs, rng.normal(4, 5, len(walls)), rng.normal(-6, 3, len(soil))])
        distance, azimuth = hits.distance[pick].astype(float), self._azimuth[pick].copy()
        # Distance is measured along the ground: the radar knows no height.
        distance *= np.hypot(self._rays[pick, 0], self._rays[pick, 1])
        velocity = self._velocities(owner[pick], moment, local_T_radar)
        ghost = rng.random(len(pick)) < 0.02
        distance[ghost] = rng.uniform(2, MAX_RANGE, int(ghost.sum()))
        distance += rng.normal(0, RANGE_NOISE, len(pick))
        azimuth += rng.normal(0, AZIMUTH_NOISE, len(pick))
        order = np.argsort(distance, kind="stable")
        return self._table(
            distance[order], azimuth[order], velocity[order], rcs[order], ghost[order],
            t, rng,
        )  # fmt: skip

    def _objects(
        self, owner: NDArray, distance: NDArray, rng: np.random.Generator
    ) -> tuple[NDArray, NDArray]:
        """Rays that answer, and the echo of each: a few per object that is strong enough."""
        rays: list[NDArray] = []
        echoes: list[NDArray] = []
        order = np.argsort(owner, kind="stable")
        actors, starts, counts = np.unique(owner[order], return_index=True, return_counts=True)
        for actor, start, count in zip(actors, starts, counts, strict=True):
            if actor == SCENERY:
                continue
            mine = order[start : start + count]
            label = self.scene.labels[actor]
            rcs = _RCS[label] + rng.normal(0, 3.0)
            margin = rcs + 7 - 40 * np.log10(max(float(distance[mine].min()), 3.0) / 40)
            if rng.random() > 1 / (1 + np.exp(-margin / 4)):
                continue
            wanted = 1 + rng.binomial(
                _MOST[label] - 1, 0.5 / (1 + np.exp(-(margin - 8) / 6)) + 0.1
            )
            some = rng.choice(mine, min(count, wanted), replace=False)
            rays.append(some)
            echoes.append(rcs + rng.normal(0, 2.0, len(some)))
        if not rays:
            return np.zeros(0, int), np.zeros(0)
        return np.concatenate(rays), np.concatenate(echoes)

    def _velocities(self, owner: NDArray, moment: Moment, local_T_radar: NDArray) -> NDArray:
        """[N, 2] velocity over ground of what each ray met, radar axes."""
        table = np.zeros((len(self.scene.actors) + 1, 2))
        table[moment.state.index] = moment.state.velocity
        return geometry.rotate(geometry.invert(local_T_radar), table[owner])

    def own_velocity(self, t: float) -> NDArray[np.float64]:
        """[2] velocity of the radar over ground, radar axes: the ego's plus the lever arm."""
        velocity, rate = self.scene.ego_velocity(t)
        local_T_ego = self.scene.ego_pose(t)
        arm = (local_T_ego[:3, :3] @ self.mount.ego_T_sensor[:3, 3])[:2]
        velocity = velocity + rate * np.array([-arm[1], arm[0]])
        return geometry.rotate(geometry.invert(local_T_ego @ self.mount.ego_T_sensor), velocity)

    def _table(
        self, distance: NDArray, azimuth: NDArray, velocity: NDArray, rcs: NDArray,
        ghost: NDArray, t: float, rng: np.random.Generator,
    ) -> NDArray[np.float32]:  # fmt: skip
        n = len(distance)
        along = np.stack([np.cos(azimuth), np.sin(azimuth)], 1)
        over_ground = (velocity * along).sum(1) + rng.normal(0, SPEED_NOISE, n)
        over_ground[ghost] += rng.normal(0, 3, int(ghost.sum()))
        relative = over_ground - along @ self.own_velocity(t)
        out, column = np.zeros((n, len(RADAR_FIELDS))), RADAR_COLUMN
        out[:, :2] = along * distance[:, None]
        speed = np.abs(over_ground)
        # 0 moving, 1 stationary, 2 oncoming, 3 stationary candidate (conventions of the sensor).
        dynamics = np.where(speed > 0.6, np.where(over_ground < 0, 2, 0), 1)
        dynamics[(speed <= 0.6) & (rng.random(n) < 0.15)] = 3
        out[:, column["dyn_prop"]] = dynamics
        out[:, column["id"]] = np.arange(n)
        out[:, column["rcs"]] = np.rint(rcs * 2) / 2
        out[:, RADAR_VELOCITY] = along * relative[:, None]
        out[:, RADAR_COMPENSATED] = along * over_ground[:, None]
        out[:, column["is_quality_valid"]] = rng.random(n) < 0.97
        out[:, column["ambig_state"]] = np.where(rng.random(n) < 0.96, 3, rng.integers(1, 5, n))
        out[:, column["x_rms"]] = np.clip(np.rint(14 + distance / 15), 0, 31)
        out[:, column["y_rms"]] = np.clip(np.rint(14 + distance / 12), 0, 31)
        out[:, column["invalid_state"]] = np.where(
            rng.random(n) < 0.96, 0, rng.choice([4, 8, 11, 16, 17], n)
        )
        out[:, column["pdh0"]] = np.where(ghost, rng.integers(2, 6, n), 1)
        out[:, column["vx_rms"]], out[:, column["vy_rms"]] = 16, 3
        return out.astype(np.float32)
