"""Counters, latency stages and the diagnostics made of them."""

from __future__ import annotations

import pytest

from crkd_ros.bags.message_types import make
from crkd_ros.node.health import Health
from crkd_ros.parameters.health import HealthConfig
from crkd_ros.reporter import Reporter
from crkd_ros.sensors.health import SensorHealth, TopicStatus
from crkd_ros.sync.history import Arrival, Counts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Rig:
    """What a node is told and what it says of itself, on a clock that the test sets."""

    def __init__(self, sensors=(), **options) -> None:
        self.clock = Clock()
        self.lines: list[str] = []
        self.reporter = Reporter(self.lines.append, clock=self.clock)
        self.counts = {sensor: Counts() for sensor in sensors}
        self.sensors = {
            sensor: SensorHealth(
                topic=f"/{sensor.lower()}",
                config=HealthConfig(start_grace=0.0),
                counts=self.counts[sensor],
            )
            for sensor in sensors
        }
        self._health = Health(
            self.reporter, name="/car/detector_node", hardware="cpu", clock=self.clock, **options
        )

    def deliver(self, sensor, *, hz=12, seconds=1.0) -> None:
        for _ in range(round(hz * seconds)):
            self.clock.now += 1 / hz
            stamp = round(self.clock.now * 1e9)
            self.sensors[sensor].received(Arrival(stamp, self.clock.now), clock_ns=stamp)

    def report(self, *, listeners=True, active=True, **statuses):
        message = self._health.diagnostics(
            make,
            stamp_ns=5,
            sensors=self.sensors if active else {},
            listeners=listeners,
            statuses=statuses,
        )
        return {
            status.name.removeprefix("/car/detector_node: "): (
                status.level[0],
                status.message,
                {pair.key: pair.value for pair in status.values},
            )
            for status in message.status
        }


@pytest.fixture
def rig():
    return Rig(["CAM", "RADAR"], motion="odom")


def test_latency_is_of_the_time_since_the_last_report(rig):
    rig.reporter.published({"network": 0.010, "total": 0.030})
    rig.reporter.published({"network": 0.020, "total": 0.050})
    level, text, values = rig.report()["latency"]
    assert (level, text) == (0, "40.000 ms a frame")
    assert values["network mean (ms)"] == "15.000"
    assert values["network max (ms)"] == "20.000"
    assert values["frames"] == "2"
    assert rig.report()["latency"][1:] == ("no frame", {"frames": "0"})
    assert values["network p95 (ms)"] == "20.000"


def test_a_slow_tail_warns_and_names_the_stage():
    rig = Rig(config=HealthConfig(latency_warning=0.1))
    stages = {"wait": 0.01, "network": 0.2, "other": 0.0, "total": 0.21, "pipeline": 0.3}
    rig.reporter.published(stages)
    level, text, _ = rig.report()["latency"]
    assert level == 1
    assert "p95 210 ms above health.latency_warning 100 ms, most of it network" in text


def test_frames_are_counted_for_good_and_judged_by_what_is_new(rig):
    rig.reporter.published({"total": 0.1})
    rig.reporter.skipped(3)
    rig.reporter.dropped()
    rig.deliver("CAM", seconds=0.1)
    texts = {"1 dropped; see problems": 1, "detecting": 0}
    for expected in texts.items():
        level, text, values = rig.report()["frames"]
        assert (text, level) == expected
        assert list(values.values()) == ["1", "3", "1"]
    rig.reporter.skipped(3)
    rig.reporter.published({"total": 0.1})
    assert rig.report()["frames"][:2][1].startswith("3 of 4 skipped")
    assert "nobody subscribes" in rig.report(listeners=False)["frames"][1]


def test_sensors_that_deliver_and_no_detections_are_an_error(rig):
    assert rig.report()["frames"][0] == 0
    for _ in range(3):
        rig.deliver("CAM")
    level, text, _ = rig.report()["frames"]
    assert (level, text) == (2, "no detections for 3.0 s although sensors deliver; see problems")
    assert rig.report(listeners=False)["frames"][0] == 0
    rig.deliver("CAM")
    assert rig.report()["frames"][1] == "detecting"


def test_detections_are_not_late_when_sensors_have_just_come_back(rig):
    rig.deliver("CAM")
    rig.reporter.published({"total": 0.1})
    rig.clock.now += 30.0
    assert rig.report()["frames"][:2] == (0, "waiting: no sensor delivers; see inputs")
    rig.deliver("CAM", seconds=0.5)
    assert rig.report()["frames"][:2] == (0, "detecting")
    rig.deliver("CAM", seconds=2.0)
    assert rig.report()["frames"][1].startswith("no detections for 2.5 s")


