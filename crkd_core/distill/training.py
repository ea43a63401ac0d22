"""A distillation run: a training run whose criterion also listens to a teacher."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import torch

from crkd_core.config import DetectorConfig, DistillConfig, ImkdConfig, TrainConfig
from crkd_core.distill.adapt import check_fit, check_sweeps
from crkd_core.distill.cache import FeatureCache
from crkd_core.distill.criterion import DistillationLoss
from crkd_core.distill.crkd import Crkd
from crkd_core.distill.imkd import Imkd
from crkd_core.distill.label_teacher import LabelTeacher, load_label_encoder
from crkd_core.distill.method import Method
from crkd_core.distill.teacher import Teacher, load_teacher, salt_of
from crkd_core.distill.views import TaughtViews
from crkd_core.model.checkpoint import read_config
from crkd_core.model.detector import BevDetector
from crkd_core.model.precision import DTYPES
from crkd_core.train.loop import train
from crkd_core.train.run_checkpoint import is_saved
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Frames
from crkd_core.train.start import initial_network, unread_network


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
        AdaptError: student and teacher cannot be compared, or two teachers read other sweeps.
        TeacherError: the teacher changed, or says what is not finite.
        LidarBranchError: a batch lacks what it needs.
    """
    config = run.config
    if not config.distillations:
        raise DistillError(f"{run.path} is a plain training; go on with crkd train --resume")
    torch.manual_seed(config.seed)
    methods = methods_of(config)
    # With the same seed the student starts as it would in a plain training.
    torch.manual_seed(config.seed)
    student = (
        unread_network(config)
        if resume and is_saved(run)
        else first_student(config, [method.teacher for method in methods])
    )
    return train(
        run,
        frames,
        resume=resume,
        device=device,
        model=student,
        criterion=DistillationLoss(config, methods),
        views=TaughtViews(frames, config, [method.teacher for method in methods]),
    )


def first_student(config: TrainConfig, teachers: Sequence[Teacher]) -> BevDetector:
    """The student of a run before its first step.

    Args:
        config: of the run.
        teachers: of its ``distillations``, for what is inherited from them.

    Raises:
        StartError, CheckpointError: see initial_network.
        DistillError: see ``inherit``.
    """
    student = initial_network(config)
    for method, teacher in zip(config.distillations, teachers, strict=True):
        inherit(student, teacher, method.inherit)
    return student


def inherit(student: BevDetector, teacher: Teacher, parts: Collection[str]) -> None:
    """Give ``parts`` of the student the teacher's weights, in place.

    Raises:
        DistillError: a part has another shape in the two networks, or a head other tasks.
    """
    tasks = [[task.classes for task in c.head.tasks] for c in (student.config, teacher.config)]
    if "head" in parts and tasks[0] != tasks[1]:
        raise DistillError(
            f"student {student.config.name} cannot inherit the head of teacher "
            f"{teacher.config.name}, whose tasks are {tasks[1]}, not {tasks[0]}: it would take "
            "one class for another; leave --inherit out, or let both have the same "
            "detector.head.tasks"
        )
    for part in parts:
        ours = getattr(student, part).state_dict()
        theirs = getattr(teacher.model, part).state_dict()
        shapes = [{name: tuple(t.shape) for name, t in state.items()} for state in (ours, theirs)]
        if shapes[0] != shapes[1]:
            other = sorted(k for k in {**ours, **theirs} if shapes[0].get(k) != shapes[1].get(k))
            raise DistillError(
                f"student {student.config.name} cannot inherit the {part} of teacher "
                f"{teacher.config.name}: {len(other)} tensors differ, the first is {other[0]}, "
                f"{shapes[0].get(other[0])} and {shapes[1].get(other[0])}; leave --inherit out, "
                "or let both have the same fused_channels, decoder and head"
            )
        getattr(student, part).load_state_dict(theirs)


def methods_of(config: TrainConfig) -> list[Method]:
    """The methods of distillation of a run, as in ``config.distillations``, with their teachers.

    Raises:
        AdaptError: student and teacher cannot be compared, or two teachers read other sweeps.
        DistillError, CheckpointError: see ``teacher_of``.
    """
    methods: list[Method] = []
    precision = DTYPES[config.precision]
    if config.crkd is not None:
        teacher = teacher_of(config.crkd, keep=Crkd.reads(config.crkd), precision=precision)
        methods.append(
            Crkd(config.crkd, student=config.detector, teacher=teacher, sensors=config.sensors)
        )
    if config.imkd is not None:
        teacher = teacher_of(config.imkd, keep=Imkd.reads(config.imkd), precision=precision)
        methods.append(
            Imkd(
                config.imkd,
                student=config.detector,
                teacher=teacher,
                labels=labels_of(config.imkd),
                sensors=config.sensors,
            )
        )
    check_sweeps([method.teacher.config for method in methods])
    return methods


def labels_of(config: ImkdConfig) -> LabelTeacher | None:
    """The label encoder that IMKD's configuration names; None where no loss reads it.

    Raises:
        DistillError: the file now holds another encoder, or one of another teacher.
        CheckpointError: the file cannot be read.
    """
    if config.label_encoder is None or "label_fused" not in config.chosen:
        return None
    labels = load_label_encoder(config.label_encoder)
    if labels.teacher_checksum != config.teacher_checksum:
        raise DistillError(
            f"{config.label_encoder} was made for another teacher (checksum "
            f"{labels.teacher_checksum}) than this run's ({config.teacher_checksum}); make one by "
            "crkd label-encoder --teacher"
        )
    if labels.checksum != config.label_encoder_checksum:
        raise DistillError(
            f"{config.label_encoder} holds another label encoder (checksum {labels.checksum}) "
            f"than this run began with ({config.label_encoder_checksum}); put the old file back"
        )
    return labels


def teacher_of(config: DistillConfig, *, keep: Collection[str], precision: torch.dtype) -> Teacher:
    """The teacher that a method's configuration names; arguments as of Teacher.

    Raises:
        DistillError: the file now holds other weights than when the run was started.
        CheckpointError: the file cannot be read.
    """
    cache = None
    if config.cache:
        cache = FeatureCache(
            Path(config.cache),
            gigabytes=config.cache_gigabytes,
            salt=salt_of(config.teacher_checksum, keep=keep, precision=precision),
        )
    # Its random weights, soon overwritten, must not change those of adapters.
    with torch.random.fork_rng(devices=[]):
        teacher = load_teacher(Path(config.teacher), keep=keep, precision=precision, cache=cache)
    if teacher.checksum != config.teacher_checksum:
        raise DistillError(
            f"{config.teacher} holds another teacher (checksum {teacher.checksum}) than this "
            f"run began with ({config.teacher_checksum}); put the old file back"
        )
    return teacher


def teacher_configs(config: TrainConfig) -> list[DetectorConfig]:
    """The teachers of this run: its Frames must hold what they read.

    Raises:
        AdaptError: one Frame cannot serve student and teachers.
        CheckpointError: a file that cannot be read.
    """
    teachers = [read_config(method.teacher) for method in config.distillations]
    for teacher in teachers:
        check_fit(student=config.detector, teacher=teacher)
    check_sweeps(teachers)
    return teachers
