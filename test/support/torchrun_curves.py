"""What each process of test_processes.py runs under torchrun: trainings, one after another."""

from __future__ import annotations

import sys
from pathlib import Path

import torch
import torch.distributed as dist
from torchrun_cases import CASES, norm_inputs, segment_loss
from train_tiny import FRAMES

from crkd_core.train.distributed import Processes, joined
from crkd_core.train.loop import train
from crkd_core.train.norms import SynchronisedNorm, join_norms
from crkd_core.train.run_folder import Run


def use_norm(out: Path, rank: int) -> None:
    """Three of five samples here, two there; then three here and none there."""
    norm = SynchronisedNorm(torch.nn.BatchNorm2d(3, momentum=0.3), dist.new_group())
    share = slice(0, 3) if rank == 0 else slice(3, 5)
    values, weights = (tensor[share] for tensor in norm_inputs())
    answer = norm(values.requires_grad_())
    (answer * weights).sum().backward()
    norm(values[: 3 if rank == 0 else 0])
    result = {"answer": answer.detach(), "gradient": values.grad, "weight": norm.weight.grad}
    result |= {"mean": norm.running_mean, "variance": norm.running_var}
    torch.save(result, out / f"norm{rank}.pt")


def use_norm_alone(out: Path, rank: int) -> None:
    """A batch in which the second process has nothing, then one of all, three times."""
    norm = SynchronisedNorm(torch.nn.BatchNorm2d(3, momentum=0.3), dist.new_group())
    values, _ = norm_inputs()
    for _ in range(3):
        norm.together = False
        if rank == 0:
            norm(values[:3])
        join_norms(torch.nn.Sequential(norm))
        norm.together = True
        answer = norm(values[:3] if rank == 0 else values[3:])
    result = {"answer": answer.detach(), "mean": norm.running_mean, "variance": norm.running_var}
    torch.save(result, out / f"alone{rank}.pt")


def use_segments(out: Path, rank: int) -> None:
    """One sample here, the other there."""
    torch.save(segment_loss(slice(rank, rank + 1)), out / f"segments{rank}.pt")


with joined(Processes.of_environment(), "cpu"):
    use_norm(Path(sys.argv[1]), dist.get_rank())
    use_norm_alone(Path(sys.argv[1]), dist.get_rank())
    use_segments(Path(sys.argv[1]), dist.get_rank())
    for name, config in CASES.items():
        run = Run.start(Path(sys.argv[1]) / name, config, data="", split="")
        trained = train(run, FRAMES)
        torch.save(trained.state_dict(), Path(sys.argv[1]) / f"{name}{dist.get_rank()}.pt")
