"""The node's threads: their names, and those that decode images."""

from __future__ import annotations

import ctypes
import functools
import sys
from collections import deque
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor

from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.camera_model import PreparedImage
from crkd_ros.sensors.sensor import Decode

_SET_NAME = 15  # PR_SET_NAME of prctl(2)
_LONGEST = 15
#: Images that wait for decoding before the oldest is given up: four sets of six.
_WAITING = 24


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
    """Threads that decode images as they arrive. Fed by one thread.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self._pool = ThreadPoolExecutor(
            threads, "decode", initializer=name_thread, initargs=("decode",)
        )
        self._waiting: deque[Future[PreparedImage]] = deque()

    def defer(self, camera: str, decode: Decode) -> Decode:
        """Begin to decode. The answer waits for the result.

        Raises ConvertError (the answer): see ``Camera.item``; or given up for newer images.
        """
        decoding = self._pool.submit(decode)
        self._waiting.append(decoding)
        while len(self._waiting) > _WAITING:
            # A decoded one cannot be cancelled any more; one that still waits would come too late.
            self._waiting.popleft().cancel()
        return functools.partial(_result, camera, decoding)

    def close(self) -> None:
        """Give up what waits, and end the threads."""
        self._pool.shutdown(cancel_futures=True)


def _result(camera: str, decoding: Future[PreparedImage]) -> PreparedImage:
    try:
        return decoding.result()
    except CancelledError as error:
        raise ConvertError(
            f"{camera}: images come faster than they are decoded; raise decode_threads or send "
            "smaller images"
        ) from error
