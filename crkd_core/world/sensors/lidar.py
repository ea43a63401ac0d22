"""LIDAR_TOP: 32 beams at the elevations of an HDL-32E, 1084 directions a turn, lost returns.

What comes back depends on what is hit: cloth and walls scatter, paint and metal mirror most of the
light away unless they face the sensor, glass and tyres swallow it. Far away the weak ones are lost
first, and rain takes some everywhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.world import rig
from crkd_core.world.content.scene import Scene
from crkd_core.world.content.shapes import (
    CLOTH,
    COACH,
    DARK,
    LEAF,
    LIGHT,
    METAL,
    PAINT,
    SIGNAL,
    WALL,
    WOOD,
)
from crkd_core.world.content.weather import RAIN
from crkd_core.world.sensors.bodies import Faces
from crkd_core.world.sensors.moment import Moment
from crkd_core.world.sensors.passing import Columns

BEAMS, STEPS = 32, 1084
LOWEST, HIGHEST = np.deg2rad(-30.67), np.deg2rad(10.67)
MAX_RANGE = 105.0
#: How far rays leave their column when the car pitches, radians.
_MARGIN = 0.04
RANGE_NOISE = 0.02

#: By material code, the ground last: intensity head on (0..255), share of returns kept head on,
#: what colour adds to it, exponent of the cosine of incidence, metres at which half is left.
_MATERIALS = {
    PAINT: (45, 0.14, 0.7, 0.6, 68),
    DARK: (6, 0.3, 0.0, 1.0, 45),
    CLOTH: (18, 1.0, 0.0, 0.0, 100),
    SIGNAL: (120, 0.75, 0.0, 0.2, 90),
    WALL: (30, 0.98, 0.0, 0.05, 78),
    LEAF: (14, 0.97, 0.0, 0.0, 75),
    WOOD: (20, 0.95, 0.0, 0.1, 80),
    METAL: (60, 0.45, 0.0, 0.5, 90),
    COACH: (40, 0.75, 0.25, 0.25, 110),
    LIGHT: (180, 0.9, 0.0, 0.2, 90),
    LIGHT + 1: (10, 0.98, 0.0, 0.02, 85),
}
_ECHO, _KEPT, _COLOUR, _SLANT, _HALF = np.array(
    [_MATERIALS[code] for code in range(len(_MATERIALS))], np.float32
).T
_GROUND = len(_MATERIALS) - 1
#: In rain: what is left of returns of the ground and of all else, rays that meet drops.
_WET_GROUND, _WET, _DROPS = np.float32(0.6), np.float32(0.84), 0.012


class Lidar:
    """The LiDAR of one drive."""

    def __init__(self, *, scene: Scene, mount: rig.Mount) -> None:
        self.scene, self.mount = scene, mount
        # The beam turns clockwise seen from above, starting at the back of the car; the rays are
        # kept in the other order, and files are written in that of the beam.
        azimuth = -np.pi + (np.arange(STEPS) + 0.5) * 2 * np.pi / STEPS
        self._columns = Columns(azimuth=azimuth, margin=_MARGIN)
        elevation = np.linspace(LOWEST, HIGHEST, BEAMS)
        a, e = np.meshgrid(azimuth - geometry.yaw_of(mount.ego_T_sensor), elevation, indexing="ij")
        rays = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1)
        self._rays = rays.reshape(-1, 3).astype(np.float32)
        self._ring = np.tile(np.arange(BEAMS, dtype=np.float32), STEPS)
        self._share: NDArray[np.float32] | None = None

    def sweep(self, moment: Moment, rng: np.random.Generator) -> NDArray[np.float32]:
        """[N, 5] x, y, z (metres, LIDAR_TOP frame), intensity 0..255, ring 0 (lowest)..31."""
        local_T_lidar = self.scene.ego_pose(moment.t) @ self.mount.ego_T_sensor
        rays = self._rays @ local_T_lidar[:3, :3].T.astype(np.float32)
        hits = moment.cast(local_T_lidar[:3, 3].astype(np.float32), rays, self._columns)
        rows = np.flatnonzero(hits.distance < MAX_RANGE)
        face, distance = hits.face[rows], hits.distance[rows]
        on = np.flatnonzero(face >= 0)
        code = np.full(len(rows), _GROUND)
        code[on] = moment.faces.material[face[on]]
        slant = -rays[rows, 2]
        slant[on] = np.abs(np.einsum("ij,ji->j", moment.normals(face[on]), rays[rows[on]]))
        slant = np.clip(slant, np.float32(1e-3), np.float32(1))
        share = np.full(len(rows), _KEPT[_GROUND])
        share[on] = self._head_on(moment.faces)[face[on]]
        share *= slant ** _SLANT[code]
        share /= 1 + np.square(np.square(distance / _HALF[code]))
        if self.scene.weather.kind == RAIN:
            # Drops on the way, and a wet road that mirrors the light away.
            share *= np.where(face < 0, _WET_GROUND, _WET)
        kept = np.flatnonzero(rng.random(len(rows), np.float32) < share)
        echo = _ECHO[code[kept]] * (np.float32(0.35) + np.float32(0.65) * slant[kept])
        intensity = np.clip(echo * rng.normal(1, 0.12, len(kept)), 0, 255).round()
        measured = distance[kept] + rng.normal(0, RANGE_NOISE, len(kept))
        points = self._rays[rows[kept]] * measured[:, None]
        sweep = np.column_stack([points, intensity, self._ring[rows[kept]]]).astype(np.float32)
        if self.scene.weather.kind == RAIN:
            sweep = np.concatenate([sweep, self._drops(hits.distance, rng)])
        return np.ascontiguousarray(sweep[::-1])

    def _head_on(self, faces: Faces) -> NDArray[np.float32]:
        """[F] share of returns kept from each triangle of the drive, near and head on."""
        if self._share is None:
            colour = faces.colour.mean(0)
            self._share = _KEPT[faces.material] + _COLOUR[faces.material] * colour
        return self._share

    def _drops(
        self, distance: NDArray[np.float32], rng: np.random.Generator
    ) -> NDArray[np.float32]:
        """[M, 5] faint echoes of rain and spray near the sensor."""
        rows = np.flatnonzero(rng.random(len(distance)) < _DROPS)
        near = rng.gamma(2.0, 2.2, len(rows)) + 1.0
        rows, near = rows[near < distance[rows]], near[near < distance[rows]]
        intensity = rng.integers(0, 4, len(rows))
        points = self._rays[rows] * near[:, None]
        return np.column_stack([points, intensity, self._ring[rows]]).astype(np.float32)
