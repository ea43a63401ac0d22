"""What light comes from the ground and from the triangles that rays meet.

Everything per ray is kept in planes, [3, N]: NumPy works on long rows several times as fast as on
many rows of three.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.world.content.scene import Scene
from crkd_core.world.content.shapes import LEAF, LIGHT, WALL
from crkd_core.world.sensors import light
from crkd_core.world.sensors.moment import Moment

_STOREY, _BAY = 3.2, 2.6
_PANE = np.array([1.0, 1.15, 1.35], np.float32)[:, None]
#: Light from a window behind which somebody is at home.
_HOME = np.array([0.5, 0.38, 0.2], np.float32)[:, None]
#: How bright burning lamps are.
_GLOW = np.float32(2.4)


class Surfaces:
    """What a drive looks like at one time.

    Args:
        scene: the drive.
        moment: the time.
    """

    def __init__(self, scene: Scene, moment: Moment) -> None:
        self._scene, self._moment = scene, moment
        self._night = light.is_night(scene)

    def ground(
        self, rays: NDArray[np.float32], distance: NDArray[np.float32],
        points: NDArray[np.float32], pixel: float,
    ) -> NDArray[np.float32]:  # fmt: skip
        """[3, N] light from the ground.

        Args:
            rays: [3, N] unit directions.
            distance: [N] metres.
            points: [3, N] where they end.
            pixel: angle between two rays, radians.
        """
        lean = np.float32(1) / np.maximum(-rays[2], np.float32(1e-3))
        footprint = distance * np.float32(pixel)
        footprint *= np.sqrt(lean)
        colour = self._scene.ground.colour(points[0], points[1], footprint)
        up = np.zeros_like(points)
        up[2] = 1
        return self._lit(colour, points, up, distance, on_ground=True)

    def things(
        self, face: NDArray[np.int32], rays: NDArray[np.float32],
        distance: NDArray[np.float32], points: NDArray[np.float32],
    ) -> NDArray[np.float32]:  # fmt: skip
        """[3, N] light from triangles ``face`` [N]; the rest as in ``ground``."""
        normal = self._moment.normals(face)
        away = normal[0] * rays[0]
        away += normal[1] * rays[1]
        away += normal[2] * rays[2]
        normal *= np.copysign(np.float32(1), -away)
        colour, glow = self._texture(face, points, normal)
        lit = self._lit(colour, points, normal, distance, on_ground=False)
        if glow is not None:
            lit += glow
        return lit

    def _lit(
        self, colour: NDArray[np.float32], points: NDArray[np.float32],
        normal: NDArray[np.float32], distance: NDArray[np.float32], *, on_ground: bool,
    ) -> NDArray[np.float32]:  # fmt: skip
        scene, moment = self._scene, self._moment
        if self._night:
            colour *= light.lamplight(scene, moment.t, points, normal)
        else:
            colour *= light.daylight(scene, moment, points, normal, distance, on_ground=on_ground)
        return colour

    def _texture(
        self, face: NDArray[Any], points: NDArray[np.float32], normal: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Colours of triangles where rays meet them, [3, N], and what glows there at night."""
        faces = self._moment.faces
        colour, material = faces.colour.take(face, 1), faces.material.take(face)
        glow = np.zeros_like(colour) if self._night else None
        if glow is not None:
            burning = (material == LIGHT) & self._scene.lit[faces.owner.take(face)]
            glow[:, burning] = colour[:, burning] * _GLOW
        wall = np.flatnonzero((material == WALL) & (np.abs(normal[2]) < 0.5))
        if len(wall):
            (x, y, z), (nx, ny) = points.take(wall, 1), normal[:2].take(wall, 1)
            along = (y * nx - x * ny) / np.float32(_BAY)
            storey = z / np.float32(_STOREY)
            bay, floor = np.floor(along), np.floor(storey)
            a, b = along - bay, storey - floor
            window = ((a > 0.25) & (a < 0.75) & (b > 0.35) & (b < 0.8)).nonzero()[0]
            pick = bay[window].astype(np.int32) * 7 + floor[window].astype(np.int32) * 13
            shade = np.float32(0.12) + np.float32(0.05) * (pick % 4).astype(np.float32)
            colour[:, wall[window]] = shade * _PANE
            if glow is not None:
                glow[:, wall[window[pick % 6 == 1]]] = _HOME
        leaf = np.flatnonzero(material == LEAF)
        if len(leaf):
            cell = np.floor(points.take(leaf, 1) * np.float32(3.5)).astype(np.int32)
            mix = (cell[0] * 73856093) ^ (cell[1] * 19349663) ^ (cell[2] * 83492791)
            shade = np.float32(0.6) + (mix % 17).astype(np.float32) * np.float32(0.05)
            for plane in colour:
                plane[leaf] *= shade
        return colour, glow
