"""Scores of passes over a bag as a table, metrics.json, a picture and a page."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from crkd_core.evaluate.report import scope_note, write_report
from crkd_core.files import write_json
from crkd_core.png import write_figure
from crkd_core.tables import Table, number
from crkd_ros.streaming_eval.scores import PassScores
from crkd_ros.streaming_eval.streaming import VARIANTS

if TYPE_CHECKING:
    from crkd_core.evaluate.metrics import Evaluation


#: Rows of the table, and which quantile each is.
LATENCIES = (("latency mean, ms", None), ("latency p50, ms", 0.5), ("latency p95, ms", 0.95))


def streaming_table(passes: Sequence[PassScores], *, offline: Evaluation | None = None) -> Table:
    """A column per pass; ``offline``: the same detector on every key frame, in the first one."""
    reference = [] if offline is None else [offline.summary]
    blank = ["-"] * len(reference)
    rows = []
    for variant in VARIANTS:
        found = [one.scores.evaluations[variant].summary for one in passes]
        # Without a clock there is nothing to wait for, and nothing to move on.
        known = reference if variant == "offline" else [None] * len(reference)
        for name, key in (("mAP", "mean_ap"), ("NDS", "nd_score")):
            cells = [number(s[key]) if s is not None else "-" for s in (*known, *found)]
            rows.append([f"{variant} {name}", *cells])
    for name, quantile in LATENCIES:
        rows.append([name, *blank, *(number(1e3 * one.latency(quantile), 0) for one in passes)])
    counts: dict[str, list[int | None]] = {
        "frames possible": [one.possible for one in passes],
        "published": [one.published for one in passes],
        "skipped": [one.skipped for one in passes],
        "dropped": [one.dropped for one in passes],
        "lost": [one.lost for one in passes],
    }
    for name, values in counts.items():
        rows.append([name, *blank, *("?" if value is None else str(value) for value in values)])
    return Table(
        title="Streaming: detections against the truth of the moment",
        columns=("", *["every frame"] * len(reference), *(f"{one.rate:.2g}x" for one in passes)),
        rows=rows,
    )


def stages_table(passes: Sequence[PassScores]) -> Table:
    """Mean milliseconds per stage, a column per pass."""
    names = list(dict.fromkeys(name for one in passes for name in one.stages))
    return Table(
        title="Stages in the node, mean ms",
        columns=("stage", *(f"{one.rate:.2g}x" for one in passes)),
        rows=[
            (name, *(number(one.stages.get(name, math.nan), 1) for one in passes))
            for name in names
        ],
    )


def write_scores(
    out: Path,
    passes: Sequence[PassScores],
    *,
    offline: Evaluation | None = None,
    about: Mapping[str, Any],
) -> list[Table]:
    """Write metrics.json, streaming.png and report.html.

    Args:
        out: folder; made if missing.
        passes: in the order of the rows.
        offline: the same detector on every key frame.
        about: what was run, for metrics.json and the page.

    Returns:
        The tables of the page.
    """
    out.mkdir(parents=True, exist_ok=True)
    reference = None
    if offline is not None:
        reference = {key: offline.summary[key] for key in ("mean_ap", "nd_score")}
    write_json(
        {**about, "offline": reference, "passes": [one.as_dict() for one in passes]},
        out / "metrics.json",
        indent=2,
    )
    picture = out / "streaming.png"
    draw_streaming(passes, picture, offline=offline)
    tables = [streaming_table(passes, offline=offline), stages_table(passes)]
    note = scope_note(passes[0].scores.evaluations["offline"]) if passes else ""
    write_report(
        out / "report.html",
        title="Live detection, scored at the moment of use",
        tables=tables,
        pictures={"metrics over the rate of playing, and the latency of every frame": picture},
        text=", ".join(f"{name}: {value}" for name, value in about.items()) + f"\n\n{note}",
    )
    return tables


def draw_streaming(
    passes: Sequence[PassScores], path: Path, *, offline: Evaluation | None = None
) -> None:
    """A PNG: NDS of the variants over the rate, and the distribution of latencies per pass."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4), dpi=110, layout="constrained")
    left, right = figure.subplots(1, 2)
    rates = [one.rate for one in passes]
    for variant, style in zip(VARIANTS, ("o-", "s-", "^--"), strict=True):
        scores = [one.scores.evaluations[variant].summary["nd_score"] for one in passes]
        left.plot(rates, scores, style, label=variant)
    if offline is not None:
        left.axhline(offline.summary["nd_score"], color="grey", lw=1, label="every frame, offline")
    left.set(xlabel="rate of playing", ylabel="NDS", ylim=(0, 1), xticks=rates)
    left.legend(loc="lower left")
    left.grid(alpha=0.3)
    for one in passes:
        ordered = np.sort(one.latencies) * 1e3
        share = np.arange(1, len(ordered) + 1) / max(1, len(ordered))
        right.step(ordered, share, where="post", label=f"{one.rate:.2g}x")
    right.set(xlabel="latency, ms", ylabel="share of frames", ylim=(0, 1))
    right.legend(loc="lower right")
    right.grid(alpha=0.3)
    write_figure(figure, path)
