"""All poses of a drive, by time: what a bag is converted with."""

from __future__ import annotations

from array import array

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_ros.motion.poses import EXTRAPOLATION

Array = NDArray[np.float64]

#: Poses further apart than this are not joined by a straight line. Key frames are 0.5 s apart.
MAX_GAP_NS = 1_000_000_000

_BEYOND_NS = round(EXTRAPOLATION * 1e9)


class PoseTable:
    """The vehicle's poses, 64 bytes each: an hour at 100 Hz is 23 MB. Filled, then asked."""

    def __init__(self) -> None:
        self._added = array("q")
        self._values = array("d")
        self._stamps = np.zeros(0, np.int64)
        self._rows = np.zeros((0, 7))

    def add(self, stamp_ns: int, map_T_base: Array) -> None:
        """Learn one pose, in any order; of several with one stamp the last counts."""
        self._added.append(stamp_ns)
        self._values.extend(map_T_base[:3, 3])
        self._values.extend(geometry.matrix_to_quat_wxyz(map_T_base[:3, :3]))

    @property
    def stamps(self) -> NDArray[np.int64]:
        """Of all poses, ns, rising."""
        if len(self._added):
            added = np.concatenate([self._stamps, np.array(self._added, np.int64)])
            rows = np.concatenate([self._rows, np.array(self._values).reshape(-1, 7)])
            # `unique` gives the first of equal stamps, so it is shown the last ones first.
            self._stamps, places = np.unique(added[::-1], return_index=True)
            self._rows = rows[::-1][places]
            self._added, self._values = array("q"), array("d")
        return self._stamps

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def interval_ns(self) -> float:
        """The median time between poses; 0 of less than two."""
        return float(np.median(np.diff(self.stamps))) if len(self) > 1 else 0.0

    def at(self, stamp_ns: int) -> Array | None:
        """``map_T_base`` [4, 4] at a time, which may lie EXTRAPOLATION beyond either end.

        None further outside, and in gaps beyond MAX_GAP_NS.
        """
        stamps = self.stamps
        place = int(np.searchsorted(stamps, stamp_ns))
        if place < len(stamps) and stamps[place] == stamp_ns:
            return self._matrix(place)
        if place in (0, len(stamps)):
            if len(stamps) < 2 or abs(int(stamps[-1 if place else 0]) - stamp_ns) > _BEYOND_NS:
                return None
            # Images of a key frame are taken before the lidar's pose, which may be the first one.
            place = min(max(place, 1), len(stamps) - 1)
        before, after = int(stamps[place - 1]), int(stamps[place])
        if after - before > MAX_GAP_NS:
            return None
        fraction = (stamp_ns - before) / (after - before)
        return geometry.interpolate(self._matrix(place - 1), self._matrix(place), fraction)

    def twist(self, stamp_ns: int, *, window_ns: int = 50_000_000) -> tuple[Array, float]:
        """Linear velocity [3] in base_link, m/s, and yaw rate, rad/s, over a window of time.

        Zero where the table has not two poses near.
        """
        if len(self) < 2:
            return np.zeros(3), 0.0
        first, last = int(self.stamps[0]), int(self.stamps[-1])
        ends = max(stamp_ns - window_ns, first), min(stamp_ns + window_ns, last)
        (a, b), now = map(self.at, ends), self.at(stamp_ns)
        if a is None or b is None or now is None or ends[0] >= ends[1]:
            return np.zeros(3), 0.0
        seconds = (ends[1] - ends[0]) * 1e-9
        linear = now[:3, :3].T @ (b[:3, 3] - a[:3, 3]) / seconds
        turned = geometry.wrap_angle(geometry.yaw_of(b) - geometry.yaw_of(a))
        return linear, float(turned) / seconds

    def _matrix(self, row: int) -> Array:
        return geometry.pose(self._rows[row, :3], self._rows[row, 3:])
