"""Pictures: one ray per pixel, painted ground, shadows or lamps, wet roads, sky, haze."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.sensors import CAMERAS
from crkd_core.world import rig
from crkd_core.world.content.scene import Scene
from crkd_core.world.content.shapes import LEAF, LIGHT, WALL
from crkd_core.world.content.weather import RAIN
from crkd_core.world.sensors import light
from crkd_core.world.sensors.caster import GROUND, NOTHING, Columns, Moment
from crkd_core.world.sensors.lens import Lens

_STOREY, _BAY = 3.2, 2.6
_PANE = np.array([1.0, 1.15, 1.35], np.float32)
#: Reflections on the wet road are traced for one pixel in so many, each way.
_COARSE = 4
#: How bright burning lamps are.
_GLOW = np.float32(2.4)
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
        # In columns from right to left, azimuth ascending, as the caster likes them.
        self._rays = self._flat(pixel_rays(mount).reshape(mount.height, mount.width, 3))
        azimuth = np.arctan2(self._rays[:, 1], self._rays[:, 0]).reshape(mount.width, -1)
        axis = np.arctan2(*mount.ego_T_sensor[1::-1, 2])
        azimuth = geometry.wrap_angle(azimuth - axis) + axis
        middle = np.maximum.accumulate(azimuth.mean(1))
        self._columns = Columns(
            azimuth=middle, margin=float(np.abs(azimuth - middle[:, None]).max()) + _MARGIN
        )
        self._sky = self._sky_colour(self._rays[:, 2:])
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
        """[H, W, 3] to the order of the rays, [W * H, 3]."""
        return np.ascontiguousarray(image[:, ::-1].transpose(1, 0, 2)).reshape(-1, 3)

    def _image(self, flat: NDArray[np.float32]) -> NDArray[np.float32]:
        """The other way round."""
        columns = flat.reshape(self.mount.width, self.mount.height, 3)
        return np.ascontiguousarray(columns.transpose(1, 0, 2)[:, ::-1])

    def _sky_colour(self, rise: NDArray[np.float32]) -> NDArray[np.float32]:
        """[N, 3] by the sine of elevation [N, 1]."""
        up = np.clip(rise * 2.2, 0, 1) ** 0.6
        weather = self.scene.weather
        sky = np.asarray(weather.horizon) * (1 - up) + np.asarray(weather.zenith) * up
        return sky.astype(np.float32)

    def render(self, moment: Moment, rng: np.random.Generator) -> NDArray[np.uint8]:
        """[H, W, 3] RGB picture at the time of the moment."""
        scene = self.scene
        local_T_ego = scene.ego_pose(moment.t)
        origin = (local_T_ego @ self.mount.ego_T_sensor[:, 3])[:3].astype(np.float32)
        rays = self._rays @ local_T_ego[:3, :3].T.astype(np.float32)
        hits = moment.cast(origin, rays, self._columns)
        seen = np.flatnonzero(hits.face != NOTHING)
        distance, face = hits.distance[seen], hits.face[seen]
        rays = rays[seen]
        points = rays * distance[:, None] + origin
        image = self._sky.copy()
        colour = self._surface(moment, local_T_ego, rays, distance, face, points)
        if scene.weather.kind == RAIN:
            self._mirror(moment, colour, rays, seen, points, face == GROUND)
        clear = np.exp(distance * np.float32(-1 / scene.weather.haze))[:, None]
        colour *= clear
        colour += np.asarray(scene.weather.horizon, np.float32) * (1 - clear)
        image[seen] = colour
        return self._lens.develop(self._image(image), moment.t, self._smear(moment.t), rng)

    def _surface(
        self, moment: Moment, local_T_ego: NDArray, rays: NDArray[np.float32],
        distance: NDArray[np.float32], face: NDArray, points: NDArray[np.float32],
    ) -> NDArray[np.float32]:  # fmt: skip
        """[N, 3] light that comes from what the rays met."""
        scene = self.scene
        on, ground = np.flatnonzero(face >= 0), np.flatnonzero(face == GROUND)
        albedo = np.empty((len(face), 3), np.float32)
        lean = np.float32(1) / np.maximum(-rays[ground, 2], np.float32(1e-3))
        albedo[ground] = scene.ground.colour(
            points[ground, 0], points[ground, 1],
            distance[ground] * np.float32(1 / self._focal) * np.sqrt(lean),
        )  # fmt: skip
        normal = np.zeros((len(face), 3), np.float32)
        normal[ground, 2] = 1
        outward = moment.normals(face[on])
        outward[np.einsum("ij,ij->i", outward, rays[on]) > 0] *= -1
        normal[on] = outward
        albedo[on], glow = self._texture(moment, face[on], points[on], outward)
        if glow is None:
            lit = light.daylight(scene, moment, points, normal, distance, face == GROUND)
            albedo *= lit[:, None]
            return albedo
        albedo *= light.lamplight(scene, moment.t, local_T_ego, points, normal)
        albedo[on] += glow
        return albedo

    def _texture(
        self, moment: Moment, face: NDArray, points: NDArray[np.float32],
        normal: NDArray[np.float32],
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:  # fmt: skip
        """Colours of hits on triangles, [N, 3], and what glows by itself at night."""
        colour = moment.faces.colour[face]
        material = moment.faces.material[face]
        glow = np.zeros_like(colour) if light.is_night(self.scene) else None
        if glow is not None:
            lit = (material == LIGHT) & self.scene.lit[moment.faces.owner[face]]
            glow[lit] = colour[lit] * _GLOW
        wall = np.flatnonzero((material == WALL) & (np.abs(normal[:, 2]) < 0.5))
        if len(wall):
            p, n = points[wall], normal[wall]
            along = (p[:, 1] * n[:, 0] - p[:, 0] * n[:, 1]) / np.float32(_BAY)
            storey = p[:, 2] / np.float32(_STOREY)
            bay, floor = np.floor(along), np.floor(storey)
            a, b = along - bay, storey - floor
            window = ((a > 0.25) & (a < 0.75) & (b > 0.35) & (b < 0.8)).nonzero()[0]
            pick = bay[window].astype(np.int32) * 7 + floor[window].astype(np.int32) * 13
            shade = np.float32(0.12) + np.float32(0.05) * (pick % 4).astype(np.float32)
            colour[wall[window]] = shade[:, None] * _PANE
            if glow is not None:
                home = wall[window[pick % 6 == 1]]
                glow[home] = np.array([0.5, 0.38, 0.2], np.float32)  # type: ignore[index]
        leaf = np.flatnonzero(material == LEAF)
        if len(leaf):
            cell = np.floor(points[leaf] * np.float32(3.5)).astype(np.int64)
            mix = (cell[:, 0] * 73856093) ^ (cell[:, 1] * 19349663) ^ (cell[:, 2] * 83492791)
            colour[leaf] *= (np.float32(0.6) + (mix % 17).astype(np.float32) / 20)[:, None]
        return colour, glow

    def _mirror(
        self, moment: Moment, colour: NDArray[np.float32], rays: NDArray[np.float32],
        seen: NDArray, points: NDArray[np.float32], ground: NDArray[np.bool_],
    ) -> None:  # fmt: skip
        """Darken the wet ground in ``colour`` and add what mirrors in it, traced coarsely."""
        row_of = np.full(len(self._rays), -1)
        row_of[seen[ground]] = np.flatnonzero(ground)
        rows = row_of[self._coarse]
        traced = rows >= 0
        if not traced.any():
            return
        rows = rows[traced]
        up = rays[rows] * np.array([1, 1, -1], np.float32)
        hits = moment.cast(points[rows] + np.array([0, 0, 0.05], np.float32), up)
        mirrored = self._sky_colour(up[:, 2:])
        on = np.flatnonzero(hits.face >= 0)
        mirrored[on] = moment.faces.colour[hits.face[on]] * np.float32(self.scene.weather.ambient)
        coarse = np.zeros((*traced.shape, 4), np.float32)
        coarse[traced, :3] = mirrored
        coarse[traced, 3] = 1
        # Ripples smear reflections up and down; edges are where nothing was traced.
        small = np.asarray(cv2.blur(coarse, (1, 5)), np.float32)
        small = small[..., :3] / np.maximum(small[..., 3:], np.float32(0.05))
        size = (self.mount.width, self.mount.height)
        whole = self._flat(np.asarray(cv2.resize(small, size), np.float32))[seen[ground]]
        grazing = 1 + rays[ground, 2]
        share = (np.float32(0.05) + np.float32(0.62) * grazing**6)[:, None]
        # Grass soaks water up instead of mirroring.
        share[colour[ground, 1] > np.float32(1.08) * colour[ground, 0]] *= np.float32(0.15)
        colour[ground] = colour[ground] * (np.float32(0.62) - np.float32(0.3) * share)
        colour[ground] += whole * share

    def _smear(self, t: float) -> float:
        """Pixels that things at the side move while the shutter is open."""
        velocity, rate = self.scene.ego_velocity(t)
        axis = self.mount.ego_T_sensor[:2, 2]
        speed = float(np.hypot(*velocity))
        sideways = abs(speed * float(axis[1])) / _SMEAR_AT + abs(rate)
        return sideways * self.scene.weather.shutter * self._focal
