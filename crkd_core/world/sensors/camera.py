"""Pictures: one ray per pixel, Lambert light, shadows, painted ground, sky, haze and noise."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.world import rig
from crkd_core.world.content.scene import Scene
from crkd_core.world.content.shapes import LEAF, WALL
from crkd_core.world.sensors.caster import GROUND, NOTHING, Moment

JPEG_QUALITY = 92
_STOREY, _BAY = 3.2, 2.6


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
        self._rays = pixel_rays(mount)
        weather = scene.weather
        up = np.clip(self._rays[:, 2:] * 2.2, 0, 1) ** 0.6
        sky = np.asarray(weather.horizon) * (1 - up) + np.asarray(weather.zenith) * up
        self._sky = sky.astype(np.float32)
        focal = float(mount.intrinsics[0, 0])  # type: ignore[index]
        self._pixel = np.float32(1 / focal)

    def render(self, moment: Moment, rng: np.random.Generator) -> NDArray[np.uint8]:
        """[H, W, 3] RGB picture at the time of the moment."""
        scene, weather = self.scene, self.scene.weather
        local_T_ego = scene.ego_pose(moment.t)
        origin = (local_T_ego @ self.mount.ego_T_sensor[:, 3])[:3].astype(np.float32)
        rays = self._rays @ local_T_ego[:3, :3].T.astype(np.float32)
        hits = moment.cast(origin, rays)
        seen = np.flatnonzero(hits.face != NOTHING)
        rays, distance, face = rays[seen], hits.distance[seen], hits.face[seen]
        points = rays * distance[:, None] + origin
        on = np.flatnonzero(face >= 0)
        ground = np.flatnonzero(face == GROUND)

        albedo = np.empty((len(seen), 3), np.float32)
        lean = np.float32(1) / np.maximum(-rays[ground, 2], np.float32(1e-3))
        albedo[ground] = scene.ground.colour(
            points[ground, 0], points[ground, 1], distance[ground] * self._pixel * np.sqrt(lean)
        )
        sun = weather.sun.astype(np.float32)
        facing = np.empty(len(seen), np.float32)
        facing[ground] = sun[2]
        up = np.ones(len(seen), np.float32)
        normal = moment.faces.normal[face[on]]
        toward = np.einsum("ij,ij->i", normal, rays[on])
        normal[toward > 0] *= -1
        facing[on] = normal @ sun
        up[on] = np.float32(0.75) + np.float32(0.25) * normal[:, 2]
        albedo[on] = _texture(moment, face[on], points[on], normal)

        light = np.maximum(facing, 0) * np.float32(weather.direct)
        lit = np.flatnonzero(light > 0.03)
        start = points[lit] + sun * np.float32(0.03)
        on_lit = face[lit] >= 0
        lift = np.zeros((len(seen), 3), np.float32)
        lift[on] = normal * np.float32(0.02)
        start[on_lit] += lift[lit[on_lit]]
        light[lit[moment.blocked(start, sun)]] = 0
        light += up * np.float32(weather.ambient)
        colour = albedo * light[:, None]
        clear = np.exp(distance * np.float32(-1 / weather.haze))[:, None]
        haze = np.asarray(weather.horizon, np.float32)
        colour = colour * clear + haze * (1 - clear)
        image = self._sky.copy()
        image[seen] = colour
        return self._develop(image, rng)

    def _develop(self, image: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.uint8]:
        """Colour in [0, 1] to grey levels, with sensor noise."""
        height, width = self.mount.height, self.mount.width
        image = image.reshape(height, width, 3) * np.float32(255)
        # A tile of noise at a drawn place: fresh noise for every pixel costs as much as the rays.
        tile = _NOISE * np.float32(self.scene.weather.noise)
        y, x = (int(k) for k in rng.integers(0, 64, 2))
        reps = (-(-height // 192), -(-width // 192))
        noise = np.tile(tile[y : y + 192, x : x + 192], (*reps, 1))[:height, :width]
        image += noise
        np.clip(image, 0, 255, out=image)
        return image.astype(np.uint8)


_NOISE = np.random.default_rng(7).normal(0, 1, (256, 256, 3)).astype(np.float32)


def _texture(
    moment: Moment, face: NDArray, points: NDArray[np.float32], normal: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Colours of hits on triangles: windows on walls, mottled leaves, gloss on glass."""
    colour = moment.faces.colour[face]
    material = moment.faces.material[face]
    wall = np.flatnonzero((material == WALL) & (np.abs(normal[:, 2]) < 0.5))
    if len(wall):
        p, n = points[wall], normal[wall]
        along = (p[:, 1] * n[:, 0] - p[:, 0] * n[:, 1]) / np.float32(_BAY)
        storey = p[:, 2] / np.float32(_STOREY)
        a, b = along - np.floor(along), storey - np.floor(storey)
        window = (a > 0.25) & (a < 0.75) & (b > 0.35) & (b < 0.8)
        pick = np.floor(along) * 7 + np.floor(storey) * 13
        shade = np.float32(0.12) + np.float32(0.05) * (pick % 4)
        pane = np.stack([shade, shade * np.float32(1.15), shade * np.float32(1.35)], 1)
        colour[wall] = np.where(window[:, None], pane, colour[wall])
    leaf = np.flatnonzero(material == LEAF)
    if len(leaf):
        cell = np.floor(points[leaf] * np.float32(3.5)).astype(np.int64)
        mix = (cell[:, 0] * 73856093) ^ (cell[:, 1] * 19349663) ^ (cell[:, 2] * 83492791)
        colour[leaf] *= (np.float32(0.6) + (mix % 17).astype(np.float32) / 20)[:, None]
    return colour


def encode_jpeg(image: NDArray[np.uint8]) -> bytes:
    """RGB picture to JPEG bytes."""
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1].tobytes()
