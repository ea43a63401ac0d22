"""Time that jumps, told from single stamps that are wrong. Pure; not thread-safe.

A bag that begins again, or a clock that is set, moves the stamps of every sensor; a broken message
or a sensor with a clock of its own moves only some. So a stamp far from the others' is set aside:
when the next ones agree with it, time did jump, and nothing is lost; when one does not, it is
dropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from crkd_ros.tracks import Track

#: So many messages in a row, of at least two sensors, must agree on the new time.
_AGREE = 3
#: So many, if all are of one sensor: it may be the only one.
_ALONE = 24
#: So many in a row that are far behind the last frame: its time was wrong.
_HOPELESS = 32


class Message(NamedTuple):
    """What the synchroniser is given."""

    sensor: str
    stamp_ns: int
    item: Any
    at: float


class Verdict(NamedTuple):
    """What to do, in this order: count the strays, forget everything, take the messages."""

    strays: tuple[Message, ...] = ()
    forget: bool = False
    take: tuple[Message, ...] = ()


@dataclass
class JumpGuard:
    """Judges stamps.

    Args:
        jump_ns: what is closer to the others' time is no jump.
        tracks: sensor -> what was heard of it.
    """

    jump_ns: float
    tracks: Mapping[str, Track]
    _newest: int | None = None
    _newest_at: float = 0.0
    _aside: list[Message] = field(default_factory=list)
    _behind: int = 0

    def judge(self, message: Message, last_ns: int | None) -> Verdict:
        """What to do with a message. ``last_ns``: reference of the last frame."""
        far = self._far(message)
        if far and self._aside and not self._agree(message, self._aside[-1]):
            strays, self._aside = tuple(self._aside), [message]
            return Verdict(strays=strays)
        if far:
            self._aside.append(message)
            sensors = {one.sensor for one in self._aside}
            if len(self._aside) < (_AGREE if len(sensors) > 1 else _ALONE):
                return Verdict()
            take, self._aside = tuple(self._aside), []
            back = self._newest is not None and message.stamp_ns < self._newest
            self._newest, self._newest_at = max((one.stamp_ns, one.at) for one in take)
            return Verdict(forget=back, take=take)
        strays, self._aside = tuple(self._aside), []
        behind = last_ns is not None and message.stamp_ns < last_ns - self.jump_ns
        self._behind = self._behind + 1 if behind else 0
        forget = self._behind >= _HOPELESS
        if forget:
            self._newest = None
            self._behind = 0
        if self._newest is None or message.stamp_ns > self._newest:
            self._newest, self._newest_at = message.stamp_ns, message.at
        return Verdict(strays=strays, forget=forget, take=(message,))

    def clear(self) -> None:
        """Begin again: the next message tells the time."""
        self._newest, self._behind = None, 0
        self._aside.clear()

    def _far(self, message: Message) -> bool:
        if self._newest is None:
            return False
        own = self.tracks[message.sensor].newest_ns
        earliest = (self._newest if own is None else own) - self.jump_ns
        # Time passes while nobody speaks.
        latest = self._newest + self.jump_ns + max(0.0, message.at - self._newest_at) * 1e9
        return not earliest <= message.stamp_ns <= latest

    def _agree(self, one: Message, other: Message) -> bool:
        return abs(one.stamp_ns - other.stamp_ns) <= self.jump_ns
