"""Which objects answer to a radar, with how many returns, and from where on their bodies.

Most objects do not answer, and one that is missed stays missed for a while: the larger part of
every draw belongs to the object and lasts (crkd_core/world/chance.py). Returns come from the
nearest point of the outline, from somewhere along the sides in sight, or from the wheel wells and
the ground under the body; that place wanders.

The chances are tuned until the world counts like nuScenes (``crkd world-report``); nothing
measures them one by one.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.world import chance
from crkd_core.world.content.scene import Scene, State
from crkd_core.world.sensors.caster import Moment
from crkd_core.world.sensors.radar.returns import OBJECT, Returns

#: Metres at which the tables are given; between them, linear in the logarithm of the distance.
_AT = np.log([10.0, 27.0, 45.0, 90.0])
#: Chance that a radar gets an answer in one sweep from an object in plain sight.
_CHANCE = {
    "car": (0.57, 0.37, 0.23, 0.10),
    "truck": (0.93, 0.38, 0.11, 0.05),
    "bus": (0.97, 0.22, 0.11, 0.05),
    "trailer": (0.92, 0.38, 0.12, 0.05),
    "construction_vehicle": (0.75, 0.33, 0.14, 0.05),
    "pedestrian": (0.28, 0.36, 0.13, 0.02),
    "motorcycle": (0.36, 0.07, 0.02, 0.01),
    "bicycle": (0.52, 0.42, 0.12, 0.02),
    "traffic_cone": (0.04, 0.03, 0.01, 0.005),
    "barrier": (0.28, 0.34, 0.12, 0.02),
}
#: Mean number of returns of an object that answers.
_NUMBER = {
    "car": (2.5, 1.7, 1.5, 1.3),
    "truck": (6.2, 3.8, 3.0, 2.0),
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
_MOST = 28

#: How a draw is shared out: the object, the object before this radar, a second or so, this sweep.
_SHARES = np.sqrt([0.30, 0.25, 0.25, 0.20])
#: In standard deviations of the draw: out of sight, moving over ground.
_HIDDEN, _MOVING = -1.3, 0.25

#: Where an object is looked for, in halves of its length, width and height.
_SPOTS = np.array([[0, 0, 0], [0.8, 0.8, 0], [0.8, -0.8, 0], [-0.8, 0.8, 0], [-0.8, -0.8, 0]])

#: Standard deviations of places: metres, and degrees in the middle and at 45 degrees.
_RANGE_LASTING, _RANGE_NOISE = 0.12, 0.08
_AZIMUTH_LASTING, _AZIMUTH_NOISE = (0.3, 0.9), (0.15, 0.3)
SPEED_NOISE = 0.08


class ObjectEchoes:
    """The answers of the objects of one drive to one radar.

    Args:
        scene: the drive.
        radar: its number; radars miss different things.
        reach: metres; nothing further answers.
        half_view: radians to either side of the axis.
    """

    def __init__(self, *, scene: Scene, radar: int, reach: float, half_view: float) -> None:
        self.scene, self.radar = scene, radar
        self._reach, self._half_view = reach, half_view

    def returns(
        self, state: State, moment: Moment, local_T_radar: NDArray, rng: np.random.Generator
    ) -> Returns:
        """What the objects of ``state`` send back; ``moment`` says what hides them."""
        origin = local_T_radar[:2, 3]
        forward = local_T_radar[:2, 0]
        offset = state.position[:, :2] - origin
        distance = np.hypot(*offset.T)
        azimuth = _azimuth(offset, forward)
        rows = np.flatnonzero(
            (distance > 0.5) & (distance < self._reach) & (np.abs(azimuth) < self._half_view)
        )
        distance, azimuth = distance[rows], azimuth[rows]
        position, yaw = state.position[rows], state.yaw[rows]
        actor, velocity = state.index[rows], state.velocity[rows]
        label = self.scene.labels[actor]
        half = self.scene.sizes[actor, :2] / 2

        z = _at_distance(_Z[label], distance)
        z = z - 0.5 * (azimuth / self._half_view) ** 2
        z += _HIDDEN * (1 - self._in_sight(actor, position, yaw, moment, local_T_radar))
        z += np.where(np.hypot(*velocity.T) > 0.5, _MOVING, 0.0)
        key = self.scene.key
        draw = _SHARES[0] * chance.normal(key, actor, 10)
        draw = draw + _SHARES[1] * chance.normal(key, actor, self.radar, 11)
        draw += _SHARES[2] * chance.wandering(moment.t, 1.2, key, actor, self.radar, 12)
        draw += _SHARES[3] * rng.standard_normal(len(actor))
        answers = np.flatnonzero(draw < z)
        more = _at_distance(_N[label[answers]], distance[answers]) - 1
        more *= np.exp(0.5 * chance.wandering(moment.t, 2.0, key, actor[answers], 13) - 0.125)
        number = np.minimum(1 + rng.poisson(more), _MOST)
        one = np.repeat(answers, number)  # object of each return
        nth = np.arange(len(one)) - np.repeat(np.cumsum(number) - number, number)

        where = self._places(
            actor[one], nth, half[one], position[one, :2], yaw[one], origin, moment.t
        )
        return self._measure(
            where - origin, forward, actor[one], velocity[one], label[one], moment.t, rng
        )

    def _in_sight(
        self,
        actor: NDArray,
        position: NDArray,
        yaw: NDArray,
        moment: Moment,
        local_T_radar: NDArray,
    ) -> NDArray[np.float64]:
        """[N] share of an object's body that nothing hides: five places inside its outline."""
        if not len(actor):
            return np.zeros(0)
        spots = np.array(
            [[0, 0, 0], [0.8, 0.8, 0], [0.8, -0.8, 0], [-0.8, 0.8, 0], [-0.8, -0.8, 0]]
        )
        spots = spots * self.scene.sizes[actor, None] / 2
        c, s = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
        x = c * spots[..., 0] - s * spots[..., 1] + position[:, None, 0]
        y = s * spots[..., 0] + c * spots[..., 1] + position[:, None, 1]
        targets = np.stack([x, y, np.broadcast_to(position[:, None, 2], x.shape)], -1)
        targets[..., 2] = np.minimum(targets[..., 2], 0.8)
        rays = (targets - local_T_radar[:3, 3]).reshape(-1, 3)
        length = np.linalg.norm(rays, axis=1)
        hits = moment.cast(
            local_T_radar[:3, 3].astype(np.float32), (rays / length[:, None]).astype(np.float32)
        )
        free = (hits.distance >= length) | (moment.owner(hits) == np.repeat(actor, len(_SPOTS)))
        return free.reshape(len(actor), -1).mean(1)

    def _places(
        self, actor: NDArray, nth: NDArray, half: NDArray, center: NDArray, yaw: NDArray,
        origin: NDArray, t: float,
    ) -> NDArray[np.float64]:  # fmt: skip
        """[N, 2] where on its object each return comes from, local frame."""
        key = (self.scene.key, actor, self.radar, nth)
        c, s = np.cos(yaw), np.sin(yaw)
        offset = origin - center
        own = np.stack(
            [c * offset[:, 0] + s * offset[:, 1], c * offset[:, 1] - s * offset[:, 0]], 1
        )
        nearest = np.clip(own, -half, half)
        # Which part answers lasts for about a second, where on it changes smoothly.
        part = chance.uniform(*key, 20, np.floor(t + chance.uniform(*key, 21)).astype(int))
        slide = np.stack([chance.wandering(t, 1.5, *key, k) for k in (22, 23)], 1)
        along = nearest + slide * half * 0.15
        # A place on one of the sides in sight: one coordinate free, the other that of the side.
        free = np.clip(slide * 0.55, -1, 1) * half
        facing = np.abs(own) > half
        side = np.where(part[:, None] < 0.55, np.array([True, False]), np.array([False, True]))
        side &= facing
        on_side = np.where(side, nearest, free)
        wells = np.sign(slide) * half * np.array([0.62, 0.75]) + 0.1 * slide
        place = np.where(
            (part < 0.4)[:, None], along, np.where((part < 0.8)[:, None], on_side, wells)
        )
        # What is measured lies a little behind the paint.
        place = np.clip(place, -half, half) * (1 - np.minimum(0.12 / half, 0.4))
        x = c * place[:, 0] - s * place[:, 1]
        y = s * place[:, 0] + c * place[:, 1]
        return center + np.stack([x, y], 1)

    def _measure(
        self, offset: NDArray, forward: NDArray, actor: NDArray, velocity: NDArray,
        label: NDArray, t: float, rng: np.random.Generator,
    ) -> Returns:  # fmt: skip
        distance, azimuth = np.hypot(*offset.T), _azimuth(offset, forward)
        speed = (velocity * offset).sum(1) / np.maximum(distance, 0.1)
        key = (self.scene.key, actor, self.radar)
        slant = (azimuth / np.deg2rad(45)) ** 2
        lasting, noise = (a + b * slant for a, b in (_AZIMUTH_LASTING, _AZIMUTH_NOISE))
        n = len(distance)
        azimuth = azimuth + np.deg2rad(lasting) * chance.wandering(t, 1.0, *key, 30)
        azimuth += np.deg2rad(noise) * rng.standard_normal(n)
        distance = distance + _RANGE_LASTING * chance.wandering(t, 1.0, *key, 31)
        distance += _RANGE_NOISE * rng.standard_normal(n)
        return Returns(
            distance=np.maximum(distance, 0.3),
            azimuth=azimuth,
            speed=speed + rng.normal(0, SPEED_NOISE, n),
            echo=_RCS[label] + 4 * chance.wandering(t, 1.0, *key, 32) + rng.normal(0, 3, n),
            source=np.full(n, OBJECT, np.int8),
        )


def _azimuth(offset: NDArray, forward: NDArray) -> NDArray[np.float64]:
    """[N] angle of offsets [N, 2] against a direction [2], radians, to the left."""
    return np.arctan2(forward[0] * offset[:, 1] - forward[1] * offset[:, 0], offset @ forward)


def _at_distance(table: NDArray, distance: NDArray) -> NDArray[np.float64]:
    """[N] values of tables [N, 4] at distances."""
    place = np.interp(np.log(np.maximum(distance, 1.0)), _AT, np.arange(len(_AT)))
    low = np.minimum(place.astype(int), len(_AT) - 2)
    rows, share = np.arange(len(table)), place - low
    return table[rows, low] * (1 - share) + table[rows, low + 1] * share
