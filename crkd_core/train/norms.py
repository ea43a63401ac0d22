"""What BatchNorm sees while training: TrainConfig.norms (decisions/0013)."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import GridConfig, TrainConfig
from crkd_core.data.batch import Batch
from crkd_core.model.camera.radar_lift import RadarLift
from crkd_core.model.detector import BevDetector
from crkd_core.train.distributed import Processes

_Norm = nn.modules.batchnorm._BatchNorm


def set_norms(
    model: BevDetector, criterion: nn.Module, config: TrainConfig, processes: Processes
) -> None:
    """Make norms in training mode behave as ``config.norms`` says, in place.

    Names and values of all tensors stay, so a checkpoint does not depend on this.

    Args:
        model: the network.
        criterion: what is minimised. Norms of what is trained along are synchronised too, always:
            every process computes them in every batch. They are never frozen: they begin with
            statistics of nothing.
        config: of the run.
        processes: of the run.
    """
    if config.norms == "frozen":
        for module in model.modules():
            if isinstance(module, _Norm):
                module.eval()
    if config.norms == "synchronised" and processes.count > 1:
        # Its own group: gradients are on the way in the other one while backward runs.
        group = dist.new_group()
        for parent in [*model.modules(), *criterion.modules()]:
            for name, module in list(parent.named_children()):
                if isinstance(module, _Norm):
                    setattr(parent, name, SynchronisedNorm(module, group))
        if isinstance(model.lift, RadarLift):
            model.lift.view.shared = True


def seen_by_norms(config: TrainConfig, processes: Processes) -> tuple[int, int]:
    """Samples that a norm's statistics come from, and samples of a step."""
    step = config.batch_size * config.accumulate * processes.count
    return {
        "batch": config.batch_size,
        "synchronised": config.batch_size * processes.count,
        "frozen": 0,
    }[config.norms], step


class SynchronisedNorm(_Norm):
    """BatchNorm over the batches of all processes, on gloo and on nccl.

    Mean and variance come from summed counts, sums and sums of squares of what the running mean
    leaves over, which is the same in all processes; the gradient goes through the sums. A process
    may have no element, but must call.

    Attributes:
        together: False = this process alone, as plain BatchNorm; see ``share_norms`` and
            ``join_norms``.
    """

    def __init__(self, norm: _Norm, group: dist.ProcessGroup) -> None:
        super().__init__(norm.num_features, norm.eps, norm.momentum)
        for name in ("weight", "bias"):
            self.register_parameter(name, getattr(norm, name))
        for name in ("running_mean", "running_var", "num_batches_tracked"):
            self.register_buffer(name, getattr(norm, name))
        self.group, self.together = group, True

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, ...] or [M, C] -> the same shape."""
        assert self.running_mean is not None and self.running_var is not None
        if not self.training:
            return self._normalise(x, self.running_mean, self.running_var)
        values = x.float()
        axes = [axis for axis in range(x.ndim) if axis != 1]
        shift = self.running_mean.clone()
        centred = values - _wide(shift, x)
        count = values.new_tensor([x.numel() / x.shape[1]])
        sums = torch.cat([centred.sum(axes), centred.square().sum(axes), count])
        if self.together:
            sums = _Sum.apply(sums, self.group)  # type: ignore[no-untyped-call]
        total = sums[-1]
        offset, square = sums[:-1].chunk(2)
        if x.ndim == 2 and float(total.detach()) < 2:
            # One point has no variance. Maps are never so small, and asking would stall a GPU.
            return self._normalise(x, self.running_mean, self.running_var)
        offset, square = offset / total, square / total
        variance = (square - offset.square()).clamp(min=0)
        with torch.no_grad():
            momentum = 0.1 if self.momentum is None else self.momentum
            self.running_mean.lerp_(offset + shift, momentum)
            self.running_var.lerp_(variance * total / (total - 1).clamp(min=1), momentum)
            if self.num_batches_tracked is not None:
                self.num_batches_tracked += 1
        y = (centred - _wide(offset, x)) * _wide((variance + self.eps).rsqrt(), x)
        return (y * _wide(self.weight, x) + _wide(self.bias, x)).to(x.dtype)

    def _normalise(self, x: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        return F.batch_norm(x, mean, variance, self.weight, self.bias, eps=self.eps)

    def _check_input_dim(self, x: Tensor) -> None:
        pass


class _Sum(torch.autograd.Function):
    """The sum of a tensor over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(context: Any, x: Tensor, group: dist.ProcessGroup) -> Tensor:
        context.group = group
        total = x.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None]:
        total = gradient.clone()
        dist.all_reduce(total, group=context.group)
        return total, None


def share_norms(model: BevDetector, batch: Batch) -> None:
    """Before a forward pass: who shares statistics in this batch. All processes must call.

    A process without a single camera (or return in the grid) does not compute that branch, so the
    norms of the branch take the statistics of each process alone this time; see ``join_norms``.
    """
    norms = _shared_norms(model)
    if not norms:
        return
    grid = model.config.grid
    has = [batch.camera_present.any(), _any_inside(batch.radar, grid)]
    has.append(has[1] if batch.lidar is None else _any_inside(batch.lidar, grid))
    shared = torch.stack(has).to(batch.images.device, torch.int32)
    dist.all_reduce(shared, dist.ReduceOp.MIN, group=norms[0].group)
    cameras, radar, lidar = shared.bool().tolist()
    branches = ((model.image, cameras), (model.lift, cameras), (model.radar, radar))
    for branch, together in (*branches, (model.lidar, lidar)):
        for module in branch.modules() if branch is not None else ():
            if isinstance(module, SynchronisedNorm):
                module.together = together


def join_norms(model: BevDetector) -> None:
    """After a backward pass: one running mean and variance for all processes, which must all call.

    Of norms that were alone in this batch it is the mean over the processes; one that did not
    compute the branch has the old ones. The sums of later batches rest on a common running mean.
    """
    alone = [norm for norm in _shared_norms(model) if not norm.together]
    if not alone:
        return
    own = [t for norm in alone for t in (norm.running_mean, norm.running_var) if t is not None]
    joint = torch.cat(own)
    dist.all_reduce(joint, group=alone[0].group)
    joint /= dist.get_world_size(alone[0].group)
    for old, new in zip(own, joint.split([len(t) for t in own]), strict=True):
        old.copy_(new)


def _shared_norms(model: BevDetector) -> list[SynchronisedNorm]:
    return [module for module in model.modules() if isinstance(module, SynchronisedNorm)]


def _any_inside(points: Tensor, grid: GridConfig) -> Tensor:
    low, high = points.new_tensor(grid.low), points.new_tensor(grid.high)
    return ((points[:, :3] >= low) & (points[:, :3] < high)).all(1).any()


def _wide(vector: Tensor, like: Tensor) -> Tensor:
    return vector.view(1, -1, *[1] * (like.ndim - 2))
