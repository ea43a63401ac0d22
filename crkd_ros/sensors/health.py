"""What is wrong with one sensor, the most specific cause first. Pure; thread-safe.

A sensor that was never heard of may have no publisher, one with another QoS or type, or one that
is silent; one that is heard may be stale, broken, without CameraInfo or transform, late or slow.
Only the consumer can tell all of these apart, so it tells (docs/ros.md, "Health").
"""

from __future__ import annotations

import dataclasses
import statistics
import threading
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from crkd_ros.parameters.health import HealthConfig
from crkd_ros.sync.history import Arrival, Counts

Level = Literal[0, 1, 2]
OK: Level = 0
WARN: Level = 1
ERROR: Level = 2

#: What a message that did arrive may lack, in the order in which it is reported.
Trouble = Literal["unusable", "no CameraInfo", "no transform"]
_TROUBLES: tuple[Trouble, ...] = ("unusable", "no CameraInfo", "no transform")
#: Of the synchroniser's counts, the messages that were of no use.
_LOST = ("late", "duplicate", "zero_stamp", "outlier")
#: What is counted whether it delivers or not.
_FRAMES = {"frames", "frames without it"}
#: A stamp further than this from the node's clock belongs to another clock, seconds.
CLOCKS_AGREE = 60.0
#: The rate is of the messages of the last seconds.
_RATE_WINDOW = 3.0
_RATE_MESSAGES = 512
#: This share of the messages counts as all: threads note some of them a little later.
_ALL = 0.8
#: Stamps so far in the future are of another clock, s: simulated time moves in steps.
_AHEAD = 0.2
#: Sensors whose clocks are further apart than this are of different clocks, s.
_DISAGREE = 1.0
_OTHER_CLOCK = "unknown: stamps are of another clock (play bags with --clock, use_sim_time)"


