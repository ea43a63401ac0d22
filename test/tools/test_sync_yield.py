"""Every turn of the cameras gives one frame, whatever is lost, late or dead. Simulated sensors."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections import Counter

import pytest
import sync_yield
from hypothesis import given, settings
from hypothesis import strategies as st
from sync_yield import (
    FIRING,
    START_NS,
    Drive,
    feed,
    run_live,
    run_replay,
    simulate,
    turns_of,
)

from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.sync.synchroniser import TRIGGERS, FrameSet, Synchronizer

#: A real nuScenes camera fires with every, or every second, turn of a 20 Hz lidar.
LIDAR_STEPS = (0.1, 0.1, 0.05, 0.1, 0.1, 0.05)


def live(drive: Drive, config: SyncConfig | None = None) -> list[FrameSet]:
    return run_live(Synchronizer(config), drive.events)


def share(drive: Drive, frames: list[FrameSet]) -> float:
    """Turns with a frame; none has two."""
    counts = Counter(turns_of(frames))
    assert max(counts.values()) == 1, counts.most_common(3)
    return len(counts) / drive.turns


def test_nothing_lost_gives_the_anchors_frames() -> None:
    drive = simulate(20.0)
    frames = live(drive)
    anchors = [e.stamp_ns for e in drive.events if e.sensor == ANCHOR_CAMERA]
    assert [frame.stamp_ns for frame in frames] == anchors
    assert {frame.trigger for frame in frames} == {ANCHOR_CAMERA}
    assert all(len(frame.images) == 6 for frame in frames)


@pytest.mark.parametrize(
    ("loss", "least"), [(0.1, 0.99), (0.2, 0.97), (0.3, 0.93)], ids=["10%", "20%", "30%"]
)
@pytest.mark.parametrize("lateness", [0.0, 0.04])
def test_frames_survive_lost_messages(loss: float, least: float, lateness: float) -> None:
    drive = simulate(40.0, seed=1, loss=loss, lateness=lateness)
    frames = live(drive)
    assert share(drive, frames) >= least
    # Where the anchor's image came it is in the frame, but for the moments when it seemed dead.
    anchors = {event.turn for event in drive.events if event.sensor == ANCHOR_CAMERA}
    led = {
        frame.images[ANCHOR_CAMERA].item.turn for frame in frames if frame.trigger == ANCHOR_CAMERA
    }
    assert len(anchors - led) <= 0.02 * drive.turns


@pytest.mark.parametrize("dead", CAMERAS)
def test_no_frame_is_lost_with_a_dead_camera(dead: str) -> None:
    drive = simulate(8.0, dead=(dead,), lateness=0.03)
    frames = live(drive)
    # From the first turn on; the last may still wait for the dead one.
    assert turns_of(frames) == list(range(drive.turns))
    for frame in frames:
        assert dead not in frame.images
        assert frame.trigger == ("CAM_BACK" if dead == ANCHOR_CAMERA else ANCHOR_CAMERA)


@pytest.mark.parametrize("dead", CAMERAS)
def test_frames_survive_lost_messages_with_a_dead_camera(dead: str) -> None:
    drive = simulate(20.0, seed=2, dead=(dead,), loss=0.1, lateness=0.03)
    assert share(drive, live(drive)) >= 0.99


def test_no_frame_is_lost_when_the_anchor_dies_midway_and_resumes() -> None:
    drive = simulate(12.0, silent={ANCHOR_CAMERA: (4.0, 8.0)}, lateness=0.02)
    frames = live(drive)
    assert turns_of(frames) == list(range(drive.turns))
    triggers = [trigger for trigger, _ in itertools.groupby(frame.trigger for frame in frames)]
    assert triggers == [ANCHOR_CAMERA, "CAM_BACK", ANCHOR_CAMERA]


def test_once_the_anchor_is_known_to_be_dead_its_stand_in_asks_at_once() -> None:
    drive = simulate(8.0, silent={ANCHOR_CAMERA: (4.0, 9.0)})
    sync, came = Synchronizer(), {}
    for event in drive.events:
        feed(sync, event)
        for frame in sync.take(event.arrival):
            came[frame.stamp_ns] = event.arrival - (frame.stamp_ns - START_NS) * 1e-9
    # Before: its stand-in's stamp, to the time at which it was given up.
    waits = [wait for stamp, wait in came.items() if 4e9 < stamp - START_NS < 4.4e9]
    assert max(waits) < 0.15
    waits = [wait for stamp, wait in came.items() if 5.2e9 < stamp - START_NS < 7.5e9]
    assert len(waits) > 20 and max(waits) < 0.02


def test_three_cameras_dead_and_messages_lost() -> None:
    dead = ("CAM_BACK", "CAM_FRONT", ANCHOR_CAMERA)
    drive = simulate(20.0, seed=3, dead=dead, loss=0.1, lateness=0.03)
    frames = live(drive)
    assert share(drive, frames) >= 0.98
    assert {frame.trigger for frame in frames} <= set(CAMERAS) - set(dead)


def test_all_radars_dead() -> None:
    drive = simulate(20.0, seed=4, dead=RADARS, loss=0.1, lateness=0.03)
    frames = live(drive)
    assert share(drive, frames) >= 0.99
    assert not any(frame.sweeps for frame in frames)


def test_only_radars_alive() -> None:
    drive = simulate(6.0, seed=5, dead=CAMERAS, loss=0.1, lateness=0.02)
    frames = live(drive)
    stamps = [frame.stamp_ns for frame in frames]
    # After the second that is granted to cameras not heard yet, at the radars' rate.
    gaps = [(b - a) * 1e-9 for a, b in itertools.pairwise(stamps)]
    assert len(frames) > 0.95 * 13 * 4.9
    assert max(gaps) < 0.16 and not any(frame.images for frame in frames)
    assert Counter(frame.trigger for frame in frames).most_common(1)[0][0] == "RADAR_FRONT"


def test_one_camera_alone() -> None:
    others = tuple(camera for camera in CAMERAS if camera != "CAM_FRONT")
    drive = simulate(6.0, dead=others)
    assert turns_of(live(drive)) == list(range(drive.turns))


@pytest.mark.parametrize(
    ("rig", "least"),
    [
        ({"intervals": LIDAR_STEPS}, 0.98),
        ({"intervals": (0.5,)}, 0.95),
        ({"intervals": (1 / 30,), "firing": {c: 0.002 * i for i, c in enumerate(FIRING)}}, 0.98),
        ({"firing": dict.fromkeys(CAMERAS, 0.0)}, 0.98),
        ({"jitter": 0.008}, 0.98),
    ],
    ids=["lidar steps", "key frames only", "30 Hz", "fired together", "jitter"],
)
def test_other_rigs(rig: dict, least: float) -> None:
    drive = simulate(20.0, seed=6, loss=0.1, lateness=0.02, **rig)
    assert share(drive, live(drive)) >= least


def simple(frames: list[FrameSet]) -> list[tuple]:
    return [
        (
            frame.stamp_ns,
            frame.trigger,
            {name: image.stamp_ns for name, image in frame.images.items()},
            {name: [one.stamp_ns for one in sweeps] for name, sweeps in frame.sweeps.items()},
        )
        for frame in frames
    ]


@settings(deadline=None, max_examples=25)
@given(
    seed=st.integers(0, 2**32),
    loss=st.sampled_from([0.0, 0.05, 0.2]),
    lateness=st.floats(0, 0.04),
    dead=st.sets(st.sampled_from(TRIGGERS), max_size=2),
)
def test_live_and_replay_form_the_same_frames(seed, loss, lateness, dead) -> None:
    drive = simulate(4.0, seed=seed, loss=loss, lateness=lateness, dead=tuple(dead))
    want = simple(run_replay(Synchronizer(), drive.events))
    got = simple(live(drive))
    # While sensors speak their first words, a period is not known to everybody yet.
    steady = want[0][0] + 1_500_000_000
    late = [frame for frame in want if frame[0] > steady]
    assert len(late) >= 20
    assert [frame for frame in got if frame[0] > steady] == late


@settings(deadline=None, max_examples=30)
@given(
    seed=st.integers(0, 2**32),
    loss=st.floats(0, 0.6),
    lateness=st.floats(0, 0.3),
    jitter=st.floats(0, 0.03),
    dead=st.sets(st.sampled_from(TRIGGERS), max_size=8),
)
def test_references_grow_and_nothing_in_a_frame_is_newer_or_too_old(
    seed, loss, lateness, jitter, dead
) -> None:
    drive = simulate(3.0, seed=seed, loss=loss, lateness=lateness, jitter=jitter, dead=tuple(dead))
    auto, told = SyncConfig(), SyncConfig(firing="in_turn")
    for run, config in itertools.product((run_live, run_replay), (auto, told)):
        # Until it is measured how they fire, stamps as close as sync.jitter count as simultaneous;
        # cameras of which only some 8 ms apart are left may be measured as on one trigger.
        newer = 0.0 if config is told else config.jitter * 1e9
        if config is auto and (dead or jitter > config.jitter / 2):
            newer = 0.025e9
        # Where more than a tenth is lost, turns may, very rarely, look like another rig.
        older = config.camera_spread * 1e9 if config is told or loss <= 0.1 else 0.5e9
        frames = run(Synchronizer(config), drive.events)
        for before, after in itertools.pairwise(frames):
            assert before.stamp_ns < after.stamp_ns
        for frame in frames:
            reference = frame.stamp_ns
            trigger = frame.images.get(frame.trigger) or frame.sweeps[frame.trigger][0]
            assert trigger.stamp_ns == reference
            for image in frame.images.values():
                assert -newer <= reference - image.stamp_ns <= older
            for sweeps in frame.sweeps.values():
                ages = [reference - sweep.stamp_ns for sweep in sweeps]
                assert ages == sorted(ages) and len(ages) <= config.sweeps
                assert 0 <= ages[0] <= config.radar_timeout * 1e9
                assert ages[-1] <= config.sweep_age * 1e9


def test_the_command_prints_the_table() -> None:
    done = subprocess.run(
        [sys.executable, sync_yield.__file__, "--seconds", "2"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if "CAM_FRONT dead " in line]
    assert "100.0 %" in line
