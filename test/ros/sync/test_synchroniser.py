"""Which messages form a frame, when it is settled, and what becomes of useless messages."""

from __future__ import annotations

import pytest
from sync_rig import MS, START, add, drive, live, replay, simple

from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.sync.synchroniser import TRIGGERS, SyncError, Synchronizer


def oracle(events, config=None, start=START):
    """The rule of a frame, told by stamps alone, in the simplest words."""
    config = config or SyncConfig()
    for anchor, reference in events:
        if anchor != ANCHOR_CAMERA:
            continue
        images, sweeps = {}, {}
        for sensor in CAMERAS + RADARS:
            past = [s for name, s in events if name == sensor and s <= reference]
            if sensor in CAMERAS and past and reference - past[-1] <= config.camera_spread * 1e9:
                images[sensor] = past[-1]
            if sensor in RADARS and past and reference - past[-1] <= config.radar_timeout * 1e9:
                recent = [s for s in past if reference - s <= config.sweep_age * 1e9]
                sweeps[sensor] = recent[-config.sweeps :][::-1]
        yield reference, images, sweeps


def test_replay_follows_the_rule():
    events = drive()
    sets = replay(events)
    assert simple(sets) == list(oracle(events))
    assert {s.trigger for s in sets} == {ANCHOR_CAMERA}
    assert len(sets) == 36
    assert all(len(s.images) == 6 and len(s.sweeps) == 5 for s in sets[2:])
    # Each item came back with its own stamp.
    for frame_set in sets:
        for name, image in frame_set.images.items():
            assert image.item == (name, image.stamp_ns)


def test_live_waits_for_the_rest_of_a_set_and_no_longer():
    events = drive(2.0)
    sync = Synchronizer()
    for sensor, stamp in events[:-1]:
        sync.flush(before_ns=stamp)
        add(sync, sensor, stamp)
    anchor = events[-1][1] + 100 * MS
    late = anchor - 9 * MS
    for sensor in CAMERAS:
        if sensor not in (ANCHOR_CAMERA, "CAM_BACK"):
            add(sync, sensor, anchor - 20 * MS)
    for radar in RADARS:
        add(sync, radar, anchor + MS)
    sync.flush()
    add(sync, ANCHOR_CAMERA, anchor, now=10.0)
    assert sync.take(10.01) == []
    assert sync.deadline() == pytest.approx(10.05)
    add(sync, "CAM_BACK", late, now=10.02)
    (frame_set,) = sync.take(10.02)
    assert frame_set.images["CAM_BACK"].stamp_ns == late
    add(sync, ANCHOR_CAMERA, anchor + 83 * MS, now=11.0)
    assert sync.take(11.04) == []
    assert [s.stamp_ns for s in sync.take(11.0501)] == [anchor + 83 * MS]


def test_the_first_frame_of_a_drive_waits_for_sensors_not_heard_yet():
    sync = Synchronizer()
    add(sync, ANCHOR_CAMERA, START, now=0.0)
    assert sync.take(0.02) == []
    for sensor in CAMERAS:
        if sensor != ANCHOR_CAMERA:
            add(sync, sensor, START - 10 * MS, now=0.03)
    (frame_set,) = sync.take(0.05)
    assert set(frame_set.images) == set(CAMERAS)
    # One second later, who has never spoken is dead.
    for sensor in CAMERAS:
        for stamp in (START + 1917 * MS, START + 2000 * MS):
            add(sync, sensor, stamp, now=2.0)
    assert [s.stamp_ns for s in sync.take(2.0)][-1] == START + 2000 * MS


def test_radars_alone_still_form_frames():
    sets = replay(drive(4.0, dead=CAMERAS))
    steady = [s for s in sets if s.stamp_ns - START > 1.2e9]
    assert {s.trigger for s in steady} == {"RADAR_FRONT"}
    assert len(steady) == pytest.approx(13 * 2.8, abs=1.5)
    assert all(not s.images and len(s.sweeps) == 5 for s in steady)


