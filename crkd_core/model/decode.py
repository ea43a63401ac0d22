"""Head maps to Detections: peaks, box parameters, non-maximum suppression (docs/method.md 1.6).

Shapes: B batch, n classes of a task, X Y grid cells, K candidates of a task in one sample.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd_core.boxes import Detections
from crkd_core.config import IDENTITY, DetectorConfig, TaskConfig
from crkd_core.model.head import REGRESSION
from crkd_core.model.nms import circle_nms, rotated_nms
from crkd_core.model.output import ModelOutput

#: Box parameters [10, K] of a task (its index, its maps) in one sample at cells int64 [K].
Regress = Callable[[int, dict[str, Tensor], int, Tensor], Tensor]


class DecodeError(RuntimeError):
    """Head maps that mean no boxes."""


@torch.no_grad()
def decode(
    output: ModelOutput,
    config: DetectorConfig,
    *,
    score_threshold: float = 0.1,
    regress: Regress | None = None,
) -> list[Detections]:
    """The boxes of each of B samples, in ego axes, best first.

    Args:
        output: raw maps.
        config: of the network that made them.
        score_threshold: boxes must score higher, in [0, 1).
        regress: computes box parameters where they are asked for; None: the maps hold them.

    Raises:
        DecodeError: a map that is not finite (diverged weights, or an overflow in fp16).
    """
    per_task = [
        _decode_task(maps, index, config, score_threshold, regress)
        for index, maps in enumerate(output.tasks)
    ]
    joined = [_best_first(Detections.joined(parts)) for parts in zip(*per_task, strict=True)]
    if config.ego_T_grid == IDENTITY:
        return joined
    return [boxes.transformed(np.array(config.ego_T_grid)) for boxes in joined]


def _decode_task(
    maps: dict[str, Tensor],
    index: int,
    config: DetectorConfig,
    threshold: float,
    regress: Regress | None,
) -> list[Detections]:
    """Boxes of one task in every sample, best first."""
    return [
        boxes.select(survivors(boxes, config.head.tasks[index], config.head.keep))
        for boxes in candidates(maps, index, config, threshold, regress)
    ]


def candidates(
    maps: dict[str, Tensor],
    index: int,
    config: DetectorConfig,
    threshold: float,
    regress: Regress | None = None,
) -> list[Detections]:
    """Boxes of task ``index`` in every sample before suppression, best first; see ``decode``."""
    task = config.head.tasks[index]
    cells = maps["heatmap"][0, 0].numel()
    found = []
    for sample, heatmap in enumerate(maps["heatmap"]):
        scores = heatmap.float().sigmoid().flatten()
        # NaN compares false, so without this a broken network would just see nothing.
        _check_finite(scores, task)
        candidate = (scores > threshold).nonzero()[:, 0]
        # NumPy sorts these few much faster; equal ones keep their order.
        order = np.argsort(-scores[candidate].cpu().numpy(), kind="stable")
        order = order[: config.head.candidates]
        candidate = candidate[torch.from_numpy(order).to(candidate.device)]
        cell = candidate % cells
        if regress is None:
            code = torch.cat([maps[name][sample].flatten(1)[:, cell] for name in REGRESSION])
        else:
            code = regress(index, maps, sample, cell)
        code = code.float()
        _check_finite(code, task)
        boxes = _boxes(
            score=scores[candidate].cpu().double().numpy(),
            channel=(candidate // cells).cpu().numpy(),
            cell=cell.cpu().numpy(),
            code=code.T.cpu().double().numpy(),
            task=task,
            config=config,
        )
        if config.head.center_limit is not None:
            limit = np.array(config.head.center_limit)
            boxes = boxes.select(np.flatnonzero((np.abs(boxes.center) <= limit).all(1)))
        found.append(boxes)
    return found


def _check_finite(values: Tensor, task: TaskConfig) -> None:
    if not torch.isfinite(values).all():
        raise DecodeError(
            f"head maps of task {', '.join(task.classes)} are not finite: the weights have "
            "diverged, the inputs hold NaN, or fp16 overflowed (use fp32 or bf16)"
        )


def _boxes(
    *,
    score: NDArray[np.float64],
    channel: NDArray[np.int64],
    cell: NDArray[np.int64],
    code: NDArray[np.float64],
    task: TaskConfig,
    config: DetectorConfig,
) -> Detections:
    """Candidates [K] with regressions [K, 10] as boxes."""
    grid = config.grid
    corner = np.stack([cell // grid.shape[1], cell % grid.shape[1]], 1)
    center = np.array(grid.low[:2]) + grid.cell * (corner + code[:, 0:2])
    labels = np.array([config.classes.index(name) for name in task.classes])
    return Detections(
        center=np.concatenate([center, code[:, 2:3]], 1),
        size=np.exp(code[:, 3:6].clip(*np.log(config.head.size_limits))),
        yaw=np.arctan2(code[:, 6], code[:, 7]),
        velocity=code[:, 8:10],
        label=labels[channel],
        score=score,
        classes=config.classes,
    )


def survivors(boxes: Detections, task: TaskConfig, keep: int) -> NDArray[np.int64]:
    """Indices of the boxes of a task, best first, that non-maximum suppression leaves."""
    if task.nms == "circle":
        return circle_nms(boxes.center[:, :2], distance=task.nms_threshold, keep=keep)
    scale = np.ones(len(boxes.classes))
    for name, factor in zip(
        task.classes, task.nms_scale or (1.0,) * len(task.classes), strict=True
    ):
        scale[boxes.classes.index(name)] = factor
    flat = np.concatenate(
        [
            boxes.center[:, :2],
            boxes.size[:, :2] * scale[boxes.label, None],
            boxes.yaw[:, None],
        ],
        1,
    )
    return rotated_nms(flat, overlap=task.nms_threshold, keep=keep)


def _best_first(boxes: Detections) -> Detections:
    """By falling score; ties keep the order of tasks."""
    return boxes.select(np.argsort(-boxes.score, kind="stable"))
