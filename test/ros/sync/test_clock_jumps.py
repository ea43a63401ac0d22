"""Wrong stamps, alone or all together: what is forgotten, what is dropped, what goes on."""

from __future__ import annotations

import pytest
from sync_yield import Event, feed, run_live, run_replay, simulate, turns_of

from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.sync.synchroniser import FrameSet, Synchronizer

SECOND = 1_000_000_000
HOUR = 3600 * SECOND


def moved(event: Event, by_ns: int = 0, later: float = 0.0) -> Event:
    return event._replace(stamp_ns=event.stamp_ns + by_ns, arrival=event.arrival + later)


def stamps(frames: list[FrameSet]) -> list[int]:
    return [frame.stamp_ns for frame in frames]


@pytest.mark.parametrize("cut", [0, 1, 2, 5, 9])
def test_a_bag_that_begins_again_gives_the_same_frames_again(cut: int) -> None:
    """Whatever the last message before the loop was, and with a straggler of the old round."""
    drive = simulate(4.0)
    first = drive.events[: len(drive.events) - cut]
    again = [moved(event, later=4.1) for event in drive.events]
    sync = Synchronizer()
    before = run_live(sync, first)
    straggler = moved(first[-20], 7_000_000, later=0.5)
    after = run_live(sync, [again[0], straggler, *again[1:]])
    assert sync.clock_jumps == 1
    want = stamps(run_live(Synchronizer(), drive.events))
    assert stamps(before) == want[: len(before)] and len(before) >= len(want) - 1
    missing = set(want) - set(stamps(after))
    assert stamps(after) == sorted(set(stamps(after))) and len(missing) <= 1
    assert sum(counts.late for counts in sync.counts.values()) <= 1  # The straggler.


def test_time_that_jumps_ahead_goes_on_with_what_was_set_aside() -> None:
    drive = simulate(8.0)
    events = [moved(event, HOUR if event.arrival > 4.0 else 0) for event in drive.events]
    sync = Synchronizer()
    frames = run_live(sync, events)
    assert turns_of(frames) == list(range(drive.turns))
    assert sum(counts.outlier for counts in sync.counts.values()) == 0


@pytest.mark.parametrize("by", [HOUR, -HOUR, 5 * SECOND, -5 * SECOND], ids=str)
@pytest.mark.parametrize("sensor", [ANCHOR_CAMERA, "CAM_FRONT", "RADAR_FRONT"])
def test_one_wrong_stamp_costs_one_message(sensor: str, by: int) -> None:
    drive = simulate(6.0)
    events = list(drive.events)
    place = next(i for i, e in enumerate(events) if e.arrival > 3.0 and e.sensor == sensor)
    events[place] = moved(events[place], by)
    sync = Synchronizer()
    frames = run_live(sync, events)
    assert turns_of(frames) == list(range(drive.turns))
    assert sync.counts[sensor].outlier == 1
    assert sync.clock_jumps == 0


@pytest.mark.parametrize("by", [HOUR, -HOUR], ids=["ahead", "behind"])
@pytest.mark.parametrize("sensor", [ANCHOR_CAMERA, "RADAR_FRONT"])
def test_a_sensor_with_a_clock_of_its_own_is_as_good_as_dead(sensor: str, by: int) -> None:
    drive = simulate(6.0)
    events = [moved(e, by if e.sensor == sensor else 0) for e in drive.events]
    sync = Synchronizer()
    frames = run_live(sync, events)
    real = [frame for frame in frames if abs(frame.stamp_ns - drive.events[0].stamp_ns) < HOUR / 2]
    turns = turns_of(real)
    assert len(set(turns)) == len(turns) and set(range(2, drive.turns)) <= set(turns)
    assert all(sensor not in frame.images and sensor not in frame.sweeps for frame in real)
    assert sync.clock_jumps <= 1


def test_a_camera_slower_than_the_limit_of_jumps_is_no_jump() -> None:
    sync = Synchronizer(cameras=("CAM_FRONT",), radars=())
    slow = simulate(40.0, dead=tuple(set(CAMERAS + RADARS) - {"CAM_FRONT"}), intervals=(3.0,))
    assert turns_of(run_live(sync, slow.events)) == list(range(slow.turns))
    assert sync.clock_jumps == sync.counts["CAM_FRONT"].outlier == 0


def test_the_very_first_stamp_may_be_wrong() -> None:
    drive = simulate(4.0)
    events = [moved(drive.events[0], HOUR), *drive.events[1:]]
    sync = Synchronizer()
    frames = run_live(sync, events)
    assert turns_of(frames)[-40:] == list(range(drive.turns))[-40:]
    assert sync.clock_jumps == 1


