"""Which released network a state dict holds, and its conversion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from crkd_core.config import DetectorConfig
from crkd_core.official.source import OfficialError, Source
from crkd_core.official.student import convert_student

#: Parts of a detector; a distilled file holds the student's under these names with "_student".
ROOTS = ("encoders", "fuser", "decoder", "heads")

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
            published teacher (methods 1.8).

    Returns:
        Configuration and tensors that fit ``build_detector(config)`` exactly.

    Raises:
        OfficialError: another network, naming what does not fit; missing or unknown keys, listed.
    """
    state = {key.removeprefix("module."): value for key, value in state_dict.items()}
    strange = [key for key, value in state.items() if not isinstance(value, Tensor)]
    if strange or not state:
        raise OfficialError(
            f"expected a state dict of tensors, got {type(state_dict).__name__} with "
            f"{len(state_dict)} entries{f', among them {strange[0]!r}' if strange else ''}; of a "
            "checkpoint take the entry 'state_dict'"
        )
    source = _half(state, part)
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


def _half(state: dict[str, Tensor], part: Part) -> Source:
    """The keys of the wanted network under their plain names."""
    renamed = {f"{root}_student.": f"{root}." for root in ROOTS}
    student: dict[str, str] = {}
    for key in state:
        root = key.partition(".")[0] + "."
        if root in renamed:
            student[renamed[root] + key.removeprefix(root)] = key
    if not student:
        return Source(state)
    if part != "teacher":
        # Only the teacher's roots and the adapters may be passed over.
        extra = [
            key
            for key in state.keys() - set(student.values())
            if key.partition(".")[0] not in ROOTS and not key.startswith(ADAPTERS)
        ]
        names = {**student, **{key: key for key in extra}}
        return Source({new: state[old] for new, old in names.items()}, names=names)
    teacher = {
        key: value
        for key, value in state.items()
        if key not in student.values() and not key.startswith(ADAPTERS)
    }
    if not teacher:
        raise OfficialError("this file holds the student half of a distilled network only")
    return Source(teacher)
