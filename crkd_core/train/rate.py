"""The learning rate over the steps of a training."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

from crkd_core.config import TrainConfig


def learning_rate_curve(config: TrainConfig) -> Callable[[int], float]:
    """Factor of learning_rate: warm-up from a third, then a cosine down to ``final_rate``."""

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return 1 / 3 + 2 / 3 * step / config.warmup_steps
        span = max(1, config.steps - config.warmup_steps)
        share = min(1.0, (step - config.warmup_steps) / span)
        cosine = (1 + math.cos(math.pi * share)) / 2
        return config.final_rate + (1 - config.final_rate) * cosine

    return factor


def warn_if_never_warm(config: TrainConfig) -> None:
    """Warn of a schedule that never gets to its learning rate."""
    if config.warmup_steps >= config.steps:
        warnings.warn(
            f"the learning rate still rises when the {config.steps} steps are over (warmup_steps "
            f"{config.warmup_steps}) and never falls; --set warmup_steps={config.steps // 20}",
            stacklevel=3,
        )
