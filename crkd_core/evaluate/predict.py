"""Read a Frame, detect, keep the answer: what every evaluation does before it scores."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from crkd_core.boxes import Detections
from crkd_core.config import Precision, check_classes
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.frame import Frame
from crkd_core.progress import counted

if TYPE_CHECKING:
    from crkd_core.infer.detector import Detector


def load_detector(
    weights: Path,
    tables: NuScenes,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    score_threshold: float,
) -> Detector:
    """A detector that can be scored on a data set.

    Args:
        weights: file of ``save_weights``.
        tables: the data set.
        device: "cpu", "cuda", "cuda:N".
        precision: "fp32", "bf16", "fp16".
        score_threshold: weaker boxes are no answers.

    Raises:
        ConfigError: it has a class that the data set does not know.
        CheckpointError, InferError: weights, device or precision cannot be used.
    """
    # Here, because scoring a file needs no torch, and torch takes seconds to import.
    from crkd_core.infer.detector import Detector

    detector = Detector.load(
        weights,
        device=device,
        precision=cast(Precision, precision),  # checked there
        score_threshold=score_threshold,
    )
    check_classes(detector.config.name, detector.config.classes, tables.classes)
    return detector


def detect(
    detector: Detector,
    frames: Iterable[Frame],
    text: str,
    *,
    total: int | None = None,
    stays: bool = False,
    stages: dict[str, list[float]] | None = None,
) -> Iterator[tuple[Frame, Detections]]:
    """Each Frame with what the detector finds in it, one by one, with a bar beside.

    Args:
        detector: sees every Frame once, in this order.
        frames: to be read.
        text: before the bar.
        total: how many Frames there are, where ``frames`` does not know.
        stays: whether the bar is still there at the end.
        stages: takes the seconds of each Frame, by stage: "read" and those of ``Detector.timing``.
    """
    start = time.perf_counter()
    for frame in counted(frames, text, total=total, stays=stays):
        read = time.perf_counter() - start
        found = detector(frame)
        if stages is not None:
            for stage, seconds in {"read": read, **detector.timing}.items():
                stages.setdefault(stage, []).append(seconds)
        yield frame, found
        start = time.perf_counter()
