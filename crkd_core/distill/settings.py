"""What a new distillation run is made of: teacher, student, forms and weights of the losses."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from crkd_core.config import (
    CRKD_LOSSES,
    IMKD_LOSSES,
    LABEL_ENCODER,
    PUBLISHED,
    PUBLISHED_LOSSES,
    ConfigError,
    CrkdConfig,
    DetectorConfig,
    ImkdConfig,
    RadarConfig,
    TrainConfig,
    UnlabelledConfig,
)
from crkd_core.config.checks import check_sensors
from crkd_core.config.override import override
from crkd_core.distill.label_teacher import load_label_encoder
from crkd_core.distill.left_out import without_unlearned
from crkd_core.distill.teacher import checksum
from crkd_core.distill.training import DistillError
from crkd_core.model.checkpoint import load_weights, read_config, weights_file
from crkd_core.presets import PRESETS
from crkd_core.presets import preset as find_preset
from crkd_core.train.run_folder import RECORD, Run

#: Forms of CRKD's losses by the name that the command line has for them: keys of CrkdConfig.
FORMS: Mapping[str, Mapping[str, Any]] = {"balanced": {}, "published": PUBLISHED}
#: What one student can be taught by, as the command line names it.
METHODS: Mapping[str, tuple[str, ...]] = {
    "crkd": ("crkd",),
    "imkd": ("imkd",),
    "crkd+imkd": ("crkd", "imkd"),
}


def default_losses(method: str, form: str) -> dict[str, float]:
    """Weights of all losses of a method, or of two together.

    Raises:
        ConfigError: an unknown method or form.
    """
    names = _known(method, form)
    crkd = PUBLISHED_LOSSES if form == "published" else CRKD_LOSSES
    parts = {"crkd": crkd, "imkd": IMKD_LOSSES}
    return {loss: weight for name in names for loss, weight in parts[name].items()}


def _known(method: str, form: str) -> tuple[str, ...]:
    if method not in METHODS:
        raise ConfigError(f"method: expected one of {', '.join(METHODS)}, got {method!r}")
    if form not in FORMS:
        raise ConfigError(f"form: expected one of {', '.join(FORMS)}, got {form!r}")
    if form != "balanced" and "crkd" not in METHODS[method]:
        raise ConfigError(
            f"form: {form} is a form of CRKD's losses; IMKD's have one, leave it out"
        )
    return METHODS[method]


def distill_config(
    teacher: Path,
    student: str,
    *,
    method: str = "crkd",
    preset: str | None = None,
    form: str = "balanced",
    losses: Mapping[str, float] | None = None,
    inherits: bool = False,
    calibration: str | None = None,
    teacher_sensors: tuple[str, ...] = (),
    imkd_teacher: Path | None = None,
    unlabelled: UnlabelledConfig | None = None,
    cache: Path | None = None,
    steps: int | None = None,
    changes: Sequence[str] = (),
) -> TrainConfig:
    """The configuration of a new distillation run.

    Channels of boxes that student or teacher do not learn from their data are not compared, unless
    ``changes`` name them.

    Args:
        teacher: run folder or weights file. A run folder also tells which sensors it may see.
        student: name of a preset (random start), run folder or weights file (start from there).
        method: of METHODS.
        preset: whose training settings to take; None = the student's run or preset.
        form: "balanced" or "published", of CRKD's losses and of a new calibration block.
        losses: their weights; 0, or not named = off; None = those of the form.
        inherits: whether decoder and head start from the teacher's.
        calibration: none, path or side; None = as the student has it, but where CSRD needs one,
            "side", and "path" in the published form.
        teacher_sensors: cameras and radars that the teachers may see, each read by one of them;
            () = those it was trained on.
        imkd_teacher: another teacher for IMKD, of two methods; None = the same.
        unlabelled: drives without boxes; None = as in the student's settings.
        cache: folder for the teachers' features.
        steps: length of the schedule; None = as in the student's settings.
        changes: KEY.KEY=YAML, at the end; see ``override``.

    Raises:
        DistillError: a student that is neither preset, run nor file; a student without
            calibration for CSRD; a teacher without label encoder for label_fused; no preset to
            take training settings from.
        CheckpointError: a weights file that cannot be read, or that holds no configuration.
        ConfigError: an unknown preset, method, form or loss, an ``imkd_teacher`` beside one
            method alone, a sensor that no teacher reads, or a change that cannot be made.
    """
    names = _known(method, form)
    if imkd_teacher is not None and len(names) == 1:
        raise ConfigError(
            "--imkd-teacher: is the second teacher of --method crkd+imkd, and the method is "
            f"{method}; leave it out and name the only teacher by --teacher, or pass --method "
            "crkd+imkd"
        )
    _check_read(teacher_sensors, [path for path in (teacher, imkd_teacher) if path is not None])
    chosen = default_losses(method, form) if losses is None else dict(losses)
    config, start = start_config(student, preset)
    common = {
        "teacher_sensors": teacher_sensors,
        "cache": None if cache is None else str(cache.resolve()),
    }
    crkd = imkd = None
    own = {name: weight for name, weight in chosen.items() if name not in IMKD_LOSSES}
    radar = config.detector.radar
    if "crkd" in names:
        made = {**FORMS[form], "losses": own, **common, **_teacher(teacher, teacher_sensors)}
        crkd = CrkdConfig(**made, inherit=("decoder", "head") if inherits else ())
        radar = _calibrated(config.detector, crkd, calibration)
    elif own or calibration is not None:
        what = ", ".join(own) or "--calibration"
        raise ConfigError(f"{what}: is of CRKD, and the method is {method}; leave it out")
    if "imkd" in names:
        weights = imkd_teacher or teacher
        made = {**common, **_teacher(weights, teacher_sensors)}
        made["losses"] = {name: w for name, w in chosen.items() if name in IMKD_LOSSES}
        if made["losses"].get("label_fused"):
            made |= _label_encoder(weights)
        # Two methods cannot both say what the student starts with.
        is_first = crkd is None
        imkd = ImkdConfig(**made, inherit=("decoder", "head") if inherits and is_first else ())
    config = dataclasses.replace(
        config,
        detector=dataclasses.replace(config.detector, radar=radar),
        # Boxes pasted into the LiDAR alone would teach what no camera and no radar can see.
        paste=None,
        start=None if start is None else str(start.resolve()),
        start_image=config.start_image if start is None else None,
        crkd=crkd,
        imkd=imkd,
        unlabelled=unlabelled or config.unlabelled,
        steps=config.steps if steps is None else steps,
    )
    # Changes may be of the student's head, and they have the last word about channels too.
    taught = override(config, [*changes]).detector
    return override(without_unlearned(config, taught), [*changes])


def _check_read(sensors: Sequence[str], teachers: Sequence[Path]) -> None:
    """Refuse names of sensors that none of the teachers reads."""
    configs = [read_config(weights_file(path)) for path in teachers]
    unread = [name for name in sensors if not any(name in c.sensors for c in configs)]
    # Names that are no sensor's have an error of their own.
    check_sensors("--teacher-sensor", tuple(unread))
    if unread:
        have = " and ".join(f"{c.name} has branches for {', '.join(c.branches)}" for c in configs)
        raise ConfigError(
            f"--teacher-sensor: no teacher reads {', '.join(unread)}: {have}; name others (its "
            "LiDAR it always sees), or leave the option out"
        )


def _teacher(path: Path, sensors: tuple[str, ...]) -> dict[str, Any]:
    """The keys of DistillConfig about a teacher."""
    weights = weights_file(path)
    trained = _trained_config(path)
    return {
        "teacher": str(weights.resolve()),
        "teacher_checksum": checksum(load_weights(weights)),
        "teacher_sensors": sensors or (trained.sensors if trained else ()),
    }


def _label_encoder(teacher: Path) -> dict[str, Any]:
    """The keys of ImkdConfig about the label encoder beside a teacher's weights."""
    file = weights_file(teacher).with_name(LABEL_ENCODER)
    if not file.is_file():
        raise DistillError(
            f"label_fused needs {file}, an encoder of labels for this teacher; make it by "
            f"crkd label-encoder --teacher {teacher}, or leave the loss out, --losses "
            "label_fused=0"
        )
    return {
        "label_encoder": str(file.resolve()),
        "label_encoder_checksum": load_label_encoder(file).checksum,
    }


