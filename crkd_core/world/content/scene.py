"""One drive of the synthetic world: what is where at any time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.sensors import RADARS
from crkd_core.world import rig
from crkd_core.world.content.backdrop import fill_backdrop
from crkd_core.world.content.layout import Actor, Filler
from crkd_core.world.content.mix import REAL, Mix
from crkd_core.world.content.motion import STOP_LINE, Motion
from crkd_core.world.content.reflectors import reflectors
from crkd_core.world.content.road import LANES, Ground, Road, SideRoad
from crkd_core.world.content.terrain import Terrain
from crkd_core.world.content.themes import fill_blocks
from crkd_core.world.content.traffic import Traffic
from crkd_core.world.content.weather import CLEAR, draw_weather

#: Nothing further from the car than this is simulated, metres.
HORIZON = 105.0
_BURNING = ("vehicle.moving", "vehicle.stopped", "cycle.with_rider")


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


def scene_key(seed: int, number: int) -> int:
    """Names a drive in numbers that belong to it (crkd_core/world/chance.py)."""
    return seed * 1009 + number


class Scene:
    """A drive, a pure function of its arguments.

    Args:
        seed: of the world.
        number: of the drive.
        key_frames: its length.
        mix: how often what occurs.
        weather: kind of weather.

    Attributes:
        actors: every annotated object.
        moving: [A] bool, which of them ever change place.
        labels: [A] index into NUSCENES_CLASSES.
        sizes: [A, 3] length, width, height.
        scenery: all other solids.
        lamps: [L, 3] lights of the street lamps.
        lit: [A + 1] bool, whose lights burn at night; the last is scenery.
        terrain, ground: height and picture of the ground.
        reflectors: what only radars see.
        lights: where on the road the red light is; infinity without one.
        global_T_local: [4, 4] pose of the local frame on the map.
        key: see ``scene_key``.
    """

    def __init__(
        self, *, seed: int, number: int, key_frames: int, mix: Mix = REAL, weather: str = CLEAR
    ) -> None:
        rng = np.random.default_rng([seed, number, 1])
        self.number, self.key_frames = number, key_frames
        self.key = scene_key(seed, number)
        self.weather = draw_weather(weather, np.random.default_rng([seed, number, 4]))
        self.radar_phases = rng.uniform(0.02, 0.98, len(RADARS))
        self.motion = Motion(key_frames=key_frames, rng=rng)
        end_t = (key_frames - 1) * rig.KEY_US / 1e6 + 0.1
        times = np.linspace(-rig.LEAD_IN_US / 1e6 - 0.1, end_t, 200)
        ego_s = self.motion.advance(self.motion.ego_lane, times)
        low, high = float(ego_s.min()) - HORIZON, float(ego_s.max()) + HORIZON
        self.road = Road(start=low - 30, end=high + 30, rng=rng)
        self.terrain = Terrain(
            low=float(self.road.x.min()) - 30, high=float(self.road.x.max()) + 30, rng=rng
        )
        junction = self._junction(rng)
        self.lights = np.inf if junction is None else junction
        side_roads = _side_roads(low, high, junction, clear_start=bool(mix.begin), rng=rng)
        filler = Filler(
            road=self.road, terrain=self.terrain, side_roads=side_roads, mix=mix, rng=rng
        )
        Traffic(
            filler=filler, motion=self.motion, times=times, horizon=HORIZON, junction=junction
        ).fill()
        for side in (1, -1):
            fill_blocks(filler, side, low, high)
        fill_backdrop(filler, low, high)
        self.actors: list[Actor] = filler.layout.actors
        self.scenery = filler.layout.scenery
        self.lamps = np.array(filler.layout.lamps).reshape(-1, 3)
        self._words = filler.layout.words
        if any(ego_s.min() < side.s < ego_s.max() + 40 for side in side_roads):
            self._words.insert(0, "intersection" if junction is None else "wait at intersection")
        if filler.mood.crowd > 1.5:
            self._words.append("many peds")
        self.ground = Ground(
            road=self.road, side_roads=side_roads, lots=filler.layout.lots, rng=rng
        )
        self.reflectors = reflectors(self.road, rng)
        x, y = rng.uniform(600, 1400, 2)
        quat = geometry.yaw_to_quat_wxyz(rng.uniform(-np.pi, np.pi))
        self.global_T_local = geometry.pose([x, y, 0], quat)
        self._index()
        # The sensors of one moment ask for the same again and again.
        self._state: tuple[float, State] | None = None
        self._pose: tuple[float, NDArray[np.float64]] | None = None

    @property
    def description(self) -> str:
        """In the words of nuScenes: "Rain, intersection, parked cars"."""
        weather = [] if self.weather.kind == CLEAR else [self.weather.kind]
        text = ", ".join([*weather, *self._words]) or "street"
        return text[0].upper() + text[1:]

    def _junction(self, rng: np.random.Generator) -> float | None:
        """Where the red light of the drive is: before the car that waits for it."""
        ahead = STOP_LINE + rng.uniform(4.5, 22)
        if self.motion.halt is None:
            return None
        return float(self.motion.advance(self.motion.ego_lane, self.motion.halt.begin)) + ahead

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
        # What has lamps burning at night: scenery (the last) and who takes part in traffic.
        self.lit = np.array([a.attribute in _BURNING for a in actors] + [True])
        lane_moves = (self._line >= 0) & (np.abs(self.motion.speed[self._line]) > 0)
        self.moving = lane_moves | (self._speed > 0)

    def ego_pose(self, t: float) -> NDArray[np.float64]:
        """[4, 4] ``local_T_ego`` at t seconds after the first key frame, pitched with the road."""
        if self._pose is None or self._pose[0] != t:
            self._pose = (t, self._ego_pose_at(t))
        return self._pose[1]

    def _ego_pose_at(self, t: float) -> NDArray[np.float64]:
        s = self.motion.advance(self.motion.ego_lane, t)
        x, y, yaw = (float(v) for v in self.road.at(s, LANES[self.motion.ego_lane]))
        rise = np.arctan(float(self.terrain.slope(x)) * np.cos(yaw))
        c, n, level, up = np.cos(yaw), np.sin(yaw), np.cos(rise), np.sin(rise)
        pose = np.eye(4)
        pose[:3, 0] = c * level, n * level, up
        pose[:3, 1] = -n, c, 0.0
        pose[:3, 2] = -c * up, -n * up, level
        pose[:3, 3] = x, y, float(self.terrain.height(x))
        return pose

    def ego_velocity(self, t: float) -> tuple[NDArray[np.float64], float]:
        """Velocity of the ego origin over ground ([2] m/s, local axes) and yaw rate (rad/s)."""
        a, b = self._ego_pose_at(t - 0.01), self._ego_pose_at(t + 0.01)
        turn = geometry.wrap_angle(geometry.yaw_of(b) - geometry.yaw_of(a))
        return (b[:2, 3] - a[:2, 3]) / 0.02, float(turn) / 0.02

    def place(self, t: float) -> tuple[NDArray[Any], NDArray[Any]]:
        """Position [A, 2] and yaw [A] of every actor at t, wherever the car is."""
        xy = self._xy + (t * self._speed)[:, None] * np.stack(
            [np.cos(self._yaw), np.sin(self._yaw)], 1
        )
        yaw = self._yaw.copy()
        on = self._on_line
        s = self._s[on] + self.motion.advance(self._line[on], t)
        x, y, heading = self.road.at(s, self._d[on])
        xy[on, 0], xy[on, 1], yaw[on] = x, y, heading + self._turn[on]
        return xy, yaw

    def upright(
        self, xy: NDArray[Any], index: NDArray[Any] | slice = slice(None)
    ) -> NDArray[np.float64]:
        """[N, 3] centres of actors that stand on the ground at places [N, 2]."""
        z = self.terrain.height(xy[:, 0]) + self.sizes[index, 2] / 2
        return np.concatenate([xy, z[:, None]], 1)

    def state(self, t: float) -> State:
        """The actors within HORIZON of the car at t."""
        if self._state is None or self._state[0] != t:
            self._state = (t, self._state_at(t))
        return self._state[1]

    def _state_at(self, t: float) -> State:
        xy, yaw = self.place(t)
        inside = np.ones(len(xy), bool)
        low, high = self.road.s[0] + 1, self.road.s[-1] - 1
        s = self._s[self._on_line] + self.motion.advance(self._line[self._on_line], t)
        inside[self._on_line] = (s > low) & (s < high)
        ego = self.ego_pose(t)[:2, 3]
        index = np.flatnonzero(inside & (np.hypot(*(xy - ego).T) < HORIZON))
        before, _ = self.place(t - 0.01)
        after, _ = self.place(t + 0.01)
        return State(
            index=index,
            position=self.upright(xy[index], index),
            yaw=yaw[index],
            velocity=(after - before)[index] / 0.02,
        )


def _side_roads(
    low: float, high: float, junction: float | None, *, clear_start: bool,
    rng: np.random.Generator,
) -> list[SideRoad]:  # fmt: skip
    """Crossings 90 to 180 m apart; with ``clear_start`` none where the drive begins."""
    result = [] if junction is None else [SideRoad(s=junction, lights=True)]
    s = low + rng.uniform(10, 130)
    while s < high:
        apart = junction is None or abs(s - junction) > 70
        if apart and not (clear_start and -15 < s < 55):
            result.append(SideRoad(s=float(s)))
        s += rng.uniform(90, 180)
    return result
