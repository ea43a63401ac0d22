"""A data set's counts beside those of nuScenes: tables for the terminal, one picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from crkd_core.census import boxes, sweeps
from crkd_core.census.boxes import BoxCounts
from crkd_core.census.picture import draw_census
from crkd_core.census.take import Census, real, take_census
from crkd_core.data.nuscenes.classes import describes
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.tables import Table


def tables(census: Census) -> list[Table]:
    """Every figure beside nuScenes'."""
    known = real()
    result = []
    if census.boxes is not None:
        result += [
            _hit_table(census.boxes, known["boxes"], "radar", 0),
            _hit_table(census.boxes, known["boxes"], "LiDAR", 2),
            _class_table(census.boxes, known),
        ]
    else:
        rows = [["no sample has both an annotated box and LiDAR, from where range is measured"]]
        result.append(Table(title="Boxes left out", columns=("",), rows=rows))
    pairs = (
        (f"A radar sweep ({len(census.radar)} read)", sweeps.radar_figures(census.radar), "radar"),
        (f"A LiDAR sweep ({len(census.lidar)} read)", sweeps.lidar_figures(census.lidar), "lidar"),
    )
    for title, figures, part in pairs:
        rows = [
            [name, _short(value), _short(known[part][name])] for name, value in figures.items()
        ]
        result.append(Table(title=title, columns=("", "here", "nuScenes"), rows=rows))
    if census.missing:
        rows = [["named in the tables, not readable", str(census.missing)]]
        result.append(Table(title="Sweeps left out", columns=("", "here"), rows=rows))
    words = {
        word: sum(describes(description, word) for description in census.scenes)
        for word in ("night", "rain")
    }
    rows = [[name, str(number)] for name, number in {"all": len(census.scenes), **words}.items()]
    result.append(Table(title="Scenes by their descriptions", columns=("", "here"), rows=rows))
    return result


def _hit_table(
    counts: BoxCounts, known: dict[str, dict[str, list[float]]], sensor: str, first: int
) -> Table:
    """Of one sensor: its two figures begin at column ``first`` of nuscenes.json."""
    columns = ["class", "m", "boxes", "hit", "nuScenes", "returns", "nuScenes"]
    rows = []
    for label, band, found in boxes.hits(counts):
        other = known.get(label, {}).get(band)
        cells = [label, band, str(found.boxes)]
        for i in (first, first + 1):
            cells += [_short(found.figures[i]), _short(other[i]) if other else ""]
        rows.append(cells)
    title = f"Boxes and {sensor} returns inside, key sweeps"
    return Table(title=title, columns=columns, rows=rows)


def _class_table(counts: BoxCounts, known: dict[str, Any]) -> Table:
    shares = boxes.class_shares(counts)
    rows = [[name, f"{v:.1%}", f"{known['classes'][name]:.1%}"] for name, v in shares.items()]
    for name, value in boxes.sample_figures(counts).items():
        rows.append([name, _short(value), _short(known["samples"][name])])
    title = f"Boxes of {counts.samples} samples"
    return Table(title=title, columns=("", "here", "nuScenes"), rows=rows)


def _short(value: float) -> str:
    """Two digits behind the point below 10, one below 100, none above."""
    digits = 2 if abs(value) < 10 else 1 if abs(value) < 100 else 0
    return f"{value:.{digits}f}"


def world_report(
    root: Path,
    *,
    split: str | None = None,
    most: int = 400,
    out: Path | None = None,
    version: str | None = None,
) -> list[Table]:
    """Tables of a data set; with ``out``, the picture too.

    Raises:
        NuScenesError: not a nuScenes data set, or unknown split, or one without samples.
    """
    census = take_census(NuScenes(root, split=split, version=version), split=split, most=most)
    if out is not None:
        draw_census(census, out)
    return tables(census)
