"""What boxes above a score are worth, on boxes counted by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
from pseudo_score import row

from crkd_core.evaluate.matching import ScoredBoxes


def boxes(x: list[float], score: list[float]) -> ScoredBoxes:
    """Cars of one sample on a line."""
    none = ScoredBoxes.empty(("car", "bus"))
    picked = {name: np.zeros((len(x), *array.shape[1:]), array.dtype)
              for name, array in none.arrays().items()}  # fmt: skip
    picked["center"][:, 0], picked["score"][:] = x, score
    return dataclasses.replace(none, **picked)


def test_boxes_above_a_score_are_counted() -> None:
    truth = boxes([0, 10, 20, 30], [1, 1, 1, 1])
    # Two meet, one is a second box of the first object, one is 3 m off, one is weak and meets.
    found = boxes([0.5, 9.0, 1.0, 23.0, 30.0], [0.9, 0.8, 0.7, 0.6, 0.2])
    assert row(truth, found, 0.5) == ["0.5", "4", "0.500", "0.500", "0.500"]
    assert row(truth, found, 0.1) == ["0.1", "5", "0.600", "0.750", "0.667"]
    other = dataclasses.replace(found, label=np.ones(5, np.int64))
    assert row(truth, other, 0.1)[2:] == ["0.000", "0.000", "0.000"]
    assert row(truth, found, 0.95) == ["0.95", "0", "0.000", "0.000", "0.000"]
