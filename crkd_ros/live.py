"""A bag played to the real node, each in its own process, and what the node answered.

The demo scores a drive this way; it is how the live path is measured without a vehicle.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from crkd_core.boxes import Detections
from crkd_ros import convert
from crkd_ros.health import STAGES
from crkd_ros.messages import message_class

#: Seconds that the node may take to load its weights and advertise.
START_TIMEOUT = 60.0


class LiveError(RuntimeError):
    """The node or the player did not come up, or stopped early; the text names its log."""


@dataclass
class Collector:
    """What the node published: boxes by reference stamp, and latencies from its diagnostics.

    Attributes:
        boxes: reference stamp ns -> detections in base_link.
        latency: stage -> sum of milliseconds over ``frames`` frames.
    """

    boxes: dict[int, Detections] = field(default_factory=dict)
    latency: dict[str, float] = field(default_factory=dict)
    frames: int = 0
    last: float = 0.0

    def on_boxes(self, message: Any) -> None:
        """Subscription callback of ``~/boxes``."""
        stamp_ns = convert.stamp_ns(message.header.stamp)
        self.boxes[stamp_ns] = convert.boxes_from_cloud(message)
        self.last = time.monotonic()

    def on_diagnostics(self, message: Any) -> None:
        """Subscription callback of ``/diagnostics``."""
        for status in message.status:
            if not status.name.endswith(": latency"):
                continue
            values = {pair.key: pair.value for pair in status.values}
            count = int(values.get("frames", "0"))
            self.frames += count
            for stage in (*STAGES, "other", "total"):
                mean = float(values.get(f"{stage} mean (ms)", 0.0))
                self.latency[stage] = self.latency.get(stage, 0.0) + mean * count


def run_live(
    bag: Path, *, parameters: Mapping[str, object], logs: Path, rate: float = 1.0
) -> Collector:
    """Play a bag to a node and collect what it publishes.

    Without ROS_DOMAIN_ID in the environment a domain of this process is used, on loopback.

    Args:
        bag: a rosbag2 in the layout of crkd-bag.
        parameters: of the node; ``weights`` at least.
        logs: folder for node.log and player.log.
        rate: of playing.

    Raises:
        LiveError: node or player failed, or nothing was published.
    """
    import rclpy
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile

    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("crkd_live_run", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    collector = Collector()
    boxes, status = "sensor_msgs/msg/PointCloud2", "diagnostic_msgs/msg/DiagnosticArray"
    deep = QoSProfile(depth=1000)
    node.create_subscription(
        message_class(boxes), "/detector_node/boxes", collector.on_boxes, deep
    )
    node.create_subscription(message_class(status), "/diagnostics", collector.on_diagnostics, deep)
    thread = threading.Thread(target=_spin, args=(executor,), daemon=True)
    thread.start()
    pairs = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    try:
        with _process("detector_node", ["--ros-args", *pairs], log=logs / "node.log") as detector:
            _wait_for(node, "/detector_node/boxes", detector, log=logs / "node.log")
            arguments = [str(bag), "--rate", str(rate), "--wait", "20"]
            with _process("player", arguments, log=logs / "player.log") as player:
                while player.poll() is None:
                    if detector.poll() is not None:
                        raise LiveError(f"the node stopped early; see {logs / 'node.log'}")
                    time.sleep(0.1)
            if player.returncode:
                raise LiveError(f"the player failed; see {logs / 'player.log'}")
            # The last frames, and the last diagnostics, are still on their way.
            time.sleep(1.5)
            while time.monotonic() - collector.last < 1.0:
                time.sleep(0.1)
    finally:
        executor.shutdown()
        thread.join(timeout=5)
        node.destroy_node()
        rclpy.try_shutdown(context=context)
    if not collector.boxes:
        raise LiveError(f"the node published nothing; see {logs / 'node.log'}")
    return collector


@contextlib.contextmanager
def _process(module: str, arguments: list[str], *, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A command of crkd_ros in its own process, interrupted and awaited at the end."""
    code = f"import sys; from crkd_ros.{module} import main; sys.exit(main())"
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-c", code, *arguments], stdout=file, stderr=subprocess.STDOUT
        )
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(timeout=10)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _wait_for(node: Any, topic: str, process: subprocess.Popen[bytes], *, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while not node.count_publishers(topic):
        if process.poll() is not None or time.monotonic() > deadline:
            tail = log.read_text(errors="replace").splitlines()[-5:]
            raise LiveError("the node did not come up: " + " / ".join(tail))
        time.sleep(0.1)


def _spin(executor: Any) -> None:
    from rclpy.executors import ExternalShutdownException

    with contextlib.suppress(ExternalShutdownException):
        executor.spin()
