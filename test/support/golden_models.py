"""Whole networks on the inputs of the golden set, in three variants of the camera branch."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from golden import MODULE_TOLERANCE, Vectors, check, tensor
from official_models import grid_T_pixel, our_boxes, released_maps
from torch import Tensor

from crkd_core import geometry
from crkd_core.boxes import Detections
from crkd_core.config import IDENTITY, DetectorConfig
from crkd_core.model.decode import decode
from crkd_core.model.output import ModelOutput

#: Heads behind a lift: borders of cells decide, so a few values may differ.
MEDIAN, USUAL, RARE = 1e-4, 1e-3, 3e-2

#: Sides of boxes that are compared, metres.
SIZES = (0.01, 100.0)


def images() -> Tensor:
    """[6, 3, 256, 704], already normalised."""
    return tensor("input/image", (1, 6, 3, 256, 704))[0]


def given_camera_bev() -> Tensor:
    return 1.5 * tensor("input/downstream/camera_bev", (1, 80, 180, 180))


def cameras() -> Tensor:
    """[1, 6, 4, 4] of the whole-model runs."""
    inputs = Vectors("inputs_whole")
    names = ("camera_intrinsics", "camera2lidar", "img_aug_matrix", "lidar_aug_matrix")
    return grid_T_pixel({name: inputs[f"calib.{name}"] for name in names})


def check_lifted(found: Tensor, vectors: Vectors, name: str) -> None:
    """All but a few cells as stored."""
    values, stored = vectors.pairs(found, name)
    peak = np.abs(vectors[f"{name}__stats"][3:]).max()
    error = np.abs(values - stored) / peak
    # 4 % of the cells hold points within 0.1 mm of a border; few of these really differ.
    assert (error > 1e-5).mean() < 2e-3, (error > 1e-5).mean()


def check_heads(tasks: list[dict[str, Tensor]], vectors: Vectors, variant: str) -> None:
    """Raw maps of every task, tight behind a given camera map and as agreed behind a lift."""
    for task, maps in enumerate(tasks):
        for branch, found in released_maps(maps).items():
            name = f"{variant}.task{task}.{branch}"
            if variant == "given":
                check(found, vectors, name, tolerance=MODULE_TOLERANCE)
                continue
            values, stored = vectors.pairs(found, name)
            _, deviation, _, low, high = vectors[f"{name}__stats"]
            error = np.abs(values.astype(np.float64) - stored)
            assert np.median(error) < MEDIAN * deviation, name
            assert (error <= USUAL * deviation).mean() >= 0.95, name
            assert error.max() <= RARE * max(abs(low), abs(high)), name


def check_boxes(
    output: ModelOutput, config: DetectorConfig, vectors: Vectors, variant: str
) -> float:
    """Final boxes as matched sets. -> the share of stored boxes that have a partner.

    Weights that were never trained make boxes of nanometres and of light seconds too. Of these the
    released suppression, which computes overlaps in float32, keeps identical pairs, and their
    stored bottom says nothing about their middle. So they are counted, not compared.
    """
    plain = dataclasses.replace(config, ego_T_grid=IDENTITY)
    found = decode(output, plain)[0]
    parts = (vectors[f"{variant}.{part}"] for part in ("boxes", "scores", "labels"))
    expected = our_boxes(*parts)
    usual = ((expected.size > SIZES[0]) & (expected.size < SIZES[1])).all(1)
    assert usual.sum() > 20
    share = matched(found, expected.select(usual))
    assert share >= (0.99 if variant == "given" else 0.95), (variant, share, len(found))
    assert abs(len(found) - len(expected)) <= 0.05 * len(expected)
    return share


def matched(found: Detections, expected: Detections) -> float:
    """Share of ``expected`` with a box of the same class, place, size, heading and score."""
    hits = 0
    for index in range(len(expected)):
        close = found.label == expected.label[index]
        close &= np.linalg.norm(found.center - expected.center[index], axis=1) < 0.02
        close &= np.abs(np.log(found.size / expected.size[index])).max(1) < 0.02
        turn = geometry.wrap_angle(found.yaw - expected.yaw[index])
        close &= np.abs(turn) < 0.05
        close &= np.abs(found.score - expected.score[index]) < 0.01
        hits += bool(close.any())
    return hits / max(len(expected), 1)


def all_present() -> Tensor:
    return torch.ones(1, 6, dtype=torch.bool)
