"""What the synchroniser keeps of one sensor: recent messages by stamp, and what became of all."""

from __future__ import annotations

import bisect
import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

#: So many recent stamps tell a sensor's period.
_INTERVALS = 9


class Timed(NamedTuple):
    """What was added, with its stamp in nanoseconds."""

    stamp_ns: int
    item: Any


@dataclass
class Counts:
    """What happened to one sensor's messages since the start."""

    received: int = 0
    #: Not used: zero stamp, or a stamp this sensor has delivered before.
    zero_stamp: int = 0
    duplicate: int = 0
    #: Used where they still could be.
    out_of_order: int = 0
    #: Came after the frame that should have held them.
    late: int = 0


@dataclass
class Track:
    """The recent messages of one sensor, by stamp."""

    kept: int
    messages: list[Timed] = field(default_factory=list)
    stamps: deque[int] = field(default_factory=lambda: deque(maxlen=_INTERVALS))
    counts: Counts = field(default_factory=Counts)

    @property
    def newest_ns(self) -> int | None:
        """The newest stamp, ns; None after ``clear``."""
        return self.stamps[-1] if self.stamps else None

    @property
    def period_ns(self) -> float | None:
        """The median time between recent messages, ns; None before the second."""
        pairs = zip(list(self.stamps)[1:], self.stamps, strict=False)
        intervals = [later - earlier for later, earlier in pairs]
        return statistics.median(intervals) if intervals else None

    def until(self, stamp_ns: int) -> Sequence[Timed]:
        """Messages not later than a stamp, oldest first."""
        return self.messages[: bisect.bisect_right(self.messages, stamp_ns, key=stamp_of)]

    def clear(self) -> None:
        """Forget the messages; the counts stay."""
        self.messages.clear()
        self.stamps.clear()


def stamp_of(message: Timed) -> int:
    """Its stamp, ns: the key that messages are sorted by."""
    return message.stamp_ns
