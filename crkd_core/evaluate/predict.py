"""Read a Frame, detect, keep the answer: what every evaluation does before it scores."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np

from crkd_core.boxes import Detections
from crkd_core.config import Engine, Precision, check_classes
from crkd_core.data.sets import DataSet, SetFrames
from crkd_core.frame import Frame
from crkd_core.progress import counted
from crkd_core.tables import Table

if TYPE_CHECKING:
    from crkd_core.evaluate.segmentation import SegmentScore
    from crkd_core.infer.detector import Detector
    from crkd_core.infer.memory import Memory


@dataclass
class Account:
    """What the samples of an evaluation had for the detector to read.

    Attributes:
        sensors: those that it reads.
        samples: how many there were.
        blind: tokens of those that had nothing that it could use.
        had: sensor -> samples that had it.
    """

    sensors: tuple[str, ...]
    samples: int = 0
    blind: list[str] = field(default_factory=list)
    had: Counter[str] = field(default_factory=Counter)

    def add(self, frame: Frame, *, usable: bool) -> None:
        """One sample."""
        self.samples += 1
        self.had.update(frame.sensors & {*self.sensors})
        if not usable:
            self.blind.append(frame.token)

    def note(self) -> str:
        """How many samples had an empty answer because there was nothing to see; "" = none."""
        if not self.blind:
            return ""
        return (
            f"{len(self.blind)} of {self.samples} samples had no sensor that the detector could "
            f"use and count as seen with nothing found, first {self.blind[0]}"
        )

    def table(self) -> Table:
        """Samples by sensor."""
        return Table(
            title="samples by sensor",
            columns=("sensor", "samples", "without"),
            rows=[
                [name, str(self.had[name]), str(self.samples - self.had[name])]
                for name in self.sensors
            ],
        )


def load_detector(
    weights: Path,
    tables: DataSet,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    engine: str = "torch",
    score_threshold: float,
) -> Detector:
    """A detector that can be scored on a data set.

    Args:
        weights: file of ``save_weights``, or of ``crkd export``.
        tables: the data set.
        device: "cpu", "cuda", "cuda:N".
        precision: "fp32", "bf16", "fp16".
        engine: what computes the network, see infer/engines/runtimes.py.
        score_threshold: weaker boxes are no answers.

    Raises:
        ConfigError: it has a class that the data set does not know.
        CheckpointError, InferError: weights, device, precision or engine cannot be used.
    """
    # Here, because scoring a file needs no torch, and torch takes seconds to import.
    from crkd_core.infer.detector import Detector

    detector = Detector.load(
        weights,
        device=device,
        precision=cast(Precision, precision),  # checked there
        engine=cast(Engine, engine),
        score_threshold=score_threshold,
    )
    check_classes(detector.config.name, detector.config.classes, tables.classes)
    return detector


def step_or_empty(
    detector: Detector, frame: Frame, memory: Memory | None
) -> tuple[Detections, Memory | None]:
    """``Detector.step``, with an empty answer to a Frame that has nothing that it reads.

    Such a Frame leaves the memory as it is (docs/decisions/0009).
    """
    if not detector.can_use(frame):
        return Detections.empty(detector.config.classes), memory
    return detector.step(frame, memory)


def detect(
    detector: Detector,
    frames: Iterable[Frame],
    text: str,
    *,
    total: int | None = None,
    stays: bool = False,
    stages: dict[str, list[float]] | None = None,
    account: Account | None = None,
    cells: SegmentScore | None = None,
) -> Iterator[tuple[Frame, Detections]]:
    """Each Frame with what the detector finds in it, one by one, with a bar beside.

    A detector with memory remembers the Frames before it, of the same drive.
    A Frame that has nothing that it reads has an empty answer, see ``step_or_empty``.

    Args:
        detector: sees every Frame once, in this order.
        frames: to be read.
        text: before the bar.
        total: how many Frames there are, where ``frames`` does not know.
        stays: whether the bar is still there at the end.
        stages: takes the seconds of each Frame, by stage: "read" and those of ``Detector.timing``.
        account: takes what each Frame had.
        cells: takes what the second head says of each Frame, see ``segment_score``.

    Raises:
        NuScenesError, VodError: files of key frames are not there.
    """
    if isinstance(frames, SetFrames):
        frames.check_files()
    memory: Memory | None = None
    start = time.perf_counter()
    for frame in counted(frames, text, total=total, stays=stays):
        read = time.perf_counter() - start
        usable = detector.can_use(frame)
        found, memory = step_or_empty(detector, frame, memory)
        if account is not None:
            account.add(frame, usable=usable)
        if stages is not None and usable:
            for stage, seconds in {"read": read, **detector.timing}.items():
                stages.setdefault(stage, []).append(seconds)
        if cells is not None:
            cells.add(frame, detector.segments if usable else None)
        yield frame, found
        start = time.perf_counter()


def segment_score(detector: Detector) -> SegmentScore | None:
    """What scores the detector's second head; None: it has none."""
    if detector.config.segments is None:
        return None
    # Here, because scoring files needs no torch.
    from crkd_core.evaluate.segmentation import SegmentScore

    return SegmentScore(detector.config)


def timing_table(stages: dict[str, list[float]]) -> Table:
    """Milliseconds of each stage that ``detect`` measured."""
    return Table(
        title="time per sample (ms)",
        columns=("stage", "median", "mean", "worst"),
        rows=[
            [name, *(f"{1e3 * f(seconds):.1f}" for f in (np.median, np.mean, max))]
            for name, seconds in stages.items()
        ],
    )
