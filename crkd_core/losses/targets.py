"""Truth boxes to what the head should answer (docs/method.md 1.6), for a batch and for a step.

Shapes: B batch, X Y grid cells, n classes of a task, K classes of all tasks, N boxes of a task in
the whole batch, M boxes of all tasks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from typing_extensions import Self

from crkd_core.boxes import Boxes, require_classes
from crkd_core.config import DetectorConfig
from crkd_core.data.tensors import Tensors
from crkd_core.losses.normalise import divisors, per_process, process_count

#: Values of the regression channels, in the order of head.REGRESSION laid flat.
CODE = ("reg_x", "reg_y", "z", "log_l", "log_w", "log_h", "sin", "cos", "vx", "vy")


class TargetError(ValueError):
    """Truth that cannot become a target."""


@dataclass(frozen=True, kw_only=True)
class TaskTargets:
    """What one task should answer.

    Attributes:
        heatmap: [B, n, X, Y] float32 Gaussians around the box centres, 1 at a centre's cell.
        sample: [N] int64, the sample of each box.
        cell: [N] int64, ix * Y + iy of each box.
        code: [N, 10] float32 in the order of CODE; NaN where a velocity is unknown.
        label: [N] int64, the detector's class of each box; two boxes may share a cell.
    """

    heatmap: Tensor
    sample: Tensor
    cell: Tensor
    code: Tensor
    label: Tensor


@dataclass(frozen=True, kw_only=True)
class Targets(Tensors):
    """Everything that a loss may compare a network's answer with; made where batches are made.

    What no loss of a training asks for is None. The tasks lie one after the other in few tensors,
    because each one costs a loading process and its training a file handle.

    Attributes:
        heatmap: [B, K, X, Y] float32, see TaskTargets.
        sample: [M] int64.
        cell: [M] int64.
        code: [M, 10] float32.
        label: [M] int64.
        classes: per task n.
        boxes: per task N.
        peaks: per task the cells that are 1 in its heatmaps; two boxes may share one.
        divisors: per task what the sums of its heatmap loss and its box loss are divided by; of
            the larger batch where this one is a part of one, see ``counted_together``.
        labelled: [B] bool, the samples whose boxes are known; the others have no boxes here and
            are no part of the detection loss. None = all.
        foreground: bool [B, X, Y], see distill.foreground.foreground.
        rays: bool [B, X, Y], see distill.foreground.ray_foreground.
        segments: uint8 [B, S, X, Y], see losses.segments.segment_targets.
    """

    heatmap: Tensor
    sample: Tensor
    cell: Tensor
    code: Tensor
    label: Tensor
    classes: tuple[int, ...]
    boxes: tuple[int, ...]
    peaks: tuple[int, ...]
    divisors: tuple[tuple[float, float], ...]
    labelled: Tensor | None = None
    foreground: Tensor | None = None
    rays: Tensor | None = None
    segments: Tensor | None = None

    @classmethod
    def of(cls, tasks: Sequence[TaskTargets]) -> Self:
        """The targets of a whole batch, task by task."""
        boxes = tuple(len(task.code) for task in tasks)
        # By NumPy: torch takes five times as long to count.
        peaks = tuple(int(np.count_nonzero(task.heatmap.numpy() == 1)) for task in tasks)
        return cls(
            heatmap=torch.cat([task.heatmap for task in tasks], 1),
            sample=torch.cat([task.sample for task in tasks]),
            cell=torch.cat([task.cell for task in tasks]),
            code=torch.cat([task.code for task in tasks]),
            label=torch.cat([task.label for task in tasks]),
            classes=tuple(task.heatmap.shape[1] for task in tasks),
            boxes=boxes,
            peaks=peaks,
            divisors=tuple(divisors(peaks=p, boxes=b) for p, b in zip(peaks, boxes, strict=True)),
        )

    def need(self, name: str) -> Tensor:
        """``foreground``, ``rays`` or ``segments``, for a loss that cannot do without.

        Raises:
            TargetError: these targets were made without.
        """
        value: Tensor | None = getattr(self, name)
        if value is None:
            raise TargetError(
                f"a loss reads targets.{name}, which was not made with this batch; take batches "
                "from the Views of the run that has this loss"
            )
        return value

    def tasks(self) -> list[TaskTargets]:
        """What every task should answer; views of these tensors."""
        heatmaps = self.heatmap.split(self.classes, 1)
        every = (self.sample, self.cell, self.code, self.label)
        rows = zip(*(rows.split(self.boxes) for rows in every), strict=True)
        return [
            TaskTargets(heatmap=heatmap, sample=sample, cell=cell, code=code, label=label)
            for heatmap, (sample, cell, code, label) in zip(heatmaps, rows, strict=True)
        ]


def targets_of(
    truths: Sequence[Boxes | None],
    config: DetectorConfig,
    *,
    partly: bool = False,
    tokens: Sequence[str] = (),
) -> Targets:
    """What a detector should answer to a batch.

    Args:
        truths: B sets of boxes in its grid frame. An empty set is an answer; None is not.
        config: the detector's.
        partly: whether samples may be without truth; they are then not ``labelled``.
        tokens: of the samples, for errors; () = unknown.

    Raises:
        TargetError: a sample without truth, or invalid truth; see ``build_targets``.
    """
    known = [truth for truth in truths if truth is not None]
    if partly:
        none = Boxes.empty(config.classes)
        every = [none if truth is None else truth for truth in truths]
        targets = Targets.of(build_targets(every, config, tokens))
        flags = torch.tensor([truth is not None for truth in truths])
        return dataclasses.replace(targets, labelled=flags)
    if len(known) < len(truths):
        missing = [index for index, truth in enumerate(truths) if truth is None]
        names = ", ".join(filter(None, (tokens[index] for index in missing if tokens)))
        raise TargetError(
            f"samples {missing} of the batch have no truth{names and f' ({names})'}; train on "
            "annotated Frames"
        )
    return Targets.of(build_targets(known, config, tokens))


def counted_together(parts: Sequence[Targets], *, device: torch.device) -> list[Targets]:
    """Parts of a large batch, with divisors by which the mean of their losses is its loss.

    The large batch is ``parts`` of this process and of all others, which must call too.

    Args:
        parts: of equal numbers of samples.
        device: where processes exchange numbers.
    """
    if len(parts) == 1 and process_count() == 1:
        return list(parts)
    counts = [list(zip(part.peaks, part.boxes, strict=True)) for part in parts]
    mean = per_process(torch.tensor(counts, dtype=torch.float64, device=device).sum(0))
    processes = process_count()
    whole = [divisors(peaks=p, boxes=b) for p, b in (mean * processes).tolist()]
    share = processes * len(parts)
    own = tuple((heatmap / share, box / share) for heatmap, box in whole)
    return [dataclasses.replace(part, divisors=own) for part in parts]


def build_targets(
    truths: Sequence[Boxes], config: DetectorConfig, tokens: Sequence[str] = ()
) -> list[TaskTargets]:
    """Targets of every task; boxes outside the grid are left out.

    Args:
        truths: B sets of boxes of the detector's classes, in the grid frame.
        config: the detector.
        tokens: of the samples, for errors; () = unknown.

    Raises:
        BoxError: boxes of other classes than the detector's.
        TargetError: a box whose numbers are not finite (velocity aside) or whose size is not
            positive.
    """
    for index, truth in enumerate(truths):
        name = _named(index, tokens)
        require_classes(truth, config.classes, f"truth of {name}")
        finite = np.isfinite(truth.center).all() and np.isfinite(truth.yaw).all()
        if not finite or not (np.isfinite(truth.size) & (truth.size > 0)).all():
            raise TargetError(
                f"truth of {name}: expected finite centres and yaws and positive sizes"
            )
    sample = np.repeat(np.arange(len(truths)), [len(truth) for truth in truths])
    joined = Boxes.joined([_plain(truth) for truth in truths])
    grid = config.grid
    cells = (joined.center[:, :2] - grid.low[:2]) / grid.cell
    inside = ((cells >= 0) & (cells < grid.shape)).all(1)
    targets = []
    for task in config.head.tasks:
        labels = [config.classes.index(name) for name in task.classes]
        pick = inside & np.isin(joined.label, labels)
        boxes = joined.select(pick)
        channel = np.array([labels.index(label) for label in boxes.label], np.int64)
        peak = np.floor(cells[pick]).astype(np.int64)
        radius = gaussian_radius(
            boxes.size[:, :2] / grid.cell, overlap=config.head.gaussian_overlap
        )
        radius = np.maximum(np.floor(radius), config.head.min_radius)
        shape = (len(truths), len(labels), *grid.shape)
        code = np.concatenate(
            [
                cells[pick] - peak,
                boxes.center[:, 2:],
                np.log(boxes.size),
                np.sin(boxes.yaw)[:, None],
                np.cos(boxes.yaw)[:, None],
                boxes.velocity,
            ],
            1,
        )
        targets.append(
            TaskTargets(
                heatmap=torch.from_numpy(
                    draw(shape, sample[pick], channel, peak, radius.astype(np.int64))
                ),
                sample=torch.from_numpy(sample[pick]),
                cell=torch.from_numpy(peak[:, 0] * grid.shape[1] + peak[:, 1]),
                code=torch.from_numpy(code.astype(np.float32)),
                label=torch.from_numpy(boxes.label.astype(np.int64)),
            )
        )
    return targets


def _plain(boxes: Boxes) -> Boxes:
    """Without what only some kinds of boxes have: sets of several kinds can be joined."""
    names = [field.name for field in dataclasses.fields(Boxes)]
    return Boxes(**{name: getattr(boxes, name) for name in names})


def gaussian_radius(size: NDArray[np.float64], *, overlap: float) -> NDArray[np.float64]:
    """Radii, in cells, of the Gaussians of boxes [N, 2] (length, width in cells). -> [N].

    The smallest of the three CornerNet cases (Law & Deng 2018) in the form that CenterPoint and
    its descendants use, which leaves out the division by the leading coefficient.
    """
    total, area = size.sum(1), size.prod(1)
    cases = (
        (1.0, total, area * (1 - overlap) / (1 + overlap)),
        (4.0, 2 * total, area * (1 - overlap)),
        (4 * overlap, -2 * overlap * total, area * (overlap - 1)),
    )
    return np.min([(b + np.sqrt(b * b - 4 * a * c)) / 2 for a, b, c in cases], axis=0)


def draw(
    shape: tuple[int, ...],
    sample: NDArray[np.int64],
    channel: NDArray[np.int64],
    peak: NDArray[np.int64],
    radius: NDArray[np.int64],
) -> NDArray[np.float32]:
    """Heatmaps [B, n, X, Y] of one Gaussian per box (sigma = a sixth of its width), by maximum."""
    heatmap = np.zeros(shape, np.float32)
    if not len(peak):
        return heatmap
    # One window of the largest radius for all boxes; each keeps the part within its own radius.
    # None starts outside the grid, so none needs more than the grid's own width.
    reach = min(int(radius.max()), max(shape[2:]))
    steps = np.arange(-reach, reach + 1)
    ix, iy = (peak[:, axis, None] + steps for axis in (0, 1))
    sigma = (2 * radius[:, None] + 1) / 6
    ridge = np.exp(-(steps**2) / (2 * sigma**2)) * (np.abs(steps) <= radius[:, None])
    value = (ridge[:, :, None] * ridge[:, None, :]).astype(np.float32)
    keep = value > 0
    keep &= ((ix >= 0) & (ix < shape[2]))[:, :, None] & ((iy >= 0) & (iy < shape[3]))[:, None, :]
    box, a, b = np.nonzero(keep)
    place = (sample[box], channel[box], ix[box, a], iy[box, b])
    np.maximum.at(heatmap, place, value[box, a, b])
    return heatmap


def _named(index: int, tokens: Sequence[str]) -> str:
    token = tokens[index] if tokens else ""
    return f"sample {index}" + (f" ({token})" if token else "")
