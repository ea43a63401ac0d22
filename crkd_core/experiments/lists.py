"""The experiments, each a list of runs. Steps are for the demo networks on the synthetic world.

The student's and the teacher's first training are shared by all; every other run starts from the
student's weights (S0) and goes on for the same number of steps in the same order of samples, with
or without a teacher. A is the student trained on alone, B has its own starting weights as teacher:
what it gains is owed to soft targets, not to LiDAR.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

from crkd_core.config import CRKD_LOSSES, IMKD_LOSSES
from crkd_core.experiments.plan import PlanError, RunSpec

#: Steps of the student's first training, the teacher's, and of those that go on from the
#: student's, of 8 samples each: 42, 21 and 4 passes over 32 drives of 18 key frames. After 10,000
#: samples a student still placed what moves and little else.
FIRST_STEPS = 3000
TEACHER_STEPS = 1500
STEPS = 300
#: The same where a quarter of the drives has boxes.
FEW_FIRST_STEPS = 1200
FEW_TEACHER_STEPS = 1000
FEW_STEPS = 400
FIRST_WARMUP = 150
WARMUP = 50

#: Weights that fluctuate at the end of a training say little about it, so averages are kept.
_KEPT = ("checkpoint_steps=100", "average=0.99", "batch_size=8")
#: Of a training that goes on: half the rate of the first one.
_ON = (*_KEPT, "learning_rate=1e-3")


def _only(**weights: float) -> tuple[str, ...]:
    """Words for `crkd distill`: these losses, and no others."""
    chosen = {name: weights.get(name, 0.0) for name in CRKD_LOSSES}
    return ("--losses", ",".join(f"{name}={weight:g}" for name, weight in chosen.items()))


#: A distilled one says how hard each loss pulls, five times on its way.
_TAUGHT = (*_ON, f"gradient_steps={STEPS // 5}")

#: Only the heatmaps teach. A plain start needs no calibration block, so it gets none.
HEATMAPS = _only(respd_heatmap=CRKD_LOSSES["respd_heatmap"])
#: For teachers that are no better than the student, on purpose.
WEAK = ("--allow-weak-teacher",)

S0 = RunSpec(
    arm="S0",
    what="camera and radar, the start of all",
    steps=FIRST_STEPS,
    warmup=FIRST_WARMUP,
    changes=_KEPT,
)
TEACHER = RunSpec(
    arm="teacher",
    what="LiDAR and camera",
    preset="demo_teacher",
    steps=TEACHER_STEPS,
    warmup=FIRST_WARMUP,
    changes=_KEPT,
)
CAMERA_ONLY = dataclasses.replace(
    S0, arm="camera_only", what="camera, as long as S0", preset="demo_camera"
)
RADAR_ONLY = dataclasses.replace(
    S0, arm="radar_only", what="radar, as long as S0", preset="demo_radar"
)
A = RunSpec(arm="A", what="no teacher", start="S0", steps=STEPS, warmup=WARMUP, changes=_ON)
B = dataclasses.replace(
    A, arm="B", what="its own start teaches, heatmaps", teacher="S0", options=HEATMAPS + WEAK,
    plain="A", changes=_TAUGHT,
)  # fmt: skip
C = dataclasses.replace(
    B, arm="C", what="the teacher's heatmaps", teacher="teacher", options=HEATMAPS,
    self_taught="B", is_measured=True,
)  # fmt: skip
D = dataclasses.replace(C, arm="D", what="CRKD, balanced", options=())
E = dataclasses.replace(
    C, arm="E", what="CRKD, as published", options=("--form", "published"), is_measured=False
)
F = dataclasses.replace(
    A, arm="F", what="no teacher, calibration block in the path as in E", plain="A",
    changes=(*_ON, "detector.radar.calibration=path"),
)  # fmt: skip

Seeds = Sequence[int]


def _seeded(arms: Sequence[RunSpec], seeds: Seeds) -> list[RunSpec]:
    """The arms with every seed, seed by seed: what is finished early is paired."""
    return [dataclasses.replace(arm, seed=seed) for seed in seeds for arm in arms]


def main(seeds: Seeds) -> list[RunSpec]:
    """Does a distilled student beat the same one trained as long without a teacher, and why?"""
    return [S0, TEACHER, RADAR_ONLY, CAMERA_ONLY, *_seeded([A, B, C, D], seeds)]


def forms(seeds: Seeds) -> list[RunSpec]:
    """CRKD as published; the calibration block alone; the teacher's decoder and head first."""
    inherited = dataclasses.replace(
        D, arm="inherited", what="D, from the teacher's decoder and head", options=("--inherit",)
    )
    return [S0, TEACHER, *_seeded([A, B, D, E, F, inherited], seeds)]


def pull(seeds: Seeds) -> list[RunSpec]:
    """How hard may the teacher pull? Its heatmaps with four times their weight, and with half.

    The gradient that they send back, measured in every distilled run, is at four times the weight
    two to three times that of the detection loss.
    """
    arms = [A, B, C]
    for factor in (4.0, 0.5):
        weight = factor * CRKD_LOSSES["respd_heatmap"]
        name, what = f"C_pull_{factor:g}", f"the teacher's heatmaps, {factor:g} times the weight"
        options = _only(respd_heatmap=weight)
        arms.append(dataclasses.replace(C, arm=name, what=what, options=options))
    return [S0, TEACHER, *_seeded(arms, seeds)]


