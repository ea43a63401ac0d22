"""Policy message_filters: the real stock synchroniser, where ROS has it, else a clear refusal."""

from __future__ import annotations

import itertools

import pytest
from sync_yield import run_live, run_replay, simulate, stock_sets, turns_of

from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.convert import ros_packages
from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.sync.stock_policy import FilterSynchronizer, make_synchronizer
from crkd_ros.sync.synchroniser import SyncError, Synchronizer

STOCK = SyncConfig(policy="message_filters")


def test_the_policy_is_refused_where_the_package_is_missing() -> None:
    if ros_packages.installed("message_filters"):
        pytest.skip("message_filters is installed")
    with pytest.raises(SyncError, match="needs the ROS package message_filters, which is not"):
        make_synchronizer(STOCK, cameras=CAMERAS, radars=RADARS)


def test_the_policy_needs_a_camera() -> None:
    with pytest.raises(SyncError, match="needs a camera"):
        make_synchronizer(STOCK, cameras=(), radars=RADARS)
    anchor = make_synchronizer(SyncConfig(), cameras=(), radars=RADARS)
    assert type(anchor) is Synchronizer


def test_complete_sets_give_the_frames_of_policy_anchor() -> None:
    pytest.importorskip("message_filters")
    drive = simulate(4.0, lateness=0.02)
    mine, stock = run_live(Synchronizer(), drive.events), run_live(_stock(), drive.events)
    assert turns_of(stock) == list(range(drive.turns))
    assert [frame.trigger for frame in stock] == [ANCHOR_CAMERA] * drive.turns
    assert stock[20:] == mine[20:]
    assert run_replay(_stock(), drive.events)[20:] == mine[20:]


def test_a_dead_camera_stops_all_frames_and_a_dead_radar_none() -> None:
    pytest.importorskip("message_filters")
    assert run_live(_stock(), simulate(4.0, dead=("CAM_FRONT",)).events) == []
    without = simulate(4.0, dead=("RADAR_FRONT",))
    frames = run_live(_stock(), without.events)
    assert len(frames) == without.turns
    assert all(set(frame.sweeps) == set(RADARS[1:]) for frame in frames[20:])
    two = [camera for camera in CAMERAS if camera in ("CAM_FRONT", "CAM_BACK")]
    few = make_synchronizer(STOCK, cameras=two, radars=())
    dead = tuple(set(CAMERAS + RADARS) - set(two))
    assert len(run_live(few, simulate(4.0, dead=dead).events)) == 48


def test_lost_messages_cost_frames_and_references_grow() -> None:
    pytest.importorskip("message_filters")
    drive = simulate(20.0, loss=0.1, lateness=0.04)
    frames = run_live(_stock(), drive.events)
    assert 0.3 < len(frames) / drive.turns < 0.95
    assert all(a.stamp_ns < b.stamp_ns for a, b in itertools.pairwise(frames))
    for frame in frames:
        spread = [image.stamp_ns for image in frame.images.values()]
        assert len(spread) == 6 and max(spread) == frame.stamp_ns
        assert max(spread) - min(spread) < 0.1e9
    everything = stock_sets(drive.events, STOCK)
    assert 0.3 < len(set(everything)) / drive.turns < 0.75


def test_frames_go_on_after_time_went_back() -> None:
    pytest.importorskip("message_filters")
    drive = simulate(4.0)
    again = [event._replace(arrival=event.arrival + 5.0) for event in drive.events]
    sync = _stock()
    frames = run_live(sync, [*drive.events, *again])
    assert sync.clock_jumps == 1
    assert len(frames) >= 2 * drive.turns - 2


def _stock() -> FilterSynchronizer:
    return FilterSynchronizer(STOCK)
