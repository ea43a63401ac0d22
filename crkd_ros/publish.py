"""Detections to messages. Pure: the messages are built by a factory that is handed in.

``make(type_name, **fields)`` is ``messages.make`` in the node and ``bag_messages.make`` in replay,
so both write the same. Numbers of variable length are numpy arrays. The header is always that of
the reference image; nothing found gives empty arrays, never silence.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.boxes import CLASS_NAMES, Boxes, Detections
from crkd_ros.convert import BOX_FIELDS, stamp_fields

#: RGB in [0, 1] per class of CLASS_NAMES.
COLORS = (
    (1.00, 0.62, 0.00),  # car
    (1.00, 0.39, 0.28),  # truck
    (1.00, 0.27, 0.00),  # bus
    (1.00, 0.55, 0.41),  # trailer
    (0.91, 0.59, 0.28),  # construction_vehicle
    (0.25, 0.41, 1.00),  # pedestrian
    (1.00, 0.24, 0.39),  # motorcycle
    (0.86, 0.08, 0.55),  # bicycle
    (0.18, 0.75, 0.75),  # traffic_cone
    (0.55, 0.60, 0.67),  # barrier
)

#: Namespaces of ``marker_array``, so that each can be switched off by itself.
NAMESPACES = ("boxes", "labels", "velocity")

_ADD, _DELETEALL = 0, 3
_ARROW, _CUBE, _TEXT = 0, 1, 9
_FLOAT32 = 7
#: Slower than this, an arrow would be a dot.
_ARROW_MIN_SPEED = 0.5


class Make(Protocol):
    """Builds a message of a named type; fields not given keep their defaults."""

    def __call__(self, type_name: str, **fields: Any) -> Any:
        """``type_name`` like "std_msgs/msg/Header"."""


def header(stamp_ns: int, frame_id: str, make: Make) -> Any:
    """A std_msgs/Header."""
    stamp = make("builtin_interfaces/msg/Time", **stamp_fields(stamp_ns))
    return make("std_msgs/msg/Header", stamp=stamp, frame_id=frame_id)


def marker_array(
    boxes: Boxes,
    *,
    stamp_ns: int,
    make: Make,
    frame_id: str = "base_link",
    namespaces: Sequence[str] = NAMESPACES,
    alpha: float = 0.4,
) -> Any:
    """A visualization_msgs/MarkerArray: one cube and one label per box, an arrow where it moves.

    The array begins with one DELETEALL per namespace, so it replaces what was shown before. Boxes
    that are not finite are left out: RViz refuses them. The arrow is the way of one second.

    Args:
        boxes: Detections (labels show the score) or Truth, in ``frame_id`` axes.
        stamp_ns: of the header of every marker.
        make: the message factory.
        frame_id: frame of the boxes.
        namespaces: names for boxes, labels and velocity.
        alpha: opacity of the cubes.
    """
    head = header(stamp_ns, frame_id, make)
    boxes = finite(boxes)
    cubes, labels, arrows = namespaces
    markers = [
        # An id that no box uses: RViz calls a pair (ns, id) that appears twice an error.
        make("visualization_msgs/msg/Marker", header=head, ns=name, id=-1, action=_DELETEALL)
        for name in namespaces
    ]
    scores = boxes.score if isinstance(boxes, Detections) else None
    for index in range(len(boxes)):
        center, size = boxes.center[index], boxes.size[index]
        name, color = CLASS_NAMES[boxes.label[index]], COLORS[boxes.label[index]]
        shared = {"header": head, "id": index, "action": _ADD}
        markers.append(
            make(
                "visualization_msgs/msg/Marker",
                **shared,
                ns=cubes,
                type=_CUBE,
                pose=_pose(center, float(boxes.yaw[index]), make),
                scale=_vector(size, make),
                color=_color(color, alpha, make),
            )
        )
        markers.append(
            make(
                "visualization_msgs/msg/Marker",
                **shared,
                ns=labels,
                type=_TEXT,
                pose=_pose(np.add(center, (0, 0, size[2] / 2 + 0.6)), 0.0, make),
                scale=_vector((0.0, 0.0, 0.8), make),
                color=_color(color, 1.0, make),
                text=name if scores is None else f"{name} {scores[index]:.2f}",
            )
        )
        velocity = boxes.velocity[index]
        # Written so that an unknown velocity (NaN) draws none.
        if np.hypot(*velocity) >= _ARROW_MIN_SPEED:
            tip = np.add(center, (*velocity, 0.0))
            markers.append(
                make(
                    "visualization_msgs/msg/Marker",
                    **shared,
                    ns=arrows,
                    type=_ARROW,
                    pose=_pose(np.zeros(3), 0.0, make),
                    points=[_point(center, make), _point(tip, make)],
                    scale=_vector((0.15, 0.4, 0.5), make),
                    color=_color(color, 1.0, make),
                )
            )
    return make("visualization_msgs/msg/MarkerArray", markers=markers)


def boxes_cloud(
    detections: Detections, *, stamp_ns: int, make: Make, frame_id: str = "base_link"
) -> Any:
    """A sensor_msgs/PointCloud2 with one point per detection, best score first.

    Fields BOX_FIELDS, float32 each: centre, size (m), yaw (rad), velocity over ground (m/s, in
    ``frame_id`` axes), score in [0, 1], label (index into CLASS_NAMES).
    """
    detections = finite(detections)
    columns = np.column_stack(
        [
            *(detections.center, detections.size, detections.yaw, detections.velocity),
            *(detections.score, detections.label),
        ]
    ).astype("<f4")
    step = 4 * len(BOX_FIELDS)
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=header(stamp_ns, frame_id, make),
        height=1,
        width=len(columns),
        fields=[
            make("sensor_msgs/msg/PointField", name=name, offset=4 * i, datatype=_FLOAT32, count=1)
            for i, name in enumerate(BOX_FIELDS)
        ],
        is_bigendian=False,
        point_step=step,
        row_step=step * len(columns),
        data=np.frombuffer(columns.tobytes(), np.uint8),
        is_dense=True,
    )


def detection_array(
    detections: Detections, *, stamp_ns: int, make: Make, frame_id: str = "base_link"
) -> Any:
    """A vision_msgs/Detection3DArray; class_id is the class name. It has no place for velocity."""
    head = header(stamp_ns, frame_id, make)
    detections = finite(detections)
    found = []
    for index in range(len(detections)):
        pose = _pose(detections.center[index], float(detections.yaw[index]), make)
        hypothesis = make(
            "vision_msgs/msg/ObjectHypothesis",
            class_id=CLASS_NAMES[detections.label[index]],
            score=float(detections.score[index]),
        )
        result = make(
            "vision_msgs/msg/ObjectHypothesisWithPose",
            hypothesis=hypothesis,
            pose=make("geometry_msgs/msg/PoseWithCovariance", pose=pose),
        )
        box = make(
            "vision_msgs/msg/BoundingBox3D",
            center=pose,
            size=_vector(detections.size[index], make),
        )
        found.append(make("vision_msgs/msg/Detection3D", header=head, results=[result], bbox=box))
    return make("vision_msgs/msg/Detection3DArray", header=head, detections=found)


def finite(boxes: Any) -> Any:
    """The boxes whose every number is finite, sizes positive; velocity may be unknown (NaN).

    For detections an unknown velocity drops the box too: a detector always answers one.
    """
    keep = (
        np.isfinite(boxes.center).all(1)
        & np.isfinite(boxes.size).all(1)
        & (boxes.size > 0).all(1)
        & np.isfinite(boxes.yaw)
    )
    if isinstance(boxes, Detections):
        keep &= np.isfinite(boxes.velocity).all(1) & np.isfinite(boxes.score)
    return boxes.select(keep)


def _vector(values: Sequence[float] | NDArray[np.float64], make: Make) -> Any:
    x, y, z = (float(value) for value in values)
    return make("geometry_msgs/msg/Vector3", x=x, y=y, z=z)


def _point(values: Sequence[float] | NDArray[np.float64], make: Make) -> Any:
    x, y, z = (float(value) for value in values)
    return make("geometry_msgs/msg/Point", x=x, y=y, z=z)


def _pose(center: NDArray[np.float64], yaw: float, make: Make) -> Any:
    w, x, y, z = (float(value) for value in geometry.yaw_to_quat_wxyz(yaw))
    orientation = make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w)
    return make("geometry_msgs/msg/Pose", position=_point(center, make), orientation=orientation)


def _color(rgb: tuple[float, float, float], alpha: float, make: Make) -> Any:
    r, g, b = rgb
    return make("std_msgs/msg/ColorRGBA", r=r, g=g, b=b, a=alpha)
