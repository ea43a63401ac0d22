"""Frames and a configuration so small that a training takes seconds."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
from collections.abc import Sequence

import numpy as np

from crkd_core.boxes import Truth
from crkd_core.config import AugmentConfig, GridConfig, ImageConfig, TrainConfig
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.frame import Frame
from crkd_core.presets import demo_student
from crkd_core.sensors import RADAR_COLUMNS
from crkd_core.train.run_folder import Run

EGO_T_CAM = np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, 0], [0, -1, 0, 1.6], [0, 0, 0, 1]])
K = np.array([[100.0, 0, 79.5], [0, 100.0, 44.5], [0, 0, 1]])


def a_frame(seed: int) -> Frame:
    rng = np.random.default_rng(seed)
    radar = np.zeros((20, len(RADAR_COLUMNS)), np.float32)
    radar[:, :2] = rng.uniform(-12, 12, (20, 2))
    n = 3
    truth = Truth(
        center=np.append(rng.uniform(-12, 12, (n, 2)), np.ones((n, 1)), 1),
        size=np.tile([4.0, 2.0, 1.5], (n, 1)),
        yaw=rng.uniform(-3, 3, n),
        velocity=np.where(rng.random((n, 1)) < 0.3, np.nan, rng.normal(size=(n, 2))),
        label=rng.integers(0, 10, n),
        attribute=np.zeros(n, int),
        num_lidar_points=np.ones(n, int),
        num_radar_points=np.ones(n, int),
        classes=NUSCENES_CLASSES,
    )
    return Frame(
        stamp_ns=seed,
        images=tuple(rng.integers(0, 255, (6, 90, 160, 3), np.uint8)),
        intrinsics=np.tile(K, (6, 1, 1)),
        ego_T_cam=np.tile(EGO_T_CAM, (6, 1, 1)),
        radar=radar,
        lidar=np.pad(rng.uniform(-12, 12, (50, 3)), ((0, 0), (0, 2))).astype(np.float32),
        truth=truth,
        token=f"sample{seed}",
    )


class Interrupted(Exception):
    """What ends a training at once."""


class StopsAfter:
    """A set of frames that breaks off, as a killed process does, after some reads."""

    def __init__(self, frames: Sequence[Frame], reads: int) -> None:
        self.frames, self.reads = frames, reads

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        self.reads -= 1
        if self.reads < 0:
            raise Interrupted
        return self.frames[index]


class Told:
    """A set of frames; at some reads this process is sent signals."""

    def __init__(self, frames: Sequence[Frame], numbers: list[int], at: int) -> None:
        self.frames, self.numbers, self.at, self.reads = frames, numbers, at, itertools.count(1)

    def __len__(self) -> int:
        return len(self.frames)

    def __getitem__(self, index: int) -> Frame:
        if next(self.reads) == self.at:
            for number in self.numbers:
                os.kill(os.getpid(), number)
        return self.frames[index]


FRAMES = [a_frame(seed) for seed in range(5)]


def a_config(**changes) -> TrainConfig:
    demo = demo_student()
    detector = dataclasses.replace(
        demo.detector,
        grid=GridConfig(low=(-12.8, -12.8, -5), high=(12.8, 12.8, 3), cell=0.8),
        image=ImageConfig(height=64, width=96, zoom=1.0),
    )
    values = {
        "steps": 6,
        "depth_weight": 0.0,
        "boxes_alone": (0.0, 0.0),
        "warmup_steps": 2,
        "checkpoint_steps": 2,
        "log_steps": 1,
        "workers": 0,
    }
    values |= {
        "batch_size": 2,
        "augment": AugmentConfig(image_zoom=(1.0, 1.3)),
        "precision": "fp32",
    }
    return dataclasses.replace(demo, detector=detector, **(values | changes))


#: What differs between two runs of the same training.
TIMES = ("steps_per_second", "data_wait")


def logged(run: Run) -> list[dict]:
    lines = [json.loads(line) for line in (run.path / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in TIMES} for line in lines]
