"""What `crkd train` and `crkd distill` do alike: where a run lies, and what it reads."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from crkd_core.commands.options import OF_A_CALL, given
from crkd_core.config import (
    ConfigError,
    DetectorConfig,
    TrainConfig,
    UnlabelledConfig,
    check_classes,
)
from crkd_core.files import check_output

if TYPE_CHECKING:
    from crkd_core.data.sets import DataSet, SetFrames
    from crkd_core.train.mixed import MixedFrames
    from crkd_core.train.run_folder import Run


def check_place(out: Path, device: str) -> None:
    """Refuse what a run cannot use before it leaves a folder behind."""
    from crkd_core.infer.detector import usable_device

    check_output(out)
    usable_device(device)


def check_keeping(config: TrainConfig, measured: Path | None = None) -> None:
    """Refuse folders where a run could keep nothing, before it has one of its own.

    Args:
        config: of the run.
        measured: as of ``crkd distill``.
    """
    caches = {method.cache for method in (config.crkd, config.imkd) if method is not None}
    for folder, option in (
        (config.keep_folder, "keep_folder"),
        *((cache, "--cache") for cache in caches),
        (measured, "--measured"),
    ):
        if folder is not None:
            check_output(Path(folder), place=option)


def unlabelled_drives(
    data: Path | None, split: str | None, share: float | None, pseudo_labels: Path | None
) -> UnlabelledConfig | None:
    """The drives without boxes that the options of the command name; None = they name none.

    Raises:
        ConfigError: one of the options without those that it needs, or a share out of range.
    """
    if data is None and split is None and share is None and pseudo_labels is None:
        return None
    if data is None or split is None:
        raise ConfigError(
            "give --unlabelled DATA and --unlabelled-split SPLIT together, with or without "
            "--unlabelled-share and --pseudo-labels"
        )
    return UnlabelledConfig(
        data=str(data.resolve()),
        split=split,
        share=UnlabelledConfig.share if share is None else share,
        pseudo_labels=None if pseudo_labels is None else str(pseudo_labels.resolve()),
    )


def check_begin(config: TrainConfig, frames: SetFrames | MixedFrames, device: str) -> None:
    """Make what a new run begins with, and throw it away: its folder could only fail again.

    Raises:
        TrainError, StartError, DistillError, NuScenesError, VodError and others: see ``train``,
            ``check_set``, ``check_files``, ``methods_of`` and ``first_student``.
    """
    from crkd_core.distill.training import first_student, methods_of, teacher_configs
    from crkd_core.train.start import check_trainable
    from crkd_core.train.training_set import check_set

    check_trainable(config, frames, device)
    check_set(config, frames, teacher_configs(config))
    _check_files(frames)
    first_student(config, [method.teacher for method in methods_of(config)])


def check_goes_on(run: Run, frames: SetFrames | MixedFrames) -> None:
    """Refuse to go on with another training set than a run began with, or with files gone.

    Raises:
        RunError, NuScenesError, VodError: see ``Run.check_data`` and ``check_files``.
    """
    run.check_data(frames.digest())
    _check_files(frames)


def _check_files(frames: SetFrames | MixedFrames) -> None:
    from crkd_core.train.mixed import MixedFrames

    parts = [frames.labelled, frames.unlabelled] if isinstance(frames, MixedFrames) else [frames]
    for part in parts:
        part.check_files()


def resumed(context: typer.Context, out: Path, *, split: str, agree: Sequence[str]) -> Run:
    """The run in ``out``, which nothing on the command line may change.

    Args:
        context: of the command; what it says beside OF_A_CALL is refused.
        out: folder of the run.
        split: of the command line.
        agree: of "steps" and "preset", those that may be said again as they were.

    Raises:
        RunError: there is no such run, an option would change it, or what it reads lies elsewhere.
    """
    from crkd_core.train.run_folder import RECORD, Run, RunError

    run = Run.open(out, split=split)
    was = {"steps": run.config.steps, "preset": run.config.detector.name}
    same = [name for name in agree if context.params[name] == was[name]]
    if options := given(context, but=(*OF_A_CALL, *same)):
        raise RunError(
            f"{out} was started with preset {was['preset']} and {was['steps']} steps; a resumed "
            f"run keeps its configuration. Leave {', '.join(options.values())} out, or start a "
            "new run"
        )
    for key, path in _read_beside(run.config):
        if not Path(path).exists():
            raise RunError(
                f"{out} cannot go on: {path} is not there; put it back, or write where it lies "
                f"now as {key} into {out / RECORD}"
            )
    return run


def _read_beside(config: TrainConfig) -> Iterator[tuple[str, str]]:
    """What a run that goes on reads beside its training set: key of its config.json, and path."""
    for name, method in (("crkd", config.crkd), ("imkd", config.imkd)):
        if method is not None:
            yield f"config.{name}.teacher", method.teacher
    imkd = config.imkd
    if imkd is not None and imkd.label_encoder is not None and "label_fused" in imkd.chosen:
        yield "config.imkd.label_encoder", imkd.label_encoder
    if config.unlabelled is not None:
        yield "config.unlabelled.data", config.unlabelled.data
        if config.unlabelled.pseudo_labels is not None:
            yield "config.unlabelled.pseudo_labels", config.unlabelled.pseudo_labels


def place_of(frames: SetFrames | MixedFrames) -> str:
    """Where a training set lies, as a run keeps it: told from any folder, the version too."""
    from crkd_core.data.vod.reader import VodFrames
    from crkd_core.train.mixed import MixedFrames

    labelled = frames.labelled if isinstance(frames, MixedFrames) else frames
    root = labelled.tables.root.resolve()
    return str(root if isinstance(labelled, VodFrames) else root / labelled.tables.version)


def recorded_frames(
    data: Path,
    split: str,
    config: TrainConfig,
    *teachers: DetectorConfig,
    version: str | None,
) -> SetFrames | MixedFrames:
    """The training set, images as recorded: all that network, losses and teachers read.

    Refused where it lacks a class of the detector, or a sensor that a teacher is to see.
    """
    from crkd_core.data.nuscenes.reader import NuScenesFrames
    from crkd_core.data.sets import frames_of, open_set
    from crkd_core.distill.adapt import check_teacher_sensors
    from crkd_core.train.mixed import MixedFrames
    from crkd_core.train.pseudo_labels import PseudoLabels

    def read(tables: DataSet, split: str) -> SetFrames:
        rig = (*tables.cameras, *tables.radars)
        for method, teacher in zip(config.distillations, teachers, strict=True):
            check_teacher_sensors(teacher, method.teacher_sensors, rig=rig)
        return frames_of(
            tables,
            split,
            config.detector,
            *teachers,
            sensors=() if teachers else config.sensors,
            lidar_sweeps=1 if config.depth_weight else 0,
            recorded=True,
            remembered=True,
        )

    tables = open_set(data, split=split, version=version)
    check_classes(config.detector.name, config.detector.classes, tables.classes)
    frames, more = read(tables, split), config.unlabelled
    if more is None:
        return frames
    others = read(open_set(more.data, split=more.split), more.split)
    pseudo = None
    if more.pseudo_labels is not None:
        if not isinstance(others, NuScenesFrames):
            raise ConfigError(
                f"--pseudo-labels: are a nuScenes results JSON, and {more.data} is not nuScenes; "
                "leave the option out, and distil"
            )
        pseudo = PseudoLabels(
            Path(more.pseudo_labels),
            score=more.pseudo_score,
            tokens=others.tokens,
            classes=config.detector.classes,
        )
    return MixedFrames(frames, others, share=more.share, pseudo=pseudo)
