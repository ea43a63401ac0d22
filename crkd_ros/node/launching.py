"""The node and other commands of crkd_ros in processes of their own, on a network of their own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

from crkd_core.orphans import not_outliving_us
from crkd_ros.shipped import shipped

#: Seconds that a process may take to end after SIGINT before it is killed.
_PATIENCE = 10.0


#: What keeps processes on one machine from finding each other, and what to do.
LEFTOVERS = (
    "Processes that were killed leave segments of Fast DDS in /dev/shm, and many of them can keep "
    "others from finding each other: end all ROS processes, then remove /dev/shm/*fastrtps*. "
    "Where discovery is local, 32 processes of a domain find each other, and no more; of a "
    "ROS_DOMAIN_ID above 101 others may have the ports"
)


class ProcessError(RuntimeError):
    """A process did not come up or ended by itself; the text shows the end of its log."""


def own_network() -> None:
    """Loopback, a domain of this process, and the shipped DDS profile, unless the user chose.

    Before rclpy.init, and before processes are started, which inherit it.

    Raises:
        ProcessError: the profile is not among the installed files.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    profile = shipped("config/fastdds.xml")
    if not profile.is_file():
        raise ProcessError(
            f"expected the DDS profile {profile}, without which large images are lost, among the "
            "files of the package; install it anew, or run in the source tree"
        )
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))


def module_command(
    module: str, arguments: Sequence[str], *, cores: Collection[int] | None = None
) -> list[str]:
    """The command line of a module of crkd_ros with a ``main``.

    Args:
        module: its name below crkd_ros.
        arguments: of the command.
        cores: the only processor cores that it may use; None = all of ours.
    """
    # Before torch counts the cores.
    bound = f"os.sched_setaffinity(0, {sorted(cores)}); " if cores else ""
    code = f"import os, sys; {bound}from crkd_ros.{module} import main; sys.exit(main())"
    return [sys.executable, "-c", code, *arguments]


def detector_command(
    parameters: Mapping[str, object],
    *,
    files: Sequence[Path] = (),
    remaps: Mapping[str, str] | None = None,
    cores: Collection[int] | None = None,
) -> list[str]:
    """The command line of the detector node, which configures and activates itself.

    Args:
        parameters: dotted names; they stand above the files. Of ``autostart`` neither counts:
            nobody else is there to start it.
        files: parameter files.
        remaps: names of its topics -> other names.
        cores: see ``module_command``.
    """
    words = [word for file in files for word in ("--params-file", str(file))]
    given = {**parameters, "autostart": "true"}
    words += [word for name, value in given.items() for word in ("-p", f"{name}:={value}")]
    words += [
        word for name, other in (remaps or {}).items() for word in ("-r", f"{name}:={other}")
    ]
    return module_command("commands.node", ["--ros-args", *words], cores=cores)


class Running:
    """A process that was started here.

    Attributes:
        pid: its number.
        log: what it prints.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self.log = process, log
        self.pid = process.pid

    def ended(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._process.poll()

    def check(self) -> None:
        """Raise ProcessError when it has ended."""
        code = self.ended()
        if code is not None:
            raise ProcessError(f"the process ended with status {code}: {self.last_words()}")

    def last_words(self) -> str:
        """The end of its log, on one line."""
        tail = self.log.read_text(errors="replace").splitlines()[-5:]
        return f"{' / '.join(tail)} (all of it in {self.log})"


@contextlib.contextmanager
def process(command: Sequence[str], *, log: Path) -> Iterator[Running]:
    """A command in its own process, interrupted and awaited at the end of the block.

    Args:
        command: its words.
        log: file for what it prints; its folder is made.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        # A session of its own: Ctrl-C at the terminal is for us, who end it in good order.
        started = subprocess.Popen(
            not_outliving_us(command),
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            yield Running(started, log)
        finally:
            if started.poll() is None:
                started.send_signal(signal.SIGINT)
                try:
                    started.wait(timeout=_PATIENCE)
                except subprocess.TimeoutExpired:
                    started.kill()
                    started.wait()


def wait_until(ready: Callable[[], bool], running: Running, *, limit: float) -> None:
    """Wait for something that a process is to do.

    Raises:
        ProcessError: it ended before, or took longer than ``limit`` seconds.
    """
    deadline = time.monotonic() + limit
    while not ready():
        if running.ended() is not None:
            raise ProcessError(f"the node did not come up: {running.last_words()}")
        if time.monotonic() > deadline:
            raise ProcessError(
                f"the node runs, and was not heard of within {limit:g} s. {LEFTOVERS}. "
                f"Its last words: {running.last_words()}"
            )
        time.sleep(0.1)
