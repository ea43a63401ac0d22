"""Evaluation runs on View-of-Delft: a detector on a split, or a folder of result files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from crkd_core.boxes import SCORED_FROM
from crkd_core.data.vod.labels import Objects
from crkd_core.data.vod.layout import Vod
from crkd_core.data.vod.reader import VodFrames
from crkd_core.evaluate.folder import clear
from crkd_core.evaluate.pictures import draw_bev, draw_cameras
from crkd_core.evaluate.predict import Account, detect, load_detector, segment_score, timing_table
from crkd_core.evaluate.report import write_report
from crkd_core.evaluate.scoring import EvaluateError
from crkd_core.evaluate.vod.metrics import Pair, VodEvaluation, evaluate_pairs, paired
from crkd_core.evaluate.vod.results import read_results, results_of, write_results
from crkd_core.evaluate.vod.rules import AREAS, Area
from crkd_core.evaluate.vod.slices import parts_table, score_parts
from crkd_core.files import write_json
from crkd_core.sensors import LIDAR
from crkd_core.tables import Table, print_tables

#: How many frames of a split are drawn.
PICTURES = 3

#: Area -> what it is called in tables.
AREA_TITLES: dict[Area, str] = {
    "entire_area": "entire annotated area",
    "driving_corridor": "driving corridor",
}
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
) -> VodEvaluation:
    """Run a detector over a split and score it; arguments as of evaluation.evaluate_weights.

    Writes results/ (a file a frame), metrics.json, with ``slices`` slices.json, pictures and
    report.html into ``out``, in the place of what an evaluation before this one left; prints the
    tables. Of a detector with a second head its cells are scored too ("segmentation").

    Raises:
        EvaluateError: the split has no labels (results are written nevertheless).
        ConfigError: the detector has a class that is not scored or not annotated.
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
    there = ("CAM_FRONT", "RADAR_FRONT", LIDAR)
    used = {LIDAR, *sensors} if sensors else {*there}
    read = [name for name in detector.config.sensors if name in there and name in used]
    stages: dict[str, list[float]] = {}
    account = Account(sensors=tuple(read))
    cells = segment_score(detector)
    found = detect(
        detector,
        frames,
        f"evaluating {split}",
        stays=True,
        stages=stages,
        account=account,
        cells=cells,
    )
    answers = [boxes for _, boxes in found]
    results = results_of(frames, answers)
    clear(out)
    write_results(frames.tokens, results, out / "results")
    check_labelled(frames)
    summary = None if cells is None else cells.summary()
    result, parts = _scored(frames, results, out, slices=slices, cells=summary)
    recorded = VodFrames.for_detectors(
        tables, split, detector.config, sensors=sensors, recorded=True
    )
    pictures: dict[str, Path] = {}
    for i in sorted({int(i) for i in np.linspace(0, len(frames) - 1, PICTURES + 2)[1:-1]}):
        frame = recorded[i]
        above, photos = (out / f"{kind}_{i:05d}.png" for kind in ("bev", "cameras"))
        draw_bev(frame, answers[i], above)
        draw_cameras(frame, answers[i], photos, cameras=tables.cameras)
        pictures[f"frame {frame.token}: from above"] = above
        pictures[f"frame {frame.token}: in the camera"] = photos
    text = f"{weights.name} on {split} of {tables.version}: {len(frames)} frames."
    if sensors:
        text += f" Sensors: {', '.join(sensors)}."
    notes = [note for note in (account.note(), absent_note(result)) if note]
    _publish(
        [*metrics_tables(result), *parts, account.table(), timing_table(stages)],
        out,
        text="\n\n".join([text, *notes]),
        notes=notes,
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
    result, parts = _scored(frames, results, out, slices=slices)
    note = absent_note(result)
    text = f"{folder.name} on {split} of {frames.tables.version}."
    notes = [note] if note else []
    _publish(
        [*metrics_tables(result), *parts],
        out,
        text="\n\n".join([text, *notes]),
        notes=notes,
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


def check_labelled(frames: VodFrames) -> None:
    """Refuse frames of the test set.

    Raises:
        EvaluateError: a frame has no labels.
    """
    bare = [name for name in frames.tokens if frames.tables.labels(name) is None]
    if bare:
        raise EvaluateError(
            f"{frames.tables.root}: frame {bare[0]} is of the test set and has no labels, so "
            "nothing can be scored; send the result files to the benchmark's server"
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
    cells: dict[str, Any] | None = None,
) -> tuple[VodEvaluation, list[Table]]:
    """The metrics, and tables of cells and parts where asked for.

    They are written before anything is drawn or printed, which may fail.
    """
    pairs = pairs_of(frames, results)
    result = evaluate_pairs(pairs)
    metrics = {"metrics": "View-of-Delft", "unit": UNIT, **result.summary}
    more = []
    if cells is not None:
        from crkd_core.evaluate.segmentation import segments_table

        metrics["segmentation"] = cells
        more.append(segments_table(cells))
    write_json(metrics, out / "metrics.json", indent=2)
    if not slices:
        return result, more
    parts = score_parts(pairs, result.rules)
    write_json(parts, out / "slices.json", indent=2)
    return result, [*more, parts_table(parts, result.rules)]


def _publish(
    tables: list[Table], out: Path, *, text: str, notes: list[str], pictures: dict[str, Path]
) -> None:
    """Write the report; print the tables, and then the notes, on stdout."""
    write_report(
        out / "report.html",
        title="View-of-Delft detection evaluation",
        tables=tables,
        pictures=pictures,
        text=text,
    )
    print_tables(*tables)
    for note in notes:
        print(note)
    print(f"written: {out}")
