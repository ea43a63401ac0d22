"""LIDAR_TOP: 32 beams, 1080 directions per turn, intensity by material, range noise, drop-outs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd_core.world import rig
from crkd_core.world.content.scene import Scene
from crkd_core.world.content.shapes import CLOTH, DARK, LEAF, METAL, PAINT, SIGNAL, WALL, WOOD
from crkd_core.world.sensors.caster import Moment

BEAMS, STEPS = 32, 1080
LOWEST, HIGHEST = np.deg2rad(-30.67), np.deg2rad(10.67)
MAX_RANGE = 100.0
RANGE_NOISE = 0.02

#: Intensity (0..255) of a surface seen head on, by material code; the ground comes last.
_ECHO = np.zeros(9, np.float32)
_ECHO[[PAINT, DARK, CLOTH, SIGNAL, WALL, LEAF, WOOD, METAL]] = (45, 6, 18, 120, 30, 14, 20, 60)
_ECHO[8] = 10


class Lidar:
    """The LiDAR of one drive."""

    def __init__(self, *, scene: Scene, mount: rig.Mount) -> None:
        self.scene, self.mount = scene, mount
        # The beam turns clockwise seen from above, starting at the back of the car.
        azimuth = -np.pi / 2 - np.arange(STEPS) * 2 * np.pi / STEPS
        elevation = np.linspace(LOWEST, HIGHEST, BEAMS)
        a, e = np.meshgrid(azimuth, elevation, indexing="ij")
        rays = np.stack([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)], -1)
        self._rays = rays.reshape(-1, 3).astype(np.float32)
        self._ring = np.tile(np.arange(BEAMS, dtype=np.float32), STEPS)

    def sweep(self, moment: Moment, rng: np.random.Generator) -> NDArray[np.float32]:
        """[N, 5] x, y, z (metres, LIDAR_TOP frame), intensity 0..255, ring 0 (lowest)..31."""
        local_T_lidar = self.scene.ego_pose(moment.t) @ self.mount.ego_T_sensor
        rays = self._rays @ local_T_lidar[:3, :3].T.astype(np.float32)
        hits = moment.cast(local_T_lidar[:3, 3].astype(np.float32), rays)
        on = hits.face >= 0
        face = np.where(on, hits.face, 0)
        code = np.where(on, moment.faces.material[face], 8)
        normal = moment.faces.normal[face]
        slant = np.abs(np.where(on, np.einsum("ij,ij->i", normal, rays), rays[:, 2]))
        echo = _ECHO[code] * (np.float32(0.35) + np.float32(0.65) * slant)
        # Weak echoes are lost first, and far away more are; rain takes another part.
        strength = (0.1 + echo / 25) * (70 / np.maximum(hits.distance, 1)) ** 2
        wet = 0.12 if self.scene.weather.name == "Rain" else 0.01
        draw = rng.random(len(echo), np.float32)
        kept = (hits.distance < MAX_RANGE) & (draw > wet) & (draw - wet < strength)
        distance = hits.distance[kept] + rng.normal(0, RANGE_NOISE, int(kept.sum()))
        intensity = np.clip(echo[kept] * rng.normal(1, 0.12, len(distance)), 0, 255).round()
        points = self._rays[kept] * distance[:, None]
        return np.column_stack([points, intensity, self._ring[kept]]).astype(np.float32)
