"""Teacher, student, Frames and a configuration so small that a distillation takes seconds."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from model_tiny import TINY, frame

from crkd_core.config import CrkdConfig, LidarConfig, TrainConfig
from crkd_core.distill.teacher import checksum
from crkd_core.frame import Frame
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import load_weights
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Views

TEACHER = dataclasses.replace(
    TINY,
    name="tiny_teacher",
    lidar=LidarConfig(
        kind="pillars",
        sweeps=2,
        voxel=(1.0, 1.0, 1.0),
        max_points=8,
        max_voxels=(2000, 2000),
        channels=(8, 8),
    ),
)
STUDENT = dataclasses.replace(
    TINY,
    radar=dataclasses.replace(TINY.radar, calibration="path", calibration_block="residual"),
)


def a_frame(seed: int) -> Frame:
    """As recorded, with LiDAR."""
    lidar = np.random.default_rng(seed).uniform((-24, -16, -2), (24, 16, 2), (300, 3))
    lidar = np.pad(lidar, ((0, 0), (0, 2))).astype(np.float32)
    return dataclasses.replace(frame(seed), prepared=None, lidar=lidar)


class TinySet(list):
    """Frames that say which recordings they are."""

    def digest(self):
        return "three made-up frames"

    @property
    def tokens(self) -> list[str]:
        return [frame.token for frame in self]


FRAMES = TinySet(a_frame(seed) for seed in range(3))


def settled(config):
    """A network with statistics of its data, as a trained one has."""
    torch.manual_seed(7)
    model = build_detector(config).train()
    views = Views(FRAMES, TrainConfig(detector=config, augment=None))
    seen = views.collate([views[position] for position in range(3)])
    with torch.no_grad():
        for _ in range(20):
            model(seen.inputs)
    return model.eval()


def a_config(teacher_file, *, settings=None, **changes) -> TrainConfig:
    values = {
        "detector": STUDENT,
        "augment": None,
        "steps": 4,
        "batch_size": 2,
        "learning_rate": 3e-3,
        "warmup_steps": 1,
        "checkpoint_steps": 2,
        "log_steps": 1,
        "workers": 0,
        "crkd": CrkdConfig(
            teacher=str(teacher_file),
            teacher_checksum=checksum(load_weights(teacher_file)),
            **({"ramp_steps": 0} | (settings or {})),
        ),
    }
    return TrainConfig(**(values | changes))


def start(path, config) -> Run:
    return Run.start(path, config, data="", split="")
