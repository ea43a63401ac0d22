"""What is kept of a run: one small JSON file, made of its folders and remade at will."""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from crkd_core.evaluate.compare import read_scores
from crkd_core.experiments import commands
from crkd_core.experiments.folder import Folder
from crkd_core.experiments.lists import runs_of
from crkd_core.experiments.plan import RunSpec, in_order
from crkd_core.experiments.settings import Settings
from crkd_core.experiments.signatures import signatures
from crkd_core.files import write_json
from crkd_core.train.gradients import read_gradient_ratios

#: Where runs are scored; the test drives only when asked for.
SPLITS = ("validation", "test")


def write_result(folder: Folder, spec: RunSpec, settings: Settings) -> dict[str, Any] | None:
    """Write ``results/RUN.json``; None where the run is not trained or nowhere evaluated.

    It holds: run, arm, what, seed, command, steps, seconds (of training, those after a kill that
    had to be done twice only once), rate (steps a second), version and revision of the source,
    drives (how many of each part), start (scores of the weights it started from, by split),
    validation and test (scores, classes, slices), signatures of failure.
    """
    record, lines = folder.record(spec.name), folder.lines(spec.name)
    scored = {
        split: _scores(folder, spec.name, split)
        for split in SPLITS
        if folder.is_evaluated(spec.name, split)
    }
    if record is None or not scored or not folder.is_trained(spec.name):
        return None
    start = {
        split: read_scores(folder.evaluation(spec.start, split))
        for split in scored
        if spec.start is not None and folder.is_evaluated(spec.start, split)
    }
    seconds = _seconds(lines)
    result = {
        "run": spec.name,
        "arm": spec.arm,
        "what": spec.what,
        "seed": spec.seed,
        "command": commands.shown(record["command"][1:], settings),
        "steps": record["config"]["steps"],
        "seconds": round(seconds),
        "rate": _rounded(record["config"]["steps"] / seconds if seconds else 0.0),
        "version": record["version"],
        "revision": record["revision"],
        "drives": {name: len(scenes) for name, scenes in settings.drives.items()},
        "start": _rounded(start),
        **_rounded(scored),
        "signatures": signatures(
            lines,
            read_gradient_ratios(folder.run(spec.name)),
            clip_norm=record["config"]["clip_norm"],
            start={split: values["mAP"] for split, values in start.items()},
            end={split: values["scores"]["mAP"] for split, values in scored.items()},
        ),
    }
    write_json(result, folder.result(spec.name))
    return result


def put_aside(folder: Folder, name: str) -> Path | None:
    """Take what was found of an earlier training of a run out of the tables.

    Returns:
        Where it is now, a new folder ``before/RUN.N``; None where there was nothing.
    """
    known = {
        "result.json": folder.result(name),
        "evaluations": folder.path / "evaluations" / name,
    }
    known = {kept: path for kept, path in known.items() if path.exists()}
    if not known:
        return None
    places = (folder.path / "before" / f"{name}.{number}" for number in itertools.count(1))
    place = next(path for path in places if not path.exists())
    place.mkdir(parents=True)
    for kept, path in known.items():
        path.rename(place / kept)
    return place


def read_results(folder: Folder, specs: Sequence[RunSpec]) -> dict[str, dict[str, Any]]:
    """Name -> result, for the runs that have one."""
    found = {}
    for spec in specs:
        path = folder.result(spec.name)
        if path.exists():
            found[spec.name] = json.loads(path.read_text())
    return found


def published(folder: Folder, name: str, *, seeds: int | None) -> list[RunSpec]:
    """The runs of a list for its tables, parents first.

    Those of a call, and those of further seeds that have results: a call with fewer seeds leaves
    none out.

    Raises:
        PlanError: no such list.
    """
    called = {spec.name for spec in runs_of(name, seeds=seeds)}
    endings = (path.stem.rpartition("-")[2] for path in (folder.path / "results").glob("*-*.json"))
    there = {int(ending) for ending in endings if ending.isdecimal()} - {0}
    every = in_order(runs_of(name, seeds=seeds, further=there))
    return [spec for spec in every if spec.name in called or folder.result(spec.name).exists()]


def _scores(folder: Folder, name: str, split: str) -> dict[str, Any]:
    """Scores, AP of every class, and slices of one evaluation."""
    place = folder.evaluation(name, split)
    summary = json.loads((place / "metrics.json").read_text())
    return {
        "scores": read_scores(place),
        "classes": summary["mean_dist_aps"],
        "slices": json.loads((place / "slices.json").read_text()),
    }


def _seconds(lines: Sequence[dict[str, Any]]) -> float:
    """How long the logged steps took."""
    total, before = 0.0, 0
    for line in lines:
        total += (line["step"] - before) / line["steps_per_second"]
        before = line["step"]
    return total


def _rounded(value: Any) -> Any:
    """Numbers with five digits behind the point, anywhere inside."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_rounded(inner) for inner in value]
    return round(value, 5) if isinstance(value, float) else value
