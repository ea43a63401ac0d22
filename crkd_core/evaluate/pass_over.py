"""A detector over a split: what it answered, and what is told of that beside the scores."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crkd_core.config import ConfigError
from crkd_core.evaluate.pictures import draw_bev, draw_cameras
from crkd_core.evaluate.predict import Account, detect, segment_score, timing_table
from crkd_core.evaluate.scored_data import SENSORS
from crkd_core.evaluate.submission import Answer
from crkd_core.frame import Frame
from crkd_core.sensors import LIDAR
from crkd_core.tables import Table

if TYPE_CHECKING:
    from crkd_core.infer.detector import Detector

#: How many samples of a split are drawn.
PICTURES = 3


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What a detector said to every sample of a split.

    Attributes:
        answers: one a sample, in their order.
        account: what the samples had for it to read.
        stages: stage -> seconds of each sample that it could use.
        cells: ``SegmentScore.summary`` of its second head; None = it has none.
        is_restricted: whether it was to see some of its sensors only.
    """

    answers: list[Answer]
    account: Account
    stages: dict[str, list[float]]
    cells: dict[str, Any] | None
    is_restricted: bool = False

    def facts(self) -> dict[str, Any]:
        """What metrics.json says beside the scores."""
        facts: dict[str, Any] = {}
        if self.is_restricted:
            facts[SENSORS] = list(self.account.sensors)
        if self.account.blind:
            facts["samples_without_input"] = len(self.account.blind)
        if self.cells is not None:
            facts["segmentation"] = self.cells
        return facts

    def tables(self) -> list[Table]:
        """Cells of the second head, samples by sensor, and times."""
        tables = [self.account.table(), timing_table(self.stages)]
        if self.cells is None:
            return tables
        # Here, because scoring files needs no torch.
        from crkd_core.evaluate.segmentation import segments_table

        return [segments_table(self.cells), *tables]


def pass_over(
    detector: Detector,
    frames: Sequence[Frame],
    split: str,
    *,
    recorded: Collection[str],
    sensors: Collection[str] = (),
) -> Pass:
    """Show a detector every sample of a split, with a bar beside.

    Args:
        detector: to be scored.
        frames: of the split.
        split: its name.
        recorded: sensors that the data set has.
        sensors: cameras and radars that the detector may see; () = all. LiDAR always stays.

    Raises:
        ConfigError: one of ``sensors`` that the detector does not read.
    """
    if unread := [name for name in sensors if name not in detector.config.sensors]:
        own = ", ".join(name for name in detector.config.sensors if name != LIDAR)
        raise ConfigError(
            f"--sensor {', '.join(unread)}: {detector.config.name} does not read it; of cameras "
            f"and radars it reads {own or 'none'}"
        )
    read = [name for name in detector.config.sensors if name in recorded]
    if sensors:
        read = [name for name in read if name in {LIDAR, *sensors}]
    account, stages = Account(sensors=tuple(read)), dict[str, list[float]]()
    cells = segment_score(detector)
    found = detect(
        detector,
        frames,
        f"evaluating {split}",
        stays=True,
        stages=stages,
        account=account,
        cells=cells,
    )
    return Pass(
        answers=[Answer.to(frame, boxes) for frame, boxes in found],
        account=account,
        stages=stages,
        cells=None if cells is None else cells.summary(),
        is_restricted=bool(sensors),
    )


def draw_samples(
    recorded: Sequence[Frame],
    answers: Sequence[Answer],
    out: Path,
    *,
    cameras: Sequence[str],
    name: Callable[[str], str],
) -> dict[str, Path]:
    """Draw some samples with their answers, spread over the split.

    Args:
        recorded: all samples, with images as they were recorded.
        answers: one a sample.
        out: folder for the pictures.
        cameras: those of the data set.
        name: token -> what a sample is called.

    Returns:
        Caption -> picture.
    """
    pictures: dict[str, Path] = {}
    for i in sorted({int(i) for i in np.linspace(0, len(answers) - 1, PICTURES + 2)[1:-1]}):
        frame, found = recorded[i], answers[i].detections
        above, photos = (out / f"{kind}_{i:05d}.png" for kind in ("bev", "cameras"))
        draw_bev(frame, found, above)
        draw_cameras(frame, found, photos, cameras=cameras)
        pictures[f"{name(frame.token)}: from above"] = above
        pictures[f"{name(frame.token)}: in the cameras"] = photos
    return pictures
