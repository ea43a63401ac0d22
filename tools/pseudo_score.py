"""Which boxes of a teacher to learn: `python tools/pseudo_score.py RESULTS --data DATA`.

Precision, recall and F1 of the boxes of a results JSON by their least score, matched as nuScenes
does at 2 m: for ``unlabelled.pseudo_score``, on drives with truth that the teacher does not know.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_core.command import run_function
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.evaluate.matching import ScoredBoxes, match
from crkd_core.evaluate.reading import read_submission
from crkd_core.evaluate.scoring import countable
from crkd_core.tables import Table, print_tables

#: Metres within which a box is that of an object.
NEAR = 2.0
SCORES = (0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5)
COLUMNS = ("least score", "boxes", "precision", "recall", "F1")


def row(truth: ScoredBoxes, found: ScoredBoxes, least: float) -> list[str]:
    """What the boxes with at least this score are worth.

    Greedy matching goes from the best score down, so weaker boxes change nothing above them.
    """
    sure = found.select(found.score >= least)
    met = int((match(truth, sure, (NEAR,)) >= 0).sum())
    precision, recall = met / max(1, len(sure)), met / max(1, len(truth))
    f1 = 2 * met / max(1, len(sure) + len(truth))
    return [f"{least:g}", str(len(sure)), f"{precision:.3f}", f"{recall:.3f}", f"{f1:.3f}"]


def main(
    results: Annotated[Path, typer.Argument(help="A nuScenes results JSON.")],
    data: Annotated[Path, typer.Option(help="Root of a nuScenes data set.")],
    split: Annotated[str, typer.Option(help="Its split, or scenes.")] = "val",
) -> None:
    """Precision, recall and F1 of a teacher's boxes by their least score."""
    counted = countable(NuScenes(data, split=split), read_submission(results), split)
    rows = [row(counted.truth, counted.detections, least) for least in SCORES]
    print_tables(Table(title=f"{results} on {split}", columns=COLUMNS, rows=rows))


if __name__ == "__main__":
    run_function(main)
