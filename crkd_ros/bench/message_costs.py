"""What each message costs the node: measured alone, in one thread, on the messages of a bag."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.boxes import Detections
from crkd_core.config import ImageConfig
from crkd_ros.bags.container import Record
from crkd_ros.bags.reader import read_bag, topics_of
from crkd_ros.convert import arrays, box_messages, cdr, radar_clouds, ros_packages
from crkd_ros.convert.camera_model import CameraModel, prepared_image
from crkd_ros.convert.marker_bytes import marker_bytes
from crkd_ros.convert.ros_packages import message_class

#: Messages of each kind that are measured.
_COUNT = 24
#: Longest wait for a message to arrive, seconds.
_ARRIVAL = 10.0
_IMAGE, _INFO = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/CameraInfo"
_CLOUD, _ODOMETRY = "sensor_msgs/msg/PointCloud2", "nav_msgs/msg/Odometry"
#: What the node takes as bytes. Nearly every CameraInfo is then only compared with the one before.
_BYTES = (_INFO, _ODOMETRY)


class CostError(RuntimeError):
    """A message that did not arrive."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one kind of work costs.

    Attributes:
        name: of the work.
        kind: type of the message that causes it; "" = it is done once a frame.
        milliseconds: of processor time for one message, median.
    """

    name: str
    kind: str
    milliseconds: float


def message_costs(bag: Path, *, image: ImageConfig, boxes: Sequence[Detections]) -> list[Cost]:
    """Taking, converting and publishing.

    Args:
        bag: a rosbag2 in the layout of crkd bag; where it has no image or no radar, their rows
            are left out.
        image: what images are prepared for.
        boxes: detections of some frames, for the outputs.

    Raises:
        CostError: a message did not arrive over DDS.
    """
    import rclpy

    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    node = rclpy.create_node("crkd_costs", context=context)
    costs = []
    try:
        samples = _samples(bag)
        for kind, records in samples.items():
            taken = _take(node, kind, [record.data for record in records])
            costs.append(Cost(name=f"take {kind.split('/')[-1]}", kind=kind, milliseconds=taken))
        costs += _conversions(samples, image)
        for name, build, kind in _outputs():
            cost = _publish(node, build, kind, boxes)
            costs.append(Cost(name=f"publish {name}", kind="", milliseconds=cost))
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    return costs


def _samples(bag: Path) -> dict[str, list[Record]]:
    """Message type -> some of its messages; LiDAR is not ours."""
    found: dict[str, list[Record]] = {kind: [] for kind in (_IMAGE, _INFO, _CLOUD, _ODOMETRY)}
    topics = [
        name
        for name, topic in topics_of(bag).items()
        if topic.type_name in found and "lidar" not in name.lower()
    ]
    for record in read_bag(bag, topics=topics):
        if len(found[record.type_name]) < _COUNT:
            found[record.type_name].append(record)
        elif all(len(records) >= _COUNT for records in found.values()):
            break
    return {kind: records for kind, records in found.items() if records}


def _take(node: Any, kind: str, data: Sequence[bytes]) -> float:
    """From the middleware's queue to a Python message, or to its bytes, ms."""
    cls, topic = message_class(kind), f"/crkd_costs/{kind.split('/')[-1].lower()}"
    publisher = node.create_publisher(cls, topic, 10)
    subscription = node.create_subscription(cls, topic, lambda _: None, 10)
    times = []
    try:
        for content in data:
            publisher.publish(bytes(content))
            deadline, message = time.monotonic() + _ARRIVAL, None
            while message is None:
                if time.monotonic() > deadline:
                    raise CostError(f"no {kind} arrived within {_ARRIVAL:g} s")
                begin = time.thread_time()
                with subscription.handle:
                    message = subscription.handle.take_message(cls, kind in _BYTES)
                spent = time.thread_time() - begin
            times.append(spent)
    finally:
        node.destroy_subscription(subscription)
        node.destroy_publisher(publisher)
    return 1e3 * statistics.median(times)


def _conversions(samples: dict[str, list[Record]], image: ImageConfig) -> list[Cost]:
    """From a message to what the network is fed with."""
    from rclpy.serialization import deserialize_message

    decoded = {
        kind: [
            bytes(record.data)
            if kind in _BYTES
            else deserialize_message(record.data, message_class(kind))
            for record in records
        ]
        for kind, records in samples.items()
    }
    models = [
        CameraModel.of_info(deserialize_message(data, message_class(_INFO)), rectified=True)
        for data in decoded.get(_INFO, [])[:1]
    ]
    works: list[tuple[str, str, Callable[[Any], Any]]] = [
        ("sweep of a PointCloud2", _CLOUD, lambda m: radar_clouds.sweep(m, radar="RADAR_FRONT")),
        ("pose of an Odometry", _ODOMETRY, lambda data: arrays.odometry_pose(cdr.odometry(data))),
    ]
    if models:
        works.insert(
            0,
            (
                "decode and resize a JPEG",
                _IMAGE,
                lambda m: prepared_image(m, models[0], image, camera="CAM_FRONT"),
            ),
        )
    return [
        Cost(name=name, kind=kind, milliseconds=_median(work, decoded[kind]))
        for name, kind, work in works
        if kind in decoded
    ]


def _outputs() -> list[tuple[str, Any, str]]:
    outputs = [
        ("~/markers", _marker_bytes, "visualization_msgs/msg/MarkerArray"),
        ("~/boxes", box_messages.boxes_cloud, _CLOUD),
    ]
    if ros_packages.installed("vision_msgs"):
        kind = "vision_msgs/msg/Detection3DArray"
        outputs.append(("~/detections", box_messages.detection_array, kind))
    return outputs


def _marker_bytes(found: Detections, *, make: Any, **head: Any) -> bytes:
    return marker_bytes(found, **head)


def _publish(node: Any, build: Any, kind: str, boxes: Sequence[Detections]) -> float:
    """Building and sending one frame's message to one subscriber, ms."""
    topic = f"/crkd_costs/out_{kind.split('/')[-1].lower()}"
    publisher = node.create_publisher(message_class(kind), topic, 10)
    subscription = node.create_subscription(message_class(kind), topic, lambda _: None, 10)

    def once(found: Detections) -> None:
        publisher.publish(build(found, stamp_ns=1, frame_id="base_link", make=ros_packages.make))

    try:
        return _median(once, list(boxes)[:_COUNT])
    finally:
        node.destroy_subscription(subscription)
        node.destroy_publisher(publisher)


def _median(work: Callable[[Any], Any], arguments: Sequence[Any]) -> float:
    times = []
    for argument in arguments:
        begin = time.thread_time()
        work(argument)
        times.append(time.thread_time() - begin)
    return 1e3 * statistics.median(times) if times else 0.0