@dataclass(frozen=True, kw_only=True)
class TopicStatus:
    """What the ROS graph says of a sensor's topic.

    Attributes:
        publishers: publishers of the topic, of any type and QoS.
        obstacle: why none of them can reach the subscription (QoS policy, type), or where the
            messages are if there is none; "" = one can, or nobody knows.
        latched: whether one that can keeps what it has sent for those who come later and ask, and
            the subscription does not ask.
    """

    publishers: int
    obstacle: str = ""
    latched: bool = False


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Level, one sentence, and the figures behind it."""

    level: Level
    text: str
    values: dict[str, str]


class SensorHealth:
    """Notes what arrives from one sensor, and judges it.

    Args:
        topic: of its messages, as resolved.
        config: the limits.
        counts: what the synchroniser did with its messages; None = it does not take them.
    """

    def __init__(self, *, topic: str, config: HealthConfig, counts: Counts | None = None) -> None:
        self.topic = topic
        self._config, self._counts = config, counts
        self._lock = threading.RLock()
        self._arrivals: deque[Arrival] = deque(maxlen=_RATE_MESSAGES)
        self._newest: Arrival | None = None
        self._begun = 0.0  # When it was heard at first, or again after it was stale.
        self._delays: list[float] = []
        self._offset: float | None = None
        self._tally: Counter[str] = Counter(received=0)
        self._before: Counter[str] = Counter()
        self._texts: dict[Trouble, str] = {}
        self._last: tuple[Level, str] | None = None
        self._first_judged: float | None = None

    def received(self, arrival: Arrival, *, clock_ns: int) -> None:
        """A message arrived, when the node's ROS clock said ``clock_ns``."""
        with self._lock:
            self._tally["received"] += 1
            if not self.alive(arrival.at):
                self._begun = arrival.at
            self._newest = arrival
            self._arrivals.append(arrival)
            if arrival.stamp_ns > 0 and clock_ns > 0:  # Simulated time is 0 until it is told.
                self._delays.append((clock_ns - arrival.stamp_ns) * 1e-9)
                del self._delays[:-_RATE_MESSAGES]

    def info_received(self) -> None:
        """A CameraInfo arrived."""
        with self._lock:
            self._tally["camera_info received"] += 1

    def framed(self, *, masked: bool) -> None:
        """A frame was made, with it or without."""
        with self._lock:
            self._tally["frames"] += 1
            self._tally["frames without it"] += masked

    def trouble(self, kind: Trouble, text: str) -> None:
        """A message that arrived could not be used."""
        with self._lock:
            self._tally[kind] += 1
            self._texts[kind] = text

    @property
    def heard(self) -> bool:
        """Whether anything ever came."""
        return self._newest is not None

    def alive(self, now: float) -> bool:
        """Whether it delivers at present."""
        newest = self._newest
        return newest is not None and now - newest.at <= self._config.stale_after

    def offset(self) -> float | None:
        """How much older than the clock its stamps are at arrival, s, whatever their clock."""
        with self._lock:
            if self._delays:
                self._offset = statistics.median(self._delays)
            return self._offset

    def rate(self, now: float) -> float:
        """Messages per second, lately."""
        with self._lock:
            while self._arrivals and now - self._arrivals[0].at > _RATE_WINDOW:
                self._arrivals.popleft()
            if len(self._arrivals) < 2:
                return len(self._arrivals) / _RATE_WINDOW
            spans = len(self._arrivals) - 1
            span = self._arrivals[-1].at - self._arrivals[0].at
            # A sensor that stops loses its rate at once, not when the window has passed.
            silence = now - self._arrivals[-1].at
            return spans / max(span + max(0.0, silence - span / spans), 1e-9)

    def judge(
        self,
        *,
        now: float,
        clock_ns: int,
        status: TopicStatus | None,
        others: float | None = None,
    ) -> Verdict:
        """The state at present; what happened since the call before counts as present.

        Args:
            now: seconds, as in ``received``.
            clock_ns: the node's ROS clock.
            status: its topic in the ROS graph; None = not known.
            others: the other sensors' ``offset``, where most of them agree; else None.
        """
        with self._lock:
            return self._judge(now, clock_ns, status, others)

    def _judge(
        self, now: float, clock_ns: int, status: TopicStatus | None, others: float | None
    ) -> Verdict:
        tally = Counter(self._tally)
        if self._counts is not None:
            counted = dataclasses.asdict(self._counts)
            tally["taken"] = counted.pop("received")
            tally.update(counted)
        new, self._before = tally - self._before, tally
        offset = self.offset() if self._delays else None
        delays, self._delays = [one for one in self._delays if abs(one) < CLOCKS_AGREE], []
        delay = sum(delays) / len(delays) if delays else None
        level, text = self._cause(now, status, new, delay, _clock_trouble(offset, others))
        values: dict[str, str] = {"topic": self.topic}
        if status is not None:
            values["publishers"] = str(status.publishers)
        values["rate (Hz)"] = f"{self.rate(now):.1f}"
        if self._newest is not None:
            age = (clock_ns - self._newest.stamp_ns) * 1e-9
            values["receive age (s)"] = f"{now - self._newest.at:.3f}"
            values["stamp age (s)"] = f"{age:.3f}" if abs(age) < CLOCKS_AGREE else _OTHER_CLOCK
        if delay is not None:
            values["delay at arrival (s)"] = f"{delay:.3f}"
        values |= {name.replace("_", " "): str(count) for name, count in tally.items()}
        values |= {f"last {kind}": self._texts[kind] for kind in _TROUBLES if kind in self._texts}
        return Verdict(level=level, text=text, values=values)

    def _cause(
        self,
        now: float,
        status: TopicStatus | None,
        new: Counter[str],
        delay: float | None,
        clock: str,
    ) -> tuple[Level, str]:
        """The first of the causes that applies: what rules out the most comes first."""
        limits = self._config
        if self._first_judged is None:
            self._first_judged = now
        if self._newest is None:
            # Drivers may well come up after the node.
            early = now - self._first_judged < limits.start_grace
            return WARN if early else ERROR, f"never received: {silence(self.topic, status)}"
        silent = now - self._newest.at
        if silent > limits.stale_after:
            return ERROR, f"stale: nothing for {silent:.1f} s: {silence(self.topic, status)}"
        if new.keys() <= _FRAMES and self._last is not None:
            return self._last  # A slow sensor: it has said nothing since.
        self._last = self._content(now, new, delay, clock)
        return self._last

    def _content(
        self, now: float, new: Counter[str], delay: float | None, clock: str
    ) -> tuple[Level, str]:
        """The same for a sensor that delivers."""
        limits = self._config
        for kind in _TROUBLES:
            if new[kind] and new[kind] >= _ALL * new["received"]:
                return ERROR, f"{kind}: {self._texts[kind]}"
        if new["zero_stamp"] and new["zero_stamp"] >= _ALL * new["received"]:
            assert self._newest is not None
            return ERROR, (
                f"zero or negative stamps, the newest {self._newest.stamp_ns * 1e-9:.3f} s: the "
                "driver does not fill in header.stamp, or its clock is wrong"
            )
        for kind in _TROUBLES:
            if new[kind]:
                return WARN, f"{kind}, {new[kind]} of {new['received']}: {self._texts[kind]}"
        if clock:
            return WARN, clock
        if new["outlier"] and new["outlier"] >= _ALL * new["received"]:
            own = "" if delay is None else f"; it arrives {delay:.2f} s after its stamps"
            return ERROR, (
                "no message is used: its stamps are far from the other sensors', or far ahead of "
                f"most{own}. Either its clock is another, or the others arrive so much later (see "
                "their delay at arrival): send them with less delay"
            )
        rate = self.rate(now)
        if rate < limits.rate_warning:
            if len(self._arrivals) < 2 and (now - self._begun) * limits.rate_warning < 1:
                return OK, "begins"  # Of one message nobody knows a rate.
            return WARN, f"slow: {rate:.1f} Hz, below health.rate_warning {limits.rate_warning:g}"
        if limits.age_warning and delay is not None and delay > limits.age_warning:
            return WARN, (
                f"delayed: arrives {delay:.2f} s after its stamps, above health.age_warning "
                f"{limits.age_warning:g}"
            )
        lost = {name.replace("_", " "): new[name] for name in _LOST if new[name]}
        if sum(lost.values()) > limits.loss_warning * max(1, new["received"]):
            found = ", ".join(f"{count} {name}" for name, count in lost.items())
            return WARN, f"lossy: {found} of {new['received']} messages"
        without, frames = new["frames without it"], new["frames"]
        if without > limits.loss_warning * frames:
            return WARN, (
                f"masked in {without} of {frames} frames though it delivers: its stamps are not "
                "of the frames' time; see sync.* (how the cameras fire, ages, late messages)"
            )
        return OK, f"{rate:.1f} Hz"


