"""Frames to one Batch of tensors: the border between arrays in ego axes and the network.

Shapes: B samples, N = 6 cameras and R = 5 radars, 0 where the network does not read them, H x W
image, M radar points and L LiDAR points of all samples.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from crkd_core.area import Area
from crkd_core.boxes import Truth
from crkd_core.config import IDENTITY, DetectorConfig
from crkd_core.data import cameras, radar
from crkd_core.data.grid import in_grid
from crkd_core.data.tensors import Tensors
from crkd_core.frame import Frame, FrameError
from crkd_core.sensors import CAMERAS

#: A pose whose rotation has a smaller determinant has none.
_FLAT = 1e-6


@dataclass(frozen=True, kw_only=True)
class Batch(Tensors):
    """What a network eats, in its grid frame (DetectorConfig.ego_T_grid; ego for our own ones).

    Attributes:
        images: [B, N, H, W, 3] uint8 RGB, zeros where the camera is missing.
        camera_present: [B, N] bool.
        grid_T_pixel: [B, N, 4, 4] float32, takes (u d, v d, d, 1) to grid metres; u, v pixels of
            ``images``, d depth along the optical axis in metres. Holds any augmentation.
        radar: [M, 45] float32, see data.radar.encode; x, y, z in grid metres.
        radar_sample: [M] int64 in [0, B), ascending: the sample of each radar point.
        radar_present: [B, R] bool.
        lidar: [L, 5] float32 x, y, z, intensity, age; None when no Frame has LiDAR.
        lidar_sample: [L] int64, ascending.
        truth: per sample, the boxes or None.
        tokens: per sample, the dataset token or "".
        drivable: per sample, where vehicles may drive, or None; () = no Frame says it.
        past: earlier moments of the same samples, the newest first; () where nobody asked.
    """

    images: Tensor
    camera_present: Tensor
    grid_T_pixel: Tensor
    radar: Tensor
    radar_sample: Tensor
    radar_present: Tensor
    lidar: Tensor | None
    lidar_sample: Tensor | None
    truth: tuple[Truth | None, ...]
    tokens: tuple[str, ...]
    past: tuple[PastBatch, ...] = ()
    drivable: tuple[Area | None, ...] = ()

    def __len__(self) -> int:
        return len(self.tokens)


@dataclass(frozen=True, kw_only=True)
class PastBatch(Tensors):
    """An earlier moment of B samples.

    Attributes:
        batch: what was seen, in the grid of that moment; nothing where it is not known.
        now_T_past: [B, 4, 4] float64, that grid to the present one, augmentation included.
        known: [B] bool.
    """

    batch: Batch
    now_T_past: Tensor
    known: Tensor


def collate(frames: Sequence[Frame], config: DetectorConfig) -> Batch:
    """One Batch of Frames, of what the network has branches for; the rest costs nothing.

    Images that are not prepared yet are prepared for ``config.image``. LiDAR is taken along where
    there is any, also for a network without that branch: its losses may read it.

    Raises:
        FrameError: images prepared for another configuration, or no LiDAR where the network needs
            it.
    """
    if "camera" in config.branches:
        frames = [cameras.prepare(frame, config.image) for frame in frames]
    frames = [in_grid(frame, config) for frame in frames]
    clouds = [f.lidar for f in frames]
    for f in frames:
        if "lidar" in config.branches and f.lidar is None:
            raise FrameError(
                f"Frame at {f.stamp_ns} ns {f.token} has no LiDAR and {config.name} reads it; "
                f"read Frames with {config.lidar_sweeps} LiDAR sweeps, or take a detector without "
                "a LiDAR branch"
            )
    has_lidar = any(cloud is not None for cloud in clouds)
    points = [cloud if cloud is not None else np.zeros((0, 5), np.float32) for cloud in clouds]
    return Batch(
        **_views(frames, config),
        **_radar(frames, config),
        lidar=torch.from_numpy(np.concatenate(points)) if has_lidar else None,
        lidar_sample=_sample_index([len(cloud) for cloud in points]) if has_lidar else None,
        truth=tuple(f.truth for f in frames),
        tokens=tuple(f.token for f in frames),
        past=_past(frames, config),
        drivable=_drivable(frames),
    )


def _past(frames: Sequence[Frame], config: DetectorConfig) -> tuple[PastBatch, ...]:
    """The earlier moments of Frames in the grid frame, for a network that has memory."""
    if config.temporal is None or not any(frame.past for frame in frames):
        return ()
    found = []
    for index in range(config.temporal.frames):
        moments = [f.past[index] if index < len(f.past) else None for f in frames]
        # Of a moment that is not known nothing is seen.
        seen = [
            dataclasses.replace(f.keeping(()), lidar=None, past=()) if m is None else m.frame
            for f, m in zip(frames, moments, strict=True)
        ]
        poses = [np.eye(4) if m is None else m.now_T_past for m in moments]
        found.append(
            PastBatch(
                batch=collate(seen, dataclasses.replace(config, ego_T_grid=IDENTITY)),
                now_T_past=torch.from_numpy(np.stack(poses)),
                known=torch.tensor([m is not None for m in moments]),
            )
        )
    return tuple(found)


def _drivable(frames: Sequence[Frame]) -> tuple[Area | None, ...]:
    areas = tuple(frame.drivable for frame in frames)
    return () if all(area is None for area in areas) else areas


def _views(frames: Sequence[Frame], config: DetectorConfig) -> dict[str, Tensor]:
    """images, camera_present, grid_T_pixel of prepared Frames in the grid frame."""
    count, height, width = len(frames), config.image.height, config.image.width
    if "camera" not in config.branches:
        return {
            "images": torch.zeros((count, 0, height, width, 3), dtype=torch.uint8),
            "camera_present": torch.zeros((count, 0), dtype=torch.bool),
            "grid_T_pixel": torch.zeros((count, 0, 4, 4)),
        }
    blank = np.zeros((height, width, 3), np.uint8)
    images = [blank if image is None else image for f in frames for image in f.images]
    return {
        "images": torch.from_numpy(np.stack(images)).view(count, -1, height, width, 3),
        "camera_present": torch.from_numpy(np.stack([f.camera_present for f in frames])),
        "grid_T_pixel": torch.from_numpy(np.stack([grid_T_pixel(f) for f in frames])),
    }


def _radar(frames: Sequence[Frame], config: DetectorConfig) -> dict[str, Tensor]:
    """radar, radar_sample, radar_present of Frames in the grid frame."""
    read = slice(None) if "radar" in config.branches else slice(0)
    clouds = [f.radar[read] for f in frames]
    return {
        "radar": torch.from_numpy(np.concatenate([radar.encode(cloud) for cloud in clouds])),
        "radar_sample": _sample_index([len(cloud) for cloud in clouds]),
        "radar_present": torch.from_numpy(np.stack([f.radar_present[read] for f in frames])),
    }


def grid_T_pixel(frame: Frame) -> np.ndarray:
    """[6, 4, 4] float32: (u d, v d, d, 1) of each camera's image to grid metres.

    Args:
        frame: after ``in_grid``, so that its ``ego_T_cam`` leads to the grid frame; the two are
            one where the grid frame is ego.

    Returns:
        The identity for a missing camera, whatever its matrices are.

    Raises:
        FrameError: intrinsics that cannot be inverted, or a pose that is none, of a camera that
            is there; names it.
    """
    present = frame.camera_present
    matrices = np.tile(np.eye(4), (len(present), 1, 1))
    try:
        matrices[present, :3, :3] = np.linalg.inv(frame.intrinsics[present])
    except np.linalg.LinAlgError:
        singular = np.linalg.det(frame.intrinsics) == 0
        raise FrameError(_unusable(frame, np.flatnonzero(present & singular))) from None
    poses = frame.ego_T_cam[present]
    # Augmentation scales and mirrors them: they need not be rigid.
    flat = np.abs(np.linalg.det(poses[:, :3, :3])) < _FLAT
    tilted = (np.abs(poses[:, 3] - (0, 0, 0, 1)) > _FLAT).any(1)
    if (flat | tilted).any():
        raise FrameError(_unusable(frame, np.flatnonzero(present)[flat | tilted]))
    matrices[present] = poses @ matrices[present]
    finite = np.asarray(np.isfinite(matrices).all((1, 2)))
    if not finite.all():
        raise FrameError(_unusable(frame, np.flatnonzero(~finite)))
    return matrices.astype(np.float32)


def _unusable(frame: Frame, cameras: np.ndarray) -> str:
    index = int(cameras[0])
    return (
        f"Frame of {CAMERAS[index]}: expected a pinhole matrix that can be inverted and a finite "
        "pose with a rotation and the last row 0, 0, 0, 1, got intrinsics "
        f"{frame.intrinsics[index].tolist()} and ego_T_cam "
        f"{frame.ego_T_cam[index].tolist()}; a missing camera has None in images"
    )


def _sample_index(counts: Sequence[int]) -> Tensor:
    # A tenth of the time of torch.repeat_interleave.
    return torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
