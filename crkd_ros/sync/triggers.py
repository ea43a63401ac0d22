"""Which stamps frames are asked for. Pure, and of stamps alone, so live and replay agree.

The sensors fire in turns; each turn is to give one frame. The best trigger alive, as a rule the
anchor camera, ends its turn: its stamp is the reference. If its message is lost, the turn is over
when an image that no frame has shown would be wasted: its camera delivers the next one, or
another's image is so much newer that it is too old for any frame. Then the best trigger among
the unshown images stands in, if each better one that is alive has missed the time at which it was
due.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.sync.firing import Firing
from crkd_ros.sync.history import History

#: A sensor is dead when so many of its messages in a row are missing, and for so long, or after
#: ``dead_after``. It is judged at stamps of others, which may come earlier: cameras behind a
#: network are later than radars by tenths of a second, whatever their rate.
_MISSING, _MISSING_NS = 5, 500_000_000


class Trigger(NamedTuple):
    """A frame to be made.

    Attributes:
        reference_ns: its time.
        sensor: whose stamp that is.
        known_ns: stamp of the message that told; ``at``: when that came.
        needs_ns: messages up to this stamp bear on the frame: those that it may hold, and those
            that would have been its trigger.
    """

    reference_ns: int
    sensor: str
    known_ns: int
    needs_ns: int
    at: float


class Triggers:
    """Finds the next reference among what the sensors have delivered.

    Args:
        config: ``camera_spread``, ``dead_after`` and ``jitter`` are used.
        histories: sensor -> what was heard of it.
        triggers: who may trigger, best first.
        cameras: those among them that are cameras. Radars trigger only while no camera lives.
        firing: how the cameras fire at a reference.
    """

    def __init__(
        self,
        config: SyncConfig,
        *,
        histories: Mapping[str, History],
        triggers: Sequence[str],
        cameras: Sequence[str],
        firing: Callable[[int], Firing],
    ) -> None:
        self._spread = config.camera_spread * 1e9
        self._dead_after = config.dead_after * 1e9
        self._jitter = config.jitter * 1e9
        self._names, self._firing = tuple(triggers), firing
        self._histories = [histories[name] for name in triggers]
        self._cameras = [rank for rank, name in enumerate(triggers) if name in cameras]

    def next(
        self, last: Trigger | None, first_ns: int | None, *, ended: bool = False
    ) -> Trigger | None:
        """The frame after ``last``; None: what was heard so far ends no turn of the cameras.

        Args:
            last: the last one that was handed out.
            first_ns: the first stamp of all sensors: who has not spoken yet may still do so for
                ``dead_after``.
            ended: nothing more will come: images that no frame has shown are a turn if those who
                would have ended it are dead, missing or overdue.
        """
        after = None if last is None else last.reference_ns
        events = sorted(
            (heard.stamp_ns, rank, heard.at)
            for rank, history in enumerate(self._histories)
            for heard in history.after(after)
        )
        unshown: dict[int, int] = {}  # rank -> stamp
        for stamp, rank, at in events:
            # Cameras may come later than radars, whose stamps tell nothing of a turn then.
            if rank not in self._cameras and any(
                self._alive(camera, stamp, first_ns) for camera in self._cameras
            ):
                continue
            if unshown and stamp - min(unshown.values()) > self._spread:
                old = min(unshown, key=lambda one: unshown[one])
                found = self._stand_in(unshown, old, stamp, at)
                if found is not None:
                    return found
                del unshown[old]
            if last is not None and self._shown(rank, stamp, last, new=not unshown):
                continue
            if not any(self._alive(better, stamp, first_ns) for better in range(rank)):
                # Unless it comes so late that those unshown must be of a turn before its own.
                found = self._stand_in(unshown, min(unshown), stamp, at, rank) if unshown else None
                return found or Trigger(stamp, self._names[rank], stamp, stamp, at)
            if self._firing(stamp).kind == "free":
                continue  # Images of other rates are wasted as a rule: the best one alive asks.
            if rank in unshown:
                found = self._stand_in(unshown, rank, stamp, at)
                if found is not None:
                    return found
            unshown[rank] = stamp
        if ended and unshown:
            newest = max(heard.newest for heard in self._histories if heard.newest is not None)
            old = min(unshown, key=lambda one: unshown[one])
            return self._stand_in(unshown, old, newest.stamp_ns, newest.at)
        return None

    def _alive(self, rank: int, stamp: int, first_ns: int | None) -> bool:
        """Whether this trigger was heard of shortly before a time, or need not have been yet."""
        before = self._histories[rank].before(stamp)
        if before is None:
            return first_ns is not None and stamp - first_ns <= self._dead_after
        return stamp - before <= self._dead_ns(self._histories[rank].period_ns(stamp - 1))

    def _dead_ns(self, period: float | None) -> float:
        """The silence after which a sensor with this period is dead."""
        if period is None:
            return self._dead_after
        return min(self._dead_after, max(_MISSING * period, _MISSING_NS))

    def _shown(self, rank: int, stamp: int, last: Trigger, *, new: bool) -> bool:
        """Whether this is a camera's image of the turn that was handed out last.

        It was measured at the same time; or (``new``: nothing else has come since) it is a better
        trigger's, which was late or comes back from the dead between its stand-in and the next
        turn.
        """
        place = self._names.index(last.sensor)
        since = stamp - last.reference_ns
        if rank == place or not {rank, place} <= set(self._cameras):
            return False
        period = self._histories[place].period_ns(last.reference_ns)
        better = new and rank < place
        together = max(self._jitter, self._firing(last.reference_ns).after_ns)
        return since <= together or (
            better and since < (self._spread if period is None else period)
        )

    def _stand_in(
        self,
        unshown: Mapping[int, int],
        wasted: int,
        stamp: int,
        at: float,
        leader: int | None = None,
    ) -> Trigger | None:
        """The best of the unshown images of a turn that is over; None: it is not, or not yet.

        Args:
            unshown: rank -> stamp.
            wasted: rank of the image that tells.
            stamp: of the message that tells.
            at: when that came.
            leader: it is the best trigger's own message. Half a period late, it is of another
                turn; if nobody knows when it was due, it is of this one.
        """
        period = self._histories[wasted].period_ns(stamp) or math.inf
        for rank in sorted(unshown):
            mine = unshown[rank]
            if abs(mine - unshown[wasted]) >= period:
                continue  # Of another turn.
            needs = float(mine)
            for better in range(rank):
                due = self._due(better, mine)
                if due is None:
                    if better == leader:
                        break
                    continue
                patience = self._jitter
                if better == leader:
                    patience = max(patience, (self._histories[better].period_ns(mine) or 0.0) / 2)
                if due + patience >= stamp:
                    break
                needs = max(needs, due)
            else:
                own = self._histories[rank].came_at(mine, at)
                needs_ns = round(min(needs, stamp))
                return Trigger(mine, self._names[rank], stamp, needs_ns, max(at, own))
        return None

    def _due(self, rank: int, stamp: int) -> float | None:
        """When a trigger was due at or after a time; None: it is dead or not known yet."""
        before = self._histories[rank].before(stamp)
        period = self._histories[rank].period_ns(stamp - 1)
        if before is None or period is None:
            return None
        if stamp - before > self._dead_ns(period):
            return None
        return before + period * max(1, math.ceil((stamp - self._jitter - before) / period))
