"""Boxes as RViz and Foxglove draw them: a visualization_msgs/MarkerArray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from crkd_core.boxes import Boxes, Detections, Tracked
from crkd_core.colors import Color, class_colors
from crkd_ros.convert.box_messages import Make, finite, header, identifier, point, pose, vector
from crkd_ros.parameters.knobs import check, knob

#: Colours of nuScenes' classes; others get theirs by class_colors.
COLORS: Mapping[str, Color] = {
    "car": (1.00, 0.62, 0.00),
    "truck": (1.00, 0.39, 0.28),
    "bus": (1.00, 0.27, 0.00),
    "trailer": (1.00, 0.55, 0.41),
    "construction_vehicle": (0.91, 0.59, 0.28),
    "pedestrian": (0.25, 0.41, 1.00),
    "motorcycle": (1.00, 0.24, 0.39),
    "bicycle": (0.86, 0.08, 0.55),
    "traffic_cone": (0.18, 0.75, 0.75),
    "barrier": (0.55, 0.60, 0.67),
}

#: Namespaces of ``marker_array``, so that each can be switched off by itself.
NAMESPACES = ("boxes", "labels", "velocity")

_ADD, _DELETEALL = 0, 3
_ARROW, _CUBE, _TEXT = 0, 1, 9
#: Slower than this, an arrow would be a dot.
_ARROW_MIN_SPEED = 0.5


@dataclass(frozen=True, kw_only=True)
class MarkersConfig:
    """What ``~/markers`` shows."""

    boxes: bool = knob(True, "Show a cube for each box, namespace boxes", dynamic=True)
    labels: bool = knob(True, "Show class, score and id as text, namespace labels", dynamic=True)
    velocity: bool = knob(
        True, "Show the way of one second as an arrow, namespace velocity", dynamic=True
    )
    alpha: float = knob(0.4, "Opacity of the cubes", low=0.0, high=1.0, dynamic=True)
    lifetime: float = knob(
        0.0,
        "Markers vanish after this time, s; 0: the next array",
        low=0.0,
        high=60.0,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        check(self, "markers.")


def marker_array(
    boxes: Boxes,
    *,
    stamp_ns: int,
    make: Make,
    frame_id: str = "base_link",
    namespaces: Sequence[str] = NAMESPACES,
    config: MarkersConfig | None = None,
) -> Any:
    """A visualization_msgs/MarkerArray: one cube and one label per box, an arrow where it moves.

    The array begins with one DELETEALL per namespace, so it replaces what was shown before. Boxes
    that are not finite are left out: RViz refuses them. The arrow is the way of one second. The
    markers of one Tracked object keep their ids from array to array.

    Args:
        boxes: Detections (labels show the score) or Truth, in ``frame_id`` axes.
        stamp_ns: of the header of every marker.
        make: the message factory.
        frame_id: frame of the boxes.
        namespaces: names for boxes, labels and velocity.
        config: which of them are shown, and how.
    """
    config = config or MarkersConfig()
    head = header(stamp_ns, frame_id, make)
    boxes = finite(boxes)
    colors = class_colors(boxes.classes, COLORS)
    cubes, labels, arrows = namespaces
    markers = [
        # An id that no box uses: RViz calls a pair (ns, id) that appears twice an error.
        make("visualization_msgs/msg/Marker", header=head, ns=name, id=-1, action=_DELETEALL)
        for name in namespaces
    ]
    scores = boxes.score if isinstance(boxes, Detections) else None
    seconds = int(config.lifetime)
    nanoseconds = round((config.lifetime - seconds) * 1e9)
    lifetime = make("builtin_interfaces/msg/Duration", sec=seconds, nanosec=nanoseconds)
    for index in range(len(boxes)):
        center, size = boxes.center[index], boxes.size[index]
        name, color = boxes.classes[boxes.label[index]], colors[boxes.label[index]]
        shared = {
            "header": head,
            "id": _marker_id(boxes, index),
            "action": _ADD,
            "lifetime": lifetime,
        }
        if config.boxes:
            markers.append(
                make(
                    "visualization_msgs/msg/Marker",
                    **shared,
                    ns=cubes,
                    type=_CUBE,
                    pose=pose(center, float(boxes.yaw[index]), make),
                    scale=vector(size, make),
                    color=_color(color, config.alpha, make),
                )
            )
        if config.labels:
            score = "" if scores is None else f" {scores[index]:.2f}"
            number = identifier(boxes, index)
            markers.append(
                make(
                    "visualization_msgs/msg/Marker",
                    **shared,
                    ns=labels,
                    type=_TEXT,
                    pose=pose(np.add(center, (0, 0, size[2] / 2 + 0.6)), 0.0, make),
                    scale=vector((0.0, 0.0, 0.8), make),
                    color=_color(color, 1.0, make),
                    text=name + score + (f" #{number}" if number else ""),
                )
            )
        velocity = boxes.velocity[index]
        # Written so that an unknown velocity (NaN) draws none.
        if config.velocity and np.hypot(*velocity) >= _ARROW_MIN_SPEED:
            tip = np.add(center, (*velocity, 0.0))
            markers.append(
                make(
                    "visualization_msgs/msg/Marker",
                    **shared,
                    ns=arrows,
                    type=_ARROW,
                    pose=pose(np.zeros(3), 0.0, make),
                    points=[point(center, make), point(tip, make)],
                    scale=vector((0.15, 0.4, 0.5), make),
                    color=_color(color, 1.0, make),
                )
            )
    return make("visualization_msgs/msg/MarkerArray", markers=markers)


def _marker_id(boxes: Boxes, index: int) -> int:
    """A track's own id; the others of Tracked take numbers below that of DELETEALL."""
    if not isinstance(boxes, Tracked):
        return index
    return int(boxes.id[index]) or -2 - index


def _color(rgb: tuple[float, float, float], alpha: float, make: Make) -> Any:
    r, g, b = rgb
    return make("std_msgs/msg/ColorRGBA", r=r, g=g, b=b, a=alpha)
