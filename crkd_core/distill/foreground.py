"""Where the objects are: masks of MSFD and of IMKD (docs/method.md 1.7, 1.10).

Shapes: B samples, N boxes of a sample, X Y grid cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd_core.boxes import Boxes
from crkd_core.config import EnlargeConfig, GridConfig, RayConfig, TrainConfig
from crkd_core.losses.targets import Targets


def with_foreground(
    targets: Targets, truths: Sequence[Boxes | None], config: TrainConfig
) -> Targets:
    """``targets`` of these truths, with foreground and rays where losses of the run read them."""
    none = Boxes.empty(config.detector.classes)
    known = [none if truth is None else truth for truth in truths]
    grid, crkd, imkd = config.detector.grid, config.crkd, config.imkd
    if crkd is not None and crkd.chosen & {"msfd_fused", "msfd_camera"}:
        if crkd.msfd_mask == "rays":
            mask = ray_foreground(known, grid, crkd.rays)
        else:
            mask = foreground(known, grid, crkd.enlarge)
        targets = dataclasses.replace(targets, foreground=mask)
    if imkd is not None and "rays" in {imkd.radar.cells, imkd.fused.cells, imkd.label.cells}:
        rays = ray_foreground(known, grid, imkd.rays)
        targets = dataclasses.replace(targets, rays=rays)
    return targets


def foreground(truths: Sequence[Boxes], grid: GridConfig, config: EnlargeConfig) -> Tensor:
    """Cells whose centre lies in an enlarged box, seen from above. -> bool [B, X, Y], on the CPU.

    Args:
        truths: B sets of boxes in the grid's frame, metres.
        grid: the grid of the result.
        config: how boxes are enlarged before.
    """
    masks = np.stack([rasterise(enlarge(truth, config), grid) for truth in truths])
    return torch.from_numpy(masks)


def ray_foreground(truths: Sequence[Boxes], grid: GridConfig, config: RayConfig) -> Tensor:
    """Cells whose centre lies in the ellipse of a box. -> bool [B, X, Y], on the CPU.

    An ellipse lies along the ray on which the vehicle sees the box, because cameras err in depth
    and radars in azimuth (after RCTDistill, Bang et al. 2025; the sizes are ours, see RayConfig).
    The ray is taken from the origin of the grid frame: cameras and radars are not far from it.

    Args:
        truths: B sets of boxes in the grid's frame, metres.
        grid: the grid of the result.
        config: how much the axes grow with distance.
    """
    return torch.from_numpy(np.stack([_ellipses(truth, grid, config) for truth in truths]))


def _ellipses(boxes: Boxes, grid: GridConfig, config: RayConfig) -> NDArray[np.bool_]:
    x, y = _centres(grid)
    mask = np.zeros(grid.shape, bool)
    far = np.hypot(*boxes.center[:, :2].T)
    ray = np.arctan2(boxes.center[:, 1], boxes.center[:, 0])
    c, s = np.abs(np.cos(boxes.yaw - ray)), np.abs(np.sin(boxes.yaw - ray))
    length, width = boxes.size[:, 0], boxes.size[:, 1]
    axes = np.stack(
        [
            (length * c + width * s) / 2 + config.along * far,
            (length * s + width * c) / 2 + config.across * far,
        ],
        1,
    )
    for center, (along, across), turn in zip(boxes.center, axes, ray, strict=True):
        reach = max(along, across)
        i = slice(*np.searchsorted(x, [center[0] - reach, center[0] + reach]))
        j = slice(*np.searchsorted(y, [center[1] - reach, center[1] + reach]))
        dx, dy = x[i, None] - center[0], y[None, j] - center[1]
        u, v = np.cos(turn) * dx + np.sin(turn) * dy, np.cos(turn) * dy - np.sin(turn) * dx
        mask[i, j] |= (u / along) ** 2 + (v / across) ** 2 <= 1
    return mask


def enlarge(boxes: Boxes, config: EnlargeConfig) -> Boxes:
    """Boxes grown with range and speed, as a radar smears them (CRKD section 3.4, MSFD).

    A side of length d grows by e = d (share(range) + share(speed along that side)), with e clamped
    to ``config.growth``; e is added once, half on either end. The released code compares the x
    velocity with the box's width whichever way the box points; here velocity is projected on the
    box's own axes. An unknown velocity counts as none.
    """
    velocity = np.nan_to_num(boxes.velocity)
    c, s = np.cos(boxes.yaw), np.sin(boxes.yaw)
    along = np.abs(c * velocity[:, 0] + s * velocity[:, 1])
    across = np.abs(-s * velocity[:, 0] + c * velocity[:, 1])
    speed = _share(np.stack([along, across], -1), config.speed, config.share)
    far = _share(np.hypot(*boxes.center[:, :2].T), config.range, config.share)
    size = boxes.size.copy()
    size[:, :2] += np.clip(size[:, :2] * (far[:, None] + speed), *config.growth)
    return dataclasses.replace(boxes, size=size)


def rasterise(boxes: Boxes, grid: GridConfig) -> NDArray[np.bool_]:
    """[X, Y] cells whose centre lies in one of the rotated rectangles, border included."""
    x, y = _centres(grid)
    mask = np.zeros(grid.shape, bool)
    reach = np.hypot(boxes.size[:, 0], boxes.size[:, 1]) / 2
    rows, columns = (
        np.searchsorted(centres, boxes.center[:, axis] + [-reach, reach])
        for axis, centres in enumerate((x, y))
    )
    # All boxes at once, in windows of one size: a call for one costs as much as for all.
    steps = np.arange(max(np.ptp(rows, 0).max(initial=0), np.ptp(columns, 0).max(initial=0)))
    i, j = rows[0, :, None] + steps, columns[0, :, None] + steps
    dx = x[np.minimum(i, len(x) - 1)] - boxes.center[:, :1]
    dy = y[np.minimum(j, len(y) - 1)] - boxes.center[:, 1:2]
    dx, dy = dx[:, :, None], dy[:, None, :]
    c, s = np.cos(boxes.yaw)[:, None, None], np.sin(boxes.yaw)[:, None, None]
    half = boxes.size[:, :2, None, None] / 2
    inside = (np.abs(c * dx + s * dy) <= half[:, 0]) & (np.abs(c * dy - s * dx) <= half[:, 1])
    inside &= (i < rows[1, :, None])[:, :, None] & (j < columns[1, :, None])[:, None, :]
    box, a, b = np.nonzero(inside)
    mask[i[box, a], j[box, b]] = True
    return mask


def _centres(grid: GridConfig) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres of the cells along x [X] and y [Y], metres."""
    steps = [np.arange(count, dtype=np.float64) + 0.5 for count in grid.shape]
    return grid.low[0] + steps[0] * grid.cell, grid.low[1] + steps[1] * grid.cell


def _share(
    value: NDArray[np.float64], thresholds: tuple[float, float], share: tuple[float, float]
) -> NDArray[np.float64]:
    low, high = thresholds
    return np.where(value >= high, share[1], np.where(value > low, share[0], 0.0))
