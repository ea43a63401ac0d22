"""Evaluation runs: a detector on a split, or a submission file; tables, pictures, result files."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
from rich.console import Console
from rich.progress import Progress

from crkd_core.boxes import Detections
from crkd_core.config import check_classes
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.data.nuscenes.tables import SPLIT_SUFFIX, custom_splits, read_table
from crkd_core.evaluate.metrics import DetectionRules, Evaluation, evaluate
from crkd_core.evaluate.pictures import draw_bev, draw_cameras, draw_precision_recall
from crkd_core.evaluate.reading import read_submission
from crkd_core.evaluate.report import metrics_tables, unscored_note, write_report
from crkd_core.evaluate.submission import META_KEYS, Submission, make_submission, write_submission
from crkd_core.evaluate.truth import SampleTruth
from crkd_core.files import write_json
from crkd_core.sensors import CAMERAS, LIDAR, RADARS
from crkd_core.tables import Table, print_tables

if TYPE_CHECKING:
    from crkd_core.config import Precision

#: How many samples of a split are drawn.
PICTURES = 3


class EvaluateError(ValueError):
    """A submission that does not fit the split, or a split that cannot be scored."""


def score(
    tables: NuScenes,
    submission: Submission,
    split: str | Sequence[str],
    *,
    rules: DetectionRules | None = None,
) -> Evaluation:
    """nuScenes metrics of a submission, over its own classes in the order of the data set.

    Boxes of equal score keep the devkit's order: that of the file for the predefined splits, that
    of sample.json for splits of splits.json.

    Args:
        tables: the data set; what it holds of other classes than the submission's does not count.
        submission: global boxes; every sample of the split must be there, with boxes or without.
        split: name of a split, or sample tokens. Samples outside a split of splits.json are
            ignored, as the devkit does; with a predefined split or with tokens they are refused.
        rules: the benchmark's numbers.

    Raises:
        EvaluateError: samples missing, unknown or too many; a version without annotations; a class
            that the data set does not know.
        NuScenesError: unknown split.
    """
    if not tables.annotated:
        raise EvaluateError(
            f"{tables.root}: {tables.version} has no annotations, so nothing can be scored; send "
            "the results file to the benchmark's server"
        )
    unknown = [name for name in submission.boxes.classes if name not in tables.classes]
    if unknown:
        raise EvaluateError(
            f"submission: {tables.root} knows no {', '.join(unknown)}, so they cannot be scored; "
            f"it knows {', '.join(tables.classes)}"
        )
    wanted = tables.samples_of(split) if isinstance(split, str) else list(split)
    folder = tables.root / tables.version
    custom = isinstance(split, str) and split in custom_splits(folder)
    given = set(submission.tokens)
    where = f"split {split!r}" if isinstance(split, str) else "the samples asked for"
    missing = [token for token in wanted if token not in given]
    if missing:
        raise EvaluateError(
            f"submission: {len(missing)} of {len(wanted)} samples of {where} are missing, first "
            f"{missing[0]}; give an empty list where nothing was found"
        )
    inside = set(wanted)
    for token in submission.tokens:
        if token not in inside:
            tables.sample_row(token)  # Raises if the data set does not have it at all.
            if not custom:
                raise EvaluateError(f"submission: sample {token} is not in {where}; leave it out")

    if custom and not (isinstance(split, str) and split in SPLIT_SUFFIX):
        order = [str(row["token"]) for rows in read_table(folder / "sample.json") for row in rows]
        tokens = [token for token in order if token in inside]
    else:
        tokens = [token for token in submission.tokens if token in inside]
    truth = SampleTruth.read(tables, tokens, rules=rules)
    place = {token: i for i, token in enumerate(tokens)}
    renumber = np.array([place.get(token, -1) for token in submission.tokens], np.int64)
    boxes = dataclasses.replace(submission.boxes, sample=renumber[submission.boxes.sample])
    rows = np.argsort(boxes.sample, kind="stable")
    boxes = boxes.select(rows[boxes.sample[rows] >= 0])
    classes = [name for name in tables.classes if name in boxes.classes]
    result = evaluate(
        truth.boxes.of_classes(classes),
        truth.countable(boxes).of_classes(classes),
        rules=rules,
    )
    others = tuple(name for name in tables.classes if name not in classes)
    return dataclasses.replace(result, unscored=others)


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
) -> Evaluation:
    """Run a detector over a split and score it.

    Writes results.json (the submission), metrics.json, pictures and report.html into ``out``;
    prints the tables.

    Args:
        weights: file of ``save_weights``.
        data: root of a nuScenes data set.
        split: name of a split.
        out: folder, made if missing.
        device: "cpu", "cuda", "cuda:N".
        precision: "fp32", "bf16", "fp16".
        sensors: cameras and radars that the detector may see; () = all.
        score_threshold: weaker boxes are not submitted. Low, because AP counts the tail.

    Raises:
        EvaluateError: the version has no annotations (results.json is written nevertheless).
        ConfigError: the detector has a class that the data set does not know.
        NuScenesError, CheckpointError, InferError: data, weights or device cannot be used.
    """
    # Here, because scoring a file needs no torch, and torch takes seconds to import.
    from crkd_core.infer.detector import Detector

    tables = NuScenes(data, split=split)
    detector = Detector.load(
        weights,
        device=device,
        precision=cast("Precision", precision),  # checked there
        score_threshold=score_threshold,
    )
    check_classes(detector.config.name, detector.config.classes, tables.classes)
    read = detector.config.sensors
    used = {LIDAR, *sensors} & {*read} if sensors else {*read}
    frames = NuScenesFrames.for_detectors(tables, split, detector.config, sensors=sensors)
    drawn = sorted({int(i) for i in np.linspace(0, len(frames) - 1, PICTURES + 2)[1:-1]})
    shown: dict[int, Detections] = {}
    stages: dict[str, list[float]] = {"read": []}
    answers = []
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"evaluating {split}", total=len(frames))
        for i in range(len(frames)):
            start = time.perf_counter()
            frame = frames[i]
            stages["read"].append(time.perf_counter() - start)
            found = detector(frame)
            for stage, seconds in detector.timing.items():
                stages.setdefault(stage, []).append(seconds)
            answers.append((frame.token, frame.global_T_ego, found))
            if i in drawn:
                shown[i] = found
            progress.advance(task)
    meta = dict.fromkeys(META_KEYS, False)
    meta["use_camera"] = any(name in used for name in CAMERAS)
    meta["use_radar"] = any(name in used for name in RADARS)
    meta["use_lidar"] = LIDAR in used
    submission = make_submission(answers, classes=detector.config.classes, meta=meta)
    write_submission(submission, out / "results.json")
    result = score(tables, submission, split)

    pictures: dict[str, Path] = {}
    recorded = NuScenesFrames.for_detectors(
        tables, split, detector.config, sensors=sensors, recorded=True
    )
    for i, found in shown.items():
        frame = recorded[i]
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
    _publish(result, submission, out, text=text, tables=[timing], pictures=pictures)
    return result


def evaluate_submission(results_json: Path, data: Path, split: str, out: Path) -> Evaluation:
    """Score a submission file of any origin.

    Writes metrics.json, the precision-recall picture and report.html into ``out``; prints the
    tables.

    Raises:
        SubmissionError: the file is not a sound submission.
        EvaluateError: it does not fit the split.
        NuScenesError: the data set cannot be used.
    """
    submission = read_submission(results_json)
    tables = NuScenes(data, split=split)
    result = score(tables, submission, split)
    text = f"{results_json.name} on {split} of {tables.version}."
    _publish(result, submission, out, text=text, tables=[], pictures={})
    return result


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
