"""The arithmetic of a sparse convolution: gather rows, multiply, add to rows.

Shapes: V input sites, W output sites, K kernel cells, C channels.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor


class Pairs(NamedTuple):
    """For one kernel cell, which input rows add to which output rows.

    Attributes:
        source: [n] int64 input rows.
        target: [n] int64 output rows, each at most once.
    """

    source: Tensor
    target: Tensor


def gather_matmul_add(
    features: Tensor, weight: Tensor, pairs: list[Pairs | None], outputs: int
) -> Tensor:
    """Sum over kernel cells k of features[source_k] @ weight[k] at target_k. -> [outputs, C'].

    Products are in the precision of ``features`` or of autocast, sums in float32 at least. Within
    a kernel cell a source and a target occur at most once, so the order of additions is fixed and
    the result is the same on every run, on a GPU too.
    """
    device = features.device.type
    if torch.is_autocast_enabled(device) and features.dtype != torch.float64:
        dtype = torch.get_autocast_dtype(device)
        features, weight = features.to(dtype), weight.to(dtype)
    with torch.autocast(device, enabled=False):
        return _GatherMatmulAdd.apply(features, weight, pairs, outputs)  # type: ignore[no-untyped-call]


class _GatherMatmulAdd(torch.autograd.Function):
    """Its backward pass gathers again: kept rows would be most of the memory of a training."""

    @staticmethod
    def forward(
        ctx: Any, features: Tensor, weight: Tensor, pairs: list[Pairs | None], outputs: int
    ) -> Tensor:
        ctx.save_for_backward(features, weight)
        ctx.pairs = pairs
        out = _sums(features, outputs, weight.shape[2])
        for cell, pair in zip(weight, pairs, strict=True):
            if pair is None:
                out += features @ cell
            else:
                rows = features.index_select(0, pair.source) @ cell
                out.index_add_(0, pair.target, rows.to(out.dtype))
        return out.to(features.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None, None]:
        features, weight = ctx.saved_tensors
        to_features = _sums(features, *features.shape)
        to_weight = torch.empty_like(weight)
        for index, pair in enumerate(ctx.pairs):
            if pair is None:
                to_features += gradient @ weight[index].T
                to_weight[index] = features.T @ gradient
            else:
                rows = gradient.index_select(0, pair.target)
                part = rows @ weight[index].T
                to_features.index_add_(0, pair.source, part.to(to_features.dtype))
                to_weight[index] = features.index_select(0, pair.source).T @ rows
        return to_features.to(features.dtype), to_weight, None, None


def _sums(like: Tensor, rows: int, columns: int) -> Tensor:
    """Zeros to add to, float32 for everything shorter."""
    dtype = torch.promote_types(like.dtype, torch.float32)
    return like.new_zeros((rows, columns), dtype=dtype)
