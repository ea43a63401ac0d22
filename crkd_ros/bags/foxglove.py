"""Foxglove's own messages in mcap files (foxglove/nuscenes2mcap), as ROS messages.

Protobuf messages are read with the descriptors that every such file carries; JSON ones (Foxglove's
JSON schemas, bytes in base64) alike. Only the message types that a detector needs are read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.records import Schema

from crkd_ros.bags.container import Bag, Container, Record, Topic, merged
from crkd_ros.bags.foxglove_messages import TYPES
from crkd_ros.bags.message_types import BagError

#: From the bytes of a message and the name of its type in ROS to a ROS message.
Decoder = Callable[[bytes, str], Any]

#: What to say of an mcap file with such messages.
ROS1_MCAP = (
    "mcap with ROS 1 messages (nuscenes2mcap before August 2022); make the file anew with a later "
    "version"
)


class FoxgloveBag(Bag):
    """An mcap file of Foxglove messages; see ``container.Bag``."""

    container: Container = "foxglove"

    def __init__(self, path: Path) -> None:
        """Open the file and read its summary.

        Raises:
            BagError: no whole mcap file, messages of ROS, or protobuf messages and no protobuf
                package.
        """
        self.path = path
        self._file = path.open("rb")
        #: Channel -> from the bytes of its messages to ROS messages.
        self._decoders: dict[int, Decoder] = {}
        self._unreadable: dict[str, str] = {}
        try:
            self._open()
        except BaseException:
            self._file.close()
            raise

    def _open(self) -> None:
        try:
            # Sizes are checked by the reader before it believes them; None = any chunk size.
            self._reader = make_reader(self._file, validate_crcs=True)
            summary = self._reader.get_summary()
        except (McapError, ValueError, EOFError) as error:
            raise BagError(f"{self.path}: not a readable mcap file: {error}") from error
        if summary is None or summary.statistics is None:
            raise BagError(
                f"{self.path}: the mcap file has no summary: it was cut short; repair it with "
                f"`mcap recover {self.path} -o NEW.mcap`"
            )
        self._refuse_ros({one.message_encoding for one in summary.channels.values()})
        topics = []
        for channel in summary.channels.values():
            schema = summary.schemas.get(channel.schema_id)
            name = schema.name if schema else ""
            type_name, convert = TYPES.get(name, (name, None))
            count = summary.statistics.channel_message_counts.get(channel.id, 0)
            topics.append(Topic(name=channel.topic, type_name=type_name, count=count))
            if convert is None or schema is None:
                self._decoders[channel.id] = _refusal(f"messages of {name!r} are not read here")
                continue
            try:
                parse = _parser(channel.message_encoding, schema)
            except ImportError as error:
                raise BagError(
                    f"{self.path}: its messages are protobuf; pip install protobuf (apt: "
                    "python3-protobuf)"
                ) from error
            except Exception as error:  # BagError, DecodeError, TypeError, KeyError, ...
                reason = f"{name}: its definition in the file cannot be read: {error}"
                self._unreadable[channel.topic] = reason
                self._decoders[channel.id] = _refusal(reason)
                continue
            self._decoders[channel.id] = _decoder(parse, convert)
        self.topics = merged(iter(topics))

    def _refuse_ros(self, encodings: set[str]) -> None:
        """Any writer may leave the profile out that a recorder of ROS writes."""
        if encodings & {"protobuf", "json"}:
            return
        if "cdr" in encodings:
            raise BagError(
                f"{self.path}: mcap with ROS 2 messages, and its header does not say so: expected "
                "the profile 'ros2'; write it anew with that (in the mcap libraries, an argument "
                "of start or open)"
            )
        if "ros1" in encodings:
            raise BagError(f"{self.path}: {ROS1_MCAP}")

    def unreadable(self) -> dict[str, str]:
        """See Bag."""
        return dict(self._unreadable)

    def records(self, topics: Collection[str] | None = None) -> Iterator[Record]:
        """See Bag. Messages of types that no detector needs cannot be decoded."""
        wanted = [name for name in self.topics if topics is None or name in topics]
        if not wanted:
            return
        try:
            for _, channel, message in self._reader.iter_messages(topics=wanted):
                yield Record(
                    topic=channel.topic,
                    type_name=self.topics[channel.topic].type_name,
                    stamp_ns=message.log_time,
                    data=message.data,
                    decode=self._decoders[channel.id],
                )
        except Exception as error:  # McapError, zstd, lz4, KeyError, ...
            raise BagError(f"{self.path}: the file is damaged: {error!r}") from error

    def close(self) -> None:
        """See Bag."""
        self._file.close()


def _decoder(parse: Callable[[bytes], Any], convert: Callable[[Any], Any]) -> Decoder:
    def decode(data: bytes, type_name: str) -> Any:
        try:
            return convert(parse(data))
        except BagError:
            raise
        except Exception as error:  # DecodeError, JSONDecodeError, AttributeError, KeyError, ...
            raise BagError(f"{len(data)} bytes are no {type_name}: {error!r}") from error

    return decode


def _refusal(reason: str) -> Decoder:
    def decode(data: bytes, type_name: str) -> Any:
        raise BagError(reason)

    return decode


def _parser(encoding: str, schema: Schema) -> Callable[[bytes], Any]:
    """A function from bytes to an object with the message's fields as attributes.

    Raises:
        BagError: an unknown encoding.
        ImportError: protobuf is not installed; what else it raises means a damaged definition.
    """
    if encoding == "json":
        return lambda data: json.loads(data, object_hook=lambda one: SimpleNamespace(**one))
    if encoding != "protobuf":
        raise BagError(f"cannot read messages encoded as {encoding!r}")
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    files = descriptor_pb2.FileDescriptorSet.FromString(schema.data)
    pool = descriptor_pool.DescriptorPool()
    for file in files.file:
        pool.Add(file)
    descriptor = pool.FindMessageTypeByName(schema.name)
    # GetMessageClass came with protobuf 4.22; Ubuntu 24.04 has 3.21.
    if hasattr(message_factory, "GetMessageClass"):
        return message_factory.GetMessageClass(descriptor).FromString
    return message_factory.MessageFactory(pool).GetPrototype(descriptor).FromString
