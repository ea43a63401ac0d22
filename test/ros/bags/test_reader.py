"""Opening and reading bags: odd containers and definitions, and what is refused in which words."""

from __future__ import annotations

import shutil
import sqlite3
from pathlib import Path

import foreign
import pytest
import yaml
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import CompressionFormat, CompressionMode, Reader, StoragePlugin, Writer

from crkd_ros.bags.container import Bag
from crkd_ros.bags.message_types import BagError, make, serialize
from crkd_ros.bags.reader import open_bag, read_bag, topics_of
from crkd_ros.bags.writer import BagWriter

REAL = Path(__file__).resolve().parents[4] / "shared" / "real" / "bags"
TEXT = "std_msgs/msg/String"
#: rosbag2 has written both halves of a service into one definition.
SERVICE = "int32 x\n---\nint32 y\n"


def text(data: str) -> bytes:
    return bytes(serialize(make(TEXT, data=data)))


def write(path: Path, stamps: range, *, storage="mcap", length: int = 1) -> Path:
    with BagWriter(path, storage=storage) as bag:
        for stamp in stamps:
            bag.write("/t", make(TEXT, data="x" * length), stamp)
    return path


def write_defined(path: Path, definition: str, data: bytes, *, storage="mcap") -> Path:
    """A bag with a String on /t, and a message of type a/msg/B, defined so, on /other."""
    with Writer(path, version=9, storage_plugin=StoragePlugin[storage.upper()]) as bag:
        known = bag.add_connection("/t", TEXT, msgdef="string data\n", rihs01="RIHS01_0")
        other = bag.add_connection("/other", "a/msg/B", msgdef=definition, rihs01="RIHS01_1")
        bag.write(known, 1, text("one"))
        bag.write(other, 2, data)
    return path


def messages(bag: Bag, topic: str) -> list:
    return [message for _, _, message in bag.messages([topic])]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_types_that_only_the_bag_defines_are_read(tmp_path: Path, storage) -> None:
    number = b"\x00\x01\x00\x00\x2a\x00\x00\x00"
    with open_bag(write_defined(tmp_path / "bag", "int32 x\n", number, storage=storage)) as bag:
        assert bag.unreadable() == {}
        assert [message.x for message in messages(bag, "/other")] == [42]
    with pytest.raises(BagError, match="3 bytes are no a/msg/B"):
        (record,) = read_bag(
            write_defined(tmp_path / "short", "int32 x\n", b"abc"), topics=["/other"]
        )
        record.message()


def test_idl_definitions_of_a_type_and_its_parts_are_read(tmp_path: Path) -> None:
    line = "=" * 80 + "\n"
    outer = "module a { module msg { struct B { a::msg::C part; }; }; };\n"
    inner = "module a { module msg { struct C { long x; }; }; };\n"
    definition = f"{line}IDL: a/msg/B\n{outer}\n{line}IDL: a/msg/C\n{inner}"
    with (tmp_path / "idl.mcap").open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema("a/msg/B", "ros2idl", definition.encode())
        channel = writer.register_channel("/other", "cdr", schema)
        writer.add_message(channel, 5, b"\x00\x01\x00\x00\x07\x00\x00\x00", 5)
        writer.finish()
    with open_bag(tmp_path / "idl.mcap") as bag:
        assert [message.part.x for message in messages(bag, "/other")] == [7]


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
@pytest.mark.parametrize("definition", [SERVICE, "no such thing", "a/msg/Missing x\n", ""])
def test_a_definition_that_cannot_be_read_costs_its_own_topic(
    tmp_path: Path, storage, definition
) -> None:
    bag_path = write_defined(tmp_path / "bag", definition, b"\x00\x01\x00\x00", storage=storage)
    with open_bag(bag_path) as bag:
        assert [message.data for message in messages(bag, "/t")] == ["one"]
        assert "/t" not in bag.unreadable()
        with pytest.raises(BagError, match=r"bag: /other: .*a/msg/B") as caught:
            messages(bag, "/other")
        assert len(str(caught.value)) < 300
        if definition == SERVICE:
            assert "cannot be read" in bag.unreadable()["/other"]
    assert [record.stamp_ns for record in read_bag(bag_path)] == [1, 2]


