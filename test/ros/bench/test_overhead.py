"""The commands that measure the node: the real one, in its own process, over DDS."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import threading
import time

import command_lines
import pytest
import ros_rig
from model_tiny import saved

pytest.importorskip("rclpy")

from crkd_ros.bags.message_types import make
from crkd_ros.bags.writer import BagWriter
from crkd_ros.bench import overhead
from crkd_ros.bench.node_peer import Told, peer
from crkd_ros.bench.short_drive import ShortDrive
from crkd_ros.convert import arrays

START = 1_700_000_000_000_000_000
LIMIT = 180.0


@pytest.fixture(scope="module")
def drive(tmp_path_factory) -> ShortDrive:
    folder = tmp_path_factory.mktemp("drive")
    with BagWriter(folder / "bag") as bag:
        for topic, message in ros_rig.drive(make, START, 0.5):
            bag.write(topic, message, arrays.stamp_ns(message.header.stamp))
    ros_rig.calibration().save(folder / "calibration.yaml")
    return ShortDrive(bag=folder / "bag", calibration=folder / "calibration.yaml")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return saved(tmp_path_factory.mktemp("weights"))


@contextlib.contextmanager
def command(name: str, *arguments: object, log):
    """A command in its own process, and a look over its shoulder: what its node tells."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("wb") as file:
        process = subprocess.Popen(
            command_lines.words(name, *arguments),
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )
        told = Told()
        try:
            with peer({}, told):
                yield process, told
        finally:
            if process.poll() is None:
                process.kill()
            process.wait()


def wait_until(condition, process, log) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.05)


def test_an_interrupted_soak_reports_what_it_has(drive, weights, tmp_path):
    log, out = tmp_path / "log", tmp_path / "out"
    options = {"out": out, "weights": weights, "bag": drive.bag, "calibration": drive.calibration}
    options |= {"minutes": 30, "rate-hz": 3, "warm-up": 0, "parameter": "score_threshold=0.0"}
    words = [word for name, value in options.items() for word in (f"--{name}", value)]
    with command("soak", *words, log=log) as (process, told):
        # Its figures are those of the diagnostics, which come once a second.
        wait_until(
            lambda: len(told.latency["total"]) >= 3 and told.frames.get("published"), process, log
        )
        process.send_signal(signal.SIGINT)
        process.wait(timeout=LIMIT)
    text = log.read_text()
    assert "Traceback" not in text
    assert "ended early: interrupted" in text
    saved = json.loads((out / "soak.json").read_text())
    assert saved["error"] == "interrupted"
    assert (saved["grows"], saved["settings"]["rate_hz"]) == (None, 3.0)
    assert process.returncode == (1 if saved["lost"] else 0)
    assert saved["frames"]["published"] >= 1
    assert set(saved["sent"]) == set(saved["received"])
    assert all(saved["sent"][name] >= 3 for name in ("CAM_BACK_LEFT", "odometry"))
    assert (out / "soak.png").stat().st_size > 10_000
    # The node was ended too, in good order.
    assert "Traceback" not in (out / "node.log").read_text()

    # What it heard we heard: the stages of each frame are its whole, and none overlaps.
    stages = {name: values for name, values in told.latency.items() if name != "pipeline"}
    frames = min(len(values) for values in stages.values())
    for index in range(frames):
        frame = {name: values[index] for name, values in stages.items()}
        total = frame.pop("total")
        assert sum(frame.values()) == pytest.approx(total, abs=1e-6)
        assert min(frame.values()) >= -0.01
    assert told.latency["pipeline"][0] > 0


def test_overhead_keeps_the_network_apart(drive, weights, tmp_path):
    found = overhead.overhead(
        drive, tmp_path, weights=weights, frames=8, rate_hz=2.0, cores=1, parameters={"threads": 3}
    )
    assert found.frames >= 8
    assert found.parameters["threads"] == "3"
    assert "3 threads" in (tmp_path / "node.log").read_text()
    stages = {name: mean for name, (mean, _) in found.stages.items()}
    assert found.on_the_way == pytest.approx(
        stages["total"] - stages["wait"] - stages["network"], rel=0.01
    )
    assert found.threads["network"] > 0
    assert found.processor == pytest.approx(sum(found.threads.values()) - found.threads["network"])
    costs = {cost.name: (cost.milliseconds, count) for cost, count in found.messages}
    assert all(milliseconds > 0 for milliseconds, _ in costs.values())
    # Six cameras; more where a busy machine skips frames, fewer where it is late with images.
    assert costs["decode and resize a JPEG"][1] > 3
    assert {"take CompressedImage", "sweep of a PointCloud2", "publish ~/boxes"} <= set(costs)
    assert json.loads(overhead.as_json(found))["frames"] == found.frames
    titles = [table.title for table in overhead.tables(found)]
    assert titles[0] == f"on the way of a frame, wall ms ({found.frames} frames, 1 cores)"
    with pytest.raises(overhead.OverheadError, match="asked for 4096"):
        overhead.overhead(drive, tmp_path, weights=weights, frames=5, rate_hz=2, cores=4096)
    assert not [t for t in threading.enumerate() if t.name == "listen"]


@pytest.mark.parametrize(
    "middleware",
    [
        ["dds.asyn", "dds.shm.7413", "dds.udp.7410", "dds.ev"],
        ["recv", "recvMC", "recvUC", "tev", "gc", "lease", "dq.builtins", "dq.user", "xmit.user"],
    ],
    ids=["Fast DDS", "Cyclone DDS"],
)
def test_threads_of_any_middleware_are_its_own(middleware):
    from crkd_ros.bench.overhead import _by_kind
    from crkd_ros.bench.process_stats import MAIN, POOL

    ours = {MAIN: 1.0, "receive": 7.0, "decode": 3.0, "detect": 50.0, POOL: 2.0}
    walls = {"wait": 30.0, "prepare": 4.0, "network": 40.0, "decode": 4.0, "publish": 2.0}
    found = _by_kind(ours | dict.fromkeys(middleware, 1.0), walls)
    assert found == {
        **{"callbacks": 7.0, "executor": 1.0, "decode": 3.0, "detect, publish": 10.0},
        **{"DDS": float(len(middleware)), "network": 40.0, POOL: 2.0},
    }


def test_threads_that_torch_makes_for_the_network_are_the_networks():
    from crkd_ros.bench.overhead import _by_kind

    walls = {"wait": 30.0, "prepare": 4.0, "network": 40.0, "decode": 4.0, "publish": 2.0}
    found = _by_kind({"detect": 50.0, "network": 80.0}, walls)
    assert (found["network"], found["detect, publish"], found["DDS"]) == (120.0, 10.0, 0.0)


def test_what_a_busy_machine_takes_from_the_detecting_thread_is_not_all_its_own_work():
    from crkd_ros.bench.overhead import _by_kind

    # Of 100 ms by the clock it had 50: so had the network, and what is beside it.
    walls = {"wait": 90.0, "prepare": 10.0, "network": 60.0, "decode": 20.0, "publish": 10.0}
    found = _by_kind({"detect": 50.0}, walls)
    assert (found["network"], found["detect, publish"]) == (30.0, 20.0)
