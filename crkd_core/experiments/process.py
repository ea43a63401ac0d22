"""One command of `crkd` in a process of its own that uses one core and dies with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

import crkd_core
from crkd_core.orphans import die_with_parent

#: Says to a child which process has started it.
_PARENT = "CRKD_EXPERIMENT_PARENT"
#: What libraries read when they are first imported.
_ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    # Threads that wait must not spin: the cores are shared with other runs.
    "OMP_WAIT_POLICY": "PASSIVE",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_CODE = """
from crkd_core.experiments.process import settle
settle()
from crkd_core.cli import main
main()
"""


def start(words: Sequence[str], *, cwd: Path, log: IO[str], lock: int) -> subprocess.Popen[bytes]:
    """Run ``crkd WORDS``. The thread that calls this must live as long as the process.

    Args:
        words: of the command line.
        cwd: where relative paths begin.
        log: takes stdout and stderr.
        lock: a descriptor that the process keeps open while it lives.
    """
    environment = {**os.environ, **_ONE_THREAD, _PARENT: str(os.getpid())}
    source, path = str(Path(crkd_core.__file__).resolve().parents[1]), os.environ.get("PYTHONPATH")
    environment["PYTHONPATH"] = source if path is None else os.pathsep.join((source, path))
    return subprocess.Popen(
        [sys.executable, "-c", _CODE, *words],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        pass_fds=(lock,),
    )


@contextmanager
def terminable() -> Iterator[None]:
    """Within it SIGTERM is an exception as Ctrl-C is one, so that what was started ends in order.

    In the main thread; nothing changes in another.

    Raises:
        SystemExit: of SIGTERM.
    """

    def leave(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def settle() -> None:
    """What such a process does first."""
    die_with_parent()  # Before anything that takes long.
    if os.getppid() != int(os.environ[_PARENT]):
        sys.exit("the experiment that started this has ended")
    import cv2

    cv2.setNumThreads(1)
    sys.argv[0] = "crkd"