@pytest.mark.skipif(not REAL.exists(), reason="no real recordings here")
def test_service_events_do_not_hinder_their_neighbours() -> None:
    path = REAL / "service_events.mcap"
    with open_bag(path) as bag:
        assert set(bag.unreadable()) == {
            "/test_service1/_service_event",
            "/test_service2/_service_event",
        }
        assert len(messages(bag, "/test_topic1")) == bag.topics["/test_topic1"].count > 0
    assert len(list(read_bag(path))) == 10


@pytest.mark.skipif(not REAL.exists(), reason="no real recordings here")
def test_a_real_bag_in_five_files_is_read_in_order() -> None:
    records = list(read_bag(REAL / "split_mcap"))
    stamps = [record.stamp_ns for record in records]
    assert len(stamps) == 6074 and stamps == sorted(stamps)
    assert sum(topic.count for topic in topics_of(REAL / "split_mcap").values()) == 6074


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_bag_in_two_files_is_read_file_by_file(tmp_path: Path, storage) -> None:
    first = write(tmp_path / "a", range(10), storage=storage)
    second = write(tmp_path / "b", range(10, 25), storage=storage)
    (moved,) = (file for file in second.iterdir() if file.suffix != ".yaml")
    moved.rename(first / moved.name)
    about = yaml.safe_load((first / "metadata.yaml").read_text())
    content = about["rosbag2_bagfile_information"]
    content["relative_file_paths"].append(moved.name)
    content["message_count"] = content["topics_with_message_count"][0]["message_count"] = 25
    (first / "metadata.yaml").write_text(yaml.safe_dump(about))
    assert topics_of(first)["/t"].count == 25
    assert [record.stamp_ns for record in read_bag(first)] == list(range(25))


def test_several_publishers_of_a_ros1_topic_are_one_topic(tmp_path: Path) -> None:
    with foreign.Foreign(tmp_path / "x.bag", ros1=True) as bag:
        for number, caller in enumerate(("/one", "/two", "/one")):
            connection = bag.connections.get(caller)
            if connection is None:
                connection = bag.writer.add_connection(
                    "/t", TEXT, typestore=bag.store, callerid=caller
                )
                bag.connections[caller] = connection
            message = bag.new(TEXT, data=caller)
            bag.writer.write(connection, number, bag.store.serialize_ros1(message, TEXT))
    with open_bag(tmp_path / "x.bag") as opened:
        assert {name: topic.count for name, topic in opened.topics.items()} == {"/t": 3}
        assert [message.data for message in messages(opened, "/t")] == ["/one", "/two", "/one"]


def test_bags_that_are_no_rosbag2_are_refused_with_what_helps(tmp_path: Path) -> None:
    with foreign.Foreign(tmp_path / "x.bag", ros1=True) as bag:
        bag.write("/t", bag.new(TEXT, data="x"), 1)
    with (tmp_path / "x.mcap").open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(profile="", library="test")
        writer.finish()
    for name, what in (("x.bag", "a ROS 1 bag"), ("x.mcap", "Foxglove messages")):
        with pytest.raises(BagError, match=rf"{name} is .*{what}.*convert .*{name} OUT"):
            topics_of(tmp_path / name)
        with pytest.raises(BagError, match=what):
            list(read_bag(tmp_path / name))


@pytest.mark.parametrize(("encoding", "said"), [("cdr", "the profile 'ros2'"), ("ros1", "ROS 1")])
def test_ros_messages_in_an_mcap_without_a_profile_are_called_so(
    encoding, said, tmp_path: Path
) -> None:
    with (tmp_path / "x.mcap").open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(profile="", library="test")
        schema = writer.register_schema(TEXT, f"{encoding}msg", b"string data")
        channel = writer.register_channel("/t", encoding, schema)
        writer.add_message(channel, 1, text("x"), 1)
        writer.finish()
    with pytest.raises(BagError, match=f"x.mcap: mcap with.*{said}"):
        open_bag(tmp_path / "x.mcap")


