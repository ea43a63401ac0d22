"""Made-up feature maps of a teacher and a student of the size of TINY, and CRKD's losses."""

from __future__ import annotations

import dataclasses

import model_tiny
import numpy as np
import torch
from model_tiny import TINY
from torch import Tensor

from crkd_core.boxes import Truth
from crkd_core.config import DistillConfig, EnlargeConfig
from crkd_core.distill.crkd import TEACHER_READS, CrkdLoss
from crkd_core.distill.foreground import foreground
from crkd_core.losses.targets import Targets, targets_of
from crkd_core.model.head import REGRESSION
from crkd_core.model.output import ModelOutput

X, Y = TINY.grid.shape


def crkd(**changes) -> CrkdLoss:
    torch.manual_seed(0)
    config = DistillConfig(teacher="", teacher_checksum="", **changes)
    return CrkdLoss(config, student=TINY, teacher=TINY)


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
    return given.keeping(TEACHER_READS)


def teacher(seed: int, *, samples: int = 2) -> ModelOutput:
    return of(output(seed, samples=samples))


def truths(*seeds: int) -> list[Truth]:
    return [model_tiny.truth(np.random.default_rng(seed), 6) for seed in seeds]


def targets(boxes: list[Truth]) -> Targets:
    """What a batch brings along for the losses."""
    mask = foreground(boxes, TINY.grid, EnlargeConfig())
    return dataclasses.replace(targets_of(boxes, TINY), foreground=mask)
