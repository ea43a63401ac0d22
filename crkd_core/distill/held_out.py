"""Drives that nothing is trained on, and what a network does on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.config import check_classes
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.evaluate.predict import detect
from crkd_core.evaluate.scoring import score
from crkd_core.evaluate.submission import Answer, make_submission
from crkd_core.infer.detector import Detector
from crkd_core.model.detector import BevDetector

#: Boxes that score less are no answers, as in ``crkd evaluate``.
SCORE_THRESHOLD = 0.02

#: mean_ap, nd_score, tp_errors and, by class, mean_dist_aps and label_tp_errors: metrics.json.
Scores = dict[str, Any]


class ProtocolError(ValueError):
    """A teacher that is not fit to teach, or drives that cannot tell."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Drives to measure on.

    Attributes:
        data: root of a nuScenes data set.
        split: name of a split of it.
        version: of the data set; None = the only one, or the one that has the split.
    """

    data: Path
    split: str
    version: str | None = None

    def tables(self) -> NuScenes:
        """The data set.

        Raises:
            NuScenesError: it cannot be used.
        """
        return NuScenes(self.data, split=self.split, version=self.version)


def measure(
    model: BevDetector,
    held_out: HeldOut,
    *,
    sensors: Sequence[str] = (),
    device: str = "cpu",
    text: str = "measuring",
) -> Scores:
    """nuScenes metrics of a network on held-out drives.

    Args:
        model: left as it is.
        held_out: the drives.
        sensors: cameras and radars that it may see; () = all.
        device: where to compute.
        text: before the bar.

    Raises:
        EvaluateError: the drives have no annotations.
        ConfigError: it has a class that the data set does not know.
        NuScenesError: the data cannot be used.
    """
    tables = held_out.tables()
    check_classes(model.config.name, model.config.classes, tables.classes)
    detector = Detector(model, device=device, score_threshold=SCORE_THRESHOLD)
    frames = NuScenesFrames.for_detectors(tables, held_out.split, model.config, sensors=sensors)
    answers = [Answer.to(frame, found) for frame, found in detect(detector, frames, text)]
    submission = make_submission(answers, classes=model.config.classes)
    summary = score(tables, submission, held_out.split).summary
    kept = ("mean_ap", "nd_score", "tp_errors", "mean_dist_aps", "label_tp_errors")
    return {name: summary[name] for name in kept}


def check_apart(held_out: HeldOut, trained: HeldOut) -> None:
    """Refuse to measure on samples that a run is trained on.

    Raises:
        ProtocolError: a sample is in both splits.
        NuScenesError: data or split cannot be used.
    """
    taught = {*trained.tables().samples_of(trained.split)}
    measured = held_out.tables().samples_of(held_out.split)
    both = [token for token in measured if token in taught]
    if both:
        raise ProtocolError(
            f"{len(both)} of {len(measured)} samples of {held_out.split} are trained on in "
            f"{trained.split}, the first is {both[0]}; hold out other drives"
        )
