"""An exponential moving average of a network's weights (after Polyak & Juditsky 1992)."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from crkd_core.model.detector import BevDetector


class Average:
    """A second network whose weights follow those of the trained one.

    After step t: average += (1 - d) (weights - average), d = min(decay, (1 + t) / (10 + t)), so
    that the random start is soon forgotten. Running statistics of BatchNorm are averaged likewise;
    what is no floating number is copied.

    torch.optim.swa_utils.AveragedModel gives the same numbers, to the bit, and is no less code: it
    needs the same rule as a function, copies the weights at its first step unless told that it has
    averaged before, and counts steps in a state of its own that a resumed run would have to set.

    Attributes:
        model: the averaged network, in evaluation mode.
    """

    def __init__(self, model: BevDetector, *, decay: float) -> None:
        self.decay = decay
        self.model = copy.deepcopy(model).eval().requires_grad_(False)

    @torch.no_grad()
    def update(self, model: BevDetector, *, step: int) -> None:
        """Follow ``model`` after ``step`` steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        pairs = list(zip(_tensors(self.model), _tensors(model), strict=True))
        averaged = [pair for pair in pairs if pair[0].is_floating_point()]
        # All in one call: on a GPU, to ask for each takes longer than to do it.
        torch._foreach_lerp_([own for own, _ in averaged], [new for _, new in averaged], 1 - decay)
        for own, other in pairs:
            if not own.is_floating_point():
                own.copy_(other)


def _tensors(model: BevDetector) -> list[Tensor]:
    return list(model.state_dict().values())