@pytest.mark.parametrize("lag", [0.12, 0.2, 0.33])
@pytest.mark.parametrize("camera_ms", [1000 / 60, 1000 / 30, 1000 / 12, 200])
def test_cameras_later_than_radars_lose_neither_images_nor_the_anchor(camera_ms, lag):
    events = drive(5.0, camera_ms=camera_ms)
    delay = {sensor: lag if sensor in CAMERAS else 0.005 for sensor in CAMERAS + RADARS}
    arrival = [(stamp - START) / 1e9 + delay[sensor] for sensor, stamp in events]
    sets = live(events, arrival)
    assert simple(sets)[12:] == simple(replay(events))[12:]
    # Faster cameras have images before the anchor's first one.
    assert {one.trigger for one in sets[0 if camera_ms > 80 else 12 :]} == {ANCHOR_CAMERA}
    assert all(len(one.images) == 6 and len(one.sweeps) == 5 for one in sets[12:])


@pytest.mark.parametrize("rate", [10, 30, 60])
@pytest.mark.parametrize("late", [0.3, 0.9])
def test_frames_wait_for_late_ego_motion_whatever_the_rate(rate, late):
    sync, out = Synchronizer(SyncConfig(wait=1.0)), []
    stamps = [START + round(i * 1e9 / rate) for i in range(4 * rate)]
    coming = [((stamp - START) / 1e9, "image", stamp) for stamp in stamps]
    coming += [((stamp - START) / 1e9 + late, "pose", stamp) for stamp in stamps]
    for now, kind, stamp in sorted(coming):
        if kind == "image":
            add(sync, ANCHOR_CAMERA, stamp, now)
        else:
            sync.add_pose(stamp)
        out += sync.take(now)
    # The first ones wait for sensors that have not spoken yet.
    assert [one.stamp_ns for one in out[-2 * rate :]] == stamps[-2 * rate :]
    assert sync.overflowed == 0


def test_an_image_that_comes_later_than_eight_others_is_waited_for():
    events = [("CAM_BACK", START + i * 33 * MS) for i in range(120)]
    events += [(ANCHOR_CAMERA, stamp + 2 * MS) for _, stamp in events]
    delay = {"CAM_BACK": 0.35, ANCHOR_CAMERA: 0.02}
    arrival = [(stamp - START) / 1e9 + delay[sensor] for sensor, stamp in events]
    sets = live(events, arrival, SyncConfig(wait=0.4))
    assert len(sets) >= 118
    assert all(len(one.images) == 2 for one in sets[40:])


def test_key_frame_only_cameras_form_frames_at_2_hz():
    events = drive(6.0, camera_ms=500.0)
    arrival = [(stamp - START) * 1e-9 for _, stamp in events]
    assert simple(live(events, arrival))[2:] == list(oracle(events))[2:]


def test_a_silent_radar_is_absent_and_old_sweeps_are_not_used():
    events = [
        (sensor, stamp)
        for sensor, stamp in drive(6.0)
        if sensor != "RADAR_FRONT" or not 1e9 < stamp - START < 4e9
    ]
    for frame_set in replay(events):
        t = (frame_set.stamp_ns - START) / 1e9
        if 1.4 < t < 4.0:
            assert "RADAR_FRONT" not in frame_set.sweeps
        if t > 4.2:
            ages = [frame_set.stamp_ns - s.stamp_ns for s in frame_set.sweeps["RADAR_FRONT"]]
            assert min(ages) >= 0 and max(ages) <= 2e9


def test_counts_and_refusals():
    sync = Synchronizer(cameras=("CAM_FRONT", ANCHOR_CAMERA), radars=())
    for period in range(3, 0, -1):
        add(sync, ANCHOR_CAMERA, START + (110 - period * 117) * MS)
    sync.flush()
    assert add(sync, "CAM_FRONT", START)
    assert not add(sync, "CAM_FRONT", START)
    assert not add(sync, "CAM_FRONT", 0)
    assert add(sync, "CAM_FRONT", START + 100 * MS)
    assert add(sync, "CAM_FRONT", START + 50 * MS)
    add(sync, ANCHOR_CAMERA, START + 110 * MS)
    # A camera twice as fast as the anchor asks for nothing while that is due.
    (frame_set,) = sync.flush()
    assert frame_set.images["CAM_FRONT"].stamp_ns == START + 100 * MS
    assert add(sync, "CAM_FRONT", START + 105 * MS)
    counts = sync.counts["CAM_FRONT"]
    assert (counts.received, counts.zero_stamp, counts.duplicate) == (6, 1, 1)
    assert (counts.out_of_order, counts.late) == (1, 1)
    # An anchor image older than the last reference asks for nothing.
    add(sync, ANCHOR_CAMERA, START + 60 * MS)
    assert sync.flush() == []
    assert sync.counts[ANCHOR_CAMERA].late == 1


