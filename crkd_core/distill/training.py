"""A distillation run: a training run whose criterion also listens to a teacher."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import torch

from crkd_core.config import DetectorConfig, DistillConfig, TrainConfig, from_dict
from crkd_core.distill.cache import FeatureCache
from crkd_core.distill.criterion import DistillationLoss
from crkd_core.distill.crkd import TEACHER_READS
from crkd_core.distill.teacher import Teacher, checksum, load_teacher
from crkd_core.distill.views import PairedViews
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import CONFIG_KEY, load_weights, read_metadata
from crkd_core.model.detector import BevDetector
from crkd_core.model.precision import DTYPES
from crkd_core.presets import PRESETS
from crkd_core.presets import preset as find_preset
from crkd_core.sensors import CAMERAS, RADARS
from crkd_core.train.loop import train
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Frames

#: Parts of a student that weights to start from may lack: a plain student has no calibration.
FRESH = "calibration."


class DistillError(RuntimeError):
    """A distillation that cannot start."""


def distill(run: Run, frames: Frames, *, resume: bool = False, device: str = "cpu") -> BevDetector:
    """Train the student of a run folder with its teacher; see train.loop.train.

    Args:
        run: the run folder; its configuration has ``distill``.
        frames: the training set, images as recorded, with the LiDAR sweeps that the teacher needs.
        resume: go on from the last checkpoint of the folder.
        device: where to train.

    Raises:
        DistillError: no ``distill`` in the configuration, another teacher than the run's, or a
            student without the sensor that a chosen loss is about.
        AdaptError: student and teacher cannot be compared.
        TeacherError: the teacher changed, or a batch lacks what it needs.
    """
    config = run.config
    if config.distill is None:
        raise DistillError(f"{run.path} is a plain training; go on with crkd train --resume")
    _check_sensors(config)
    teacher = teacher_of(config)
    torch.manual_seed(config.seed)
    # The student first: with the same seed it starts as it would in a plain training.
    student = initial_student(config)
    criterion = DistillationLoss(config, teacher)
    return train(
        run,
        frames,
        resume=resume,
        device=device,
        model=student,
        criterion=criterion,
        views=PairedViews(frames, config, teacher.config),
    )


def teacher_of(config: TrainConfig) -> Teacher:
    """The teacher that a run's configuration names.

    Raises:
        DistillError: the file now holds other weights than when the run was started.
        CheckpointError: the file cannot be read.
    """
    settings = config.distill
    assert settings is not None
    cache = (
        FeatureCache(Path(settings.cache), gigabytes=settings.cache_gigabytes)
        if settings.cache
        else None
    )
    teacher = load_teacher(
        Path(settings.teacher),
        keep=TEACHER_READS,
        precision=DTYPES[config.precision],
        cache=cache,
    )
    if teacher.checksum != settings.teacher_checksum:
        raise DistillError(
            f"{settings.teacher} holds another teacher (checksum {teacher.checksum}) than this "
            f"run began with ({settings.teacher_checksum}); put the old file back"
        )
    return teacher


def initial_student(config: TrainConfig) -> BevDetector:
    """A new student, with the weights of ``distill.student`` where that is given.

    Raises:
        DistillError: those weights belong to another network. A calibration block may be missing.
    """
    assert config.distill is not None
    path = config.distill.student
    model = build_detector(config.detector, pretrained=path is None)
    if path is None:
        return model
    given = load_weights(path).state_dict()
    own = model.state_dict()
    problems = [f"missing {k}" for k in own.keys() - given.keys() if not k.startswith(FRESH)]
    problems += [f"unknown {k}" for k in given.keys() - own.keys() if not k.startswith(FRESH)]
    problems += [
        f"{k}: expected {tuple(own[k].shape)}, found {tuple(given[k].shape)}"
        for k in own.keys() & given.keys()
        if own[k].shape != given[k].shape
    ]
    if problems:
        raise DistillError(
            f"{path} does not fit the student {config.detector.name}: {sorted(problems)[:8]} "
            f"({len(problems)} tensors); start from other weights, or leave its architecture as "
            "it is in --set detector..."
        )
    model.load_state_dict({k: v for k, v in given.items() if k in own}, strict=False)
    return model


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
    losses: tuple[str, ...],
    calibration: str | None = None,
    teacher_sensors: tuple[str, ...] = (),
    cache: Path | None = None,
) -> TrainConfig:
    """The configuration of a new distillation run.

    Args:
        teacher: run folder or weights file. A run folder also tells which sensors it may see.
        student: name of a preset (random start), run folder or weights file (start from there).
        preset: whose training settings to take; None = the student's run or preset.
        losses: names of CRKD_LOSSES.
        calibration: none, path or side; None = as the student has it, but "path", as released,
            where CSRD needs one.
        teacher_sensors: cameras and radars that the teacher may see; () = those it was trained on.
        cache: folder for the teacher's features.

    Raises:
        DistillError: a teacher or student that is neither preset, run nor file; a student without
            calibration for CSRD; no preset to take training settings from.
        ConfigError: an unknown preset or loss.
    """
    weights = weights_of(teacher)
    trained = _trained_config(teacher)
    config, start = _student(student, preset)
    detector = config.detector
    if calibration is None:
        calibration = detector.radar.calibration
        if calibration == "none" and "csrd" in losses:
            calibration = "path"
    if calibration == "none" and "csrd" in losses:
        raise DistillError(
            "CSRD reads the radar calibration block; choose --calibration path or side, or "
            "--no-csrd"
        )
    radar = dataclasses.replace(detector.radar, calibration=calibration)  # type: ignore[arg-type]
    return dataclasses.replace(
        config,
        detector=dataclasses.replace(detector, radar=radar),
        # Boxes pasted into the LiDAR alone would teach what no camera and no radar can see.
        paste=None,
        distill=DistillConfig(
            teacher=str(weights.resolve()),
            teacher_checksum=checksum(load_weights(weights)),
            teacher_sensors=teacher_sensors or (trained.sensors if trained else ()),
            student=None if start is None else str(start.resolve()),
            losses=losses,
            cache=None if cache is None else str(cache.resolve()),
        ),
    )


def sweeps_of(config: TrainConfig) -> int:
    """LiDAR sweeps that the Frames of this run need."""
    assert config.distill is not None
    teacher = _detector_config(Path(config.distill.teacher))
    return max(teacher.lidar_sweeps, 1 if config.depth_weight else 0)


def _check_sensors(config: TrainConfig) -> None:
    assert config.distill is not None
    for loss, kind, names in (("csrd", "radar", RADARS), ("msfd_camera", "camera", CAMERAS)):
        if loss in config.distill.losses and config.sensors and not {*config.sensors} & {*names}:
            raise DistillError(
                f"the student sees no {kind}, which {loss} is about; pass "
                f"--no-{loss.replace('_', '-')}"
            )


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
    detector = _detector_config(file)
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


def _detector_config(weights: Path) -> DetectorConfig:
    metadata = read_metadata(weights)
    if CONFIG_KEY not in metadata:
        raise DistillError(
            f"{weights} holds no configuration; expected weights written by crkd train, crkd "
            "distill or crkd import-official"
        )
    return from_dict(DetectorConfig, json.loads(metadata[CONFIG_KEY]))