def test_a_foxglove_definition_that_cannot_be_read_costs_its_own_topic(tmp_path: Path) -> None:
    with (tmp_path / "x.mcap").open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(profile="", library="test")
        for topic, encoding, definition, data in (
            ("/bad", "protobuf", b"\xff\xff", b""),
            ("/worse", "cbor", b"", b""),
            (
                "/good",
                "json",
                b"{}",
                b'{"timestamp": {"sec": 1, "nsec": 2}, "frame_id": "cam",'
                b' "format": "jpeg", "data": "/9j/"}',
            ),
            ("/broken", "json", b"{}", b"{"),
        ):
            schema = writer.register_schema("foxglove.CompressedImage", encoding, definition)
            writer.add_message(writer.register_channel(topic, encoding, schema), 3, data, 3)
        writer.finish()
    with open_bag(tmp_path / "x.mcap") as bag:
        assert set(bag.unreadable()) == {"/bad", "/worse"}
        (image,) = messages(bag, "/good")
        assert bytes(image.data) == b"\xff\xd8\xff" and image.header.stamp.nanosec == 2
        with pytest.raises(BagError, match=r"x\.mcap: /broken: 1 bytes are no sensor_msgs"):
            messages(bag, "/broken")
        with pytest.raises(BagError, match=r"/worse: .*encoded as 'cbor'"):
            messages(bag, "/worse")


@pytest.mark.parametrize("folder", [True, False])
def test_messages_in_a_database_log_are_not_passed_over(tmp_path: Path, folder: bool) -> None:
    path = write(tmp_path / "bag", range(5), storage="sqlite3")
    database = path / "bag.db3"
    recorder = sqlite3.connect(database)
    recorder.execute("PRAGMA journal_mode=WAL")
    recorder.execute("INSERT INTO messages(topic_id, timestamp, data) VALUES (1, 9, x'00')")
    recorder.commit()
    with pytest.raises(BagError, match=r"bag\.db3-wal holds messages .*wal_checkpoint"):
        topics_of(path if folder else database)
    recorder.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert [record.stamp_ns for record in read_bag(database)] == [0, 1, 2, 3, 4, 9]
    recorder.close()


def test_a_folder_without_metadata_names_its_files(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", range(5))
    (path / "metadata.yaml").unlink()
    with pytest.raises(BagError, match=r"metadata\.yaml is missing .*reindex.*bag\.mcap"):
        topics_of(path)
    assert len(list(read_bag(path / "bag.mcap"))) == 5
    (tmp_path / "data").mkdir()
    with pytest.raises(BagError, match=r"data: not a readable rosbag2: .* found none of them"):
        topics_of(tmp_path / "data")


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_what_metadata_does_not_list_is_not_passed_over(tmp_path: Path, storage) -> None:
    path = write_defined(tmp_path / "bag", "int32 x\n", b"\0\1\0\0\0\0\0\0", storage=storage)
    about = path / "metadata.yaml"
    whole = yaml.safe_load(about.read_text())
    topics = whole["rosbag2_bagfile_information"]["topics_with_message_count"]
    one = topics.pop()
    about.write_text(yaml.safe_dump(whole))
    with pytest.raises(BagError, match=r"lists only 0 of 1 messages of /other; .*reindex"):
        topics_of(path)
    topics.append({**one, "message_count": 0})
    about.write_text(yaml.safe_dump(whole))
    with pytest.raises(BagError, match=r"lists only 0 of 1 messages of /other"):
        topics_of(path)
    topics[-1]["message_count"] = 1
    about.write_text(yaml.safe_dump(whole))
    assert len(list(read_bag(path))) == 2
    (file,) = (file for file in path.iterdir() if file.suffix != ".yaml")
    shutil.copy(file, path / f"bag_1{file.suffix}")
    with pytest.raises(BagError, match=rf"does not list bag_1{file.suffix}; .*reindex"):
        topics_of(path)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_messages_compressed_one_by_one_need_the_folder(tmp_path: Path, storage) -> None:
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin[storage.upper()])
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer as bag:
        known = bag.add_connection("/t", TEXT, msgdef="string data\n", rihs01="RIHS01_0")
        bag.write(known, 1, text("one"))
    with open_bag(tmp_path / "bag") as opened:
        assert [message.data for message in messages(opened, "/t")] == ["one"]
    (file,) = (file for file in (tmp_path / "bag").iterdir() if file.suffix != ".yaml")
    with pytest.raises(BagError, match=r"compressed one by one; give the folder"):
        open_bag(file)


