"""The losses of training runs over their steps, side by side. Command `crkd compare`."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from crkd_core.png import plain, write_figure
from crkd_core.tables import Table
from crkd_core.train.gradients import COSINE, SHARE, GradientRatios, means, read_gradient_ratios
from crkd_core.train.run_folder import LOG, RunError, read_log, read_record

#: What the log says besides losses.
_OTHERS = {
    *("step", "lr", "norm_samples", "steps_per_second", "data_wait"),
    *("gradient_norm", "skipped_steps"),
}
#: Settings in which runs of one name may differ: their seed, and what changes no step.
_FREE = {
    *("seed", "workers", "keep_gigabytes", "keep_folder"),
    *("checkpoint_steps", "log_steps", "gradient_steps", "tensorboard"),
}
_COLUMNS = 4
#: The thick line is a mean over this many logged steps, and over at most half of all.
_SMOOTH = 10

#: Loss -> (step, value) of every logged step, in the order in which the log names them.
Losses = dict[str, list[tuple[int, float]]]


def is_loss(name: str) -> bool:
    """Whether a name in the log is that of a loss: no rate, and no ``share.`` or ``cosine.``."""
    return name not in _OTHERS and not name.startswith((SHARE, COSINE))


def read_losses(run: Path) -> Losses:
    """The losses that a run logged.

    Raises:
        RunError: the folder has no metrics.jsonl, or nothing is logged in it.
    """
    losses: Losses = {}
    try:
        for logged in read_log(run):
            for name, value in logged.items():
                if is_loss(name) and isinstance(value, int | float):
                    losses.setdefault(name, []).append((logged["step"], value))
    except OSError as error:
        raise RunError(f"{run}: expected a run folder with {LOG}: {error}") from error
    if not losses:
        raise RunError(f"{run}: nothing is logged yet, so there is no curve of it")
    return losses


def logged_runs(
    groups: Mapping[str, Sequence[Path]],
) -> tuple[dict[str, list[Path]], list[str]]:
    """The runs that have losses to show, under the same names, and why others have none.

    Args:
        groups: name -> run folders.

    Returns:
        Name -> run folders, [] where none has any; and one sentence for each run left out.
    """
    found: dict[str, list[Path]] = {name: [] for name in groups}
    missing = []
    for name, runs in groups.items():
        for run in runs:
            try:
                read_losses(run)
            except RunError as error:
                missing.append(str(error))
            else:
                found[name].append(run)
    return found, missing


def compare_losses(groups: Mapping[str, Sequence[Path]], out: Path | None = None) -> Table:
    """One row per loss: where each set-up began and ended; with ``out`` also losses.png there.

    Args:
        groups: name -> run folders, which should differ in nothing but the seed.
        out: folder for the picture: one panel per loss, logarithmic, one colour per name; None =
            no picture.

    Returns:
        Means of the first and of the last tenth of the logged steps, over the runs of a name. The
        title says in what runs of one name differ besides.

    Raises:
        RunError: see ``read_losses``.
    """
    curves = {name: [read_losses(run) for run in runs] for name, runs in groups.items()}
    losses = list(dict.fromkeys(n for runs in curves.values() for run in runs for n in run))
    if out is not None:
        _draw(curves, losses, out / "losses.png")
    title = "losses, mean of the first and of the last tenth"
    return Table(
        title="\n".join([title, *_mixed(groups)]),
        columns=("loss", *curves),
        rows=[[loss, *(_ends(loss, runs) for runs in curves.values())] for loss in losses],
    )


def _mixed(groups: Mapping[str, Sequence[Path]]) -> Iterator[str]:
    """A sentence for each name whose runs differ in more than the seed, as far as they say."""
    for name, runs in groups.items():
        known = [found for run in runs if (found := _settings(run))]
        words = []
        for key in dict.fromkeys(key for found in known for key in found):
            values = dict.fromkeys(found.get(key, "-") for found in known)
            if len(values) > 1:
                words.append(f"{key} ({', '.join(values)})")
        if words:
            yield f"{name}: a mean of runs that differ in {', '.join(words)}"


def _settings(run: Path) -> dict[str, str]:
    """What a run was trained with and on, by dotted names; {} where it does not say."""
    try:
        record = read_record(run)
        config = record["config"]
        data = {"data": record["digest"], "split": record["split"]}
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return {}

    def leaves(value: Any, name: str) -> Iterator[tuple[str, str]]:
        if isinstance(value, dict):
            for key, inner in value.items():
                yield from leaves(inner, f"{name}.{key}" if name else key)
        else:
            yield name, str(value)

    settings = data | (config if isinstance(config, dict) else {})
    return {key: value for key, value in leaves(settings, "") if key not in _FREE}


def compare_gradient_ratios(
    groups: Mapping[str, Sequence[Path]], out: Path | None = None
) -> Table | None:
    """Gradients of further losses by that of the detection loss; with ``out`` also gradients.png.

    Args:
        groups: see ``compare_losses``.
        out: folder for the picture; None = no picture.

    Returns:
        Share and cosine over the second half of the runs, mean over the runs of a name; None where
        no run measured any.

    Raises:
        RunError: see ``read_losses``.
    """
    found = {name: [read_gradient_ratios(run) for run in runs] for name, runs in groups.items()}
    losses = list(dict.fromkeys(n for runs in found.values() for run in runs for n in run))
    if not losses:
        if out is not None:
            (out / "gradients.png").unlink(missing_ok=True)  # Of a comparison before this one.
        return None
    if out is not None:
        curves = {name: [_apart(run) for run in runs] for name, runs in found.items()}
        panels = [f"{kind}{loss}" for loss in losses for kind in (SHARE, COSINE)]
        _draw(curves, panels, out / "gradients.png")
    rows = [[loss, *(_ratio(loss, runs) for runs in found.values())] for loss in losses]
    return Table(
        title="gradients beside the detection loss's: size and cosine, second half of the run",
        columns=("loss", *found),
        rows=rows,
    )


def _apart(run: GradientRatios) -> Losses:
    """Shares and cosines of a run as curves of their own."""
    curves: Losses = {}
    for loss, values in run.items():
        curves[SHARE + loss] = [(step, share) for step, share, _ in values]
        curves[COSINE + loss] = [(step, cosine) for step, _, cosine in values]
    return curves


def _ratio(loss: str, runs: Sequence[GradientRatios]) -> str:
    """Share and cosine of a loss, mean over those runs that have it."""
    found = [means(run[loss]) for run in runs if loss in run]
    if not found:
        return "-"
    share, cosine = (statistics.fmean(values) for values in zip(*found, strict=True))
    return f"{share:.3g} at {cosine:+.2f}"


def _ends(loss: str, runs: Sequence[Losses]) -> str:
    """How a loss began and ended, mean over those runs that have it."""
    firsts, lasts = [], []
    for run in runs:
        if loss in run:
            values = [value for _, value in run[loss]]
            tenth = max(1, len(values) // 10)
            firsts.append(statistics.fmean(values[:tenth]))
            lasts.append(statistics.fmean(values[-tenth:]))
    if not firsts:
        return "-"
    return f"{statistics.fmean(firsts):.4g} > {statistics.fmean(lasts):.4g}"


def _draw(curves: Mapping[str, Sequence[Losses]], losses: Sequence[str], path: Path) -> None:
    rows = -(-len(losses) // _COLUMNS)
    figure = Figure(figsize=(3.2 * _COLUMNS, 2.3 * rows), layout="constrained")
    grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
    for axes, loss in zip(grid, losses, strict=False):
        for index, (name, runs) in enumerate(curves.items()):
            label: str | None = plain(name)
            for run in runs:
                if loss not in run:
                    continue
                steps, values = np.array(run[loss], np.float64).T
                axes.plot(steps, values, color=f"C{index}", alpha=0.25, linewidth=0.8)
                width = min(_SMOOTH, (len(values) + 1) // 2)
                smooth = np.convolve(values, np.full(width, 1 / width), "valid")
                # A single point is no line.
                marker = "." if len(smooth) == 1 else None
                axes.plot(
                    steps[width - 1 :], smooth, color=f"C{index}", marker=marker, label=label
                )
                label = None  # A name is once in the legend.
        if loss.startswith(COSINE):
            axes.set_ylim(-1, 1)
        elif any(_is_positive(run.get(loss, [])) for runs in curves.values() for run in runs):
            # One that stays 0, as that of speeds where none are labelled, has no logarithm.
            axes.set_yscale("log")
        axes.set_title(loss, fontsize=9)
        axes.grid(alpha=0.3)
    for axes in grid[len(losses) :]:
        axes.set_axis_off()
    # A run may lack the loss of the first panel.
    lines = {
        label: line
        for axes in grid
        for line, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    shown = [name for name in map(plain, curves) if name in lines]
    grid[0].legend([lines[name] for name in shown], shown, fontsize=8)
    write_figure(figure, path)


def _is_positive(values: Sequence[tuple[int, float]]) -> bool:
    return any(value > 0 for _, value in values)
