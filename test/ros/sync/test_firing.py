"""Rigs fire differently: which images belong together follows from how they do, measured."""

from __future__ import annotations

import dataclasses
import random

import numpy as np
import pytest
from ros_rig import PHASES
from sync_rig import MS, START, add, drive, live, replay, simple

from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.sync.firing import Firing, measure
from crkd_ros.sync.synchroniser import TRIGGERS, Synchronizer

AUTO = SyncConfig()


def rig(phases, rates, *, seconds=6.0, jitter_ms=1.0, loss=0.0, seed=0, radars=RADARS):
    """(sensor, stamp) in time order: cameras with a phase, s, and a rate, Hz, each."""
    rng = random.Random(seed)
    events = []
    for camera in CAMERAS:
        rate = rates[camera] if isinstance(rates, dict) else rates
        for i in range(int(seconds * rate)):
            if rng.random() >= loss:
                at = phases[camera] + i / rate + rng.uniform(-jitter_ms, jitter_ms) / 1e3
                events.append((camera, START + round((1 + at) * 1e9)))
    for number, radar in enumerate(radars):
        events += [
            (radar, START + (1005 + 13 * number + 77 * i) * MS)
            for i in range(int(13 * seconds) - 1)
        ]
    return sorted(events, key=lambda event: event[1])


AT_ONCE = dict.fromkeys(CAMERAS, 0.0)


@pytest.mark.parametrize("rate", [2, 5, 10, 12, 20, 30])
@pytest.mark.parametrize("jitter", [0.0, 1.0, 2.4, 4.0])
def test_a_frame_of_one_trigger_holds_the_images_of_that_trigger(rate, jitter) -> None:
    events = rig(AT_ONCE, rate, jitter_ms=jitter)
    sets = replay(events)
    # Before it is measured, stamps within sync.jitter are of one trigger.
    sure = START + (0 if jitter < 2.5 else 3.5e9 if rate < 4 else 2.2e9)
    assert len([one for one in sets if one.images]) == 6 * rate or sure > START
    for one in (one for one in sets if one.stamp_ns > sure):
        assert set(one.images) == set(CAMERAS)
        apart = [abs(image.stamp_ns - one.stamp_ns) for image in one.images.values()]
        assert max(apart) <= 2.001 * jitter * MS
        assert all(len(sweeps) for sweeps in one.sweeps.values())


@pytest.mark.parametrize("rate", [5, 10, 30])
def test_live_forms_the_same_frames(rate) -> None:
    events = rig(AT_ONCE, rate, loss=0.05, seed=3)
    rng = random.Random(1)
    arrival = [(stamp - START) * 1e-9 + rng.uniform(0.001, 0.02) for _, stamp in events]
    assert simple(live(events, arrival)) == simple(replay(events))


def test_a_lost_image_of_a_trigger_is_masked_not_replaced_by_an_older_one() -> None:
    events = rig(AT_ONCE, 30, loss=0.1, seed=5)
    sync = Synchronizer()
    sets = []
    for sensor, stamp in events:
        sets += sync.flush(before_ns=stamp)
        add(sync, sensor, stamp)
    sets += sync.flush()
    assert sync.firing().kind == "at_once"
    late = [one for one in sets if one.stamp_ns > START + 2.2e9]
    assert len(late) >= 0.97 * 30 * 4.8
    for one in late:
        assert all(abs(i.stamp_ns - one.stamp_ns) < 3 * MS for i in one.images.values())
    assert 0.85 < np.mean([len(one.images) for one in late]) / 6 < 0.95