def silence(topic: str, status: TopicStatus | None) -> str:
    """Why nothing arrives on a topic, as far as the ROS graph knows; None: it was not asked."""
    if status is None:
        return f"on {topic}"
    if not status.publishers:
        return f"no publisher on {topic}" + (status.obstacle and f"; {status.obstacle}")
    if status.obstacle:
        return f"{topic}: {status.obstacle}"
    return (
        f"{topic} has {status.publishers} publisher(s), but nothing arrives: the driver sends "
        "nothing, or the network loses it"
    )


def agreed(offsets: Sequence[float]) -> float | None:
    """The offset that more than half of some sensors have; None: they do not agree, or are < 2."""
    if len(offsets) < 2:
        return None
    middle = statistics.median_low(offsets)
    near = sum(abs(offset - middle) <= _DISAGREE for offset in offsets)
    return middle if near > len(offsets) / 2 else None


def _clock_trouble(offset: float | None, others: float | None) -> str:
    """What is wrong with the clock of a sensor's stamps; "": nothing."""
    if offset is None:
        return ""
    if offset < -_AHEAD:
        return (
            f"ahead: stamped {-offset:.2f} s in the future; is its clock another (PTP, GPS, TAI)?"
        )
    apart = 0.0 if others is None else offset - others
    # A delay of less than that is told as one.
    if abs(apart) > _DISAGREE and max(offset, others or 0.0) >= CLOCKS_AGREE:
        where = "before" if apart > 0 else "after"
        return (
            f"another clock: stamped {abs(apart):.2f} s {where} the other sensors, which agree; "
            "is its clock another (PTP, GPS, time since boot)?"
        )
    return ""
