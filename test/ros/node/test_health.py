"""Counters, latency stages and the diagnostics made of them."""

from __future__ import annotations

import pytest

from crkd_ros.bags.message_types import make
from crkd_ros.node.health import Health, TopicStatus
from crkd_ros.parameters.health import HealthConfig
from crkd_ros.sync.history import Counts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    health = Health(name="detector_node", hardware="cpu, fp32", motion="odom", clock=clock)
    health.watch({"CAM": "/cam", "RADAR": "/radar"})
    return health


def deliver(health, clock, sensor, *, hz=12, seconds=1.0):
    for _ in range(round(hz * seconds)):
        clock.now += 1 / hz
        stamp = round(clock.now * 1e9)
        health.received(sensor, stamp_ns=stamp, clock_ns=stamp)


def report(health, sensors=None, *, listeners=True, **statuses):
    message = health.diagnostics(
        make, stamp_ns=5, sensors=sensors or {}, listeners=listeners, statuses=statuses
    )
    return {
        status.name.removeprefix("detector_node: "): (
            status.level[0],
            status.message,
            {pair.key: pair.value for pair in status.values},
        )
        for status in message.status
    }


def test_latency_is_of_the_time_since_the_last_report(health):
    health.published({"network": 0.010, "total": 0.030})
    health.published({"network": 0.020, "total": 0.050})
    level, text, values = report(health)["latency"]
    assert (level, text) == (0, "40.000 ms a frame")
    assert values["network mean (ms)"] == "15.000"
    assert values["network max (ms)"] == "20.000"
    assert values["frames"] == "2"
    assert report(health)["latency"][1:] == ("no frame", {"frames": "0"})
    assert values["network p95 (ms)"] == "20.000"


def test_a_slow_tail_warns_and_names_the_stage():
    health = Health(name="n", hardware="", config=HealthConfig(latency_warning=0.1))
    health.published({"wait": 0.01, "network": 0.2, "other": 0.0, "total": 0.21, "pipeline": 0.3})
    message = health.diagnostics(make, stamp_ns=5, sensors={}, listeners=True)
    (status,) = [s for s in message.status if s.name == "n: latency"]
    assert status.level[0] == 1
    assert "p95 210 ms above health.latency_warning 100 ms, most of it network" in status.message


def test_frames_are_counted_for_good_and_judged_by_what_is_new(health):
    health.published({"total": 0.1})
    health.skipped(3)
    health.dropped()
    texts = {"1 dropped; see problems": 1, "detecting": 0}
    for expected in texts.items():
        level, text, values = report(health)["frames"]
        assert (text, level) == expected
        assert list(values.values()) == ["1", "3", "1"]
    health.skipped(3)
    health.published({"total": 0.1})
    assert report(health)["frames"][:2][1].startswith("3 of 4 skipped")
    assert "nobody subscribes" in report(health, listeners=False)["frames"][1]


def test_sensors_that_deliver_and_no_detections_are_an_error(health, clock):
    assert report(health)["frames"][0] == 0
    for _ in range(3):
        deliver(health, clock, "CAM")
    level, text, _ = report(health)["frames"]
    assert (level, text) == (2, "no detections for 3.0 s although sensors deliver; see problems")
    assert report(health, listeners=False)["frames"][0] == 0
    deliver(health, clock, "CAM")
    assert report(health)["frames"][1] == "detecting"


def test_problems_are_logged_now_and_then_and_shown_while_new(health, clock):
    assert health.problem("image", "truncated")
    assert not health.problem("image", "truncated again")
    assert health.problem("radar", "no field")
    clock.now += 6
    assert health.problem("image", "still")
    level, text, values = report(health)["problems"]
    assert (level, text) == (1, "no field")
    assert values["image"] == "3 times: still"
    level, text, values = report(health)["problems"]
    assert (level, text) == (0, "none at present")
    assert values["image"] == "3 times: still"


def test_the_state_is_told_with_the_reason_of_a_refusal(health):
    assert report(health)["state"] == (0, "unconfigured", {})
    health.entered("unconfigured", refused="parameter weights is required")
    assert report(health)["state"] == (2, "unconfigured: parameter weights is required", {})
    health.entered("inactive")
    assert report(health)["state"] == (0, "inactive", {})


def test_silent_inputs_are_named_also_when_all_are_dead(health, clock):
    deliver(health, clock, "CAM")
    found = report(health, {"CAM": Counts(received=12, late=1)}, RADAR=TopicStatus(publishers=0))
    assert found["inputs"][:2] == (1, "RADAR never received")
    assert found["inputs"][2]["CAM"] == "received 12, 12.0 Hz"
    assert found["CAM"][:2] == (0, "12.0 Hz")
    assert found["CAM"][2]["late"] == "1"
    assert found["RADAR"][:2] == (2, "never received: no publisher on /radar")
    assert health.silent() == ["RADAR"]
    clock.now += 2.0
    assert health.silent() == ["CAM", "RADAR"]
    found = report(health, {"CAM": Counts(received=12)}, CAM=TopicStatus(publishers=0))
    assert found["inputs"][:2] == (2, "CAM stale, RADAR never received")
    assert found["CAM"][1] == "stale: nothing for 2.0 s: no publisher on /cam"


def test_troubles_of_a_sensor_are_in_its_entry(health, clock):
    deliver(health, clock, "CAM")
    health.trouble("CAM", "unusable", "CAM: not a JPEG")
    found = report(health)
    assert found["CAM"][:2] == (1, "unusable, 1 of 12: CAM: not a JPEG")
    health.info_received("CAM")
    assert report(health)["CAM"][2]["camera info received"] == "1"


def test_motion_has_its_own_entry_for_each_source(clock):
    def motion(health):
        return report(health)["motion"][:2]

    off = Health(name="detector_node", hardware="", motion="off", clock=clock)
    assert motion(off) == (0, "off: the vehicle is taken to stand still")
    tf = Health(name="detector_node", hardware="", motion="tf", clock=clock)
    tf.problem("MotionError", "frame dropped: tf: no odom")
    assert motion(tf) == (2, "frame dropped: tf: no odom")
    assert motion(tf)[0] == 0
    odom = Health(name="detector_node", hardware="", motion="odom", clock=clock)
    odom.watch({"odometry": "/o"})
    assert motion(odom) == (2, "never received: on /o")
    deliver(odom, clock, "odometry", hz=50)
    assert motion(odom) == (0, "50.0 Hz")
    assert "odometry" not in report(odom)


def test_the_check_of_the_calibration_is_shown(health):
    assert report(health)["calibration"][:2] == (0, "not checked")
    health.calibrated("3 of 6 cameras checked", ["CAM_FRONT: radar points lie 40 px too high"])
    level, text, values = report(health)["calibration"]
    assert (level, text) == (1, "1 warnings: CAM_FRONT: radar points lie 40 px too high")
    assert values["check"] == "3 of 6 cameras checked"


def test_a_node_that_is_not_active_misses_nothing(health, clock):
    deliver(health, clock, "CAM")
    health.watch({})
    # What was under way when the subscriptions ended.
    health.received("CAM", stamp_ns=1, clock_ns=1)
    health.trouble("CAM", "unusable", "CAM: not a JPEG")
    clock.now += 10.0
    found = report(health)
    assert found["frames"][:2] == (0, "not active")
    assert found["inputs"][:2] == (0, "not active: no sensor is subscribed to")
    assert not {"CAM", "RADAR"} & set(found)
    health.watch({"CAM": "/cam"})
    assert report(health)["CAM"][2]["received"] == "0"
