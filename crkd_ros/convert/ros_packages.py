"""The one module that decides whether installed ROS packages or our stand-ins are used.

``sensor_msgs_py`` and ``cv_bridge`` have stand-ins. ``vision_msgs`` and ``tf2`` have none: what
needs them is switched off, and ``missing_features`` says so. Message classes are looked up on
first use, so this module imports without any ROS.
"""

from __future__ import annotations

import array
import functools
import importlib
import importlib.util
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import extras
from crkd_ros.convert.standins import cv_bridge as standin_bridge
from crkd_ros.convert.standins import point_cloud2 as standin_cloud

#: array.array type code of a numpy kind and item size.
_CODES = {"u1": "B", "i1": "b", "u2": "H", "i2": "h", "u4": "I", "i4": "i", "u8": "Q", "i8": "q"}
_CODES |= {"f4": "f", "f8": "d"}

#: Encodings of camera images that every ``bridge`` converts: (channels, bytes of each).
IMAGE_ENCODINGS = {
    name: (kind.channels, kind.size) for name, kind in standin_bridge.ENCODINGS.items()
}

#: Packages without a stand-in: what stays off without them, and what serves instead.
_FEATURES = {
    "vision_msgs": "~/detections (Detection3DArray) and ~/label_info are not published; ~/markers "
    "and ~/boxes are",
    "tf2_ros": "no tf: extrinsics come from calibration_file, ego motion from odometry",
}


class MessageError(RuntimeError):
    """A message type that this environment cannot build."""


def installed(package: str) -> bool:
    """Whether a Python package can be imported."""
    return importlib.util.find_spec(package) is not None


def missing_features() -> list[str]:
    """One sentence for each optional ROS package that is not installed, or does not work."""
    lines = [
        f"{name} is not installed: {what}"
        for name, what in _FEATURES.items()
        if not installed(name)
    ]
    if installed("cv_bridge") and not _bridge_works():
        lines.append(
            "cv_bridge is installed but was built for another NumPy or OpenCV: not used, images "
            "are converted without it"
        )
    return lines


@functools.cache
def message_class(type_name: str) -> Any:
    """The class of a message type such as ``"sensor_msgs/msg/Image"``.

    Raises:
        MessageError: the package is not installed or has no such message.
    """
    package, _, name = type_name.split("/")
    try:
        return getattr(importlib.import_module(f"{package}.msg"), name)
    except (ImportError, AttributeError) as error:
        raise MessageError(
            f"message type {type_name} is not available ({error}); install the ROS package "
            f"{package}: {extras.remedy('ros')}"
        ) from error


def make(type_name: str, **fields: Any) -> Any:
    """A message of the installed ROS; fields not named keep their defaults.

    Numbers of variable length come as numpy arrays and are copied as bytes: the generated setters
    would look at each element of anything but an ``array.array``.
    """
    cls = message_class(type_name)
    types = cls.get_fields_and_field_types()
    for name, value in fields.items():
        if isinstance(value, np.ndarray) and types.get(name, "").startswith("sequence<"):
            fields[name] = _as_array(value)
    return cls(**fields)


def read_points(cloud: Any, **options: Any) -> NDArray[np.void]:
    """``sensor_msgs_py.point_cloud2.read_points``; the stand-in where that is not installed.

    The real one accepts only the installed message class, reads padded rows as if they were not,
    swaps bytes within the message, and its releases differ about fields without a name: clouds of
    rosbags and those take the stand-in too.
    """
    plain = not cloud.is_bigendian and cloud.row_step == cloud.width * cloud.point_step
    plain = plain and all(field.name for field in cloud.fields)
    real = _point_cloud2()
    if plain and real and isinstance(cloud, message_class("sensor_msgs/msg/PointCloud2")):
        records: NDArray[np.void] = real.read_points(cloud, **options)
        return records
    return standin_cloud.read_points(cloud, **options)


@functools.cache
def _point_cloud2() -> Any:
    """``sensor_msgs_py.point_cloud2``, or None. Asked once: looking for it costs milliseconds."""
    if not installed("sensor_msgs_py"):
        return None
    return importlib.import_module("sensor_msgs_py.point_cloud2")


@functools.cache
def bridge() -> Any:
    """A ``cv_bridge.CvBridge``, real where it is installed and works, else the stand-in."""
    if installed("cv_bridge") and _bridge_works():
        return importlib.import_module("cv_bridge").CvBridge()
    return standin_bridge.CvBridge()


@functools.cache
def _bridge_works() -> bool:
    """Whether the installed cv_bridge was built for this NumPy and OpenCV.

    One that was not ends the process, so another process tries it.
    """
    trial = (
        "import types, numpy, cv_bridge; m = types.SimpleNamespace(encoding='bgr8', height=1,"
        "width=1, step=3, is_bigendian=0, data=numpy.arange(3, dtype='u1'));"
        "assert cv_bridge.CvBridge().imgmsg_to_cv2(m, 'rgb8').ravel().tolist() == [2, 1, 0]"
    )
    try:
        done = subprocess.run([sys.executable, "-c", trial], capture_output=True, timeout=60)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def tf_buffer(node: Any) -> Any:
    """A tf2 buffer that listens on behalf of a node. Only where ``installed("tf2_ros")``."""
    tf2_ros = importlib.import_module("tf2_ros")
    buffer = tf2_ros.Buffer(node=node)
    # Its own answer to a time jump calls a method without ``self`` in some releases, which would
    # throw inside rclpy; TfMotion.clear does what it was meant to do.
    buffer.jump_handle.unregister()
    buffer.listener = tf2_ros.TransformListener(buffer, node)
    return buffer


def close_tf(node: Any, buffer: Any) -> None:
    """Take back what ``tf_buffer`` created on a node."""
    buffer.listener.unregister()
    node.destroy_service(buffer.srv)


def tf_error() -> type[Exception]:
    """The base class of what a tf2 buffer raises. Only where ``installed("tf2_ros")``."""
    return importlib.import_module("tf2_ros").TransformException


def _as_array(values: NDArray[Any]) -> array.array:
    out = array.array(_CODES[f"{values.dtype.kind}{values.dtype.itemsize}"])
    out.frombytes(np.ascontiguousarray(values).tobytes())
    return out
