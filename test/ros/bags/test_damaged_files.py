"""Bags with bytes changed, lost or cut: read as they were, or refused in one line."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import ros_rig

from crkd_ros.bags.layout import find_layout
from crkd_ros.bags.message_types import BagError, make
from crkd_ros.bags.reader import open_bag
from crkd_ros.bags.writer import BagWriter

START = 1_700_000_000_000_000_000
CASES = 200


@pytest.fixture(scope="module", params=["mcap", "sqlite3"])
def file(request, tmp_path_factory) -> Path:
    """A file of clouds and small pictures, 12 kB."""
    bag = tmp_path_factory.mktemp("whole") / "bag"
    rng = np.random.default_rng(0)
    with BagWriter(bag, storage=request.param) as writer:
        for number in range(3):
            stamp = START + number * 77_000_000
            cloud = ros_rig.radar_cloud(make, "RADAR_FRONT", stamp, seed=number)
            writer.write("/radar_front", cloud, stamp)
            image = make(
                "sensor_msgs/msg/CompressedImage",
                header=ros_rig.header(make, stamp, "cam_front"),
                format="jpeg",
                data=rng.integers(0, 255, 600, dtype=np.uint8),
            )
            writer.write("/cam_front/image_rect_compressed", image, stamp + 1)
    (found,) = [one for one in bag.iterdir() if one.suffix in (".mcap", ".db3")]
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
            # A database has no checksums.
            assert path.suffix == ".db3" or found == whole, case
        except BagError as error:
            refused += 1
            assert "\n" not in str(error), (case, error)
    assert refused > CASES / 4


def test_a_folder_with_any_text_as_its_metadata_is_read_or_refused(file, tmp_path) -> None:
    folder = shutil.copytree(file.parent, tmp_path / "bag")
    text = (folder / "metadata.yaml").read_bytes()
    for case in range(CASES):
        (folder / "metadata.yaml").write_bytes(damaged(text, np.random.default_rng(case)))
        try:
            everything(folder)
        except BagError as error:
            assert "\n" not in str(error), (case, error)
