"""How answers are compared: heatmaps, objectness, and the ten numbers of a box.

docs/method.md 1.7. Shapes: B batch, n classes of a task, K classes of all tasks, X Y grid cells,
M cells whose boxes are compared.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from crkd_core.config import RESPD_CHANNELS
from crkd_core.losses.detection import CLIP
from crkd_core.losses.normalise import per_process, process_count
from crkd_core.losses.targets import Targets, TaskTargets
from crkd_core.model.head import REGRESSION

#: Probability of the teacher above which a cell counts as a positive of a map.
POSITIVE = 0.3
#: RespD as published: summed probability above which a cell's box counts, and how the bound is
#: lowered where no cell reaches it.
BOX_CELL, BOX_CELL_STEP = 0.1, 0.01


def probability(logits: Tensor) -> Tensor:
    """Sigmoid in float32, kept off 0 and 1."""
    return logits.float().sigmoid().clamp(CLIP, 1 - CLIP)


def quality_focal(
    student: Tensor, teacher: Tensor, weight: Tensor | float = 1.0, *, logits: bool = False
) -> Tensor:
    """The quality focal loss with exponent 2 (Li et al. 2020, eq. 3), per positive of the teacher.

    sum of w |H_S - H_T|^2 BCE(H_S, H_T) / max(1, #{H_T > 0.3}).

    Args:
        student: [B, n, X, Y] probabilities, clipped; or logits.
        teacher: the same of the teacher.
        weight: w, anything that fits.
        logits: what ``student`` is. Their gradient vanishes nowhere.
    """
    cross = F.binary_cross_entropy_with_logits if logits else F.binary_cross_entropy
    distance = (student.sigmoid() if logits else student) - teacher
    focal = distance**2 * cross(student, teacher, reduction="none")
    positives = per_process((teacher > POSITIVE).sum()).clamp(min=1 / process_count())
    return (weight * focal).sum() / positives


def objectness(heatmaps: list[Tensor], *, form: str) -> Tensor:
    """Where a teacher sees anything at all, from its heatmap logits [B, n, X, Y] per task.

    Args:
        heatmaps: one per task.
        form: "maximum": of the clipped probabilities of all K classes. "paper": their mean, not
            clipped. "code": per task the clipped sigmoid of the mean logit, then the mean over
            tasks, as released.

    Returns:
        [B, 1, X, Y] in (0, 1).
    """
    if form == "maximum":
        return probability(torch.cat(heatmaps, 1).amax(1, keepdim=True))
    if form == "paper":
        return torch.cat(heatmaps, 1).float().sigmoid().mean(1, keepdim=True)
    per_task = [probability(logits.float().mean(1, keepdim=True)) for logits in heatmaps]
    return torch.cat(per_task, 1).mean(1, keepdim=True)


def cells_of_teacher(heatmap: Tensor) -> Tensor:
    """bool [B, X, Y]: cells where the probabilities [B, n, X, Y] sum to more than 0.1.

    Where no cell of any process does, the bound goes down until one does, as released.
    """
    presence = heatmap.sum(1)
    bound, highest = BOX_CELL, _highest(presence)
    while highest <= bound:
        bound -= BOX_CELL_STEP
    return presence > bound


def teacher_foreground(heatmaps: list[Tensor]) -> Tensor:
    """bool [B, X, Y]: where a teacher sees something, or beside it: the foreground without truth.

    Cells that touch one where the largest probability [B, n, X, Y] of all tasks is above 0.1.
    """
    seen = objectness(heatmaps, form="maximum") > BOX_CELL
    return F.max_pool2d(seen.float(), 3, stride=1, padding=1)[:, 0] > 0


def response_weight(targets: Targets, alone: float) -> Tensor | float:
    """Factor of a teacher's responses, [B, 1, 1, 1]: 1 where boxes are known, else ``alone``."""
    if targets.labelled is None:
        return 1.0
    return torch.where(targets.labelled, 1.0, alone)[:, None, None, None]


def peaks(heatmap: Tensor) -> Tensor:
    """bool [B, X, Y]: where a teacher sees an object's centre: the objects' cells without truth.

    Cells with a probability [B, n, X, Y] above 0.3 that no neighbour exceeds.
    """
    best = heatmap.amax(1, keepdim=True)
    highest = F.max_pool2d(best, 3, stride=1, padding=1)
    return ((best == highest) & (best > POSITIVE))[:, 0]


def object_cells(own: TaskTargets, heatmap: Tensor, targets: Targets) -> Tensor:
    """int64 [M]: cells whose boxes a teacher teaches, counted through B, X and Y.

    Args:
        own: objects of a task, whose cells these are.
        heatmap: [B, n, X, Y] the teacher's probabilities; in samples without truth its ``peaks``.
        targets: of the batch.
    """
    cells = own.sample * heatmap[0, 0].numel() + own.cell
    if targets.labelled is None:
        return cells
    said = peaks(heatmap) & ~targets.labelled[:, None, None]
    return torch.cat([cells, said.flatten().nonzero()[:, 0]])


def box_distance(
    student: dict[str, Tensor],
    teacher: dict[str, Tensor],
    *,
    cells: Tensor,
    strength: Tensor,
    channels: Collection[str],
) -> Tensor:
    """Mean over M and the chosen channels of s SmoothL1(b_S - b_T); 0 without a cell.

    Args:
        student: maps of a task.
        teacher: the same of the teacher.
        cells: bool [B, X, Y], or int64 [M] of the cells counted through B, X and Y.
        strength: [B, X, Y], s.
        channels: names of RESPD_CHANNELS.
    """
    wanted = {c for name, c in RESPD_CHANNELS.items() if name in channels}
    # Masks become numbers once: a GPU is waited for.
    index = cells.flatten().nonzero()[:, 0] if cells.dtype == torch.bool else cells
    b_s, b_t = (
        torch.cat([maps[name] for name in REGRESSION if name in wanted], 1)
        .float()
        .permute(0, 2, 3, 1)
        .flatten(0, 2)[index]
        for maps in (student, teacher)
    )
    error = F.smooth_l1_loss(b_s, b_t, reduction="none").mean(1)
    count = torch.tensor(len(b_s), device=strength.device)
    return (strength.flatten()[index] * error).sum() / per_process(count).clamp(min=1e-6)


def _highest(values: Tensor) -> float:
    """The maximum over all processes."""
    highest = values.detach().max()
    if process_count() > 1:
        dist.all_reduce(highest, dist.ReduceOp.MAX)
    return float(highest)
