"""Accuracy against the number of cameras and radars that are lost: one detector, 15 masks.

Command `crkd evaluate --dropout`. Which sensors a sample loses is drawn once per sample: its
cameras and radars are put in the order of SHA-256("seed token sensor"), and the first so many are
lost. So a set that has lost three cameras has also lost the one that the set with one lost camera
lacks, and every run, on any machine, masks the same. A detector with memory has one per case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.figure import Figure

from crkd_core.boxes import SCORED_FROM
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.evaluate.metrics import Evaluation
from crkd_core.evaluate.predict import Account, load_detector, step_or_empty
from crkd_core.evaluate.report import scope_note
from crkd_core.evaluate.scoring import EvaluateError, check_annotated, score
from crkd_core.evaluate.submission import Answer, make_submission
from crkd_core.files import write_json, write_text
from crkd_core.frame import Frame
from crkd_core.png import write_figure
from crkd_core.progress import counted
from crkd_core.sensors import CAMERAS, RADARS
from crkd_core.tables import Table, number, print_tables

if TYPE_CHECKING:
    from crkd_core.infer.memory import Memory

#: How many are lost, in the rows and columns of the table.
CAMERAS_LOST = (0, 1, 3, 6)
RADARS_LOST = (0, 1, 3, 5)


class Case(NamedTuple):
    """How many cameras and how many radars a sample has lost."""

    cameras: int
    radars: int


#: Every combination but the one without any sensor, in which there is nothing to detect with.
CASES = tuple(
    Case(cameras, radars)
    for cameras in CAMERAS_LOST
    for radars in RADARS_LOST
    if cameras < len(CAMERAS) or radars < len(RADARS)
)


def lost_sensors(token: str, case: Case, seed: int) -> tuple[str, ...]:
    """The sensors that a sample loses in a case; see the top of this file."""

    def first(sensors: Sequence[str], count: int) -> list[str]:
        def place(sensor: str) -> bytes:
            return hashlib.sha256(f"{seed} {token} {sensor}".encode()).digest()

        return sorted(sensors, key=place)[:count]

    return (*first(CAMERAS, case.cameras), *first(RADARS, case.radars))


def masked(frame: Frame, case: Case, seed: int) -> Frame:
    """The Frame without what it loses in a case, as if those sensors had died."""
    return frame.without(*lost_sensors(frame.token, case, seed))


def evaluate_dropout(
    weights: Path,
    data: Path,
    split: str,
    out: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    precision: str = "fp32",
    engine: str = "torch",
    score_threshold: float = SCORED_FROM,
    version: str | None = None,
) -> dict[Case, Evaluation]:
    """Score a detector under every case, reading each sample once.

    Writes dropout.json (all figures), dropout.md and dropout.png into ``out``; prints the tables.

    Args:
        weights: file of ``save_weights``, of a camera-radar detector.
        data: root of a nuScenes data set.
        split: name of a split.
        out: folder, made if missing.
        seed: of the choice of the lost sensors.
        device: "cpu", "cuda", "cuda:N".
        precision: "fp32", "bf16", "fp16".
        engine: what computes the network, see infer/engines/runtimes.py.
        score_threshold: weaker boxes are not scored.
        version: version folder of the data set; None = the one that holds the split.

    Raises:
        EvaluateError: a detector of other sensors, or a version without annotations.
        NuScenesError, CheckpointError, InferError: data, weights or device cannot be used.
    """
    tables = NuScenes(data, split=split, version=version)
    check_annotated(tables)
    detector = load_detector(
        weights,
        tables,
        device=device,
        precision=precision,
        engine=engine,
        score_threshold=score_threshold,
    )
    if detector.config.branches != ("camera", "radar"):
        raise EvaluateError(
            f"{weights}: cameras and radars are lost in turn, and this detector has branches for "
            f"{', '.join(detector.config.branches)}; take a camera-radar detector"
        )
    frames = NuScenesFrames.for_detectors(tables, split, detector.config)
    answers: dict[Case, list[Answer]] = {case: [] for case in CASES}
    accounts = {case: Account(sensors=detector.config.sensors) for case in CASES}
    # What is remembered was seen with the same loss.
    memories: dict[Case, Memory | None] = dict.fromkeys(CASES)
    for whole in counted(frames, f"{len(CASES)} masks of {split}", stays=True):
        for case in CASES:
            frame = masked(whole, case, seed)
            found, memories[case] = step_or_empty(detector, frame, memories[case])
            answers[case].append(Answer.to(frame, found))
            accounts[case].add(frame, usable=detector.can_use(frame))
    results = {}
    for case in counted(CASES, "scoring", stays=True):
        submission = make_submission(answers.pop(case), classes=detector.config.classes)
        results[case] = score(tables, submission, split)
    shown = dropout_tables(results)
    facts: dict[str, Any] = {
        "weights": weights.name,
        "split": split,
        "samples": len(frames),
        "seed": seed,
        "unscored": [*results[CASES[0]].unscored],
    }
    figures = [
        {
            "cameras_lost": case.cameras,
            "radars_lost": case.radars,
            **_figures(result),
            "samples_without_input": len(accounts[case].blind),
        }
        for case, result in results.items()
    ]
    write_json({**facts, "cases": figures}, out / "dropout.json", indent=2)
    notes = (scope_note(results[CASES[0]]), _never_there(accounts[CASES[0]]))
    note = " ".join(filter(None, notes))
    text = "\n".join(f"{table.title}:\n\n{table.markdown()}" for table in shown)
    write_text(text + (f"\n{note}\n" if note else ""), out / "dropout.md")
    draw_dropout(results, out / "dropout.png")
    print_tables(*shown)
    if note:
        print(note)
    for case, account in accounts.items():
        if account.blind:
            print(f"{case.cameras} cameras and {case.radars} radars lost: {account.note()}")
    print(f"written: {out}")
    return results


def _never_there(account: Account) -> str:
    """Which sensors no sample had, lost or not; "" = each had all of them at times."""
    names = [name for name in account.sensors if not account.had[name]]
    if not names:
        return ""
    return (
        f"No sample has {', '.join(names)}: they are drawn among the lost like the others, so "
        "that fewer are lost than a case says."
    )


#: Heading and key of what the pictures show.
_DRAWN = {"mAP": "mean_ap", "NDS": "nd_score"}


def _shown(results: Mapping[Case, Evaluation]) -> dict[str, str]:
    """Heading and key of what the tables show; of the classes the first, on nuScenes the car."""
    first = next(iter(next(iter(results.values())).summary["mean_dist_aps"]))
    return {**_DRAWN, f"{first} AP": f"{first}_ap", "mAVE (m/s)": "vel_err"}


def _figures(result: Evaluation) -> dict[str, float]:
    summary = result.summary
    first, ap = next(iter(summary["mean_dist_aps"].items()))
    return {
        "mean_ap": float(summary["mean_ap"]),
        "nd_score": float(summary["nd_score"]),
        f"{first}_ap": float(ap),
        **{name: float(value) for name, value in summary["tp_errors"].items()},
    }


def dropout_tables(results: Mapping[Case, Evaluation]) -> list[Table]:
    """One table per figure: cameras lost downwards, radars lost to the right."""
    figures = {case: _figures(result) for case, result in results.items()}
    return [
        Table(
            title=heading,
            columns=("cameras lost", *(f"{radars} radars lost" for radars in RADARS_LOST)),
            rows=[
                [
                    str(cameras),
                    *(
                        number(figures[case][key]) if case in figures else "-"
                        for case in (Case(cameras, radars) for radars in RADARS_LOST)
                    ),
                ]
                for cameras in CAMERAS_LOST
            ],
        )
        for heading, key in _shown(results).items()
    ]


def draw_dropout(results: Mapping[Case, Evaluation], path: Path) -> None:
    """mAP and NDS of every case as heat maps with their numbers."""
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    figures = {case: _figures(result) for case, result in results.items()}
    for axes, heading in zip(figure.subplots(1, 2), ("mAP", "NDS"), strict=True):
        grid = np.full((len(CAMERAS_LOST), len(RADARS_LOST)), np.nan)
        for case, values in figures.items():
            row, column = CAMERAS_LOST.index(case.cameras), RADARS_LOST.index(case.radars)
            grid[row, column] = values[_DRAWN[heading]]
        axes.imshow(grid, cmap="viridis", vmin=0.0, vmax=1.0)
        for (row, column), value in np.ndenumerate(grid):
            axes.text(
                column,
                row,
                "nothing\nleft" if np.isnan(value) else f"{value:.2f}",
                ha="center",
                va="center",
                color="#1c2430" if np.isnan(value) or value > 0.6 else "white",
            )
        axes.set_title(heading)
        axes.set_xlabel("radars lost, of 5")
        axes.set_ylabel("cameras lost, of 6")
        axes.set_xticks(range(len(RADARS_LOST)), [str(lost) for lost in RADARS_LOST])
        axes.set_yticks(range(len(CAMERAS_LOST)), [str(lost) for lost in CAMERAS_LOST])
    write_figure(figure, path)
