"""Which objects answer to a radar, with how many returns, and from where on their bodies.

Most objects do not answer, and one that is missed stays missed for a while: the larger part of
every draw belongs to the object and lasts (crkd_core/world/chance.py). Returns come from the
nearest point of the outline, from somewhere along the sides in sight, or from the wheel wells and
the ground under the body; that place wanders.

The chances are tuned until the world counts like nuScenes (``crkd world-report``); nothing
measures them one by one.
"""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.world import chance
from crkd_core.world.content.scene import Scene, State
from crkd_core.world.sensors.radar.returns import OBJECT, Returns

#: Metres at which the tables are given; between them, linear in the logarithm of the distance.
_AT = np.log([10.0, 27.0, 45.0, 90.0])
#: Chance that a radar gets an answer in one sweep from an object in plain sight.
_CHANCE = {
    "car": (0.56, 0.33, 0.20, 0.08),
    "truck": (0.93, 0.36, 0.12, 0.04),
    "bus": (0.97, 0.18, 0.11, 0.05),
    "trailer": (0.92, 0.38, 0.12, 0.05),
    "construction_vehicle": (0.75, 0.33, 0.14, 0.05),
    "pedestrian": (0.24, 0.38, 0.10, 0.02),
    "motorcycle": (0.36, 0.07, 0.02, 0.01),
    "bicycle": (0.52, 0.42, 0.12, 0.02),
    "traffic_cone": (0.04, 0.03, 0.01, 0.005),
    "barrier": (0.28, 0.34, 0.12, 0.02),
}
#: Mean number of returns of an object that answers.
_NUMBER = {
    "car": (2.6, 1.9, 1.8, 1.5),
    "truck": (6.2, 3.8, 4.0, 2.0),
    "bus": (14.0, 6.0, 3.5, 2.5),
    "trailer": (8.0, 5.0, 3.5, 2.5),
    "construction_vehicle": (4.0, 2.6, 2.0, 1.5),
    "pedestrian": (1.2, 1.4, 1.1, 1.0),
    "motorcycle": (1.25, 1.1, 1.0, 1.0),
    "bicycle": (1.15, 1.3, 1.1, 1.0),
    "traffic_cone": (1.0, 1.0, 1.0, 1.0),
    "barrier": (1.3, 1.2, 1.1, 1.0),
}
#: Mean radar cross-section, dBsm.
_ECHO = dict(
    zip(NUSCENES_CLASSES, (9.0, 14.0, 15.0, 14.0, 11.0, -2.0, 3.0, 0.0, -6.0, 2.0), strict=True)
)
_Z = np.array([[NormalDist().inv_cdf(p) for p in _CHANCE[name]] for name in NUSCENES_CLASSES])
_N = np.array([_NUMBER[name] for name in NUSCENES_CLASSES])
_RCS = np.array([_ECHO[name] for name in NUSCENES_CLASSES])
#: The most returns of an object, and the most places that they come from.
_MOST, _PLACES = 28, 12

#: How a draw is shared out: the object, the object before this radar, a second or so, this sweep.
_SHARES = np.sqrt([0.30, 0.25, 0.25, 0.20])
#: In standard deviations of the draw: out of sight, moving over ground.
_HIDDEN, _MOVING = -1.3, 0.45

#: Where an object is looked for, in halves of its length and width.
_SPOTS = np.array([[0, 0], [0.8, 0.8], [0.8, -0.8], [-0.8, 0.8], [-0.8, -0.8]])
SPOTS = len(_SPOTS)

#: Standard deviations of places: metres, and degrees in the middle and at 45 degrees.
_RANGE_LASTING, _RANGE_NOISE = 0.12, 0.08
_AZIMUTH_LASTING, _AZIMUTH_NOISE = (0.3, 0.9), (0.15, 0.3)
SPEED_NOISE = 0.08


