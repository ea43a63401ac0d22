"""Time that jumps, told from single stamps that are wrong. Pure; not thread-safe.

A bag that begins again, or a clock that is set, moves the stamps of every sensor; a broken message
or a sensor with a clock of its own moves only some. So a stamp far from the others' is set aside:
when the next ones agree with it, time did jump, and nothing is lost; when one does not, it is
dropped.

A stamp ahead of the others must not be believed lightly: it makes them look dead, and the frame
that it asks for shuts out everything before it. So the others vote: each knows a time by which it
would be nearly dead, and a stamp beyond that of more than half of them is far.

A clock that is set back by less than a jump (NTP) makes no stamp far, but messages of both times
would be mixed: it was set when two sensors say twice what is older than their newest and none goes
on. Until then no frame takes what is older than the newest of its sensor.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from crkd_ros.sync.history import Arrival, History

#: So many messages in a row, of at least two sensors, must agree on the new time.
_AGREE = 3
#: So many, if all are of one sensor: it may be the only one.
_ALONE = 24
#: So many of one sensor, if it had been heard on the old time: nobody else speaks (any more).
_SURVIVOR = 6
#: So many sensors say so often what is older than their newest when the clock was set back. The
#: only sensor says it as often as a survivor.
_TWICE = 2
#: So many in a row that are far behind the last frame: its time was wrong.
_HOPELESS = 32
#: So many sensors can be outvoted; fewer cannot tell which of them is wrong.
_VOTERS = 3
#: A stamp may lead a sensor by so many of its periods, or by so much, ns. Less than makes it dead
#: (triggers.py): the others' clocks are read up to a period after they spoke.
_LEAD, _LEAD_NS = 4, 400_000_000
#: A slow sensor is given so many periods at least.
_DUE = 1.5


class Message(NamedTuple):
    """What the synchroniser is given."""

    sensor: str
    arrival: Arrival
    item: Any

    @property
    def stamp_ns(self) -> int:
        """When it says it was measured."""
        return self.arrival.stamp_ns

    @property
    def at(self) -> float:
        """When it came."""
        return self.arrival.at


class Verdict(NamedTuple):
    """What to do, in this order: count the strays, forget everything, take the messages."""

    strays: tuple[Message, ...] = ()
    forget: bool = False
    take: tuple[Message, ...] = ()


@dataclass
class ClockJumpGuard:
    """Judges stamps.

    Args:
        jump_ns: what is closer to the others' time is no jump.
        histories: sensor -> what was heard of it. What a sensor that the others find to be ahead
            had said before they could tell is taken from its history.
    """

    jump_ns: float
    histories: Mapping[str, History]
    _newest: int | None = None
    _newest_at: float = 0.0
    _aside: list[Message] = field(default_factory=list)
    _behind: int = 0
    #: Messages since sensors began to say what is older than their newest, and none went on.
    _back: list[Message] = field(default_factory=list)
    #: Sensor -> what it said since its newest stamp, ns: older, so it may be of another time.
    _doubted: dict[str, set[int]] = field(default_factory=dict)
    #: Sensors that the others have found to be on their time.
    _confirmed: set[str] = field(default_factory=set)
    #: Sensor -> its newest stamp when others went on without it: it votes when it speaks again.
    _silent: dict[str, int] = field(default_factory=dict)

    def judge(self, message: Message, last_ns: int | None) -> Verdict:
        """What to do with a message. ``last_ns``: reference of the last frame."""
        far = self._far(message)
        if far and self._aside and not self._agree(message, self._aside[-1]):
            strays, self._aside = tuple(self._aside), [message]
            return Verdict(strays=strays)
        if far:
            self._aside.append(message)
            back = self._newest is not None and message.stamp_ns < self._newest
            if not self._believed(forward=not back):
                return Verdict()
            take, self._aside = tuple(self._aside), []
            if not back:
                sensors = {one.sensor for one in take}
                self._silent |= {n: t for n, t in self._heard().items() if n not in sensors}
            self.told(take)
            return Verdict(forget=back, take=take)
        strays, self._aside = tuple(self._aside), []
        behind = last_ns is not None and message.stamp_ns < last_ns - self.jump_ns
        self._behind = self._behind + 1 if behind else 0
        forget = self._behind >= _HOPELESS
        if forget:
            self._newest = None
            self._behind = 0
        elif self._set_back(message):
            return Verdict(strays=strays, forget=True, take=tuple(self._back))
        if self._newest is None or message.stamp_ns > self._newest:
            self.told((message,))
        return Verdict(strays=strays, forget=forget, take=(message,))

    def doubted(self, sensor: str) -> set[int]:
        """Stamps of a sensor, older than its newest, since which it has not gone on, ns."""
        return self._doubted.get(sensor, set())

    def told(self, messages: Sequence[Message]) -> None:
        """These tell the time."""
        self._newest, self._newest_at = max(one.arrival for one in messages)

    def clear(self) -> None:
        """Begin again: the next message tells the time."""
        self._newest, self._behind = None, 0
        self._aside, self._back = [], []
        self._doubted.clear()
        self._confirmed.clear()
        self._silent.clear()

    def _set_back(self, message: Message) -> bool:
        """Whether the clock of all sensors was set back, by so little that no stamp is far."""
        history = self.histories[message.sensor]
        newest_ns = history.newest_ns
        if newest_ns is None or message.stamp_ns == newest_ns:
            return False
        if message.stamp_ns > newest_ns:
            self._doubted.pop(message.sensor, None)
        elif message.stamp_ns not in history:
            self._doubted.setdefault(message.sensor, set()).add(message.stamp_ns)
        said = [one.stamp_ns for one in self._back if one.sensor == message.sensor]
        if message.stamp_ns > newest_ns or (said and message.stamp_ns <= said[-1]):
            self._back.clear()
            return False
        self._back.append(message)
        times = Counter(one.sensor for one in self._back)
        if len(self._heard()) == 1:
            return len(self._back) >= _SURVIVOR
        return sum(count >= _TWICE for count in times.values()) >= _TWICE

    def _far(self, message: Message) -> bool:
        if self._newest is None:
            return False
        history = self.histories[message.sensor]
        latest = self._latest(message)
        if latest is not None:
            if message.stamp_ns <= latest:
                self._confirmed.add(message.sensor)
            else:
                if message.sensor not in self._confirmed:
                    history.counts.outlier += history.forget_after(latest)
                return True
        own = history.newest_ns
        earliest = (self._newest if own is None else own) - self.jump_ns
        # Time passes while nobody speaks.
        newest = self._newest + self.jump_ns + max(0.0, message.at - self._newest_at) * 1e9
        return not earliest <= message.stamp_ns <= newest

    def _latest(self, message: Message) -> float | None:
        """The time that a stamp may have by the vote of the other sensors; None: too few."""
        limits = []
        for name, history in self.histories.items():
            newest = history.newest
            if name == message.sensor or newest is None:
                continue
            if self._silent.get(name) == newest.stamp_ns:
                continue
            period = history.period_ns()
            lead = max(_LEAD * (period or 0.0), _LEAD_NS)
            lead = max(min(lead, self.jump_ns), _DUE * (period or 0.0))
            limits.append(newest.stamp_ns + lead + max(0.0, message.at - newest.at) * 1e9)
        # Of an even number the later one: half of the sensors may be dead.
        return sorted(limits)[len(limits) // 2] if len(limits) >= _VOTERS else None

    def _believed(self, *, forward: bool) -> bool:
        """Whether what was set aside is enough to say that time jumped."""
        times = Counter(one.sensor for one in self._aside)
        if len(self._aside) >= _ALONE:
            return True
        together = len(times) > 1 and len(self._aside) >= _AGREE
        if not forward:
            return together
        # Sensors with another clock are many in a row, too, between two turns of the cameras.
        heard = self._heard()
        known = [name for name in times if name in heard]
        if any(times[name] >= _SURVIVOR for name in known):
            return len(heard) >= _VOTERS
        told = bool(known) or len(heard) < _VOTERS
        return together and told and len(times) > len(heard.keys() - times.keys())

    def _heard(self) -> dict[str, int]:
        """Sensor -> its newest stamp, of those heard on the old time that have not gone silent."""
        return {
            name: newest
            for name, history in self.histories.items()
            if (newest := history.newest_ns) is not None and self._silent.get(name) != newest
        }

    def _agree(self, one: Message, other: Message) -> bool:
        return abs(one.stamp_ns - other.stamp_ns) <= self.jump_ns
