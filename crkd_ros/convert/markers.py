"""Boxes as RViz and Foxglove draw them: a visualization_msgs/MarkerArray."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from crkd_core import geometry
from crkd_core.boxes import Boxes, Detections, Tracked
from crkd_core.colors import Color, class_colors
from crkd_ros.convert.box_messages import Make, finite, header, identifier, point, vector
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

Numbers = tuple[float, ...]

#: Namespaces of ``marker_array``, so that each can be switched off by itself.
NAMESPACES = ("boxes", "labels", "velocity")

ADD, _DELETEALL = 0, 3
_ARROW, _CUBE, _TEXT = 0, 1, 9
#: Slower than this, an arrow would be a dot.
_ARROW_MIN_SPEED = 0.5
#: This share of the time between two arrays is enough: frames come a little early and late.
_NEARLY = 0.9


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
    rate: float = knob(
        0.0,
        "Arrays are at most so frequent, Hz; 0: one each frame",
        low=0.0,
        high=100.0,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        check(self, "markers.")


class MarkersRate:
    """Which frames have an array of markers, by their stamps: ``rate`` of a MarkersConfig."""

    def __init__(self) -> None:
        self._before_ns: int | None = None

    def due(self, stamp_ns: int, config: MarkersConfig) -> bool:
        """Whether the frame with this stamp has one. A stamp before the last one begins anew."""
        apart = None if self._before_ns is None else stamp_ns - self._before_ns
        if config.rate and apart is not None and 0 <= apart < _NEARLY * 1e9 / config.rate:
            return False
        self._before_ns = stamp_ns
        return True


class Mark(NamedTuple):
    """What one marker shows, in plain numbers; header and lifetime are those of all.

    Attributes:
        position: of its middle, m; orientation: quaternion (x, y, z, w); scale: m.
        color: red, green, blue, opacity.
        points: of an arrow, its two ends; else none.
    """

    ns: str
    id: int
    action: int
    type: int = 0
    position: Numbers = (0.0, 0.0, 0.0)
    orientation: Numbers = (0.0, 0.0, 0.0, 1.0)
    scale: Numbers = (0.0, 0.0, 0.0)
    color: Numbers = (0.0, 0.0, 0.0, 0.0)
    points: tuple[Numbers, ...] = ()
    text: str = ""


def marks(
    boxes: Boxes, *, namespaces: Sequence[str] = NAMESPACES, config: MarkersConfig | None = None
) -> list[Mark]:
    """What ``marker_array`` shows; see there."""
    config = config or MarkersConfig()
    boxes = finite(boxes)
    found = class_colors(boxes.classes, COLORS)
    cubes, labels, arrows = namespaces
    # An id that no box uses: RViz calls a pair (ns, id) that appears twice an error.
    made = [Mark(ns=name, id=-1, action=_DELETEALL) for name in namespaces]
    ids = [_marker_id(boxes, index) for index in range(len(boxes))]
    colors = [found[label] for label in boxes.label.tolist()]
    centers = [tuple(row) for row in boxes.center.tolist()]
    if config.boxes:
        turns = np.roll(geometry.yaw_to_quat_wxyz(boxes.yaw), -1, axis=-1).tolist()
        sizes = boxes.size.tolist()
        made += [
            Mark(
                ns=cubes,
                id=number,
                action=ADD,
                type=_CUBE,
                position=center,
                orientation=tuple(turn),
                scale=tuple(size),
                color=(*color, config.alpha),
            )
            for number, center, turn, size, color in zip(
                ids, centers, turns, sizes, colors, strict=True
            )
        ]
    if config.labels:
        tops = (boxes.center[:, 2] + boxes.size[:, 2] / 2 + 0.6).tolist()
        made += [
            Mark(
                ns=labels,
                id=number,
                action=ADD,
                type=_TEXT,
                position=(*center[:2], top),
                scale=(0.0, 0.0, 0.8),
                color=(*color, 1.0),
                text=_text(boxes, index),
            )
            for index, (number, center, top, color) in enumerate(
                zip(ids, centers, tops, colors, strict=True)
            )
        ]
    if config.velocity:
        # Written so that an unknown velocity (NaN) draws none.
        moving = np.flatnonzero(np.hypot(*boxes.velocity.T) >= _ARROW_MIN_SPEED).tolist()
        tips = np.column_stack([boxes.center[:, :2] + boxes.velocity, boxes.center[:, 2]]).tolist()
        made += [
            Mark(
                ns=arrows,
                id=ids[index],
                action=ADD,
                type=_ARROW,
                scale=(0.15, 0.4, 0.5),
                color=(*colors[index], 1.0),
                points=(centers[index], tuple(tips[index])),
            )
            for index in moving
        ]
    return made


def lifetime(config: MarkersConfig) -> tuple[int, int]:
    """Seconds and nanoseconds after which markers vanish."""
    seconds = int(config.lifetime)
    return seconds, round((config.lifetime - seconds) * 1e9)


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
    seconds, nanoseconds = lifetime(config)
    lasting = make("builtin_interfaces/msg/Duration", sec=seconds, nanosec=nanoseconds)
    markers = []
    for mark in marks(boxes, namespaces=namespaces, config=config):
        fields: dict[str, Any] = {"header": head, "ns": mark.ns, "id": mark.id}
        if mark.action == ADD:
            x, y, z, w = mark.orientation
            fields |= {
                "type": mark.type,
                "pose": make(
                    "geometry_msgs/msg/Pose",
                    position=point(mark.position, make),
                    orientation=make("geometry_msgs/msg/Quaternion", x=x, y=y, z=z, w=w),
                ),
                "scale": vector(mark.scale, make),
                "color": _color(mark.color, make),
                "lifetime": lasting,
                "points": [point(end, make) for end in mark.points],
                "text": mark.text,
            }
        markers.append(make("visualization_msgs/msg/Marker", **fields, action=mark.action))
    return make("visualization_msgs/msg/MarkerArray", markers=markers)


def _text(boxes: Boxes, index: int) -> str:
    name = boxes.classes[boxes.label[index]]
    score = f" {boxes.score[index]:.2f}" if isinstance(boxes, Detections) else ""
    number = identifier(boxes, index)
    return name + score + (f" #{number}" if number else "")


def _marker_id(boxes: Boxes, index: int) -> int:
    """A track's own id; the others of Tracked take numbers below that of DELETEALL."""
    if not isinstance(boxes, Tracked):
        return index
    return int(boxes.id[index]) or -2 - index


def _color(rgba: Numbers, make: Make) -> Any:
    r, g, b, a = rgba
    return make("std_msgs/msg/ColorRGBA", r=r, g=g, b=b, a=a)
