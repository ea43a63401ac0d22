"""bag_messages: the message factory, writing and reading bags, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from crkd_ros.bags import message_types as bag_messages
from crkd_ros.bags.files import BagWriter, qos, read_bag, topics_of
from crkd_ros.bags.message_types import BagError, deserialize, make, serialize


def test_make_fills_every_field_with_its_ros_default() -> None:
    marker = make("visualization_msgs/msg/Marker", ns="boxes", id=3)
    again = deserialize(serialize(marker), "visualization_msgs/msg/Marker")
    assert (again.ns, again.id, again.text) == ("boxes", 3, "")
    assert again.pose.orientation.w == 1.0
    assert again.points == []
    info = make("sensor_msgs/msg/CameraInfo")
    assert info.k.shape == (9,) and info.d.shape == (0,)


def test_make_agrees_with_rclpy_byte_for_byte() -> None:
    rclpy_serialization = pytest.importorskip("rclpy.serialization")
    from crkd_ros.convert import ros_packages

    def build(factory):
        stamp = factory("builtin_interfaces/msg/Time", sec=7, nanosec=9)
        header = factory("std_msgs/msg/Header", stamp=stamp, frame_id="base_link")
        return [
            factory("nav_msgs/msg/Odometry", header=header, child_frame_id="base_link"),
            factory("visualization_msgs/msg/Marker", header=header, text="car", id=-1),
            factory("sensor_msgs/msg/CameraInfo", header=header, k=np.arange(9.0)),
            factory(
                "sensor_msgs/msg/PointCloud2",
                header=header,
                fields=[factory("sensor_msgs/msg/PointField", name="x", datatype=7, count=1)],
                data=np.arange(8, dtype=np.uint8),
            ),
        ]

    for ours, theirs in zip(build(make), build(ros_packages.make), strict=True):
        data = rclpy_serialization.serialize_message(theirs)
        # Padding bytes are undefined on their side, so both are written by one side.
        assert serialize(deserialize(data, ours.__msgtype__)) == serialize(ours)


def test_make_takes_numbers_as_bytes_lists_and_arrays() -> None:
    for data in (b"\x01\x02", [1, 2], np.array([1, 2]), memoryview(b"\x01\x02")):
        image = make("sensor_msgs/msg/CompressedImage", data=data)
        again = deserialize(serialize(image), "sensor_msgs/msg/CompressedImage")
        assert again.data.tolist() == [1, 2]


def test_vision_msgs_are_known_with_their_official_hash() -> None:
    found = make("vision_msgs/msg/Detection3DArray")
    assert deserialize(serialize(found), "vision_msgs/msg/Detection3DArray").detections == []
    names = [
        n for n, _ in bag_messages.typestore().get_msgdef("vision_msgs/msg/Detection3D").fields
    ]
    assert names == ["header", "results", "bbox", "id"]


def test_unknown_types_and_fields_are_named() -> None:
    with pytest.raises(BagError, match=r"unknown message type 'std_msgs/msg/Hat'"):
        make("std_msgs/msg/Hat")
    with pytest.raises(BagError, match=r"has no field stampp; it has stamp, frame_id"):
        make("std_msgs/msg/Header", stampp=1)
    with pytest.raises(BagError, match=r"3 bytes are no std_msgs/msg/Header"):
        deserialize(b"abc", "std_msgs/msg/Header")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_gives_back_messages_order_and_qos(tmp_path: Path, storage) -> None:
    path = tmp_path / "drive"
    with BagWriter(path, storage=storage) as bag:
        bag.add_topic("/static", "std_msgs/msg/String", profile=qos(latched=True, depth=3))
        for index in range(40):
            bag.write(f"/t{index % 2}", make("std_msgs/msg/String", data=str(index)), index // 4)
    records = list(read_bag(path))
    # Equal stamps keep the order of writing: poses come before the sensors that need them.
    assert [record.message().data for record in records] == [str(i) for i in range(40)]
    assert [record.stamp_ns for record in records] == [i // 4 for i in range(40)]
    topics = topics_of(path)
    assert {name: topic.count for name, topic in topics.items()} == {
        "/static": 0,
        "/t0": 20,
        "/t1": 20,
    }
    recorded = topics["/static"].qos
    assert recorded is not None
    assert (recorded.durability.name, recorded.depth) == ("TRANSIENT_LOCAL", 3)
    assert [r.topic for r in read_bag(path, topics=["/t1"])] == ["/t1"] * 20
    assert list(tmp_path.iterdir()) == [path]


def test_an_independent_reader_opens_the_bag(tmp_path: Path) -> None:
    from mcap.reader import make_reader

    with BagWriter(tmp_path / "bag") as bag:
        for index in range(30):
            bag.write("/t", make("std_msgs/msg/String", data=str(index)), index * 10)
    with (tmp_path / "bag" / "bag.mcap").open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        found = list(reader.iter_messages(topics=["/t"]))
    assert [message.log_time for _, _, message in found] == [i * 10 for i in range(30)]
    schema, channel, _ = found[0]
    assert schema is not None
    assert (schema.name, schema.encoding) == ("std_msgs/msg/String", "ros2msg")
    assert channel.message_encoding == "cdr"


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_the_same_messages_give_the_same_bytes(tmp_path: Path, storage) -> None:
    for folder in ("a", "b"):
        with BagWriter(tmp_path / folder / "bag", storage=storage) as bag:
            bag.write("/t", make("std_msgs/msg/Header", frame_id="x"), 5)
    files = [sorted((tmp_path / folder / "bag").iterdir()) for folder in ("a", "b")]
    assert [f.name for f in files[0]] == [f.name for f in files[1]]
    assert len(files[0]) == 2
    assert [f.read_bytes() for f in files[0]] == [f.read_bytes() for f in files[1]]


def test_an_error_in_the_block_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(KeyError), BagWriter(tmp_path / "bag") as bag:
        bag.write("/t", make("std_msgs/msg/Header"), 5)
        raise KeyError
    assert list(tmp_path.iterdir()) == []


def test_an_existing_bag_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "precious").write_text("x")
    with pytest.raises(BagError, match="exists already"):
        BagWriter(tmp_path / "bag")
    assert (tmp_path / "bag" / "precious").read_text() == "x"


def test_two_types_on_one_topic_are_refused(tmp_path: Path) -> None:
    with (
        pytest.raises(BagError, match="/t carries std_msgs/msg/Header, not std_msgs/msg/String"),
        BagWriter(tmp_path / "bag") as bag,
    ):
        bag.write("/t", make("std_msgs/msg/Header"), 5)
        bag.write("/t", make("std_msgs/msg/String"), 6)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_damaged_and_missing_bags_are_named(tmp_path: Path, storage) -> None:
    with pytest.raises(BagError, match="no such bag"):
        topics_of(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="not a readable rosbag2"):
        list(read_bag(tmp_path / "empty"))
    path = tmp_path / "bag"
    with BagWriter(path, storage=storage) as bag:
        for index in range(200):
            bag.write("/t", make("std_msgs/msg/String", data="x" * 1000), index)
    file = next(p for p in path.iterdir() if p.suffix != ".yaml")
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(BagError, match=r"bag: (the bag is damaged|not a readable rosbag2)"):
        list(read_bag(path))
