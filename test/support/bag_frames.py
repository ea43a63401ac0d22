"""The Frames of a bag in one call."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from crkd_core.config import ImageConfig
from crkd_core.frame import Frame
from crkd_ros.bags.frames import BagProblem, Recording
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.parameters.framing import FramingConfig


def frames_of_bag(
    path: Path,
    *,
    image: ImageConfig,
    framing: FramingConfig | None = None,
    tokens: Mapping[int, str] | None = None,
    only: Collection[int] | None = None,
    problems: list[BagProblem] | None = None,
    calibration: Calibration | None = None,
) -> Iterator[Frame]:
    """The Frames of one reading; see Recording and its ``frames``."""
    with Recording(path, framing=framing, calibration=calibration) as recording:
        yield from recording.frames(image, tokens=tokens, only=only, problems=problems)
