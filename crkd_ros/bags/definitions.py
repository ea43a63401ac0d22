"""Message definitions that come with a bag, for the types that our own store lacks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from rosbags.interfaces import Connection, MessageDefinitionFormat
from rosbags.typesys import Stores, get_types_from_idl, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from crkd_ros.bags.message_types import BagError, typestore

#: One radar return as the nuscenes2bag family sends it. The codes are signed in nuScenes' files
#: and unsigned here, so -1 arrives as 255.
RADAR_OBJECT = """geometry_msgs/Vector3 pose
uint8 dyn_prop
uint16 id
float32 rcs
float32 vx
float32 vy
float32 vx_comp
float32 vy_comp
uint8 is_quality_valid
uint8 ambig_state
uint8 x_rms
uint8 y_rms
uint8 invalid_state
uint8 pdh0
uint8 vx_rms
uint8 vy_rms
"""
RADAR_OBJECTS = "std_msgs/Header header\nRadarObject[] objects\n"

#: rosbag2 joins the IDL texts of a type and of what it is made of by such lines.
_IDL_SEPARATOR = "=" * 80 + "\n"
#: A parser's complaint may hold the whole definition; its beginning says enough.
_COMPLAINT = 60


def is_radar_objects(type_name: str) -> bool:
    """Whether a type is a RadarObjects of whatever package."""
    return type_name.endswith("/RadarObjects")


class Definitions:
    """Decodes the messages of one bag.

    Types of our own store are read by it. The bag's own definitions are parsed when a message of
    another type is decoded for the first time, each for itself: one that cannot be read costs its
    own type only.
    """

    def __init__(self, connections: Sequence[Connection], *, ros1: bool) -> None:
        """Nothing is parsed yet.

        Args:
            connections: of the open bag.
            ros1: messages are in ROS 1 serialisation, not in CDR.
        """
        self._connections = tuple(connections)
        self._ros1 = ros1
        self._ours = get_typestore(Stores.ROS1_NOETIC) if ros1 else typestore()

    def decode(self, data: bytes, type_name: str) -> Any:
        """A message from its bytes.

        Raises:
            BagError: a type whose definition is missing or cannot be read, or other bytes.
        """
        store = self._ours
        if type_name not in store.types:
            store, reasons = self._theirs
            if type_name in reasons:
                raise BagError(f"message type {type_name}: {reasons[type_name]}")
            if type_name not in store.types:
                raise BagError(f"message type {type_name!r} is not known here")
        read = store.deserialize_ros1 if self._ros1 else store.deserialize_cdr
        try:
            return read(data, type_name)
        except Exception as error:  # rosbags raises SerdeError, struct.error, AssertionError, ...
            raise BagError(f"{len(data)} bytes are no {type_name}: {error}") from error

    def unreadable(self) -> dict[str, str]:
        """Topic -> why its messages cannot be decoded."""
        if all(one.msgtype in self._ours.types for one in self._connections):
            return {}
        reasons = self._theirs[1]
        return {
            one.topic: f"{one.msgtype}: {reasons[one.msgtype]}"
            for one in self._connections
            if one.msgtype in reasons
        }

    @cached_property
    def _theirs(self) -> tuple[Typestore, dict[str, str]]:
        """A store with the bag's own types too, and type -> why it is not in it."""
        store = get_typestore(Stores.ROS1_NOETIC if self._ros1 else Stores.ROS2_JAZZY)
        store.register({k: v for k, v in self._ours.fielddefs.items() if k not in store.types})
        reasons: dict[str, str] = {}
        for one in self._connections:
            if one.msgtype in store.types or one.msgtype in reasons:
                continue
            try:
                found = _parsed(one)
                store.register({k: v for k, v in found.items() if k not in store.types})
                if one.msgtype not in store.types:
                    raise BagError(f"it defines only {', '.join(found) or 'nothing'}")
            except Exception as error:  # TypesysError, AssertionError, RecursionError, ...
                text = " ".join(str(error).split())
                text = text if len(text) <= _COMPLAINT else f"{text[:_COMPLAINT]} ..."
                reasons[one.msgtype] = f"its definition in the bag cannot be read: {text}"
        return store, reasons


def _parsed(connection: Connection) -> dict[str, Any]:
    """The types that a connection's definition holds. Raises what rosbags raises, and BagError."""
    name, definition = connection.msgtype, connection.msgdef
    found: dict[str, Any] = {}
    if definition.format == MessageDefinitionFormat.MSG:
        found |= get_types_from_msg(definition.data, name)
    elif definition.format == MessageDefinitionFormat.IDL:
        for part in definition.data.split(_IDL_SEPARATOR):
            text = part.partition("\n")[2] if part.startswith("IDL: ") else part
            if text.strip():
                found |= get_types_from_idl(text)
    elif is_radar_objects(name):
        package = name.removesuffix("/RadarObjects")
        found |= get_types_from_msg(RADAR_OBJECTS, name)
        found |= get_types_from_msg(RADAR_OBJECT, f"{package}/RadarObject")
    else:
        raise BagError("the bag has no definition of this type")
    return found
