"""ROS 1 bags and rosbag2, through the readers of rosbags.

Why not through its AnyReader: decisions/0020.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from rosbags.interfaces import ConnectionExtRosbag2
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag2 import Reader as Reader2

from crkd_ros.bags.container import Bag, Container, Record, Topic, merged
from crkd_ros.bags.definitions import Definitions
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.unfinished import refuse_unfinished, refuse_unlisted, repair


class RosBag(Bag):
    """A ROS 1 ``.bag`` or a rosbag2; see ``container.Bag``."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            BagError: not a readable bag, or it holds messages that its reader would pass over.
        """
        self.path = path
        # A ROS 2 port of nuscenes2bag calls its folders ".bag" too.
        ros1 = path.suffix == ".bag" and path.is_file()
        self.container: Container = "ros1" if ros1 else "ros2"
        if not ros1:
            refuse_unfinished(path)
        try:
            self._reader = Reader1(path) if ros1 else Reader2(path)
            self._reader.open()
        except Exception as error:  # rosbags raises ReaderError, struct.error, OSError, ...
            wanted = "ROS 1 bag" if ros1 else "rosbag2 (folder with metadata.yaml, .mcap or .db3)"
            advice = repair(path)
            raise BagError(f"{path}: not a readable {wanted}: {_line(error)}{advice}") from error
        try:
            if isinstance(self._reader, Reader2):
                refuse_unlisted(path, self._reader)
        except BaseException:
            self._reader.close()
            raise
        self._connections = list(self._reader.connections)
        self._definitions = Definitions(self._connections, ros1=ros1)
        self.topics = merged(
            Topic(name=one.topic, type_name=one.msgtype, count=one.msgcount, qos=qos)
            for one in self._connections
            for qos in _profiles(one.ext)[:1] or [None]
        )

    def unreadable(self) -> dict[str, str]:
        """See Bag."""
        return self._definitions.unreadable()

    def records(self, topics: Collection[str] | None = None) -> Iterator[Record]:
        """See Bag."""
        wanted = [one for one in self._connections if topics is None or one.topic in topics]
        if not wanted:
            return
        came: Counter[str] = Counter()
        decode = self._definitions.decode
        try:
            for connection, stamp_ns, data in self._reader.messages(connections=wanted):
                came[connection.topic] += 1
                yield Record(
                    topic=connection.topic,
                    type_name=connection.msgtype,
                    stamp_ns=stamp_ns,
                    data=bytes(data),
                    decode=decode,
                )
        except Exception as error:  # apsw, struct, zstd, ReaderError: all mean the same to a user
            text = _line(error)
            if "timestamp order" in text:
                raise BagError(
                    f"{self.path}: expected an index or messages in the order of their times, "
                    f"found neither; put them in order: `mcap sort {self.path} -o NEW.mcap`"
                ) from error
            raise BagError(
                f"{self.path}: the bag is damaged: {text}{repair(self.path)}"
            ) from error
        self._refuse_less(came, {one.topic for one in wanted})

    def span_ns(self) -> tuple[int, int]:
        """See Bag; what the bag's index says, without reading it."""
        if not any(topic.count for topic in self.topics.values()):
            return 0, 0
        return self._reader.start_time, self._reader.end_time

    def _refuse_less(self, came: Counter[str], wanted: Collection[str]) -> None:
        """rosbags leaves out what it cannot match with metadata.yaml, without a word."""
        less = [
            f"{name} announces {self.topics[name].count} messages, {came[name]} came"
            for name in sorted(wanted)
            if came[name] < self.topics[name].count
        ]
        if less:
            raise BagError(
                f"{self.path}: {'; '.join(less)}. If metadata.yaml was edited (QoS, counts), put "
                "the recorder's back, make it anew with `ros2 bag reindex`, or give the .mcap or "
                ".db3 file itself"
            )

    def close(self) -> None:
        """See Bag."""
        self._reader.close()


def _line(error: Exception) -> str:
    """What was wrong, on one line."""
    return " ".join(str(error).split()).rstrip(".") or type(error).__name__


def _profiles(ext: object) -> list:
    return list(ext.offered_qos_profiles) if isinstance(ext, ConnectionExtRosbag2) else []
