"""Writing rosbag2 (mcap, sqlite3) without ROS, whole or not at all."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from rosbags.interfaces import (
    Connection,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import StoragePlugin, Writer
from typing_extensions import Self

from crkd_core.files import replacing
from crkd_ros.bags.mcap_crc import add_checksums
from crkd_ros.bags.message_types import BagError, serialize, typestore

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
            self._partial = stack.enter_context(replacing(self.path))
            self._writer = Writer(self._partial, version=BAG_VERSION, storage_plugin=self._storage)
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
        """Append one message that ``message_types.make`` made."""
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
        with self._explained():
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
            with self._explained():
                self._writer.close()
            for file in self._partial.glob("*.mcap"):
                add_checksums(file)
            self._refuse_existing()
        else:
            # A full disk is in the way of giving up, too.
            with contextlib.suppress(sqlite3.Error, OSError):
                self._writer.abort()

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """What SQLite says of a full disk is no OSError."""
        try:
            yield
        except sqlite3.Error as error:
            raise BagError(f"{self.path}: cannot be written: {error}") from error
