"""What a radar returns that no object explains: standing clutter, ghosts, children, strays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.world import chance
from crkd_core.world.content.scene import Scene
from crkd_core.world.sensors.radar.returns import CHILD, CLUTTER, GHOST, OUTSIDE, Returns

#: The view narrows with range: two antennas. Metres, degrees to either side.
_VIEW = ((0, 62, 75, 95, 120, 240), (60, 60, 42, 27, 11, 7))
FARTHEST = 232.0
FAN = 121
#: Weight of standing clutter: what is behind something, and off the axis (degrees).
_HIDDEN, _OFF_AXIS = -1.6, 13.0


class Clutter:
    """The clutter of one drive before one radar."""

    def __init__(self, *, scene: Scene, radar: int, half_view: float) -> None:
        self._field = scene.reflectors
        self._fan = np.linspace(-half_view, half_view, FAN)
        rays = np.stack([np.cos(self._fan), np.sin(self._fan), np.full(FAN, 0.03)], 1)
        #: [FAN, 3] unit directions that find the walls, radar axes.
        self.rays = (rays / np.linalg.norm(rays, axis=1, keepdims=True)).astype(np.float32)
        keys = (scene.key, np.arange(len(self._field.echo)), radar)
        self._fixed = 0.06 * self._field.echo + 1.3 * chance.normal(*keys, 40)
        self._draw = chance.Wandering(1.5, *keys, 41)
        self._aside = chance.Wandering(1.0, *keys, 42)
        self._louder = chance.Wandering(1.0, *keys, 43)

    def standing(
        self, number: int, t: float, walls: NDArray[Any], local_T_radar: NDArray[Any],
        rng: np.random.Generator,
    ) -> Returns:  # fmt: skip
        """The ``number`` reflectors that answer best now; which they are lasts.

        Args:
            number: so many, unless there are fewer.
            t: seconds.
            walls: [FAN] metres to what stands in the way.
            local_T_radar: [4, 4] where the radar is.
            rng: what does not last.
        """
        field = self._field
        offset = (field.place - local_T_radar[:2, 3]) @ local_T_radar[:2, :2]
        distance = np.sqrt(np.einsum("ij,ij->i", offset, offset))
        rows = np.flatnonzero((offset[:, 0] > 0) & (distance > 2) & (distance < FARTHEST))
        distance, azimuth = distance[rows], np.arctan2(offset[rows, 1], offset[rows, 0])
        view = np.deg2rad(np.interp(distance, *_VIEW))
        inside = np.abs(azimuth) < view
        rows, distance, azimuth = rows[inside], distance[inside], azimuth[inside]
        best = self._fixed[rows] + 0.8 * self._draw.at(t)[rows]
        best -= 1.7 * np.log(distance / 30) + np.maximum(distance - 60, 0) / 300
        best -= 0.5 * (np.rad2deg(azimuth) / _OFF_AXIS) ** 2
        best += _HIDDEN * (distance > np.interp(azimuth, self._fan, walls) + 1.0)
        best += rng.gumbel(0, 0.45, len(rows))
        pick = np.argsort(-best, kind="stable")[:number]
        rows, distance, azimuth, n = rows[pick], distance[pick], azimuth[pick], len(pick)
        slant = (azimuth / np.deg2rad(45)) ** 2
        azimuth = azimuth + np.deg2rad(0.25 + 0.5 * slant) * self._aside.at(t)[rows]
        azimuth += np.deg2rad(0.15 + 0.3 * slant) * rng.standard_normal(n)
        echo = field.echo[rows] + 2 * self._louder.at(t)[rows] + rng.normal(0, 1.5, n)
        return Returns(
            distance=np.maximum(distance + rng.normal(0, 0.12, n), 0.5),
            azimuth=azimuth,
            speed=rng.normal(0, 0.08, n),
            echo=echo,
            source=np.full(n, CLUTTER, np.int8),
        )

    def ghosts(self, real: Returns, walls: NDArray[Any], rng: np.random.Generator) -> Returns:
        """Mirror images: moving objects seen by way of a wall, or twice along one ray."""
        moving = np.flatnonzero(np.abs(real.speed) > 1.0)
        parents = moving[rng.random(len(moving)) < 0.8]
        n = len(parents)
        twice = rng.random(n) < 0.3
        azimuth = np.where(
            twice,
            real.azimuth[parents] + rng.normal(0, 0.02, n),
            rng.uniform(self._fan[0], self._fan[-1], n) * 0.9,
        )
        wall = np.interp(azimuth, self._fan, walls)
        behind = np.minimum(wall, 80.0) + real.distance[parents] * rng.uniform(0.1, 0.9, n)
        return Returns(
            distance=np.where(twice, 2 * real.distance[parents], behind),
            azimuth=azimuth,
            speed=real.speed[parents] * np.where(twice, 2.0, rng.uniform(0.3, 1.1, n)),
            echo=real.echo[parents] - rng.uniform(3, 12, n),
            source=np.full(n, GHOST, np.int8),
        )

    @staticmethod
    def children(number: int, real: Returns, rng: np.random.Generator) -> Returns:
        """Weaker copies beside strong returns: side lobes and split clusters."""
        weight = np.exp(real.echo / 12)
        parents = rng.choice(len(real), number, p=weight / weight.sum())
        along = rng.choice([-1, 1], number) * rng.gamma(2.0, 0.8, number)
        return Returns(
            distance=np.maximum(real.distance[parents] + along, 0.5),
            azimuth=real.azimuth[parents] + rng.normal(0, np.deg2rad(1.6), number),
            speed=real.speed[parents] + rng.normal(0, 0.1, number),
            echo=real.echo[parents] - rng.uniform(0, 6, number),
            source=np.full(number, CHILD, np.int8),
        )

    def outside(self, number: int, rng: np.random.Generator) -> Returns:
        """Returns from beyond the edge of the view, which the sensor itself calls invalid."""
        side = rng.choice([-1, 1], number)
        return Returns(
            distance=rng.gamma(3.0, 11.0, number) + 4,
            azimuth=side * (self._fan[-1] + np.deg2rad(rng.uniform(0.3, 14, number))),
            speed=np.zeros(number),
            echo=rng.normal(10, 5, number),
            source=np.full(number, OUTSIDE, np.int8),
        )
