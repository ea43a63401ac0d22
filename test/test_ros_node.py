"""The real node in its own process, messages over DDS on loopback."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import ros_rig
import yaml

rclpy = pytest.importorskip("rclpy")

from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.parameter import Parameter  # noqa: E402
from rclpy.qos import QoSProfile  # noqa: E402

from crkd_core.boxes import CLASS_NAMES  # noqa: E402
from crkd_core.frame import CAMERAS, RADARS  # noqa: E402
from crkd_core.infer.detector import Detector  # noqa: E402
from crkd_core.model.build import build_detector  # noqa: E402
from crkd_core.model.checkpoint import save_weights  # noqa: E402
from crkd_core.presets import demo_student  # noqa: E402
from crkd_ros import convert, frames, messages, radar_clouds  # noqa: E402
from crkd_ros.camera_model import CameraModel, prepared_image  # noqa: E402
from crkd_ros.motion import PoseBuffer  # noqa: E402
from crkd_ros.sync import Synchronizer  # noqa: E402

#: Private, and unlike the default and the other tests' of this process.
DOMAIN = 100 + os.getpid() % 100
START = 1_700_000_000_000_000_000
LIMIT = 120.0
ANCHOR = "/cam_back_left/image_rect_compressed"


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import torch

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_weights(build_detector(demo_student().detector), path)
    return path


@contextlib.contextmanager
def node_process(*arguments: str):
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(DOMAIN),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "crkd_ros.detector_node", "--ros-args", *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


class Peer:
    """The test's own side: publishers of a drive, subscriptions of the outputs."""

    def __init__(self) -> None:
        os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=DOMAIN)
        self.node = rclpy.create_node("test_peer", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self._thread = threading.Thread(target=self._executor.spin, daemon=True)
        self._thread.start()
        self._publishers: dict[str, object] = {}

    def listen(self, type_name: str, topic: str) -> list:
        received: list = []
        kind = messages.message_class(type_name)
        self.node.create_subscription(kind, topic, received.append, QoSProfile(depth=100))
        return received

    def advertise(self, events) -> None:
        for topic, message in events:
            if topic not in self._publishers:
                self._publishers[topic] = self.node.create_publisher(
                    type(message), topic, QoSProfile(depth=1000)
                )

    def publish(self, topic: str, message) -> None:
        self._publishers[topic].publish(message)

    def set_parameter(self, name: str, value) -> bool:
        from rcl_interfaces.srv import SetParameters

        client = self.node.create_client(SetParameters, "/detector_node/set_parameters")
        assert client.wait_for_service(LIMIT)
        change = Parameter(name, value=value).to_parameter_msg()
        answer = client.call(SetParameters.Request(parameters=[change]), timeout_sec=LIMIT)
        return answer.results[0].successful

    def connected(self) -> bool:
        return all(p.get_subscription_count() for p in self._publishers.values())

    def close(self) -> None:
        self._executor.shutdown()
        self._thread.join()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.close()


def wait_until(condition, process) -> None:
    deadline = time.monotonic() + LIMIT
    while not condition():
        if process.poll() is not None:
            pytest.fail(f"the node ended: {process.stdout.read()}")
        assert time.monotonic() < deadline, "nothing came in time"
        time.sleep(0.02)


def stamps(messages_) -> list[int]:
    return [convert.stamp_ns(message.header.stamp) for message in messages_]


def play(peer, events, boxes, process) -> list[int]:
    """Publish in order; ask for a new frame only when the last one was answered. -> references."""
    asked: list[int] = []
    before = len(boxes)

    def answered() -> bool:
        return len(boxes) - before >= len(asked)

    for topic, message in events:
        if topic == ANCHOR:
            # By now each sensor has sent something newer than the last reference.
            wait_until(answered, process)
            asked += stamps([message])
        peer.publish(topic, message)
    wait_until(answered, process)
    return asked


def test_boxes_of_a_drive_equal_those_of_the_same_messages_offline(weights, tmp_path, peer):
    calibration = ros_rig.calibration()
    calibration.save(tmp_path / "calibration.yaml")
    # Both parts end with sets of images that are complete but for their anchor.
    whole = ros_rig.drive(messages.make, START, 0.79)
    events = [event for event in whole if stamps(event[1:])[0] < START + 620_000_000]
    later = whole[len(events) :]
    values = {
        "weights": str(weights),
        "calibration_file": str(tmp_path / "calibration.yaml"),
        "score_threshold": 0.05,
        # Frames wait for all of their messages, however busy the machine is.
        "sync": {"wait": 5.0},
        "qos_overrides": {
            topic: {"subscription": {"reliability": "reliable", "depth": 1000}}
            for topic in {topic for topic, _ in events}
        },
    }
    path = tmp_path / "parameters.yaml"
    path.write_text(yaml.safe_dump({"/**": {"ros__parameters": values}}))

    reports = peer.listen("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics")
    peer.advertise(events)
    with node_process("--params-file", str(path)) as process:
        # Nobody listens: nothing is done.
        wait_until(lambda: peer.connected() and reports, process)
        for topic, message in events[:60]:
            peer.publish(topic, message)
        seen = len(reports)
        wait_until(lambda: len(reports) > seen + 1, process)
        assert "nobody subscribes" in value_of(reports[-1], "frames", None)
        assert "received 0," in value_of(reports[-1], "inputs", "CAM_FRONT")

        boxes = peer.listen("sensor_msgs/msg/PointCloud2", "/detector_node/boxes")
        markers = peer.listen("visualization_msgs/msg/MarkerArray", "/detector_node/markers")
        wait_until(lambda: value_of(reports[-1], "frames", None) == "detecting", process)
        references = play(peer, events, boxes, process)
        wait_until(lambda: len(markers) >= len(boxes), process)
        assert len(references) == 7

        # A threshold that nothing passes: arrays are empty, but they come.
        assert not peer.set_parameter("device", "cuda")
        assert not peer.set_parameter("score_threshold", 7.0)
        assert peer.set_parameter("score_threshold", 0.999)
        strict = play(peer, later, boxes, process)
        assert [cloud.width for cloud in boxes[len(references) :]] == [0, 0]

        wait_until(lambda: value_of(reports[-1], "frames", "published") == "9", process)
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 0, output
    assert "Traceback" not in output

    expected = offline(events, weights, calibration)
    assert stamps(boxes) == [*references, *strict]
    assert list(expected) == references
    for cloud, array in zip(boxes[: len(expected)], markers, strict=False):
        stamp = convert.stamp_ns(cloud.header.stamp)
        assert cloud.header.frame_id == "base_link"
        found, want = convert.boxes_from_cloud(cloud), expected[stamp]
        assert len(found) == len(want) > 0
        # The cloud is float32; the network is the same, but may run with another thread count.
        np.testing.assert_allclose(found.center, want.center, atol=1e-3)
        np.testing.assert_allclose(found.size, want.size, rtol=1e-4)
        np.testing.assert_allclose(found.score, want.score, atol=1e-4)
        np.testing.assert_array_equal(found.label, want.label)
        cubes = [marker for marker in array.markers if marker.ns == "boxes" and marker.action == 0]
        assert len(cubes) == len(want)
        assert convert.stamp_ns(cubes[0].header.stamp) == stamp
        names = [m.text.split()[0] for m in array.markers if m.ns == "labels" and m.action == 0]
        assert names == [CLASS_NAMES[label] for label in want.label]
    assert value_of(reports[-1], "problems", None) == "none at present"
    assert value_of(reports[-1], "frames", "dropped (see problems)") == "0"


def value_of(report, aspect: str, key: str | None):
    """One value of a DiagnosticArray, or the message of the aspect where ``key`` is None."""
    (status,) = [s for s in report.status if s.name == f"detector_node: {aspect}"]
    return status.message if key is None else {p.key: p.value for p in status.values}.get(key)


def offline(events, weights, calibration):
    """The detections of the same messages in their order, through sync and convert alone."""
    detector = Detector.load(weights, score_threshold=0.05)
    sync, motion, found = Synchronizer(), PoseBuffer(), {}
    sensors = {name.lower(): name for name in CAMERAS + RADARS}

    def detect(sets):
        for frame_set in sets:
            frame = frames.frame_from_set(
                frame_set, extrinsics=calibration, motion=motion, image=detector.config.image
            )
            found[frame.stamp_ns] = detector(frame)

    for topic, message in events:
        stamp, name = convert.stamp_ns(message.header.stamp), topic.split("/")[1]
        if topic == "/odom":
            motion.add(stamp, convert.odometry_pose(message))
        elif "image" in topic:
            detect(sync.flush(before_ns=stamp))
            camera = CameraModel.pinhole(ros_rig.INTRINSICS)
            image = prepared_image(message, camera, detector.config.image, camera=name)
            sync.add_image(sensors[name], stamp, image)
        elif "radar" in topic:
            detect(sync.flush(before_ns=stamp))
            sync.add_radar(sensors[name], stamp, radar_clouds.sweep(message, radar=name))
    detect(sync.flush())
    return found


@pytest.mark.parametrize(
    ("parameters", "text"),
    [
        ((), "parameter weights is required"),
        (("sync.wayt:=0.3",), "did you mean 'sync.wait'?"),
        (("sync.wait:=99.0",), "sync.wait"),
        (("precision:=int8",), "expected one of fp32, bf16, fp16, got 'int8'"),
        (("=",), "Couldn't parse parameter override rule"),
    ],
)
def test_wrong_parameters_end_the_node_with_a_message(parameters, text, tmp_path):
    ros_rig.calibration().save(tmp_path / "calibration.yaml")
    parameters = (f"calibration_file:={tmp_path / 'calibration.yaml'}", *parameters)
    words = [word for parameter in parameters for word in ("-p", parameter)]
    with node_process(*words) as process:
        output = process.communicate(timeout=LIMIT)[0]
    assert process.returncode == 1
    assert text in output
    assert "Traceback" not in output
