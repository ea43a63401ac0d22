"""One step of a training: how far weights go, which of them decay, and what is kept of it."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from train_tiny import FRAMES, a_config

from crkd_core.model.build import build_detector
from crkd_core.train.loop import parameter_groups, train_step
from crkd_core.train.objective import Objective, TrainingLoss
from crkd_core.train.run_checkpoint import Parts, restore, save
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Views

CONFIG = a_config(clip_norm=0.5)


class Weighed(TrainingLoss):
    """A loss with a weight of its own."""

    def __init__(self, weight: float) -> None:
        super().__init__(CONFIG)
        self.weight = nn.Parameter(torch.tensor(weight))


def parts_of(scaler: torch.amp.GradScaler, *, weight: float = 1.0) -> tuple[Objective, Parts]:
    """A fresh network whose weights go against the gradient itself."""
    torch.manual_seed(0)
    model = build_detector(CONFIG.detector).train()
    criterion = Weighed(weight)
    objective = Objective(model, criterion, precision="fp32")
    optimiser = torch.optim.SGD(objective.parameters(), lr=1.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda _: 1.0)
    return objective, Parts(
        model=model, criterion=criterion, optimiser=optimiser, schedule=schedule, scaler=scaler
    )


def flat(module: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def test_weights_go_as_far_as_clipping_lets_them_whatever_scales_the_loss() -> None:
    views = Views(FRAMES, CONFIG)
    batch = views.collate([views[position] for position in range(2)])
    moved, norms = [], []
    for scaler in (
        torch.amp.GradScaler("cpu", enabled=False),
        torch.amp.GradScaler("cpu", init_scale=1024.0),
    ):
        objective, parts = parts_of(scaler)
        before = flat(objective)
        norms.append(train_step(objective, parts, [batch], config=CONFIG)["gradient_norm"])
        moved.append(flat(objective) - before)
    assert norms[0] > 1 and norms[1] == pytest.approx(norms[0], rel=1e-3)
    for one in moved:
        assert float(one.norm()) == pytest.approx(CONFIG.clip_norm, rel=1e-2)
    torch.testing.assert_close(moved[1], moved[0], rtol=1e-2, atol=1e-5)


def test_a_resumed_run_has_the_scale_and_the_losses_own_weights(tmp_path) -> None:
    run = Run.start(tmp_path, CONFIG, data="", split="")
    _, kept = parts_of(torch.amp.GradScaler("cpu", init_scale=1024.0), weight=3.0)
    kept.scaler.scale(torch.zeros(()))  # A scaler has its scale from its first use.
    save(run, kept, step=2)
    _, fresh = parts_of(torch.amp.GradScaler("cpu"))
    assert restore(run, fresh) == 2
    assert fresh.scaler.get_scale() == 1024
    assert fresh.criterion.weight.item() == 3


def test_only_matrices_decay() -> None:
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Linear(2, 2))
    decay = {
        id(parameter): group["weight_decay"]
        for group in parameter_groups(model, a_config(weight_decay=0.3))
        for parameter in group["params"]
    }
    found = {name: decay[id(parameter)] for name, parameter in model.named_parameters()}
    assert found == {name: 0.3 * (name in ("0.weight", "2.weight")) for name in found}
