"""The detector that the node's parameters ask for, and its memory back."""

from __future__ import annotations

import functools
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from crkd_ros.node.threads import core_count, network_threads
from crkd_ros.parameters.node import WeightsConfig
from crkd_ros.signals import held

if TYPE_CHECKING:
    from crkd_core.infer.detector import Detector


class WeightsError(RuntimeError):
    """Weights that are missing or that this machine cannot run."""


def load_detector(config: WeightsConfig) -> Detector:
    """The detector that the parameters ask for.

    Raises:
        WeightsError: no weights given, not a checkpoint, or a device that is not there.
    """
    if not config.weights:
        raise WeightsError(
            "parameter weights is required: the detector's .safetensors file, for example "
            "--ros-args -p weights:=/path/to/student.safetensors"
        )
    if not Path(config.weights).exists():
        raise WeightsError(f"parameter weights: there is no file {config.weights}")
    # Importing torch takes seconds: wrong parameters are reported before.
    with held():
        from crkd_core.infer.detector import Detector, InferError
        from crkd_core.model.checkpoint import CheckpointError

    try:
        return Detector.load(
            config.weights,
            device=config.device,
            precision=config.precision,
            engine=config.engine,
            score_threshold=config.score_threshold,
        )
    except (CheckpointError, InferError) as error:
        raise WeightsError(str(error)) from error


def use_threads(wanted: int) -> int:
    """Give networks on the CPU so many threads from now on; 0: see threads.network_threads.

    Returns:
        How many these are.
    """
    with held():
        import torch

    count = network_threads(wanted, core_count(), _torch_chose())
    torch.set_num_threads(count)
    return count


@functools.cache
def _torch_chose() -> int:
    """Threads that torch began with, by the cores or OMP_NUM_THREADS, whatever was set since."""
    import torch

    return torch.get_num_threads()


def release_detector() -> None:
    """Give the memory of a detector that nobody refers to any more back, on a GPU too."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