def test_bags_that_were_cut_short_say_what_saves_them(tmp_path: Path) -> None:
    whole = write(tmp_path / "bag", range(200), length=1000) / "bag.mcap"
    data = whole.read_bytes()
    for name, size in (("cut", len(data) // 2), ("head", 8)):
        cut = tmp_path / f"{name}.mcap"
        cut.write_bytes(data[:size])
        with pytest.raises(BagError, match=rf"cut short: `mcap recover {cut} -o NEW.mcap`"):
            topics_of(cut)
    whole.write_bytes(data[: len(data) // 2])
    with pytest.raises(BagError, match=rf"`mcap recover {whole} -o NEW.mcap`"):
        topics_of(whole.parent)
    with foreign.Foreign(tmp_path / "x.bag", ros1=True) as bag:
        bag.write("/t", bag.new(TEXT, data="x"), 1)
    old = (tmp_path / "x.bag").read_bytes()
    (tmp_path / "y.bag").write_bytes(old[: len(old) - 20])
    with pytest.raises(BagError, match=r"`rosbag reindex .*y.bag`"):
        open_bag(tmp_path / "y.bag")
    (tmp_path / "x.bag.active").write_bytes(old)
    with pytest.raises(BagError, match=r"recorder was killed, .*`rosbag reindex .*active`"):
        open_bag(tmp_path / "x.bag.active")


def test_an_mcap_without_index_must_be_in_order(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    with path.open("wb") as stream:
        writer = McapWriter(stream, use_chunking=False)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema(TEXT, "ros2msg", b"string data")
        channel = writer.register_channel("/t", "cdr", schema)
        for stamp in (2, 1):
            writer.add_message(channel, stamp, text("x"), stamp)
        writer.finish()
    with pytest.raises(BagError, match=r"put them in order: `mcap sort .*x.mcap -o NEW.mcap`"):
        list(read_bag(path))


def test_messages_that_metadata_hides_are_missed(tmp_path: Path) -> None:
    path = write(tmp_path / "bag", range(5))
    about = path / "metadata.yaml"
    about.write_text(about.read_text().replace("depth: 10", "depth: 11"))
    with Reader(path) as reader:
        assert list(reader.messages()) == []  # what rosbags makes of it
    with pytest.raises(BagError, match=r"/t announces 5 messages, 0 came.*metadata\.yaml"):
        list(read_bag(path))


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_damaged_and_missing_bags_are_named(tmp_path: Path, storage) -> None:
    with pytest.raises(BagError, match="no such bag"):
        topics_of(tmp_path / "nothing")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BagError, match="not a readable rosbag2"):
        list(read_bag(tmp_path / "empty"))
    path = write(tmp_path / "bag", range(200), storage=storage, length=1000)
    file = next(p for p in path.iterdir() if p.suffix != ".yaml")
    file.write_bytes(file.read_bytes()[:100_000])
    with pytest.raises(BagError, match=r"bag: (the bag is damaged|not a readable rosbag2)"):
        list(read_bag(path))
