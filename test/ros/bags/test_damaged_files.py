"""Bags with bytes changed, lost or cut: read as they were, or refused in one line."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import ros_rig
from foreign import Foreign
from foreign_foxglove import FoxgloveFile

from crkd_ros.bags.layout_search import find_layout
from crkd_ros.bags.message_types import BagError, make
from crkd_ros.bags.reader import open_bag
from crkd_ros.bags.writer import BagWriter

START = 1_700_000_000_000_000_000
CASES = 200


ROSBAG2 = ("mcap", "sqlite3")
#: Foxglove's messages in their two encodings.
FOXGLOVE = ("protobuf", "json")
STAMPS = range(START, START + 231_000_000, 77_000_000)


def pictures() -> Iterator[bytes]:
    rng = np.random.default_rng(0)
    for _ in STAMPS:
        yield rng.integers(0, 255, 600, dtype=np.uint8).tobytes()


def write_rosbag2(folder: Path, storage: str) -> None:
    with BagWriter(folder / "bag", storage=storage) as writer:
        for number, (stamp, picture) in enumerate(zip(STAMPS, pictures(), strict=True)):
            cloud = ros_rig.radar_cloud(make, "RADAR_FRONT", stamp, seed=number)
            writer.write("/radar_front", cloud, stamp)
            image = make(
                "sensor_msgs/msg/CompressedImage",
                header=ros_rig.header(make, stamp, "cam_front"),
                format="jpeg",
                data=np.frombuffer(picture, np.uint8),
            )
            writer.write("/cam_front/image_rect_compressed", image, stamp + 1)


def write_ros1(path: Path) -> None:
    with Foreign(path, ros1=True) as bag:
        for stamp, picture in zip(STAMPS, pictures(), strict=True):
            data = np.frombuffer(picture, np.uint8)
            header = bag.header(stamp, "cam_front")
            image = bag.new(
                "sensor_msgs/msg/CompressedImage", header=header, format="jpeg", data=data
            )
            bag.write("/cam_front/image_rect_compressed", image, stamp)
            pose = bag.odometry(stamp, "map", np.eye(4))
            bag.write("/odom", pose, stamp + 1)


def write_foxglove(path: Path, encoding: str) -> None:
    file = FoxgloveFile(path, encoding)
    for stamp, picture in zip(STAMPS, pictures(), strict=True):
        time = {"sec": stamp // 10**9, "nsec": stamp % 10**9}
        image = {"timestamp": time, "format": "jpeg", "frame_id": "CAM_FRONT", "data": picture}
        file.write("/CAM_FRONT/image_rect_compressed", "foxglove.CompressedImage", image, stamp)
        turn = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
        pose = {
            **{"timestamp": time, "parent_frame_id": "map", "child_frame_id": "base_link"},
            **{"translation": {"x": 1.0, "y": 2.0, "z": 0.0}, "rotation": turn},
        }
        file.write("/tf", "foxglove.FrameTransform", pose, stamp + 1)
    file.close()


@pytest.fixture(scope="module", params=[*ROSBAG2, "ros1", *FOXGLOVE])
def file(request, tmp_path_factory) -> Path:
    """A file of six messages, pictures among them, 4 to 12 kB."""
    folder = tmp_path_factory.mktemp("whole")
    if request.param in ROSBAG2:
        write_rosbag2(folder, request.param)
    elif request.param == "ros1":
        write_ros1(folder / "whole.bag")
    else:
        write_foxglove(folder / "whole.mcap", request.param)
    (found,) = [one for one in folder.rglob("*") if one.suffix in (".mcap", ".db3", ".bag")]
    return found


def everything(path: Path) -> list[tuple[str, int, bytes]]:
    """All records, after all that opens a bag looked at it. Raises BagError."""
    with open_bag(path) as bag:
        find_layout(bag)
        found = []
        for record in bag.records():
            record.message()
            found.append((record.topic, record.stamp_ns, record.data))
    return found


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Bytes of a file after one accident."""
    out = bytearray(data)
    place = int(rng.integers(len(out)))
    match int(rng.integers(5)):
        case 0:
            return bytes(out[:place])
        case 1:
            out[place : place + 64] = bytes(len(out[place : place + 64]))
        case 2:
            del out[place : place + int(rng.integers(1, 64))]
        case _:
            for one in rng.integers(0, len(out), int(rng.integers(1, 5))):
                out[one] ^= 1 << int(rng.integers(8))
    return bytes(out)


def test_any_damage_is_an_error_or_changes_nothing(file, tmp_path) -> None:
    whole = everything(file)
    assert len(whole) == 6
    data, refused = file.read_bytes(), 0
    path = tmp_path / file.name
    for case in range(CASES):
        path.write_bytes(damaged(data, np.random.default_rng(case)))
        try:
            found = everything(path)
            # A database has no checksums, and a ROS 1 bag neither.
            assert path.suffix != ".mcap" or found == whole, case
        except BagError as error:
            refused += 1
            assert "\n" not in str(error), (case, error)
    assert refused > CASES / 4


def test_a_folder_with_any_text_as_its_metadata_is_read_or_refused(file, tmp_path) -> None:
    if not (file.parent / "metadata.yaml").exists():
        pytest.skip("a single file")
    folder = shutil.copytree(file.parent, tmp_path / "bag")
    text = (folder / "metadata.yaml").read_bytes()
    for case in range(CASES):
        (folder / "metadata.yaml").write_bytes(damaged(text, np.random.default_rng(case)))
        try:
            everything(folder)
        except BagError as error:
            assert "\n" not in str(error), (case, error)
