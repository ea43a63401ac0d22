"""Head maps to Detections: peaks, box parameters, non-maximum suppression (docs/method.md 1.6).

Shapes: B batch, n classes of a task, X Y grid cells, K candidates of a task in one sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd_core.boxes import SCORE_THRESHOLD, Detections
from crkd_core.config import IDENTITY, DetectorConfig, TaskConfig
from crkd_core.model.head import REGRESSION
from crkd_core.model.nms import Circles, Rectangles, suppressed
from crkd_core.model.output import ModelOutput

#: Box parameters of all tasks (their maps) in one sample at cells of each, int64 [K]: [10, sum K].
Regress = Callable[[Sequence[dict[str, Tensor]], int, Sequence[Tensor]], Tensor]


#: Logits this far below the threshold's are looked at too, and all above this: that is more than
#: what a score in float32 is off by, which grows towards 1.
_SLACK, _SURE = 1e-3, 9.0


#: What is said of a map, behind its name.
_WHY = (
    "are not finite: the weights have diverged, the inputs hold NaN, or fp16 overflowed (use fp32 "
    "or bf16)"
)


class DecodeError(RuntimeError):
    """Head maps that mean no boxes."""


@torch.no_grad()
def decode(
    output: ModelOutput,
    config: DetectorConfig,
    *,
    score_threshold: float = SCORE_THRESHOLD,
    regress: Regress | None = None,
) -> list[Detections]:
    """The boxes of each of B samples, in ego axes, best first.

    What the second head said of the cells stays in the output, and is looked at all the same.

    Args:
        output: raw maps.
        config: of the network that made them.
        score_threshold: boxes must score higher, in [0, 1).
        regress: computes box parameters where they are asked for; None: the maps hold them.

    Raises:
        DecodeError: a map that is not finite (diverged weights, or an overflow in fp16).
    """
    # Of NaN a message of cells would say that the vehicle may drive there.
    if output.segments is not None and not _is_finite(output.segments):
        raise DecodeError(f"cells of {', '.join(config.segment_classes)} {_WHY}")
    found = []
    for boxes in candidates(output, config, score_threshold=score_threshold, regress=regress):
        kept = survivors(boxes, config)
        found.append(_best_first(Detections.joined(kept)))
    if config.ego_T_grid == IDENTITY:
        return found
    return [boxes.transformed(np.array(config.ego_T_grid)) for boxes in found]


def candidates(
    output: ModelOutput,
    config: DetectorConfig,
    *,
    score_threshold: float,
    regress: Regress | None = None,
) -> list[list[Detections]]:
    """Boxes of every task in each of B samples before suppression, best first; see ``decode``.

    All tasks are looked through at once: many small questions cost more than a few large ones,
    on a GPU above all.
    """
    tasks = config.head.tasks
    #: Where the scores of each task begin, in one row of all of them.
    cells = output.tasks[0]["heatmap"][0, 0].numel()
    starts = np.cumsum([0, *(cells * len(task.classes) for task in tasks)])
    # Scores are computed of what may be above the threshold.
    limit = -np.inf if score_threshold == 0 else min(_logit(score_threshold) - _SLACK, _SURE)
    found = []
    for sample in range(len(output.tasks[0]["heatmap"])):
        logits = torch.cat([maps["heatmap"][sample].flatten() for maps in output.tasks]).float()
        # NaN compares false, so without this a broken network would just see nothing.
        if not _is_finite(logits):
            _refuse(logits.cpu().numpy(), starts, tasks)
        likely = (logits > limit).nonzero()[:, 0]
        score = logits[likely].sigmoid().cpu().numpy()
        place = likely.cpu().numpy()
        place, score = place[score > score_threshold], score[score > score_threshold]
        chosen = [
            _best(score, slice(first, end), config.head.candidates)
            for first, end in pairwise(np.searchsorted(place, starts))
        ]
        codes = _codes(output, sample, [place[best] % cells for best in chosen], regress)
        if not np.isfinite(codes).all():
            ends = np.cumsum([0, *map(len, chosen)])
            _refuse(codes.sum(1), ends, tasks)
        order = np.concatenate(chosen)
        task_of = np.repeat(np.arange(len(tasks)), [len(best) for best in chosen])
        inside = place[order] - starts[task_of]
        boxes = _boxes(
            score=score[order].astype(np.float64),
            label=_labels(config)[task_of, inside // cells],
            cell=inside % cells,
            code=codes,
            config=config,
        )
        kept: NDArray[np.bool_] = np.ones(len(boxes), bool)
        if config.head.center_limit is not None:
            kept &= (np.abs(boxes.center) <= np.array(config.head.center_limit)).all(1)
        found.append(
            [boxes.select(np.flatnonzero(kept & (task_of == i))) for i in range(len(tasks))]
        )
    return found


def _best(score: NDArray[np.float32], part: slice, most: int) -> NDArray[np.int64]:
    """Places of the best scores of a part, falling; equal ones keep their order."""
    falling = -score[part]
    chosen = np.arange(len(falling))
    if len(falling) > most:
        # Sorting all of what a low threshold lets through takes longer than all the rest.
        chosen = np.flatnonzero(falling <= np.partition(falling, most - 1)[most - 1])
    order: NDArray[np.int64] = chosen[np.argsort(falling[chosen], kind="stable")[:most]]
    return part.start + order


def _codes(
    output: ModelOutput,
    sample: int,
    cells: Sequence[NDArray[np.int64]],
    regress: Regress | None,
) -> NDArray[np.float64]:
    """Box parameters [K, 10] of the tasks, one after the other, at the cells of each."""
    device = output.tasks[0]["heatmap"].device
    width = output.tasks[0]["heatmap"].shape[-1]
    ends = np.cumsum([len(cell) for cell in cells])
    parts = torch.from_numpy(np.concatenate(cells)).to(device).tensor_split(list(ends[:-1]))
    if regress is not None:
        codes = regress(output.tasks, sample, parts)
    else:
        found = []
        for maps, cell in zip(output.tasks, parts, strict=True):
            x, y = cell // width, cell % width
            found.append(torch.cat([maps[name][sample][:, x, y] for name in REGRESSION]))
        codes = torch.cat(found, 1)
    return codes.T.cpu().double().numpy()


def _logit(share: float) -> float:
    return math.log(share / (1 - share))


def _labels(config: DetectorConfig) -> NDArray[np.int64]:
    """[tasks, channels] index of the class of each heatmap; -1 where a task has fewer."""
    widest = max(len(task.classes) for task in config.head.tasks)
    labels = np.full((len(config.head.tasks), widest), -1)
    for row, task in zip(labels, config.head.tasks, strict=True):
        row[: len(task.classes)] = [config.classes.index(name) for name in task.classes]
    return labels


def _is_finite(logits: Tensor) -> bool:
    return bool(torch.isfinite(torch.stack(logits.aminmax())).all())


def _refuse(
    values: NDArray[np.floating], starts: NDArray[np.int64], tasks: Sequence[TaskConfig]
) -> NoReturn:
    """Say which task has values that are not finite."""
    first = np.flatnonzero(~np.isfinite(values))[0]
    task = tasks[int(np.searchsorted(starts, first, side="right")) - 1]
    raise DecodeError(f"head maps of task {', '.join(task.classes)} {_WHY}")


def _boxes(
    *,
    score: NDArray[np.float64],
    label: NDArray[np.int64],
    cell: NDArray[np.int64],
    code: NDArray[np.float64],
    config: DetectorConfig,
) -> Detections:
    """Candidates [K] with regressions [K, 10] as boxes."""
    grid = config.grid
    corner = np.stack([cell // grid.shape[1], cell % grid.shape[1]], 1)
    center = np.array(grid.low[:2]) + grid.cell * (corner + code[:, 0:2])
    return Detections(
        center=np.concatenate([center, code[:, 2:3]], 1),
        size=np.exp(code[:, 3:6].clip(*np.log(config.head.size_limits))),
        yaw=np.arctan2(code[:, 6], code[:, 7]),
        velocity=code[:, 8:10],
        label=label,
        score=score,
        classes=config.classes,
    )


def survivors(boxes: Sequence[Detections], config: DetectorConfig) -> list[Detections]:
    """What non-maximum suppression leaves of the boxes of every task, best first."""
    groups = [_rivals(part, task) for part, task in zip(boxes, config.head.tasks, strict=True)]
    kept = suppressed(groups, keep=config.head.keep)
    return [part.select(index) for part, index in zip(boxes, kept, strict=True)]


def _rivals(boxes: Detections, task: TaskConfig) -> Circles | Rectangles:
    """How the boxes of a task, best first, suppress each other."""
    if task.nms == "circle":
        return Circles(centers=boxes.center[:, :2], distance=task.nms_threshold)
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
    return Rectangles(boxes=flat, overlap=task.nms_threshold)


def _best_first(boxes: Detections) -> Detections:
    """By falling score; ties keep the order of tasks."""
    return boxes.select(np.argsort(-boxes.score, kind="stable"))