def losses(seeds: Seeds) -> list[RunSpec]:
    """Each loss of balanced CRKD alone, and left out."""
    alone = [
        dataclasses.replace(
            C, arm=f"only_{name}", what=f"{name} alone", options=_only(**{name: weight})
        )
        for name, weight in CRKD_LOSSES.items()
    ]
    without = [
        dataclasses.replace(
            D, arm=f"no_{name}", what=f"D without {name}", options=("--losses", f"{name}=0")
        )
        for name in CRKD_LOSSES
    ]
    return [S0, TEACHER, *_seeded([A, B, D, *alone, *without], seeds)]


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
        options=HEATMAPS + WEAK, plain="few_A", changes=_TAUGHT, is_measured=True,
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
    arms = [plain, taught, own, heatmaps, balanced]
    return [start, teacher, *_seeded(arms, seeds)]


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
    return [S0, TEACHER, *_seeded([A, own, heatmaps, balanced], seeds)]


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
    return [*runs, *_seeded(arms, seeds)]


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
    return [start, TEACHER, *_seeded(arms, seeds)]


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


#: IMKD's student for the ladder: earlier moments would be read and seen for every sample, so they
#: are left out of all of its arms alike.
_LADDER = ("detector.temporal=null", "detector.guide=null")


def _imkd(*names: str) -> tuple[str, ...]:
    """Words for `crkd distill`: these losses of IMKD with their weights, and no others."""
    weights = {name: IMKD_LOSSES[name] if name in names else 0.0 for name in IMKD_LOSSES}
    text = ",".join(f"{name}={weight:g}" for name, weight in weights.items())
    return ("--method", "imkd", "--losses", text)


def ladder(seeds: Seeds) -> list[RunSpec]:
    """IMKD's parts one after the other, each beside its control of uniform weights.

    Arms of a rung differ from the rung below by one part. Student and LiDAR teacher are IMKD's,
    all start from the same plain student; CRKD alone and with IMKD stand beside. A quarter of the
    drives has boxes, as in ``few``: where all have, no teacher paid.
    """
    start = dataclasses.replace(
        S0, arm="ladder_S0", what="IMKD's student, the start of all", preset="demo_imkd",
        drives="few", steps=FEW_FIRST_STEPS, changes=S0.changes + _LADDER,
    )  # fmt: skip
    lidar = dataclasses.replace(
        TEACHER, arm="lidar", what="LiDAR alone", preset="demo_lidar", drives="few",
        steps=FEW_TEACHER_STEPS, has_label_encoder=True,
    )  # fmt: skip
    plain = dataclasses.replace(
        A, arm="ladder_A", what="no teacher", start=start.name, preset="demo_imkd", drives="few",
        steps=FEW_STEPS, changes=A.changes + _LADDER,
    )  # fmt: skip
    own = dataclasses.replace(
        plain, arm="ladder_B", what="its own start's responses", teacher=start.name,
        options=_imkd("response_heatmap", "response_box") + WEAK, plain=plain.arm, changes=_TAUGHT,
        unlabelled="rest",
    )  # fmt: skip

    def rung(arm: str, what: str, *losses: str, changes: tuple[str, ...] = ()) -> RunSpec:
        return dataclasses.replace(
            own, arm=arm, what=what, teacher=lidar.name, options=_imkd(*losses),
            self_taught=own.arm, changes=_TAUGHT + changes,
            needs_label_encoder="label_fused" in losses,
        )  # fmt: skip

    responses = ("response_heatmap", "response_box")
    label, fused = (*responses, "label_fused"), (*responses, "label_fused", "lidar_fused")
    everything = (*fused, "lidar_radar")
    guide = "detector.guide={}"
    flat = ("imkd.radar.intensity=uniform", "imkd.fused.intensity=uniform")
    arms = [
        plain,
        own,
        rung("response", "responses", *responses),
        rung("label", "and labels to fused", *label),
        rung(
            "label_all", "labels, all cells alike", *label, changes=("imkd.label.cells=all",)
        ),
        rung("fused", "and LiDAR to fused", *fused),
        rung("fused_uniform", "LiDAR to fused, uniform", *fused, changes=flat[1:]),
        rung("radar", "and LiDAR to radar", *everything),
        rung("radar_uniform", "LiDAR to radar, uniform", *everything, changes=flat[:1]),
        rung("imkd", "and intensity-guided fusion: IMKD", *everything, changes=(guide,)),
        rung(
            "imkd_uniform", "all of IMKD, uniform", *everything,
            changes=(*flat, guide, "detector.guide.intensity=uniform"),
        ),
        rung("imkd_rays", "IMKD, ellipses along rays", *everything,
             changes=(guide, "imkd.fused.cells=rays", "imkd.label.cells=rays")),
        rung("imkd_whole", "IMKD, whole maps instead of thirds", *everything,
             changes=(guide, "imkd.partition=whole")),
        dataclasses.replace(
            own, arm="ladder_crkd", what="CRKD, balanced", teacher=lidar.name,
            options=("--losses", "msfd_camera=0"), self_taught=own.arm,
        ),
        dataclasses.replace(
            own, arm="ladder_both", what="CRKD and IMKD", teacher=lidar.name,
            options=("--method", "crkd+imkd", "--losses", "msfd_camera=0"), self_taught=own.arm,
            changes=(*_TAUGHT, guide), needs_label_encoder=True,
        ),
    ]  # fmt: skip
    return [start, lidar, *_seeded(arms, seeds)]


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


def runs_of(name: str, *, seeds: int | None = None) -> list[RunSpec]:
    """The runs of an experiment.

    Args:
        name: one of LISTS.
        seeds: how many, counted from 1; None = as many as the list has.

    Raises:
        PlanError: no such list.
    """
    if name not in LISTS:
        raise PlanError(f"no experiment {name!r}; there are {', '.join(LISTS)}")
    runs, default = LISTS[name]
    return runs(range(1, (default if seeds is None else seeds) + 1))
