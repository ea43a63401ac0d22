"""Drives that nothing is trained on, and what a network does on them."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.boxes import SCORED_FROM
from crkd_core.config import check_classes, to_dict
from crkd_core.data.sets import DataSet, SetFrames, frames_of, open_set
from crkd_core.data.vod.layout import Vod
from crkd_core.data.vod.reader import VodFrames
from crkd_core.distill.teacher import checksum
from crkd_core.evaluate.predict import detect
from crkd_core.evaluate.scoring import score
from crkd_core.evaluate.submission import Answer, make_submission
from crkd_core.evaluate.vod.distance import score_by_distance
from crkd_core.files import write_json
from crkd_core.infer.detector import Detector
from crkd_core.model.detector import BevDetector

#: mean_ap, nd_score, tp_errors and, by class, mean_dist_aps and label_tp_errors: metrics.json.
Scores = dict[str, Any]


class ProtocolError(ValueError):
    """A teacher that is not fit to teach, or drives that cannot tell."""


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Drives to measure on.

    Attributes:
        data: root of a nuScenes or View-of-Delft data set.
        split: name of a split of it.
        version: of the data set; None = the only one, or the one that has the split.
    """

    data: Path
    split: str
    version: str | None = None

    def tables(self) -> DataSet:
        """The data set.

        Raises:
            NuScenesError, VodError: it cannot be used.
        """
        return open_set(self.data, split=self.split, version=self.version)


def measured(
    model: BevDetector,
    held_out: HeldOut,
    *,
    kept: Path | None,
    sensors: Sequence[str] = (),
    device: str = "cpu",
    text: str = "measuring",
) -> Scores:
    """``measure``, or what it said before of the same network on the same drives.

    Args:
        model: see ``measure``, which also says what is raised.
        held_out: the same.
        kept: folder of what was measured. Of several processes that ask for the same, one
            measures and the others wait for it. None = nothing is kept.
        sensors: as of ``measure``.
        device: the same.
        text: the same.
    """
    if kept is None:
        return measure(model, held_out, sensors=sensors, device=device, text=text)
    frames = frames_of(held_out.tables(), held_out.split, model.config, sensors=sensors)
    facts = [checksum(model), to_dict(model.config), frames.digest(), sensors, SCORED_FROM]
    name = hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:16]
    kept.mkdir(parents=True, exist_ok=True)
    with (kept / f".{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(OSError, ValueError):
            known: Scores = json.loads((kept / f"{name}.json").read_text())
            return known
        scores = measure(model, held_out, sensors=sensors, device=device, text=text)
        write_json(scores, kept / f"{name}.json")
    return scores


def measure(
    model: BevDetector,
    held_out: HeldOut,
    *,
    sensors: Sequence[str] = (),
    device: str = "cpu",
    text: str = "measuring",
) -> Scores:
    """nuScenes' metrics of a network on held-out drives, on View-of-Delft too.

    Args:
        model: left as it is.
        held_out: the drives.
        sensors: cameras and radars that it may see; () = all.
        device: where to compute.
        text: before the bar.

    Raises:
        EvaluateError: the drives have no annotations.
        ConfigError: it has a class that the data set does not know.
        NuScenesError, VodError: the data cannot be used.
    """
    tables = held_out.tables()
    check_classes(model.config.name, model.config.classes, tables.classes)
    detector = Detector(model, device=device, score_threshold=SCORED_FROM)
    frames = frames_of(tables, held_out.split, model.config, sensors=sensors)
    answers = [Answer.to(frame, found) for frame, found in detect(detector, frames, text)]
    summary = summary_of(answers, frames, held_out, classes=model.config.classes)
    kept = ("mean_ap", "nd_score", "tp_errors", "mean_dist_aps", "label_tp_errors")
    return {name: summary[name] for name in kept}


def summary_of(
    answers: Sequence[Answer], frames: SetFrames, held_out: HeldOut, *, classes: Sequence[str]
) -> Scores:
    """nuScenes' metrics of answers to held-out frames: everything that metrics.json has.

    Args:
        answers: one a frame, of a detector of ``classes``.
        frames: of the split.
        held_out: what they are of.
        classes: the detector's.

    Raises:
        EvaluateError: the drives have no annotations.
    """
    if isinstance(frames, VodFrames):
        return score_by_distance(frames, [answer.detections for answer in answers]).summary
    submission = make_submission(answers, classes=classes)
    return score(frames.tables, submission, held_out.split).summary


def check_apart(held_out: HeldOut, trained: HeldOut) -> None:
    """Refuse to measure on samples that a run is trained on.

    Raises:
        ProtocolError: a sample is in both splits.
        NuScenesError, VodError: data or split cannot be used.
    """
    ours, theirs = trained.tables(), held_out.tables()
    taught = {*ours.samples_of(trained.split)}
    measured = theirs.samples_of(held_out.split)
    both = [token for token in measured if token in taught]
    if isinstance(ours, Vod) and isinstance(theirs, Vod):
        # Names are numbers, and another recording has the same ones.
        both = [name for name in both if _told(ours, name) == _told(theirs, name)]
    if both:
        raise ProtocolError(
            f"{len(both)} of {len(measured)} samples of {held_out.split} are trained on in "
            f"{trained.split}, the first is {both[0]}; hold out other drives"
        )


def _told(tables: Vod, name: str) -> tuple[bytes, bytes]:
    """What tells a frame of one recording from that of another: labels and pose."""
    labels = tables.labels(name)
    return b"" if labels is None else labels.read_bytes(), tables.pose(name).read_bytes()