def test_frames_wait_for_the_ego_pose_of_their_time():
    sync = Synchronizer(SyncConfig(dead_after=0.5), cameras=(ANCHOR_CAMERA,), radars=())
    sync.add_pose(START)
    for index in range(4):
        add(sync, ANCHOR_CAMERA, START + index * 80 * MS, index * 0.08)
    taken = [s.stamp_ns for s in sync.take(0.24)]
    # The first is known, the next two have waited their time, the last has not.
    assert taken == [START, START + 80 * MS, START + 160 * MS]
    assert sync.take(0.25) == []
    sync.add_pose(START + 240 * MS)
    assert [s.stamp_ns for s in sync.take(0.25)] == [START + 240 * MS]
    # Dead odometry is not waited for: such frames fail later, and are counted.
    add(sync, ANCHOR_CAMERA, START + 900 * MS, 1.0)
    assert len(sync.take(1.0)) == 1


def test_frames_that_nobody_takes_are_bounded_and_counted():
    sync = Synchronizer()
    for index in range(100):
        add(sync, ANCHOR_CAMERA, START + index * 83 * MS)
    assert len(sync.flush()) + sync.overflowed == 100
    assert sync.overflowed > 50


@pytest.mark.parametrize("sensor", ["CAM_FRONT", "RADAR_FRONT"])
def test_a_lone_sensor_whose_time_is_set_back_gives_no_empty_frames(sensor):
    kinds = ([sensor], []) if sensor in CAMERAS else ([], [sensor])
    sync, sets = Synchronizer(cameras=kinds[0], radars=kinds[1]), []
    for first in (START, START - 200_000 * MS):
        for stamp in range(first, first + 6000 * MS, 100 * MS):
            sets += sync.flush(before_ns=stamp)
            add(sync, sensor, stamp)
    sets += sync.flush()
    assert all(sensor in one.images or sensor in one.sweeps for one in sets)
    assert len(sets) + sync.overflowed >= 119  # One is pending when time is set back.
    assert sync.clock_jumps == 1


@pytest.mark.parametrize("limits", [{"camera_spread": 0.0}, {"sweep_age": 0.0}])
def test_limits_of_zero_leave_a_frame_its_own_message(limits):
    """Stamps of today are beyond the whole numbers of a float."""
    config = SyncConfig(firing="in_turn", **limits)
    for sensor in ("CAM_FRONT", "RADAR_FRONT"):
        kinds = ([sensor], []) if sensor in CAMERAS else ([], [sensor])
        sync, sets = Synchronizer(config, cameras=kinds[0], radars=kinds[1]), []
        for index in range(40):
            stamp = START + index * 83_333_333 + 1
            sets += sync.flush(before_ns=stamp)
            add(sync, sensor, stamp)
        sets += sync.flush()
        assert len(sets) == 40
        assert all(sensor in one.images or sensor in one.sweeps for one in sets)


def test_names_and_limits_are_checked():
    assert set(TRIGGERS) == set(CAMERAS + RADARS)
    sync = Synchronizer()
    with pytest.raises(SyncError, match="unknown sensor 'CAM_TOP'; known: CAM_FRONT"):
        add(sync, "CAM_TOP", START)
    with pytest.raises(SyncError, match="no trigger"):
        Synchronizer(cameras=(), radars=())
    with pytest.raises(ParameterError, match=r"sync\.wait: expected 0\.0 to 5\.0, got -1"):
        SyncConfig(wait=-1.0)
    with pytest.raises(ParameterError, match="nan"):
        SyncConfig(camera_spread=float("nan"))
