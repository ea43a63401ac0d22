"""Pictures: one ray per pixel, painted ground, shadows or lamps, wet roads, sky, haze."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.sensors import CAMERAS
from crkd_core.world import rig
from crkd_core.world.content.scene import Scene
from crkd_core.world.content.weather import RAIN
from crkd_core.world.sensors.lens import Lens
from crkd_core.world.sensors.moment import GROUND, Moment
from crkd_core.world.sensors.passing import Columns
from crkd_core.world.sensors.surfaces import Surfaces

#: Reflections on the wet road are traced for one pixel in so many, each way.
_COARSE = 4
#: Distance at which the smear of the view by the car's motion is judged, metres.
_SMEAR_AT = 14.0
#: How far rays leave their column when the car pitches, radians.
_MARGIN = 0.03


def pixel_rays(mount: rig.Mount) -> NDArray[np.float32]:
    """[H * W, 3] unit directions through the pixel centres, in ego axes."""
    assert mount.intrinsics is not None
    u, v = np.meshgrid(np.arange(mount.width), np.arange(mount.height))
    pixels = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3)
    rays = pixels @ np.linalg.inv(mount.intrinsics).T
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    return (rays @ mount.ego_T_sensor[:3, :3].T).astype(np.float32)


class Camera:
    """One camera of the rig in one drive.

    Args:
        scene: the drive.
        mount: the camera.
    """

    def __init__(self, *, scene: Scene, mount: rig.Mount) -> None:
        self.scene, self.mount = scene, mount
        # In columns from right to left, azimuth ascending, as the caster likes them; in planes.
        rays = pixel_rays(mount).reshape(mount.height, mount.width, 3)
        self._rays = self._flat(rays)
        azimuth = np.arctan2(self._rays[1], self._rays[0]).reshape(mount.width, -1)
        axis = np.arctan2(*mount.ego_T_sensor[1::-1, 2])
        azimuth = geometry.wrap_angle(azimuth - axis) + axis
        middle = np.maximum.accumulate(azimuth.mean(1))
        self._columns = Columns(
            azimuth=middle, margin=float(np.abs(azimuth - middle[:, None]).max()) + _MARGIN
        )
        self._sky = self._sky_colour(self._rays[2])
        self._focal = float(mount.intrinsics[0, 0])  # type: ignore[index]
        self._lens = Lens(
            weather=scene.weather,
            key=(scene.key, CAMERAS.index(mount.channel)),
            width=mount.width,
            height=mount.height,
        )
        rows, columns = np.meshgrid(
            np.arange(_COARSE // 2, mount.height, _COARSE),
            np.arange(_COARSE // 2, mount.width, _COARSE),
            indexing="ij",
        )
        self._coarse = (mount.width - 1 - columns) * mount.height + rows

    @staticmethod
    def _flat(image: NDArray[np.float32]) -> NDArray[np.float32]:
        """[H, W, 3] to planes in the order of the rays, [3, W * H]."""
        return np.ascontiguousarray(image[:, ::-1].transpose(2, 1, 0)).reshape(3, -1)

    def _image(self, planes: NDArray[np.float32]) -> NDArray[np.float32]:
        """The other way round."""
        columns = planes.reshape(3, self.mount.width, self.mount.height)
        upright = [np.ascontiguousarray(plane.T[:, ::-1]) for plane in columns]
        return np.asarray(cv2.merge(upright), np.float32)

    def _sky_colour(self, rise: NDArray[np.float32]) -> NDArray[np.float32]:
        """[3, N] by the sine of elevation [N]."""
        up = (np.clip(rise * np.float32(2.2), 0, 1) ** np.float32(0.6))[None]
        weather = self.scene.weather
        horizon, zenith = (
            np.asarray(c, np.float32)[:, None] for c in (weather.horizon, weather.zenith)
        )
        return horizon + (zenith - horizon) * up

    def render(self, moment: Moment, rng: np.random.Generator) -> NDArray[np.uint8]:
        """[H, W, 3] RGB picture at the time of the moment."""
        scene = self.scene
        local_T_ego = scene.ego_pose(moment.t)
        origin = (local_T_ego @ self.mount.ego_T_sensor[:, 3])[:3].astype(np.float32)
        rays = local_T_ego[:3, :3].astype(np.float32) @ self._rays
        hits = moment.cast(origin, np.ascontiguousarray(rays.T), self._columns)
        surfaces = Surfaces(scene, moment)
        image = self._sky.copy()
        for on_ground in (True, False):
            rows = (hits.face == GROUND if on_ground else hits.face >= 0).nonzero()[0]
            distance, there = hits.distance.take(rows), rays.take(rows, 1)
            points = there * distance
            points += origin[:, None]
            if on_ground:
                colour = surfaces.ground(there, distance, points, 1 / self._focal)
                if scene.weather.kind == RAIN:
                    self._mirror(moment, colour, there, rows, points)
            else:
                colour = surfaces.things(hits.face.take(rows), there, distance, points)
            clear = np.exp(distance * np.float32(-1 / scene.weather.haze))
            for plane, part, haze in zip(image, colour, scene.weather.horizon, strict=True):
                part -= np.float32(haze)
                part *= clear
                part += np.float32(haze)
                plane[rows] = part
        return self._lens.develop(self._image(image), moment.t, self._smear(moment.t), rng)

    def _mirror(
        self, moment: Moment, colour: NDArray[np.float32], rays: NDArray[np.float32],
        ground: NDArray[Any], points: NDArray[np.float32],
    ) -> None:  # fmt: skip
        """Darken the wet ground in ``colour`` and add what mirrors in it, traced coarsely.

        Args:
            moment: the time.
            colour: [3, N] of the ground; is changed.
            rays: [3, N] towards it.
            ground: [N] numbers of these rays.
            points: [3, N] where they end.
        """
        row_of = np.full(self._rays.shape[1], -1)
        row_of[ground] = np.arange(len(ground))
        rows = row_of[self._coarse]
        traced = rows >= 0
        if not traced.any():
            return
        rows = rows[traced]
        up = rays.take(rows, 1).T * np.array([1, 1, -1], np.float32)
        start = points.take(rows, 1).T + np.array([0, 0, 0.05], np.float32)
        hits = moment.cast(np.ascontiguousarray(start), np.ascontiguousarray(up))
        mirrored = self._sky_colour(up[:, 2])
        on = np.flatnonzero(hits.face >= 0)
        ambient = np.float32(self.scene.weather.ambient)
        mirrored[:, on] = moment.faces.colour.take(hits.face[on], 1) * ambient
        coarse = np.zeros((*traced.shape, 4), np.float32)
        coarse[traced, :3] = mirrored.T
        coarse[traced, 3] = 1
        # Ripples smear reflections up and down; edges are where nothing was traced.
        small = np.asarray(cv2.blur(coarse, (1, 5)), np.float32)
        small = small[..., :3] / np.maximum(small[..., 3:], np.float32(0.05))
        size = (self.mount.width, self.mount.height)
        whole = self._flat(np.asarray(cv2.resize(small, size), np.float32)).take(ground, 1)
        share = np.float32(0.05) + np.float32(0.62) * (1 + rays[2]) ** 6
        # Grass soaks water up instead of mirroring.
        share[colour[1] > np.float32(1.08) * colour[0]] *= np.float32(0.15)
        colour *= np.float32(0.62) - np.float32(0.3) * share
        whole *= share
        colour += whole

    def _smear(self, t: float) -> float:
        """Pixels that things at the side move while the shutter is open."""
        velocity, rate = self.scene.ego_velocity(t)
        axis = self.mount.ego_T_sensor[:2, 2]
        speed = float(np.hypot(*velocity))
        sideways = abs(speed * float(axis[1])) / _SMEAR_AT + abs(rate)
        return sideways * self.scene.weather.shutter * self._focal
