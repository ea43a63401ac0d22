"""The evaluator node in its own process; the test is the player and the detector."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")

from rclpy.qos import QoSProfile, QoSReliabilityPolicy  # noqa: E402

from crkd_core import geometry  # noqa: E402
from crkd_core.boxes import Detections  # noqa: E402
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES  # noqa: E402
from crkd_core.data.nuscenes.reader import NuScenes  # noqa: E402
from crkd_core.sensors import ANCHOR_CAMERA  # noqa: E402
from crkd_ros.bags.samples import key_frames  # noqa: E402
from crkd_ros.convert import box_messages, ros_packages  # noqa: E402
from crkd_ros.convert.arrays import stamp_fields  # noqa: E402
from crkd_ros.node.health import Health  # noqa: E402
from crkd_ros.reporter import Reporter  # noqa: E402

#: Unlike those of the other tests' nodes.
DOMAIN = 1 + (int(os.environ["ROS_DOMAIN_ID"]) + 66) % 100
LIMIT = 120.0
MS = 1_000_000


def evaluator(*parameters: str) -> subprocess.Popen:
    words = [word for parameter in parameters for word in ("-p", parameter)]
    return subprocess.Popen(
        [sys.executable, "-m", "crkd_ros.streaming_eval.evaluator", "--ros-args", *words],
        env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Side:
    """Publishers of what the evaluator hears."""

    def __init__(self) -> None:
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=DOMAIN)
        self._node = rclpy.create_node("test_player", context=self._context)
        loose = QoSProfile(depth=100, reliability=QoSReliabilityPolicy.BEST_EFFORT)
        self._publishers = {
            topic: self._node.create_publisher(ros_packages.message_class(kind), topic, profile)
            for topic, kind, profile in (
                # As `ros2 bag play` does.
                ("/clock", "rosgraph_msgs/msg/Clock", loose),
                ("/detector_node/boxes", "sensor_msgs/msg/PointCloud2", QoSProfile(depth=100)),
                ("/diagnostics", "diagnostic_msgs/msg/DiagnosticArray", QoSProfile(depth=100)),
            )
        }

    def connect(self, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + LIMIT
        while not all(p.get_subscription_count() for p in self._publishers.values()):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, "the evaluator did not subscribe"
            time.sleep(0.05)

    def clock(self, stamp_ns: int) -> None:
        stamp = ros_packages.make("builtin_interfaces/msg/Time", **stamp_fields(stamp_ns))
        self._publishers["/clock"].publish(
            ros_packages.make("rosgraph_msgs/msg/Clock", clock=stamp)
        )

    def send(self, topic: str, message) -> None:
        self._publishers[topic].publish(message)

    def close(self) -> None:
        self._node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def side():
    side = Side()
    yield side
    side.close()


def answers(tables) -> dict[int, Detections]:
    """Truth of one drive as detections in ego axes."""
    found = {}
    for stamp, token in sorted(key_frames(tables, tables.scenes[:1]).items()):
        pose = tables.key_record(token, ANCHOR_CAMERA).global_T_ego
        truth = tables.truth_global(token).transformed(geometry.invert(pose))
        boxes = {n: getattr(truth, n) for n in ("center", "size", "yaw", "velocity", "label")}
        found[stamp] = Detections(
            **boxes, score=np.linspace(0.9, 0.5, len(truth)), classes=NUSCENES_CLASSES
        )
    return found


def play(side: Side, found: dict[int, Detections], *, late_ns: int, rate: float) -> None:
    """/clock through the drive; boxes so much bag time after their stamps."""
    due = {stamp + late_ns: stamp for stamp in found}
    start, end = min(found) - 100 * MS, max(found) + 300 * MS
    now = start
    began = time.monotonic()
    while now < end:
        side.clock(now)
        for at in [at for at in due if at <= now]:
            stamp = due.pop(at)
            cloud = box_messages.boxes_cloud(found[stamp], stamp_ns=stamp, make=ros_packages.make)
            side.send("/detector_node/boxes", cloud)
        time.sleep(0.01)
        now = start + round((time.monotonic() - began) * rate * 1e9)


def test_a_looped_bag_is_scored_pass_by_pass_when_it_is_over(tiny_world, tmp_path, side):
    found = answers(NuScenes(tiny_world))
    process = evaluator(
        f"data:={tiny_world}", "split:=world_all", f"out:={tmp_path}", "finish_after:=3.0"
    )
    try:
        side.connect(process)
        play(side, found, late_ns=100 * MS, rate=0.5)
        reporter = Reporter()
        health = Health(reporter, name="/detector_node", hardware="cpu")
        reporter.detects(NUSCENES_CLASSES)
        reporter.skipped(2)
        side.send(
            "/diagnostics",
            health.diagnostics(ros_packages.make, stamp_ns=1, sensors={}, listeners=True),
        )
        time.sleep(0.5)
        play(side, found, late_ns=200 * MS, rate=0.5)
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 0, err
    first, second = json.loads((tmp_path / "metrics.json").read_text())["passes"]
    for one in (first, second):
        assert one["frames"]["published"] == one["samples"] == len(found)
        assert one["offline"]["mean_ap"] > one["streaming"]["mean_ap"]
        assert 0.25 < one["rate"] < 0.625  # A busy machine may be slower than asked for.
    assert first["frames"]["skipped"] == 2 and second["frames"]["skipped"] is None
    assert second["latency_s"]["mean"] > first["latency_s"]["mean"] > 0.04
    assert "streaming mAP" in out and "report.html" in out
    assert (tmp_path / "streaming.png").is_file()


def test_interrupted_it_scores_what_came_and_says_what_did_not(tiny_world, tmp_path, side):
    process = evaluator(f"data:={tiny_world}", "split:=world_all", f"out:={tmp_path}")
    try:
        side.connect(process)
        start = min(answers(NuScenes(tiny_world)))
        for tick in range(40):
            side.clock(start + tick * 10 * MS)
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 1
    assert "evaluator: /clock moved, but no boxes came; is detector_node running" in err


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({}, "parameter data is required"),
        ({"data": "DATA"}, "parameter split is required"),
        ({"data": "DATA", "split": "world_al"}, "world_al"),
        ({"data": "DATA", "split": "world_all", "finish_afer": "2.0"}, "did you mean 'finish_aft"),
        ({"use_sim_time": "'true'"}, "evaluator: Trying to set parameter 'use_sim_time'"),
        (
            {"data": "DATA", "split": "world_all", "out": "OUT"},
            "already holds metrics.json; pass overwrite:=true to replace it",
        ),
    ],
)
def test_what_is_wrong_is_said_before_the_bag_is_played(given, text, tiny_world, tmp_path):
    (tmp_path / "metrics.json").write_text("{}")
    places = {"DATA": str(tiny_world), "OUT": str(tmp_path)}
    process = evaluator(*(f"{n}:={places.get(v, v)}" for n, v in given.items()))
    try:
        # Fast DDS may wait for ever for shared memory that a killed process had begun to make.
        out, err = process.communicate(timeout=LIMIT)
    finally:
        process.kill()
    assert process.returncode == 1 and text in err, (out, err)


#: rclpy's handler of SIGTERM ends the context, whatever the evaluator is doing.
ENDED = """
import sys, rclpy
from crkd_ros.streaming_eval import evaluator

class Late(evaluator.EvaluatorNode):
    def __init__(self):
        rclpy.try_shutdown()
        super().__init__()

evaluator.EvaluatorNode = Late
sys.exit(evaluator.main([]))
"""


def test_a_signal_while_the_node_is_made_is_an_end_without_an_error():
    done = subprocess.run(
        [sys.executable, "-c", ENDED], capture_output=True, text=True, timeout=LIMIT, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "")
