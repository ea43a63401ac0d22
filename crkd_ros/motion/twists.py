"""Whether the velocities of an odometry are those of its own poses, and these those of a vehicle.

Pure. Positions lead: a twist in world axes, in km/h or of another frame would carry the vehicle on
to a place where it never was.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_ros.motion.pose_table import PoseTable
from crkd_ros.motion.poses import SPEED_NOISE, Array, agrees

#: So many comparisons tell something, and this share of them must contradict.
_LEAST, _MOST = 5, 0.5
#: A vehicle that goes this fast, m/s, goes less than so many degrees off its own x axis.
_GOES, _ASIDE = 2.0, 45.0


def moved(table: PoseTable, stamp_ns: int) -> NDArray[np.float64] | None:
    """Velocity [6] by the poses around a stamp, own axes; None: there are none near."""
    linear, yaw_rate = table.twist(stamp_ns)
    if not linear.any() and not yaw_rate:
        return None
    return np.array([*linear, 0.0, 0.0, yaw_rate])


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
    ours, theirs, turns = [], [], []
    step = max(1, len(twists) // 400)
    for stamp, twist in twists[::step]:
        own = moved(table, stamp)
        pose = table.at(stamp)
        if own is not None and pose is not None:
            # Roll and pitch rates are not compared: poses of a plane have none.
            ours.append(own)
            theirs.append(np.array([*twist[:3], 0.0, 0.0, twist[5]]))
            turns.append(pose[:3, :3])
    wrong = [not agrees(b, a) for a, b in zip(ours, theirs, strict=True)]
    if len(wrong) < _LEAST or np.mean(wrong) < _MOST:
        return ""
    one, two = np.array(ours)[:, :3], np.array(theirs)[:, :3]
    turned = np.einsum("nji,nj->ni", np.array(turns), two)
    speeds = np.linalg.norm(one, axis=1), np.linalg.norm(two, axis=1)
    if np.median(np.linalg.norm(turned - one, axis=1)) < SPEED_NOISE:
        why = "it looks like one in axes of the world"
    else:
        ratio = float(np.median(speeds[1] / np.maximum(speeds[0], 1e-9)))
        why = f"its speed is {ratio:.2f} times that of the poses"
        if abs(ratio - 3.6) < 0.2:
            why += ", as in km/h"
        elif abs(ratio - 1) < 0.15:
            why = "it has another direction or rate of turning (another frame? degrees?)"
    return f"its twist contradicts its own poses, which are believed: {why}"
