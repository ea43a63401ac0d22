"""Made-up feature maps of a teacher and a student of the size of TINY, and CRKD's losses."""

from __future__ import annotations

import dataclasses

import model_tiny
import numpy as np
import torch
from model_tiny import TINY
from torch import Tensor

from crkd_core.boxes import Truth
from crkd_core.config import CRKD_LOSSES, CrkdConfig, DetectorConfig, EnlargeConfig, RadarConfig
from crkd_core.distill.crkd import Crkd
from crkd_core.distill.foreground import foreground
from crkd_core.distill.teacher import Teacher
from crkd_core.losses.targets import Targets, targets_of
from crkd_core.model.build import build_detector
from crkd_core.model.head import REGRESSION
from crkd_core.model.output import ModelOutput

X, Y = TINY.grid.shape
#: What the losses of CRKD read of a teacher.
READ = Crkd.reads(CrkdConfig(teacher="", teacher_checksum=""))


def teacher_of(config: DetectorConfig = TINY) -> Teacher:
    """A teacher with random weights."""
    return Teacher(build_detector(config), keep=READ)


#: One for all: losses only ask it for its configuration.
TEACHER = teacher_of()


#: CSRD reads the activation of a calibration block.
CALIBRATED = dataclasses.replace(
    TINY,
    radar=RadarConfig(channels=(8, 8), calibration="side", calibration_block="residual"),
)
#: The same as published.
RELEASED = dataclasses.replace(TINY, radar=RadarConfig(channels=(8, 8), calibration="path"))


def crkd(*, student: DetectorConfig = CALIBRATED, teacher: Teacher = TEACHER, **changes) -> Crkd:
    """The losses in their default forms."""
    torch.manual_seed(0)
    config = CrkdConfig(teacher="", teacher_checksum="", **changes)
    return Crkd(config, student=student, teacher=teacher)


def published(
    *, student: DetectorConfig = RELEASED, teacher: Teacher = TEACHER, **changes
) -> Crkd:
    """The losses in their published forms."""
    torch.manual_seed(0)
    config = CrkdConfig.published(teacher="", teacher_checksum="", **changes)
    return Crkd(config, student=student, teacher=teacher)


def only(*names: str) -> dict[str, float]:
    """These losses of CRKD with their own weights."""
    return {name: CRKD_LOSSES[name] for name in names}


def maps(seed: int, *, samples: int = 2) -> list[dict[str, Tensor]]:
    """Raw head maps of both ends: logits around -1, so that both sides of 0.1 and 0.3 occur."""
    generator = torch.Generator().manual_seed(seed)
    return [
        {
            name: torch.randn((samples, c, X, Y), generator=generator) - float(name == "heatmap")
            for name, c in {**REGRESSION, "heatmap": len(task.classes)}.items()
        }
        for task in TINY.head.tasks
    ]


def output(seed: int, *, samples: int = 2, grad: bool = False) -> ModelOutput:
    generator = torch.Generator().manual_seed(seed)

    def noise(channels: int) -> Tensor:
        return torch.randn((samples, channels, X, Y), generator=generator)

    features = {
        "camera_bev": noise(8),
        "gated_camera": noise(8),
        "radar_bev": noise(8),
        "fused": noise(16).relu(),
        "decoded": noise(16),
        "radar_activation": 0.3 * noise(1).relu(),
    }
    tasks = maps(seed, samples=samples)
    for tensor in [*features.values(), *(t for task in tasks for t in task.values())]:
        tensor.requires_grad_(grad)
    return ModelOutput(tasks=tasks, depth_logits=torch.zeros(0), **features)


def of(given: ModelOutput) -> ModelOutput:
    """What the losses read of a teacher that answered so."""
    return given.keeping(READ)


def teacher(seed: int, *, samples: int = 2) -> ModelOutput:
    return of(output(seed, samples=samples))


def truths(*seeds: int) -> list[Truth]:
    return [model_tiny.truth(np.random.default_rng(seed), 6) for seed in seeds]


def targets(boxes: list[Truth]) -> Targets:
    """What a batch brings along for the losses."""
    mask = foreground(boxes, TINY.grid, EnlargeConfig())
    return dataclasses.replace(targets_of(boxes, TINY), foreground=mask)
