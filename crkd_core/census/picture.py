"""A census as a picture: shares of boxes hit, returns by range and angle, states, speeds."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from crkd_core.census import boxes, sweeps
from crkd_core.census.take import Census, real
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.files import write_bytes
from crkd_core.png import plain
from crkd_core.sensors import RADAR_COLUMN, RADAR_COMPENSATED

_HERE, _REAL = "#2f6db5", "#e08a1e"


def draw_census(census: Census, out: Path) -> None:
    """Write one PNG; nuScenes' figures are orange.

    Raises:
        OSError: the file cannot be written.
    """
    figure = Figure(figsize=(16, 11), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(f"{plain(census.name)}: blue; nuScenes: orange")
    axes = figure.subplots(3, 3).ravel()
    known = real()
    for i, (name, title) in enumerate(
        (("radar_share", "boxes with a radar return"), ("lidar_share", "with a LiDAR return"))
    ):
        _shares(axes[i], census, known["boxes"], name, 2 * i, title)
    _classes(axes[2], census, known["classes"])
    _radar(axes[3:7], census, known["radar"])
    _bars(axes[7], sweeps.lidar_figures(census.lidar), known["lidar"], "LiDAR returns a sweep")
    axes[7].set_xscale("log")
    shares = {
        name: value
        for name, value in sweeps.radar_figures(census.radar).items()
        if name.startswith("share")
    }
    _bars(axes[8], shares, known["radar"], "radar states")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    write_bytes(buffer.getvalue(), out)


def _shares(
    axis: Axes, census: Census, known: dict[str, dict[str, list[float]]], name: str, column: int,
    title: str,
) -> None:  # fmt: skip
    """One line a class over the bands; solid here, dashed and orange there."""
    axis.set_title(title)
    axis.set_ylim(0, 1.02)
    bands = [boxes.band_name(band) for band in boxes.BANDS]
    axis.set_xticks(range(len(bands)), [f"{band} m" for band in bands])
    if census.boxes is None:
        return
    found = {(label, band): hit for label, band, hit in boxes.hits(census.boxes)}
    for label in NUSCENES_CLASSES:
        rows = [(i, found[label, b]) for i, b in enumerate(bands) if (label, b) in found]
        if not rows:
            continue
        x = [i for i, _ in rows]
        axis.plot(x, [getattr(h, name) for _, h in rows], "o-", color=_HERE, alpha=0.6, lw=1)
        axis.annotate(label, (x[0], getattr(rows[0][1], name)), fontsize=7)
        other = [
            (i, known[label][b][column]) for i, b in enumerate(bands) if b in known.get(label, {})
        ]
        if other:
            axis.plot(*zip(*other, strict=True), "s--", color=_REAL, alpha=0.6, lw=1)


def _classes(axis: Axes, census: Census, known: dict[str, float]) -> None:
    if census.boxes is not None:
        _bars(axis, boxes.class_shares(census.boxes), known, "share of boxes")


def _bars(axis: Axes, here: dict[str, float], there: dict[str, float], title: str) -> None:
    axis.set_title(title)
    place = np.arange(len(here))
    axis.barh(place - 0.2, list(here.values()), 0.4, color=_HERE)
    axis.barh(place + 0.2, [there[name] for name in here], 0.4, color=_REAL)
    axis.set_yticks(place, list(here), fontsize=7)
    axis.invert_yaxis()


def _radar(axes: np.ndarray, census: Census, known: dict[str, float]) -> None:
    """Histograms of radar returns; orange lines are quantiles."""
    points = np.concatenate(census.radar) if census.radar else np.zeros((0, 18))
    azimuth = np.rad2deg(np.arctan2(points[:, 1], points[:, 0]))
    drawn = (
        ("range", "m", np.hypot(points[:, 0], points[:, 1]), (0, 250)),
        ("azimuth", "degrees", azimuth, (-80, 80)),
        ("rcs", "dBsm", points[:, RADAR_COLUMN["rcs"]], (-10, 40)),
    )
    for axis, (name, unit, values, limits) in zip(axes, drawn, strict=False):
        axis.hist(values, 60, range=limits, color=_HERE)
        axis.set_title(f"radar {name}, {unit}")
        for key, value in known.items():
            if key.startswith(f"{name},"):
                axis.axvline(value, color=_REAL)
    kept = points[sweeps.devkit_filter(points)]
    speed = np.hypot(*kept[:, RADAR_COMPENSATED].T)
    counts, *_ = axes[3].hist(speed, 60, range=(0, 20), color=_HERE)
    if np.any(counts):  # A logarithm of nothing is warned of.
        axes[3].set_yscale("log")
    axes[3].set_title("radar speed over ground after the filter, m/s")