def test_cameras_in_turn_stay_as_they_are() -> None:
    sync = Synchronizer()
    for sensor, stamp in drive(3.0):
        sync.flush(before_ns=stamp)
        add(sync, sensor, stamp)
    firing = sync.firing()
    assert (firing.kind, firing.after_ns, firing.before_ns) == ("in_turn", 0.0, 1e8)
    assert firing.last == ANCHOR_CAMERA
    assert firing.text() == "in turn, every 83 ms (median), over 42 ms, cam_back_left last"
    # Fired by a LiDAR of 20 Hz at 12 Hz: turns alternate.
    starts = [0, 50, 150, 200, 300, 350, 450, 500, 600, 650, 750, 800, 900, 950, 1050, 1100, 1200]
    events = sorted(
        (
            (camera, START + start * MS + round(phase * 1e9))
            for start in starts
            for camera, phase in PHASES.items()
        ),
        key=lambda event: event[1],
    )
    for one in replay(events)[1:]:
        assert all(one.stamp_ns - i.stamp_ns <= 42 * MS for i in one.images.values())
        assert len(one.images) == 6
    own = {c: [s for n, s in events if n == c] for c in CAMERAS}
    found = measure(own, TRIGGERS, AUTO)
    # A median of 50 and 100 ms: in Hz it would be taken for the rate, which is another.
    assert (found.kind, found.text().split(", ")[1]) == ("in_turn", "every 75 ms (median)")


@pytest.mark.parametrize("rate", [4, 5])
def test_a_slow_rig_whose_anchor_fires_first_waits_for_the_rest_of_its_turn(rate) -> None:
    phases = {camera: 0.006 * i for i, camera in enumerate(CAMERAS)}
    phases[ANCHOR_CAMERA] = -0.01
    sets = replay(rig(phases, rate))
    late = [one for one in sets if one.stamp_ns > START + 2.2e9]
    assert len(late) >= 4 * rate
    for one in late:
        assert set(one.images) == set(CAMERAS)
        assert all(abs(i.stamp_ns - one.stamp_ns) < 60 * MS for i in one.images.values())


def test_cameras_of_different_rates_give_what_each_has() -> None:
    rates = dict.fromkeys(CAMERAS, 10) | {"CAM_FRONT": 30, "CAM_BACK": 4}
    phases = {camera: 0.013 * i for i, camera in enumerate(CAMERAS)}
    events = rig(phases, rates)
    sync = Synchronizer()
    sets = []
    for sensor, stamp in events:
        sets += sync.flush(before_ns=stamp)
        add(sync, sensor, stamp)
    sets += sync.flush()
    assert sync.firing().kind == "free"
    text = sync.firing().text()
    assert "30 Hz: cam_front;" in text and "; 4 Hz: cam_back)" in text
    late = [one for one in sets if one.stamp_ns > START + 2.2e9]
    assert {one.trigger for one in late} == {ANCHOR_CAMERA}
    assert len(late) == pytest.approx(10 * 4.8, abs=2)
    for one in late:
        assert set(one.images) == set(CAMERAS)
        assert one.stamp_ns - one.images["CAM_FRONT"].stamp_ns < 36 * MS
        assert one.stamp_ns - one.images["CAM_BACK"].stamp_ns < 255 * MS


def began(events, starts):
    """The same without what sensors would have said before they began, s."""
    first = min(stamp for _, stamp in events)
    return [one for one in events if one[1] >= first + starts.get(one[0], 0.0) * 1e9]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("rate", [8, 20])
@pytest.mark.parametrize("phases", [AT_ONCE, PHASES])
def test_drivers_may_come_up_one_after_another(phases, rate, seed) -> None:
    rng = random.Random(seed)
    starts = {name: rng.uniform(0, 5) for name in (*CAMERAS, *RADARS)}
    if phases is PHASES:
        rate = 12
    events = began(rig(phases, rate, seconds=9.0, jitter_ms=1.0), starts)
    sets = replay(events)
    arrival = [(stamp - START) * 1e-9 + rng.uniform(0.001, 0.02) for _, stamp in events]
    late, same = (
        [one for one in found if one.stamp_ns > START + 8.2e9]
        for found in (sets, live(events, arrival))
    )
    assert simple(late) == simple(same)
    assert len(late) >= 1.7 * rate
    for one in late:
        assert set(one.images) == set(CAMERAS)
        reach = 3 if phases is AT_ONCE else 45
        assert all(abs(i.stamp_ns - one.stamp_ns) < reach * MS for i in one.images.values())