def _calibrated(
    detector: DetectorConfig, crkd: CrkdConfig, calibration: str | None
) -> RadarConfig | None:
    """The student's radar branch, with the calibration block that is asked for or needed."""
    reads = "csrd" in crkd.chosen
    if detector.radar is None:
        if reads or calibration not in (None, "none"):
            raise DistillError(
                f"{detector.name} has no radar branch: there is nothing to calibrate, and CSRD "
                "reads the calibration block; leave --calibration out and pass --losses csrd=0"
            )
        return None
    has = detector.radar.calibration
    if calibration is None:
        new = "side" if crkd.csrd_form == "focal" else "path"
        calibration = new if has == "none" and reads else has
    if calibration == "none" and reads:
        raise DistillError(
            "CSRD reads the radar calibration block; choose --calibration path or side, or "
            "--losses csrd=0"
        )
    radar = dataclasses.replace(detector.radar, calibration=calibration)  # type: ignore[arg-type]
    if has == "none" and calibration != "none":
        # A block that the weights to start from already have stays what it is.
        block: Literal["residual", "released"]
        block = "residual" if crkd.csrd_form == "focal" else "released"
        radar = dataclasses.replace(radar, calibration_block=block)
    return radar


def start_config(student: str, preset: str | None) -> tuple[TrainConfig, Path | None]:
    """Training settings with a detector, and the weights to start from; None = random.

    With weights to start from boxes are not learned alone: only ``--set boxes_alone=`` says so.

    Args:
        student: see ``distill_config``.
        preset: likewise.

    Raises:
        DistillError: neither preset, run nor file; no preset to take training settings from.
        CheckpointError: a weights file that cannot be read, or that holds no configuration.
        ConfigError: an unknown preset.
    """
    path = Path(student)
    if path.name != student and not path.exists():
        raise DistillError(
            f"{student}: no such run or weights file; a preset is one of {', '.join(PRESETS)}"
        )
    if student in PRESETS or not path.exists():
        config = find_preset(student)
        settings = find_preset(preset) if preset else config
        return dataclasses.replace(settings, detector=config.detector), None
    file = weights_file(path)
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
    # These weights know their boxes, and have heatmaps to forget.
    return dataclasses.replace(settings, detector=detector, boxes_alone=(0.0, 0.0)), file


def _trained_config(path: Path) -> TrainConfig | None:
    """How the network of a run folder was trained; None for a weights file."""
    return Run.open(path).config if (path / RECORD).is_file() else None
