"""The road of a drive: its centre line and the painted ground.

Everything is in the drive's own flat frame (``local``): x roughly along the road, z = 0 on the
ground. A place on the road is (s, d): metres along the centre line, metres to the left of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

LANES = (-5.25, -1.75, 1.75, 5.25)
BIKE_LANE = 7.7
PARKING = 9.75
ROAD_EDGE = 8.4
KERB = 11.0
SIDEWALK_EDGE = 15.0
SIDE_ROAD_HALF = 5.5

_STEP = 0.25
_SHIFT = 4  # fractional bits of cv2 drawing coordinates

ASPHALT, WALK, GRASS = (84, 84, 88), (150, 148, 142), (82, 102, 58)
PAINT_WHITE, PAINT_YELLOW, LOT = (214, 214, 208), (206, 168, 56), (104, 102, 100)


class Road:
    """A gently curving centre line, sampled every 0.25 m.

    Args:
        start, end: range of s that is needed, metres.
        rng: draws the curvature (radius at least 90 m, mostly much more).
    """

    def __init__(self, *, start: float, end: float, rng: np.random.Generator) -> None:
        self.s = np.arange(start, end + _STEP, _STEP)
        bend = np.zeros_like(self.s)
        for wavelength in rng.uniform(120, 500, 3):
            bend += np.sin(self.s / wavelength * 2 * np.pi + rng.uniform(0, 2 * np.pi))
        bend *= rng.uniform(0.05, 1.0) ** 1.5 / 90 / np.abs(bend).max()
        self.yaw = np.cumsum(bend) * _STEP
        self.yaw -= self.yaw.mean()
        mid = self.yaw - bend * _STEP / 2
        self.x = np.cumsum(np.cos(mid)) * _STEP
        self.y = np.cumsum(np.sin(mid)) * _STEP

    def at(
        self, s: NDArray[Any] | float, d: NDArray[Any] | float
    ) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
        """x, y and heading of the road at (s, d); s outside the range is clamped."""
        yaw = np.interp(s, self.s, self.yaw)
        x = np.interp(s, self.s, self.x) - d * np.sin(yaw)
        y = np.interp(s, self.s, self.y) + d * np.cos(yaw)
        return np.asarray(x), np.asarray(y), np.asarray(yaw)


@dataclass(frozen=True, kw_only=True)
class SideRoad:
    """A straight road that crosses at a right angle, at ``s`` of the main road.

    Attributes:
        s: metres along the main road.
        length: metres to either side.
        lights: traffic lights stop the main road for it.
    """

    s: float
    length: float = 90.0
    lights: bool = False


class Ground:
    """A picture of the ground from above, looked up by ray hits.

    Args:
        road: the main road.
        side_roads: crossings.
        lots: (s0, s1, d0, d1) paved rectangles beside the road.
        rng: draws the texture.

    Attributes:
        low, high: [2] corners, metres.
        roads: outlines [N, 2] of where vehicles drive and park; they overlap at crossings.
    """

    METRES = 0.125
    MARGIN = 45.0

    def __init__(
        self,
        *,
        road: Road,
        side_roads: list[SideRoad],
        lots: list[tuple[float, float, float, float]],
        rng: np.random.Generator,
    ) -> None:
        self._road = road
        self.low = np.array([road.x.min(), road.y.min()]) - self.MARGIN
        self.high = np.array([road.x.max(), road.y.max()]) + self.MARGIN
        width, height = np.ceil((self.high - self.low) / self.METRES).astype(int)
        # Row = y, column = x: the picture is stored with y upwards.
        image = np.full((height, width, 3), GRASS, np.uint8)
        self._image = image
        for s0, s1, d0, d1 in lots:
            self._fill(s0, s1, d0, d1, LOT)
        start, end = road.s[0], road.s[-1]
        half, edge = SIDE_ROAD_HALF, KERB - 0.2
        self.roads = [self._outline(start, end, -edge, edge)] + [
            self._outline(side.s - half, side.s + half, -side.length, side.length)
            for side in side_roads
        ]
        self._fill(start, end, -SIDEWALK_EDGE, SIDEWALK_EDGE, WALK)
        self._fill(start, end, -KERB, KERB, (120, 118, 114))
        for side in side_roads:
            self._fill(side.s - half - 2, side.s + half + 2, -side.length, side.length, WALK)
            self._fill(side.s - half, side.s + half, -side.length, side.length, ASPHALT)
            for a in (-side.length, 13.0):
                self._fill(side.s - 0.1, side.s + 0.1, a, a + side.length - 13, PAINT_YELLOW)
        self._fill(start, end, -edge, edge, ASPHALT)
        for mark, dashed in ((7.0, False), (ROAD_EDGE, False), (3.5, True)):
            for d in (mark, -mark):
                self._line(d, PAINT_WHITE, dashed=dashed)
        for d in (0.12, -0.12):
            self._line(d, PAINT_YELLOW, dashed=False)
        for side in side_roads:
            self._fill(side.s - half, side.s + half, -KERB, KERB, ASPHALT)
            for near in (side.s - half - 4.5, side.s + half + 1.5):
                for d in np.arange(-KERB + 1, KERB - 1, 1.2):
                    self._fill(near, near + 3, d, d + 0.6, PAINT_WHITE)
        grain = rng.normal(0, 4, (256, 256)).astype(np.float32)
        grain += cv2.resize(grain[:32, :32], (256, 256)) * 1.2
        tile = np.repeat(np.rint(grain).astype(np.int16)[..., None], 3, 2)
        for row in range(0, height, 256):
            for column in range(0, width, 256):
                part = image[row : row + 256, column : column + 256]
                part[:] = cv2.add(part, tile[: len(part), : part.shape[1]], dtype=cv2.CV_8U)
        levels = [image]
        for _ in range(2):
            levels.append(
                cv2.resize(levels[-1], None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
            )
        # A number a pixel is looked up three times as fast as three.
        self._levels = [
            cv2.cvtColor(level, cv2.COLOR_RGB2RGBA).view(np.uint32)[..., 0] for level in levels
        ]

    def _outline(self, s0: float, s1: float, d0: float, d1: float) -> NDArray[np.float64]:
        """[N, 2] local metres."""
        s = np.linspace(s0, s1, max(2, int((s1 - s0) / 2) + 1))
        if abs(d0) > 50 or abs(d1) > 50:
            s = np.array([s0, s1])
        points = []
        for along, d in ((s, d0), (s[::-1], d1)):
            x, y, _ = self._road.at(along, d)
            points.append(np.stack([x, y], 1))
        return np.concatenate(points)

    def _fill(
        self, s0: float, s1: float, d0: float, d1: float, colour: tuple[int, int, int]
    ) -> None:
        pixels = (self._outline(s0, s1, d0, d1) - self.low) / self.METRES - 0.5
        outline = np.rint(pixels * 2**_SHIFT).astype(np.int32)
        cv2.fillPoly(self._image, [outline], colour, cv2.LINE_AA, _SHIFT)

    def _line(self, d: float, colour: tuple[int, int, int], *, dashed: bool) -> None:
        s = np.arange(self._road.s[0], self._road.s[-1], 9.0 if dashed else 6.0)
        for start in s:
            self._fill(start, start + (3.0 if dashed else 6.0), d - 0.07, d + 0.07, colour)

    def colour(
        self, x: NDArray[Any], y: NDArray[Any], footprint: NDArray[Any]
    ) -> NDArray[np.float32]:
        """[3, N] albedo (RGB, 0..1) at ground points.

        Args:
            x: [N] metres.
            y: [N] metres.
            footprint: [N] size of a pixel on the ground, metres: picks the level of detail.
        """
        result = np.empty(len(x), np.uint32)
        limits = [0.0, self.METRES * 2, self.METRES * 8, np.inf]
        for level, image in enumerate(self._levels):
            pick = np.flatnonzero((footprint >= limits[level]) & (footprint < limits[level + 1]))
            scale = np.float32(1 / (self.METRES * 4**level))
            column = ((x.take(pick) - np.float32(self.low[0])) * scale).astype(np.int32)
            row = ((y.take(pick) - np.float32(self.low[1])) * scale).astype(np.int32)
            np.clip(column, 0, image.shape[1] - 1, out=column)
            np.clip(row, 0, image.shape[0] - 1, out=row)
            row *= np.int32(image.shape[1])
            row += column
            result[pick] = image.ravel().take(row)
        planes = np.ascontiguousarray(result.view(np.uint8).reshape(-1, 4)[:, :3].T)
        return planes * np.float32(1 / 255)
