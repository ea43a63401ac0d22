"""The losses of training runs over their steps, as one picture. Command `crkd curves`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from crkd_core.png import write_figure
from crkd_core.train.run_folder import RunError

#: Lines of the log that are no losses.
_OTHERS = {"step", "lr", "norm_samples", "steps_per_second", "data_wait", "gradient_norm"}
_COLUMNS = 4
#: The thick line is a mean over this many logged steps.
_SMOOTH = 10


def read_losses(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Loss -> (step, value) of every logged step, in the order in which the log names them.

    Raises:
        RunError: the folder has no metrics.jsonl, or nothing is logged in it.
    """
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except OSError as error:
        raise RunError(f"{run}: expected a run folder with metrics.jsonl: {error}") from error
    losses: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        logged = json.loads(line)
        for name, value in logged.items():
            if name not in _OTHERS and isinstance(value, int | float):
                losses.setdefault(name, []).append((logged["step"], value))
    if not losses:
        raise RunError(f"{run}: nothing is logged yet")
    return losses


def draw_curves(runs: Sequence[Path], path: Path) -> dict[str, tuple[float, float]]:
    """Draw every loss of these runs, one panel per loss, logarithmic, one colour per run.

    Args:
        runs: run folders.
        path: the PNG.

    Returns:
        Of the first run: loss -> (mean of the first tenth of its log, mean of the last tenth).

    Raises:
        RunError: see ``read_losses``.
    """
    curves = {run.name or str(run): read_losses(run) for run in runs}
    names = list(dict.fromkeys(name for losses in curves.values() for name in losses))
    rows = -(-len(names) // _COLUMNS)
    figure = Figure(figsize=(3.2 * _COLUMNS, 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, name in zip(grid, names, strict=False):
        for index, (run, losses) in enumerate(curves.items()):
            if name not in losses:
                continue
            steps, values = np.array(losses[name], np.float64).T
            axes.plot(steps, values, color=f"C{index}", alpha=0.25, linewidth=0.8)
            width = min(_SMOOTH, len(values))
            smooth = np.convolve(values, np.full(width, 1 / width), "valid")
            axes.plot(steps[width - 1 :], smooth, color=f"C{index}", label=run)
        axes.set_yscale("log")
        axes.set_title(name, fontsize=9)
        axes.grid(alpha=0.3)
    for axes in grid[len(names) :]:
        axes.set_axis_off()
    grid[0].legend(fontsize=8)
    write_figure(figure, path)
    return {
        name: _ends([v for _, v in curve]) for name, curve in next(iter(curves.values())).items()
    }


def _ends(values: list[float]) -> tuple[float, float]:
    tenth = max(1, len(values) // 10)
    return float(np.mean(values[:tenth])), float(np.mean(values[-tenth:]))
