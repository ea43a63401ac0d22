"""Evaluation runs: a detector on a split, or a submission file; tables, pictures, result files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.evaluate.metrics import Evaluation
from crkd_core.evaluate.pictures import draw_bev, draw_cameras, draw_precision_recall
from crkd_core.evaluate.predict import detect, load_detector
from crkd_core.evaluate.reading import read_submission
from crkd_core.evaluate.report import metrics_tables, unscored_note, write_report
from crkd_core.evaluate.scoring import countable
from crkd_core.evaluate.slices import score_slices, slices_table
from crkd_core.evaluate.submission import (
    META_KEYS,
    Answer,
    Submission,
    make_submission,
    write_submission,
)
from crkd_core.files import write_json
from crkd_core.sensors import CAMERAS, LIDAR, RADARS
from crkd_core.tables import Table, print_tables

#: How many samples of a split are drawn.
PICTURES = 3


def evaluate_weights(
    weights: Path,
    data: Path,
    split: str,
    out: Path,
    *,
    device: str = "cpu",
    precision: str = "fp32",
    sensors: Sequence[str] = (),
    score_threshold: float = 0.02,
    slices: bool = False,
) -> Evaluation:
    """Run a detector over a split and score it.

    Writes results.json (the submission), metrics.json, pictures and report.html into ``out``, and
    slices.json where asked for; prints the tables.

    Args:
        weights: file of ``save_weights``.
        data: root of a nuScenes data set.
        split: name of a split.
        out: folder, made if missing.
        device: "cpu", "cuda", "cuda:N".
        precision: "fp32", "bf16", "fp16".
        sensors: cameras and radars that the detector may see; () = all.
        score_threshold: weaker boxes are not submitted. Low, because AP counts the tail.
        slices: score parts of the split too, see slices.py.

    Raises:
        EvaluateError: the version has no annotations (results.json is written nevertheless).
        ConfigError: the detector has a class that the data set does not know.
        NuScenesError, CheckpointError, InferError: data, weights or device cannot be used.
    """
    tables = NuScenes(data, split=split)
    detector = load_detector(
        weights, tables, device=device, precision=precision, score_threshold=score_threshold
    )
    read = detector.config.sensors
    used = {LIDAR, *sensors} & {*read} if sensors else {*read}
    frames = NuScenesFrames.for_detectors(tables, split, detector.config, sensors=sensors)
    stages: dict[str, list[float]] = {}
    answers = [
        Answer.to(frame, found)
        for frame, found in detect(
            detector, frames, f"evaluating {split}", stays=True, stages=stages
        )
    ]
    meta = dict.fromkeys(META_KEYS, False)
    meta["use_camera"] = any(name in used for name in CAMERAS)
    meta["use_radar"] = any(name in used for name in RADARS)
    meta["use_lidar"] = LIDAR in used
    submission = make_submission(answers, classes=detector.config.classes, meta=meta)
    write_submission(submission, out / "results.json")
    result, parts = _scored(tables, submission, split, out, slices=slices)

    pictures: dict[str, Path] = {}
    recorded = NuScenesFrames.for_detectors(
        tables, split, detector.config, sensors=sensors, recorded=True
    )
    for i in sorted({int(i) for i in np.linspace(0, len(frames) - 1, PICTURES + 2)[1:-1]}):
        frame, found = recorded[i], answers[i].detections
        name = f"{tables.scene_of(frame.token)}, sample {frame.token}"
        for kind, draw in (("bev", draw_bev), ("cameras", draw_cameras)):
            path = out / f"{kind}_{i:05d}.png"
            draw(frame, found, path)
            pictures[f"{name}: {kind}"] = path
    timing = Table(
        title="time per sample (ms)",
        columns=("stage", "median", "mean", "worst"),
        rows=[
            [name, *(f"{1e3 * f(seconds):.1f}" for f in (np.median, np.mean, max))]
            for name, seconds in stages.items()
        ],
    )
    text = f"{weights.name} on {split} of {tables.version}: {len(frames)} samples."
    if sensors:
        text += f" Sensors: {', '.join(sensors)}."
    _publish(result, submission, out, text=text, tables=[*parts, timing], pictures=pictures)
    return result


def evaluate_submission(
    results_json: Path, data: Path, split: str, out: Path, *, slices: bool = False
) -> Evaluation:
    """Score a submission file of any origin.

    Writes metrics.json, the precision-recall picture and report.html into ``out``, and slices.json
    where asked for; prints the tables.

    Raises:
        SubmissionError: the file is not a sound submission.
        EvaluateError: it does not fit the split.
        NuScenesError: the data set cannot be used.
    """
    submission = read_submission(results_json)
    tables = NuScenes(data, split=split)
    result, parts = _scored(tables, submission, split, out, slices=slices)
    text = f"{results_json.name} on {split} of {tables.version}."
    _publish(result, submission, out, text=text, tables=parts, pictures={})
    return result


def _scored(
    tables: NuScenes, submission: Submission, split: str, out: Path, *, slices: bool
) -> tuple[Evaluation, list[Table]]:
    """Metrics of the whole, and the table of its parts where asked for, which are written too."""
    counted = countable(tables, submission, split)
    if not slices:
        return counted.score(), []
    parts = score_slices(tables, counted)
    write_json(parts, out / "slices.json", indent=2)
    return counted.score(), [slices_table(parts)]


def _publish(
    result: Evaluation,
    submission: Submission,
    out: Path,
    *,
    text: str,
    tables: list[Table],
    pictures: dict[str, Path],
) -> None:
    """Write metrics.json, curves and report; print the tables on stdout."""
    write_json({**result.summary, "meta": dict(submission.meta)}, out / "metrics.json", indent=2)
    curves = out / "precision_recall.png"
    draw_precision_recall(result, curves)
    note = unscored_note(result)
    every = [*metrics_tables(result.summary), *tables]
    write_report(
        out / "report.html",
        title="nuScenes detection evaluation",
        tables=every,
        pictures={"precision over recall": curves, **pictures},
        text=f"{text}\n\n{note}",
    )
    print_tables(*every)
    if note:
        print(note)
    print(f"written: {out}")
