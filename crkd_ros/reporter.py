"""What happens while frames are made, told to one object by whoever sees it. Pure; thread-safe.

It counts, and writes to the log what the user should know; health.py makes /diagnostics of it.
"""

from __future__ import annotations

import functools
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

#: Seconds between two log lines about the same kind of problem.
_LOG_EVERY = 5.0


@dataclass(frozen=True, kw_only=True)
class Happened:
    """All of it since the start, and what is new since the ``take`` before.

    Attributes:
        state: of the node, and "" or why it does not leave it as asked.
        entered: when that was told, seconds of the clock.
        frames: how many were "published", "skipped", "dropped"; ``new_frames``: since then.
        detected: when a frame was published last, seconds of the clock.
        stages: the times of each new frame, as ``Latency.finish`` answers them.
        problems: kind -> how often, and the last text; ``new_problems``: kind -> text.
        calibration: what its check found, and the doubts.
        classes: of the loaded weights; () before.
    """

    state: tuple[str, str]
    entered: float
    frames: Counter[str]
    new_frames: Counter[str]
    detected: float
    stages: Sequence[Mapping[str, float]]
    problems: Mapping[str, tuple[int, str]]
    new_problems: Mapping[str, str]
    calibration: tuple[str, tuple[str, ...]]
    classes: tuple[str, ...]


class Reporter:
    """Counts what happens.

    Args:
        log: takes a line for the user.
        clock: seconds, steadily growing.
    """

    def __init__(
        self,
        log: Callable[[str], object] = lambda line: None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log, self._clock = log, clock
        self._lock = threading.Lock()
        self._state, self._entered = ("unconfigured", ""), clock()
        self._frames, self._new_frames = Counter[str](), Counter[str]()
        self._detected = -math.inf
        self._stages: list[Mapping[str, float]] = []
        self._problems: dict[str, tuple[int, str]] = {}
        self._new_problems: dict[str, str] = {}
        self._logged: dict[str, float] = {}
        self._calibration: tuple[str, tuple[str, ...]] = ("not checked", ())
        self._classes: tuple[str, ...] = ()

    def entered(self, state: str, *, refused: str = "") -> None:
        """The node's state of the lifecycle, and why it does not leave it as asked."""
        with self._lock:
            self._state, self._entered = (state, refused), self._clock()

    def published(self, stages: Mapping[str, float]) -> None:
        """One frame's detections went out, after ``Latency.finish()`` seconds."""
        with self._lock:
            self._new_frames["published"] += 1
            self._detected = self._clock()
            self._stages.append(dict(stages))

    def skipped(self, frames: int) -> None:
        """Frames that were complete, but a newer one was too when the network came free."""
        with self._lock:
            self._new_frames["skipped"] += frames

    def dropped(self) -> None:
        """A frame failed; the reason goes to ``problem``."""
        with self._lock:
            self._new_frames["dropped"] += 1

    def calibrated(self, summary: str, doubts: Sequence[str] = ()) -> None:
        """What the check of the calibration found; doubts name sensors and what looks wrong."""
        with self._lock:
            self._calibration = (summary, tuple(doubts))

    def detects(self, classes: Sequence[str]) -> None:
        """The classes of the loaded weights; the labels of ``~/boxes`` index them."""
        with self._lock:
            self._classes = tuple(classes)

    def problem(self, kind: str, text: str) -> None:
        """What the user should know: counted by kind, logged at first and then every 5 s."""
        now = self._clock()
        with self._lock:
            self._problems[kind] = (self._problems.get(kind, (0, ""))[0] + 1, text)
            self._new_problems[kind] = text
            due = now - self._logged.get(kind, -_LOG_EVERY) >= _LOG_EVERY
            if due:
                self._logged[kind] = now
        if due:
            self._log(text)

    def of(self, kind: str) -> Callable[[str], None]:
        """``problem`` for those that have one kind of problem only."""
        return functools.partial(self.problem, kind)

    def take(self) -> Happened:
        """What happened; what is new is so until the next call."""
        with self._lock:
            new_frames, self._new_frames = self._new_frames, Counter()
            self._frames += new_frames
            stages, self._stages = self._stages, []
            new_problems, self._new_problems = self._new_problems, {}
            return Happened(
                state=self._state,
                entered=self._entered,
                frames=self._frames.copy(),
                new_frames=new_frames,
                detected=self._detected,
                stages=stages,
                problems=dict(self._problems),
                new_problems=new_problems,
                calibration=self._calibration,
                classes=self._classes,
            )
