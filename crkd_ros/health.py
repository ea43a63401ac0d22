"""What the node knows of its own state: counters, latency per stage, and /diagnostics of both.

Pure and thread-safe. The message is made on a timer, so it is published also when every input is
dead. Stages do not overlap, and "total" runs from the arrival of the frame's trigger to the end of
publishing: what the stages do not cover is the node's own overhead, shown as "other".
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from crkd_ros.publish import Make, header
from crkd_ros.tracks import Counts

#: Stages of one frame in their order: waiting for its other messages and for the network to come
#: free, for its images' decoding, making the Frame, the detector's own three, publishing.
STAGES = ("wait", "images", "frame", "prepare", "network", "decode", "publish")

_OK, _WARN, _ERROR = b"\x00", b"\x01", b"\x02"
#: Seconds between two log lines about the same kind of problem.
_LOG_EVERY = 5.0


class Latency:
    """Times of one frame, stage by stage, in seconds."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block."""
        before = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = time.monotonic() - before

    def finish(self) -> dict[str, float]:
        """All stages, then "other" and "total"."""
        total = time.monotonic() - self.start
        self.stages["other"] = total - sum(self.stages.values())
        self.stages["total"] = total
        return self.stages


class Health:
    """Counts what happens; ``diagnostics`` turns it into a message.

    Args:
        name: of the node, for the names of the status entries.
        hardware: device and precision, free text.
        clock: seconds, steadily growing.
    """

    def __init__(
        self, *, name: str, hardware: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._name, self._hardware, self._clock = name, hardware, clock
        self._lock = threading.Lock()
        self._published = self._skipped = self._dropped = 0
        self._problems: dict[str, tuple[int, str]] = {}
        self._problems_before: dict[str, int] = {}
        self._logged: dict[str, float] = {}
        self._window: defaultdict[str, list[float]] = defaultdict(list)
        self._received_before: dict[str, int] = {}
        self._last: float | None = None

    def published(self, latency: Mapping[str, float]) -> None:
        """One frame's detections went out."""
        with self._lock:
            self._published += 1
            for stage, seconds in latency.items():
                self._window[stage].append(seconds)

    def skipped(self, frames: int) -> None:
        """Frames that were complete, but a newer one was too when the network came free."""
        with self._lock:
            self._skipped += frames

    def dropped(self) -> None:
        """A frame failed; the reason goes to ``problem``."""
        with self._lock:
            self._dropped += 1

    def problem(self, kind: str, text: str) -> bool:
        """Count a problem. True: it is time to log it (the first, then at most every 5 s)."""
        now = self._clock()
        with self._lock:
            self._problems[kind] = (self._problems.get(kind, (0, ""))[0] + 1, text)
            due = now - self._logged.get(kind, -_LOG_EVERY) >= _LOG_EVERY
            if due:
                self._logged[kind] = now
            return due

    def diagnostics(
        self, make: Make, *, stamp_ns: int, sensors: Mapping[str, Counts], listeners: bool
    ) -> Any:
        """A diagnostic_msgs/DiagnosticArray: frames, latency, problems, inputs.

        Rates and latencies are of the time since the last call.
        """
        now = self._clock()
        with self._lock:
            seconds = None if self._last is None else max(now - self._last, 1e-6)
            self._last = now
            window, self._window = self._window, defaultdict(list)
            statuses = [
                self._frames(make, listeners),
                self._latency(make, window),
                self._problem_status(make),
                self._inputs(make, sensors, seconds),
            ]
        return make(
            "diagnostic_msgs/msg/DiagnosticArray",
            header=header(stamp_ns, "", make),
            status=statuses,
        )

    def _frames(self, make: Make, listeners: bool) -> Any:
        values = {
            "published": self._published,
            "skipped (newer one was ready)": self._skipped,
            "dropped (see problems)": self._dropped,
        }
        text = "detecting" if listeners else "idle: nobody subscribes to the detections"
        return self._status(make, "frames", _OK, text, values)

    def _latency(self, make: Make, window: Mapping[str, list[float]]) -> Any:
        values: dict[str, object] = {}
        for stage in (*STAGES, "other", "total"):
            if times := window.get(stage):
                values[f"{stage} mean (ms)"] = f"{1e3 * sum(times) / len(times):.3f}"
                values[f"{stage} max (ms)"] = f"{1e3 * max(times):.3f}"
        values["frames"] = len(window.get("total", ()))
        text = f"{values['total mean (ms)']} ms a frame" if "total" in window else "no frame"
        return self._status(make, "latency", _OK, text, values)

    def _problem_status(self, make: Make) -> Any:
        new = [
            kind
            for kind, (count, _) in self._problems.items()
            if count > self._problems_before.get(kind, 0)
        ]
        self._problems_before = {kind: count for kind, (count, _) in self._problems.items()}
        values = {kind: f"{count} times: {text}" for kind, (count, text) in self._problems.items()}
        text = self._problems[new[-1]][1] if new else "none at present"
        return self._status(make, "problems", _WARN if new else _OK, text, values)

    def _inputs(self, make: Make, sensors: Mapping[str, Counts], seconds: float | None) -> Any:
        values, silent = {}, []
        for name, counts in sensors.items():
            new = counts.received - self._received_before.get(name, 0)
            self._received_before[name] = counts.received
            rate = "?" if seconds is None else f"{new / seconds:.1f}"
            values[name] = (
                f"{rate} Hz, received {counts.received}, late {counts.late}, duplicate "
                f"{counts.duplicate}, out of order {counts.out_of_order}, zero stamp "
                f"{counts.zero_stamp}"
            )
            if not counts.received:
                silent.append(f"{name} never received")
            elif not new:
                silent.append(f"{name} silent")
        level = _ERROR if len(silent) == len(sensors) else _WARN if silent else _OK
        text = ", ".join(silent) or "all sensors deliver"
        return self._status(make, "inputs", level, text, values)

    def _status(
        self, make: Make, aspect: str, level: bytes, text: str, values: Mapping[str, object]
    ) -> Any:
        return make(
            "diagnostic_msgs/msg/DiagnosticStatus",
            name=f"{self._name}: {aspect}",
            level=level,
            message=text,
            hardware_id=self._hardware,
            values=[
                make("diagnostic_msgs/msg/KeyValue", key=key, value=str(value))
                for key, value in values.items()
            ],
        )
