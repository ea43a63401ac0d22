"""Samples in memory: what is kept, how much, and that views of them are what they were."""

from __future__ import annotations

import numpy as np
from train_tiny import FRAMES, a_config

from crkd_core.train.kept import Kept, size_of
from crkd_core.train.samples import Views


class Counted:
    """Frames that count how often they are read."""

    def __init__(self) -> None:
        self.read: list[int] = []

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
