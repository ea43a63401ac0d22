"""A detector small enough for every test, and data that fits it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch

from crkd_core.boxes import Truth
from crkd_core.config import (
    BackboneConfig,
    CameraConfig,
    DecoderConfig,
    DetectorConfig,
    GridConfig,
    HeadConfig,
    ImageConfig,
    LidarConfig,
    RadarConfig,
)
from crkd_core.data.batch import Batch, collate
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.frame import Frame
from crkd_core.losses.detection import DetectionLoss
from crkd_core.losses.targets import targets_of
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.model.detector import BevDetector
from crkd_core.model.intensity_guide import IntensityGuide
from crkd_core.presets.crkd import SIX_TASKS
from crkd_core.sensors import CAMERAS, RADAR_COLUMNS, RADARS

TINY = DetectorConfig(
    name="tiny",
    grid=GridConfig(low=(-24.0, -16.0, -5.0), high=(24.0, 16.0, 3.0), cell=2.0),
    image=ImageConfig(height=32, width=64, zoom=1.0),
    camera=CameraConfig(
        backbone=BackboneConfig(
            embedding=8, hidden=(8, 8, 16, 16), depths=(1, 1, 1, 1), layer="basic"
        ),
        neck_levels=(4, 8, 16),
        neck_channels=8,
        stride=8,
        depth=(1.0, 25.0, 2.0),
        context_channels=8,
        z=(-3.0, 3.0),
    ),
    radar=RadarConfig(channels=(8, 8)),
    fused_channels=16,
    decoder=DecoderConfig(channels=(16, 16, 16), strides=(2, 2, 1), blocks=1, out_channels=16),
    head=HeadConfig(tasks=SIX_TASKS, shared_channels=16, branch_channels=8, hidden="task"),
    classes=NUSCENES_CLASSES,
)

#: TINY for cars alone.
ONE_CLASS = dataclasses.replace(
    TINY, classes=("car",), head=dataclasses.replace(TINY.head, tasks=SIX_TASKS[:1])
)

#: A LiDAR branch that fits TINY.
LIDAR = LidarConfig(kind="pillars", voxel=(1.0, 1.0, 1.0), channels=(6, 8))


def with_branches(*branches: str) -> DetectorConfig:
    """TINY with these branches of camera, radar and lidar, and no other."""
    given = {"camera": TINY.camera, "radar": TINY.radar, "lidar": LIDAR}
    return dataclasses.replace(
        TINY,
        name=f"tiny {' '.join(branches)}",
        **{name: config if name in branches else None for name, config in given.items()},
    )


#: Headings of the six cameras, degrees.
HEADINGS = (0, -55, 55, 180, 110, -110)


def ego_T_cam(heading: float) -> np.ndarray:
    """A level camera 1.5 m above the ground that looks towards ``heading`` degrees."""
    c, s = np.cos(np.deg2rad(heading)), np.sin(np.deg2rad(heading))
    matrix = np.eye(4)
    matrix[:3] = [[s, 0, c, 0.7 * c], [-c, 0, s, 0.5 * s], [0, -1, 0, 1.5]]
    return matrix


def truth(rng: np.random.Generator, count: int) -> Truth:
    """Boxes inside the grid of TINY."""
    return Truth(
        center=rng.uniform((-23, -15, -1), (23, 15, 2), (count, 3)),
        size=rng.uniform(0.5, 6, (count, 3)),
        yaw=rng.uniform(-3, 3, count),
        velocity=rng.normal(size=(count, 2)),
        label=rng.integers(0, 10, count),
        attribute=np.full(count, -1),
        num_lidar_points=np.ones(count, np.int64),
        num_radar_points=np.ones(count, np.int64),
        classes=NUSCENES_CLASSES,
    )


def frame(seed: int = 0, *, points: int = 60, boxes: int = 8) -> Frame:
    """A Frame of noise images, radar points all over the grid and a few outside, and boxes."""
    rng = np.random.default_rng(seed)
    radar = np.zeros((points, len(RADAR_COLUMNS)), np.float32)
    radar[:, :3] = rng.uniform((-26, -18, -1), (26, 18, 2), (points, 3))
    radar[:, 5:10] = rng.normal(size=(points, 5))
    radar[:, -2] = rng.uniform(0, 0.4, points)
    radar[:, -1] = rng.integers(0, len(RADARS), points)
    height, width = TINY.image.height, TINY.image.width
    intrinsics = np.array([[50.0, 0, width / 2], [0, 50, height / 2], [0, 0, 1]])
    images = rng.integers(0, 256, (len(CAMERAS), height, width, 3), dtype=np.uint8)
    return Frame(
        stamp_ns=1,
        images=tuple(images),
        intrinsics=np.tile(intrinsics, (len(CAMERAS), 1, 1)),
        ego_T_cam=np.stack([ego_T_cam(h) for h in HEADINGS]),
        radar=radar,
        prepared=TINY.image,
        truth=truth(rng, boxes),
        token=f"frame {seed}",
    )


def lidar_frame(seed: int = 0, *, points: int = 500) -> Frame:
    """The Frame of this seed with LiDAR points inside the grid."""
    rng = np.random.default_rng(seed)
    cloud = rng.uniform((-23, -15, -1, 0, 0), (23, 15, 2, 255, 0.5), (points, 5))
    return dataclasses.replace(frame(seed), lidar=cloud.astype(np.float32))


def batch(*seeds: int) -> Batch:
    """The Frames of these seeds."""
    return collate([frame(seed) for seed in seeds or (0, 1)], TINY)


def roughen(model: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """Give every BatchNorm statistics and weights that a wrong folding would not survive.

    So with what guides a fusion, which is nothing at first.
    """
    generator = torch.Generator().manual_seed(seed)
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            shape = module.running_mean.shape
            module.running_mean.copy_(torch.randn(shape, generator=generator) / 5)
            module.running_var.copy_(torch.rand(shape, generator=generator) + 0.5)
            with torch.no_grad():
                module.weight.copy_(torch.rand(shape, generator=generator) + 0.5)
                module.bias.copy_(torch.randn(shape, generator=generator) / 5)
        if isinstance(module, IntensityGuide):
            torch.nn.init.normal_(module.factors.weight, std=0.2, generator=generator)
    return model


def learned() -> BevDetector:
    """TINY after it has learned frames 0 and 1 a little: it finds boxes, and not all are ties.

    After 30 steps how many it finds still depended on the processor's rounding.
    """
    torch.manual_seed(0)
    model = build_detector(TINY)
    data, criterion = batch(0, 1), DetectionLoss(TINY)
    targets = targets_of(data.truth, TINY)
    optimiser = torch.optim.Adam(model.parameters(), 1e-2)
    for _ in range(50):
        optimiser.zero_grad()
        criterion(model(data), targets)["total"].backward()
        optimiser.step()
    return model.eval()


def saved(folder: Path) -> Path:
    """The weights file of a TINY that was never trained."""
    torch.manual_seed(0)
    path = folder / "tiny.safetensors"
    save_weights(build_detector(TINY), path)
    return path
