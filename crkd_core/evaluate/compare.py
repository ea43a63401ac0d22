"""Evaluations side by side: one line per set-up, mean and spread over its seeds.

Command `crkd compare`. Spread is the sample standard deviation, shown for what a benchmark ranks
by; the file compare.json has the numbers of every run.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crkd_core.evaluate.report import MEAN_NAMES
from crkd_core.evaluate.scored_data import DATA, SENSORS
from crkd_core.files import read_file, write_json, write_text
from crkd_core.png import plain, write_figure
from crkd_core.tables import Table, number
from crkd_core.train.run_folder import LOG

#: Columns of a comparison on nuScenes, in order.
SCORES = ("mAP", "NDS", *MEAN_NAMES.values())


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """What is compared of the metrics of one benchmark.

    Attributes:
        title: over the table.
        scores: columns, in order.
        ranked: those with a spread, which are drawn.
        digits: behind the point.
    """

    title: str
    scores: tuple[str, ...]
    ranked: tuple[str, str]
    digits: int


NUSCENES = Benchmark(title="nuScenes detection", scores=SCORES, ranked=("mAP", "NDS"), digits=3)
#: Column -> area and average of metrics.json.
_VOD_COLUMNS = {
    f"{area} {name}": (key, average)
    for area, key in (("entire", "entire_area"), ("corridor", "driving_corridor"))
    for name, average in (("3D", "3d"), ("BEV", "bev"), ("AOS", "aos"))
}
VOD = Benchmark(
    title="View-of-Delft, means over the classes: AP (%)",
    scores=tuple(_VOD_COLUMNS),
    ranked=("entire 3D", "corridor 3D"),
    digits=2,
)


class CompareError(ValueError):
    """An argument that names no folder, or a folder without metrics."""


def read_scores(path: Path) -> dict[str, float]:
    """SCORES of one evaluation on nuScenes.

    Args:
        path: the folder that `crkd evaluate` wrote, or its metrics.json.

    Raises:
        CompareError: there is no such file, or it holds no nuScenes metrics.
    """
    found = read_evaluation(path)
    if found.benchmark is not NUSCENES:
        raise CompareError(
            f"{path}: expected nuScenes detection metrics, got {found.benchmark.title}"
        )
    return found.scores


@dataclass(frozen=True, kw_only=True)
class Scored:
    """One evaluation as it is compared.

    Attributes:
        path: as it was named.
        benchmark: which metrics it has.
        scores: of them, by column.
        alike: what runs that are averaged have in common: "samples", "classes" and "sensors" ->
            what tells them from others, and in words; without what a file of an earlier version
            does not say.
    """

    path: Path
    benchmark: Benchmark
    scores: dict[str, float]
    alike: dict[str, tuple[str, str]]


def read_evaluation(path: Path) -> Scored:
    """The scores of an evaluation, and what they are of.

    Raises:
        CompareError: there is no such file, or it holds no metrics.
    """
    file = _file(path)
    try:
        summary = json.loads(read_file(file))
        if summary.get("metrics") == "View-of-Delft":
            found = {
                name: summary[area]["mean"][average]
                for name, (area, average) in _VOD_COLUMNS.items()
            }
            classes = [name for name in summary["entire_area"] if name != "mean"]
            return _scored(path, VOD, found, _alike(summary, classes))
        errors = {name: summary["tp_errors"][error] for error, name in MEAN_NAMES.items()}
        scores = {"mAP": summary["mean_ap"], "NDS": summary["nd_score"], **errors}
        return _scored(path, NUSCENES, scores, _alike(summary, summary.get("mean_dist_aps", ())))
    except OSError as error:
        raise CompareError(
            f"{file}: expected the metrics.json that crkd evaluate writes: {error}"
        ) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CompareError(
            f"{file}: no nuScenes detection metrics, nor those of View-of-Delft: {error!r}"
        ) from error


def _scored(
    path: Path,
    benchmark: Benchmark,
    scores: Mapping[str, Any],
    alike: dict[str, tuple[str, str]],
) -> Scored:
    numbers = {name: float(value) for name, value in scores.items()}
    return Scored(path=path, benchmark=benchmark, scores=numbers, alike=alike)


def _alike(summary: Mapping[str, Any], classes: Iterable[str]) -> dict[str, tuple[str, str]]:
    found = {}
    if data := summary.get(DATA):
        # A split may have several names, such as a list of its scenes.
        digest, words = data["digest"], f"{data['split']} ({data['samples']} samples"
        found["samples"] = digest, f"{words}, digest {digest})"
    if names := ", ".join(sorted(classes)):
        found["classes"] = names, names
    seen = ", ".join(summary.get(SENSORS, ())) or "all that it reads"
    found["sensors"] = seen, seen
    return found


def _file(path: Path) -> Path:
    """The metrics.json of a folder; of a file the path as it is."""
    return path / "metrics.json" if path.is_dir() else path


def parse(arguments: Sequence[str]) -> tuple[dict[str, list[Path]], dict[str, list[Path]]]:
    """[NAME=]PATH arguments as name -> evaluations, and as name -> training runs.

    All are in the order given. What a folder is, it says itself: one with a log is a run, one with
    scores an evaluation, one with both is both. A path without a name is its own name.

    Raises:
        CompareError: no argument, one without name or path, nothing at a path, a folder with
            neither log nor scores, or one named twice.
    """
    evaluations: dict[str, list[Path]] = {}
    runs: dict[str, list[Path]] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        if not separator or Path(argument).exists():
            name = text = argument
        if not (name and text):
            raise CompareError(f"expected NAME=FOLDER, for example plain=out/0; got {argument!r}")
        path = Path(text)
        if not path.exists():
            raise CompareError(f"{text}: there is nothing; expected a folder, or NAME=FOLDER")
        is_run = (path / LOG).is_file()
        is_evaluation = path.is_file() or (path / "metrics.json").is_file()
        if not is_run and not is_evaluation:
            raise CompareError(
                f"{path}: expected metrics.json of crkd evaluate, or {LOG} of crkd train "
                "or distill; it has neither"
            )
        for groups, belongs in ((evaluations, is_evaluation), (runs, is_run)):
            if not belongs:
                continue
            group = groups.setdefault(name, [])
            # A folder may be named by its metrics.json, and in many ways.
            if _file(path).resolve() in [_file(one).resolve() for one in group]:
                raise CompareError(f"{name}: {path} is given twice; a spread needs different runs")
            group.append(path)
    if not (evaluations or runs):
        raise CompareError("nothing to compare; give [NAME=]FOLDER once per evaluation or run")
    return evaluations, runs


def compare(groups: Mapping[str, Sequence[Path]], out: Path | None = None) -> Table:
    """One row per name; with ``out`` also compare.md, compare.json and compare.png there.

    Args:
        groups: name -> evaluations, which differ in nothing but the seed.
        out: folder for the files; None = no files.

    Raises:
        CompareError: see ``read_evaluation``; the metrics are of two benchmarks; or runs of one
            name are of other samples or of other classes.
    """
    read = {name: [read_evaluation(path) for path in paths] for name, paths in groups.items()}
    kinds = {one.benchmark.title: name for name, runs in read.items() for one in runs}
    if len(kinds) > 1:
        mixed = "; ".join(f"{name} of {title}" for title, name in kinds.items())
        raise CompareError(f"metrics of two benchmarks cannot be compared: {mixed}")
    note = _differences(read)
    benchmark = next(one.benchmark for runs in read.values() for one in runs)
    scores = {name: [one.scores for one in runs] for name, runs in read.items()}
    rows = [
        [name, str(len(runs)), *(_cell(column, runs, benchmark) for column in benchmark.scores)]
        for name, runs in scores.items()
    ]
    columns = ("set-up", "runs", *benchmark.scores)
    title = f"{benchmark.title}\n{note}" if note else benchmark.title
    table = Table(title=title, columns=columns, rows=rows)
    if out is not None:
        text = table.markdown() + (f"\n{note}\n" if note else "")
        write_text(text, out / "compare.md")
        write_json(scores, out / "compare.json", indent=2)
        _draw(scores, benchmark, out / "compare.png")
    return table


def _differences(read: Mapping[str, Sequence[Scored]]) -> str:
    """A line on what names differ in beside their scores; "" = nothing that is known.

    Raises:
        CompareError: runs of one name differ in it.
    """
    notes = []
    for kind in ("samples", "classes", "sensors"):
        words: dict[str, str] = {}
        names: dict[str, list[str]] = {}
        for name, runs in read.items():
            known = [(one.path, *one.alike[kind]) for one in runs if kind in one.alike]
            for path, key, text in known:
                first, other, was = known[0]
                if key != other:
                    raise CompareError(
                        f"{name}: runs of one name are averaged, and their {kind} differ: {first} "
                        f"has {was}; {path} has {text}; give them two names"
                    )
            if known:
                _, key, text = known[0]
                words.setdefault(key, text)
                names.setdefault(key, []).append(name)
        # Different sensors are compared on purpose, and say so by their names.
        if len(names) > 1 and kind != "sensors":
            each = "; ".join(f"{', '.join(of)}: {words[key]}" for key, of in names.items())
            notes.append(f"Not of the same {kind}. {each}.")
    return " ".join(notes)


def _cell(column: str, runs: Sequence[Mapping[str, float]], benchmark: Benchmark) -> str:
    values, digits = [run[column] for run in runs], benchmark.digits
    mean = number(statistics.fmean(values), digits)
    if column in benchmark.ranked and len(values) > 1:
        return f"{mean} ± {statistics.stdev(values):.{digits}f}"
    return mean


def _draw(scores: Mapping[str, list[dict[str, float]]], benchmark: Benchmark, path: Path) -> None:
    """What is ranked by of every run as a dot, their mean as a bar."""
    names = list(scores)
    figure = Figure(figsize=(9, 0.7 + 0.4 * len(names)), layout="constrained")
    for axes, column in zip(figure.subplots(1, 2, sharey=True), benchmark.ranked, strict=True):
        for row, name in enumerate(names):
            values = [run[column] for run in scores[name]]
            axes.barh(row, statistics.fmean(values), height=0.6, color="#9db8d9")
            axes.plot(values, np.full(len(values), row), "o", color="#1c2430", markersize=4)
        axes.set_title(column)
        axes.set_yticks(range(len(names)), [plain(name) for name in names])
        axes.set_ylim(len(names) - 0.5, -0.5)
        axes.grid(axis="x", alpha=0.3)
    write_figure(figure, path)
