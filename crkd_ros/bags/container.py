"""What a bag of any container is to its readers: topics by name, and records in order."""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.interfaces import Qos
from typing_extensions import Self

from crkd_ros.bags.message_types import BagError, deserialize

Container = Literal["ros1", "ros2", "foxglove"]

#: What each container is called in a sentence.
CONTAINERS: dict[Container, str] = {
    "ros1": "a ROS 1 bag",
    "ros2": "a rosbag2",
    "foxglove": "an mcap file of Foxglove messages",
}

#: So many messages of a topic are looked at for one that tells what it sends.
_LOOKED_AT = 10


@dataclass(frozen=True, kw_only=True)
class Topic:
    """What a bag says of one topic.

    Attributes:
        name: as in the bag.
        type_name: message type in ROS 2 spelling.
        count: number of messages.
        qos: as recorded; None where the container holds none.
    """

    name: str
    type_name: str
    count: int
    qos: Qos | None = None


@dataclass(frozen=True, kw_only=True)
class Record:
    """One message of a bag: its topic, type, record time and bytes.

    The bytes are CDR in a rosbag2 and in what we write; ``decode`` knows those of its container.
    """

    topic: str
    type_name: str
    stamp_ns: int
    data: bytes
    decode: Callable[[bytes, str], Any] = field(default=deserialize, repr=False, compare=False)

    def message(self) -> Any:
        """The message itself. Raises BagError: bytes that are not of this type, or unknown."""
        return self.decode(self.data, self.type_name)


class Bag(ABC):
    """An open bag; a context that closes it. ``path`` is where it lies."""

    path: Path
    container: Container
    topics: Mapping[str, Topic]

    @abstractmethod
    def unreadable(self) -> dict[str, str]:
        """Topic -> why no message of it can be decoded; that hinders no other topic."""

    @abstractmethod
    def records(self, topics: Collection[str] | None = None) -> Iterator[Record]:
        """Records in the order of their times; of a bag in several files, file by file.

        Args:
            topics: only these; None = all.

        Raises:
            BagError: the bag is damaged, or holds less than it announces; names it.
        """

    def span_ns(self) -> tuple[int, int]:
        """First and last record time, ns, to 1 ns; (0, 0) of a bag without messages."""
        times = [record.stamp_ns for record in self.records()]
        return (min(times), max(times)) if times else (0, 0)

    @abstractmethod
    def close(self) -> None:
        """Close the files."""

    def messages(self, topics: Collection[str]) -> Iterator[tuple[str, int, Any]]:
        """(topic, record time in ns, message) in order. Raises BagError; names bag and topic."""
        for record in self.records(topics):
            try:
                message = record.message()
            except BagError as error:
                raise BagError(f"{self.path}: {record.topic}: {error}") from error
            yield record.topic, record.stamp_ns, message

    def first(self, topic: str, tells: Callable[[Any], bool]) -> Any:
        """The first message of a topic, or of its first few the first that tells what it sends.

        Raises:
            BagError: there is none, or it cannot be read; names bag and topic.
        """
        found = None
        for _, _, message in itertools.islice(self.messages([topic]), _LOOKED_AT):
            if tells(message):
                return message
            found = message if found is None else found
        if found is None:
            raise BagError(f"{self.path}: {topic} has no message")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def merged(topics: Iterator[Topic]) -> dict[str, Topic]:
    """By name; a topic with several publishers stands in some containers once for each."""
    found: dict[str, Topic] = {}
    for topic in topics:
        before = found.get(topic.name)
        found[topic.name] = Topic(
            name=topic.name,
            type_name=topic.type_name,
            count=topic.count + (before.count if before else 0),
            qos=before.qos if before else topic.qos,
        )
    return found
