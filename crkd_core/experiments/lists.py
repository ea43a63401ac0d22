"""The experiments, each a list of runs over seeds, to be read from top to bottom."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable

from crkd_core.config import CRKD_LOSSES
from crkd_core.experiments.arms import (
    CAMERA_ONLY,
    FEW_FIRST_STEPS,
    FEW_STEPS,
    FEW_TEACHER_STEPS,
    FIRST_WARMUP,
    HEATMAPS,
    RADAR_ONLY,
    S0,
    TAUGHT,
    TEACHER,
    TEACHER_STEPS,
    WEAK,
    A,
    B,
    C,
    D,
    E,
    F,
    Seeds,
    only,
    pseudo_labelled,
    seeded,
)
from crkd_core.experiments.ladder import ladder
from crkd_core.experiments.plan import PlanError, RunSpec


def main(seeds: Seeds) -> list[RunSpec]:
    """Does a distilled student beat the same one trained as long without a teacher, and why?"""
    return [S0, TEACHER, RADAR_ONLY, CAMERA_ONLY, *seeded([A, B, C, D], seeds)]


def forms(seeds: Seeds) -> list[RunSpec]:
    """CRKD as published; the calibration block alone; the teacher's decoder and head first."""
    inherited = dataclasses.replace(
        D, arm="inherited", what="D, from the teacher's decoder and head", options=("--inherit",)
    )
    return [S0, TEACHER, *seeded([A, B, D, E, F, inherited], seeds)]


def pull(seeds: Seeds) -> list[RunSpec]:
    """How hard may the teacher pull? Its heatmaps with four times their weight, and with half.

    The gradient that they send back, measured in every distilled run, is at four times the weight
    two to three times that of the detection loss.
    """
    arms = [A, B, C]
    for factor in (4.0, 0.5):
        weight = factor * CRKD_LOSSES["respd_heatmap"]
        name, what = f"C_pull_{factor:g}", f"the teacher's heatmaps, {factor:g} times the weight"
        options = only(respd_heatmap=weight)
        arms.append(dataclasses.replace(C, arm=name, what=what, options=options))
    return [S0, TEACHER, *seeded(arms, seeds)]


def losses(seeds: Seeds) -> list[RunSpec]:
    """Each loss of balanced CRKD alone, and left out."""
    alone = [
        dataclasses.replace(
            C, arm=f"only_{name}", what=f"{name} alone", options=only(**{name: weight})
        )
        for name, weight in CRKD_LOSSES.items()
    ]
    without = [
        dataclasses.replace(
            D, arm=f"no_{name}", what=f"D without {name}", options=("--losses", f"{name}=0")
        )
        for name in CRKD_LOSSES
    ]
    return [S0, TEACHER, *seeded([A, B, D, *alone, *without], seeds)]


def few(seeds: Seeds) -> list[RunSpec]:
    """A quarter of the drives has boxes; on the others only a teacher speaks.

    Teacher and start know no more boxes than the student.
    """
    start = dataclasses.replace(
        S0,
        arm="few_S0",
        what="S0, a quarter of the drives",
        drives="few",
        steps=FEW_FIRST_STEPS,
    )
    teacher = dataclasses.replace(
        TEACHER, arm="few_teacher", what="teacher, a quarter of the drives", drives="few",
        steps=FEW_TEACHER_STEPS,
    )  # fmt: skip
    plain = dataclasses.replace(
        A, arm="few_A", what="no teacher, a quarter of the drives", start="few_S0", drives="few",
        steps=FEW_STEPS,
    )  # fmt: skip
    taught = dataclasses.replace(
        plain, arm="few_C", what="the teacher's heatmaps, the same drives", teacher="few_teacher",
        options=HEATMAPS + WEAK, plain="few_A", changes=TAUGHT, is_measured=True,
    )  # fmt: skip
    own = dataclasses.replace(
        taught, arm="rest_B", what="its own start's heatmaps, all drives", teacher="few_S0",
        options=HEATMAPS + WEAK, unlabelled="rest", is_measured=False,
    )  # fmt: skip
    heatmaps = dataclasses.replace(
        taught, arm="rest_C", what="the teacher's heatmaps, all drives", unlabelled="rest",
        self_taught="rest_B",
    )  # fmt: skip
    balanced = dataclasses.replace(
        heatmaps, arm="rest_D", what="CRKD, balanced, all drives", options=WEAK
    )
    own_boxes, boxes = pseudo_labelled("rest", plain, own=start, teacher=teacher)
    arms = [plain, taught, own, heatmaps, balanced, own_boxes, boxes]
    return [start, teacher, *seeded(arms, seeds)]


