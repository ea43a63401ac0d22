"""The scores of a report: tables, parts of the data, and precision over recall."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crkd_core.evaluate.metrics import ERROR_NAMES, Evaluation
from crkd_core.evaluate.pictures import draw_precision_recall
from crkd_core.evaluate.report import MEAN_NAMES, figure, paragraphs, scope_note
from crkd_core.evaluate.segmentation import segments_table
from crkd_core.evaluate.slices import slices_table
from crkd_core.evaluate.vod.evaluation import AREA_TITLES, absent_note, unknown_note
from crkd_core.evaluate.vod.metrics import VodEvaluation
from crkd_core.evaluate.vod.rules import AREAS
from crkd_core.evaluate.vod.slices import parts_table
from crkd_core.png import plain, write_figure
from crkd_core.report.subjects import Subject
from crkd_core.tables import Table, number


def scores(subjects: Sequence[Subject], rooms: Path) -> list[str]:
    """HTML of what the metrics of the data set say of networks.

    Args:
        subjects: all observed on one split.
        rooms: folder for the pictures.
    """
    ours = [(s, s.result) for s in subjects if isinstance(s.result, Evaluation)]
    vod = [(s, s.result) for s in subjects if isinstance(s.result, VodEvaluation)]
    parts = _nuscenes(ours, rooms) if ours else _vod(vod, rooms)
    for subject in subjects:
        if subject.cells is not None:
            table = segments_table(subject.cells)
            parts.append(_titled(table, f"{table.title}, {subject.name}").html() + "<br>\n")
    return parts


def _nuscenes(subjects: Sequence[tuple[Subject, Evaluation]], rooms: Path) -> list[str]:
    names = [subject.name for subject, _ in subjects]
    rows = []
    for name, (_, result) in zip(names, subjects, strict=True):
        summary = result.summary
        values = [summary["mean_ap"], summary["nd_score"]]
        values += [summary["tp_errors"][error] for error in ERROR_NAMES]
        rows.append([name, *map(number, values)])
    classes = dict.fromkeys(c for _, result in subjects for c in result.summary["mean_dist_aps"])
    by_class = [
        [
            name,
            *(number(r.summary["mean_dist_aps"].get(name, math.nan)) for _, r in subjects),
        ]
        for name in classes
    ]
    tables = [
        Table(
            title="nuScenes detection",
            columns=("network", "mAP", "NDS", *MEAN_NAMES.values()),
            rows=rows,
        ),
        Table(title="AP by class", columns=("class", *names), rows=by_class),
        *(_titled(slices_table(s.parts), f"parts of the data, {s.name}") for s, _ in subjects),
    ]
    path = rooms / "parts.png"
    bars = {s.name: [part.get("mean_ap", 0.0) for part in s.parts] for s, _ in subjects}
    ticks, below = ticks_of([s.parts for s, _ in subjects], count="boxes")
    _draw_parts(ticks, bars, path, of=f"mAP{below}")
    parts = [table.html() + "<br>\n" for table in tables]
    for subject, result in subjects:
        if note := scope_note(result):
            parts += paragraphs(f"{subject.name}: {note}")
    parts.append(figure("mAP of parts of the data", path))
    for index, (subject, result) in enumerate(subjects):
        path = rooms / f"curves{index}.png"
        draw_precision_recall(result, path)
        parts.append(figure(f"{subject.name}: precision over recall", path))
    return parts


def _vod(subjects: Sequence[tuple[Subject, VodEvaluation]], rooms: Path) -> list[str]:
    names = subjects[0][1].rules.classes
    means = (("3d", "3D"), ("bev", "BEV"), ("aos", "AOS"))
    tables = [
        Table(
            title=f"View-of-Delft, {AREA_TITLES[area]}: AP (%)",
            columns=(
                *("network", *(f"mean {title}" for _, title in means)),
                *(f"{name} 3D" for name in names),
            ),
            rows=[
                [
                    subject.name,
                    *(number(result.summary[area]["mean"][key], 2) for key, _ in means),
                    *(number(result.summary[area][name]["3d"], 2) for name in names),
                ]
                for subject, result in subjects
            ],
        )
        for area in AREAS
    ]
    tables += [
        _titled(parts_table(s.parts, r.rules), f"parts of the data, {s.name}: AP (%)")
        for s, r in subjects
    ]
    parts = [table.html() + "<br>\n" for table in tables]
    for note in (absent_note(subjects[0][1]), *(unknown_note(s.detector, r) for s, r in subjects)):
        parts += paragraphs(note)
    path = rooms / "parts.png"
    bars = {s.name: [part.get("mean", {}).get("3d", 0.0) for part in s.parts] for s, _ in subjects}
    ticks, below = ticks_of([s.parts for s, _ in subjects], count="objects")
    _draw_parts(ticks, bars, path, of=f"mean 3D AP (%){below}")
    parts.append(figure("3D AP of parts of the data", path))
    path = rooms / "curves.png"
    _draw_vod_curves(subjects, path)
    caption = f"precision over recall in space, {AREA_TITLES['entire_area']}"
    parts.append(figure(caption, path))
    return parts


def _titled(table: Table, title: str) -> Table:
    return Table(title=title, columns=table.columns, rows=table.rows, texts=table.texts)


def ticks_of(
    parts: Sequence[Sequence[dict[str, Any]]], *, count: str
) -> tuple[list[tuple[str, str]], str]:
    """Group and label of every part, and what is said of the labels: with counts, or "".

    Networks of other classes have other truth; then counts are left to the tables.

    Args:
        parts: of every network, see Subject.
        count: key of the number of boxes of truth in a part.
    """
    counts = [[part[count] for part in one] for one in parts]
    alike = all(one == counts[0] for one in counts)
    ticks = [
        (part["group"], f"{part['name']}\n{part[count]}" if alike else part["name"])
        for part in parts[0]
    ]
    return ticks, f"; below: {count}" if alike else ""


def _draw_parts(
    ticks: Sequence[tuple[str, str]], bars: dict[str, list[float]], path: Path, *, of: str
) -> None:
    """A panel a group of parts, in it one bar a network for every part."""
    groups = dict.fromkeys(group for group, _ in ticks)
    places = {group: [i for i, tick in enumerate(ticks) if tick[0] == group] for group in groups}
    drawn = Figure(figsize=(12, 3.6), layout="constrained")
    panels = drawn.subplots(
        1, len(groups), sharey=True, squeeze=False,
        width_ratios=[len(rows) for rows in places.values()],
    )[0]  # fmt: skip
    width = 0.8 / len(bars)
    for axes, (group, rows) in zip(panels, places.items(), strict=True):
        for index, (name, values) in enumerate(bars.items()):
            at = np.arange(len(rows)) + (index - (len(bars) - 1) / 2) * width
            axes.bar(at, [values[row] for row in rows], width, label=plain(name))
        axes.set_xticks(range(len(rows)), [ticks[row][1] for row in rows])
        axes.set_title(group, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel(of)
    panels[0].legend(fontsize=8)
    write_figure(drawn, path)


def _draw_vod_curves(subjects: Sequence[tuple[Subject, VodEvaluation]], path: Path) -> None:
    """A panel a class, in it one line a network, of the entire annotated area in space."""
    names = subjects[0][1].rules.classes
    drawn = Figure(figsize=(4 * len(names), 3.6), layout="constrained")
    panels = drawn.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        for subject, result in subjects:
            curve = result.precision["entire_area", name, "3d"]
            # Beyond the recall that was reached there is nothing to draw.
            reached = np.count_nonzero(curve)
            recall = np.arange(reached) / (len(curve) - 1)
            average = result.summary["entire_area"][name]["3d"]
            axes.plot(
                recall, curve[:reached], marker=".", label=f"{plain(subject.name)}: {average:.1f}"
            )
        axes.set(xlim=(0, 1), ylim=(0, 1.02), title=name, xlabel="recall")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel("precision")
    write_figure(drawn, path)
