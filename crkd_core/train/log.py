"""What a training says while it runs: rates, and the log for TensorBoard."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")


class LogError(RuntimeError):
    """A log that cannot be written."""


class Meter:
    """Steps per second, and the share of the time that went into waiting for data."""

    def __init__(self, *, step: int) -> None:
        self.step = step
        self.started = time.perf_counter()
        self.waited = 0.0

    def timed(self, source: Iterable[T]) -> Iterator[T]:
        """The items of ``source``; the time until each comes is counted as waiting."""
        iterator = iter(source)
        while True:
            asked = time.perf_counter()
            try:
                item = next(iterator)
            except StopIteration:
                return
            finally:
                self.waited += time.perf_counter() - asked
            yield item

    def read(self, step: int) -> dict[str, float]:
        """Since the last reading: "steps_per_second" and "data_wait", a share in [0, 1]."""
        now = time.perf_counter()
        span = now - self.started
        rates = {
            "steps_per_second": (step - self.step) / span,
            "data_wait": round(min(1.0, self.waited / span), 4),
        }
        self.step, self.started, self.waited = step, now, 0.0
        return rates


class Skips:
    """Steps that were left out because their gradient was not finite.

    Attributes:
        row: those since the last step that was taken.
    """

    def __init__(self) -> None:
        self.row = self._count = 0

    def take(self, *, skipped: bool) -> None:
        """One more step."""
        self.row = self.row + 1 if skipped else 0
        self._count += skipped

    def read(self) -> int:
        """How many since the last reading."""
        count, self._count = self._count, 0
        return count


class Board:
    """A TensorBoard log beside metrics.jsonl; does nothing unless asked for.

    Args:
        folder: of the events.
        enabled: False = nothing is imported or written.
        done: steps that are done; events of later ones, from before a resume, are dropped.

    Raises:
        LogError: asked for and not installed.
    """

    def __init__(self, folder: Path, *, enabled: bool, done: int) -> None:
        self.writer: Any = None
        if not enabled:
            return
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError as error:
            raise LogError(
                "tensorboard is not installed; pip install tensorboard, or leave tensorboard out"
            ) from error
        self.writer = SummaryWriter(str(folder), purge_step=done + 1)

    def log(self, record: dict[str, Any]) -> None:
        """One line of metrics.jsonl as scalars at its "step"."""
        if self.writer is None:
            return
        for name, value in record.items():
            if name != "step" and isinstance(value, int | float):
                self.writer.add_scalar(name, value, record["step"])
        self.writer.flush()

    def close(self) -> None:
        """Finish the log."""
        if self.writer is not None:
            self.writer.close()
