"""`crkd replay`, for `ros2 run` the executable `replay`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated

import typer

from crkd_core.boxes import SCORED_FROM
from crkd_core.command import run_function
from crkd_core.commands.options import Overwrite, Version, leave_out
from crkd_core.files import check_output
from crkd_core.progress import stderr_console
from crkd_core.tables import print_tables
from crkd_ros.commands.options import Params, SensorTopics, node_config, sensor_topics


def replay(
    context: typer.Context,
    bag: Annotated[Path, typer.Argument(help="A rosbag2: folder, .mcap or .db3.")],
    out: Annotated[Path, typer.Option(help="Folder for detections and metrics.")],
    weights: Annotated[
        Path | None, typer.Option(help="A detector, as for crkd evaluate; or that of --params.")
    ] = None,
    data: Annotated[Path | None, typer.Option(help="The bag's nuScenes data set.")] = None,
    split: Annotated[str | None, typer.Option(help="Its split.")] = None,
    device: Annotated[
        str | None, typer.Option(help='"cpu", "cuda", "cuda:1"; default: of --params, or cpu.')
    ] = None,
    precision: Annotated[
        str | None, typer.Option(help="fp32, bf16 or fp16; default: of --params, or fp32.")
    ] = None,
    engine: Annotated[
        str | None,
        typer.Option(
            help="torch, cuda_graph, export, onnxruntime or openvino; default: of --params, or "
            "torch."
        ),
    ] = None,
    score_threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            max=0.999,
            help="Weaker detections are left out of the bag; default: of --params, or 0.1.",
        ),
    ] = None,
    key_frames_only: Annotated[
        bool, typer.Option(help="Only frames that are samples of the data set.")
    ] = False,
    topic: SensorTopics = None,
    params: Params = None,
    version: Version = None,
    overwrite: Overwrite = False,
) -> None:
    """Run a detector over a rosbag2; with --data and --split also score it."""
    from crkd_ros.bags import replay as replaying
    from crkd_ros.bags.frames import layout_of
    from crkd_ros.bags.message_types import BagError
    from crkd_ros.node.offline import publishing, unused
    from crkd_ros.parameters.node import NodeConfig

    # What is plainly wrong is said before torch is loaded.
    if data is None:
        leave_out(context, "version", beside="of --data, which is not given")
    check_output(out, results=replaying.RESULTS, overwrite=overwrite)
    config = node_config(params) or NodeConfig()
    given = {
        "weights": None if weights is None else str(weights),
        "device": device,
        "precision": precision,
        "engine": engine,
        "score_threshold": score_threshold,
    }
    given = {name: value for name, value in given.items() if value is not None}
    config = dataclasses.replace(config, **given)  # type: ignore[arg-type]
    if not config.weights:
        raise BagError("give --weights, or --params with the parameter weights")
    for name in unused(config):
        _say(f"{params}: {name} means nothing to a replay")
    topics = sensor_topics(topic)
    layout_of(bag, config, topics)
    from crkd_core.evaluate.report import metrics_tables, scope_note
    from crkd_core.infer.allocator import keep_freed_memory
    from crkd_core.infer.detector import Detector

    threshold = config.score_threshold
    keep_freed_memory()
    detector = Detector.load(
        config.weights,
        device=config.device,
        precision=config.precision,
        engine=config.engine,
        score_threshold=threshold if data is None else min(threshold, SCORED_FROM),
    )
    troubles: list[str] = []
    report = replaying.replay(
        bag,
        detector,
        out,
        data=data,
        split=split,
        key_frames_only=key_frames_only,
        publishing=publishing(config, detector.config.classes, troubles.append),
        framing=config,
        topics=topics,
        version=version,
        overwrite=overwrite,
    )
    if report.evaluation is not None:
        print_tables(*metrics_tables(report.evaluation.summary))
        if note := scope_note(report.evaluation):
            print(note)
    for sentence in report.notes:
        print(sentence)
    print_tables(report.account.table())
    samples = f", {report.key_frames} of them samples" if data is not None else ""
    dropped = f"; {report.account.dropped} dropped" if report.account.dropped else ""
    print(f"written: {out / 'detections'}, {report.frames} frames{samples}{dropped}")
    if report.problems:
        first = report.problems[0]
        _say(
            f"{len(report.problems)} messages or frames could not be used, first at "
            f"{first.stamp_ns} ns: {first.reason}"
        )
    if troubles:
        _say(f"{len(troubles)} frames: {troubles[0]}")


def _say(text: str) -> None:
    """On stderr, also where nobody listens."""
    stderr_console().print(text, markup=False, highlight=False, soft_wrap=True)


def main() -> None:
    """Entry point of `ros2 run crkd_ros replay`."""
    run_function(replay)
