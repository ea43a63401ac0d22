"""nuScenes metrics of a submission on a data set: which samples count, and in which order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.data.nuscenes.tables import SPLIT_SUFFIX, custom_splits, read_table
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import DetectionRules, Evaluation, evaluate
from crkd_core.evaluate.submission import Submission
from crkd_core.evaluate.truth import SampleTruth


class EvaluateError(ValueError):
    """A submission that does not fit the split, or a split that cannot be scored."""


@dataclass(frozen=True, kw_only=True)
class Countable:
    """What of a submission and of a data set the metrics look at.

    Attributes:
        tokens: S samples; ``ScoredBoxes.sample`` indexes them.
        ego: [S, 2] global position of the vehicle, metres.
        truth, detections: global boxes of the submission's classes, in the data set's order.
        unscored: classes of the data set that the submission has not.
        rules: the benchmark's numbers.
    """

    tokens: tuple[str, ...]
    ego: NDArray[np.float64]
    truth: ScoredBoxes
    detections: ScoredBoxes
    unscored: tuple[str, ...]
    rules: DetectionRules

    def score(self) -> Evaluation:
        """Their metrics."""
        result = evaluate(self.truth, self.detections, rules=self.rules)
        return dataclasses.replace(result, unscored=self.unscored)


def check_annotated(tables: NuScenes) -> None:
    """Refuse a data set without truth.

    Raises:
        EvaluateError: its version has none.
    """
    if not tables.annotated:
        raise EvaluateError(unscored_note(tables, "the results.json that crkd evaluate writes"))


def unscored_note(tables: NuScenes, results: Path | str) -> str:
    """Why nothing of a data set without truth is scored, and what its results are good for."""
    return (
        f"{tables.root}: {tables.version} has no annotations, so nothing can be scored; send "
        f"{results} to the benchmark's server, or learn its boxes (--pseudo-labels)"
    )


def score(
    tables: NuScenes,
    submission: Submission,
    split: str | Sequence[str],
    *,
    rules: DetectionRules | None = None,
) -> Evaluation:
    """nuScenes metrics of a submission, over its own classes; see ``countable``."""
    return countable(tables, submission, split, rules=rules).score()


def countable(
    tables: NuScenes,
    submission: Submission,
    split: str | Sequence[str],
    *,
    rules: DetectionRules | None = None,
) -> Countable:
    """What the metrics of a submission are computed from.

    Boxes of equal score keep the devkit's order: that of the file for the predefined splits, that
    of sample.json for splits of splits.json.

    Args:
        tables: the data set; what it holds of other classes than the submission's does not count.
        submission: global boxes; every sample of the split must be there, with boxes or without.
        split: name of a split, or sample tokens. Samples outside a split of splits.json are
            ignored, as the devkit does; with a predefined split or with tokens they are refused.
        rules: the benchmark's numbers.

    Raises:
        EvaluateError: samples missing, unknown or too many; a version without annotations; a class
            that the data set does not know.
        NuScenesError: unknown split.
    """
    check_annotated(tables)
    unknown = [name for name in submission.boxes.classes if name not in tables.classes]
    if unknown:
        raise EvaluateError(
            f"submission: {tables.root} knows no {', '.join(unknown)}, so they cannot be scored; "
            f"it knows {', '.join(tables.classes)}"
        )
    wanted = tables.samples_of(split) if isinstance(split, str) else list(split)
    folder = tables.root / tables.version
    custom = isinstance(split, str) and split in custom_splits(folder)
    given = set(submission.tokens)
    where = f"split {split!r}" if isinstance(split, str) else "the samples asked for"
    missing = [token for token in wanted if token not in given]
    if missing:
        raise EvaluateError(
            f"submission: {len(missing)} of {len(wanted)} samples of {where} are missing, first "
            f"{missing[0]}; give an empty list where nothing was found"
        )
    inside = set(wanted)
    for token in submission.tokens:
        if token not in inside and not custom:
            tables.sample_row(token)  # Raises if the data set does not have it at all.
            raise EvaluateError(f"submission: sample {token} is not in {where}; leave it out")

    if custom and not (isinstance(split, str) and split in SPLIT_SUFFIX):
        order = [str(row["token"]) for rows in read_table(folder / "sample.json") for row in rows]
        tokens = [token for token in order if token in inside]
    else:
        tokens = [token for token in submission.tokens if token in inside]
    truth = SampleTruth.read(tables, tokens, rules=rules)
    place = {token: i for i, token in enumerate(tokens)}
    renumber = np.array([place.get(token, -1) for token in submission.tokens], np.int64)
    boxes = dataclasses.replace(submission.boxes, sample=renumber[submission.boxes.sample])
    rows = np.argsort(boxes.sample, kind="stable")
    boxes = boxes.select(rows[boxes.sample[rows] >= 0])
    classes = [name for name in tables.classes if name in boxes.classes]
    return Countable(
        tokens=truth.tokens,
        ego=truth.ego,
        truth=truth.boxes.of_classes(classes),
        detections=truth.countable(boxes).of_classes(classes),
        unscored=tuple(name for name in tables.classes if name not in classes),
        rules=truth.rules,
    )