@dataclass(frozen=True, kw_only=True)
class InView:
    """N objects in front of a radar, and where to look for them.

    Attributes:
        actor: [N] index into ``Scene.actors``.
        place: [N, 2] centres, local frame.
        yaw: [N] radians, local frame.
        velocity: [N, 2] m/s over ground, local axes.
        distance, azimuth: [N] from the radar.
        rays: [N * SPOTS, 3] unit directions to places within their outlines.
        length: [N * SPOTS] metres to these places.
    """

    actor: NDArray[np.int64]
    place: NDArray[np.float64]
    yaw: NDArray[np.float64]
    velocity: NDArray[np.float64]
    distance: NDArray[np.float64]
    azimuth: NDArray[np.float64]
    rays: NDArray[np.float32]
    length: NDArray[np.float64]

    def sight(self, distance: NDArray[Any], owner: NDArray[Any]) -> NDArray[np.float64]:
        """[N] share of the places that nothing hides, from what ``rays`` met and whose it is."""
        free = (distance >= self.length) | (owner == np.repeat(self.actor, SPOTS))
        return free.reshape(-1, SPOTS).mean(1)


class ObjectEchoes:
    """The answers of the objects of one drive to one radar.

    Args:
        scene: the drive.
        radar: its number; radars miss different things.
        reach: metres; nothing further answers.
        half_view: radians to either side of the axis.
    """

    def __init__(self, *, scene: Scene, radar: int, reach: float, half_view: float) -> None:
        self.scene = scene
        self._reach, self._half_view = reach, half_view
        key, actor = scene.key, np.arange(len(scene.actors))
        self._fixed = _SHARES[0] * chance.normal(key, actor, 10)
        self._fixed += _SHARES[1] * chance.normal(key, actor, radar, 11)
        self._draw = chance.Wandering(1.2, key, actor, radar, 12)
        self._more = chance.Wandering(2.0, key, actor, 13)
        # By object and return of it.
        each = (key, actor[:, None], radar, np.arange(_PLACES))
        self._part = chance.Wandering(1.0, *each, 20)
        self._side = chance.Wandering(1.0, *each, 21)
        self._slide = [chance.Wandering(1.5, *each, 22 + k) for k in range(2)]
        self._off = [chance.Wandering(1.0, key, actor, radar, 30 + k) for k in range(3)]

    def in_view(self, state: State, local_T_radar: NDArray[Any]) -> InView:
        """The objects that may answer."""
        origin, forward = local_T_radar[:2, 3], local_T_radar[:2, 0]
        offset = state.position[:, :2] - origin
        distance, azimuth = np.hypot(*offset.T), _azimuth(offset, forward)
        rows = np.flatnonzero(
            (distance > 0.5) & (distance < self._reach) & (np.abs(azimuth) < self._half_view)
        )
        actor, yaw, center = state.index[rows], state.yaw[rows], state.position[rows]
        spots = _SPOTS * self.scene.sizes[actor, None, :2] / 2
        place = center[:, None, :2] + _turned(spots, yaw[:, None])
        ground = center[:, 2] - self.scene.sizes[actor, 2] / 2
        height = np.minimum(center[:, 2], ground + 0.8)[:, None, None]
        targets = np.concatenate([place, np.broadcast_to(height, (*place.shape[:2], 1))], 2)
        rays = (targets - local_T_radar[:3, 3]).reshape(-1, 3)
        length = np.sqrt(np.einsum("ij,ij->i", rays, rays))
        return InView(
            actor=actor,
            place=center[:, :2],
            yaw=yaw,
            velocity=state.velocity[rows],
            distance=distance[rows],
            azimuth=azimuth[rows],
            rays=(rays / length[:, None]).astype(np.float32),
            length=length,
        )

    def returns(
        self, view: InView, sight: NDArray[Any], local_T_radar: NDArray[Any], t: float,
        rng: np.random.Generator,
    ) -> Returns:  # fmt: skip
        """What the objects in view send back.

        Args:
            view: they.
            sight: [N] share of each that nothing hides.
            local_T_radar: [4, 4] where the radar is.
            t: seconds.
            rng: what does not last.
        """
        actor = view.actor
        label = self.scene.labels[actor]
        z = _at_distance(_Z[label], view.distance)
        z = z - 0.5 * (view.azimuth / self._half_view) ** 2
        z += _HIDDEN * (1 - sight)
        z += np.where(np.hypot(*view.velocity.T) > 0.5, _MOVING, 0.0)
        draw = self._fixed[actor] + _SHARES[2] * self._draw.at(t)[actor]
        draw += _SHARES[3] * rng.standard_normal(len(actor))
        answers = np.flatnonzero(draw < z)
        more = _at_distance(_N[label[answers]], view.distance[answers]) - 1
        more *= np.exp(0.5 * self._more.at(t)[actor[answers]] - 0.125)
        number = np.minimum(1 + rng.poisson(more), _MOST)
        one = np.repeat(answers, number)  # object of each return
        nth = np.arange(len(one)) - np.repeat(np.cumsum(number) - number, number)
        return self._measure(view, one, nth, local_T_radar, t, rng)

    def _places(
        self, view: InView, one: NDArray[Any], nth: NDArray[Any], origin: NDArray[Any], t: float
    ) -> NDArray[np.float64]:
        """[N, 2] where on its object each return comes from, local frame."""
        which = (view.actor[one], nth % _PLACES)
        half, yaw, center = (
            self.scene.sizes[view.actor[one], :2] / 2,
            view.yaw[one],
            view.place[one],
        )
        own = _turned(origin - center, -yaw)
        nearest = np.clip(own, -half, half)
        # Which part answers lasts for about a second, and so does where on it.
        part, side = self._part.at(t)[which], self._side.at(t)[which]
        slide = np.stack([s.at(t)[which] for s in self._slide], 1)
        along = nearest + slide * half * 0.15
        # A place on one of the sides in sight: one coordinate free, the other that of the side.
        free = np.clip(slide * 0.55, -1, 1) * half
        fixed = np.stack([side < 0.1, side >= 0.1], 1) & (np.abs(own) > half)
        on_side = np.where(fixed, nearest, free)
        wells = np.sign(slide) * half * np.array([0.62, 0.75]) + 0.1 * slide
        # Nearest point 40 %, a side 40 %, wheel wells 20 % of the time.
        place = np.where(
            (part < -0.253)[:, None], along, np.where((part < 0.842)[:, None], on_side, wells)
        )
        # What is measured lies a little behind the paint.
        place = np.clip(place, -half, half) * (1 - np.minimum(0.12 / half, 0.4))
        return center + _turned(place, yaw)

    def _measure(
        self, view: InView, one: NDArray[Any], nth: NDArray[Any], local_T_radar: NDArray[Any],
        t: float, rng: np.random.Generator,
    ) -> Returns:  # fmt: skip
        origin, forward = local_T_radar[:2, 3], local_T_radar[:2, 0]
        offset = self._places(view, one, nth, origin, t) - origin
        distance, azimuth = np.hypot(*offset.T), _azimuth(offset, forward)
        speed = (view.velocity[one] * offset).sum(1) / np.maximum(distance, 0.1)
        actor, n = view.actor[one], len(one)
        slant = (azimuth / np.deg2rad(45)) ** 2
        lasting, noise = (a + b * slant for a, b in (_AZIMUTH_LASTING, _AZIMUTH_NOISE))
        aside, beyond, louder = (off.at(t)[actor] for off in self._off)
        azimuth = azimuth + np.deg2rad(lasting) * aside
        azimuth += np.deg2rad(noise) * rng.standard_normal(n)
        distance = distance + _RANGE_LASTING * beyond + _RANGE_NOISE * rng.standard_normal(n)
        return Returns(
            distance=np.maximum(distance, 0.3),
            azimuth=azimuth,
            speed=speed + rng.normal(0, SPEED_NOISE, n),
            echo=_RCS[self.scene.labels[actor]] + 4 * louder + rng.normal(0, 3, n),
            source=np.full(n, OBJECT, np.int8),
        )


def _turned(vectors: NDArray[Any], yaw: NDArray[Any]) -> NDArray[np.float64]:
    """Vectors [..., 2] turned by angles [...]."""
    c, s = np.cos(yaw), np.sin(yaw)
    x, y = vectors[..., 0], vectors[..., 1]
    return np.stack([c * x - s * y, s * x + c * y], -1)


def _azimuth(offset: NDArray[Any], forward: NDArray[Any]) -> NDArray[np.float64]:
    """[N] angle of offsets [N, 2] against a direction [2], radians, to the left."""
    return np.arctan2(forward[0] * offset[:, 1] - forward[1] * offset[:, 0], offset @ forward)


def _at_distance(table: NDArray[Any], distance: NDArray[Any]) -> NDArray[np.float64]:
    """[N] values of tables [N, 4] at distances."""
    place = np.interp(np.log(np.maximum(distance, 1.0)), _AT, np.arange(len(_AT)))
    low = np.minimum(place.astype(int), len(_AT) - 2)
    rows, share = np.arange(len(table)), place - low
    return table[rows, low] * (1 - share) + table[rows, low + 1] * share
