"""Writing bags: what is read again, the same bytes, nothing half-made."""

from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.records import Chunk, DataEnd, Footer
from mcap.stream_reader import StreamReader

from crkd_ros.bags.message_types import BagError, make
from crkd_ros.bags.reader import read_bag, topics_of
from crkd_ros.bags.writer import BagWriter, qos


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


def test_mcap_files_have_checksums_that_find_a_flipped_bit(tmp_path: Path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for i in range(40):  # Several chunks.
            data = np.full(100_000, i, np.uint8)
            bag.write("/t", make("sensor_msgs/msg/CompressedImage", data=data), i)
    path = tmp_path / "bag" / "bag.mcap"
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True)
        summary = reader.get_summary()
        assert len(summary.chunk_indexes) > 2
        assert sum(1 for _ in reader.iter_messages()) == 40
    with path.open("rb") as file:
        records = list(StreamReader(file, emit_chunks=True, validate_crcs=True).records)
    assert all(one.uncompressed_crc for one in records if isinstance(one, Chunk))
    (end,) = [one for one in records if isinstance(one, DataEnd)]
    (footer,) = [one for one in records if isinstance(one, Footer)]
    whole = path.read_bytes()
    assert end.data_section_crc and footer.summary_crc
    begin = footer.summary_start
    assert footer.summary_crc == crc32(whole[begin : len(whole) - 8 - 4])
    assert end.data_section_crc == crc32(whole[: begin - 13])
    damaged = bytearray(whole)
    damaged[whole.index(bytes([7]) * 1000) + 500] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(BagError, match="the bag is damaged"):
        list(read_bag(tmp_path / "bag"))
