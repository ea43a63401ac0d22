"""Whether the velocities of an odometry are those of its own poses, and these those of a vehicle.

Pure. Positions lead: a twist in world axes, in km/h or of another frame would carry the vehicle on
to a place where it never was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from crkd_core import geometry
from crkd_ros.motion.pose_table import PoseTable
from crkd_ros.motion.poses import (
    LONGEST_GAP,
    SPEED_NOISE,
    TURN_NOISE,
    Array,
    agrees,
)

#: So many comparisons tell something, and this share of them must contradict.
_LEAST, _MOST = 5, 0.5
#: Of poses as they come so many of the last comparisons, each over so many nanoseconds.
_LATELY, _LOOK_NS = 20, 100_000_000
#: Poses slower than this while their twists go are not filled in, m/s.
_STANDS = 0.01
#: A vehicle that goes this fast, m/s, goes less than so many degrees off its own x axis.
_GOES, _ASIDE = 2.0, 45.0


class Compared(NamedTuple):
    """Velocities [6] by poses and by a twist, own axes, and the rotation [3, 3] there."""

    moved: Array
    twist: Array
    rotation: Array
    wrong: bool

    @property
    def tells(self) -> bool:
        """Whether anything moves: of a vehicle that stands every twist is right."""
        return any(
            np.linalg.norm(one[:3]) > SPEED_NOISE or np.linalg.norm(one[3:]) > TURN_NOISE
            for one in (self.moved, self.twist)
        )


class TwistWatch:
    """Compares the twists of an odometry with its poses as they come. Not thread-safe."""

    def __init__(self) -> None:
        self._last: tuple[int, Array, Array] | None = None
        self._compared: deque[Compared] = deque(maxlen=_LATELY)

    def add(self, stamp_ns: int, map_T_base: Array, twist: Array) -> str:
        """Take one pose [4, 4] and its twist [6]; what to say of the last ones, "": nothing."""
        if self._last is not None and 0 <= stamp_ns - self._last[0] < _LOOK_NS:
            return ""
        last, self._last = self._last, (stamp_ns, map_T_base, twist)
        if last is None or not 0 < stamp_ns - last[0] <= LONGEST_GAP * 1e9:
            return ""
        seconds = (stamp_ns - last[0]) * 1e-9
        linear = map_T_base[:3, :3].T @ (map_T_base[:3, 3] - last[1][:3, 3]) / seconds
        turned = geometry.wrap_angle(geometry.yaw_of(map_T_base) - geometry.yaw_of(last[1]))
        mean = (twist + last[2]) / 2
        one = _compared(linear, float(turned) / seconds, mean, map_T_base)
        if one.tells:
            self._compared.append(one)
        return _judged(self._compared) if len(self._compared) == _LATELY else ""

    def clear(self) -> None:
        """Forget everything."""
        self._last = None
        self._compared.clear()


def sideways(table: PoseTable) -> str:
    """What to say of poses by which the vehicle does not go where it heads; "": it does.

    Forwards or backwards is one: a drive may be in reverse.
    """
    stamps = table.stamps
    steps = [table.twist(int(one))[0] for one in stamps[:: max(1, len(stamps) // 200)]]
    fast = np.array([one for one in steps if np.linalg.norm(one) > _GOES]).reshape(-1, 3)
    if len(fast) < _LEAST:
        return ""
    along = np.abs(fast[:, 0]) / np.linalg.norm(fast, axis=1)
    off = float(np.rad2deg(np.arccos(np.clip(np.median(along), 0.0, 1.0))))
    if off <= _ASIDE:
        return ""
    return (
        f"by its poses the vehicle goes {off:.0f} degrees off its own x axis, which is forward; "
        "is its heading of another convention (clockwise from north, NED), or not filled in?"
    )


def contradiction(table: PoseTable, twists: Sequence[tuple[int, Array]]) -> str:
    """What to say of twists that are not those of the poses; "": they are.

    Args:
        table: the poses.
        twists: (stamp ns, [6]).
    """
    compared = []
    step = max(1, len(twists) // 400)
    for stamp, twist in twists[::step]:
        own, pose = table.measured(stamp), table.at(stamp)
        if own is not None and pose is not None:
            compared.append(_compared(*own, twist, pose))
    return _judged([one for one in compared if one.tells])


def _compared(linear: Array, yaw_rate: float, twist: Array, pose: Array) -> Compared:
    # Roll and pitch rates are not compared: poses of a plane have none.
    moved = np.array([*linear, 0.0, 0.0, yaw_rate])
    twist = np.array([*twist[:3], 0.0, 0.0, twist[5]])
    return Compared(moved, twist, pose[:3, :3], not agrees(twist, moved))


def _judged(compared: Sequence[Compared]) -> str:
    """What to say of comparisons that tell something; "": they agree, or are too few."""
    wrong = [one.wrong for one in compared]
    if len(wrong) < _LEAST or np.mean(wrong) < _MOST:
        return ""
    ours, theirs = (np.array([one[i] for one in compared])[:, :3] for i in (0, 1))
    turned = np.einsum("nji,nj->ni", np.array([one.rotation for one in compared]), theirs)
    speeds = np.linalg.norm(ours, axis=1), np.linalg.norm(theirs, axis=1)
    if np.median(speeds[0]) < _STANDS:
        why = (
            "they stand still; are they filled in? Detection needs poses: let the driver or a "
            "localisation integrate the twist"
        )
    elif np.median(np.linalg.norm(turned - ours, axis=1)) < SPEED_NOISE:
        why = "it looks like one in axes of the world"
    else:
        ratio = float(np.median(speeds[1] / np.maximum(speeds[0], 1e-9)))
        why = f"its speed is {ratio:.2f} times that of the poses"
        if abs(ratio - 3.6) < 0.2:
            why += ", as in km/h"
        elif abs(ratio - 1) < 0.15:
            why = "it has another direction or rate of turning (another frame? degrees?)"
    return f"its twist contradicts its own poses, which are believed: {why}"
