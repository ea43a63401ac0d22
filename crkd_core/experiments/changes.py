"""Which trainings of an experiment take what its ``--set`` changes, and whether they can."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from crkd_core.config import CrkdConfig, ImkdConfig, TrainConfig, UnlabelledConfig
from crkd_core.config.override import override
from crkd_core.distill.settings import FORMS, METHODS, start_config
from crkd_core.experiments.plan import RunSpec
from crkd_core.experiments.settings import ExperimentError
from crkd_core.model.build import check_detector
from crkd_core.presets import preset as find_preset

#: Keys that a list decides for every run -> what decides them instead.
DECIDED = {
    "seed": "--seeds says how many seeds there are",
    "workers": "--readers says how many processes read",
    "start_image": "--start-image gives it to the trainings that start from no other run",
}


def methods_of(spec: RunSpec) -> tuple[str, ...]:
    """By what a run is taught: "crkd", "imkd", both; () = nobody teaches it."""
    return METHODS[_options(spec).get("--method", "crkd")] if spec.is_distilled else ()


def changes_of(spec: RunSpec, changes: Sequence[str]) -> list[str]:
    """Those that a run takes.

    Settings of a method are for the runs that are taught by it, those of drives without boxes for
    the runs that have some, and the least score for those that learn boxes there.
    """
    others = {method for methods in METHODS.values() for method in methods} - {*methods_of(spec)}
    if spec.unlabelled is None:
        others.add("unlabelled")
    if not spec.learns_pseudo_labels:
        others.add("unlabelled.pseudo_score")
    return [change for change in changes if not {_group(change), _key(change)} & others]


def check_changes(
    changes: Sequence[str], specs: Sequence[RunSpec], trained: Mapping[str, Path]
) -> None:
    """Refuse changes that a training of these runs would not take.

    Args:
        changes: KEY.KEY=YAML.
        specs: runs, parents first.
        trained: run -> folder or weights file that stands for it; it is not trained.

    Raises:
        ExperimentError: a key that the list decides, or of a method by which no run is taught.
        ConfigError: an unknown key or a value that a training cannot have.
        ImageError, LidarBranchError, LiftError: a detector that cannot be.
        RunError, CheckpointError: what stands for a run cannot be read.
    """
    for change in changes:
        key = _key(change)
        if key in DECIDED:
            raise ExperimentError(
                f"--set {change}: {key} is not the same in all trainings; leave it out: "
                f"{DECIDED[key]}"
            )
    made: dict[str, TrainConfig] = {}
    taken: set[str] = set()
    for spec in specs:
        own = changes_of(spec, changes)
        taken |= {*own}
        if spec.name in trained:
            source = trained[spec.name]
            made[spec.name], _ = start_config(
                str(source), spec.preset if source.is_file() else None
            )
        else:
            made[spec.name] = override(_before(spec, made), [*spec.changes, *own])
    for change in changes:
        if change not in taken:
            raise ExperimentError(
                f"--set {change}: no run of this call reads {_key(change)}; leave it out"
            )
    for detector in dict.fromkeys(config.detector for config in made.values()):
        check_detector(detector)


def _before(spec: RunSpec, made: Mapping[str, TrainConfig]) -> TrainConfig:
    """The kind of configuration that the command line of a run changes: its groups are there."""
    if spec.start is None:
        return find_preset(spec.preset)
    begun = made[spec.start]
    drives = None
    if spec.unlabelled is not None:
        labels = "" if spec.learns_pseudo_labels else None
        drives = UnlabelledConfig(data="", split="", pseudo_labels=labels)
    if not spec.is_distilled:
        return dataclasses.replace(
            find_preset(spec.preset),
            detector=begun.detector,
            start=spec.start,
            start_image=None,
            unlabelled=drives,
        )
    methods = methods_of(spec)
    teacher: dict[str, Any] = {"teacher": spec.teacher, "teacher_checksum": ""}
    forms = FORMS[_options(spec).get("--form", "balanced")]
    return dataclasses.replace(
        begun,
        paste=None,
        start=spec.start,
        start_image=None,
        crkd=CrkdConfig(**forms, **teacher) if "crkd" in methods else None,
        imkd=ImkdConfig(**teacher) if "imkd" in methods else None,
        unlabelled=drives,
    )


def _options(spec: RunSpec) -> dict[str, str]:
    """Word -> the word after it."""
    return dict(zip(spec.options, spec.options[1:], strict=False))


def _key(change: str) -> str:
    """What is changed: ``crkd.alone`` of ``crkd.alone=1``."""
    return change.partition("=")[0]


def _group(change: str) -> str:
    """What a change begins with: ``crkd`` of ``crkd.alone=1``."""
    return _key(change).partition(".")[0]
