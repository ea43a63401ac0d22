"""What the node knows of its own state: counters, latency per stage, and /diagnostics of both.

Pure and thread-safe. The message is made on a timer, so it is published also when every input is
dead. Names follow REP-107, "node: aspect": one entry per sensor (sensor_health.py), and frames,
latency, problems, inputs, motion, calibration.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crkd_ros.convert.box_messages import Make, header
from crkd_ros.node.latency import PARTS, STAGES, Latency, LatencyWindow, Summary
from crkd_ros.node.sensor_health import (
    ERROR,
    OK,
    WARN,
    Level,
    SensorHealth,
    TopicStatus,
    Trouble,
    Verdict,
    agreed,
)
from crkd_ros.parameters.health import HealthConfig

__all__ = ["STAGES", "Health", "HealthConfig", "Latency", "TopicStatus"]

#: Seconds between two log lines about the same kind of problem.
_LOG_EVERY = 5.0
#: Problems of the ego motion, which has an entry of its own.
_MOTION = ("motion", "odometry", "MotionError")


class Health:
    """Counts what happens; ``diagnostics`` turns it into a message.

    Args:
        name: of the node, for the names of the status entries.
        hardware: device and precision, free text.
        config: the limits.
        motion: where the ego motion comes from, for its entry.
        clock: seconds, steadily growing.
    """

    def __init__(
        self,
        *,
        name: str,
        hardware: str,
        config: HealthConfig | None = None,
        motion: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._hardware, self._clock = name, hardware, clock
        self._config = config or HealthConfig()
        self._lock = threading.Lock()
        self._sensors: dict[str, SensorHealth] = {}
        self._motion = motion
        self._state = Verdict(level=OK, text="unconfigured", values={})
        self._calibration: tuple[str, tuple[str, ...]] = ("not checked", ())
        self._published = self._skipped = self._dropped = 0
        self._before = (0, 0, 0)
        self._detected: float | None = None
        self._problems: dict[str, tuple[int, str]] = {}
        self._problems_before: dict[str, int] = {}
        self._logged: dict[str, float] = {}
        self._window = LatencyWindow()

    # -- what happens ----------------------------------------------------------------------------

    def entered(self, state: str, *, refused: str = "") -> None:
        """The node's state of the lifecycle, and why it does not leave it as asked."""
        text = f"{state}: {refused}" if refused else state
        with self._lock:
            self._state = Verdict(level=ERROR if refused else OK, text=text, values={})

    def watch(self, topics: Mapping[str, str]) -> None:
        """From now on these sensors are subscribed to; their counts begin at 0.

        Args:
            topics: sensor -> its topic, as resolved; "odometry" may be among them. Empty: the
                node is not active.
        """
        with self._lock:
            self._detected = None
            self._sensors = {
                sensor: SensorHealth(topic=topic, config=self._config)
                for sensor, topic in topics.items()
            }

    def received(self, sensor: str, *, stamp_ns: int, clock_ns: int) -> None:
        """A sensor's message arrived, when the node's ROS clock said ``clock_ns``."""
        with self._lock:
            if sensor in self._sensors:
                self._sensors[sensor].received(
                    now=self._clock(), stamp_ns=stamp_ns, clock_ns=clock_ns
                )

    def info_received(self, camera: str) -> None:
        """A camera's CameraInfo arrived."""
        with self._lock:
            if camera in self._sensors:
                self._sensors[camera].info_received()

    def trouble(self, sensor: str, kind: Trouble, text: str) -> None:
        """A sensor's message could not be used. To be logged it goes to ``problem`` too."""
        with self._lock:
            if sensor in self._sensors:
                self._sensors[sensor].trouble(kind, text)

    def published(self, latency: Mapping[str, float]) -> None:
        """One frame's detections went out, after ``Latency.finish()`` seconds."""
        with self._lock:
            self._published += 1
            self._detected = self._clock()
            self._window.add(latency)

    def skipped(self, frames: int) -> None:
        """Frames that were complete, but a newer one was too when the network came free."""
        with self._lock:
            self._skipped += frames

    def dropped(self) -> None:
        """A frame failed; the reason goes to ``problem``."""
        with self._lock:
            self._dropped += 1

    def calibrated(self, summary: str, warnings: Sequence[str] = ()) -> None:
        """What the check of the calibration found; warnings name sensors and what looks wrong."""
        with self._lock:
            self._calibration = (summary, tuple(warnings))

    def problem(self, kind: str, text: str) -> bool:
        """Count a problem. True: it is time to log it (the first, then at most every 5 s)."""
        now = self._clock()
        with self._lock:
            self._problems[kind] = (self._problems.get(kind, (0, ""))[0] + 1, text)
            due = now - self._logged.get(kind, -_LOG_EVERY) >= _LOG_EVERY
            if due:
                self._logged[kind] = now
            return due

    # -- what is told ----------------------------------------------------------------------------

    def silent(self) -> list[str]:
        """Sensors that deliver nothing: whose topics are worth a look into the ROS graph."""
        now = self._clock()
        with self._lock:
            return [name for name, sensor in self._sensors.items() if not sensor.alive(now)]

    def diagnostics(
        self,
        make: Make,
        *,
        stamp_ns: int,
        sensors: Mapping[str, Any],
        listeners: bool,
        statuses: Mapping[str, TopicStatus] | None = None,
    ) -> Any:
        """A diagnostic_msgs/DiagnosticArray.

        Rates, latencies and what counts as present are of the time since the last call.

        Args:
            make: factory of messages.
            stamp_ns: now, on the node's ROS clock.
            sensors: sensor -> the synchroniser's ``Counts``.
            listeners: whether anybody subscribes to the detections.
            statuses: sensor -> its topic in the ROS graph, where that was looked up.
        """
        now, statuses = self._clock(), statuses or {}
        with self._lock:
            offsets = {
                name: offset
                for name, sensor in self._sensors.items()
                if sensor.alive(now) and (offset := sensor.offset()) is not None
            }
            judged = {
                name: sensor.judge(
                    now=now,
                    clock_ns=stamp_ns,
                    status=statuses.get(name),
                    counts=sensors.get(name),
                    others=agreed([offsets[one] for one in offsets if one != name]),
                )
                for name, sensor in self._sensors.items()
            }
            frames, window = self._window.take()
            new_problems = self._new_problems()
            verdicts = {
                "state": self._state,
                "frames": self._frames(now, listeners),
                "latency": self._latency(frames, window),
                "problems": self._problem_verdict(new_problems),
                "inputs": _inputs({n: v for n, v in judged.items() if n != "odometry"}),
                "motion": self._motion_verdict(judged.pop("odometry", None), new_problems),
                "calibration": self._calibration_verdict(),
                **judged,
            }
        return make(
            "diagnostic_msgs/msg/DiagnosticArray",
            header=header(stamp_ns, "", make),
            status=[self._status(make, name, verdict) for name, verdict in verdicts.items()],
        )

    def _frames(self, now: float, listeners: bool) -> Verdict:
        counts = (self._published, self._skipped, self._dropped)
        published, skipped, dropped = (
            count - before for count, before in zip(counts, self._before, strict=True)
        )
        self._before = counts
        values = {
            "published": str(self._published),
            "skipped (newer one was ready)": str(self._skipped),
            "dropped (see problems)": str(self._dropped),
        }
        delivering = {n for n, sensor in self._sensors.items() if sensor.alive(now)}
        if not self._sensors:
            return Verdict(level=OK, text="not active", values=values)
        if not listeners:
            # What is not asked for is not late.
            self._detected = now
            text = "idle: nobody subscribes to the detections"
            return Verdict(level=OK, text=text, values=values)
        if self._detected is None:
            self._detected = now
        silence = now - self._detected
        if silence > self._config.frame_timeout and delivering - {"odometry"}:
            text = f"no detections for {silence:.1f} s although sensors deliver; see problems"
            return Verdict(level=ERROR, text=text, values=values)
        if dropped:
            return Verdict(level=WARN, text=f"{dropped} dropped; see problems", values=values)
        if skipped > self._config.skip_warning * (published + skipped):
            text = f"{skipped} of {published + skipped} skipped: the network is slower than them"
            return Verdict(level=WARN, text=text, values=values)
        return Verdict(level=OK, text="detecting", values=values)

    def _latency(self, frames: int, window: Mapping[str, Summary]) -> Verdict:
        values = {}
        for stage in window:
            for name in ("mean", "p95", "max"):
                values[f"{stage} {name} (ms)"] = f"{1e3 * getattr(window[stage], name):.3f}"
        values["frames"] = str(frames)
        if not frames:
            return Verdict(level=OK, text="no frame", values=values)
        total, limit = window["total"], self._config.latency_warning
        text = f"{1e3 * total.mean:.3f} ms a frame"
        if limit and total.p95 > limit:
            worst = max((s for s in window if s in PARTS[:-2]), key=lambda s: window[s].mean)
            text += (
                f"; p95 {1e3 * total.p95:.0f} ms above health.latency_warning "
                f"{1e3 * limit:.0f} ms, most of it {worst}"
            )
            return Verdict(level=WARN, text=text, values=values)
        return Verdict(level=OK, text=text, values=values)

    def _new_problems(self) -> dict[str, str]:
        """Kind -> text of what happened since the last call."""
        before = self._problems_before
        self._problems_before = {kind: count for kind, (count, _) in self._problems.items()}
        return {
            kind: text
            for kind, (count, text) in self._problems.items()
            if count > before.get(kind, 0)
        }

    def _problem_verdict(self, new: Mapping[str, str]) -> Verdict:
        values = {kind: f"{count} times: {text}" for kind, (count, text) in self._problems.items()}
        text = list(new.values())[-1] if new else "none at present"
        return Verdict(level=WARN if new else OK, text=text, values=values)

    def _motion_verdict(self, odometry: Verdict | None, new: Mapping[str, str]) -> Verdict:
        values = {"source": self._motion} | (odometry.values if odometry else {})
        wrong = [text for kind, text in new.items() if kind in _MOTION]
        if odometry is not None and odometry.level == ERROR:
            return Verdict(level=ERROR, text=odometry.text, values=values)
        if wrong:
            return Verdict(level=ERROR, text=wrong[-1], values=values)
        if odometry is not None:
            return Verdict(level=odometry.level, text=odometry.text, values=values)
        text = "off: the vehicle is taken to stand still" if self._motion == "off" else "available"
        return Verdict(level=OK, text=text, values=values)

    def _calibration_verdict(self) -> Verdict:
        summary, warnings = self._calibration
        level: Level = WARN if warnings else OK
        values = {f"warning {number}": text for number, text in enumerate(warnings, 1)}
        text = f"{len(warnings)} warnings: {warnings[0]}" if warnings else summary
        return Verdict(level=level, text=text, values={"check": summary} | values)

    def _status(self, make: Make, aspect: str, verdict: Verdict) -> Any:
        return make(
            "diagnostic_msgs/msg/DiagnosticStatus",
            name=f"{self._name}: {aspect}",
            level=bytes([verdict.level]),
            message=verdict.text,
            hardware_id=self._hardware,
            values=[
                make("diagnostic_msgs/msg/KeyValue", key=key, value=value)
                for key, value in verdict.values.items()
            ],
        )


def _inputs(judged: Mapping[str, Verdict]) -> Verdict:
    """All sensors in one entry: for a look at the whole."""
    if not judged:
        return Verdict(level=OK, text="not active: no sensor is subscribed to", values={})
    bad = {name: verdict for name, verdict in judged.items() if verdict.level != OK}
    values = {
        name: f"received {verdict.values['received']}, {verdict.text}"
        for name, verdict in judged.items()
    }
    dead = [name for name, verdict in bad.items() if verdict.level == ERROR]
    level: Level = ERROR if judged and len(dead) == len(judged) else WARN if bad else OK
    text = ", ".join(f"{name} {verdict.text.split(':')[0]}" for name, verdict in bad.items())
    return Verdict(level=level, text=text or "all sensors deliver", values=values)
