"""/diagnostics of what the node knows of its own state.

The message is made on a timer, so it is published also when every input is dead. Names follow
REP-107, "node: aspect": one entry per sensor (sensors/health.py), and frames, latency, problems,
inputs, motion, calibration, classes.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from crkd_ros.convert.box_messages import Make, header
from crkd_ros.node.latency import PARTS, summaries
from crkd_ros.parameters.health import HealthConfig
from crkd_ros.reporter import Happened, Reporter
from crkd_ros.sensors.health import (
    ERROR,
    OK,
    WARN,
    Level,
    SensorHealth,
    TopicStatus,
    Verdict,
    agreed,
)

#: Problems of the ego motion, which has an entry of its own.
_MOTION = ("motion", "odometry", "MotionError")


class Health:
    """Makes the message of what was told to a Reporter, and of how the sensors do.

    Args:
        reporter: is told what happens; nobody else takes it from there.
        name: of the node, for the names of the status entries.
        hardware: device, engine and precision, free text.
        config: the limits.
        motion: where the ego motion comes from, for its entry.
        clock: seconds, steadily growing: that of the reporter and the sensors.
    """

    def __init__(
        self,
        reporter: Reporter,
        *,
        name: str,
        hardware: str,
        config: HealthConfig | None = None,
        motion: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reporter, self._name, self._hardware = reporter, name, hardware
        self._config, self._motion, self._clock = config or HealthConfig(), motion, clock
        self._since = clock()  # From then on detections were to come.

    def diagnostics(
        self,
        make: Make,
        *,
        stamp_ns: int,
        sensors: Mapping[str, SensorHealth],
        listeners: bool,
        statuses: Mapping[str, TopicStatus] | None = None,
    ) -> Any:
        """A diagnostic_msgs/DiagnosticArray.

        Rates, latencies and what counts as present are of the time since the last call.

        Args:
            make: factory of messages.
            stamp_ns: now, on the node's ROS clock.
            sensors: sensor -> how it does; "odometry" may be among them. Empty: the node is not
                active.
            listeners: whether anybody subscribes to the detections.
            statuses: sensor -> its topic in the ROS graph, where that was looked up.
        """
        now, happened = self._clock(), self._reporter.take()
        judged = _judged(sensors, now, stamp_ns, statuses or {})
        state, refused = happened.state
        verdicts = {
            "state": Verdict(
                level=ERROR if refused else OK,
                text=f"{state}: {refused}" if refused else state,
                values={},
            ),
            "frames": self._frames(now, happened, sensors, listeners),
            "latency": self._latency(happened.stages),
            "problems": _problems(happened),
            "inputs": _inputs({n: v for n, v in judged.items() if n != "odometry"}),
            "motion": self._motion_verdict(judged.pop("odometry", None), happened.new_problems),
            "calibration": _calibration(*happened.calibration),
            "classes": _classes(happened.classes),
            **judged,
        }
        return make(
            "diagnostic_msgs/msg/DiagnosticArray",
            header=header(stamp_ns, "", make),
            status=[self._status(make, name, verdict) for name, verdict in verdicts.items()],
        )

    def _frames(
        self, now: float, happened: Happened, sensors: Mapping[str, SensorHealth], listeners: bool
    ) -> Verdict:
        frames, new = happened.frames, happened.new_frames
        values = {
            "published": str(frames["published"]),
            "skipped (newer one was ready)": str(frames["skipped"]),
            "dropped (see problems)": str(frames["dropped"]),
        }
        delivering = {n for n, one in sensors.items() if one.alive(now)} - {"odometry"}
        if not listeners or not delivering:
            self._since = now  # What is not asked for, or cannot be had, is not late.
        if not sensors:
            return Verdict(level=OK, text="not active", values=values)
        if not listeners:
            text = "idle: nobody subscribes to the detections"
            return Verdict(level=OK, text=text, values=values)
        silence = now - max(self._since, happened.entered, happened.detected)
        if silence > self._config.frame_timeout and delivering:
            text = f"no detections for {silence:.1f} s although sensors deliver; see problems"
            return Verdict(level=ERROR, text=text, values=values)
        if new["dropped"]:
            text = f"{new['dropped']} dropped; see problems"
            return Verdict(level=WARN, text=text, values=values)
        complete = new["published"] + new["skipped"]
        if new["skipped"] > self._config.skip_warning * complete:
            text = f"{new['skipped']} of {complete} skipped: the network is slower than them"
            return Verdict(level=WARN, text=text, values=values)
        if not delivering:
            # How bad that is, is the business of the inputs' entry.
            return Verdict(level=OK, text="waiting: no sensor delivers; see inputs", values=values)
        return Verdict(level=OK, text="detecting", values=values)

    def _latency(self, stages: Sequence[Mapping[str, float]]) -> Verdict:
        window, frames = summaries(stages), len(stages)
        values: dict[str, str] = {}
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

    def _motion_verdict(self, odometry: Verdict | None, new: Mapping[str, str]) -> Verdict:
        values = {"source": self._motion} | (odometry.values if odometry else {})
        wrong = [text for kind, text in new.items() if kind in _MOTION]
        if odometry is not None and odometry.level == ERROR:
            return Verdict(level=ERROR, text=odometry.text, values=values)
        if wrong:
            return Verdict(level=ERROR, text=wrong[-1], values=values)
        if odometry is not None:
            return Verdict(level=odometry.level, text=odometry.text, values=values)
        text = (
            "none: the vehicle is taken to stand still" if self._motion == "none" else "available"
        )
        return Verdict(level=OK, text=text, values=values)

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


def _judged(
    sensors: Mapping[str, SensorHealth],
    now: float,
    clock_ns: int,
    statuses: Mapping[str, TopicStatus],
) -> dict[str, Verdict]:
    offsets = {
        name: offset
        for name, sensor in sensors.items()
        if sensor.alive(now) and (offset := sensor.offset()) is not None
    }
    return {
        name: sensor.judge(
            now=now,
            clock_ns=clock_ns,
            status=statuses.get(name),
            others=agreed([offsets[one] for one in offsets if one != name]),
        )
        for name, sensor in sensors.items()
    }


def _problems(happened: Happened) -> Verdict:
    problems, new = happened.problems, happened.new_problems
    values = {kind: f"{count} times: {text}" for kind, (count, text) in problems.items()}
    text = list(new.values())[-1] if new else "none at present"
    return Verdict(level=WARN if new else OK, text=text, values=values)


def _classes(classes: Sequence[str]) -> Verdict:
    """What the labels of ~/boxes mean."""
    values = {str(label): name for label, name in enumerate(classes)}
    text = f"{len(values)} classes" if values else "no weights are loaded"
    return Verdict(level=OK, text=text, values=values)


def _calibration(summary: str, doubts: Sequence[str]) -> Verdict:
    values = {f"warning {number}": text for number, text in enumerate(doubts, 1)}
    text = f"{len(doubts)} warnings: {doubts[0]}" if doubts else summary
    level: Level = WARN if doubts else OK
    return Verdict(level=level, text=text, values={"check": summary} | values)


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
