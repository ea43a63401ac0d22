"""The `crkd` command: a thin shell over functions."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from crkd_core.command import run
from crkd_core.config import CRKD_LOSSES, ConfigError, TrainConfig
from crkd_core.files import check_output
from crkd_core.presets import override
from crkd_core.presets import preset as find_preset

if TYPE_CHECKING:
    from crkd_core.data.nuscenes.reader import NuScenesFrames
    from crkd_core.train.run_folder import Run

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Camera-radar 3D detection: make data, train, evaluate. ROS commands: crkd-node, "
    "crkd-bag, crkd-replay, crkd-play.",
)

Data = Annotated[Path, typer.Option(help="Root folder of a nuScenes data set.")]
Split = Annotated[str, typer.Option(help="A split of splits.json or of nuScenes.")]
Out = Annotated[Path, typer.Option(help="Folder to write into.")]
Device = Annotated[str, typer.Option(help='"cpu", "cuda", "cuda:1".')]


@app.command()
def world(
    out: Out,
    scenes: Annotated[int, typer.Option(min=1, help="Number of drives.")] = 1,
    seconds: Annotated[float, typer.Option(min=1.0, help="Length of a drive.")] = 20.0,
    seed: Annotated[int, typer.Option(help="Same seed, same bytes.")] = 0,
    image_width: Annotated[int, typer.Option(min=64, help="Pixels; 16:9.")] = 800,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    key_frames_only: Annotated[
        bool, typer.Option(help="Leave the camera sweeps out (training sets).")
    ] = False,
    version: Annotated[str, typer.Option(help="Name of the version folder.")] = "v1.0-mini",
) -> None:
    """Make synthetic drives as a genuine nuScenes data set."""
    from crkd_core.world import write_world

    check_output(out)
    write_world(
        out,
        scenes=scenes,
        seconds=seconds,
        seed=seed,
        image_width=image_width,
        jobs=jobs,
        key_frames_only=key_frames_only,
        version=version,
    )


@app.command()
def world_report(
    data: Annotated[Path, typer.Argument(help="Root folder of a nuScenes-format data set.")],
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    samples: Annotated[
        int, typer.Option(min=1, help="Read the sweeps of at most so many key frames.")
    ] = 400,
    out: Annotated[Path | None, typer.Option(help="A PNG to write.")] = None,
) -> None:
    """Count what the sensors of a data set see, beside real nuScenes."""
    from crkd_core.census.report import real
    from crkd_core.census.report import world_report as report

    console = Console()
    for table in report(data, split=split, most=samples, out=out):
        console.print(table.rich())
    console.print(f"nuScenes: {real()['source']}")
    if out is not None:
        console.print(f"written: {out}", soft_wrap=True)


@app.command()
def train(
    data: Data,
    split: Split,
    out: Out,
    preset: Annotated[
        str | None, typer.Option(help="demo_student (default), crkd_r50, ...")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length of the schedule.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one value: KEY.KEY=YAML, e.g. augment.bev_flip=0."),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Train a detector of a preset; see the run folder for weights and metrics."""
    from crkd_core.train.loop import train as train_run
    from crkd_core.train.run_folder import Run

    _check_place(out, device)
    if resume:
        run = _resumed(out, split=split, preset=preset, steps=steps, changes=set_)
        config = run.config
    else:
        config = find_preset(preset or "demo_student")
        if steps is not None:
            config = dataclasses.replace(config, steps=steps)
        config = override(config, set_ or [])
    lidar_sweeps = max(config.detector.lidar_sweeps, 1 if config.depth_weight else 0)
    frames = _recorded(data, split, config, lidar_sweeps)
    if not resume:
        run = Run.start(out, config, data=str(data), split=split)
    train_run(run, frames, resume=resume, device=device)
    Console().print(f"weights: {run.path / 'weights.safetensors'}", soft_wrap=True)


