"""A detector that shows what it was given."""

from __future__ import annotations

from typing import Any

from crkd_core.boxes import Detections
from crkd_core.frame import Frame
from crkd_core.infer.detector import Detector
from crkd_core.infer.memory import Memory


class Watched(Detector):
    """Keeps the Frames that it sees."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.seen: list[Frame] = []

    def step(self, frame: Frame, memory: Memory | None) -> tuple[Detections, Memory]:
        self.seen.append(frame)
        return super().step(frame, memory)
