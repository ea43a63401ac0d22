"""`crkd bench`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, cast, get_args

import typer

from crkd_core.commands.options import Device, Overwrite, leave_out
from crkd_core.config import ConfigError, Engine, Precision
from crkd_core.files import check_output


def bench(
    context: typer.Context,
    preset: Annotated[str, typer.Option(help="demo_student, crkd_r50, ...")] = "demo_student",
    weights: Annotated[
        Path | None, typer.Option(help="Time this detector (file or run folder).")
    ] = None,
    device: Device = "cpu",
    rounds: Annotated[int, typer.Option(min=1, help="Timed calls or steps.")] = 20,
    training: Annotated[bool, typer.Option(help="Time training steps instead.")] = False,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Of training; default: the preset's.")
    ] = None,
    precision: Annotated[
        list[str] | None,
        typer.Option(
            help="Beside fp32 (repeatable): bf16; fp16 on CUDA; default: those that the device "
            "has instructions for."
        ),
    ] = None,
    engine: Annotated[
        list[str] | None,
        typer.Option(help="Beside torch (repeatable): cuda_graph, export, onnxruntime, openvino."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for bench.json and bench.png; not of training.")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """How fast a detector runs here, by precision and stage; or how fast it trains."""
    from crkd_core.infer.allocator import keep_freed_memory
    from crkd_core.infer.bench import bench as run_bench
    from crkd_core.infer.stage_report import RESULTS
    from crkd_core.train.bench import bench_training

    if training and weights is not None:
        raise ConfigError("--training times a preset with random weights; leave --weights out")
    if training and engine:
        raise ConfigError("--training is done by torch alone; leave --engine out")
    if not training:
        leave_out(
            context, "batch_size", beside="of --training, and a detector is timed frame by frame"
        )
    if weights is not None:
        leave_out(context, "preset", beside="--weights have a network of their own")
    others = tuple(get_args(Engine))[1:]
    if unknown := set(engine or ()) - set(others):
        raise ConfigError(f"--engine: expected {', '.join(others)}, got {', '.join(unknown)}")
    if training and precision:
        raise ConfigError("--training uses the preset's precision; leave --precision out")
    known = get_args(Precision)
    if unknown := set(precision or ()) - set(known):
        raise ConfigError(f"--precision: expected {', '.join(known)}, got {', '.join(unknown)}")
    if training and out is not None:
        raise ConfigError("--training writes no figures; leave --out out")
    if out is not None:
        check_output(out, results=RESULTS, overwrite=overwrite)
    if training:
        bench_training(preset_name=preset, batch_size=batch_size, device=device, rounds=rounds)
    else:
        keep_freed_memory()
        run_bench(
            preset_name=preset,
            weights=weights,
            device=device,
            rounds=rounds,
            precisions=cast(list[Precision], precision) if precision else None,
            engines=cast(list[Engine], engine or []),
            out=out,
        )
