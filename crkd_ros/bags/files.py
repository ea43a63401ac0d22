"""rosbag2 files (mcap, sqlite3) without ROS: writing whole bags, reading messages in order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.interfaces import (
    Connection,
    ConnectionExtRosbag2,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from typing_extensions import Self

from crkd_core.files import replacing
from crkd_ros.bags.message_types import BagError, deserialize, serialize, typestore

Storage = Literal["mcap", "sqlite3"]

#: Version 8 keeps QoS as rosbag2 of Humble and of Jazzy both read it; 9 is for Jazzy and later.
BAG_VERSION: Literal[8] = 8


def qos(*, depth: int = 10, latched: bool = False) -> Qos:
    """Reliable, keep last; ``latched`` = transient local, for what late subscribers must get."""
    # The largest time that rmw knows, as rosbag2 itself writes "no deadline".
    forever = QosTime(9223372036, 854775807)
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE,
        forever,
        forever,
        QosLiveliness.AUTOMATIC,
        forever,
        False,
    )


class BagWriter:
    """Writes one bag; it appears under its name when the block ends without an error.

    The same calls give the same bytes.
    """

    def __init__(self, path: Path, *, storage: Storage = "mcap") -> None:
        """Refuse early, write nothing yet.

        Args:
            path: the bag's folder; its parent is made, itself must not exist.
            storage: "mcap" or "sqlite3".

        Raises:
            BagError: the path exists.
        """
        self.path = path.absolute()
        self._refuse_existing()
        self._storage = StoragePlugin[storage.upper()]
        self._connections: dict[str, Connection] = {}

    def _refuse_existing(self) -> None:
        if self.path.exists():
            raise BagError(f"{self.path} exists already; remove it or choose another --out")

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            # rosbag2 names the file inside after the folder: the unfinished bag has its name too.
            partial = stack.enter_context(replacing(self.path))
            self._writer = Writer(partial, version=BAG_VERSION, storage_plugin=self._storage)
            self._writer.open()
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def add_topic(self, topic: str, type_name: str, *, profile: Qos | None = None) -> None:
        """Declare a topic, also one that gets no message."""
        self._connections[topic] = self._writer.add_connection(
            topic,
            type_name,
            typestore=typestore(),
            offered_qos_profiles=[profile or qos()],
        )

    def write(self, topic: str, message: Any, stamp_ns: int) -> None:
        """Append one message of ``make``."""
        self.write_raw(topic, message.__msgtype__, serialize(message), stamp_ns)

    def write_raw(
        self, topic: str, type_name: str, data: bytes | memoryview, stamp_ns: int
    ) -> None:
        """Append one message as CDR bytes; an undeclared topic is declared.

        Raises:
            BagError: the topic carries another type.
        """
        if topic not in self._connections:
            self.add_topic(topic, type_name)
        connection = self._connections[topic]
        if connection.msgtype != type_name:
            raise BagError(f"{topic} carries {connection.msgtype}, not {type_name}")
        self._writer.write(connection, stamp_ns, data)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)

    def _finish(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._writer.close()
            self._refuse_existing()
        else:
            self._writer.abort()


@dataclass(frozen=True, kw_only=True)
class Topic:
    """What a bag says of one topic: name, message type, number of messages, QoS as recorded."""

    name: str
    type_name: str
    count: int
    qos: Qos | None


@dataclass(frozen=True, kw_only=True)
class Record:
    """One message of a bag: its topic, type, record time and CDR bytes."""

    topic: str
    type_name: str
    stamp_ns: int
    data: bytes

    def message(self) -> Any:
        """The message itself."""
        return deserialize(self.data, self.type_name)


def topics_of(path: Path) -> dict[str, Topic]:
    """The topics of a bag by name.

    Raises:
        BagError: not a readable bag.
    """
    with _open(path) as reader:
        found = {}
        for connection in reader.connections:
            assert isinstance(connection.ext, ConnectionExtRosbag2)
            profiles = connection.ext.offered_qos_profiles
            found[connection.topic] = Topic(
                name=connection.topic,
                type_name=connection.msgtype,
                count=connection.msgcount,
                qos=profiles[0] if profiles else None,
            )
        return found


def read_bag(path: Path, *, topics: Collection[str] | None = None) -> Iterator[Record]:
    """Messages of a bag (mcap or sqlite3, folder or single file) in record order.

    Args:
        path: the bag.
        topics: only these; None = all.

    Raises:
        BagError: not a readable bag, or it ends in the middle; names the bag.
    """
    with _open(path) as reader:
        wanted = [c for c in reader.connections if topics is None or c.topic in topics]
        if not wanted:
            return
        try:
            for connection, stamp_ns, data in reader.messages(connections=wanted):
                yield Record(
                    topic=connection.topic,
                    type_name=connection.msgtype,
                    stamp_ns=stamp_ns,
                    data=bytes(data),
                )
        except GeneratorExit:
            raise
        except Exception as error:  # apsw, struct, zstd, ReaderError: all mean the same to a user
            raise BagError(f"{path}: the bag is damaged: {error}") from error


def _open(path: Path) -> Any:
    if not path.exists():
        raise BagError(f"{path}: no such bag; expected a rosbag2 folder, .mcap or .db3 file")
    try:
        reader = Reader(path)
        reader.open()
    except Exception as error:
        raise BagError(
            f"{path}: not a readable rosbag2 (folder with metadata.yaml, .mcap or .db3): {error}"
        ) from error
    return _Closing(reader)


class _Closing:
    """An open rosbags Reader as a context; its own would open it a second time."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def __enter__(self) -> Reader:
        return self._reader

    def __exit__(self, *_: object) -> None:
        self._reader.close()
