"""The node's threads: their names, and those that decode images."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections import deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.camera_model import PreparedImage
from crkd_ros.sensors.sensor import Decode, Deferred

_SET_NAME = 15  # PR_SET_NAME of prctl(2)
_LONGEST = 15
#: Of so many images in a row, four sets of six, it is known whether frames took them; then what
#: still waits for decoding is given up.
_WINDOW = 24


def core_count() -> int:
    """Processor cores that this process may use."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def decode_threads(wanted: int, cores: int) -> int:
    """How many threads decode images; 0 wanted: on two cores more would only crowd the network."""
    return wanted or (1 if cores <= 2 else 2)


def network_threads(wanted: int, cores: int, most: int) -> int:
    """How many threads the network has.

    Args:
        wanted: 0 = all cores but one. A network on every core waits, layer by layer, for those
            that images and messages take away.
        cores: that there are.
        most: what the environment allows (OMP_NUM_THREADS), where nothing is wanted.
    """
    return wanted or max(1, min(most, cores - 1))


def name_thread(name: str) -> None:
    """Name the calling thread, as top -H shows it. Threads that it makes inherit the name.

    Args:
        name: the first 15 bytes are shown; nothing happens where not Linux.
    """
    if not sys.platform.startswith("linux"):
        return
    prctl = getattr(ctypes.CDLL(None), "prctl", None)
    if prctl is not None:
        prctl(_SET_NAME, name.encode()[:_LONGEST], 0, 0, 0)


class Decoders:
    """Threads that decode images: as they arrive, or, where most are wasted, when they are taken.

    A machine that answers every frame gains from images that are ready when their frame is. On
    one that answers few, images of skipped frames would take the time that the network lacks. Fed
    by one thread.

    Args:
        threads: how many.
        patience: an image may be asked for as long after it came, s: while its frame waits.
    """

    def __init__(self, threads: int, *, patience: float = 0.0) -> None:
        self._pool = ThreadPoolExecutor(
            threads, "decode", initializer=name_thread, initargs=("decode",)
        )
        self._recent: deque[_Image] = deque()
        self._patience = patience
        self._taken: deque[bool] = deque(maxlen=2 * _WINDOW)

    @property
    def early(self) -> bool:
        """Whether images are decoded as they arrive: few of the last ones were wasted."""
        return len(self._taken) - sum(self._taken) < _WINDOW

    def defer(self, camera: str, decode: Decode) -> Deferred:
        """Decode now or later. The answer, when called, waits for the result.

        Raises ConvertError (the answer): see ``Camera.item``; or given up for newer images.
        """
        image = _Image(self._pool, camera, decode)
        if self.early:
            image.start()
        self._recent.append(image)
        youngest = image.came - self._patience
        while len(self._recent) > _WINDOW and self._recent[0].came <= youngest:
            old = self._recent.popleft()
            self._taken.append(old.taken)
            old.give_up()
        return image

    def close(self) -> None:
        """Give up what waits, and end the threads."""
        self._pool.shutdown(cancel_futures=True)


class _Image:
    """One image of ``Decoders``.

    Attributes:
        taken: whether a frame has asked for it.
        came: when it was deferred, s.
    """

    def __init__(self, pool: ThreadPoolExecutor, camera: str, decode: Decode) -> None:
        self._pool, self._camera, self._decode = pool, camera, decode
        self._decoding: Future[PreparedImage] | None = None
        self.taken = False
        self.came = time.monotonic()

    def start(self) -> None:
        """Decode it in one of the threads."""
        self._decoding = self._pool.submit(self._decode)

    def begin(self) -> None:
        """See Deferred."""
        self.taken = True
        if self._decoding is None:
            self.start()

    def give_up(self) -> None:
        """Do not decode it, if that has not begun and nobody has asked: it would come too late."""
        if self._decoding is not None and not self.taken:
            self._decoding.cancel()

    def __call__(self) -> PreparedImage:
        """See Deferred."""
        self.begin()
        assert self._decoding is not None
        try:
            return self._decoding.result()
        except CancelledError as error:
            raise ConvertError(
                f"{self._camera}: images come faster than they are decoded; raise decode_threads "
                "or send smaller images"
            ) from error