def test_problems_are_logged_now_and_then_and_shown_while_new(rig):
    for kind, text in (("image", "cut"), ("image", "cut again"), ("radar", "no field")):
        rig.reporter.problem(kind, text)
    assert rig.lines == ["cut", "no field"]
    rig.clock.now += 6
    rig.reporter.of("image")("still")
    assert rig.lines == ["cut", "no field", "still"]
    level, text, values = rig.report()["problems"]
    assert (level, text) == (1, "no field")
    assert values["image"] == "3 times: still"
    level, text, values = rig.report()["problems"]
    assert (level, text) == (0, "none at present")
    assert values["image"] == "3 times: still"


def test_the_state_is_told_with_the_reason_of_a_refusal(rig):
    assert rig.report()["state"] == (0, "unconfigured", {})
    rig.reporter.entered("unconfigured", refused="parameter weights is required")
    assert rig.report()["state"] == (2, "unconfigured: parameter weights is required", {})
    rig.reporter.entered("inactive")
    assert rig.report()["state"] == (0, "inactive", {})


def test_silent_inputs_are_named_also_when_all_are_dead(rig):
    rig.deliver("CAM")
    rig.counts["CAM"].late += 1
    found = rig.report(RADAR=TopicStatus(publishers=0))
    assert found["inputs"][:2] == (1, "RADAR never received")
    assert found["inputs"][2]["CAM"] == "received 12, 12.0 Hz"
    assert found["CAM"][:2] == (0, "12.0 Hz")
    assert found["CAM"][2]["late"] == "1"
    assert found["RADAR"][:2] == (2, "never received: no publisher on /radar")
    rig.clock.now += 2.0
    found = rig.report(CAM=TopicStatus(publishers=0))
    assert found["inputs"][:2] == (2, "CAM stale, RADAR never received")
    assert found["CAM"][1] == "stale: nothing for 2.0 s: no publisher on /cam"


def test_troubles_of_a_sensor_are_in_its_entry(rig):
    rig.deliver("CAM")
    rig.sensors["CAM"].trouble("unusable", "CAM: not a JPEG")
    found = rig.report()
    assert found["CAM"][:2] == (1, "unusable, 1 of 12: CAM: not a JPEG")
    rig.sensors["CAM"].info_received()
    assert rig.report()["CAM"][2]["camera info received"] == "1"


def test_motion_has_its_own_entry_for_each_source():
    def motion(rig):
        return rig.report()["motion"][:2]

    assert motion(Rig(motion="none")) == (0, "none: the vehicle is taken to stand still")
    tf = Rig(motion="tf")
    tf.reporter.problem("MotionError", "frame dropped: tf: no odom")
    assert motion(tf) == (2, "frame dropped: tf: no odom")
    assert motion(tf)[0] == 0
    odom = Rig(["odometry"], motion="odom")
    assert motion(odom) == (2, "never received: on /odometry")
    odom.deliver("odometry", hz=50)
    assert motion(odom) == (0, "50.0 Hz")
    assert "odometry" not in odom.report()


def test_the_check_of_the_calibration_is_shown(rig):
    assert rig.report()["calibration"][:2] == (0, "not checked")
    doubt = "CAM_FRONT: radar points lie 40 px too high"
    rig.reporter.calibrated("3 of 6 cameras checked", [doubt])
    level, text, values = rig.report()["calibration"]
    assert (level, text) == (1, f"1 warnings: {doubt}")
    assert values["check"] == "3 of 6 cameras checked"


def test_a_node_that_is_not_active_misses_nothing(rig):
    rig.deliver("CAM")
    assert rig.report()["frames"][1] == "detecting"
    rig.clock.now += 10.0
    found = rig.report(active=False)
    assert found["frames"][:2] == (0, "not active")
    assert found["inputs"][:2] == (0, "not active: no sensor is subscribed to")
    assert not {"CAM", "RADAR"} & set(found)
    # It is not late when it is active again, also when no report was made in between.
    rig.deliver("CAM")
    assert rig.report()["frames"][1] == "detecting"
    rig.clock.now += 10.0
    for state in ("inactive", "active"):
        rig.reporter.entered(state)
    rig.deliver("CAM")
    assert rig.report()["frames"][1] == "detecting"


def test_the_classes_of_the_weights_are_told_by_label():
    rig = Rig()
    assert rig.report()["classes"] == (0, "no weights are loaded", {})
    rig.reporter.detects(("tram", "cyclist"))
    assert rig.report()["classes"] == (0, "2 classes", {"0": "tram", "1": "cyclist"})