def test_a_camera_that_said_a_word_and_joins_later_is_measured_too() -> None:
    events = rig(AT_ONCE, 10, seconds=9.0)
    starts = {"CAM_FRONT": 4.0, "CAM_BACK": 4.0}
    events = sorted([*events[:4], *began(events[4:], starts)], key=lambda event: event[1])
    events = [e for e in events if e[0] in starts or e[1] > START + 1.03e9]
    events = [*[(name, START + 1000 * MS) for name in starts], *events]
    sync = Synchronizer()
    for sensor, stamp in events:
        sync.flush(before_ns=stamp)
        add(sync, sensor, stamp)
    assert sync.firing().kind == "at_once"
    assert set(sync.firing().periods_ns) == set(CAMERAS)


@pytest.mark.parametrize("rate", [5, 10, 25])
def test_a_camera_that_was_restarted_is_measured_again(rate) -> None:
    died, back = START + 3e9, START + 5e9
    events = [
        (name, stamp + round(0.6e9 / rate) * (name == "CAM_FRONT" and stamp > back))
        for name, stamp in rig(AT_ONCE, rate, seconds=8.0, jitter_ms=0.5)
        if name != "CAM_FRONT" or not died < stamp <= back
    ]
    events.sort(key=lambda event: event[1])
    arrival = [(stamp - START) * 1e-9 + 0.01 for _, stamp in events]
    sets = replay(events)
    assert simple(sets) == simple(live(events, arrival))
    # Once its images of a second are there.
    late = [one for one in sets if one.stamp_ns > back + 1.5e9]
    assert len(late) >= 2.4 * rate
    assert all(set(one.images) == set(CAMERAS) for one in late)


@pytest.mark.parametrize("lost", range(1, 5))
def test_a_slow_camera_that_loses_an_image_at_first_is_slow_all_the_same(lost) -> None:
    rates = dict.fromkeys(CAMERAS, 15) | {"CAM_FRONT": 5}
    phases = {camera: 0.005 * i for i, camera in enumerate(CAMERAS)}
    events = rig(phases, rates)
    images = [event for event in events if event[0] == "CAM_FRONT"]
    events.remove(images[lost])
    late = [one for one in replay(events) if one.stamp_ns > START + 2.3e9]
    assert len(late) >= 15 * 4
    assert all(set(one.images) == set(CAMERAS) for one in late)


def test_radars_alone_do_not_use_up_the_time_in_which_cameras_are_measured() -> None:
    events = rig(AT_ONCE, 20, seconds=10.0)
    sets = replay(began(events, dict.fromkeys(CAMERAS, 6.0)))
    late = [one for one in sets if one.stamp_ns > START + 8.5e9]
    assert len(late) > 40
    assert all(len(one.images) == 6 for one in late)


def test_one_camera_of_several_tells_nothing_of_them_and_may_be_all_there_is() -> None:
    alone = [e for e in rig(AT_ONCE, 10, seconds=6.0) if e[0] in ("CAM_BACK", *RADARS)]
    sync = Synchronizer()
    sets = []
    for sensor, stamp in alone:
        sets += sync.flush(before_ns=stamp)
        add(sync, sensor, stamp)
    assert not sync.firing().periods_ns
    assert sum("CAM_BACK" in one.images for one in sets) >= 58
    single = measure({"CAM_BACK": [e[1] for e in alone if e[0] == "CAM_BACK"]}, ["CAM_BACK"], AUTO)
    assert single is not None
    assert single.text() == "one camera, every 100 ms (median)"


