"""The list of runs that takes IMKD apart (docs/method.md 1.10)."""

from __future__ import annotations

import dataclasses

from crkd_core.config import IMKD_LOSSES
from crkd_core.experiments.arms import (
    FEW_FIRST_STEPS,
    FEW_STEPS,
    FEW_TEACHER_STEPS,
    S0,
    TAUGHT,
    TEACHER,
    WEAK,
    A,
    Seeds,
    pseudo_labelled,
    seeded,
)
from crkd_core.experiments.plan import RunSpec

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
        steps=FEW_TEACHER_STEPS,
    )  # fmt: skip
    plain = dataclasses.replace(
        A, arm="ladder_A", what="no teacher", start=start.name, preset="demo_imkd", drives="few",
        steps=FEW_STEPS, changes=A.changes + _LADDER,
    )  # fmt: skip
    own = dataclasses.replace(
        plain, arm="ladder_B", what="its own start's responses", teacher=start.name,
        options=_imkd("response_heatmap", "response_box") + WEAK, plain=plain.arm, changes=TAUGHT,
        unlabelled="rest",
    )  # fmt: skip

    def rung(arm: str, what: str, *losses: str, changes: tuple[str, ...] = ()) -> RunSpec:
        return dataclasses.replace(
            own, arm=arm, what=what, teacher=lidar.name, options=_imkd(*losses),
            self_taught=own.arm, changes=TAUGHT + changes,
            needs_label_encoder="label_fused" in losses,
        )  # fmt: skip

    responses = ("response_heatmap", "response_box")
    label, fused = (*responses, "label_fused"), (*responses, "label_fused", "lidar_fused")
    everything = (*fused, "lidar_radar")
    guide = "detector.guide={}"
    # Cells count alike only where radar evidence does not weigh them either.
    flat_radar = ("imkd.radar.intensity=uniform", "imkd.evidence=1")
    flat_fused = ("imkd.fused.intensity=uniform",)
    arms = [
        plain,
        own,
        rung("response", "responses", *responses),
        rung("label", "and labels to fused", *label),
        rung(
            "label_all", "labels, all cells alike", *label, changes=("imkd.label.cells=all",)
        ),
        rung("fused", "and LiDAR to fused", *fused),
        rung("fused_uniform", "LiDAR to fused, uniform", *fused, changes=flat_fused),
        rung("radar", "and LiDAR to radar", *everything),
        rung("radar_uniform", "LiDAR to radar, uniform", *everything, changes=flat_radar),
        rung("imkd", "and intensity-guided fusion: IMKD", *everything, changes=(guide,)),
        rung(
            "imkd_uniform", "all of IMKD, uniform", *everything,
            changes=(*flat_radar, *flat_fused, guide, "detector.guide.intensity=uniform"),
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
            changes=(*TAUGHT, guide), needs_label_encoder=True,
        ),
    ]  # fmt: skip
    arms += pseudo_labelled("ladder", plain, own=start, teacher=lidar)
    return [start, lidar, *seeded(arms, seeds)]
