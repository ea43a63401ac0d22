"""What the synchroniser keeps of one sensor: recent messages by stamp, and what became of all."""

from __future__ import annotations

import bisect
import operator
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: So many recent stamps tell a sensor's period.
_INTERVALS = 9
#: Stamps that are remembered: those of the messages not used yet, and enough before for a period
#: and to measure how the cameras fire. So many, and all of so long, ns.
_HEARD, _HEARD_NS = 40, 2_500_000_000


class Timed(NamedTuple):
    """What was added, with its stamp in nanoseconds."""

    stamp_ns: int
    item: Any


class Arrival(NamedTuple):
    """When a message says it was measured, and when it came (the caller's clock, seconds)."""

    stamp_ns: int
    at: float


@dataclass
class Counts:
    """What happened to one sensor's messages since the start."""

    received: int = 0
    #: Not used: zero stamp, or a stamp this sensor has delivered before.
    zero_stamp: int = 0
    duplicate: int = 0
    #: Not used: a stamp far from the others' time, or ahead of most of them.
    outlier: int = 0
    #: Used where they still could be.
    out_of_order: int = 0
    #: Came after the frame that should have held them.
    late: int = 0


@dataclass
class History:
    """The recent messages of one sensor, by stamp.

    Args:
        kept: so many are kept, however old they are.
        kept_ns: those that are less older than the newest are kept too.
    """

    kept: int
    kept_ns: int = 0
    messages: list[Timed] = field(default_factory=list)
    heard: list[Arrival] = field(default_factory=list)
    counts: Counts = field(default_factory=Counts)
    #: Answers of ``period_ns`` since the last change, by end and share.
    _periods: dict[tuple[int, float], float | None] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def add(self, arrival: Arrival, item: Any) -> list[Timed]:
        """Take a message that is not here yet; the oldest ones that are kept no longer."""
        bisect.insort(self.messages, Timed(arrival.stamp_ns, item), key=stamp_of)
        bisect.insort(self.heard, arrival, key=stamp_of)
        del self.heard[: _beyond(self.heard, _HEARD, _HEARD_NS)]
        self._periods.clear()
        count = _beyond(self.messages, self.kept, self.kept_ns)
        dropped, self.messages[:count] = self.messages[:count], []
        return dropped

    def __contains__(self, stamp_ns: int) -> bool:
        place = bisect.bisect_left(self.heard, stamp_ns, key=stamp_of)
        return place < len(self.heard) and self.heard[place].stamp_ns == stamp_ns

    @property
    def newest(self) -> Arrival | None:
        """The message with the newest stamp; None after ``clear``."""
        return self.heard[-1] if self.heard else None

    @property
    def newest_ns(self) -> int | None:
        """The newest stamp, ns; None after ``clear``."""
        return self.heard[-1].stamp_ns if self.heard else None

    def came_at(self, stamp_ns: int, default: float) -> float:
        """When the message with this stamp came; ``default``: it is not remembered any more."""
        place = bisect.bisect_left(self.heard, stamp_ns, key=stamp_of)
        return self.heard[place].at if stamp_ns in self else default

    def before(self, stamp_ns: int) -> int | None:
        """The newest stamp earlier than this one, ns."""
        place = bisect.bisect_left(self.heard, stamp_ns, key=stamp_of)
        return self.heard[place - 1].stamp_ns if place else None

    def after(self, stamp_ns: int | None) -> Sequence[Arrival]:
        """What was measured later than this; None: everything."""
        if stamp_ns is None:
            return self.heard
        return self.heard[bisect.bisect_right(self.heard, stamp_ns, key=stamp_of) :]

    def period_ns(self, until_ns: int | None = None, *, share: float = 0.5) -> float | None:
        """The median time between the last messages up to a stamp, ns; None before the second.

        Later messages do not count, so that the answer is the same whatever has come since.
        ``share``: so much of the times is shorter, if not one half.
        """
        end = len(self.heard)
        if until_ns is not None:
            end = bisect.bisect_right(self.heard, until_ns, key=stamp_of)
        # Asked for of every sensor with every message, and told by the sensor's own alone.
        if (end, share) not in self._periods:
            recent = [heard.stamp_ns for heard in self.heard[max(0, end - _INTERVALS) : end]]
            intervals = sorted(map(operator.sub, recent[1:], recent))
            # Many times faster than the statistics module.
            middle = int(share * (len(intervals) - 1))
            self._periods[end, share] = float(intervals[middle]) if intervals else None
        return self._periods[end, share]

    def until(self, stamp_ns: int) -> Sequence[Timed]:
        """Messages not later than a stamp, oldest first."""
        return self.messages[: bisect.bisect_right(self.messages, stamp_ns, key=stamp_of)]

    def forget_after(self, stamp_ns: float) -> int:
        """Forget messages with a later stamp; how many were heard."""
        gone = sum(heard.stamp_ns > stamp_ns for heard in self.heard)
        self.heard = [heard for heard in self.heard if heard.stamp_ns <= stamp_ns]
        self.messages = [message for message in self.messages if message.stamp_ns <= stamp_ns]
        self._periods.clear()
        return gone

    def clear(self) -> None:
        """Forget the messages; the counts stay."""
        self.messages.clear()
        self.heard.clear()
        self._periods.clear()


def _beyond(messages: Sequence[Timed | Arrival], kept: int, kept_ns: int) -> int:
    """How many of the oldest messages are neither among the newest ``kept`` nor young enough."""
    oldest_ns = messages[-1].stamp_ns - kept_ns
    return max(0, min(len(messages) - kept, bisect.bisect_left(messages, oldest_ns, key=stamp_of)))


def stamp_of(message: Timed | Arrival) -> int:
    """Its stamp, ns: the key that messages are sorted by."""
    return message.stamp_ns
