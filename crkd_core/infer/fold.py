"""BatchNorm folded into the layer before it: the same function with less to compute."""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval, fuse_linear_bn_eval

M = TypeVar("M", bound=nn.Module)


class FoldError(ValueError):
    """A network that cannot be folded."""


def fold_batch_norms(model: M) -> M:
    """A copy of an evaluation-mode network in which every BatchNorm is gone where it can be.

    A BatchNorm is folded into a convolution, transposed convolution or linear layer that is the
    child right before it. That is how every block of this project is written; a test compares the
    outputs.

    Raises:
        FoldError: the network is in training mode, where BatchNorm depends on the batch.
    """
    if model.training:
        raise FoldError("expected a network in evaluation mode; call eval() first")
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        previous_name, previous = "", None
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.BatchNorm1d | nn.BatchNorm2d):
                fused = _fused(previous, child)
                if fused is not None:
                    setattr(parent, previous_name, fused)
                    setattr(parent, name, nn.Identity())
            previous_name, previous = name, child
    return model


@torch.no_grad()
def _fused(layer: nn.Module | None, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> nn.Module | None:
    if isinstance(layer, nn.Conv2d) and layer.out_channels == norm.num_features:
        return fuse_conv_bn_eval(layer, norm)
    if isinstance(layer, nn.ConvTranspose2d) and layer.out_channels == norm.num_features:
        return fuse_conv_bn_eval(layer, norm, transpose=True)
    if isinstance(layer, nn.Linear) and layer.out_features == norm.num_features:
        return fuse_linear_bn_eval(layer, norm)
    return None
