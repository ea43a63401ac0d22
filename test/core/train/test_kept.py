"""Samples in memory: what is kept, how much, and that views of them are what they were."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from train_tiny import FRAMES, a_config

from crkd_core.area import Area
from crkd_core.config import ConfigError, ImageConfig
from crkd_core.frame import PastFrame
from crkd_core.train.frame_file import map_frame, write_frame
from crkd_core.train.kept import Kept, KeptFiles, kept_of, size_of
from crkd_core.train.samples import Views


class Counted:
    """Frames that count how often they are read."""

    def __init__(self, name: str = "") -> None:
        self.read: list[int] = []
        self.name = name

    def identity(self) -> list[str]:
        return [self.name]

    def __len__(self) -> int:
        return len(FRAMES)

    def __getitem__(self, index: int):
        self.read.append(index)
        return FRAMES[index]


def test_the_size_is_that_of_all_arrays() -> None:
    frame = FRAMES[0]
    images = sum(image.nbytes for image in frame.images if image is not None)
    assert frame.lidar is not None and frame.truth is not None
    least = images + frame.radar.nbytes + frame.lidar.nbytes + frame.truth.center.nbytes
    assert least < size_of(frame) < 1.2 * least


def test_as_much_is_kept_as_there_is_room_for() -> None:
    room = 2.5 * size_of(FRAMES[0]) / 1e9
    kept = Kept(room)
    for index, frame in enumerate(FRAMES[:4]):
        assert kept.add(index, frame) is frame
    assert [kept.get(index) is not None for index in range(4)] == [True, True, False, False]
    none = Kept(0)
    none.add(0, FRAMES[0])
    assert none.get(0) is None


def test_samples_are_read_once_and_look_as_before() -> None:
    count = 3 * len(FRAMES)
    anew, once = Counted(), Counted()
    plain = Views(anew, a_config())
    kept = Views(once, a_config(keep_gigabytes=1))
    for position in range(count):
        a, b = plain[position], kept[position]
        assert a.token == b.token
        for one, other in zip(a.images, b.images, strict=True):
            assert (one is None) == (other is None)
            assert one is None or other is None or np.array_equal(one, other)
        np.testing.assert_array_equal(a.radar, b.radar)
        np.testing.assert_array_equal(a.ego_T_cam, b.ego_T_cam)
        assert a.truth is not None and b.truth is not None
        np.testing.assert_array_equal(a.truth.center, b.truth.center)
    assert len(anew.read) == count
    assert sorted(once.read) == list(range(len(FRAMES)))


def same(one: object, other: object) -> bool:
    """Whether two values are equal to the bit, arrays and all."""
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return one.dtype == other.dtype and np.array_equal(one, other, equal_nan=one.dtype != bool)
    if dataclasses.is_dataclass(one):
        return type(one) is type(other) and all(
            same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one)
        )
    if isinstance(one, tuple) and isinstance(other, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and one == other


def test_a_frame_comes_back_from_its_file_to_the_bit(tmp_path) -> None:
    ring = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    full = dataclasses.replace(
        FRAMES[0],
        images=(None, *FRAMES[0].images[1:]),
        radar=FRAMES[0].radar[:0],
        drivable=Area(polygons=((ring, ring / 2), (ring + 1,))),
        prepared=ImageConfig(height=90, width=160),
        past=(None, PastFrame(frame=FRAMES[1], now_T_past=np.eye(4))),
    )
    empty = dataclasses.replace(FRAMES[1], truth=None, lidar=None, images=(None,) * 6)
    for frame in (full, empty):
        write_frame(frame, tmp_path / "frame")
        back = map_frame(tmp_path / "frame")
        assert back is not None and same(back, frame)
    assert map_frame(tmp_path / "none") is None
    with pytest.raises(ValueError):
        back.intrinsics[0, 0, 0] = 1.0
    text = (tmp_path / "frame").read_bytes()
    for damaged in (
        *(b"", text[:4], text[: len(text) // 2], b"x" * 64),
        text.replace(b'"Frame', b'"Flame').replace(b'\\"Frame', b'\\"Flame'),
    ):
        (tmp_path / "frame").write_bytes(damaged)
        assert map_frame(tmp_path / "frame") is None


def test_files_are_shared_by_those_that_read_the_same(tmp_path) -> None:
    config = a_config(keep_folder=str(tmp_path))
    first, second, other = Counted("a"), Counted("a"), Counted("b")
    count = 2 * len(FRAMES)
    views = [Views(frames, config) for frames in (first, second, other)]
    plain = Views(Counted(), a_config())
    for position in range(count):
        expected = plain[position]
        assert all(same(view[position], expected) for view in views)
    assert sorted(first.read) == list(range(len(FRAMES)))
    assert second.read == []
    assert sorted(other.read) == sorted(first.read)


def test_files_need_a_set_that_says_what_it_is_and_one_place(tmp_path) -> None:
    config = a_config(keep_folder=str(tmp_path))
    assert isinstance(kept_of(config, Counted()), KeptFiles)
    with pytest.raises(ConfigError, match="list does not say what its Frames are"):
        kept_of(config, FRAMES)
    with pytest.raises(ConfigError, match="give one of both"):
        a_config(keep_folder=str(tmp_path), keep_gigabytes=1)
