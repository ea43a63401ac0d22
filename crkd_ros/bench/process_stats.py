"""What Linux tells of a process: memory, threads, files, processor time."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_TICK = os.sysconf("SC_CLK_TCK")
_MB = 1024.0


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


#: Names of ``cpu_by_thread`` that are no thread's own.
MAIN, POOL = "main thread", "unnamed threads"


def cpu_by_thread(pid: int) -> dict[int, tuple[str, float]]:
    """Number of a thread -> its name now and its processor seconds so far.

    MAIN is the main thread; POOL those that nobody has named, which bear the process's own name.
    """
    found: dict[int, tuple[str, float]] = {}
    with contextlib.suppress(OSError):
        own, _ = _cpu(Path("/proc", str(pid)))
        for task in Path("/proc", str(pid), "task").iterdir():
            with contextlib.suppress(OSError):  # It has just ended.
                name, spent = _cpu(task)
                name = MAIN if task.name == str(pid) else POOL if name == own else name
                found[int(task.name)] = name, spent
    return found


def spent_between(
    before: Mapping[int, tuple[str, float]], after: Mapping[int, tuple[str, float]]
) -> Counter[str]:
    """Processor seconds between two looks, summed by the names of the second one.

    A thread may change its name in between, as the detecting one does for its network.
    """
    seconds: Counter[str] = Counter()
    for number, (name, until_now) in after.items():
        _, until_then = before.get(number, ("", 0.0))
        seconds[name] += until_now - until_then  # type: ignore[assignment]
    return seconds


def _cpu(task: Path) -> tuple[str, float]:
    """(name, processor seconds) of a process or thread."""
    head, _, tail = (task / "stat").read_text().rpartition(")")
    fields = tail.split()
    # Fields 14 and 15 of proc(5): user and system time; ``tail`` begins with field 3.
    return head.partition("(")[2], (int(fields[11]) + int(fields[12])) / _TICK
