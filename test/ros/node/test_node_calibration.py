"""The real node tells what looks wrong with the calibration, in the log and in /diagnostics."""

from __future__ import annotations

import time

import pytest
import ros_rig
from model_tiny import saved

pytest.importorskip("rclpy")

import node_rig
from node_rig import START, stamp_of

from crkd_ros.convert import ros_packages


@pytest.fixture
def bench(tmp_path):
    bench = node_rig.Bench(
        tmp_path,
        weights=str(saved(tmp_path)),
        health={"period": 0.2},
        calibration_check={"frames": 2},
    )
    yield bench
    bench.close()


def test_two_swapped_radars_are_told_once(bench, tmp_path):
    # The file is read at configure: the node is still unconfigured.
    calibration = ros_rig.calibration()
    places = {name: calibration.base_T(name) for name in ("radar_front", "radar_front_left")}
    calibration.add("base_link", "radar_front", places["radar_front_left"])
    calibration.add("base_link", "radar_front_left", places["radar_front"])
    calibration.save(tmp_path / "calibration.yaml")
    drive = ros_rig.drive(ros_packages.make, START, 0.8)
    bench.peer.advertise(drive)
    bench.fresh(sync__wait=5.0)
    bench.wait(bench.peer.matched)
    bench.wait(lambda: bench.peer.status("calibration")[0] == "being checked (0 of 2 frames)")
    bench.hear()
    # One frame after the other: of a burst the node may leave out frames, and with them the check.
    half = START + 400_000_000
    bench.play([event for event in drive if stamp_of(event[1]) < half])
    # The check rests after its first look, for a second at most.
    bench.wait(lambda: bench.peer.status("calibration")[0] != "being checked (0 of 2 frames)")
    time.sleep(1.1)
    bench.play([event for event in drive if stamp_of(event[1]) >= half])
    bench.wait(lambda: "looks wrong" in bench.peer.status("calibration")[1].get("check", ""))
    text, values = bench.peer.status("calibration")
    doubts = [doubt for name, doubt in values.items() if name.startswith("warning")]
    assert f"{len(doubts)} warnings" in text
    (front,) = (doubt for doubt in doubts if doubt.startswith("RADAR_FRONT:"))
    assert "expected heading 0" in front
    assert "are these two swapped" in front
    assert bench.process.output().count(front) == 1
