"""A bag played over and over with stamps that keep growing, as if the drive never ended.

Where a bag player's loop sets time back, this one goes on: stamps are those of the wall clock, and
each round's ego motion begins where the last one's ended.
"""

from __future__ import annotations

import itertools
import statistics
import struct
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.bags.reader import read_bag, topics_of
from crkd_ros.convert import arrays
from crkd_ros.convert.ros_packages import message_class
from crkd_ros.parameters.framing import FramingConfig

_ODOMETRY = "nav_msgs/msg/Odometry"
_TYPES = ("CompressedImage", "Image", "CameraInfo", "PointCloud2")
_PLAYED = (*(f"sensor_msgs/msg/{name}" for name in _TYPES), _ODOMETRY)
#: Longest sleep, so that an interruption or the end is noticed.
_NAP = 0.2
#: A rate that differs by this share is another one.
_AS_RECORDED = 0.02


class LoopError(RuntimeError):
    """A bag that cannot be played in a loop."""


@dataclass
class _Event:
    """A message of the drive: when, where, and its CDR bytes or (odometry) its message."""

    at: float
    topic: str
    data: bytearray
    message: Any = None
    pose: NDArray[np.float64] | None = None


class DriveLoop:
    """Publishes the camera, radar and odometry messages of a bag in rounds.

    Args:
        bag: a rosbag2 in the layout of crkd bag.
        rate_hz: of the anchor camera; the other sensors keep their proportion to it. Where that
            is faster or slower than recorded, the way shrinks or grows, so that the vehicle's
            speed stays the same.
        framing: what it is played to; topics to which that does not subscribe are left out.

    Raises:
        BagError: not a bag.
        LoopError: fewer than two images of the anchor camera, or messages without a header.
    """

    def __init__(self, bag: Path, *, rate_hz: float, framing: FramingConfig | None = None) -> None:
        from rclpy.serialization import deserialize_message

        types = {
            name: topic.type_name
            for name, topic in topics_of(bag).items()
            if topic.type_name in _PLAYED and name != "/lidar_top"
        }
        unheard = set() if framing is None else _unheard(framing)
        self.types = {
            name: kind for name, kind in types.items() if sensor_of(name, kind) not in unheard
        }
        odometry = message_class(_ODOMETRY)
        # The anchor says how long a round is, also where nobody hears it.
        records = [(_stamp(r.data, r.topic), r) for r in read_bag(bag, topics=types)]
        records.sort(key=lambda pair: pair[0])
        anchor = [stamp for stamp, r in records if _is_anchor(r.topic, r.type_name)]
        if len(anchor) < 2:
            raise LoopError(f"{bag}: a loop needs two images of {ANCHOR_CAMERA} at least")
        period = statistics.median(b - a for a, b in itertools.pairwise(anchor))
        first, end = anchor[0], anchor[-1] + period
        #: Wall seconds of one round.
        self.seconds = (end - first) / period / rate_hz
        scale = self.seconds / (end - first)
        #: Whether it is played as fast as it was recorded; if not, where radar returns are does
        #: not go with how the vehicle moves, as the speeds do.
        self.as_recorded = abs(1e9 * scale - 1) < _AS_RECORDED
        self._events = []
        for stamp, record in records:
            if not first <= stamp < end or record.topic not in self.types:
                continue
            event = _Event((stamp - first) * scale, record.topic, bytearray(record.data))
            if record.type_name == _ODOMETRY:
                event.message = deserialize_message(record.data, odometry)
                event.pose = arrays.odometry_pose(event.message)
                # Speeds stay those that the radars have measured, however fast this is played.
                event.pose[:3, 3] *= 1e9 * scale
            self._events.append(event)
        moved = [event.pose for event in self._events if event.pose is not None]
        #: From one round's poses to those of the next.
        self._onward = moved[-1] @ geometry.invert(moved[0]) if len(moved) > 1 else np.eye(4)
        #: Messages sent, by topic.
        self.sent: Counter[str] = Counter()
        #: The furthest that sending fell behind, seconds.
        self.late = 0.0

    @property
    def parameters(self) -> dict[str, object]:
        """Of the node, beside those of the drive: its speed decides what can be checked."""
        return {} if self.as_recorded else {"calibration_check.frames": 0}

    def run(self, publishers: dict[str, Any], *, seconds: float, stop: Callable[[], bool]) -> None:
        """Publish until the time is over or ``stop`` says so; blocks.

        Args:
            publishers: topic -> rclpy publisher of its type.
            seconds: wall time.
            stop: asked before each message.
        """
        began, wall_ns = time.monotonic(), time.time_ns()
        round_, map_T_map = 0, np.eye(4)
        while True:
            for event in self._events:
                due = round_ * self.seconds + event.at
                while (ahead := began + due - time.monotonic()) > 0 and not stop():
                    time.sleep(min(ahead, _NAP))
                if due >= seconds or stop():
                    return
                self.late = max(self.late, -ahead)
                stamp_ns = wall_ns + round(due * 1e9)
                publishers[event.topic].publish(_stamped(event, stamp_ns, map_T_map))
                self.sent[event.topic] += 1
            round_ += 1
            map_T_map = map_T_map @ self._onward


def sensor_of(topic: str, type_name: str) -> str:
    """Whose messages come on a topic: CAM_FRONT, RADAR_FRONT, ..., odometry."""
    if type_name == _ODOMETRY:
        return "odometry"
    return topic.strip("/").split("/")[0].upper()


def _unheard(framing: FramingConfig) -> set[str]:
    """Sensors whose topics nobody subscribes to."""
    heard = {*framing.sensors, *(["odometry"] if framing.motion.source == "odom" else [])}
    return {*CAMERAS, *RADARS, "odometry"} - heard


def _stamped(event: _Event, stamp_ns: int, map_T_map: NDArray[np.float64]) -> Any:
    """The event's message with another stamp (and, odometry, carried on)."""
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    if event.message is None or event.pose is None:
        struct.pack_into("<iI", event.data, 4, seconds, nanoseconds)
        return bytes(event.data)
    message = event.message
    message.header.stamp.sec, message.header.stamp.nanosec = seconds, nanoseconds
    pose = map_T_map @ event.pose
    position, orientation = message.pose.pose.position, message.pose.pose.orientation
    position.x, position.y, position.z = pose[:3, 3].tolist()
    turn = geometry.matrix_to_quat_wxyz(pose[:3, :3])
    orientation.w, orientation.x, orientation.y, orientation.z = turn.tolist()
    return message


def _stamp(data: bytes, topic: str) -> int:
    """The header's stamp of a CDR message whose first field is a std_msgs/Header, ns."""
    if len(data) < 12 or data[1] != 1:
        raise LoopError(f"{topic}: expected a little-endian CDR message with a header")
    seconds, nanoseconds = struct.unpack_from("<iI", data, 4)
    return int(seconds) * 1_000_000_000 + int(nanoseconds)


def _is_anchor(topic: str, type_name: str) -> bool:
    return ANCHOR_CAMERA.lower() in topic.lower() and type_name.endswith("Image")
