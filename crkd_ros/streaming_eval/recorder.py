"""What a live detector published while a bag played, and when in the bag's time it arrived.

Duck-typed over messages, no rclpy: callbacks for the topics of `crkd live` and of the evaluator
node. Arrival is told in bag time, from /clock, so that it can be compared with stamps at any rate.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.boxes import Detections
from crkd_ros.convert import arrays

#: Time that goes back by more than this is a bag that begins again, nanoseconds.
_JUMP = 1_000_000_000
#: The rate of playing is taken from so many seconds of ticks.
_WINDOW = 2.0


class BagClock:
    """Bag time of real moments, from the ticks of /clock.

    Between two ticks it runs on, and after the last one too: what comes when the bag is over came
    later than its end. A player that pauses goes on ticking, with the same time.

    Moments are seconds of any steadily growing clock.
    """

    def __init__(self) -> None:
        self._ticks: deque[tuple[float, int]] = deque()
        #: Bag time of the last tick, ns; None before the first.
        self.last_ns: int | None = None

    @property
    def rate(self) -> float:
        """Bag seconds per real second over the last ticks; 0 when unknown or paused."""
        if len(self._ticks) < 2:
            return 0.0
        (since, first_ns), (until, last_ns) = self._ticks[0], self._ticks[-1]
        return (last_ns - first_ns) * 1e-9 / (until - since) if until > since else 0.0

    def tick(self, stamp_ns: int, now: float) -> bool:
        """/clock said ``stamp_ns``. True: time was set back."""
        back = self.last_ns is not None and stamp_ns < self.last_ns - _JUMP
        if back:
            self._ticks.clear()
        elif self.last_ns is not None and stamp_ns < self.last_ns:
            return False  # Overtaken on the way.
        self.last_ns = stamp_ns
        self._ticks.append((now, stamp_ns))
        while now - self._ticks[0][0] > _WINDOW and len(self._ticks) > 2:
            self._ticks.popleft()
        return back

    def at(self, now: float) -> int | None:
        """Bag time of a moment not before the last tick; None before the first."""
        if self.last_ns is None:
            return None
        return self.last_ns + round(max(now - self._ticks[-1][0], 0.0) * self.rate * 1e9)


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One message of ``~/boxes``: its stamp, its arrival in bag time, boxes in ``frame_id``.

    What its labels mean is told by /diagnostics, which may come later.
    """

    stamp_ns: int
    available_ns: int
    cloud: Any
    frame_id: str

    def detections(self, classes: Sequence[str]) -> Detections:
        """The boxes, of a detector of these classes. Raises ConvertError: it cannot be."""
        return arrays.boxes_from_cloud(self.cloud, classes)


@dataclass
class Pass:
    """One playing of the bag, from its begin until its end or until time was set back.

    Attributes:
        first_ns, last_ns: bag time of its first and last tick.
        seconds: real time between the two.
        arrivals: what the node published, in the order of arrival.
        poses: stamp ns -> [4, 4] pose of the vehicle, from odometry.
        classes: of the detector; () where it told none.
        skipped, dropped: frames that the node reported, None where it reported nothing.
        stages: stage -> mean milliseconds, weighted over ``frames`` frames.
    """

    first_ns: int
    last_ns: int
    began: float
    seconds: float = 0.0
    arrivals: list[Arrival] = field(default_factory=list)
    poses: dict[int, NDArray[np.float64]] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    skipped: int | None = None
    dropped: int | None = None
    frames: int = 0
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        """Bag seconds per real second; 0 for a pass of one tick."""
        return (self.last_ns - self.first_ns) * 1e-9 / self.seconds if self.seconds else 0.0


