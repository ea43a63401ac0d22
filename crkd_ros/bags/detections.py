"""Detections as a rosbag2 that opens alone in Foxglove and RViz."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.boxes import Detections
from crkd_ros.bags.container import Record
from crkd_ros.bags.message_types import make, serialize
from crkd_ros.bags.reader import read_bag, topics_of
from crkd_ros.bags.writer import BagWriter, qos
from crkd_ros.convert import box_messages
from crkd_ros.convert.markers import MarkersConfig, MarkersRate, marker_array

#: What the output bag takes over, so that it opens alone in Foxglove and RViz.
COPIED = ("/tf_static", "/tf", "/markers/annotations")

_MARKERS = "/detector_node/markers"
#: Topics of the node under its default name, and their types.
OUTPUTS = {
    "/detector_node/boxes": "sensor_msgs/msg/PointCloud2",
    _MARKERS: "visualization_msgs/msg/MarkerArray",
    "/detector_node/detections": "vision_msgs/msg/Detection3DArray",
}

#: What the labels of the boxes mean; latched, the first message of the bag's detections.
LABELS = "/detector_node/label_info"
_LABEL_INFO = "vision_msgs/msg/LabelInfo"


@dataclass(frozen=True, kw_only=True)
class Publishing:
    """What becomes of the detections of a frame before they are written.

    Attributes:
        apply: takes detections in axes of the vehicle and the stamp of their frame, ns; raises
            MotionError where they cannot be published.
        frame_id: frame of what it answers.
        markers: what markers show, and how often.
        threshold: the score that all detections are above.
    """

    apply: Callable[[Detections, int], Detections] = lambda detections, stamp_ns: detections
    frame_id: str = "base_link"
    markers: MarkersConfig = MarkersConfig()
    threshold: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Found:
    """What is published of one frame.

    Attributes:
        stamp_ns: its reference stamp.
        recorded_ns: when the message at its reference was recorded; never falls.
        detections: as ``Publishing.apply`` answers them.
    """

    stamp_ns: int
    recorded_ns: int
    detections: Detections


def output_messages(
    detections: Detections, stamp_ns: int, publishing: Publishing | None = None
) -> dict[str, Any]:
    """What the node would publish for one frame: topic of OUTPUTS -> message.

    Args:
        detections: as ``publishing.apply`` answers them.
        stamp_ns: of the frame.
        publishing: their frame, and what markers show.
    """
    publishing = publishing or Publishing()
    boxes, markers, found = OUTPUTS
    arguments: dict[str, Any] = {
        "stamp_ns": stamp_ns,
        "make": make,
        "frame_id": publishing.frame_id,
    }
    return {
        boxes: box_messages.boxes_cloud(detections, **arguments),
        markers: marker_array(detections, **arguments, config=publishing.markers),
        found: box_messages.detection_array(detections, **arguments),
    }


def write_detections(
    answers: Iterable[Found],
    out: Path,
    *,
    source: Path,
    classes: Sequence[str],
    publishing: Publishing | None = None,
) -> int:
    """Write detections as a bag that opens alone.

    It has the transforms and the truth of its source, and what the labels mean. Times of
    recording are those of the source, whatever clock its headers follow.

    Args:
        answers: in time order; taken one by one.
        out: the new bag; must not exist.
        source: the bag that the frames came from.
        classes: of the detector.
        publishing: see ``output_messages``.

    Returns:
        The number of answers.

    Raises:
        BagError: the bag exists, or the source cannot be read.
    """
    known, publishing = topics_of(source), publishing or Publishing()
    count, rate = 0, MarkersRate()

    def found() -> Iterator[Record]:
        nonlocal count
        for one in answers:
            count += 1
            if count == 1:
                info = box_messages.label_info(
                    classes,
                    stamp_ns=one.stamp_ns,
                    make=make,
                    threshold=publishing.threshold,
                    frame_id=publishing.frame_id,
                )
                yield Record(
                    topic=LABELS,
                    type_name=_LABEL_INFO,
                    stamp_ns=one.recorded_ns,
                    data=bytes(serialize(info)),
                )
            messages = output_messages(one.detections, one.stamp_ns, publishing)
            if not rate.due(one.stamp_ns, publishing.markers):
                del messages[_MARKERS]
            for topic, message in messages.items():
                yield Record(
                    topic=topic,
                    type_name=OUTPUTS[topic],
                    stamp_ns=one.recorded_ns,
                    data=bytes(serialize(message)),
                )

    with BagWriter(out) as bag:
        for name in COPIED:
            if name in known:
                latched = name == "/tf_static"
                bag.add_topic(name, known[name].type_name, profile=qos(latched=latched))
        bag.add_topic(LABELS, _LABEL_INFO, profile=qos(latched=True))
        for name, kind in OUTPUTS.items():
            bag.add_topic(name, kind)
        copied = read_bag(source, topics=COPIED)
        # Of equal stamps the copied one comes first: a pose before what is drawn in it.
        for record in heapq.merge(copied, found(), key=lambda record: record.stamp_ns):
            bag.write_raw(record.topic, record.type_name, record.data, record.stamp_ns)
    return count