def test_the_only_sensor_that_lives_may_jump() -> None:
    others = tuple(camera for camera in CAMERAS if camera != ANCHOR_CAMERA)
    sync = Synchronizer(cameras=(ANCHOR_CAMERA,), radars=())
    drive = simulate(8.0, dead=others)
    events = [e for e in drive.events if e.sensor == ANCHOR_CAMERA]
    looped = [*events, *(moved(event, later=9.0) for event in events)]
    frames = run_live(sync, looped)
    assert sync.clock_jumps == 1
    # Of the messages that were set aside only as many are kept as of any camera.
    assert len(frames) + sync.overflowed > 2 * len(events) - 10
    assert sync.overflowed <= 16
    assert all(ANCHOR_CAMERA in one.images for one in frames)


def test_a_last_frame_far_ahead_of_everybody_is_not_believed_for_ever() -> None:
    """Several sensors agreed on a wrong time and died."""
    drive = simulate(8.0)
    events = [
        moved(e, HOUR if 2.0 < e.arrival < 2.08 else 0)
        for e in drive.events
        if not 2.08 < e.arrival < 3.0
    ]
    sync = Synchronizer()
    frames = run_live(sync, events)
    right = [f.stamp_ns for f in frames if f.stamp_ns < drive.events[0].stamp_ns + HOUR / 2]
    assert max(right) == max(e.stamp_ns for e in drive.events if e.sensor == ANCHOR_CAMERA)


def test_swapped_doubled_and_unstamped_messages_are_counted_and_cost_no_frame() -> None:
    drive = simulate(3.0)
    events = list(drive.events)
    places = [i for i, event in enumerate(events) if event.sensor == "CAM_FRONT"]
    for one, other in zip(places[10::4], places[11::4], strict=False):
        swapped = events[one].stamp_ns, events[other].stamp_ns
        events[other] = events[other]._replace(stamp_ns=swapped[0])
        events[one] = events[one]._replace(stamp_ns=swapped[1])
    events += [moved(event, later=0.001) for event in drive.events if event.sensor == "CAM_BACK"]
    nothing = [e._replace(stamp_ns=0) for e in drive.events if e.sensor == "RADAR_FRONT"]
    sync = Synchronizer()
    frames = run_live(sync, sorted(events + nothing, key=lambda event: event.arrival))
    assert turns_of(frames) == list(range(drive.turns))
    counts = sync.counts
    assert counts["CAM_FRONT"].out_of_order == counts["CAM_FRONT"].late == len(places[11::4])
    assert counts["CAM_BACK"].duplicate == counts["CAM_BACK"].received / 2 > 30
    assert counts["RADAR_FRONT"].zero_stamp == counts["RADAR_FRONT"].received / 2 > 30
    assert not feed(sync, nothing[0])


