"""Numbers that a loss is divided by, when several processes compute one batch together."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor


def process_count() -> int:
    """Processes that train together; 1 outside torchrun."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def divisors(*, peaks: float, boxes: float) -> tuple[float, float]:
    """What the sums of a task's heatmap loss and box loss are divided by.

    Args:
        peaks: centres in its heatmaps (two boxes may share one).
        boxes: its boxes.
    """
    return max(peaks, 1), boxes + 1e-4


def per_process(count: Tensor) -> Tensor:
    """The mean of a count over all processes of a training; ``count`` itself where there is one.

    Gradients are averaged over processes. So that their mean is the gradient of sum / count of the
    whole batch, every process divides its own sum by this. All processes must call it.

    Args:
        count: any shape; not changed.
    """
    processes = process_count()
    if processes == 1:
        return count
    total = count.detach().to(torch.float64, copy=True)
    dist.all_reduce(total)
    return total / processes
