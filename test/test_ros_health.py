"""Counters, latency stages and the diagnostics made of them."""

from __future__ import annotations

import time

import pytest

from crkd_ros.bag_messages import make
from crkd_ros.health import STAGES, Health, Latency
from crkd_ros.tracks import Counts


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def health(clock):
    return Health(name="detector_node", hardware="cpu, fp32", clock=clock)


def report(health, sensors=None, *, listeners=True):
    message = health.diagnostics(
        make, stamp_ns=5, sensors=sensors or {"CAM": Counts(received=3)}, listeners=listeners
    )
    return {
        status.name.removeprefix("detector_node: "): (
            status.level[0],
            status.message,
            {pair.key: pair.value for pair in status.values},
        )
        for status in message.status
    }


def test_stages_and_the_rest_add_up_to_the_total():
    start = time.monotonic() - 0.5
    latency = Latency(start)
    latency.stages["wait"] = 0.3
    with latency.stage("frame"):
        time.sleep(0.01)
    stages = latency.finish()
    assert stages["frame"] >= 0.01
    assert stages["other"] > 0
    parts = sum(value for name, value in stages.items() if name != "total")
    assert parts == pytest.approx(stages["total"])
    assert stages["total"] >= 0.51


def test_latency_is_of_the_time_since_the_last_report(health):
    health.published({"network": 0.010, "total": 0.030})
    health.published({"network": 0.020, "total": 0.050})
    level, text, values = report(health)["latency"]
    assert (level, text) == (0, "40.000 ms a frame")
    assert values["network mean (ms)"] == "15.000"
    assert values["network max (ms)"] == "20.000"
    assert values["frames"] == "2"
    assert report(health)["latency"][1:] == ("no frame", {"frames": "0"})
    assert "network" in STAGES


def test_frames_are_counted_for_good(health):
    health.published({"total": 0.1})
    health.skipped(3)
    health.dropped()
    for _ in range(2):
        _, text, values = report(health)["frames"]
        assert text == "detecting"
        assert list(values.values()) == ["1", "3", "1"]
    assert "nobody subscribes" in report(health, listeners=False)["frames"][1]


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


def test_silent_inputs_are_named_also_when_all_are_dead(health, clock):
    counts = {"CAM": Counts(received=4, late=1), "RADAR": Counts()}
    assert report(health, counts)["inputs"][:2] == (1, "RADAR never received")
    clock.now += 2.0
    counts["CAM"].received += 24
    _, _, values = report(health, counts)["inputs"]
    assert values["CAM"].startswith("12.0 Hz, received 28, late 1,")
    clock.now += 1.0
    assert report(health, counts)["inputs"][:2] == (2, "CAM silent, RADAR never received")