def more(seeds: Seeds) -> list[RunSpec]:
    """Drives without boxes beside all of those with boxes: half of the samples are of these.

    What the teacher says of drives that it was not trained on is not what boxes there would say,
    but it is new to the student, which knows its own drives by heart.
    """
    own = dataclasses.replace(
        B, arm="more_B", what="its own start's heatmaps, more drives", unlabelled="more"
    )
    heatmaps = dataclasses.replace(
        C, arm="more_C", what="the teacher's heatmaps, more drives", unlabelled="more",
        self_taught="more_B",
    )  # fmt: skip
    balanced = dataclasses.replace(
        heatmaps, arm="more_D", what="CRKD, balanced, more drives", options=()
    )
    return [S0, TEACHER, *seeded([A, own, heatmaps, balanced], seeds)]


def weak(seeds: Seeds) -> list[RunSpec]:
    """Teachers of three lower levels, made by shorter trainings: from where on does one pay?"""
    runs = [S0, TEACHER]
    arms = [A, B, C, D]
    for name, part in (("half", 2), ("quarter", 4), ("eighth", 8)):
        teacher = dataclasses.replace(
            TEACHER, arm=f"teacher_{name}", what=f"teacher, a {name} of the steps",
            steps=TEACHER_STEPS // part, warmup=FIRST_WARMUP // part,
        )  # fmt: skip
        runs.append(teacher)
        arms += [
            dataclasses.replace(
                arm, arm=f"{arm.arm}_{name}", what=f"{arm.what}, teacher of a {name}",
                teacher=teacher.name, options=arm.options + WEAK,
            )
            for arm in (C, D)
        ]  # fmt: skip
    return [*runs, *seeded(arms, seeds)]


def _other_student(
    suffix: str, what: str, changes: tuple[str, ...], seeds: Seeds
) -> list[RunSpec]:
    """S0, A, B, C and D of another network, with the same teacher."""
    start = dataclasses.replace(
        S0, arm=f"S0_{suffix}", what=f"S0, {what}", changes=S0.changes + changes
    )
    arms = []
    for arm in (A, B, C, D):
        own = "S0" if arm.teacher == "S0" else None
        arms.append(
            dataclasses.replace(
                arm,
                arm=f"{arm.arm}_{suffix}",
                what=f"{arm.what}, {what}",
                start=start.name,
                teacher=start.name if own else arm.teacher,
                changes=arm.changes + (changes if arm.teacher is None else ()),
                plain=arm.plain and f"{arm.plain}_{suffix}",
                self_taught=arm.self_taught and f"{arm.self_taught}_{suffix}",
            )
        )
    return [start, TEACHER, *seeded(arms, seeds)]


def student(seeds: Seeds) -> list[RunSpec]:
    """A student of another architecture: bottleneck blocks for images, half a radar branch."""
    changes = (
        "detector.camera.backbone.layer=bottleneck",
        "detector.camera.backbone.depths=[1, 1, 1, 1]",
        "detector.radar.channels=[16, 16]",
    )
    return _other_student("other", "another student", changes, seeds)


def ungated(seeds: Seeds) -> list[RunSpec]:
    """The losses in a detector whose fuser has no gate (BEVFusion's)."""
    return _other_student("conv", "no gate", ("detector.fuser=conv",), seeds)


#: Name -> its runs for given seeds, and how many seeds it has by default.
LISTS: dict[str, tuple[Callable[[Seeds], list[RunSpec]], int]] = {
    "main": (main, 5),
    "forms": (forms, 3),
    "pull": (pull, 2),
    "losses": (losses, 2),
    "few": (few, 5),
    "more": (more, 3),
    "weak": (weak, 2),
    "student": (student, 3),
    "ungated": (ungated, 3),
    "ladder": (ladder, 3),
}


def runs_of(name: str, *, seeds: int | None = None, further: Iterable[int] = ()) -> list[RunSpec]:
    """The runs of an experiment.

    Args:
        name: one of LISTS.
        seeds: how many, counted from 1; None = as many as the list has.
        further: more of them, in any order.

    Raises:
        PlanError: no such list.
    """
    if name not in LISTS:
        raise PlanError(f"no experiment {name!r}; there are {', '.join(LISTS)}")
    runs, default = LISTS[name]
    first = range(1, (default if seeds is None else seeds) + 1)
    return runs(sorted({*first, *further}))
