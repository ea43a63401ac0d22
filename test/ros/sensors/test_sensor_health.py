"""The state of one sensor: every cause is told, the most specific first."""

from __future__ import annotations

import dataclasses

import pytest

from crkd_ros.parameters.health import HealthConfig
from crkd_ros.sensors.health import ERROR, OK, WARN, SensorHealth, TopicStatus, agreed
from crkd_ros.sync.history import Arrival, Counts

STAMP = 1_700_000_000_000_000_000
GOOD = TopicStatus(publishers=1)


class Rig:
    """A sensor with its clock; ROS time and seconds run alike, stamps are ``delay`` old."""

    def __init__(self, **limits) -> None:
        self.now = 50.0
        self.counts = Counts()
        self.sensor = SensorHealth(
            topic="/cam", config=HealthConfig(**{"start_grace": 0.0, **limits}), counts=self.counts
        )

    def clock_ns(self) -> int:
        return STAMP + round(self.now * 1e9)

    def deliver(self, messages: int = 12, *, hz: float = 12.0, delay: float = 0.02) -> None:
        for _ in range(messages):
            self.now += 1 / hz
            clock = self.clock_ns()
            arrival = Arrival(clock - round(delay * 1e9), self.now)
            self.sensor.received(arrival, clock_ns=clock)
            self.counts.received += 1

    def judge(self, status: TopicStatus | None = GOOD, others: float | None = None):
        verdict = self.sensor.judge(
            now=self.now,
            clock_ns=self.clock_ns(),
            status=status,
            others=others,
        )
        return verdict.level, verdict.text, verdict.values


@pytest.fixture
def rig():
    return Rig()


def test_a_good_sensor_tells_its_figures(rig):
    rig.sensor.info_received()
    rig.deliver(24)
    level, text, values = rig.judge()
    assert (level, text) == (OK, "12.0 Hz")
    assert values == {
        "topic": "/cam",
        "publishers": "1",
        "rate (Hz)": "12.0",
        "receive age (s)": "0.000",
        "stamp age (s)": "0.020",
        "delay at arrival (s)": "0.020",
        "received": "24",
        "camera info received": "1",
        "zero stamp": "0",
        "duplicate": "0",
        "outlier": "0",
        "out of order": "0",
        "late": "0",
        "taken": "24",
    }


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (TopicStatus(publishers=0), "no publisher on /cam"),
        (TopicStatus(publishers=0, obstacle="/raw is"), "no publisher on /cam; /raw is"),
        (TopicStatus(publishers=2), "/cam has 2 publisher(s), but nothing arrives"),
        (TopicStatus(publishers=1, obstacle="QoS: reliability"), "/cam: QoS: reliability"),
    ],
)
def test_silence_is_explained_by_the_graph_from_the_start_and_later(rig, status, reason):
    level, text, values = rig.judge(status)
    assert level == ERROR
    assert text.startswith(f"never received: {reason}")
    assert "receive age (s)" not in values
    rig.deliver()
    rig.now += 0.9
    assert rig.judge(status)[0] == OK
    rig.now += 0.5
    level, text, values = rig.judge(status)
    assert level == ERROR
    assert text.startswith(f"stale: nothing for 1.4 s: {reason}")
    assert values["receive age (s)"] == "1.400"


def test_a_driver_that_comes_up_after_the_node_is_a_warning_at_first():
    rig = Rig(start_grace=10.0)
    status = TopicStatus(publishers=0)
    for seconds, level in ((0.0, WARN), (9.0, WARN), (2.0, ERROR)):
        rig.now += seconds
        assert rig.judge(status)[:2] == (level, "never received: no publisher on /cam")
    rig.deliver()
    assert rig.judge(GOOD)[0] == OK
    # The grace is for the start alone.
    rig.now += 2.0
    assert rig.judge(status)[0] == ERROR