@pytest.mark.parametrize(
    ("wrong", "by"),
    [
        (("RADAR_FRONT",), SECOND // 2),
        (("RADAR_FRONT",), 7 * SECOND // 10),
        (("RADAR_BACK_LEFT",), 37 * SECOND),
        (RADARS[:2], 37 * SECOND),
        (RADARS, SECOND // 2),
        (RADARS, 37 * SECOND),
        ((ANCHOR_CAMERA,), SECOND // 2),
        (("CAM_FRONT",), SECOND // 2),
        (("CAM_FRONT_LEFT",), 37 * SECOND),
    ],
    ids=str,
)
def test_sensors_whose_clock_runs_ahead_blind_nobody(wrong, by: int) -> None:
    drive = simulate(8.0)
    sync = Synchronizer()
    frames = run_live(sync, [moved(e, by if e.sensor in wrong else 0) for e in drive.events])
    begun = drive.events[0].stamp_ns + SECOND
    end = drive.events[-1].stamp_ns
    real = [frame for frame in frames if begun < frame.stamp_ns < end]
    turns = turns_of(real)
    assert turns == list(range(turns[0], turns[-1] + 1)) and turns[0] <= 13
    assert turns[-1] >= drive.turns - 2
    good = set(CAMERAS + RADARS) - set(wrong)
    assert all(good == frame.images.keys() | frame.sweeps.keys() for frame in real)
    for sensor, counts in sync.counts.items():
        lost = counts.received - counts.outlier
        assert lost <= 1 if sensor in wrong else counts.outlier <= 1, (sensor, counts)


@pytest.mark.parametrize("by", [SECOND // 2, 37 * SECOND], ids=str)
@pytest.mark.parametrize("wrong", [("RADAR_FRONT",), RADARS, (ANCHOR_CAMERA,)], ids=str)
def test_clocks_that_step_ahead_midway_blind_nobody(wrong, by: int) -> None:
    drive = simulate(8.0)
    sync = Synchronizer()
    events = [moved(e, by if e.sensor in wrong and e.arrival > 4 else 0) for e in drive.events]
    frames = run_live(sync, events)
    assert turns_of(frames) == list(range(drive.turns))
    assert all(sync.counts[sensor].outlier > 45 for sensor in wrong)
    assert sum(sync.counts[s].outlier for s in set(CAMERAS + RADARS) - set(wrong)) == 0


@pytest.mark.parametrize("run", [run_live, run_replay])
@pytest.mark.parametrize("alive", [RADARS, ("CAM_FRONT",), ("CAM_FRONT", "RADAR_FRONT")], ids=str)
def test_those_that_outlive_most_others_are_not_ahead(alive, run) -> None:
    drive = simulate(12.0)
    events = [e for e in drive.events if e.sensor in alive or e.arrival < 4]
    sync = Synchronizer()
    frames = run(sync, events)
    assert sum(counts.outlier for counts in sync.counts.values()) == 0
    late = [frame for frame in frames if frame.stamp_ns > drive.events[0].stamp_ns + 6 * SECOND]
    assert len(late) >= 70


@pytest.mark.parametrize("run", [run_live, run_replay])
def test_after_a_silence_of_all_nothing_is_dropped(run) -> None:
    drive = simulate(8.0)
    sync = Synchronizer()
    frames = run(sync, [e for e in drive.events if not 3.0 < e.arrival < 3.6])
    assert sum(counts.outlier for counts in sync.counts.values()) == 0
    turns = set(turns_of(frames))
    assert {turn for turn in range(drive.turns) if not 35 <= turn <= 43} <= turns


def mixed(frames: list[FrameSet]) -> list[FrameSet]:
    """Those of two times: these are 0.25 s apart or more, and no message takes more than 0.1 s."""

    def shifts(frame: FrameSet) -> list[float]:
        items = [image.item for image in frame.images.values()]
        items += [sweep.item for sweeps in frame.sweeps.values() for sweep in sweeps]
        return [item.arrival - item.stamp_ns * 1e-9 for item in items]

    return [frame for frame in frames if max(shifts(frame)) - min(shifts(frame)) > 0.15]


@pytest.mark.parametrize("by_ms", [250, 400, 700, 990])
def test_a_clock_that_is_set_back_a_little_mixes_no_frames(by_ms: int) -> None:
    drive = simulate(8.0)
    back = by_ms * 1_000_000
    events = [moved(event, -back if event.arrival > 4.0 else 0) for event in drive.events]
    sync = Synchronizer()
    frames = run_live(sync, events)
    assert sync.clock_jumps == 1
    turns = turns_of(frames)
    assert len(set(range(drive.turns)) - set(turns)) <= 3
    assert not mixed(frames)


def test_radars_that_tell_of_a_clock_set_back_before_the_cameras_are_not_mixed_in() -> None:
    """Images take their time: sweeps of the new time come between images of the old one."""
    drive = simulate(8.0)
    events = [
        moved(e, -350_000_000 if e.arrival > 4.0 else 0, later=0.1 if e.sensor in CAMERAS else 0.0)
        for e in drive.events
    ]
    sync = Synchronizer()
    frames = run_live(sync, sorted(events, key=lambda event: event.arrival))
    assert sync.clock_jumps == 1
    assert not mixed(frames)


def test_exact_stamps_set_back_by_whole_periods_are_noticed() -> None:
    """Every stamp of the new time was heard before: a simulator's, or a hardware trigger's."""
    sensors, period = CAMERAS + RADARS, SECOND // 20
    events = [Event(1 + i / 20, SECOND + i * period, s, i) for i in range(160) for s in sensors]
    events = [moved(event, -10 * period if event.turn >= 80 else 0) for event in events]
    sync = Synchronizer()
    frames = run_live(sync, events)
    assert sync.clock_jumps == 1
    assert not mixed(frames)
    assert len(set(range(160)) - set(turns_of(frames))) <= 3


@pytest.mark.parametrize("sensor", [ANCHOR_CAMERA, "RADAR_FRONT"])
def test_the_only_sensor_may_be_set_back_a_little(sensor: str) -> None:
    sync = Synchronizer(cameras=CAMERAS, radars=RADARS)
    events = [e for e in simulate(8.0).events if e.sensor == sensor]
    moment = events[len(events) // 2].arrival
    events = [moved(e, -700_000_000 if e.arrival > moment else 0) for e in events]
    frames = run_live(sync, events)
    assert sync.clock_jumps == 1
    assert not mixed(frames)
    assert frames[-1].stamp_ns == events[-1].stamp_ns


def test_messages_out_of_order_are_no_clock_that_is_set_back() -> None:
    drive = simulate(6.0)
    late = [moved(e, later=0.12) if i % 7 == 0 else e for i, e in enumerate(drive.events)]
    sync = Synchronizer()
    frames = run_live(sync, sorted(late, key=lambda event: event.arrival))
    assert sync.clock_jumps == 0
    assert sum(counts.out_of_order for counts in sync.counts.values()) > 20
    assert set(turns_of(frames)) == set(range(drive.turns))
