"""One drive of the synthetic world: what is where at any time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.sensors import RADARS
from crkd_core.world import rig
from crkd_core.world.content.layout import WALK_LINES, Actor, Filler
from crkd_core.world.content.reflectors import reflectors
from crkd_core.world.content.road import BIKE_LANE, LANES, Ground, Road, SideRoad
from crkd_core.world.content.themes import fill_blocks

#: Nothing further from the car than this is simulated, metres.
HORIZON = 105.0


@dataclass(frozen=True, kw_only=True)
class Weather:
    """Light and air of a drive; ``name`` goes into the scene's description.

    Attributes:
        sun: [3] unit vector towards the sun.
        direct, ambient: brightness of sun and sky.
        haze: metres after which 63 % of a colour is replaced by the sky's.
        noise: standard deviation of the image noise, grey levels.
    """

    name: str
    sun: NDArray[np.float64]
    direct: float
    ambient: float
    haze: float
    noise: float
    zenith: tuple[float, float, float]
    horizon: tuple[float, float, float]


def draw_weather(rng: np.random.Generator) -> Weather:
    """Mostly sunny or cloudy, now and then rain or night."""
    name = str(rng.choice(("Sunny", "Cloudy", "Rain", "Night"), p=(0.52, 0.28, 0.12, 0.08)))
    azimuth, elevation = rng.uniform(0, 2 * np.pi), np.deg2rad(rng.uniform(22, 65))
    sun = np.array(
        [
            np.cos(azimuth) * np.cos(elevation),
            np.sin(azimuth) * np.cos(elevation),
            np.sin(elevation),
        ]
    )
    gain = rng.uniform(0.85, 1.12)
    direct, ambient, haze, noise, zenith, horizon = {
        "Sunny": (0.8, 0.45, 900.0, 2.0, (0.28, 0.47, 0.78), (0.72, 0.8, 0.88)),
        "Cloudy": (0.18, 0.82, 500.0, 2.0, (0.62, 0.66, 0.7), (0.8, 0.82, 0.84)),
        "Rain": (0.05, 0.68, 170.0, 3.0, (0.45, 0.48, 0.52), (0.6, 0.62, 0.64)),
        "Night": (0.1, 0.2, 400.0, 5.0, (0.03, 0.04, 0.08), (0.12, 0.12, 0.15)),
    }[name]
    return Weather(
        name=name, sun=sun, direct=direct * gain, ambient=ambient * gain, haze=haze, noise=noise,
        zenith=zenith, horizon=horizon,
    )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class State:
    """Where the actors near the car are at one time, in the drive's local frame.

    Attributes:
        index: [N] into ``Scene.actors``.
        position: [N, 3] centres of the boxes.
        yaw: [N] radians.
        velocity: [N, 2] m/s over ground.
    """

    index: NDArray[np.int64]
    position: NDArray[np.float64]
    yaw: NDArray[np.float64]
    velocity: NDArray[np.float64]


class Scene:
    """A drive, a pure function of seed, number and length.

    Attributes:
        actors: every annotated object.
        moving: [A] bool, which of them ever change place.
        labels: [A] index into NUSCENES_CLASSES.
        sizes: [A, 3] length, width, height.
        global_T_local: [4, 4] pose of the local frame on the map.
        reflectors: what only radars see.
        key: names the drive in numbers that belong to it (crkd_core/world/chance.py).
    """

    def __init__(self, *, seed: int, number: int, key_frames: int) -> None:
        rng = np.random.default_rng([seed, number, 1])
        self.number, self.key_frames = number, key_frames
        self.key = seed * 1009 + number
        self.weather = draw_weather(rng)
        self.radar_phases = rng.uniform(0.02, 0.98, len(RADARS))
        end_t = (key_frames - 1) * rig.KEY_US / 1e6 + 0.1
        self._draw_profiles(rng)
        times = np.linspace(-rig.LEAD_IN_US / 1e6 - 0.1, end_t, 200)
        ego_s = self._advance(np.full(times.shape, self._ego_lane), times)
        low, high = float(ego_s.min()) - HORIZON, float(ego_s.max()) + HORIZON
        self.road = Road(start=low - 30, end=high + 30, rng=rng)
        side_roads = []
        s = low + rng.uniform(10, 130)
        while s < high:
            # Where the drive starts is a work zone, see fill_blocks.
            if not -15 < s < 55:
                side_roads.append(SideRoad(s=float(s)))
            s += rng.uniform(90, 180)
        filler = Filler(road=self.road, side_roads=side_roads, rng=rng)
        self._fill(filler, ego_s, times, low, high)
        self.actors: list[Actor] = filler.layout.actors
        self.scenery = filler.layout.scenery
        self.ground = Ground(
            road=self.road, side_roads=side_roads, lots=filler.layout.lots, rng=rng
        )
        self.reflectors = reflectors(self.road, rng)
        x, y = rng.uniform(600, 1400, 2)
        quat = geometry.yaw_to_quat_wxyz(rng.uniform(-np.pi, np.pi))
        self.global_T_local = geometry.pose([x, y, 0], quat)
        self._index()

    def _draw_profiles(self, rng: np.random.Generator) -> None:
        """Speed of each line of movement: four lanes, two bicycle lanes, the pavement lines."""
        lines = len(LANES) + 2 + 2 * len(WALK_LINES)
        self._v = np.zeros(lines)
        self._v[: len(LANES)] = rng.uniform(5, 12, len(LANES)) * [1, 1, -1, -1]
        self._ego_lane = int(rng.integers(2))
        queue = rng.integers(len(LANES))
        if rng.random() < 0.25:
            self._v[queue] *= 0.0 if queue != self._ego_lane else 0.3
        self._v[len(LANES) : len(LANES) + 2] = rng.uniform(3, 6, 2) * [1, -1]
        walk = rng.uniform(0.7, 1.7, 2 * len(WALK_LINES))
        self._v[len(LANES) + 2 :] = walk * rng.choice([-1, 1], len(walk))
        self._swing = self._v * rng.uniform(0, 0.3, lines)
        self._rate = rng.uniform(0.25, 0.7, lines)
        self._phase = rng.uniform(0, 2 * np.pi, lines)

    def _advance(self, line: NDArray, t: NDArray | float) -> NDArray:
        """Metres along the road that a line has moved since t = 0."""
        rate, phase = self._rate[line], self._phase[line]
        sway = self._swing[line] / rate * (np.cos(phase) - np.cos(rate * t + phase))
        return self._v[line] * t + sway

    def _fill(
        self, filler: Filler, ego_s: NDArray, times: NDArray, low: float, high: float
    ) -> None:
        def reach(line: int) -> tuple[float, float]:
            gap = ego_s - self._advance(np.full(times.shape, line), times)
            return float(gap.min()) - HORIZON, float(gap.max()) + HORIZON

        for lane, d in enumerate(LANES):
            keep = 0.0 if lane == self._ego_lane else None
            filler.traffic(lane, d, *reach(lane), lane < 2, abs(float(self._v[lane])), keep)
        for i, d in enumerate((-BIKE_LANE, BIKE_LANE)):
            line = len(LANES) + i
            filler.cyclists(line, d, *reach(line), i == 0)
        for i, d in enumerate([*WALK_LINES, *(-x for x in WALK_LINES)]):
            line = len(LANES) + 2 + i
            filler.walkers(line, d, *reach(line), bool(self._v[line] > 0))
        for side in (1, -1):
            fill_blocks(filler, side, low, high)

    def _index(self) -> None:
        actors = self.actors
        self.labels = np.array([NUSCENES_CLASSES.index(a.label) for a in actors])
        self.sizes = np.array([a.size for a in actors])
        self._line = np.array([max(a.lane, -1) for a in actors])
        self._on_line = np.flatnonzero(self._line >= 0)
        place = {k: np.array([getattr(a, k) for a in actors]) for k in ("s", "d", "turn", "yaw")}
        self._s, self._d, self._turn, self._yaw = place.values()
        self._xy = np.array([[a.x, a.y] for a in actors])
        self._speed = np.array([a.speed for a in actors])
        lane_moves = (self._line >= 0) & (np.abs(self._v[self._line]) > 0)
        self.moving = lane_moves | (self._speed > 0)

    def ego_pose(self, t: float) -> NDArray[np.float64]:
        """``local_T_ego`` at t seconds after the first key frame. [4, 4]."""
        s = self._advance(np.array(self._ego_lane), t)
        x, y, yaw = self.road.at(s, LANES[self._ego_lane])
        return geometry.pose([float(x), float(y), 0.0], geometry.yaw_to_quat_wxyz(float(yaw)))

    def ego_velocity(self, t: float) -> tuple[NDArray[np.float64], float]:
        """Velocity of the ego origin over ground ([2] m/s, local axes) and yaw rate (rad/s)."""
        a, b = self.ego_pose(t - 0.01), self.ego_pose(t + 0.01)
        turn = geometry.wrap_angle(geometry.yaw_of(b) - geometry.yaw_of(a))
        return (b[:2, 3] - a[:2, 3]) / 0.02, float(turn) / 0.02

    def place(self, t: float) -> tuple[NDArray, NDArray]:
        """Position [A, 2] and yaw [A] of every actor at t, wherever the car is."""
        xy = self._xy + (t * self._speed)[:, None] * np.stack(
            [np.cos(self._yaw), np.sin(self._yaw)], 1
        )
        yaw = self._yaw.copy()
        on = self._on_line
        s = self._s[on] + self._advance(self._line[on], t)
        x, y, heading = self.road.at(s, self._d[on])
        xy[on, 0], xy[on, 1], yaw[on] = x, y, heading + self._turn[on]
        self._last_s = s
        return xy, yaw

    def state(self, t: float, *, only: NDArray[np.bool_] | None = None) -> State:
        """The actors within HORIZON of the car at t; ``only`` [A] picks among them."""
        xy, yaw = self.place(t)
        inside = np.ones(len(xy), bool)
        low, high = self.road.s[0] + 1, self.road.s[-1] - 1
        inside[self._on_line] = (self._last_s > low) & (self._last_s < high)
        ego = self.ego_pose(t)[:2, 3]
        near = inside & (np.hypot(*(xy - ego).T) < HORIZON)
        if only is not None:
            near &= only
        index = np.flatnonzero(near)
        before, _ = self.place(t - 0.01)
        after, _ = self.place(t + 0.01)
        position = np.concatenate([xy[index], self.sizes[index, 2:] / 2], 1)
        velocity = (after - before)[index] / 0.02
        return State(index=index, position=position, yaw=yaw[index], velocity=velocity)
