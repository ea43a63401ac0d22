"""Networks with the weights of the golden rule, and tensors between their conventions and ours."""

from __future__ import annotations

import functools

import numpy as np
import torch
from golden import weights
from torch import Tensor

from crkd_core.boxes import Detections
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.model.build import build_detector
from crkd_core.model.detector import BevDetector
from crkd_core.official import convert

#: Class ids of the released code.
RELEASED_CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)


@functools.lru_cache(maxsize=1)
def imported(model: str) -> BevDetector:
    """The converted network of keys_<model>.json, in evaluation mode."""
    config, state = convert(weights(model))
    network = build_detector(config, pretrained=False)
    network.load_state_dict(state)
    return network.eval()


def released_maps(maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Head maps of a task in the released order: (w, l, h), (sin s, cos s), s = -yaw - pi / 2."""
    return {**maps, "dim": maps["dim"][:, [1, 0, 2]], "rot": -maps["rot"][:, [1, 0]]}


#: The same exchange undone.
our_maps = released_maps


def our_yaw(stored: np.ndarray) -> np.ndarray:
    """Headings of the released code as ours, and back: the rule is its own inverse."""
    return -stored - np.pi / 2


def our_boxes(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray) -> Detections:
    """Released boxes [N, 9] with bottom centres and global labels as Detections."""
    boxes = boxes.astype(np.float64)
    center = boxes[:, :3].copy()
    center[:, 2] += boxes[:, 5] / 2
    names = np.array([NUSCENES_CLASSES.index(name) for name in RELEASED_CLASSES])
    return Detections(
        center=center,
        size=boxes[:, [4, 3, 5]],
        yaw=our_yaw(boxes[:, 6]),
        velocity=boxes[:, 7:9],
        label=names[labels.astype(int)],
        score=scores.astype(np.float64),
        classes=NUSCENES_CLASSES,
    )


def grid_T_pixel(calibration: dict[str, np.ndarray]) -> Tensor:
    """[1, N, 4, 4] from cameras' matrices with image and ground-plane augmentation undone."""
    image = calibration["img_aug_matrix"].astype(np.float64)
    flat = np.tile(np.eye(4), (len(image), 1, 1))
    flat[:, :2, :2] = image[:, :2, :2]
    flat[:, :2, 2] = image[:, :2, 3]
    flat[:, :3, :3] = np.linalg.inv(
        calibration["camera_intrinsics"][:, :3, :3].astype(np.float64)
    ) @ np.linalg.inv(flat[:, :3, :3])
    grid_T_camera = calibration["lidar_aug_matrix"].astype(np.float64) @ calibration[
        "camera2lidar"
    ].astype(np.float64)
    return torch.from_numpy((grid_T_camera @ flat).astype(np.float32))[None]
