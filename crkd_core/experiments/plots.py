"""The pictures of an experiment."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from crkd_core.experiments.plan import RunSpec
from crkd_core.experiments.table import arms_of, differences, slice_values, values_of
from crkd_core.png import write_figure

Results = Mapping[str, Mapping[str, Any]]

#: Parts that are drawn as panels, and what tells them apart.
_GROUPS = ("range", "weather", "light", "speed")


def draw_arms(specs: Sequence[RunSpec], results: Results, split: str, path: Path) -> None:
    """mAP and NDS of every run as a dot, the mean as a bar, and below their differences.

    Args:
        specs: runs of the list; an arm without a result keeps its empty line.
        results: of the runs that are ready.
        split: "validation" or "test".
        path: PNG to write.
    """
    arms = arms_of(specs)
    pairs = [
        (arm, reference)
        for arm, found in differences(specs, results, split, "mAP").items()
        for reference in found
    ]
    height = 1.6 + 0.28 * (len(arms) + len(pairs))
    figure = Figure(figsize=(10, height), layout="constrained")
    grid = figure.subplots(
        2, 2, height_ratios=(max(1, len(arms)), max(1, len(pairs))), squeeze=False, sharey="row"
    )
    for column, key in enumerate(("mAP", "NDS")):
        axes = grid[0, column]
        for row, runs in enumerate(arms.values()):
            values = list(values_of(runs, results, split, key).values())
            if values:
                axes.barh(row, statistics.fmean(values), height=0.6, color="#9db8d9")
                axes.plot(values, np.full(len(values), row), "o", color="#1c2430", markersize=3)
            else:
                axes.text(0, row, " missing", va="center", fontsize=7, color="#a33")
        _rows(axes, list(arms), f"{key}, {split}")
        axes = grid[1, column]
        found = differences(specs, results, split, key)
        for row, (arm, reference) in enumerate(pairs):
            one = found[arm][reference]
            if one is not None:
                half = 0.0 if np.isnan(one.half) else one.half
                color = "#2171b5" if one.excludes_zero() else "#7a8594"
                axes.errorbar(one.mean, row, xerr=half, fmt="o", color=color, capsize=3)
        axes.axvline(0, color="#1c2430", linewidth=0.8)
        _rows(axes, [f"{arm} - {reference}" for arm, reference in pairs], f"difference of {key}")
    write_figure(figure, path)


def draw_parts(specs: Sequence[RunSpec], results: Results, split: str, path: Path) -> None:
    """mAP by range, weather, light and speed, one line an arm with more than one seed or alone.

    Arguments as of ``draw_arms``.
    """
    arms = arms_of(specs)
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    panels = figure.subplots(1, len(_GROUPS), sharey=True, width_ratios=(3, 2, 2, 2))
    for axes, group in zip(panels, _GROUPS, strict=True):
        names = list(
            dict.fromkeys(
                one["name"]
                for result in results.values()
                for one in result.get(split, {}).get("slices", ())
                if one["group"] == group
            )
        )
        for index, (arm, runs) in enumerate(arms.items()):
            means = [
                statistics.fmean(values) if values else np.nan
                for values in (
                    list(slice_values(runs, results, split, (group, name)).values())
                    for name in names
                )
            ]
            marker = "os^Dv<>P*X"[index // 10 % 10]
            axes.plot(names, means, marker=marker, markersize=4, color=f"C{index % 10}", label=arm)
        axes.set_title(group, fontsize=10)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"mAP, {split}")
    if len(arms) <= 30:
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=8, fontsize=8)
    write_figure(figure, path)


def _rows(axes: Axes, names: Sequence[str], title: str) -> None:
    axes.set_yticks(range(len(names)), names, fontsize=8)
    axes.set_ylim(max(1, len(names)) - 0.5, -0.5)
    axes.grid(axis="x", alpha=0.3)
    axes.set_title(title, fontsize=10)
