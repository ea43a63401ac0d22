"""Configurations that were written by earlier versions, read with the meaning they had.

A file says in which format its configuration is; files of format 1 do not say so.

1: camera and radar are always there, and where lidar is not null, the network has a LiDAR branch
   in the place of the radar branch, whatever is said of radar.
2: a network has the branches that are not null. The head has ``joint_regression``: whether the
   regression branches of a task share their hidden channels.
3: the head has ``hidden`` instead. A training that starts from weights never learns boxes alone,
   whatever its ``boxes_alone`` says.
4: of run folders alone: ``boxes_alone`` counts in every training.
"""

from __future__ import annotations

from typing import Any

from crkd_core.config.checks import ConfigError

#: What is written today, of a detector and of a training.
FORMAT = 3
TRAINING_FORMAT = 4


def upgraded(detector: dict[str, Any], *, format: int | str | None) -> dict[str, Any]:
    """The plain data of a DetectorConfig as today's version would have written it.

    Args:
        detector: what the file says; left as it is.
        format: what the file says of its format; None = nothing.

    Raises:
        ConfigError: a format that this version does not know.
    """
    if not isinstance(detector, dict):
        raise ConfigError(f"detector: expected a mapping, got {type(detector).__name__}")
    known = [str(number) for number in range(1, FORMAT + 1)]
    if str(format or 1) not in known:
        raise ConfigError(
            f"configuration format: expected one of {', '.join(known)}, got {format!r}; it was "
            "written by a later version of this package, which can read it"
        )
    if int(format or 1) < 2 and detector.get("lidar") is not None:
        detector = {**detector, "radar": None}
    head = detector.get("head")
    if int(format or 1) < 3 and isinstance(head, dict) and "joint_regression" in head:
        head = {**head, "hidden": "task" if head["joint_regression"] else "branch"}
        del head["joint_regression"]
        detector = {**detector, "head": head}
    return detector


def upgraded_training(training: dict[str, Any], *, format: int | str | None) -> dict[str, Any]:
    """The plain data of a TrainConfig as today's version would have written it.

    Args:
        training: what a run folder says; left as it is.
        format: what it says of its format; None = nothing.

    Raises:
        ConfigError: a format that this version does not know.
    """
    detectors = FORMAT if str(format) == str(TRAINING_FORMAT) else format
    changed: dict[str, Any] = {"detector": upgraded(training["detector"], format=detectors)}
    if int(format or 1) < 4 and training.get("start") is not None:
        changed["boxes_alone"] = [0.0, 0.0]
    return {**training, **changed}
