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


class RosBag(Bag):
    """A ROS 1 ``.bag`` or a rosbag2; see ``container.Bag``."""

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            BagError: not a readable bag, or messages of it are still in a database's log.
        """
        self.path = path
        # A ROS 2 port of nuscenes2bag calls its folders ".bag" too.
        ros1 = path.suffix == ".bag" and path.is_file()
        self.container: Container = "ros1" if ros1 else "ros2"
        if not ros1:
            _refuse_unfinished(path)
        try:
            self._reader = Reader1(path) if ros1 else Reader2(path)
            self._reader.open()
        except Exception as error:  # rosbags raises ReaderError, struct.error, OSError, ...
            wanted = "ROS 1 bag" if ros1 else "rosbag2 (folder with metadata.yaml, .mcap or .db3)"
            raise BagError(f"{path}: not a readable {wanted}: {_line(error)}") from error
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
            raise BagError(f"{self.path}: the bag is damaged: {_line(error)}") from error
        self._refuse_less(came, {one.topic for one in wanted})

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
    return " ".join(str(error).split()) or type(error).__name__


def _profiles(ext: object) -> list:
    return list(ext.offered_qos_profiles) if isinstance(ext, ConnectionExtRosbag2) else []


def _refuse_unfinished(path: Path) -> None:
    """What a reader of the finished files would leave out, or not find.

    A recorder that was killed, or still runs, leaves a folder without metadata.yaml, or an sqlite
    database whose last messages are in its write-ahead log only: rosbags reads past that log.
    """
    if path.is_dir() and not (path / "metadata.yaml").exists():
        files = sorted(one.name for one in path.iterdir() if one.suffix in (".mcap", ".db3"))
        if files:
            raise BagError(
                f"{path}: not a readable rosbag2: metadata.yaml is missing (was the recorder "
                f"killed?); make it with `ros2 bag reindex {path}`, or give a file itself: "
                f"{', '.join(files)}"
            )
        raise BagError(
            f"{path}: not a readable rosbag2: expected metadata.yaml and .mcap or .db3 files in "
            "the folder, found none of them"
        )
    databases = path.glob("*.db3") if path.is_dir() else [path] if path.suffix == ".db3" else []
    for database in sorted(databases):
        log = database.with_name(f"{database.name}-wal")
        if log.exists() and log.stat().st_size:
            raise BagError(
                f"{path}: {log.name} holds messages that are not in {database.name} yet; stop the "
                "recorder, or if it was killed, bring them in: "
                f'sqlite3 {database} "PRAGMA wal_checkpoint(TRUNCATE)"'
            )
