"""The real node in its own process, and what Linux tells of that process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crkd_ros.shipped import shipped

#: Seconds that the node may take to end after SIGINT.
_END = 10.0
_TICK = os.sysconf("SC_CLK_TCK")
_MB = 1024.0


class NodeProcessError(RuntimeError):
    """The node ended by itself; the text shows the end of its log."""


class NodeProcess:
    """A running detector node.

    Attributes:
        pid: of its process.
        log: its output.
    """

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process, self.log = process, log
        self.pid = process.pid

    def check(self) -> None:
        """Raise NodeProcessError when it has ended."""
        code = self._process.poll()
        if code is not None:
            tail = self.log.read_text(errors="replace").splitlines()[-5:]
            raise NodeProcessError(
                f"the node ended with status {code}: {' / '.join(tail)} (all of it in {self.log})"
            )


@contextlib.contextmanager
def detector_node(
    parameters: Mapping[str, object], *, log: Path, cores: Collection[int] | None = None
) -> Iterator[NodeProcess]:
    """The node with these parameters, interrupted and awaited at the end.

    Args:
        parameters: dotted names.
        log: file that takes its output.
        cores: the only processor cores that it may use; None = all of ours.
    """
    pairs = [word for name, value in parameters.items() for word in ("-p", f"{name}:={value}")]
    # Before torch counts the cores.
    bound = f"os.sched_setaffinity(0, {sorted(cores)})" if cores else "None"
    code = f"import os, sys; {bound}; from crkd_ros.detector_node import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "--ros-args", *pairs]
    with log.open("wb") as file:
        # A session of its own: Ctrl-C at the terminal is for us, who end it in good order.
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            yield NodeProcess(process, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                try:
                    process.wait(timeout=_END)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def own_network() -> None:
    """Loopback, a domain of this process, and the shipped DDS profile, unless the user chose.

    Before rclpy.init, and before the node is started, which inherits it.

    Raises:
        NodeProcessError: the profile is not among the installed files.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    os.environ.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % 100))
    profile = shipped("config/fastdds.xml")
    if not profile.is_file():
        raise NodeProcessError(
            f"expected the DDS profile {profile}, without which large images are lost, among the "
            "files of the package; install it anew, or run in the source tree"
        )
    os.environ.setdefault("FASTRTPS_DEFAULT_PROFILES_FILE", str(profile))


@dataclass(frozen=True, kw_only=True)
class ProcessSample:
    """A process at one moment. Memory in MiB.

    Attributes:
        at: seconds, time.monotonic.
        rss: resident memory.
        anonymous: the part of it that is the program's own: neither files nor shared.
        shared: the part that is shared memory (of DDS).
        threads: number of threads.
        files: open file descriptors.
        cpu: processor seconds since its start.
    """

    at: float
    rss: float
    anonymous: float
    shared: float
    threads: int
    files: int
    cpu: float


def sample(pid: int) -> ProcessSample:
    """Look at a process. Raises OSError when it has ended."""
    process = Path("/proc", str(pid))
    lines = (process / "status").read_text().splitlines()
    status = {name: value for name, _, value in (line.partition(":") for line in lines)}

    def mebibytes(name: str) -> float:
        return int(status[name].split()[0]) / _MB

    return ProcessSample(
        at=time.monotonic(),
        rss=mebibytes("VmRSS"),
        anonymous=mebibytes("RssAnon"),
        shared=mebibytes("RssShmem"),
        threads=int(status["Threads"]),
        files=sum(1 for _ in (process / "fd").iterdir()),
        cpu=_cpu(process)[1],
    )


def cpu_by_thread(pid: int) -> Counter[str]:
    """Processor seconds of the threads of a process so far, summed by their names."""
    seconds: Counter[str] = Counter()
    for task in Path("/proc", str(pid), "task").iterdir():
        with contextlib.suppress(OSError):  # It has just ended.
            name, spent = _cpu(task)
            seconds[name] += spent  # type: ignore[assignment]
    return seconds


def _cpu(task: Path) -> tuple[str, float]:
    """(name, processor seconds) of a process or thread."""
    head, _, tail = (task / "stat").read_text().rpartition(")")
    fields = tail.split()
    # Fields 14 and 15 of proc(5): user and system time; ``tail`` begins with field 3.
    return head.partition("(")[2], (int(fields[11]) + int(fields[12])) / _TICK