@app.command()
def distill(
    data: Data,
    split: Split,
    out: Out,
    teacher: Annotated[Path | None, typer.Option(help="A run folder or weights file.")] = None,
    student: Annotated[
        str,
        typer.Option(
            "--student",
            "--student-arch",
            help="A preset (random start), or a run folder or weights file to start from.",
        ),
    ] = "demo_student",
    preset: Annotated[
        str | None, typer.Option(help="Take the training settings of this preset.")
    ] = None,
    losses: Annotated[
        str, typer.Option(help='Comma-separated; "" = none, the plain student.')
    ] = ",".join(CRKD_LOSSES),
    csrd: Annotated[bool, typer.Option(help="Cross-stage radar distillation.")] = True,
    msfd_fused: Annotated[bool, typer.Option(help="Fused features of objects.")] = True,
    msfd_camera: Annotated[bool, typer.Option(help="Camera features of objects.")] = True,
    reld: Annotated[bool, typer.Option(help="Relations between cells.")] = True,
    respd: Annotated[bool, typer.Option(help="The teacher's answers.")] = True,
    gate: Annotated[bool, typer.Option(help="The student's gated fuser.")] = True,
    calibration: Annotated[
        str | None,
        typer.Option(help="Radar calibration block: none, path (as published) or side."),
    ] = None,
    teacher_sensors: Annotated[
        list[str] | None,
        typer.Option("--teacher-sensor", help="The teacher sees only this sensor (repeatable)."),
    ] = None,
    cache: Annotated[Path | None, typer.Option(help="Keep the teacher's features here.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Length of the schedule.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on with the run in --out.")] = False,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change one value: KEY.KEY=YAML, e.g. distill.csrd_weight=50."),
    ] = None,
    device: Device = "cpu",
) -> None:
    """Train a camera-radar student with a teacher (CRKD)."""
    from crkd_core.distill.training import distill as distill_run
    from crkd_core.distill.training import distill_config, sweeps_of
    from crkd_core.train.run_folder import Run

    _check_place(out, device)
    if resume:
        run = _resumed(out, split=split, preset=None, steps=steps, changes=set_)
        config = run.config
    elif teacher is None:
        raise ConfigError("give --teacher, a run folder or a weights file")
    else:
        switches = (csrd, msfd_fused, msfd_camera, reld, respd)
        wanted = dict(zip(CRKD_LOSSES, switches, strict=True))
        names = tuple(name.strip() for name in losses.split(",") if name.strip())
        config = distill_config(
            teacher,
            student,
            preset=preset,
            losses=tuple(name for name in names if wanted.get(name, True)),
            calibration=calibration,
            teacher_sensors=tuple(teacher_sensors or ()),
            cache=cache,
        )
        if not gate:
            config = override(config, ["detector.fuser=conv"])
        if steps is not None:
            config = dataclasses.replace(config, steps=steps)
        config = override(config, set_ or [])
    frames = _recorded(data, split, config, sweeps_of(config))
    if not resume:
        run = Run.start(out, config, data=str(data), split=split)
    distill_run(run, frames, resume=resume, device=device)
    Console().print(f"weights: {run.path / 'weights.safetensors'}", soft_wrap=True)


@app.command()
def evaluate(
    data: Data,
    split: Split,
    out: Out,
    weights: Annotated[Path | None, typer.Option(help="A .safetensors detector.")] = None,
    submission: Annotated[Path | None, typer.Option(help="A nuScenes results JSON.")] = None,
    device: Device = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    sensors: Annotated[
        list[str] | None,
        typer.Option("--sensor", help="Use only this sensor (repeatable), e.g. RADAR_FRONT."),
    ] = None,
) -> None:
    """nuScenes metrics of a detector, or of any submission file."""
    from crkd_core.evaluate.evaluation import evaluate_submission, evaluate_weights

    if (weights is None) == (submission is None):
        raise ConfigError("give either --weights or --submission")
    check_output(out)
    if weights is not None:
        evaluate_weights(
            weights,
            data=data,
            split=split,
            out=out,
            device=device,
            precision=precision,
            sensors=tuple(sensors or ()),
        )
    elif submission is not None:
        evaluate_submission(submission, data=data, split=split, out=out)


@app.command()
def dropout(
    data: Data,
    split: Split,
    out: Out,
    weights: Annotated[Path, typer.Option(help="A .safetensors detector.")],
    device: Device = "cpu",
    precision: Annotated[str, typer.Option(help="fp32, bf16 or fp16.")] = "fp32",
    seed: Annotated[int, typer.Option(help="Of which sensors each sample loses.")] = 0,
) -> None:
    """nuScenes metrics with 0/1/3/6 cameras and 0/1/3/5 radars lost."""
    from crkd_core.evaluate.dropout import evaluate_dropout

    check_output(out)
    evaluate_dropout(weights, data, split, out, seed=seed, device=device, precision=precision)