class Recorder:
    """Takes the messages; ``passes`` holds what came. Thread-safe.

    Args:
        node: fully qualified name of the detector node, as it appears in /diagnostics.
        clock: real time, seconds, steadily growing.
    """

    def __init__(
        self, *, node: str = "/detector_node", clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._node, self._now = node, clock
        self._lock = threading.Lock()
        self._clock = BagClock()
        self._counters: dict[str, int] = {}
        self._counters_before: dict[str, int] = {}
        self._classes: tuple[str, ...] = ()
        self.passes: list[Pass] = []
        #: Boxes that came before /clock: nothing can be said of them.
        self.unplaced = 0
        #: Real time of the last tick of /clock that moved on, and of the last boxes.
        self.last_tick = self.last_boxes = clock()

    def on_clock(self, message: Any) -> None:
        """Subscription callback of /clock."""
        self.tick(arrays.stamp_ns(message.clock))

    def tick(self, stamp_ns: int) -> None:
        """The bag's time is now ``stamp_ns``."""
        now = self._now()
        with self._lock:
            moved = stamp_ns != self._clock.last_ns
            if self._clock.tick(stamp_ns, now) or not self.passes:
                self._counters_before = dict(self._counters)
                self.passes.append(
                    Pass(first_ns=stamp_ns, last_ns=stamp_ns, began=now, classes=self._classes)
                )
            current = self.passes[-1]
            if moved and stamp_ns >= current.last_ns:
                current.last_ns, current.seconds = stamp_ns, now - current.began
                self.last_tick = now

    def on_boxes(self, message: Any) -> None:
        """Subscription callback of ``~/boxes``."""
        now = self._now()
        stamp_ns = arrays.stamp_ns(message.header.stamp)
        with self._lock:
            self.last_boxes = now
            available_ns = self._clock.at(now)
            if available_ns is None:
                self.unplaced += 1
                return
            current = self.passes[-1]
            if stamp_ns > available_ns + _JUMP and len(self.passes) > 1:
                # The answer to a frame of the pass before: its time has run on meanwhile.
                since, current = now - current.began, self.passes[-2]
                available_ns = current.last_ns + round(since * current.rate * 1e9)
            current.arrivals.append(
                Arrival(
                    stamp_ns=stamp_ns,
                    # A tick may be under way while boxes of the same moment are here already.
                    available_ns=max(available_ns, stamp_ns),
                    cloud=message,
                    frame_id=message.header.frame_id,
                )
            )

    def on_odometry(self, message: Any) -> None:
        """Subscription callback of the odometry: to check whose drive is played."""
        pose = arrays.odometry_pose(message)
        with self._lock:
            if self.passes:
                self.passes[-1].poses[arrays.stamp_ns(message.header.stamp)] = pose

    def on_diagnostics(self, message: Any) -> None:
        """Subscription callback of /diagnostics: classes, frames skipped, means per stage."""
        for status in message.status:
            values = {pair.key: pair.value for pair in status.values}
            with self._lock:
                if status.name == f"{self._node}: classes" and values:
                    self._on_classes(tuple(values[str(label)] for label in range(len(values))))
                if status.name == f"{self._node}: frames":
                    self._on_counters(values)
                elif status.name == f"{self._node}: latency" and self.passes:
                    _add_stages(self.passes[-1], values)

    def _on_classes(self, classes: tuple[str, ...]) -> None:
        self._classes = classes
        for one in self.passes:
            one.classes = one.classes or classes

    def _on_counters(self, values: dict[str, str]) -> None:
        # Keys carry an explanation in brackets.
        for key, value in values.items():
            if value.isdigit():
                self._counters[key.split(" (")[0]] = int(value)
        if not self.passes:
            return  # What a node has counted before the first pass is not of it.
        current = self.passes[-1]
        since = {k: v - self._counters_before.get(k, 0) for k, v in self._counters.items()}
        current.skipped, current.dropped = since.get("skipped"), since.get("dropped")


def _add_stages(current: Pass, values: dict[str, str]) -> None:
    """Take the means of one window of the node's into those of the pass."""
    count = int(values.get("frames", "0"))
    if not count:
        return
    total = current.frames + count
    for key, value in values.items():
        if key.endswith(" mean (ms)"):
            stage = key.removesuffix(" mean (ms)")
            before = current.stages.get(stage, 0.0) * current.frames
            current.stages[stage] = (before + float(value) * count) / total
    for stage in current.stages.keys() - {key.removesuffix(" mean (ms)") for key in values}:
        current.stages[stage] *= current.frames / total
    current.frames = total
