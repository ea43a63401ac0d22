"""Which topic of a bag carries what, as layout_search.py found it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from crkd_core.sensors import LIDAR
from crkd_ros.bags.container import Topic
from crkd_ros.bags.topic_names import namespace


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which topic carries what. Absent sensors have no entry; every topic has messages.

    Attributes:
        images, infos, radars: channel -> topic.
        lidar: the cloud of LIDAR_TOP.
        transforms: topics of tf messages, static ones included.
        odometry: topics of nav_msgs/Odometry; ``named_odometry``: the one that the user names.
        others: names below which other vehicles' topics lie, which are not read.
        passed: sensor -> (topic, why it was not taken) of its other topics.
    """

    images: Mapping[str, Topic]
    infos: Mapping[str, Topic]
    radars: Mapping[str, Topic]
    lidar: Topic | None
    transforms: tuple[Topic, ...]
    odometry: tuple[Topic, ...]
    named_odometry: str = ""
    others: tuple[str, ...] = ()
    passed: Mapping[str, Sequence[tuple[str, str]]] = field(default_factory=dict)

    @property
    def sensors(self) -> dict[str, Topic]:
        """Camera or radar -> topic of its images or clouds."""
        return {**self.images, **self.radars}

    def sentences(self) -> Iterator[str]:
        """What was taken and what was not: of vehicles, a sensor's topics, far CameraInfo."""
        if self.others:
            yield f"topics below {', '.join(self.others)} are not read: of another vehicle"
        taken = {name: topic.name for name, topic in self.sensors.items()}
        if self.lidar is not None:
            taken[LIDAR] = self.lidar.name
        for sensor, others in self.passed.items():
            texts = "; ".join(f"{topic}: {reason}" for topic, reason in others)
            yield f"{sensor}: {taken.get(sensor, 'nothing')} is taken, not {texts}"
        for camera, info in self.infos.items():
            image, where = self.images[camera].name, namespace(info.name)
            if namespace(image)[: len(where)] != where:
                yield f"{camera}: {info.name} is taken for {image}"
