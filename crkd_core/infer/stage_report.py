"""What `crkd bench` found of the stages: a table, a file for programs, a picture."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crkd_core.config import Precision
from crkd_core.files import write_bytes, write_text
from crkd_core.infer.plain_layers import Rates
from crkd_core.infer.stages import Stage
from crkd_core.tables import Table

#: What ``write_stages`` leaves in its folder.
RESULTS = ("bench.json", "bench.png")


def stage_table(stages: Sequence[Stage], reached: Rates, *, precision: str) -> Table:
    """One row a stage, and their sum."""
    whole = sum(stage.milliseconds for stage in stages)
    sum_of = Stage(
        name="all",
        milliseconds=whole,
        gflop=sum(stage.gflop for stage in stages),
        megabytes=sum(stage.megabytes for stage in stages),
    )
    rows = []
    for stage in (*stages, sum_of):
        row = [stage.name, f"{stage.milliseconds:.2f}", f"{stage.milliseconds / whole:.0%}"]
        if stage.gflop or stage.megabytes:
            rate = 1e3 * stage.gflop / stage.milliseconds
            share = f"{rate / reached.convolution:.0%}"
            row += [f"{stage.gflop:.2f}", f"{rate:.0f}", share, f"{stage.megabytes:.1f}"]
        rows.append([*row, *[""] * (7 - len(row))])
    return Table(
        title=f"stages, {precision}; a large convolution has {reached.convolution:.0f} GFLOP/s "
        f"here, a matrix product {reached.matmul:.0f}; a copy in memory {reached.copy:.1f} GB/s",
        columns=("stage", "ms", "share", "GFLOP", "GFLOP/s", "of convolution", "MB of layers"),
        rows=rows,
    )


def write_stages(
    out: Path,
    found: Mapping[Precision, tuple[Sequence[Stage], Rates]],
    *,
    machine: Mapping[str, Any],
    variants: Mapping[str, Mapping[str, float]],
) -> None:
    """Write RESULTS.

    Args:
        out: folder, made.
        found: precision -> its stages, and the rates of plain layers.
        machine: what it was measured on.
        variants: variant -> stage -> milliseconds, of the table by variant.
    """
    out.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": dict(machine),
        "variants_ms": {name: dict(values) for name, values in variants.items()},
        "stages": {
            precision: {
                "rates_gflops": {"convolution": reached.convolution, "matmul": reached.matmul},
                "copy_gb_s": reached.copy,
                "stages": [dataclasses.asdict(stage) for stage in stages],
            }
            for precision, (stages, reached) in found.items()
        },
    }
    write_text(json.dumps(content, indent=1), out / "bench.json")
    write_bytes(_picture(found), out / "bench.png")


def _picture(found: Mapping[Precision, tuple[Sequence[Stage], Rates]]) -> bytes:
    """Bars by stage, one colour a precision; thin: at the rate of a plain convolution."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    height = 0.8 / len(found)
    for number, (precision, (stages, reached)) in enumerate(found.items()):
        places = [index + number * height for index in range(len(stages))]
        axes.barh(places, [stage.milliseconds for stage in stages], height, label=precision)
        least = [1e3 * stage.gflop / reached.convolution for stage in stages]
        axes.barh(places, least, height / 5, color="black")
    names = [stage.name for stage in next(iter(found.values()))[0]]
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set_xlabel("ms a frame; black: its FLOP at the rate of a large convolution")
    axes.legend()
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()
