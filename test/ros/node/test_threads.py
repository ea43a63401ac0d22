"""Which images are decoded, and when."""

from __future__ import annotations

import threading

import pytest

from crkd_ros.convert.arrays import ConvertError
from crkd_ros.node.threads import Decoders, core_count, decode_threads, network_threads

#: Of so many in a row it is known whether a frame took them.
WINDOW = 24


class Camera:
    """Notes which of its images were decoded."""

    def __init__(self, decoders: Decoders) -> None:
        self.decoders, self.decoded = decoders, []
        self.count = 0

    def image(self):
        number, self.count = self.count, self.count + 1

        def decode():
            self.decoded.append(number)
            return number

        return self.decoders.defer("CAM", decode)


@pytest.fixture
def camera():
    decoders = Decoders(1)
    yield Camera(decoders)
    decoders.close()


def settle(decoders: Decoders) -> None:
    """What was given to the one thread so far is done."""
    decoders._pool.submit(int).result()


def test_images_are_decoded_as_they_arrive_while_frames_take_them(camera) -> None:
    for _ in range(4 * WINDOW):
        image = camera.image()
        settle(camera.decoders)
        assert camera.decoded[-1] == camera.count - 1
        assert image() == camera.count - 1
    assert camera.decoded == list(range(4 * WINDOW))


def test_where_most_are_wasted_only_those_that_are_taken_are_decoded(camera) -> None:
    for _ in range(2 * WINDOW):
        camera.image()
        settle(camera.decoders)
    # The first window is judged when it leaves, so the second is decoded still.
    assert len(camera.decoded) == 2 * WINDOW and not camera.decoders.early
    wasted = [camera.image() for _ in range(WINDOW // 2)]
    taken = [camera.image() for _ in range(6)]
    for image in taken:
        image.begin()
    settle(camera.decoders)
    first = 2 * WINDOW + len(wasted)
    assert camera.decoded[2 * WINDOW :] == list(range(first, first + 6))
    assert [image() for image in taken] == list(range(first, first + 6))
    # A set may still wait for its other images when its own leave the window.
    for _ in range(WINDOW):
        camera.image()
    assert wasted[0]() == 2 * WINDOW
    for _ in range(4 * WINDOW):
        camera.image()()
    assert camera.decoders.early


def test_what_waits_too_long_is_given_up_unless_a_frame_takes_it(camera) -> None:
    gate = threading.Event()
    camera.decoders._pool.submit(gate.wait)
    lost, taken = camera.image(), camera.image()
    taken.begin()
    for _ in range(WINDOW):
        camera.image()
    gate.set()
    assert taken() == 1
    with pytest.raises(ConvertError, match="CAM: images come faster than they are decoded"):
        lost()


@pytest.mark.parametrize(
    ("wanted", "cores", "most", "found"),
    [(0, 2, 2, 1), (0, 1, 1, 1), (0, 16, 16, 15), (0, 16, 4, 4), (3, 2, 1, 3)],
)
def test_a_network_leaves_one_core_unless_told(wanted, cores, most, found) -> None:
    assert network_threads(wanted, cores, most) == found


def test_two_cores_decode_images_in_one_thread() -> None:
    assert [decode_threads(0, cores) for cores in (1, 2, 3, 16)] == [1, 1, 2, 2]
    assert decode_threads(5, 2) == 5
    assert core_count() >= 1