def test_specific_causes_go_before_general_ones():
    rig = Rig(rate_warning=20.0, age_warning=0.1)

    def second(**troubles):
        rig.deliver(delay=0.2)
        for kind, number in troubles.items():
            for _ in range(number):
                rig.sensor.trouble(kind.replace("_", " ").replace("camerainfo", "CameraInfo"), "X")
        return rig.judge()[:2]

    assert second() == (WARN, "slow: 12.0 Hz, below health.rate_warning 20")
    assert second(no_transform=12) == (ERROR, "no transform: X")
    assert second(no_transform=12, no_camerainfo=12) == (ERROR, "no CameraInfo: X")
    assert second(no_camerainfo=12, unusable=12) == (ERROR, "unusable: X")
    # Half of the messages is a warning, and goes behind what stops all of them.
    assert second(no_transform=12, unusable=6) == (ERROR, "no transform: X")
    assert second(unusable=6) == (WARN, "unusable, 6 of 12: X")
    rig.now += 5.0
    rig.sensor.trouble("unusable", "old")
    assert rig.judge()[1].startswith("stale")


@pytest.mark.parametrize("silence", [0.0, 30.0])
def test_a_sensor_that_begins_is_not_slow(silence):
    rig = Rig()
    if silence:
        rig.deliver()
        rig.now += silence
    rig.deliver(1)
    rig.now += 0.05
    assert rig.judge()[:2] == (OK, "begins")
    rig.deliver(1)
    assert rig.judge()[:2] == (OK, "7.5 Hz")


def test_a_slow_sensor_is_slow_from_its_second_message_on_whenever_it_is_looked_at():
    rig = Rig(stale_after=10.0)
    rig.deliver(1)
    assert rig.judge()[:2] == (OK, "begins")
    for _ in range(3):
        rig.deliver(1, hz=0.2)
        assert rig.judge()[1].startswith("slow: 0.3 Hz")


def test_what_is_over_is_not_present_but_stays_in_the_figures(rig):
    rig.deliver()
    rig.sensor.trouble("unusable", "CAM: not a JPEG")
    assert rig.judge()[0] == WARN
    rig.deliver()
    level, _, values = rig.judge()
    assert level == OK
    assert (values["unusable"], values["last unusable"]) == ("1", "CAM: not a JPEG")


def test_a_verdict_stays_until_another_message_comes():
    rig = Rig(stale_after=5.0, rate_warning=0.0)
    rig.deliver(1, hz=0.5)
    rig.sensor.trouble("unusable", "CAM: not a JPEG")
    assert rig.judge()[0] == ERROR
    for made in range(3):
        rig.now += 0.5
        for _ in range(6 * made):  # Frames of the others: they say nothing new of it.
            rig.sensor.framed(masked=True)
        assert rig.judge()[:2] == (ERROR, "unusable: CAM: not a JPEG")
    rig.deliver(1, hz=1.0)
    assert rig.judge()[0] == OK


def test_the_documents_name_every_figure_and_what_is_lost(request):
    text = (request.config.rootpath / "docs" / "ros.md").read_text()
    entry = next(line for line in text.splitlines() if line.startswith("| `CAM_FRONT`, ..."))
    lossy = next(line for line in text.splitlines() if line.startswith("| `lossy: ...`"))
    lost = set()
    for field in dataclasses.fields(Counts):
        rig = Rig()
        rig.deliver(24)
        rig.sensor.framed(masked=False)
        setattr(rig.counts, field.name, 8)
        name = field.name.replace("_", " ")
        _, said, values = rig.judge()
        assert values.keys() >= {name, "frames", "frames without it"}
        assert name in entry
        if said.startswith("lossy: "):
            assert said == f"lossy: 8 {name} of 24 messages" and name in lossy
            lost.add(name)
    assert lost == {"late", "duplicate", "zero stamp", "outlier"}
    for figure in ("frames without it", "unusable", "no CameraInfo", "no transform"):
        assert figure in entry


