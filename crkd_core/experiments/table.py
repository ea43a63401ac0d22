"""The tables of an experiment. A run that is missing is shown as missing."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from crkd_core.evaluate.compare import SCORES
from crkd_core.experiments.plan import RunSpec
from crkd_core.experiments.statistics import Interval, paired
from crkd_core.tables import Table, number

Results = Mapping[str, Mapping[str, Any]]


def arms_of(specs: Sequence[RunSpec]) -> dict[str, list[RunSpec]]:
    """Arm -> its runs, both in the order of the list."""
    found: dict[str, list[RunSpec]] = {}
    for spec in specs:
        found.setdefault(spec.arm, []).append(spec)
    return found


def values_of(
    specs: Sequence[RunSpec], results: Results, split: str, key: str
) -> dict[int, float]:
    """Seed -> one score of SCORES, of the runs of an arm that have it."""
    return {
        spec.seed: float(results[spec.name][split]["scores"][key])
        for spec in specs
        if split in results.get(spec.name, {})
    }


def slice_values(
    specs: Sequence[RunSpec], results: Results, split: str, part: tuple[str, str]
) -> dict[int, float]:
    """Seed -> mAP of one part (group, name) of the data."""
    found = {}
    for spec in specs:
        for one in results.get(spec.name, {}).get(split, {}).get("slices", ()):
            if (one["group"], one["name"]) == part and "mean_ap" in one:
                found[spec.seed] = float(one["mean_ap"])
    return found


def tables(
    specs: Sequence[RunSpec], results: Results, split: str, failed: Mapping[str, str]
) -> list[Table]:
    """Scores, differences, parts of the data, and what is wrong, of one split.

    Args:
        specs: all runs of the list.
        results: name -> what results.py keeps, of the runs that are ready.
        split: "validation" or "test".
        failed: name -> why, of the last call.
    """
    return [
        _scores(specs, results, split),
        _differences(specs, results, split),
        *_parts(specs, results, split),
        _runs(specs, results, failed),
    ]


def _scores(specs: Sequence[RunSpec], results: Results, split: str) -> Table:
    rows = []
    for arm, runs in arms_of(specs).items():
        ready = values_of(runs, results, split, "mAP")
        means = [_mean(values_of(runs, results, split, key)) for key in SCORES]
        rows.append([arm, runs[0].what, f"{len(ready)}/{len(runs)}", *means])
    return Table(
        title=f"nuScenes detection on {split}, means over runs",
        columns=("arm", "what", "runs", *SCORES),
        texts=("what",),
        rows=rows,
    )


def differences(
    specs: Sequence[RunSpec], results: Results, split: str, key: str
) -> dict[str, dict[str, Interval | None]]:
    """Arm -> reference arm -> paired difference of one score; None = no seed has both yet."""
    arms = arms_of(specs)
    found: dict[str, dict[str, Interval | None]] = {}
    for arm, runs in arms.items():
        for reference in (runs[0].plain, runs[0].self_taught):
            if reference is not None and reference in arms:
                values, others = (
                    values_of(some, results, split, key) for some in (runs, arms[reference])
                )
                found.setdefault(arm, {})[reference] = paired(values, others)
    return found


def _differences(specs: Sequence[RunSpec], results: Results, split: str) -> Table:
    by_key = {key: differences(specs, results, split, key) for key in SCORES}
    rows = []
    for arm, references in by_key["mAP"].items():
        for reference in references:
            cells = [by_key[key][arm][reference] for key in SCORES]
            rows.append([f"{arm} - {reference}", *_intervals(cells)])
    return Table(
        title=f"paired differences on {split}, 95 % t-interval over seeds, * excludes zero",
        columns=("difference", "seeds", *SCORES),
        rows=rows,
    )


def _parts(specs: Sequence[RunSpec], results: Results, split: str) -> list[Table]:
    """mAP by part of the data, and the differences of it."""
    parts = dict.fromkeys(
        (one["group"], one["name"])
        for result in results.values()
        for one in result.get(split, {}).get("slices", ())
        if "mean_ap" in one
    )
    if not parts:
        return []
    columns = [name for _, name in parts]
    arms = arms_of(specs)
    levels, changes = [], []
    for arm, runs in arms.items():
        values = [slice_values(runs, results, split, part) for part in parts]
        levels.append([arm, *map(_mean, values)])
        for reference in (runs[0].plain, runs[0].self_taught):
            if reference is None or reference not in arms:
                continue
            others = [slice_values(arms[reference], results, split, part) for part in parts]
            found = [paired(a, b) for a, b in zip(values, others, strict=True)]
            changes.append([f"{arm} - {reference}", *_intervals(found)])
    return [
        Table(title=f"mAP of parts of {split}", columns=("arm", *columns), rows=levels),
        Table(
            title=f"paired differences of mAP of parts of {split}",
            columns=("difference", "seeds", *columns),
            rows=changes,
        ),
    ]


def _intervals(cells: Sequence[Interval | None]) -> list[str]:
    """How many pairs a line is of, and its intervals; one of fewer pairs says so itself."""
    most = max((one.count for one in cells if one is not None), default=0)
    return [str(most), *("missing" if one is None else one.text(of=most) for one in cells)]


def _runs(specs: Sequence[RunSpec], results: Results, failed: Mapping[str, str]) -> Table:
    """Every run by itself; what failed in the last call says so beside what it has."""
    rows = []
    for spec in specs:
        result = results.get(spec.name)
        why = [failed[spec.name]] if spec.name in failed else []
        if result is None:
            rows.append([spec.name, *["-"] * 6, *(why or ["missing"])])
            continue
        scores = [
            result.get(kind, {}).get(split, {})
            for kind, split in (("start", "validation"), ("start", "test"))
        ]
        ends = [result.get(split, {}).get("scores", {}) for split in ("validation", "test")]
        rows.append(
            [
                spec.name,
                str(result["steps"]),
                f"{result['seconds'] / 60:.0f}",
                *(
                    number(float(score.get("mAP", math.nan)))
                    for pair in zip(scores, ends, strict=True)
                    for score in pair
                ),
                "; ".join([*why, *result["signatures"]]) or "sound",
            ]
        )
    return Table(
        title="runs",
        columns=(
            *("run", "steps", "minutes", "mAP start", "validation", "start, test", "test"),
            "state",
        ),
        texts=("state",),
        rows=rows,
    )


def _mean(values: Mapping[int, float]) -> str:
    return number(statistics.fmean(values.values())) if values else "missing"
