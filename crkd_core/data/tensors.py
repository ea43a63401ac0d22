"""Dataclasses of tensors that travel together: to a device, into page-locked memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from typing_extensions import Self


class Tensors:
    """A dataclass with tensors, others of this kind and tuples of them; all else stays behind."""

    def to(self, device: torch.device | str) -> Self:
        """The same on a device."""
        return self._with(lambda tensor: tensor.to(device, non_blocking=True))

    def pin_memory(self) -> Self:
        """The same in page-locked memory (torch's DataLoader calls this for CUDA)."""
        return self._with(Tensor.pin_memory)

    def _with(self, change: Callable[[Tensor], Tensor]) -> Self:
        fields = dataclasses.fields(self)  # type: ignore[arg-type]
        changed = {f.name: _changed(getattr(self, f.name), change) for f in fields}
        return dataclasses.replace(self, **changed)  # type: ignore[type-var]


def _changed(value: Any, change: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Tensors):
        return value._with(change)
    if type(value) is tuple:
        return tuple(_changed(part, change) for part in value)
    return value
