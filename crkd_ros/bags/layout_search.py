"""Of several topics for one sensor, one is taken, and it is said why.

A topic is of a sensor when the sensor's name, in any case, is a part of the topic's name, or when
the user says so. What is taken follows from what the topics hold, not from how they are sorted.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from crkd_core.sensors import CAMERAS, LIDAR, RADARS
from crkd_ros.bags.container import Bag, Topic
from crkd_ros.bags.definitions import is_radar_objects
from crkd_ros.bags.foreign.contents import tells
from crkd_ros.bags.layout import Layout
from crkd_ros.bags.message_types import CLOUD, IMAGES, INFO, ODOMETRY, TF, BagError
from crkd_ros.bags.topic_names import derived, listed, namespace, picture_rank
from crkd_ros.bags.vehicles import of_one_vehicle
from crkd_ros.convert import camera_info
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.images import Picture, picture_of
from crkd_ros.convert.radar_clouds import radar_points
from crkd_ros.parameters.framing import FramingConfig

#: What ``named`` may name besides sensors.
ODOM = "ODOMETRY"
_INFO_OF = "/CAMERA_INFO"

#: A topic with a smaller share of the messages of the fullest one is not the sensor's own,
_FEW = 0.3
#: and among topics of one rank, one with a smaller share of those.
_FULL = 0.9

_DEFAULTS = FramingConfig()

#: How a topic ranks among those of its sensor, the least first: before and after its messages are
#: counted.
_Rank = tuple[tuple[Any, ...], tuple[Any, ...]]


def find_layout(
    bag: Bag,
    *,
    framing: FramingConfig | None = None,
    named: Mapping[str, str] | None = None,
) -> Layout:
    """The layout of an open bag.

    Args:
        bag: of any container.
        framing: names of topics that are preferred where they are usable, and the fields of radar
            clouds; only its ``sensors`` are looked for.
        named: what the user names, in any case: a sensor, ``CAM_FRONT/camera_info`` or
            ``odometry`` -> its topic; "" leaves the sensor out.

    Raises:
        BagError: a name that is no sensor, or a topic that the bag does not have, that has no
            message, is of another type or is another sensor's, too; several vehicles, and
            nothing tells which is meant.
    """
    return _Search(bag, framing or FramingConfig(), _named(named or {})).layout()


def _named(named: Mapping[str, str]) -> dict[str, str]:
    known = [*CAMERAS, *(f"{name}{_INFO_OF}" for name in CAMERAS), *RADARS, LIDAR, ODOM]
    found: dict[str, str] = {}
    for name, topic in named.items():
        key = name.upper()
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"expected one of {', '.join(known)}"
            raise BagError(f"--topic {name}={topic}: {name} is no sensor; {hint}")
        found[key] = f"/{topic.lstrip('/')}" if topic else ""
    return found


class _Search:
    def __init__(self, bag: Bag, framing: FramingConfig, named: Mapping[str, str]) -> None:
        self._bag, self._framing, self._named = bag, framing, named
        preferred = [f"/{framing.topic(name).lstrip('/')}" for name in framing.sensors]
        #: Without those of other vehicles.
        self._topics, self._others = of_one_vehicle(
            bag.path, bag.topics, framing.sensors, named, preferred
        )
        self._unreadable = bag.unreadable()
        self._heads: dict[str, Any] = {}
        self._passed: dict[str, list[tuple[str, str]]] = {}

    def layout(self) -> Layout:
        framing, topics = self._framing, self._topics.values()
        images = self._all(CAMERAS, self._image)
        odometry = sorted(
            (topic for topic in topics if topic.type_name == ODOMETRY and topic.count),
            key=lambda t: (t.name.strip("/") != framing.topics.odometry.strip("/"), t.name),
        )
        named = self._topic(ODOM, [ODOMETRY]) if self._named.get(ODOM) else None
        layout = Layout(
            images=images,
            infos={
                name: info
                for name, topic in images.items()
                if (info := self._info(name, topic)) is not None
            },
            radars=self._all(RADARS, self._radar),
            lidar=self._pick(
                LIDAR, [CLOUD], _DEFAULTS.topic(LIDAR), lambda topic: ((derived(topic.name),), ())
            ),
            transforms=tuple(
                sorted((t for t in topics if t.type_name in TF and t.count), key=lambda t: t.name)
            ),
            odometry=tuple(odometry) if self._named.get(ODOM, "?") else (),
            named_odometry=named.name if named else "",
            others=self._others,
            passed={name: tuple(others) for name, others in self._passed.items() if others},
        )
        self._refuse_shared(layout)
        return layout

    def _refuse_shared(self, layout: Layout) -> None:
        """A topic is of one sensor."""
        owners: dict[str, str] = {}
        lidar = {} if layout.lidar is None else {LIDAR: layout.lidar}
        for sensor, topic in (layout.sensors | lidar).items():
            other = owners.setdefault(topic.name, sensor)
            if other != sensor:
                first, last = sorted((other, sensor), key=lambda name: name in self._named)
                raise BagError(
                    f"{self._bag.path}: {topic.name} would be the topic of {first} and of {last}; "
                    f"name another for one of them, or leave one out (--topic {first}=)"
                )

    def _all(
        self, sensors: Iterable[str], find: Callable[[str], Topic | None]
    ) -> dict[str, Topic]:
        wanted = [name for name in sensors if name in self._framing.sensors]
        return {name: topic for name in wanted if (topic := find(name)) is not None}

    def _image(self, camera: str) -> Topic | None:
        def look(topic: Topic) -> _Rank:
            picture = picture_of(self._head(topic))
            info = self._info(camera, topic)
            other = info is not None and self._other_size(info, picture)
            return (other, not picture.colour, derived(topic.name)), (
                -picture.width * picture.height,
                picture_rank(topic.name),
                topic.type_name != IMAGES[0],
            )

        return self._pick(camera, IMAGES, self._framing.topic(camera), look)

    def _other_size(self, info: Topic, picture: Picture) -> bool:
        try:
            size = camera_info.size(self._head(info))
        except BagError:
            return False  # What is wrong with it is said when it is used.
        return size not in (None, (picture.width, picture.height))

    def _radar(self, radar: str) -> Topic | None:
        def look(topic: Topic) -> _Rank:
            another = False
            if not is_radar_objects(topic.type_name):
                cloud, fields = self._head(topic), self._framing.radar_fields.of(radar)
                try:
                    radar_points(cloud, source=radar.lower(), fields=fields)
                except ConvertError:
                    another = True  # Another maker's: if there is no better one, fields are named.
            return (another, derived(topic.name)), ()

        return self._pick(radar, [CLOUD, "RadarObjects"], self._framing.topic(radar), look)

    def _pick(
        self,
        sensor: str,
        kinds: Sequence[str],
        preferred: str,
        look: Callable[[Topic], _Rank],
    ) -> Topic | None:
        """The topic of a sensor; ``look`` tells how one ranks, or raises what is wrong with it."""
        if sensor in self._named:
            return self._topic(sensor, kinds) if self._named[sensor] else None
        first = f"/{preferred.lstrip('/')}" if preferred else ""
        passed = self._passed.setdefault(sensor, [])
        found: list[Topic] = []
        for topic in sorted(self._candidates(sensor, kinds, first), key=lambda one: one.name):
            if topic.count:
                found.append(topic)
            else:
                passed.append((topic.name, "it holds no message"))
        # One that the parameters name is the user's choice as well, where the bag has it.
        if preferred != _DEFAULTS.topic(sensor):
            chosen = next((one for one in found if one.name == first), None)
            if chosen is not None:
                passed += [(t.name, "another is named") for t in found if t is not chosen]
                return chosen
        if len(found) < 2:
            return found[0] if found else None
        ranks: dict[str, _Rank] = {}
        for topic in found:
            try:
                if topic.name in self._unreadable:
                    raise BagError(self._unreadable[topic.name])
                ranks[topic.name] = look(topic)
            except (ConvertError, BagError) as error:
                passed.append((topic.name, str(error)))
        # Where nothing can be read, what was wrong is said of the messages.
        usable = [topic for topic in found if topic.name in ranks]
        if not usable:
            del passed[:1]
            return found[0]
        most = max(topic.count for topic in usable)
        usable, few = _split(usable, lambda one: one.count >= _FEW * most)
        best = min(ranks[topic.name][0] for topic in usable)
        same, others = _split(usable, lambda one: ranks[one.name][0] == best)
        full, less = _split(same, lambda one: one.count >= _FULL * max(t.count for t in same))
        chosen = min(full, key=lambda t: (t.name != first, ranks[t.name][1], -t.count, t.name))
        passed += [(t.name, f"it holds {t.count} messages of {most}") for t in [*few, *less]]
        passed += [(t.name, _why(ranks[t.name][0], best)) for t in others]
        passed += [(t.name, "as good") for t in full if t is not chosen]
        return chosen

    def _candidates(self, sensor: str, kinds: Sequence[str], first: str) -> Iterator[Topic]:
        for topic in self._topics.values():
            named = topic.name == first or sensor.lower() in topic.name.lower().split("/")
            if named and _is(topic, kinds):
                yield topic

    def _info(self, camera: str, image: Topic) -> Topic | None:
        """The CameraInfo beside an image: of the same names up to the last."""
        key = f"{camera}{_INFO_OF}"
        if key in self._named:
            return self._topic(key, [INFO]) if self._named[key] else None
        parts = namespace(image.name)

        def same(topic: Topic) -> int:
            """How many parts of the namespaces are the same, from the left."""
            pairs = zip(namespace(topic.name), parts, strict=False)
            return len([*itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)])

        def distance(topic: Topic) -> tuple[Any, ...]:
            named = topic.name.strip("/") == self._framing.info_topic(camera).strip("/")
            return -same(topic), len(namespace(topic.name)), not named, -topic.count, topic.name

        near = [
            topic
            for topic in self._topics.values()
            if topic.type_name == INFO
            and topic.count
            and (
                camera.lower() in topic.name.lower().split("/")
                or (camera in self._named and same(topic) == len(parts))
            )
        ]
        return min(near, key=distance, default=None)

    def _topic(self, key: str, kinds: Sequence[str]) -> Topic:
        """A topic that the user names. Raises BagError."""
        name, topics = self._named[key], self._bag.topics
        option = f"{self._bag.path}: --topic {key}={name}"
        if name not in topics:
            near = difflib.get_close_matches(name, topics, n=3)
            raise BagError(f"{option}: it has no such topic; {listed(near or sorted(topics))}")
        topic = topics[name]
        if not _is(topic, kinds):
            raise BagError(f"{option}: expected {' or '.join(kinds)}, it is {topic.type_name}")
        if not topic.count:
            raise BagError(f"{option}: the topic holds no message")
        return topic

    def _head(self, topic: Topic) -> Any:
        """The first message of a topic that tells what it sends. Raises BagError."""
        if topic.name not in self._heads:
            self._heads[topic.name] = self._bag.first(topic.name, tells)
        return self._heads[topic.name]


def _is(topic: Topic, kinds: Collection[str]) -> bool:
    objects = "RadarObjects" in kinds and is_radar_objects(topic.type_name)
    return topic.type_name in kinds or objects


def _split(
    topics: Sequence[Topic], keeps: Callable[[Topic], bool]
) -> tuple[list[Topic], list[Topic]]:
    """Those that are kept, and the others."""
    return [one for one in topics if keeps(one)], [one for one in topics if not keeps(one)]


def _why(rank: tuple[Any, ...], best: tuple[Any, ...]) -> str:
    """What makes a topic worse than the best, by the first part of their ranks that differs."""
    texts = {
        3: ("its camera_info is for another size", "it is grey", "its name says it was made of"),
        2: ("its fields are others than radar_fields names", "its name says it was made of"),
        1: ("its name says it was made of",),
    }[len(rank)]
    text = next(text for text, a, b in zip(texts, rank, best, strict=True) if a != b)
    return f"{text} another topic's" if text.endswith("made of") else text
