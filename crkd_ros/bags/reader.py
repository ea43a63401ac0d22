"""Reading bags: any container is opened here, and its messages are read in order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path

from crkd_ros.bags.container import CONTAINERS, Bag, Record, Topic
from crkd_ros.bags.foxglove import ROS1_MCAP, FoxgloveBag
from crkd_ros.bags.mcap_crc import MCAP_MAGIC, summary_is_whole
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.rosbag import RosBag


def open_bag(path: Path) -> Bag:
    """Open a bag by its container: ROS 1, rosbag2, or mcap of Foxglove's messages.

    Raises:
        BagError: no such bag, or none that can be read.
    """
    if not path.exists():
        raise BagError(
            f"{path}: no such bag; expected a rosbag2 (folder, .mcap, .db3) or a ROS 1 .bag"
        )
    for file in path.glob("*.mcap") if path.is_dir() else [path]:
        if _mcap_profile(file) is not None and not summary_is_whole(file):
            raise BagError(
                f"{path}: the bag is damaged: the checksum of the index of {file.name} does not "
                "fit; copy it again, or make it anew with `mcap recover`"
            )
    profile = _mcap_profile(path)
    if profile == "ros1":
        raise BagError(f"{path}: {ROS1_MCAP}")
    return RosBag(path) if profile in (None, "ros2") else FoxgloveBag(path)


def open_rosbag2(path: Path) -> Bag:
    """Open a bag whose records are CDR, as everything but `info` and `convert` needs it.

    Raises:
        BagError: not a readable rosbag2; of another container, what makes one of it.
    """
    bag = open_bag(path)
    if bag.container != "ros2":
        bag.close()
        raise BagError(
            f"{path} is {CONTAINERS[bag.container]}; make a rosbag2 of it: "
            f"crkd bag convert {path} OUT"
        )
    return bag


def topics_of(path: Path) -> dict[str, Topic]:
    """The topics of a rosbag2 by name. Raises BagError: see ``open_rosbag2``."""
    with open_rosbag2(path) as bag:
        return dict(bag.topics)


def read_bag(path: Path, *, topics: Collection[str] | None = None) -> Iterator[Record]:
    """Records of a rosbag2 (mcap or sqlite3, folder or single file), see ``Bag.records``.

    Args:
        path: the bag.
        topics: only these; None = all.

    Raises:
        BagError: not a readable rosbag2, or it ends in the middle; names the bag.
    """
    with open_rosbag2(path) as bag:
        yield from bag.records(topics)


def _mcap_profile(path: Path) -> str | None:
    """The profile in an mcap file's header; None where ``path`` is no mcap file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        head = file.read(len(MCAP_MAGIC) + 13)
        if not head.startswith(MCAP_MAGIC) or len(head) < len(MCAP_MAGIC) + 13:
            return None
        return file.read(int.from_bytes(head[-4:], "little")).decode("utf-8", "replace")
