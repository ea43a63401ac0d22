"""All poses of a drive, by time: what a bag is replayed and converted with."""

from __future__ import annotations

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.reach import FASTEST, POSE_NOISE, too_fast
from crkd_ros.motion.poses import EXTRAPOLATION, LONGEST_GAP, Array, MotionError

Times = NDArray[np.int64]

_GAP_NS = round(LONGEST_GAP * 1e9)
_BEYOND_NS = round(EXTRAPOLATION * 1e9)
_TWIST_NS = 50_000_000
#: So many poses between two others that agree, out of reach of both, are wrong.
_OUTLIERS = 8


class PoseTable:
    """The vehicle's poses in a fixed frame, 64 bytes each. Filled, then asked; an EgoMotion.

    Poses that no vehicle can have reached from those before and after are left out. Where all
    that follow are out of reach, the map has jumped: nothing is interpolated across, and no motion
    is known from one side to the other.

    Args:
        name: what the poses are of, for errors.
    """

    def __init__(self, name: str = "") -> None:
        self.name = name
        self._added = array("q")
        self._values = array("d")
        self._stamps = np.zeros(0, np.int64)
        self._rows = np.zeros((0, 7))
        self._pieces = np.zeros(0, np.int64)
        self._outliers = 0

    def add(self, stamp_ns: int, map_T_base: Array) -> None:
        """Learn one pose, in any order; of several with one stamp the last counts."""
        self._added.append(stamp_ns)
        self._values.extend(map_T_base[:3, 3])
        self._values.extend(geometry.matrix_to_quat_wxyz(map_T_base[:3, :3]))

    @property
    def stamps(self) -> Times:
        """Of all poses, ns, rising."""
        if len(self._added):
            added = np.concatenate([self._stamps, np.array(self._added, np.int64)])
            rows = np.concatenate([self._rows, np.array(self._values).reshape(-1, 7)])
            self._added, self._values = array("q"), array("d")
            # `unique` gives the first of equal stamps, so it is shown the last ones first.
            stamps, places = np.unique(added[::-1], return_index=True)
            self._stamps, self._rows = stamps, rows[::-1][places]
            self._drop_outliers()
        return self._stamps

    def __len__(self) -> int:
        return len(self.stamps)

    @property
    def interval_ns(self) -> float:
        """The median time between poses; 0 of less than two."""
        return float(np.median(np.diff(self.stamps))) if len(self) > 1 else 0.0

    @property
    def outliers(self) -> int:
        """How many poses are left out."""
        return self._outliers if len(self) else 0

    @property
    def leaps(self) -> list[int]:
        """Stamps of the first poses after the map has jumped, ns."""
        stamps = self.stamps
        return [int(one) for one in stamps[1:][np.diff(self._pieces) > 0]]

    def at(self, stamp_ns: int) -> Array | None:
        """``map_T_base`` [4, 4] at a time, which may lie EXTRAPOLATION beyond either end.

        None further outside, in gaps beyond LONGEST_GAP, and where the map jumps.
        """
        try:
            return self.pose(stamp_ns)
        except MotionError:
            return None

    def pose(self, stamp_ns: int) -> Array:
        """The same. Raises MotionError instead; the text says how far away poses are."""
        return self._at(stamp_ns)[0]

    def ego_T_ego(self, stamp_ns: int, reference_ns: int) -> Array:
        """[4, 4] from base at ``stamp_ns`` to base at ``reference_ns``. Raises MotionError."""
        then, piece = self._at(stamp_ns)
        now, other = self._at(reference_ns)
        if piece != other:
            raise MotionError(
                f"the ego pose jumped between {stamp_ns} ns and {reference_ns} ns (a "
                "relocalisation? prefer odometry that drifts but does not jump)"
            )
        return geometry.invert(now) @ then

    def stretch(self, stamp_ns: int) -> int:
        """How many jumps are before a time, in order of time."""
        place = int(np.searchsorted(self.stamps, stamp_ns, side="right"))
        return int(self._pieces[max(place - 1, 0)]) if len(self._pieces) else 0

    def clear(self) -> None:
        """Nothing: what a bag holds does not change when its time jumps."""

    def known(self, stamps: Times) -> NDArray[np.bool_]:
        """Whether ``at`` has an answer, of many stamps at once."""
        own = self.stamps
        if not len(own):
            return np.zeros(len(stamps), bool)
        after = np.searchsorted(own, stamps)
        exact = own[np.minimum(after, len(own) - 1)] == stamps
        if len(own) < 2:
            return exact
        low, high = np.maximum(after - 1, 0), np.minimum(after, len(own) - 1)
        inside = (low < high) & (own[high] - own[low] <= _GAP_NS)
        inside &= self._pieces[low] == self._pieces[high]
        ends = np.maximum(own[0] - stamps, stamps - own[-1])
        outside = (ends > 0) & (ends <= _BEYOND_NS)
        # An end is carried on by the speed that its neighbour gives.
        for end, one, other in ((after == 0, 0, 1), (after == len(own), -1, -2)):
            joined = abs(int(own[one] - own[other])) <= _GAP_NS
            outside &= ~end | (joined and bool(self._pieces[one] == self._pieces[other]))
        known: NDArray[np.bool_] = exact | inside | outside
        return known

    def twist(self, stamp_ns: int) -> tuple[Array, float]:
        """Linear velocity [3] in base_link, m/s, and yaw rate, rad/s, over 50 ms before and after.

        Zero where the table has not two poses near.
        """
        return self.measured(stamp_ns) or (np.zeros(3), 0.0)

    def measured(self, stamp_ns: int) -> tuple[Array, float] | None:
        """The same; None where the table has not two poses near."""
        if len(self) < 2:
            return None
        first, last = int(self.stamps[0]), int(self.stamps[-1])
        ends = max(stamp_ns - _TWIST_NS, first), min(stamp_ns + _TWIST_NS, last)
        (a, b), now = map(self.at, ends), self.at(stamp_ns)
        if a is None or b is None or now is None or ends[0] >= ends[1]:
            return None
        seconds = (ends[1] - ends[0]) * 1e-9
        linear = now[:3, :3].T @ (b[:3, 3] - a[:3, 3]) / seconds
        turned = geometry.wrap_angle(geometry.yaw_of(b) - geometry.yaw_of(a))
        return linear, float(turned) / seconds

    def composed(
        self, *, left: Array | None = None, right: Array | None = None, name: str = ""
    ) -> PoseTable:
        """``left @ pose @ right``: of another frame on the vehicle, or in another frame."""
        left, right = np.eye(4) if left is None else left, np.eye(4) if right is None else right
        stamps, rows = self.stamps, self._rows
        table = PoseTable(name or self.name)
        table._outliers = self._outliers
        quats, moved = rows[:, 3:], rows[:, :3] + _rotated(rows[:, 3:], right[:3, 3])
        before, after = (geometry.matrix_to_quat_wxyz(one[:3, :3]) for one in (left, right))
        table._stamps = stamps
        table._rows = np.concatenate(
            [geometry.apply(left, moved), _product(_product(before, quats), after)], 1
        )
        table._drop_outliers()
        return table

    def _at(self, stamp_ns: int) -> tuple[Array, int]:
        stamps = self.stamps
        of = f" of {self.name}" if self.name else ""
        if not len(stamps):
            raise MotionError(f"no ego pose{of} is known")
        place = int(np.searchsorted(stamps, stamp_ns))
        if place < len(stamps) and stamps[place] == stamp_ns:
            return self._matrix(place), int(self._pieces[place])
        if place in (0, len(stamps)):
            apart = abs(int(stamps[-1 if place else 0]) - stamp_ns)
            if apart > _BEYOND_NS or len(stamps) < 2:
                where = "beyond the newest" if place else "before the oldest"
                raise MotionError(
                    f"ego pose at {stamp_ns} ns is {apart / 1e9:.3f} s {where} of "
                    f"{len(stamps)} known ones{of} (limit {EXTRAPOLATION} s, which needs two)"
                )
            # Images of a key frame are taken before the lidar's pose, which may be the first one.
            place = min(max(place, 1), len(stamps) - 1)
        before, after = int(stamps[place - 1]), int(stamps[place])
        if after - before > _GAP_NS:
            raise MotionError(
                f"ego pose at {stamp_ns} ns lies at a gap of {(after - before) / 1e9:.3f} s "
                f"between two known ones{of} (limit {LONGEST_GAP} s); is odometry interrupted?"
            )
        if self._pieces[place - 1] != self._pieces[place]:
            raise MotionError(
                f"the ego pose{of} jumped at {stamp_ns} ns (a relocalisation? prefer odometry "
                "that drifts but does not jump)"
            )
        fraction = (stamp_ns - before) / (after - before)
        pose = geometry.interpolate(self._matrix(place - 1), self._matrix(place), fraction)
        return pose, int(self._pieces[place])

    def _drop_outliers(self) -> None:
        """Poses out of reach of those around them; what is left falls into pieces."""
        ends = [*(np.flatnonzero(~self._reached()) + 1).tolist(), len(self._stamps)]
        kept: list[tuple[int, int]] = []  # [first, last) of rows; each begins a piece or goes on.
        pieces: list[int] = []
        aside: list[tuple[int, int]] = []
        for first, last in zip([0, *ends[:-1]], ends, strict=True):
            if not kept or self._reaches(kept[-1][1] - 1, first):
                aside.clear()
                kept.append((first, last))
                pieces.append(pieces[-1] if pieces else 0)
                continue
            aside.append((first, last))
            many = _OUTLIERS
            if last == len(self._stamps):  # Of few poses the first one may be the wrong one.
                many = min(many, _length(kept) - 1)
            if _length(aside) > many:
                for part in aside:
                    kept.append(part)
                    pieces.append(pieces[-1] + 1)
                aside.clear()
        rows = np.concatenate([np.arange(*part) for part in kept] or [np.zeros(0, int)])
        lengths = [_length([part]) for part in kept]
        self._outliers += len(self._stamps) - len(rows)
        self._stamps, self._rows = self._stamps[rows], self._rows[rows]
        self._pieces = np.repeat(np.array(pieces, np.int64), lengths)

    def _reached(self) -> NDArray[np.bool_]:
        """Whether a vehicle can go from each pose to the next."""
        metres = np.linalg.norm(np.diff(self._rows[:, :3], axis=0), axis=1)
        near: NDArray[np.bool_] = metres <= FASTEST * np.diff(self._stamps) * 1e-9 + POSE_NOISE
        return near

    def _reaches(self, one: int, two: int) -> bool:
        metres = float(np.linalg.norm(self._rows[two, :3] - self._rows[one, :3]))
        return not too_fast(metres, int(self._stamps[two] - self._stamps[one]) * 1e-9)

    def _matrix(self, row: int) -> Array:
        return geometry.pose(self._rows[row, :3], self._rows[row, 3:])


def _length(parts: Sequence[tuple[int, int]]) -> int:
    return sum(last - first for first, last in parts)


def _product(one: Array, two: Array) -> Array:
    """Products of quaternions (w, x, y, z). [..., 4], [..., 4] -> [..., 4]."""
    w, v = one[..., :1], one[..., 1:]
    u, x = two[..., :1], two[..., 1:]
    scalar = w * u - (v * x).sum(-1, keepdims=True)
    return np.concatenate([scalar, w * x + u * v + np.cross(v, x)], -1)


def _rotated(quats: Array, vector: Array) -> Array:
    """A vector [3] turned by each of [N, 4] quaternions. -> [N, 3]."""
    return np.einsum("nij,j->ni", geometry.quat_wxyz_to_matrix(quats), vector)
