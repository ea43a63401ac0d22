"""Evaluations side by side: one line per set-up, mean and spread over its seeds.

Command `crkd compare`. Spread is the sample standard deviation, shown for mAP and NDS; the file
compare.json has the numbers of every run.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from crkd_core.evaluate.report import MEAN_NAMES, Table
from crkd_core.files import write_json, write_text
from crkd_core.png import write_figure

#: Columns of a comparison, in order.
SCORES = ("mAP", "NDS", *MEAN_NAMES.values())

_SPREAD = ("mAP", "NDS")


class CompareError(ValueError):
    """An argument that is not NAME=EVALUATION, or a folder without metrics."""


def read_scores(path: Path) -> dict[str, float]:
    """SCORES of one evaluation.

    Args:
        path: the folder that `crkd evaluate` wrote, or its metrics.json.

    Raises:
        CompareError: there is no such file, or it holds no nuScenes metrics.
    """
    file = path / "metrics.json" if path.is_dir() else path
    try:
        summary = json.loads(file.read_bytes())
        errors = {name: summary["tp_errors"][error] for error, name in MEAN_NAMES.items()}
        scores = {"mAP": summary["mean_ap"], "NDS": summary["nd_score"], **errors}
        return {name: float(value) for name, value in scores.items()}
    except OSError as error:
        raise CompareError(
            f"{file}: expected the metrics.json that crkd evaluate writes: {error}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise CompareError(f"{file}: no nuScenes detection metrics: {error!r}") from error


def parse(arguments: Sequence[str]) -> dict[str, list[Path]]:
    """NAME=PATH arguments as name -> evaluations, both in the order given.

    Raises:
        CompareError: no argument, one without name or path, or an evaluation named twice.
    """
    groups: dict[str, list[Path]] = {}
    for argument in arguments:
        name, separator, path = argument.partition("=")
        if not (separator and name and path):
            raise CompareError(
                f"expected NAME=EVALUATION, for example plain=out/0; got {argument!r}"
            )
        group = groups.setdefault(name, [])
        if Path(path) in group:
            raise CompareError(f"{name}: {path} is given twice; a spread needs different runs")
        group.append(Path(path))
    if not groups:
        raise CompareError("nothing to compare; give NAME=EVALUATION once per evaluation")
    return groups


def compare(groups: Mapping[str, Sequence[Path]], out: Path | None = None) -> Table:
    """One row per name; with ``out`` also compare.md, compare.json and compare.png there.

    Args:
        groups: name -> evaluations, which differ in nothing but the seed.
        out: folder for the files; None = no files.

    Raises:
        CompareError: see ``read_scores``.
    """
    scores = {name: [read_scores(path) for path in paths] for name, paths in groups.items()}
    rows = [
        [name, str(len(runs)), *(_cell(column, runs) for column in SCORES)]
        for name, runs in scores.items()
    ]
    table = Table(title="nuScenes detection", columns=("set-up", "runs", *SCORES), rows=rows)
    if out is not None:
        write_text(table.markdown(), out / "compare.md")
        write_json(scores, out / "compare.json", indent=2)
        _draw(scores, out / "compare.png")
    return table


def _cell(column: str, runs: Sequence[Mapping[str, float]]) -> str:
    values = [run[column] for run in runs]
    mean = f"{statistics.fmean(values):.3f}"
    if column in _SPREAD and len(values) > 1:
        return f"{mean} ± {statistics.stdev(values):.3f}"
    return mean


def _draw(scores: Mapping[str, list[dict[str, float]]], path: Path) -> None:
    """mAP and NDS of every run as a dot, their mean as a bar."""
    names = list(scores)
    figure = Figure(figsize=(9, 0.7 + 0.4 * len(names)), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2, sharey=True), ("mAP", "NDS"), strict=True):
        for row, name in enumerate(names):
            values = [run[column] for run in scores[name]]
            axes.barh(row, statistics.fmean(values), height=0.6, color="#9db8d9")
            axes.plot(values, np.full(len(values), row), "o", color="#1c2430", markersize=4)
        axes.set_title(column)
        axes.set_yticks(range(len(names)), names)
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
    write_figure(figure, path)