def test_delays_losses_and_empty_stamps(rig):
    rig.deliver(delay=0.7)
    assert rig.judge()[:2] == (
        WARN,
        "delayed: arrives 0.70 s after its stamps, above health.age_warning 0.5",
    )
    rig.deliver()
    rig.counts.late += 1
    assert rig.judge()[0] == OK
    rig.deliver()
    rig.counts.late += 1
    rig.counts.duplicate += 2
    assert rig.judge()[:2] == (WARN, "lossy: 1 late, 2 duplicate of 12 messages")
    rig.deliver()
    rig.counts.zero_stamp += 12
    level, text, _ = rig.judge()
    assert level == ERROR
    assert text.startswith("zero or negative stamps, the newest ")
    rig.deliver()
    rig.counts.outlier += 12
    level, text, _ = rig.judge()
    assert level == ERROR
    assert text.startswith("no message is used: its stamps are far from the other sensors'")
    assert "their delay at arrival" in text


def test_a_sensor_that_delivers_and_is_masked_is_told(rig):
    for masked in (0, 1, 12):
        rig.deliver()
        for number in range(12):
            rig.sensor.framed(masked=number < masked)
        level, text, values = rig.judge()
        assert level == (WARN if masked == 12 else OK)
    assert text.startswith("masked in 12 of 12 frames though it delivers: ")
    assert values["frames without it"] == "13" and values["frames"] == "36"


def test_stamps_of_another_clock_are_no_delay(rig):
    rig.deliver(delay=3e6)
    level, _, values = rig.judge()
    assert level == OK
    assert "use_sim_time" in values["stamp age (s)"]
    assert "delay at arrival (s)" not in values


@pytest.mark.parametrize(("lead", "told"), [(0.5, "0.50"), (37.0, "37.00"), (7200.0, "7200.00")])
def test_stamps_in_the_future_are_told(rig, lead, told, request):
    manual = (request.config.rootpath / "docs" / "ros.md").read_text()
    assert manual.index("| `ahead: ") < manual.index("| `no message is used: ")
    rig.deliver(delay=-lead)
    rig.counts.outlier += 12  # The cause goes before its effect.
    assert rig.judge()[:2] == (
        WARN,
        f"ahead: stamped {told} s in the future; is its clock another (PTP, GPS, TAI)?",
    )
    rig.deliver()
    assert rig.judge()[0] == OK


def test_steps_of_simulated_time_and_single_wrong_stamps_are_no_other_clock(rig):
    rig.deliver(delay=-0.1)
    assert rig.judge()[0] == OK
    rig.deliver(11)
    rig.deliver(1, delay=-3600.0)
    assert rig.judge(others=0.02)[0] == OK
    clock = rig.clock_ns()
    rig.sensor.received(Arrival(clock, rig.now), clock_ns=0)  # No /clock so far.
    assert rig.judge()[0] == OK


def test_a_clock_that_disagrees_while_the_others_agree(rig):
    rig.deliver(delay=3e6)
    level, text, _ = rig.judge(others=0.02)
    assert level == WARN
    assert text.startswith("another clock: stamped 2999999.98 s before the other sensors")
    rig.deliver(delay=0.02)
    assert "s after the other sensors" in rig.judge(others=3e6)[1]
    rig.deliver(delay=3e6)
    assert rig.judge(others=3e6 + 0.3)[0] == OK


def test_most_sensors_must_agree_on_a_clock():
    assert agreed([]) is agreed([0.1]) is agreed([0.1, 37.0]) is agreed([0.1, 5.0, 37.0]) is None
    assert agreed([0.1, 0.2]) == 0.1
    assert agreed([-37.0, 0.1, 0.2]) == 0.1
    assert agreed([0.1, 0.2, 3e6]) == 0.2


@pytest.mark.parametrize("hz", [0.7, 2.0, 12.0, 100.0])
def test_the_rate_follows_and_falls_with_silence(hz):
    rig = Rig()
    rig.deliver(400, hz=hz)
    assert rig.sensor.rate(rig.now) == pytest.approx(hz, rel=0.01)
    steady = rig.sensor.rate(rig.now)
    for _ in range(20):
        rig.now += 0.2
        rate = rig.sensor.rate(rig.now)
        assert rate <= steady + 1e-9
        steady = rate
    assert rig.sensor.rate(rig.now) <= 1 / 3
