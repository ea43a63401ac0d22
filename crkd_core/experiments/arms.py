"""What the lists of experiments are made of: schedules, and the arms that most lists share.

Steps are for the demo networks on the synthetic world. The student's and the teacher's first
training are shared by all; every other run starts from the student's weights (S0) and goes on for
the same number of steps in the same order of samples, with or without a teacher. A is the student
trained on alone, B has its own starting weights as teacher: what it gains is owed to soft targets,
not to LiDAR.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from crkd_core.config import CRKD_LOSSES
from crkd_core.experiments.plan import RunSpec

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
KEPT = ("checkpoint_steps=100", "average=0.99", "batch_size=8")
#: Of a training that goes on: half the rate of the first one.
ON = (*KEPT, "learning_rate=1e-3")


def only(**weights: float) -> tuple[str, ...]:
    """Words for `crkd distill`: these losses, and no others."""
    chosen = {name: weights.get(name, 0.0) for name in CRKD_LOSSES}
    return ("--losses", ",".join(f"{name}={weight:g}" for name, weight in chosen.items()))


#: A distilled one logs the gradient ratios of each loss five times on its way.
TAUGHT = (*ON, f"gradient_steps={STEPS // 5}")

#: Only the heatmaps teach. A plain start needs no calibration block, so it gets none.
HEATMAPS = only(respd_heatmap=CRKD_LOSSES["respd_heatmap"])
#: For teachers that are no better than the student, on purpose.
WEAK = ("--allow-weak-teacher",)

S0 = RunSpec(
    arm="S0",
    what="camera and radar, the start of all",
    steps=FIRST_STEPS,
    warmup=FIRST_WARMUP,
    changes=KEPT,
)
TEACHER = RunSpec(
    arm="teacher",
    what="LiDAR and camera",
    preset="demo_teacher",
    steps=TEACHER_STEPS,
    warmup=FIRST_WARMUP,
    changes=KEPT,
)
CAMERA_ONLY = dataclasses.replace(
    S0, arm="camera_only", what="camera, as long as S0", preset="demo_camera"
)
RADAR_ONLY = dataclasses.replace(
    S0, arm="radar_only", what="radar, as long as S0", preset="demo_radar"
)
A = RunSpec(arm="A", what="no teacher", start="S0", steps=STEPS, warmup=WARMUP, changes=ON)
B = dataclasses.replace(
    A, arm="B", what="its own start teaches, heatmaps", teacher="S0", options=HEATMAPS + WEAK,
    plain="A", changes=TAUGHT,
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
    changes=(*ON, "detector.radar.calibration=path"),
)  # fmt: skip


def pseudo_labelled(
    prefix: str, plain: RunSpec, *, own: RunSpec, teacher: RunSpec
) -> tuple[RunSpec, RunSpec]:
    """``plain`` with pseudo-labels on the other drives: its start's, and its teacher's."""
    by_itself = dataclasses.replace(
        plain, arm=f"{prefix}_own_boxes", what="its own start's boxes as labels of the rest",
        teacher=own.name, unlabelled="rest", learns_pseudo_labels=True, plain=plain.arm,
    )  # fmt: skip
    taught = dataclasses.replace(
        by_itself, arm=f"{prefix}_boxes", what="the teacher's boxes as labels of the rest",
        teacher=teacher.name, self_taught=by_itself.arm,
    )  # fmt: skip
    return by_itself, taught


Seeds = Sequence[int]


def seeded(arms: Sequence[RunSpec], seeds: Seeds) -> list[RunSpec]:
    """The arms with every seed, seed by seed: what is finished early is paired."""
    return [dataclasses.replace(arm, seed=seed) for seed in seeds for arm in arms]
