"""What the demo shows: metrics of the live node beside the offline run, pictures, one page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console

from crkd_core.boxes import Detections
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.evaluate.metrics import Evaluation
from crkd_core.evaluate.pictures import draw_bev, draw_cameras, draw_precision_recall
from crkd_core.evaluate.report import metrics_tables, write_report
from crkd_core.evaluate.scoring import score
from crkd_core.evaluate.submission import Answer, make_submission, write_submission
from crkd_core.tables import Table
from crkd_ros.bags.samples import key_frames
from crkd_ros.streaming_eval.recorder import Pass

#: Boxes of two runs are the same within this distance, metres.
AGREEMENT = 1e-3


def demo_report(
    tables: NuScenes,
    scene: str,
    live: Pass,
    frames: NuScenesFrames,
    offline: Sequence[Detections],
    *,
    out: Path,
) -> tuple[Evaluation, list[Table]]:
    """Score both, write report.html and the results files into ``out``; metrics and tables.

    Args:
        tables: the data set of the drive.
        scene: the drive.
        live: what the node answered.
        frames: the key frames of the drive.
        offline: the answers of the same detector to them.
        out: folder.
    """
    tokens = tables.samples_of_scene(scene)
    stamps = {token: stamp for stamp, token in key_frames(tables, [scene]).items()}
    nothing = Detections.empty(live.classes)
    boxes = {one.stamp_ns: one.detections(live.classes) for one in live.arrivals}
    answers = [boxes.get(stamps[token], nothing) for token in tokens]
    evaluations = {}
    for name, found in (("live node", answers), ("offline", offline)):
        poses = [tables.reference(token) for token in tokens]
        said = [
            Answer(token, record.global_T_ego, boxes)
            for token, record, boxes in zip(tokens, poses, found, strict=True)
            if record is not None
        ]
        submission = make_submission(said, classes=live.classes)
        write_submission(submission, out / f"results_{name.split()[0]}.json")
        evaluations[name] = score(tables, submission, tokens)
    answered = sum(stamps[token] in boxes for token in tokens)
    overall = _side_by_side(evaluations)
    latency = _latency_table(live)
    _, by_class = metrics_tables(evaluations["live node"].summary)
    pictures = _pictures(frames, answers, evaluations["live node"], out=out)
    same = sum(_agree(a, b) for a, b in zip(answers, offline, strict=True))
    text = (
        f"{scene}: {len(tokens)} key frames, of which the live node answered {answered}, "
        f"{same} of them with the boxes of the offline run to {AGREEMENT:g} m; "
        f"{len(boxes)} frames answered in all. Metrics are nuScenes detection metrics "
        f"against the truth of the drive."
    )
    report = [overall, by_class, latency]
    write_report(
        out / "report.html",
        title="Camera-radar 3D detection, live",
        tables=report,
        pictures=pictures,
        text=text,
    )
    Console().print(text, highlight=False, markup=False)
    return evaluations["live node"], report


def _agree(live: Detections, offline: Detections) -> bool:
    """Whether two answers hold the same boxes, in any order of nearly equal scores."""
    if len(live) != len(offline) or sorted(live.label) != sorted(offline.label):
        return False
    if not len(live):
        return True
    apart = np.linalg.norm(live.center[:, None] - offline.center, axis=-1)
    other = live.label[:, None] != offline.label
    nearest = (apart + 1e6 * other).min(1)
    return bool(nearest.max() < AGREEMENT)


def _side_by_side(evaluations: Mapping[str, Evaluation]) -> Table:
    rows = []
    columns: tuple[str, ...] = ()
    for name, evaluation in evaluations.items():
        table, _ = metrics_tables(evaluation.summary)
        columns = ("", *table.columns)
        rows.append((name, *table.rows[0]))
    return Table(title="nuScenes detection on an unseen drive", columns=columns, rows=rows)


def _latency_table(live: Pass) -> Table:
    return Table(
        title=f"node latency, mean of {live.frames} frames",
        columns=("stage", "ms"),
        rows=[(name, f"{mean:.1f}") for name, mean in live.stages.items()],
    )


def _pictures(
    frames: NuScenesFrames, answers: Sequence[Detections], evaluation: Evaluation, *, out: Path
) -> dict[str, Path]:
    pictures: dict[str, Path] = {}
    for index in sorted({len(frames) // 3, 2 * len(frames) // 3}):
        frame = frames[index]
        bev, cameras = out / f"bev_{index:02d}.png", out / f"cameras_{index:02d}.png"
        draw_bev(frame, answers[index], bev)
        draw_cameras(frame, answers[index], cameras)
        pictures[f"key frame {index}: from above; truth, detections, radar returns"] = bev
        pictures[f"key frame {index}: the six cameras"] = cameras
    curves = out / "precision_recall.png"
    draw_precision_recall(evaluation, curves)
    return pictures | {"precision over recall": curves}