@app.command()
def compare(
    evaluations: Annotated[
        list[str],
        typer.Argument(
            help="NAME=FOLDER of crkd evaluate; same NAME: averaged.", metavar="NAME=..."
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Folder for compare.md, compare.json, compare.png.")
    ] = None,
) -> None:
    """Evaluations side by side, mean and spread over the seeds of each set-up."""
    from crkd_core.evaluate.compare import compare as compare_evaluations
    from crkd_core.evaluate.compare import parse

    Console().print(compare_evaluations(parse(evaluations), out).rich())


@app.command()
def curves(
    runs: Annotated[list[Path], typer.Argument(help="Run folders of crkd train or distill.")],
    out: Annotated[Path, typer.Option(help="The PNG to write.")],
) -> None:
    """The losses of training runs over their steps, as a picture."""
    from crkd_core.evaluate.report import Table
    from crkd_core.train.curves import draw_curves

    ends = draw_curves(runs, out)
    rows = [[name, f"{first:.4g}", f"{last:.4g}"] for name, (first, last) in ends.items()]
    table = Table(title=runs[0].name, columns=("loss", "first tenth", "last tenth"), rows=rows)
    Console().print(table.rich())
    Console().print(f"written: {out}", soft_wrap=True)


@app.command()
def import_official(
    file: Annotated[Path, typer.Argument(help="A released .pth checkpoint.")],
    out: Annotated[Path, typer.Option(help="A .safetensors file; must not exist yet.")],
    part: Annotated[
        str, typer.Option(help="Of a distilled file: student or teacher; auto = its student.")
    ] = "auto",
) -> None:
    """Turn a checkpoint of the released CRKD code into weights for this project."""
    from crkd_core.official import import_official as import_file

    if part not in ("auto", "student", "teacher"):
        raise ConfigError(f"--part: expected auto, student or teacher, got {part!r}")
    import_file(file, out, part=part)  # type: ignore[arg-type]
    Console().print(f"weights: {out}", soft_wrap=True)


@app.command()
def bench(
    preset: Annotated[str, typer.Option(help="demo_student, crkd_r50, ...")] = "demo_student",
    weights: Annotated[Path | None, typer.Option(help="Time this detector instead.")] = None,
    device: Device = "cpu",
    rounds: Annotated[int, typer.Option(min=1, help="Timed calls or steps.")] = 20,
    training: Annotated[bool, typer.Option(help="Time training steps instead.")] = False,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Of training; default: the preset's.")
    ] = None,
) -> None:
    """How fast a detector runs here, by stage and precision; or how fast it trains."""
    from crkd_core.infer.bench import bench as run_bench
    from crkd_core.train.bench import bench_training

    if training and weights is not None:
        raise ConfigError("--training times a preset with random weights; leave --weights out")
    if training:
        bench_training(preset_name=preset, batch_size=batch_size, device=device, rounds=rounds)
    else:
        run_bench(preset_name=preset, weights=weights, device=device, rounds=rounds)


def _check_place(out: Path, device: str) -> None:
    """Refuse what a run cannot use before it leaves a folder behind."""
    from crkd_core.infer.detector import usable_device

    check_output(out)
    usable_device(device)


def _resumed(
    out: Path,
    *,
    split: str,
    preset: str | None,
    steps: int | None,
    changes: list[str] | None,
) -> Run:
    """The run in ``out``, which nothing on the command line may change."""
    from crkd_core.train.run_folder import Run, RunError

    run = Run.open(out, split=split)
    config = run.config
    if changes or steps not in (None, config.steps) or preset not in (None, config.detector.name):
        raise RunError(
            f"{out} was started with preset {config.detector.name} and {config.steps} steps; a "
            "resumed run keeps its configuration. Leave --preset, --steps and --set out, or start "
            "a new run"
        )
    return run


def _recorded(data: Path, split: str, config: TrainConfig, lidar_sweeps: int) -> NuScenesFrames:
    """The training set, images as recorded."""
    from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames

    return NuScenesFrames(
        NuScenes(data, split=split),
        split,
        radar_sweeps=config.detector.radar.sweeps,
        lidar_sweeps=lidar_sweeps,
        image=None,
    )


def main() -> None:
    """Entry point of `crkd`."""
    run(app)