def test_time_set_back_does_not_unlearn_the_rig() -> None:
    events = rig(AT_ONCE, 20, seconds=3.0)
    sync = Synchronizer()
    for turn in range(2):
        for sensor, stamp in events:
            sync.flush(before_ns=stamp)
            add(sync, sensor, stamp - turn * 100_000 * MS)
        assert sync.firing().kind == "at_once"
    assert sync.clock_jumps == 1
    sync.clear()
    assert sync.firing(1).kind == "at_once"


@pytest.mark.parametrize("anchor", ["CAM_FRONT", "CAM_BACK"])
@pytest.mark.parametrize("phases", [AT_ONCE, PHASES])
def test_the_anchor_can_be_chosen(anchor, phases) -> None:
    config = dataclasses.replace(AUTO, anchor=anchor)
    sets = replay(rig(phases, 10), config)
    assert {one.trigger for one in sets[2:]} == {anchor}
    assert all(len(one.images) == 6 for one in sets[2:])
    with pytest.raises(ParameterError, match=r"sync\.anchor: expected one of CAM_FRONT"):
        SyncConfig(anchor="LIDAR_TOP")


def test_the_users_word_stands_above_what_is_measured() -> None:
    events = rig(AT_ONCE, 10)
    turned = replay(events, dataclasses.replace(AUTO, firing="in_turn"))
    assert (
        np.mean(
            [
                max(one.stamp_ns - i.stamp_ns for i in one.images.values()) > 50 * MS
                for one in turned
            ]
        )
        > 0.5
    )
    chosen = replay(rig(PHASES, 12), dataclasses.replace(AUTO, firing="at_once"))
    assert all(len(one.images) < 6 for one in chosen)


@pytest.mark.parametrize("phases", [AT_ONCE, PHASES])
@pytest.mark.parametrize(
    "lacking", [(ANCHOR_CAMERA,), (ANCHOR_CAMERA, "CAM_BACK"), ("CAM_FRONT",)]
)
def test_a_rig_that_lacks_a_camera_for_good_gives_a_frame_each_turn(phases, lacking) -> None:
    """Also the last ones of a recording that is shorter than a dead camera is waited for."""
    for seconds in (0.8, 3.0):
        events = [e for e in rig(phases, 10, seconds=seconds) if e[0] not in lacking]
        sets = [one for one in replay(events) if one.images]
        assert len(sets) == 10 * seconds
        assert all(set(one.images) == set(CAMERAS) - set(lacking) for one in sets)


def test_nothing_is_told_by_too_few_images() -> None:
    assert measure({}, TRIGGERS, AUTO) is None
    assert measure({ANCHOR_CAMERA: [1, 2]}, TRIGGERS, AUTO) is None
    assert Firing(kind="in_turn", before_ns=1.0).text().startswith("not measured")


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("rate", [10, 20, 60])
def test_lost_images_do_not_hide_that_a_rig_fires_at_once(rate, seed) -> None:
    sets = replay(rig(AT_ONCE, rate, seconds=5.0, loss=0.1, seed=seed))
    for one in (one for one in sets if one.stamp_ns > START + 2.5e9):
        assert all(abs(i.stamp_ns - one.stamp_ns) < 5 * MS for i in one.images.values())


@pytest.mark.parametrize("rate", [10, 20, 30])
def test_two_groups_of_cameras_each_on_a_trigger_of_its_own(rate) -> None:
    phases = {camera: 0.0 if "FRONT" in camera else 0.5 / rate for camera in CAMERAS}
    sets = replay(rig(phases, rate, jitter_ms=1.0))
    for one in sets[2:]:
        assert set(one.images) == set(CAMERAS)
        back = [one.images[name].stamp_ns for name in CAMERAS if "FRONT" not in name]
        front = [one.images[name].stamp_ns for name in CAMERAS if "FRONT" in name]
        assert max(max(group) - min(group) for group in (back, front)) < 5 * MS
