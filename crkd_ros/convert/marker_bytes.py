"""~/markers as serialised bytes, without a message object per marker.

rclpy needs ten objects for a marker, half a thousand for a frame's: 20 ms where the network takes
60. A publisher takes bytes as well. What is written here is CDR (XCDR1, little-endian) of a
visualization_msgs/MarkerArray as ROS 2 has it since humble; ``agrees`` compares with the installed
definition before that is relied on.
"""

from __future__ import annotations

import functools
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from crkd_core.boxes import Boxes, Detections
from crkd_ros.convert.markers import ADD, Mark, MarkersConfig, lifetime, marks

_ENCAPSULATION = b"\0\1\0\0"
#: What is empty before the text of a marker (colors to uv_coordinates) and behind it (mesh_*).
_TEXTURES = (0, 1, b"", 0, 0, 1, b"", 1, b"", 0, 0)
_MESH = (1, b"", 1, b"", 0, False)
#: The longest alignment of CDR; where a marker begins modulo this decides where it is padded.
_PERIOD = 8
#: Texts of several lengths, one box that moves and one that stands.
_SAMPLE = Detections(
    center=np.array([[1.5, -2, 0.25], [3, 4, 5]]),
    size=np.array([[4.0, 2, 1.5], [1, 1, 2]]),
    yaw=np.array([0.5, -2.0]),
    velocity=np.array([[3.0, 1.0], [0, 0]]),
    label=np.array([0, 1]),
    score=np.array([0.75, 0.5]),
    classes=("car", "pedestrian"),
)


def marker_bytes(
    boxes: Boxes,
    *,
    stamp_ns: int,
    frame_id: str = "base_link",
    config: MarkersConfig | None = None,
) -> bytes:
    """What ``marker_array`` makes, serialised; the same arguments."""
    config = config or MarkersConfig()
    return _array(
        marks(boxes, config=config),
        stamp=divmod(stamp_ns, 1_000_000_000),
        frame=frame_id.encode(),
        lifetime=lifetime(config),
    )


def _array(
    found: Sequence[Mark], *, stamp: tuple[int, int], frame: bytes, lifetime: tuple[int, int]
) -> bytes:
    body = bytearray(struct.pack("<I", len(found)))
    for mark in found:
        ns, text = mark.ns.encode(), mark.text.encode()
        layout = _layout(len(body) % _PERIOD, len(frame), len(ns), len(mark.points), len(text))
        body += layout.pack(
            *(*stamp, len(frame) + 1, frame, len(ns) + 1, ns, mark.id, mark.type, mark.action),
            *(*mark.position, *mark.orientation, *mark.scale, *mark.color),
            *(lifetime if mark.action == ADD else (0, 0)),
            *(False, len(mark.points), *(number for end in mark.points for number in end)),
            *(*_TEXTURES, len(text) + 1, text, *_MESH),
        )
    return _ENCAPSULATION + bytes(body)


@functools.lru_cache(maxsize=4096)
def _layout(begin: int, frame: int, ns: int, points: int, text: int) -> struct.Struct:
    """The fields of a marker that begins at ``begin``, with texts of these lengths."""
    codes, at = ["<"], begin

    def put(code: str, count: int = 1) -> None:
        nonlocal at
        size = struct.calcsize(f"<{code}")
        codes.append(f"{-at % size}x{count}{code}")
        at += -at % size + count * size

    def string(length: int) -> None:
        nonlocal at
        put("I")
        codes.append(f"{length + 1}s")
        at += length + 1

    def stamp() -> None:
        put("i")
        put("I")

    stamp()  # header
    string(frame)
    string(ns)
    put("i", 3)  # id, type, action
    put("d", 10)  # pose, scale
    put("f", 4)  # color
    stamp()  # lifetime
    put("?")  # frame_locked
    put("I")  # points
    if points:
        put("d", 3 * points)
    put("I")  # colors
    string(0)  # texture_resource
    stamp()  # texture: header, format, data
    string(0)
    string(0)
    put("I")
    put("I")  # uv_coordinates
    string(text)
    string(0)  # mesh_resource
    string(0)  # mesh_file: filename, data
    put("I")
    put("?")  # mesh_use_embedded_materials
    return struct.Struct("".join(codes))


def agrees(
    plain: Callable[..., Any],
    serialise: Callable[[Any], bytes],
    deserialise: Callable[[bytes], Any],
) -> bool:
    """Whether the installed messages are those that are written here.

    Args:
        plain: ``marker_array`` with the factory of the installed messages.
        serialise: what turns one of them into bytes.
        deserialise: the inverse.
    """
    told: dict[str, Any] = {"stamp_ns": 1_234_567_890_123, "frame_id": "odd_frame"}
    ours = marker_bytes(_SAMPLE, **told)
    try:
        # The bytes between the fields are whatever was in memory: they say nothing.
        theirs = serialise(plain(_SAMPLE, **told))
        return len(ours) == len(theirs) and bool(deserialise(ours) == deserialise(theirs))
    except Exception:  # Messages with other fields.
        return False
