"""The other side of the node for measurements: it publishes a drive, and notes what is told."""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bench.drive_loop import sensor_of
from crkd_ros.convert.ros_packages import message_class
from crkd_ros.node.latency import PARTS
from crkd_ros.node.launching import LEFTOVERS, Running

NODE = "/detector_node"
#: Seconds for the node to load its weights and for everybody to find each other.
START_TIMEOUT = 120.0
#: Found by us is not yet found by all others, seconds.
_SETTLE = 2.0


class PeerError(RuntimeError):
    """The node did not come up."""


@dataclass(kw_only=True)
class Told:
    """What a node has told so far.

    Attributes:
        received: sensor -> messages that it counted; "odometry" and "CAM_FRONT camera_info" are
            among the names.
        frames: published, skipped, dropped.
        boxes: number of messages of ~/boxes that arrived.
        recent: the last of them.
        latency: stage -> milliseconds of each frame.
        latency_at: time.monotonic of each "total".
        problems: kind -> text.
    """

    received: dict[str, int] = field(default_factory=dict)
    frames: dict[str, int] = field(default_factory=dict)
    boxes: int = 0
    recent: deque[Any] = field(default_factory=lambda: deque(maxlen=24))
    latency: dict[str, list[float]] = field(default_factory=dict)
    latency_at: list[float] = field(default_factory=list)
    problems: dict[str, str] = field(default_factory=dict)

    def on_boxes(self, message: Any) -> None:
        """A message of ~/boxes."""
        self.boxes += 1
        self.recent.append(message)

    def on_latency(self, stage: str) -> Any:
        """The callback of one ~/latency topic."""
        values = self.latency.setdefault(stage, [])

        def note(message: Any) -> None:
            values.append(message.data)
            if stage == "total":
                self.latency_at.append(time.monotonic())

        return note

    def on_diagnostics(self, message: Any) -> None:
        """The node's own counts, as they are now."""
        for status in message.status:
            name, _, aspect = status.name.partition(": ")
            if name != NODE:
                continue
            values = {pair.key: pair.value for pair in status.values}
            if aspect == "motion":
                self.received["odometry"] = int(values.get("received", 0))
            elif aspect in CAMERAS + RADARS:
                self.received[aspect] = int(values["received"])
                if aspect in CAMERAS:
                    infos = int(values.get("camera info received", 0))
                    self.received[f"{aspect} camera_info"] = infos
            elif aspect == "frames":
                self.frames = {name.split()[0]: int(number) for name, number in values.items()}
            elif aspect == "problems":
                self.problems = values


@contextlib.contextmanager
def peer(types: Mapping[str, str], told: Told) -> Iterator[dict[str, Any]]:
    """Publishers of the topics, as bags are played; ``told`` is filled by a thread.

    Args:
        types: topic -> message type.
        told: what the node tells from now on.
    """
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.qos import QoSProfile

    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("crkd_measure", context=context)
    deep = QoSProfile(depth=1000)

    def listen(kind: str, topic: str, callback: Any) -> None:
        node.create_subscription(message_class(kind), topic, callback, deep)

    listen("diagnostic_msgs/msg/DiagnosticArray", "/diagnostics", told.on_diagnostics)
    listen("sensor_msgs/msg/PointCloud2", f"{NODE}/boxes", told.on_boxes)
    for stage in PARTS:
        listen("std_msgs/msg/Float64", f"{NODE}/latency/{stage}", told.on_latency(stage))
    publishers = {
        topic: node.create_publisher(message_class(kind), topic, QoSProfile(depth=10))
        for topic, kind in types.items()
    }
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)

    def spin() -> None:
        with contextlib.suppress(ExternalShutdownException):
            executor.spin()

    thread = threading.Thread(target=spin, name="listen", daemon=True)
    thread.start()
    try:
        yield publishers
    finally:
        executor.shutdown()
        thread.join(timeout=5)
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def connect(node: Running, publishers: Mapping[str, Any]) -> None:
    """Wait until the node subscribes to every topic.

    Raises:
        ProcessError: it ended.
        PeerError: it does not subscribe in time.
    """
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        node.check()
        alone = [name for name, pub in publishers.items() if not pub.get_subscription_count()]
        if not alone:
            time.sleep(_SETTLE)
            return
        if time.monotonic() > deadline:
            raise PeerError(
                f"nobody subscribes to {', '.join(alone)}; see {node.log}. {LEFTOVERS}"
            )
        time.sleep(0.1)


def by_sensor(sent: Mapping[str, int], types: Mapping[str, str]) -> dict[str, int]:
    """Messages by topic as messages by sensor, with the names of ``Told.received``."""
    found: dict[str, int] = {}
    for topic, count in sent.items():
        sensor = sensor_of(topic, types[topic])
        if types[topic].endswith("/CameraInfo"):
            sensor += " camera_info"
        found[sensor] = found.get(sensor, 0) + count
    return found
