"""Intersection over union of what the second head says of the cells (docs/method.md 1.11).

Shapes: S classes, X Y grid cells, T thresholds.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.config import DetectorConfig
from crkd_core.data.grid import in_grid
from crkd_core.frame import Frame
from crkd_core.losses.segments import UNKNOWN, YES, segment_truth
from crkd_core.segments import Segments
from crkd_core.tables import Table, number

#: A cell is of a class if its probability reaches this; and those among which the best is sought,
#: as BEVFusion reports it (Liu et al. 2023).
THRESHOLD = 0.5
THRESHOLDS = (0.35, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65)


class SegmentScore:
    """Counts cells sample by sample; one union and one intersection for the whole split.

    Args:
        config: the detector's, with a second head.
    """

    def __init__(self, config: DetectorConfig) -> None:
        self._config = config
        shape = (len(config.segment_classes), len(THRESHOLDS))
        self._both, self._either = (np.zeros(shape, np.int64) for _ in range(2))
        self.samples = 0

    def add(self, frame: Frame, said: Segments | None) -> None:
        """One sample.

        Args:
            frame: with its truth, as the reader gives it.
            said: None = nothing was said, because there was nothing to see: nothing is found.
        """
        moved = in_grid(frame, self._config)
        target = segment_truth(moved.truth, moved.drivable, self._config)
        probability = np.zeros(target.shape, np.float32) if said is None else said.probability
        self.count(probability, target)

    def count(self, probability: NDArray[np.float32], target: NDArray[np.uint8]) -> None:
        """Probabilities [S, X, Y] and what is true, of losses.segments; unknown cells are out."""
        self.samples += 1
        known, true = target != UNKNOWN, target == YES
        for index, threshold in enumerate(THRESHOLDS):
            found = (probability >= threshold) & known
            self._both[:, index] += (found & true).sum((1, 2))
            self._either[:, index] += (found | true).sum((1, 2))

    def summary(self) -> dict[str, Any]:
        """Per class "iou", "best_iou" and "best_threshold"; None where there is nothing to count.

        That is where no known cell is of the class and none was called so at any threshold; where
        cells were called so and none is, the IoU is 0. "mean_iou" and "mean_best_iou" are means
        over the classes that have one.
        """
        classes: dict[str, Any] = {}
        for row, name in enumerate(self._config.segment_classes):
            values: dict[str, float | None] = dict.fromkeys(
                ("iou", "best_iou", "best_threshold"), None
            )
            if self._either[row].any():
                share = self._both[row] / np.maximum(self._either[row], 1)
                best = int(share.argmax())
                values = {
                    "iou": float(share[THRESHOLDS.index(THRESHOLD)]),
                    "best_iou": float(share[best]),
                    "best_threshold": THRESHOLDS[best],
                }
            classes[name] = values
        means = {}
        for name in ("iou", "best_iou"):
            known = [values[name] for values in classes.values() if values[name] is not None]
            means[f"mean_{name}"] = float(np.mean(known)) if known else None
        return {"samples": self.samples, **means, "classes": classes}


def segments_table(summary: dict[str, Any]) -> Table:
    """The table of ``SegmentScore.summary``."""

    def shown(value: float | None) -> str:
        return "-" if value is None else number(value)

    rows = [
        [name, shown(one["iou"]), shown(one["best_iou"]), shown(one["best_threshold"])]
        for name, one in summary["classes"].items()
    ]
    rows.append(["mean", shown(summary["mean_iou"]), shown(summary["mean_best_iou"]), ""])
    return Table(
        title="cells of the ground (intersection over union)",
        columns=("class", f"at {THRESHOLD}", "best", "threshold"),
        rows=rows,
    )
