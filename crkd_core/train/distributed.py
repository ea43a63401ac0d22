"""Several processes as one training: started by torchrun, on one machine or many.

torchrun tells every process its place by environment variables. All processes compute the same
model on different samples; gradients are averaged by torch's DistributedDataParallel (gloo on
CPUs, nccl on GPUs), and the first process writes the run folder.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel


class DistributedError(RuntimeError):
    """Processes that cannot train together."""


@dataclass(frozen=True, kw_only=True)
class Processes:
    """This process among all.

    Attributes:
        rank: place in [0, count).
        count: processes on all machines.
        local_rank: place on this machine.
    """

    rank: int = 0
    count: int = 1
    local_rank: int = 0

    @classmethod
    def of_environment(cls) -> Processes:
        """As torchrun says; one process where nothing is said.

        Raises:
            DistributedError: the variables hold no numbers, or no place among that many
                processes: whoever is not the first would train and write nothing.
        """
        names = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
        try:
            rank, count, local = (
                int(os.environ.get(name, default))
                for name, default in zip(names, "010", strict=True)
            )
        except ValueError as error:
            raise DistributedError(f"expected numbers in {', '.join(names)}: {error}") from error
        if not 0 <= rank < count or local < 0:
            raise DistributedError(
                f"RANK {rank}, WORLD_SIZE {count}, LOCAL_RANK {local}: expected a RANK from 0 to "
                "below WORLD_SIZE, as torchrun sets them; start by torchrun, or unset them"
            )
        return cls(rank=rank, count=count, local_rank=local)

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0


@contextmanager
def joined(processes: Processes, device: str) -> Iterator[str]:
    """Connect the processes; yields the device of this one ("cuda" becomes "cuda:<local rank>").

    Processes that are connected already are left as they are: torch connects them only once.

    Raises:
        DistributedError: fewer GPUs on this machine than processes.
    """
    if processes.count == 1:
        yield device
        return
    backend = "gloo"
    if device.startswith("cuda"):
        backend = "nccl"
        if device == "cuda":
            if processes.local_rank >= torch.cuda.device_count():
                raise DistributedError(
                    f"process {processes.local_rank} of this machine has no GPU of its own: "
                    f"there are {torch.cuda.device_count()}; lower --nproc-per-node"
                )
            device = f"cuda:{processes.local_rank}"
        torch.cuda.set_device(device)
    if dist.is_initialized():
        yield device
        return
    dist.init_process_group(backend)
    try:
        yield device
    finally:
        dist.destroy_process_group()


def parallel(objective: nn.Module, processes: Processes) -> nn.Module:
    """``objective`` with gradients averaged over the processes after every backward pass."""
    if processes.count == 1:
        return objective
    # A process without any camera or radar return does not reach that branch: unused parameters.
    # Buffers are left alone: norms are synchronised by train.norms or not at all.
    with warnings.catch_warnings():
        # torch 2.13 renames broadcast_buffers.
        warnings.simplefilter("ignore", FutureWarning)
        return DistributedDataParallel(
            objective, find_unused_parameters=True, broadcast_buffers=False
        )


def mean(values: dict[str, Tensor]) -> dict[str, float]:
    """Scalars as numbers, averaged over the processes, which must all call this."""
    # All at once: each number that is asked for by itself waits for the GPU.
    joint = torch.stack(list(values.values())).double()
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(joint)
        joint /= dist.get_world_size()
    return dict(zip(values, joint.tolist(), strict=True))


def most(number: int, processes: Processes, device: str) -> int:
    """The largest of a number of every process, which must all call this."""
    if processes.count == 1:
        return number
    joint = torch.tensor(number, device=device)
    dist.all_reduce(joint, dist.ReduceOp.MAX)
    return int(joint)


def agree(step: int, processes: Processes) -> None:
    """Every process must have resumed at the same step.

    Raises:
        DistributedError: they did not.
    """
    if processes.count == 1:
        return
    steps: list[int] = [0] * processes.count
    dist.all_gather_object(steps, step)
    if len(set(steps)) > 1:
        raise DistributedError(
            f"the processes resumed at the steps {steps}; the run folder must lie on a disk that "
            "all machines share"
        )
