"""Evaluation runs on View-of-Delft: a detector on a split, or a folder of result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crkd_core.boxes import SCORED_FROM
from crkd_core.config import DetectorConfig
from crkd_core.data.vod.labels import Objects
from crkd_core.data.vod.layout import CAMERA, RADAR, Vod
from crkd_core.data.vod.reader import VodFrames
from crkd_core.evaluate.folder import clear
from crkd_core.evaluate.pass_over import draw_samples, pass_over
from crkd_core.evaluate.predict import load_detector
from crkd_core.evaluate.report import publish
from crkd_core.evaluate.scored_data import scored_data
from crkd_core.evaluate.scoring import EvaluateError
from crkd_core.evaluate.vod.metrics import Pair, VodEvaluation, evaluate_pairs, paired
from crkd_core.evaluate.vod.results import (
    read_results,
    results_of,
    uncounted_note,
    write_results,
)
from crkd_core.evaluate.vod.rules import AREAS, Area
from crkd_core.evaluate.vod.slices import parts_table, score_parts
from crkd_core.files import write_json
from crkd_core.sensors import LIDAR
from crkd_core.tables import Table

#: What the data set has.
SENSORS = (CAMERA, RADAR, LIDAR)

#: Area -> what it is called in tables.
AREA_TITLES: dict[Area, str] = {
    "entire_area": "entire annotated area",
    "driving_corridor": "driving corridor",
}
TITLE = "View-of-Delft detection evaluation"
#: What metrics.json says of the numbers.
UNIT = "average precision in percent, 11 recall points"


def evaluate_weights(
    weights: Path,
    data: Path,
    split: str,
    out: Path,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    engine: str = "torch",
    sensors: Sequence[str] = (),
    slices: bool = False,
    score_threshold: float = SCORED_FROM,
) -> VodEvaluation | None:
    """Run a detector over a split and score it; arguments as of evaluation.evaluate_weights.

    Writes results/ (a file a frame), metrics.json, with ``slices`` slices.json, pictures and
    report.html into ``out``, in the place of what an evaluation before this one left; prints the
    tables. Of a detector with a second head its cells are scored too ("segmentation"). Of frames
    without labels, those of the test set, there are no scores: no metrics.json and no slices.json,
    and what is printed says so.

    Returns:
        The metrics; None: a frame has no labels.

    Raises:
        ConfigError: the detector has a class that is not scored or not annotated, or does not read
            one of ``sensors``.
        VodError, CheckpointError, InferError: data, weights or device cannot be used.
    """
    tables = Vod(data)
    detector = load_detector(
        weights,
        tables,
        device=device,
        precision=precision,
        engine=engine,
        score_threshold=score_threshold,
    )
    frames = VodFrames.for_detectors(tables, split, detector.config, sensors=sensors)
    seen = pass_over(detector, frames, split, recorded=SENSORS, sensors=sensors)
    results = results_of(frames, [answer.detections for answer in seen.answers])
    clear(out)
    write_results(frames.tokens, results, out / "results")
    result, parts, notes = None, list[Table](), [seen.account.note()]
    if unlabelled := unlabelled_note(frames, out / "results"):
        notes.append(unlabelled)
    else:
        result, scored = _scored(
            frames, results, out, slices=slices, facts=seen.facts(), split=split
        )
        parts = [*metrics_tables(result), *scored]
        notes += [absent_note(result), unknown_note(detector.config, result)]
    recorded = VodFrames.for_detectors(
        tables, split, detector.config, sensors=sensors, recorded=True
    )
    pictures = draw_samples(
        recorded, seen.answers, out, cameras=tables.cameras, name=lambda token: f"frame {token}"
    )
    text = f"{weights.name} on {split} of {tables.version}: {len(frames)} frames."
    if sensors:
        text += f" Sensors: {', '.join(seen.account.sensors)}."
    publish(
        out,
        title=TITLE,
        text=text,
        notes=notes,
        tables=[*parts, *seen.tables()],
        pictures=pictures,
    )
    return result


def evaluate_results(
    folder: Path, data: Path, split: str, out: Path, *, slices: bool = False
) -> VodEvaluation:
    """Score a folder of result files of any origin.

    Writes metrics.json, with ``slices`` slices.json, and report.html into ``out``, in the place of
    what an evaluation before this one left, but for ``folder``; prints the tables.

    Raises:
        EvaluateError: a frame without a file, or a split without labels.
        VodError: the data set, or a file, cannot be used.
    """
    frames = VodFrames(Vod(data), split)
    results = read_results(frames.tokens, folder)
    check_labelled(frames)
    clear(out, keep=folder)
    result, parts = _scored(frames, results, out, slices=slices, split=split)
    publish(
        out,
        title=TITLE,
        text=f"{folder.name} on {split} of {frames.tables.version}.",
        notes=[absent_note(result), uncounted_note(results, result.rules)],
        tables=[*metrics_tables(result), *parts],
        pictures={},
    )
    return result


def metrics_tables(result: VodEvaluation) -> list[Table]:
    """One table an area: average precisions by class, percent."""
    return [
        Table(
            title=f"View-of-Delft, {AREA_TITLES[area]}: AP (%)",
            columns=("class", "3D", "BEV", "AOS", "objects"),
            rows=[
                [
                    name,
                    *(f"{row[key]:.2f}" for key in ("3d", "bev", "aos")),
                    str(row.get("objects", "")),
                ]
                for name, row in result.summary[area].items()
            ],
        )
        for area in AREAS
    ]


def absent_note(result: VodEvaluation) -> str:
    """Which classes have nothing to find, and so an AP of 0 that says nothing; "" = none."""
    parts = []
    for area in AREAS:
        rows = result.summary[area]
        names = [name for name in result.rules.classes if not rows[name]["objects"]]
        if names:
            parts.append(f"{', '.join(names)} in the {AREA_TITLES[area]}")
    if not parts:
        return ""
    return f"Nothing to find of {'; '.join(parts)}: AP is 0 there, and the mean counts it."


def unknown_note(detector: DetectorConfig, result: VodEvaluation) -> str:
    """Which of the scored classes the detector has not, so that their AP is 0; "" = none."""
    names = [name for name in result.rules.classes if name not in detector.classes]
    if not names:
        return ""
    return (
        f"{detector.name} knows no {', '.join(names)}: AP is 0 there, and the mean counts it, as "
        "the benchmark's does."
    )


def check_labelled(frames: VodFrames) -> None:
    """Refuse frames of the test set.

    Raises:
        EvaluateError: a frame has no labels.
    """
    if note := unlabelled_note(frames, "the result files of crkd evaluate"):
        raise EvaluateError(note)


def unlabelled_note(frames: VodFrames, results: Path | str) -> str:
    """Why nothing of such frames is scored, and where results go; "" = all have labels."""
    bare = [name for name in frames.tokens if frames.tables.labels(name) is None]
    if not bare:
        return ""
    return (
        f"{frames.tables.root}: frame {bare[0]} is of the test set and has no labels, so nothing "
        f"can be scored; send {results} to the benchmark's server"
    )


def pairs_of(frames: VodFrames, results: Sequence[Objects]) -> list[Pair]:
    """Labels of frames and what was found there, with their overlaps."""
    return paired([frames.objects(index) for index in range(len(frames))], results)


def _scored(
    frames: VodFrames,
    results: list[Objects],
    out: Path,
    *,
    slices: bool,
    split: str,
    facts: Mapping[str, Any] | None = None,
) -> tuple[VodEvaluation, list[Table]]:
    """The metrics, and the table of parts where asked for.

    They are written before anything is drawn or printed, which may fail.
    """
    pairs = pairs_of(frames, results)
    result = evaluate_pairs(pairs)
    metrics = {
        "metrics": "View-of-Delft",
        "unit": UNIT,
        **result.summary,
        **scored_data(frames.tables, frames.tokens, split=split),
        **(facts or {}),
    }
    write_json(metrics, out / "metrics.json", indent=2)
    if not slices:
        return result, []
    parts = score_parts(pairs, result.rules)
    write_json(parts, out / "slices.json", indent=2)
    return result, [parts_table(parts, result.rules)]
