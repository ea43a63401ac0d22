"""Number formats of a network."""

from __future__ import annotations

import warnings
from typing import TypeVar

import torch
from torch import nn

from crkd_core.config import Precision

#: In training of the forward pass alone: weights, losses and the update are float32.
DTYPES: dict[Precision, torch.dtype] = {
    "fp32": torch.float32,
    "bf16": torch.bfloat16,
    "fp16": torch.float16,
}

M = TypeVar("M", bound=nn.Module)


def converted(network: M, device: torch.device, dtype: torch.dtype) -> M:
    """A network moved and cast in place; returns it.

    Geometry and constants of pixels, which weights files do not hold, stay float32: half precision
    would move points by metres.
    """
    kept = network.state_dict()
    constants = {name: buffer for name, buffer in network.named_buffers() if name not in kept}
    network.to(device, dtype)
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    for name, buffer in constants.items():
        owner, _, leaf = name.rpartition(".")
        setattr(network.get_submodule(owner), leaf, buffer.to(device))
    return network


def warn_if_emulated(precision: Precision, device: torch.device | str) -> None:
    """Warn of a format that the processor has no instructions for: it costs several times fp32.

    A CPU without AVX-512 (BF16) or AMX computes bf16 convolutions one number after the other.
    """
    if precision == "bf16" and torch.device(device).type == "cpu" and not bf16_is_native():
        warnings.warn(
            "precision bf16 is emulated by this CPU and several times slower than fp32; use fp32",
            stacklevel=3,
        )


def bf16_is_native() -> bool:
    """Whether this processor has instructions for bf16."""
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
