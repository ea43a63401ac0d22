"""ROS 2 messages without ROS: rosbags' classes, from its type store and our vision_msgs.

``make`` is the factory that replay gives to convert/box_messages.py and convert/markers.py; the
node gives them that of convert/ros_packages.py.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

#: Types that carry what a detector needs; of images a compressed one is preferred.
IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
INFO = "sensor_msgs/msg/CameraInfo"
CLOUD = "sensor_msgs/msg/PointCloud2"
ODOMETRY = "nav_msgs/msg/Odometry"
#: ROS 1 has the older name too.
TF = ("tf2_msgs/msg/TFMessage", "tf/msg/tfMessage")

#: vision_msgs 4.1.1, which no type store of rosbags holds.
_VISION = {
    "ObjectHypothesis": "string class_id\nfloat64 score\n",
    "ObjectHypothesisWithPose": "vision_msgs/ObjectHypothesis hypothesis\n"
    "geometry_msgs/PoseWithCovariance pose\n",
    "BoundingBox3D": "geometry_msgs/Pose center\ngeometry_msgs/Vector3 size\n",
    "Detection3D": "std_msgs/Header header\nvision_msgs/ObjectHypothesisWithPose[] results\n"
    "vision_msgs/BoundingBox3D bbox\nstring id\n",
    "Detection3DArray": "std_msgs/Header header\nvision_msgs/Detection3D[] detections\n",
    "VisionClass": "uint16 class_id\nstring class_name\n",
    "LabelInfo": "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\n"
    "float32 threshold\n",
}


class BagError(RuntimeError):
    """A bag that cannot be read or written, or a message that does not fit its type."""


@cache
def typestore() -> Typestore:
    """The types of Jazzy and vision_msgs. Those we use are the same bytes in Humble."""
    store = get_typestore(Stores.ROS2_JAZZY)
    for name, text in _VISION.items():
        store.register(get_types_from_msg(text, f"vision_msgs/msg/{name}"))
    return store


def make(type_name: str, **fields: Any) -> Any:
    """A message of this type ("sensor_msgs/msg/PointCloud2"); the rest of it takes ROS defaults.

    Number sequences may be given as bytes, lists or arrays; they become arrays of the right dtype.

    Raises:
        BagError: unknown type or field.
    """
    store = typestore()
    if type_name not in store.types:
        raise BagError(f"unknown message type {type_name!r}; expected e.g. std_msgs/msg/Header")
    definition = store.get_msgdef(type_name).fields
    unknown = set(fields) - {name for name, _ in definition}
    if unknown:
        raise BagError(
            f"{type_name} has no field {', '.join(sorted(unknown))}; it has "
            f"{', '.join(name for name, _ in definition)}"
        )
    values = {
        name: _coerce(kind, fields[name]) if name in fields else _default(kind)
        for name, kind in definition
    }
    if type_name == "geometry_msgs/msg/Quaternion" and "w" not in fields:
        values["w"] = 1.0  # the one default that the common messages declare
    return store.types[type_name](**values)


def serialize(message: Any) -> memoryview:
    """The CDR bytes of a message made by ``make``."""
    return typestore().serialize_cdr(message, message.__msgtype__)


def deserialize(data: bytes, type_name: str) -> Any:
    """A message from its CDR bytes.

    Raises:
        BagError: unknown type, or bytes that are not this type.
    """
    if type_name not in typestore().types:
        raise BagError(f"message type {type_name!r} is not known here")
    try:
        return typestore().deserialize_cdr(data, type_name)
    except Exception as error:  # rosbags raises SerdeError, struct.error, AssertionError, ...
        raise BagError(f"{len(data)} bytes are no {type_name}: {error}") from error


def _default(kind: Any) -> Any:
    node, detail = kind
    if node == Nodetype.BASE:
        return {"string": "", "bool": False}.get(detail[0], 0.0 if "float" in detail[0] else 0)
    if node == Nodetype.NAME:
        return make(detail)
    inner, length = detail
    count = length if node == Nodetype.ARRAY else 0
    if inner[0] == Nodetype.BASE and inner[1][0] != "string":
        return np.zeros(count, _dtype(inner[1][0]))
    return [_default(inner) for _ in range(count)]


def _coerce(kind: Any, value: Any) -> Any:
    node, detail = kind
    if node not in (Nodetype.ARRAY, Nodetype.SEQUENCE):
        return value
    inner = detail[0]
    if inner[0] != Nodetype.BASE or inner[1][0] == "string":
        return list(value)
    dtype = _dtype(inner[1][0])
    if isinstance(value, bytes | bytearray | memoryview):
        return np.frombuffer(value, dtype)
    return np.ascontiguousarray(value, dtype).ravel()


def _dtype(name: str) -> np.dtype:
    return np.dtype({"byte": "uint8", "char": "uint8", "octet": "uint8"}.get(name, name))
