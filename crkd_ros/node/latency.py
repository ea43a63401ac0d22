"""Where the time of a frame goes: stages that do not overlap, and nothing left out.

Pure. "total" runs from the arrival of the frame's trigger to the end of publishing. What no stage
covers is "other", so the stages and "other" always add up to "total".
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from crkd_ros.sensors.health import CLOCKS_AGREE

#: Stages of one frame in their order: waiting for its other messages and for the network to come
#: free, for its images' decoding, making the Frame, the detector's own three, publishing.
STAGES = ("wait", "images", "frame", "prepare", "network", "decode", "publish")
#: The same, what is left, the sum of all, and from the trigger's stamp to the end of publishing.
PARTS = (*STAGES, "other", "total", "pipeline")


class LatencyError(RuntimeError):
    """Stages that overlap: a mistake in the program that times them."""


class Latency:
    """Times of one frame, stage by stage, in seconds.

    Args:
        start: on ``clock``, when the frame's trigger arrived.
        clock: seconds, steadily growing.
    """

    def __init__(self, start: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.start = start
        self.stages: dict[str, float] = {}
        self._clock = clock
        self._end = start  # of the stage before
        self._open = ""

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block. Raises LatencyError inside another block."""
        if self._open:
            raise LatencyError(f"stage {name!r} begins inside stage {self._open!r}")
        self._open, before = name, self._clock()
        try:
            yield
        finally:
            self._open, self._end = "", self._clock()
            self._add(name, self._end - before)

    def until_now(self, name: str) -> None:
        """Give a stage all time since the stage before ended, or since the start."""
        before, self._end = self._end, self._clock()
        self._add(name, self._end - before)

    def took(self, stages: Mapping[str, float]) -> None:
        """Add what another object timed itself since the stage before ended, in seconds."""
        self._end = self._clock()
        for name, seconds in stages.items():
            self._add(name, seconds)

    def finish(self) -> dict[str, float]:
        """All stages, then "other" and "total"."""
        total = self._clock() - self.start
        # Summed exactly: a rounding below zero would look like an overlap.
        rest = math.fsum((total, *(-seconds for seconds in self.stages.values())))
        return {**self.stages, "other": rest, "total": total}

    def _add(self, name: str, seconds: float) -> None:
        self.stages[name] = self.stages.get(name, 0.0) + seconds


def pipeline(total: float, *, now_ns: int, stamp_ns: int) -> float | None:
    """Seconds from a stamp to now; None where stamp and clock cannot be of the same time.

    Args:
        total: the frame's "total": the pipeline is at least as long.
        now_ns: the node's clock (simulated time under ``use_sim_time``), at the end of publishing.
        stamp_ns: of the frame.
    """
    seconds = (now_ns - stamp_ns) * 1e-9
    # Simulated time moves in steps, so that an honest age may fall short by one of them.
    return seconds if total - 1.0 <= seconds <= total + CLOCKS_AGREE else None


@dataclass(frozen=True)
class Summary:
    """Of one stage over some frames, seconds. Frames without the stage count as zero."""

    mean: float
    p95: float
    max: float


def summaries(frames: Sequence[Mapping[str, float]]) -> dict[str, Summary]:
    """Stage -> its summary over some frames, whose stages are as ``Latency.finish`` answers."""
    names = [name for name in PARTS if any(name in frame for frame in frames)]
    names += sorted({name for frame in frames for name in frame} - set(names))
    return {
        name: _summary([frame.get(name, 0.0) for frame in frames if _counts(name, frame)])
        for name in names
    }


def _counts(name: str, frame: Mapping[str, float]) -> bool:
    """A frame whose clock did not agree has no pipeline; any other absent stage took no time."""
    return name in frame or name != "pipeline"


def _summary(seconds: list[float]) -> Summary:
    ordered = sorted(seconds)
    rank = max(0, math.ceil(0.95 * len(ordered)) - 1)
    return Summary(math.fsum(ordered) / len(ordered), ordered[rank], ordered[-1])
