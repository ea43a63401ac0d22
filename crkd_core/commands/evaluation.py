"""`crkd evaluate` and `crkd compare`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from crkd_core.commands.options import (
    Data,
    Device,
    Engine,
    Out,
    Overwrite,
    Precision,
    Split,
    Version,
    leave_out,
)
from crkd_core.config import ConfigError
from crkd_core.files import check_output
from crkd_core.tables import print_tables


def evaluate(
    context: typer.Context,
    data: Data,
    split: Split,
    out: Out,
    weights: Annotated[
        Path | None, typer.Option(help="A detector: .safetensors, run folder, or of crkd export.")
    ] = None,
    submission: Annotated[
        Path | None,
        typer.Option(help="A nuScenes results JSON; a folder of result files of View-of-Delft."),
    ] = None,
    device: Device = "cpu",
    precision: Precision = "fp32",
    engine: Engine = "torch",
    sensors: Annotated[
        list[str] | None,
        typer.Option(
            "--sensor",
            help="Of cameras and radars only this (repeatable), e.g. RADAR_FRONT; LiDAR stays.",
        ),
    ] = None,
    dropout: Annotated[
        bool, typer.Option("--dropout", help="With 0/1/3/6 cameras and 0/1/3/5 radars lost.")
    ] = False,
    slices: Annotated[
        bool,
        typer.Option(
            "--slices",
            help="By range, weather, light and speed too; of View-of-Delft by range and hiding.",
        ),
    ] = False,
    seed: Annotated[
        int | None,
        typer.Option(help="With --dropout: of which sensors each sample loses; default: 0."),
    ] = None,
    version: Version = None,
    overwrite: Overwrite = False,
) -> None:
    """Metrics of a detector, with sensors lost too, or of any submission, on its data set."""
    from crkd_core.data.vod.layout import is_vod
    from crkd_core.evaluate.dropout import evaluate_dropout
    from crkd_core.evaluate.evaluation import evaluate_submission, evaluate_weights
    from crkd_core.evaluate.folder import RESULTS
    from crkd_core.infer.allocator import keep_freed_memory

    if (weights is None) == (submission is None):
        raise ConfigError("give either --weights or --submission")
    if dropout and (submission is not None or sensors):
        raise ConfigError("--dropout takes sensors from a detector: give --weights, no --sensor")
    if dropout and slices:
        raise ConfigError("--slices scores parts of one evaluation; leave --dropout out")
    if seed is not None and not dropout:
        raise ConfigError("--seed belongs to --dropout; nothing else here is left to chance")
    if submission is not None:
        reads = ("device", "precision", "engine", "sensors")
        leave_out(
            context, *reads, beside="of a detector, and a --submission has its boxes already"
        )
    if weights is not None:
        keep_freed_memory()
    if is_vod(data):
        if dropout or version is not None:
            raise ConfigError(
                "--dropout and --version are of nuScenes; View-of-Delft has one camera and one "
                "radar (--sensor leaves one of them out), and no versions"
            )
        _evaluate_vod(
            weights, submission, data, split, out, device=device, precision=precision,
            engine=engine, sensors=tuple(sensors or ()), slices=slices, overwrite=overwrite,
        )  # fmt: skip
        return
    results = ("dropout.json", "dropout.md", "dropout.png") if dropout else RESULTS
    check_output(out, results=results, overwrite=overwrite)
    if submission is not None:
        evaluate_submission(
            submission, data=data, split=split, out=out, slices=slices, version=version
        )
        return
    assert weights is not None
    if dropout:
        evaluate_dropout(
            weights,
            data,
            split,
            out,
            seed=seed or 0,
            device=device,
            precision=precision,
            engine=engine,
            version=version,
        )
        return
    evaluate_weights(
        weights,
        data=data,
        split=split,
        out=out,
        device=device,
        precision=precision,
        engine=engine,
        sensors=tuple(sensors or ()),
        slices=slices,
        version=version,
    )


def _evaluate_vod(
    weights: Path | None,
    submission: Path | None,
    data: Path,
    split: str,
    out: Path,
    *,
    device: str,
    precision: str,
    engine: str,
    sensors: tuple[str, ...],
    slices: bool,
    overwrite: bool,
) -> None:
    """`crkd evaluate` on View-of-Delft, by its own metrics."""
    from crkd_core.evaluate.folder import RESULTS
    from crkd_core.evaluate.vod.evaluation import evaluate_results, evaluate_weights

    check_output(out, results=RESULTS, overwrite=overwrite)
    if submission is not None:
        evaluate_results(submission, data, split, out, slices=slices)
        return
    assert weights is not None
    evaluate_weights(
        weights,
        data,
        split,
        out,
        device=device,
        precision=precision,
        engine=engine,
        sensors=sensors,
        slices=slices,
    )


def compare(
    folders: Annotated[
        list[str],
        typer.Argument(
            help="Folders of crkd evaluate (scores) and of crkd train or distill (losses). "
            "The same NAME for several: they differ in the seed, and are averaged.",
            metavar="[NAME=]FOLDER...",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for compare.md, compare.json, compare.png, losses.png and gradients.png."
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Evaluations and training runs side by side: scores, losses, their spread over seeds."""
    from crkd_core.evaluate.compare import compare as compare_evaluations
    from crkd_core.evaluate.compare import parse
    from crkd_core.train.curves import compare_gradient_ratios, compare_losses, logged_runs
    from crkd_core.train.run_folder import RunError

    evaluations, named = parse(folders)
    runs, missing = logged_runs(named)
    has_losses = any(runs.values())
    if not evaluations and not has_losses:
        raise RunError(missing[0])
    for text in missing:
        print(f"warning: {text}", file=sys.stderr)
    if out is not None:
        results = ["compare.md", "compare.json", "compare.png"] if evaluations else []
        results += ["losses.png", "gradients.png"] if has_losses else []
        check_output(out, results=results, overwrite=overwrite)
    if evaluations:
        print_tables(compare_evaluations(evaluations, out))
    if has_losses:
        ratios = compare_gradient_ratios(runs, out)
        print_tables(compare_losses(runs, out), *([ratios] if ratios else []))
