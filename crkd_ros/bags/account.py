"""What became of every sensor's messages in the frames of a bag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from crkd_core.tables import Table
from crkd_ros.sync.history import Counts
from crkd_ros.sync.synchroniser import FrameSet


@dataclass
class SensorAccount:
    """One camera or radar.

    Attributes:
        topic: of its messages; "": the bag has none.
        messages: of that topic.
        broken: those that cannot be decoded or lack what is needed.
        stamps: those whose stamp is missing, doubled or far from the others'.
        used: those that stood in a frame.
        masked: frames without it; ``late``: those of them that had been made when its message
            came, and the newest frame was by up to ``behind`` seconds newer than that.
        reasons: why messages could not be used.
        absent: why frames were without it though no message was wrong.
    """

    topic: str
    messages: int = 0
    broken: int = 0
    stamps: int = 0
    used: int = 0
    masked: int = 0
    late: int = 0
    behind: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    absent: str = ""

    @property
    def stale(self) -> int:
        """Messages that could have been used and were in no frame."""
        return max(0, self.messages - self.used - self.broken - self.stamps)

    def why(self) -> str:
        """The most frequent reason; "": nothing was wrong."""
        if self.reasons:
            return self.reasons.most_common(1)[0][0]
        if self.late and 2 * self.late >= self.masked:
            return f"came {self.behind:.2f} s late, when the frame had been made"
        return self.absent


class Account:
    """Counts while frames are made.

    Args:
        topics: sensor -> its topic, of all that frames may have; "" for those not in the bag.
        limits: sensor -> oldest that its newest message may be in a frame, s.

    Attributes:
        frames: frames made; ``dropped``: frames that could not be made.
        sensors: what became of each.
    """

    def __init__(self, topics: Mapping[str, str], limits: Mapping[str, float]) -> None:
        self.frames = self.dropped = 0
        self.sensors = {name: SensorAccount(topic) for name, topic in topics.items()}
        self._limits = dict(limits)
        self._newest_ns = 0
        self._used: dict[str, set[int]] = {name: set() for name in topics}
        #: Sensor -> references of frames without it that a message to come may be of, ns.
        self._without: dict[str, list[int]] = {name: [] for name in topics}

    def came(self, sensor: str) -> None:
        """A message was read."""
        self.sensors[sensor].messages += 1

    def stamped(self, sensor: str, stamp_ns: int) -> None:
        """It can be used, if it is not too late."""
        one, limit = self.sensors[sensor], self._limits[sensor] * 1e9
        left = [at for at in self._without[sensor] if at >= stamp_ns]
        self._without[sensor] = [at for at in left if at - stamp_ns > limit]
        if late := len(left) - len(self._without[sensor]):
            one.late += late
            one.behind = max(one.behind, (self._newest_ns - stamp_ns) / 1e9)

    def trouble(self, sensor: str, text: str) -> None:
        """One of its messages cannot be used."""
        if sensor in self.sensors:
            self.sensors[sensor].broken += 1
            self.sensors[sensor].reasons[text] += 1

    def frame(self, asked: FrameSet, made: FrameSet) -> None:
        """A frame was made of ``made``, what could be decoded of ``asked``."""
        self.frames += 1
        self._newest_ns = asked.stamp_ns
        for name, one in self.sensors.items():
            if name in made.images:
                self._used[name].add(made.images[name].stamp_ns)
            elif name in made.sweeps:
                self._used[name] |= {sweep.stamp_ns for sweep in made.sweeps[name]}
            else:
                one.masked += 1
                if name not in asked.images:
                    self._without[name].append(asked.stamp_ns)
                    text = f"no message less than {self._limits[name]:g} s before the frame"
                    one.absent = text if one.topic else "not in the bag"
            one.used = len(self._used[name])

    def finish(self, counts: Mapping[str, Counts]) -> None:
        """What the synchroniser says of all messages."""
        for name, one in self.sensors.items():
            found = counts[name]
            one.stamps = found.zero_stamp + found.duplicate + found.outlier
            if one.stamps:
                parts = ("zero_stamp", "duplicate", "outlier")
                text = ", ".join(
                    f"{count} {part.replace('_', ' ')}"
                    for part in parts
                    if (count := getattr(found, part))
                )
                one.reasons[text] += one.stamps

    def table(self) -> Table:
        """For print_tables: a row a sensor."""
        columns = ("sensor", "messages", "used", "stale", "broken", "stamps", "masked", "why")
        rows = [
            [
                name.lower(),
                *map(str, (one.messages, one.used, one.stale, one.broken, one.stamps)),
                f"{one.masked} of {self.frames}",
                _short(one.why()),
            ]
            for name, one in self.sensors.items()
        ]
        return Table(columns=columns, rows=rows, texts=("why",))


def _short(text: str, limit: int = 120) -> str:
    text = " ".join(text.split())
    return text if len(text) <= limit else f"{text[:limit]} ..."
