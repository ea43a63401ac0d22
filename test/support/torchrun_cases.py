"""What two processes and one are compared on; test_processes.py starts torchrun_curves.py."""

from __future__ import annotations

import torch
from train_tiny import a_config

from crkd_core.config import AugmentConfig

#: Trained by two processes with these, and by one with the double batch.
CASES = {
    "frozen": a_config(
        norms="frozen", batch_size=1, accumulate=2, depth_weight=0.5, learning_rate=1e-3, steps=4
    ),
    # BatchNorm of a random start is sensitive: one process whose norms merely round differently
    # drifts as far at a higher rate, because Adam turns rounding errors into whole steps.
    "synchronised": a_config(
        norms="synchronised", batch_size=2, depth_weight=0.5, learning_rate=1e-5, steps=4
    ),
    # Every process often lacks all cameras or all radars: nothing may wait for it.
    "blind": a_config(
        norms="synchronised",
        batch_size=1,
        steps=6,
        augment=AugmentConfig(image_zoom=(1.0, 1.3), drop_all_cameras=0.4, drop_all_radars=0.4),
    ),
}


def norm_inputs() -> tuple[torch.Tensor, torch.Tensor]:
    """[5, 3, 2, 2] values far from 0, and weights of a loss."""
    generator = torch.Generator().manual_seed(3)
    values = 2 + torch.randn((5, 3, 2, 2), generator=generator)
    return values, torch.randn((5, 3, 2, 2), generator=generator)
