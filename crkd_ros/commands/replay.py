"""`crkd replay`, for `ros2 run` the executable `replay`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from crkd_core.command import run_function
from crkd_core.commands.options import Overwrite, Version
from crkd_core.files import check_output
from crkd_core.progress import stderr_console
from crkd_core.tables import print_tables


def replay(
    bag: Annotated[Path, typer.Argument(help="A rosbag2: folder, .mcap or .db3.")],
    weights: Annotated[Path, typer.Option(help="A .safetensors detector.")],
    out: Annotated[Path, typer.Option(help="Folder for detections and metrics.")],
    data: Annotated[Path | None, typer.Option(help="The bag's nuScenes data set.")] = None,
    split: Annotated[str | None, typer.Option(help="Its split.")] = None,
    device: Annotated[str, typer.Option(help='"cpu", "cuda", "cuda:1".')] = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    score_threshold: Annotated[
        float,
        typer.Option(min=0.0, max=0.999, help="Weaker detections are left out of the bag."),
    ] = 0.1,
    key_frames_only: Annotated[
        bool, typer.Option(help="Only frames that are samples of the data set.")
    ] = False,
    params: Annotated[
        Path | None,
        typer.Option(help="The node's parameter file: what frames are made of holds."),
    ] = None,
    version: Version = None,
    overwrite: Overwrite = False,
) -> None:
    """Run a detector over a rosbag2; with --data and --split also score it."""
    from crkd_ros.bags import replay as replaying
    from crkd_ros.bags.frames import layout_of
    from crkd_ros.parameters.node import NodeConfig
    from crkd_ros.parameters.parameter_file import load

    # What is plainly wrong is said before torch is loaded.
    results = ["detections", *([] if data is None else ["results.json", "metrics.json"])]
    check_output(out, results=results, overwrite=overwrite)
    framing = None if params is None else load(params, NodeConfig, node="detector_node")
    layout_of(bag, framing)
    from crkd_core.evaluate.report import metrics_tables, unscored_note
    from crkd_core.infer.detector import Detector

    scored_from = replaying.SCORED_FROM
    detector = Detector.load(
        weights,
        device=device,
        precision=precision,  # type: ignore[arg-type]  # Detector names the known ones
        score_threshold=score_threshold if data is None else min(score_threshold, scored_from),
    )
    if overwrite:
        shutil.rmtree(out / "detections", ignore_errors=True)
    report = replaying.replay(
        bag,
        detector,
        out,
        data=data,
        split=split,
        key_frames_only=key_frames_only,
        score_threshold=score_threshold,
        framing=framing,
        version=version,
    )
    if report.evaluation is not None:
        print_tables(*metrics_tables(report.evaluation.summary))
        if note := unscored_note(report.evaluation):
            print(note)
    samples = f", {report.key_frames} of them samples" if data is not None else ""
    print(f"written: {out / 'detections'}, {report.frames} frames{samples}")
    if report.problems:
        first = report.problems[0]
        stderr_console().print(
            f"{len(report.problems)} messages or frames could not be used, first at "
            f"{first.stamp_ns} ns: {first.reason}",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )


def main() -> None:
    """Entry point of `ros2 run crkd_ros replay`."""
    run_function(replay)
