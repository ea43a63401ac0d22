"""Evaluation runs: a detector on a split, or a submission file; tables, pictures, result files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crkd_core.boxes import SCORED_FROM
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.evaluate.folder import clear
from crkd_core.evaluate.metrics import Evaluation
from crkd_core.evaluate.pass_over import draw_samples, pass_over
from crkd_core.evaluate.pictures import draw_precision_recall
from crkd_core.evaluate.predict import load_detector
from crkd_core.evaluate.reading import read_submission
from crkd_core.evaluate.report import metrics_tables, publish, scope_note
from crkd_core.evaluate.scored_data import scored_data
from crkd_core.evaluate.scoring import Countable, countable, unscored_note
from crkd_core.evaluate.slices import score_slices, slices_table
from crkd_core.evaluate.submission import (
    META_KEYS,
    Submission,
    make_submission,
    write_submission,
)
from crkd_core.files import write_json
from crkd_core.sensors import CAMERAS, CHANNELS, LIDAR, RADARS
from crkd_core.tables import Table


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
    score_threshold: float = SCORED_FROM,
    slices: bool = False,
    version: str | None = None,
) -> Evaluation | None:
    """Run a detector over a split and score it.

    Writes results.json (the submission), metrics.json, pictures and report.html into ``out``, and
    slices.json where asked for, in the place of what an evaluation before this one left; prints
    the tables. Of a version without annotations, such as v1.0-test, there are no scores: no
    metrics.json and no slices.json, and what is printed says so. A sample that has nothing that
    the detector reads has an empty answer; these are counted in metrics.json and in what is
    printed; "data" there identifies the samples, see scored_data.py. Of a detector with a second
    head its cells are scored too ("segmentation" in metrics.json).

    Args:
        weights: file of ``save_weights``.
        data: root of a nuScenes data set.
        split: name of a split.
        out: folder, made if missing.
        device: "cpu", "cuda", "cuda:N".
        precision: "fp32", "bf16", "fp16".
        engine: what computes the network, see infer/engines/runtimes.py.
        sensors: cameras and radars that the detector may see; () = all. LiDAR always stays.
        score_threshold: weaker boxes are not submitted. Low, because AP counts the tail.
        slices: score parts of the split too, see slices.py.
        version: version folder of the data set; None = the one that holds the split.

    Returns:
        The metrics; None: the version has no annotations.

    Raises:
        ConfigError: the detector has a class that the data set does not know, or does not read one
            of ``sensors``.
        NuScenesError, CheckpointError, InferError: data, weights or device cannot be used.
    """
    tables = NuScenes(data, split=split, version=version)
    detector = load_detector(
        weights,
        tables,
        device=device,
        precision=precision,
        engine=engine,
        score_threshold=score_threshold,
    )
    frames = NuScenesFrames.for_detectors(tables, split, detector.config, sensors=sensors)
    seen = pass_over(detector, frames, split, recorded=CHANNELS, sensors=sensors)
    used = {*seen.account.sensors}
    meta = dict.fromkeys(META_KEYS, False)
    meta["use_camera"] = bool(used & {*CAMERAS})
    meta["use_radar"] = bool(used & {*RADARS})
    meta["use_lidar"] = LIDAR in used
    submission = make_submission(seen.answers, classes=detector.config.classes, meta=meta)
    clear(out)
    write_submission(submission, out / "results.json")
    result, parts, notes = None, list[Table](), [seen.account.note()]
    if tables.annotated:
        counted = countable(tables, submission, split)
        facts = scored_data(tables, counted.tokens, split=split) | seen.facts()
        result, parts = _scored(tables, submission, counted, out, slices=slices, facts=facts)
    else:
        notes.append(unscored_note(tables, out / "results.json"))
    recorded = NuScenesFrames.for_detectors(
        tables, split, detector.config, sensors=sensors, recorded=True
    )
    pictures = draw_samples(
        recorded,
        seen.answers,
        out,
        cameras=CAMERAS,
        name=lambda token: f"{tables.scene_of(token)}, sample {token}",
    )
    text = f"{weights.name} on {split} of {tables.version}: {len(frames)} samples."
    if sensors:
        text += f" Sensors: {', '.join(seen.account.sensors)}."
    _publish(
        result,
        out,
        text=text,
        notes=notes,
        tables=[*parts, *seen.tables()],
        pictures=pictures,
    )
    return result


def evaluate_submission(
    results_json: Path,
    data: Path,
    split: str,
    out: Path,
    *,
    slices: bool = False,
    version: str | None = None,
) -> Evaluation:
    """Score a submission file of any origin.

    Writes metrics.json, the precision-recall picture and report.html into ``out``, and slices.json
    where asked for, in the place of what an evaluation before this one left, but for
    ``results_json``; prints the tables.

    Raises:
        SubmissionError: the file is not a sound submission.
        EvaluateError: it does not fit the split.
        NuScenesError: the data set cannot be used.
    """
    submission = read_submission(results_json)
    tables = NuScenes(data, split=split, version=version)
    counted = countable(tables, submission, split)
    clear(out, keep=results_json)
    facts = scored_data(tables, counted.tokens, split=split)
    result, parts = _scored(tables, submission, counted, out, slices=slices, facts=facts)
    text = f"{results_json.name} on {split} of {tables.version}."
    _publish(result, out, text=text, tables=parts)
    return result


def _scored(
    tables: NuScenes,
    submission: Submission,
    counted: Countable,
    out: Path,
    *,
    slices: bool,
    facts: Mapping[str, Any],
) -> tuple[Evaluation, list[Table]]:
    """Metrics of the whole, and the table of its parts where asked for; written.

    They are written before anything is drawn or printed, which may fail.
    """
    result = counted.score()
    metrics = {**result.summary, "meta": dict(submission.meta), **facts}
    write_json(metrics, out / "metrics.json", indent=2)
    if not slices:
        return result, []
    parts = score_slices(tables, counted)
    write_json(parts, out / "slices.json", indent=2)
    return result, [slices_table(parts)]


def _publish(
    result: Evaluation | None,
    out: Path,
    *,
    text: str,
    tables: list[Table],
    notes: Sequence[str] = (),
    pictures: Mapping[str, Path] | None = None,
) -> None:
    """Write curves and report; print the tables, and then the notes. Without scores no curves."""
    drawn, told = {**(pictures or {})}, [*notes]
    if result is not None:
        curves = out / "precision_recall.png"
        draw_precision_recall(result, curves)
        drawn = {"precision over recall": curves, **drawn}
        tables = [*metrics_tables(result.summary), *tables]
        told.append(scope_note(result))
    publish(
        out,
        title="nuScenes detection evaluation",
        text=text,
        notes=told,
        tables=tables,
        pictures=drawn,
    )
