"""A distillation run: a training run whose criterion also listens to a teacher."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from pathlib import Path

import torch

from crkd_core.config import (
    CRKD_LOSSES,
    CrkdConfig,
    DetectorConfig,
    DistillConfig,
    RadarConfig,
    TrainConfig,
)
from crkd_core.distill.cache import FeatureCache
from crkd_core.distill.criterion import DistillationLoss
from crkd_core.distill.crkd import Crkd
from crkd_core.distill.method import Method
from crkd_core.distill.teacher import Teacher, checksum, load_teacher
from crkd_core.distill.views import TaughtViews
from crkd_core.model.checkpoint import load_weights, read_config
from crkd_core.model.detector import BevDetector
from crkd_core.model.precision import DTYPES
from crkd_core.presets import PRESETS
from crkd_core.presets import preset as find_preset
from crkd_core.train.loop import train
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Frames
from crkd_core.train.start import initial_network


class DistillError(RuntimeError):
    """A distillation that cannot start."""


def distill(run: Run, frames: Frames, *, resume: bool = False, device: str = "cpu") -> BevDetector:
    """Train the student of a run folder with its teacher; see train.loop.train.

    Args:
        run: the run folder; its configuration has a method of distillation.
        frames: the training set, images as recorded, with the LiDAR sweeps that the teacher needs.
        resume: go on from the last checkpoint of the folder.
        device: where to train.

    Raises:
        DistillError: nothing to learn from in the configuration, or another teacher than the
            run's.
        StartError: weights to start from that belong to another network.
        AdaptError: student and teacher cannot be compared.
        TeacherError: the teacher changed, or a batch lacks what it needs.
    """
    config = run.config
    if not config.distillations:
        raise DistillError(f"{run.path} is a plain training; go on with crkd train --resume")
    torch.manual_seed(config.seed)
    # The student first: with the same seed it starts as it would in a plain training.
    student = initial_network(config)
    methods = methods_of(config)
    return train(
        run,
        frames,
        resume=resume,
        device=device,
        model=student,
        criterion=DistillationLoss(config, methods),
        views=TaughtViews(frames, config, [method.teacher.config for method in methods]),
    )


def methods_of(config: TrainConfig) -> list[Method]:
    """The methods of distillation of a run, as in ``config.distillations``, with their teachers.

    Raises:
        AdaptError: student and teacher cannot be compared.
        DistillError, CheckpointError: see ``teacher_of``.
    """
    methods: list[Method] = []
    if config.crkd is not None:
        precision = DTYPES[config.precision]
        teacher = teacher_of(config.crkd, keep=Crkd.teacher_reads, precision=precision)
        methods.append(
            Crkd(config.crkd, student=config.detector, teacher=teacher, sensors=config.sensors)
        )
    return methods


def teacher_of(config: DistillConfig, *, keep: Collection[str], precision: torch.dtype) -> Teacher:
    """The teacher that a method's configuration names; arguments as of Teacher.

    Raises:
        DistillError: the file now holds other weights than when the run was started.
        CheckpointError: the file cannot be read.
    """
    cache = None
    if config.cache:
        cache = FeatureCache(Path(config.cache), gigabytes=config.cache_gigabytes)
    # Its random weights, soon overwritten, must not change those of adapters.
    with torch.random.fork_rng(devices=[]):
        teacher = load_teacher(Path(config.teacher), keep=keep, precision=precision, cache=cache)
    if teacher.checksum != config.teacher_checksum:
        raise DistillError(
            f"{config.teacher} holds another teacher (checksum {teacher.checksum}) than this "
            f"run began with ({config.teacher_checksum}); put the old file back"
        )
    return teacher


def weights_of(path: Path) -> Path:
    """The weights file of a run folder, or the file itself.

    Raises:
        DistillError: neither.
    """
    file = path / "weights.safetensors" if path.is_dir() else path
    if not file.is_file():
        raise DistillError(f"{path}: expected a run folder or a .safetensors file")
    return file


def distill_config(
    teacher: Path,
    student: str,
    *,
    preset: str | None = None,
    losses: Mapping[str, float] = CRKD_LOSSES,
    calibration: str | None = None,
    teacher_sensors: tuple[str, ...] = (),
    cache: Path | None = None,
) -> TrainConfig:
    """The configuration of a new distillation run.

    Args:
        teacher: run folder or weights file. A run folder also tells which sensors it may see.
        student: name of a preset (random start), run folder or weights file (start from there).
        preset: whose training settings to take; None = the student's run or preset.
        losses: weights of CRKD's losses; 0, or not named = off.
        calibration: none, path or side; None = as the student has it, but "path", as released,
            where CSRD needs one.
        teacher_sensors: cameras and radars that the teacher may see; () = those it was trained on.
        cache: folder for the teacher's features.

    Raises:
        DistillError: a teacher or student that is neither preset, run nor file; a student without
            calibration for CSRD; no preset to take training settings from.
        CheckpointError: a weights file that cannot be read, or that holds no configuration.
        ConfigError: an unknown preset or loss.
    """
    weights = weights_of(teacher)
    trained = _trained_config(teacher)
    config, start = _student(student, preset)
    radar = _calibrated(config.detector, losses, calibration)
    return dataclasses.replace(
        config,
        detector=dataclasses.replace(config.detector, radar=radar),
        # Boxes pasted into the LiDAR alone would teach what no camera and no radar can see.
        paste=None,
        start=None if start is None else str(start.resolve()),
        crkd=CrkdConfig(
            teacher=str(weights.resolve()),
            teacher_checksum=checksum(load_weights(weights)),
            teacher_sensors=teacher_sensors or (trained.sensors if trained else ()),
            losses=dict(losses),
            cache=None if cache is None else str(cache.resolve()),
        ),
    )


def teacher_configs(config: TrainConfig) -> list[DetectorConfig]:
    """The teachers of this run: its Frames must hold what they read.

    Raises:
        CheckpointError: a file that cannot be read.
    """
    return [read_config(method.teacher) for method in config.distillations]


def _calibrated(
    detector: DetectorConfig, losses: Mapping[str, float], calibration: str | None
) -> RadarConfig | None:
    """The student's radar branch, with the calibration block that is asked for or needed."""
    if detector.radar is None:
        if losses.get("csrd") or calibration not in (None, "none"):
            raise DistillError(
                f"{detector.name} has no radar branch: there is nothing to calibrate, and CSRD "
                "reads the calibration block; leave --calibration out and pass --losses csrd=0"
            )
        return None
    if calibration is None:
        calibration = detector.radar.calibration
        if calibration == "none" and losses.get("csrd"):
            calibration = "path"
    if calibration == "none" and losses.get("csrd"):
        raise DistillError(
            "CSRD reads the radar calibration block; choose --calibration path or side, or "
            "--losses csrd=0"
        )
    return dataclasses.replace(detector.radar, calibration=calibration)  # type: ignore[arg-type]


def _student(student: str, preset: str | None) -> tuple[TrainConfig, Path | None]:
    """Training settings with the student's detector, and the weights to start from."""
    path = Path(student)
    if path.name != student and not path.exists():
        raise DistillError(
            f"{student}: no such run or weights file; a preset is one of {', '.join(PRESETS)}"
        )
    if student in PRESETS or not path.exists():
        config = find_preset(student)
        settings = find_preset(preset) if preset else config
        return dataclasses.replace(settings, detector=config.detector), None
    file = weights_of(path)
    detector = read_config(file)
    settings_of_run = _trained_config(path)
    if preset is not None:
        settings = find_preset(preset)
    elif settings_of_run is not None:
        settings = settings_of_run
    elif detector.name in PRESETS:
        settings = find_preset(detector.name)
    else:
        raise DistillError(
            f"{student} does not say how it was trained; pass --preset with one of "
            f"{', '.join(PRESETS)} to take training settings from"
        )
    return dataclasses.replace(settings, detector=detector), file


def _trained_config(path: Path) -> TrainConfig | None:
    """How the network of a run folder was trained; None for a weights file."""
    file = path / "config.json"
    return Run.open(path).config if path.is_dir() and file.is_file() else None
