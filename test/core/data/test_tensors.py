"""What travels with a batch, and what stays as it is."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from crkd_core.data.tensors import Tensors


@dataclass(frozen=True, kw_only=True)
class Inner(Tensors):
    values: Tensor
    names: tuple[str, ...] = ("a", "b")


@dataclass(frozen=True, kw_only=True)
class Outer(Tensors):
    one: Inner
    many: tuple[Inner, ...]
    absent: Tensor | None = None
    sizes: tuple[int, ...] = (1, 2)


def test_every_tensor_travels_and_nothing_else_changes() -> None:
    """The device without memory stands for any other than the CPU."""
    inner = Inner(values=torch.arange(3))
    given = Outer(one=inner, many=(inner, Inner(values=torch.ones(2, 2))))
    moved = given.to("meta")
    assert moved.one.values.device.type == "meta"
    assert [part.values.device.type for part in moved.many] == ["meta", "meta"]
    assert [part.values.shape for part in moved.many] == [(3,), (2, 2)]
    assert (moved.one.names, moved.absent, moved.sizes) == (inner.names, None, (1, 2))
    assert given.one.values.device.type == "cpu"
    assert torch.equal(given.to("cpu").many[1].values, torch.ones(2, 2))
