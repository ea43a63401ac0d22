"""Which released network a state dict holds, and its conversion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor

from crkd_core.config import ConfigError, DetectorConfig
from crkd_core.model.build import build_detector
from crkd_core.official.bev import foreign
from crkd_core.official.source import ROOTS, OfficialError, Source
from crkd_core.official.student import convert_student

#: What the student's roots end with in a distilled file.
STUDENT = "_student"

#: Adapters of the relation loss: of use in training only.
ADAPTERS = "fused_feat_affinity_loss."

Part = Literal["auto", "student", "teacher"]


def convert(
    state_dict: Mapping[str, Tensor], *, part: Part = "auto"
) -> tuple[DetectorConfig, dict[str, Tensor]]:
    """A released CRKD state dict as our configuration and state dict.

    Conventions go into the weights (box size order, heading) or into the configuration (grid
    frame, rounding of the lift, padded radar pillars, image placement); nothing behind them
    differs from our own networks. Adapters of the relation loss are left out.

    Args:
        state_dict: a teacher, a gated student, a baseline student, or a distilled file, which
            holds a student and the teacher that it learned from. Keys may begin with "module.".
        part: which half of a distilled file; "auto" is its student. A teacher out of a distilled
            file is what the student saw, most likely with another camera backbone than the
            published teacher (docs/method.md 1.12).

    Returns:
        Configuration and tensors that fit ``build_detector(config)`` exactly.

    Raises:
        OfficialError: another network, naming what does not fit; missing or unknown keys, tensors
            of another shape or that are not finite, listed.
    """
    try:
        config, tensors = _convert(state_dict, part)
    except ConfigError as error:
        raise OfficialError(f"tensors of sizes that no network has: {error}") from error
    tensors = {key: _plain(value) for key, value in tensors.items()}
    _check(config, tensors)
    return config, tensors


def _convert(
    state_dict: Mapping[str, Tensor], part: Part
) -> tuple[DetectorConfig, dict[str, Tensor]]:
    state = {key.removeprefix("module."): value for key, value in state_dict.items()}
    strange = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if strange or not state:
        raise OfficialError(
            f"expected a state dict of tensors, got {type(state_dict).__name__} with "
            f"{len(state_dict)} entries{f', among them {strange[0]!r}' if strange else ''}; of a "
            "checkpoint take the entry 'state_dict'"
        )
    source = _half(state, part)
    strangers = foreign(source)
    if strangers:
        raise OfficialError(
            "not a network of CRKD, though encoders may be the same: " + "; ".join(strangers)
        )
    if source.has("encoders.lidar.") and source.has("encoders.radar."):
        raise OfficialError("encoders: both lidar and radar; only one of them can be built")
    if source.has("encoders.lidar."):
        if part == "student":
            raise OfficialError("this is a LiDAR-camera teacher, there is no student in it")
        from crkd_core.official.teacher import convert_teacher

        return convert_teacher(source)
    if source.has("encoders.radar."):
        if part == "teacher":
            raise OfficialError("this is a camera-radar student, there is no teacher in it")
        return convert_student(source)
    roots = sorted({key.partition(".")[0] for key in state})
    raise OfficialError(
        "neither encoders.lidar (a teacher) nor encoders.radar (a student) beside "
        f"encoders.camera; found {', '.join(roots[:12])}"
    )


def _plain(tensor: Tensor) -> Tensor:
    """Float32 of its own memory; counters as they are."""
    return (tensor.float() if tensor.is_floating_point() else tensor).detach().clone()


def _check(config: DetectorConfig, tensors: dict[str, Tensor]) -> None:
    """Compare with the network that the configuration builds; nothing is computed for it."""
    with torch.device("meta"):
        expected = build_detector(config, pretrained=False).state_dict()
    problems = [f"missing {key}" for key in expected.keys() - tensors.keys()]
    problems += [f"unknown {key}" for key in tensors.keys() - expected.keys()]
    for key, tensor in tensors.items():
        if key in expected and tensor.shape != expected[key].shape:
            problems.append(
                f"{key}: expected {tuple(expected[key].shape)}, got {tuple(tensor.shape)}"
            )
        elif not torch.isfinite(tensor).all():
            problems.append(f"{key}: holds NaN or infinity")
    if problems:
        raise OfficialError(
            f"after renaming, tensors do not fit {config.name}: " + "; ".join(sorted(problems))
        )


def _half(state: dict[str, Tensor], part: Part) -> Source:
    """The keys of the wanted network under their plain names."""
    student: dict[str, str] = {}
    for key in state:
        root, _, rest = key.partition(".")
        if root.removesuffix(STUDENT) in ROOTS and root.endswith(STUDENT):
            student[f"{root.removesuffix(STUDENT)}.{rest}"] = key
    if not student:
        return Source(state)
    if part != "teacher":
        # Only the teacher's roots and the adapters may be passed over.
        extra = [
            key
            for key in state.keys() - set(student.values())
            if key.partition(".")[0] not in ROOTS and not key.startswith(ADAPTERS)
        ]
        own = {new: state[old] for new, old in student.items()}
        return Source({**own, **{key: state[key] for key in extra}}, suffix=STUDENT)
    teacher = {
        key: value
        for key, value in state.items()
        if key not in student.values() and not key.startswith(ADAPTERS)
    }
    if not teacher:
        raise OfficialError("this file holds the student half of a distilled network only")
    return Source(teacher)
