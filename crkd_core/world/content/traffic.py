"""What moves on the road: lanes, oncoming and crossing traffic, riders, walkers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.world.content.layout import SIZES, Filler
from crkd_core.world.content.motion import (
    BICYCLES,
    FREE_LANE,
    PAVEMENT,
    STOP_LINE,
    WALK_LINES,
    Motion,
)
from crkd_core.world.content.road import BIKE_LANE, LANES

#: How near the car's own place others may stand, metres behind and before.
_KEEP = (10.0, 12.0)
#: Half the road that crossing traffic must have left before the lanes start again, metres.
_CLEAR = 8.5


class Traffic:
    """Fills all lines of the road.

    Args:
        filler: makes the objects.
        motion: of the lines.
        times: [T] the whole drive.
        horizon: how far from the car, metres.
        junction: where on the road the red light is, or None.
    """

    def __init__(
        self, *, filler: Filler, motion: Motion, times: NDArray[Any], horizon: float,
        junction: float | None,
    ) -> None:  # fmt: skip
        self._filler, self._motion, self._rng = filler, motion, filler.rng
        self._times, self._horizon, self._junction = times, horizon, junction

    def fill(self) -> None:
        """Put everything there."""
        for lane, d in enumerate(LANES):
            self._lane(lane, d)
        for i, d in enumerate((-BIKE_LANE, BIKE_LANE)):
            self._riders(BICYCLES + i, d, forward=i == 0)
        for i, d in enumerate([*WALK_LINES, *(-x for x in WALK_LINES)]):
            self._walkers(PAVEMENT + i, d)
        if self._junction is not None:
            for side in (1, -1):
                self._crossing(side)
            self._zebra()

    def _reach(self, *lines: int) -> tuple[float, float]:
        """Range of places (at t = 0) on lines that come within the horizon of the car."""
        ego = self._motion.advance(self._motion.ego_lane, self._times)
        gaps = np.stack([ego - self._motion.advance(line, self._times) for line in lines])
        return float(gaps.min()) - self._horizon, float(gaps.max()) + self._horizon

    def _lane(self, lane: int, d: float) -> None:
        rng, mix, filler = self._rng, self._filler.mix, self._filler
        low, high = self._reach(lane, FREE_LANE + lane)
        forward, speed = lane < 2, abs(float(self._motion.speed[lane]))
        labels, weights = list(mix.lanes), np.array(list(mix.lanes.values()))
        attribute = "vehicle.moving" if speed > 0.5 else "vehicle.stopped"
        s = low + rng.uniform(0, 25)
        while s < high:
            label = str(rng.choice(labels, p=weights / weights.sum()))
            rider = "cycle.with_rider" if label == "motorcycle" else attribute
            group = ["truck", "trailer"] if label == "trailer" else [label]
            group = group if not forward else group[::-1]
            lengths = [SIZES[g][0][0] for g in group]
            extent = sum(lengths) * 1.15 + 1.0
            own = lane == self._motion.ego_lane
            if not own or s + extent < -_KEEP[0] or s > _KEEP[1]:
                line = self._line_of(lane, s, extent)
                at = s
                for g, length in zip(group, lengths, strict=True):
                    filler.make(
                        g, rider, lane=line, s=at + 0.55 * length, d=d + rng.normal(0, 0.12),
                        turn=0.0 if forward else np.pi,
                    )  # fmt: skip
                    at += 1.15 * length + 1.0
            gap = rng.exponential(mix.gap / filler.mood.traffic)
            gap += rng.uniform(5, 9) if speed > 0.5 else rng.uniform(1.5, 4)
            s += extent + gap

    def _line_of(self, lane: int, s: float, extent: float) -> int:
        """The halting line of a lane, or the other one for whoever is past the stop line."""
        halt = self._motion.halt
        if halt is None or self._junction is None:
            return lane
        sign = 1 if lane < 2 else -1
        front = s + (extent if sign > 0 else 0) + float(self._motion.advance(lane, halt.begin))
        past = sign * (front - self._junction) > -STOP_LINE
        return FREE_LANE + lane if past else lane

    def _riders(self, line: int, d: float, *, forward: bool) -> None:
        rng, mix = self._rng, self._filler.mix
        low, high = self._reach(line)
        s = low + rng.uniform(0, 1.5 * mix.riders)
        while s < high:
            label = "bicycle" if rng.random() < mix.bicycles else "motorcycle"
            self._filler.make(
                label, "cycle.with_rider", lane=line, s=s, d=d + rng.normal(0, 0.1),
                turn=0.0 if forward else np.pi,
            )  # fmt: skip
            s += 5 + rng.exponential(mix.riders)

    def _walkers(self, line: int, d: float) -> None:
        rng, filler = self._rng, self._filler
        low, high = self._reach(line)
        forward = bool(self._motion.speed[line] > 0)
        mean = filler.mix.walkers / filler.mood.crowd
        s = low + rng.uniform(0, mean)
        while s < high:
            # Some walk in company, one behind the other on their line.
            for _ in range(1 + int(rng.random() < 0.25)):
                filler.make(
                    "pedestrian", "pedestrian.moving", lane=line, s=s, d=d,
                    turn=0.0 if forward else np.pi,
                )  # fmt: skip
                s += 1.2
            s += rng.exponential(mean)

    def _crossing(self, side: int) -> None:
        """A platoon on the side road that crosses while the lanes stand."""
        halt, junction, rng = self._motion.halt, self._junction, self._rng
        assert halt is not None and junction is not None
        speed = float(rng.uniform(5.5, 9))
        enters = halt.begin + rng.uniform(2.0, 3.0)
        behind = 0.0
        for _ in range(int(rng.integers(1, 6))):
            label = str(rng.choice(["car"] * 8 + ["truck", "bus"]))
            length = SIZES[label][0][0] * 1.12
            if enters + (2 * _CLEAR + length + behind) / speed > halt.end:
                return
            d = side * (_CLEAR + length / 2 + behind + speed * enters)
            out = np.pi / 2 * side
            self._filler.stand(label, "vehicle.moving", junction - side * 1.9, d, out + np.pi)
            self._filler.layout.actors[-1].speed = speed
            behind += length + rng.uniform(0.7, 1.6) * speed

    def _zebra(self) -> None:
        """People who cross in front of the waiting car."""
        halt, junction, rng = self._motion.halt, self._junction, self._rng
        assert halt is not None and junction is not None
        for _ in range(int(rng.integers(0, 5))):
            side, speed = int(rng.choice([1, -1])), float(rng.uniform(1.3, 1.9))
            starts = halt.begin + rng.uniform(0.5, 2.5)
            if starts + 15.0 / speed > halt.end + 0.5:
                continue
            d = side * (7.5 + speed * starts)
            s = junction - 8.5 + rng.uniform(-1.2, 1.2)
            self._filler.stand("pedestrian", "pedestrian.moving", s, d, -side * np.pi / 2)
            self._filler.layout.actors[-1].speed = speed
