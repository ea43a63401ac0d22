"""A detector's boxes in the place of those that nobody drew.

A teacher with LiDAR looks once at drives without boxes; what it is sure of is then learned like
truth, by the same losses and under the same augmentation. So hard targets distil without a teacher
in memory and at the cost of a plain step (docs/method.md 1.7).
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crkd_core import geometry
from crkd_core.boxes import Truth
from crkd_core.evaluate.reading import read_submission
from crkd_core.files import read_file
from crkd_core.frame import Frame
from crkd_core.train.start import TrainError

#: Returns that nobody has counted; a box with them is learned (``Truth.counts``).
_UNCOUNTED = -1


class PseudoLabels:
    """The boxes of a nuScenes results JSON, such as ``crkd evaluate`` writes, by sample.

    Args:
        path: the file.
        score: weaker boxes are left out, and are ground to the losses.
        tokens: samples that it must speak about; one with an empty list has no boxes.
        classes: those of the detector that learns; boxes of others are left out.

    Raises:
        SubmissionError: the file cannot be read.
        TrainError: it says nothing about some of ``tokens``, or no box of them is as sure.
        BoxError: a class that the file cannot speak about.
    """

    def __init__(
        self, path: Path, *, score: float, tokens: Sequence[str], classes: Sequence[str]
    ) -> None:
        said = read_submission(path)
        place = {token: index for index, token in enumerate(said.tokens)}
        if lacking := [token for token in tokens if token not in place]:
            raise TrainError(
                f"{path}: has no answer to {len(lacking)} of {len(tokens)} unlabelled samples, "
                f"first {lacking[0]}; make one of these drives by crkd evaluate --weights "
                "TEACHER --split with the split of --unlabelled-split"
            )
        self.path, self.score = path, score
        boxes = said.boxes.of_classes(classes)
        asked = np.isin(boxes.sample, [place[token] for token in tokens])
        self._boxes = boxes.select(np.flatnonzero(asked & (boxes.score >= score)))
        if not len(self._boxes):
            best = f"the best has {boxes.score[asked].max():.3f}" if asked.any() else "it has none"
            raise TrainError(
                f"{path}: expected boxes with a score of at least {score:g} in the unlabelled "
                f"samples, {best}; lower unlabelled.pseudo_score, or take a better teacher"
            )
        found = {classes[label] for label in self._boxes.label}
        if absent := [name for name in classes if name not in found]:
            warnings.warn(
                f"{path}: no box of {', '.join(absent)} has a score of at least {score:g} in the "
                "unlabelled samples, so there these are learned as ground",
                stacklevel=2,
            )
        starts = np.searchsorted(self._boxes.sample, np.arange(len(place) + 1))
        self._rows = {token: starts[place[token] : place[token] + 2] for token in tokens}
        self._digest = hashlib.sha256(read_file(path)).hexdigest()[:16]

    def __len__(self) -> int:
        """How many boxes are learned."""
        return len(self._boxes)

    def digest(self) -> str:
        """Changes when the file or the least score does."""
        return f"{self._digest}@{self.score:g}"

    def truth_of(self, frame: Frame) -> Truth:
        """The boxes of a Frame's sample, in its ego axes, as if they had been annotated.

        Raises:
            TrainError: a Frame without a pose, or of a sample that was not asked for.
        """
        if frame.global_T_ego is None or frame.token not in self._rows:
            raise TrainError(
                f"{self.path}: sample {frame.token!r}: expected one with a pose that the file "
                "speaks about"
            )
        boxes = self._boxes.select(np.arange(*self._rows[frame.token]))
        uncounted = np.full(len(boxes), _UNCOUNTED)
        arrays = boxes.arrays()
        del arrays["sample"], arrays["score"]
        truth = Truth(
            **arrays, classes=boxes.classes, num_lidar_points=uncounted, num_radar_points=uncounted
        )
        return truth.transformed(geometry.invert(frame.global_T_ego))
