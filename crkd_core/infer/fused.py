"""Convolutions that add a shortcut, or cut off below zero, while their outputs are in the cache.

oneDNN, which computes PyTorch's convolutions on a processor, can do so in the same pass over
memory; PyTorch's eager layers take one more each. Same numbers: in float32 to rounding, in bf16
with one rounding less. docs/decisions/0042.

Shapes: N samples, C and O channels, H W map.
"""

from __future__ import annotations

import contextlib
import functools
import platform
from collections.abc import Iterator
from typing import Any, TypeGuard, TypeVar, cast

import torch
from torch import Tensor, nn

from crkd_core.model.camera.resnet import Block
from crkd_core.model.layers import BasicBlock

M = TypeVar("M", bound=nn.Module)

#: How much of what is below zero a ReLU lets through: nothing next to anything, and no number that
#: is too small for the processor's fast ways.
_NOTHING = 1e-30


class FusedConv(nn.Conv2d):
    """A trained convolution with what follows it; maps in channels_last.

    Attributes:
        activates: a ReLU follows.
        direct: computed layer by layer, as FLOPs are counted.
    """

    def __init__(self, layer: nn.Conv2d, *, activates: bool = False) -> None:
        # Weights of its own, which would be drawn at random, are not made.
        super().__init__(
            layer.in_channels,
            layer.out_channels,
            cast(tuple[int, int], layer.kernel_size),
            cast(tuple[int, int], layer.stride),
            cast(tuple[int, int], layer.padding),
            cast(tuple[int, int], layer.dilation),
            layer.groups,
            bias=layer.bias is not None,
            padding_mode=layer.padding_mode,
            device="meta",
        )
        self.weight, self.bias = layer.weight, layer.bias
        self.activates, self.direct = activates, False
        self._fuses = is_fusable(layer.weight.dtype)

    def forward(self, maps: Tensor, added: Tensor | None = None) -> Tensor:
        """[N, C, H, W] -> [N, O, H', W'], to which ``added`` of that shape is added, and ReLU."""
        fuses = self._fuses and not self.direct and maps.numel() > 0
        # Elsewhere a sum is not fused, and some formats of numbers are refused.
        if not fuses or (added is not None and not (self.groups == 1 and _channels_last(maps))):
            return self._layer_by_layer(maps, added)
        layer = (self.weight, self.bias, self.padding, self.stride, self.dilation, self.groups)
        return _in_one_pass(maps, layer, added, activates=self.activates)

    def _layer_by_layer(self, maps: Tensor, added: Tensor | None) -> Tensor:
        found = super().forward(maps)
        if added is not None:
            found += added
        return found.relu_() if self.activates else found


class FusedBlock(nn.Module):
    """A residual block whose last convolution adds the shortcut and cuts off below zero."""

    def __init__(self, first: nn.Module, last: FusedConv, shortcut: nn.Module) -> None:
        super().__init__()
        self.first, self.last, self.shortcut = first, last, shortcut

    def forward(self, x: Tensor) -> Tensor:
        """[N, C, H, W] -> [N, O, H', W']."""
        found: Tensor = self.last(self.first(x), self.shortcut(x))
        return found


def with_fused(model: M) -> M:
    """The same network with its convolutions, sums and ReLUs fused; changed in place.

    Args:
        model: folded (fold.py), in evaluation mode, on a CPU; its convolutions may be computed by
            Winograd's filtering already.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            block = _block(child)
            if block is not None:
                setattr(parent, name, block)
    for parent in list(model.modules()):
        _fuse(parent)
    # Behind forty convolutions there are sixty modules that do nothing, and calling takes time.
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(parent, nn.Sequential) and _is_nothing(child):
                delattr(parent, name)
    return model


@functools.cache
def is_fusable(dtype: torch.dtype) -> bool:
    """Whether this PyTorch and this processor fuse convolutions of a number format.

    Elsewhere than on x86 oneDNN hands convolutions to other libraries, which do not know what
    follows them.
    """
    is_known = (
        torch.backends.mkldnn.is_available()
        and platform.machine() in ("x86_64", "AMD64")
        and hasattr(torch.ops.mkldnn, "_convolution_pointwise")
        and (dtype == torch.float32 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )
    if not is_known:
        return False
    ones = torch.ones((1, 2, 2, 2), dtype=dtype).to(memory_format=torch.channels_last)
    layer = (ones[..., :1, :1], None, (0, 0), (1, 1), (1, 1), 1)
    added = torch.tensor([[[[-3.0, 1.0], [0.0, 2.0]]]], dtype=dtype)
    try:  # Operators that are not public may be others in another PyTorch.
        with torch.inference_mode():
            found = [_in_one_pass(ones, layer, one, activates=True) for one in (None, added)]
    except (RuntimeError, TypeError, AttributeError):
        return False
    return [one.flatten().tolist() for one in found] == [[2, 2, 2, 2], [0, 3, 2, 4]]


def _channels_last(maps: Tensor) -> bool:
    """Whether channels follow each other in memory, also of some of the channels of others."""
    channels = maps.shape[1]
    return channels > 1 and maps.stride(1) == 1 and maps.stride(3) >= channels


def _in_one_pass(
    maps: Tensor, layer: tuple[Any, ...], added: Tensor | None, *, activates: bool
) -> Tensor:
    """See FusedConv; ``layer`` are weight, bias, padding, stride, dilation and groups.

    NaN stays NaN, so that decoding finds a broken network: oneDNN's own ReLU would make 0 of it.
    """
    fused = torch.ops.mkldnn._convolution_pointwise
    if added is None:
        word, slope = ("leaky_relu", [_NOTHING]) if activates else ("none", [])
        return cast(Tensor, fused(maps, *layer, word, slope, ""))
    # A sum knows no leaky one.
    found = fused.binary(maps, added, *layer, "add", 1.0, None, [], None)
    return found.relu_() if activates else found


@contextlib.contextmanager
def directly(model: nn.Module) -> Iterator[None]:
    """Meanwhile a network's convolutions are computed by the plain way."""
    layers = [module for module in model.modules() if isinstance(module, FusedConv)]
    for layer in layers:
        layer.direct = True
    try:
        yield
    finally:
        for layer in layers:
            layer.direct = False


def _block(block: nn.Module) -> FusedBlock | None:
    """A residual block with its sum fused; None: no such block, or none that can be."""
    first: nn.Module
    if isinstance(block, BasicBlock):
        first, last = block.first, block.second
    elif isinstance(block, Block):
        first, last = block.layer[:-1], cast(nn.Sequential, block.layer[-1])
    else:
        return None
    convolution, *others = last
    if not _can_be(convolution) or not all(map(_is_nothing, others)):
        return None
    fused = convolution if isinstance(convolution, FusedConv) else FusedConv(convolution)
    fused.activates = True
    return FusedBlock(first, fused, block.shortcut)


def _fuse(parent: nn.Module) -> None:
    """Fuse the convolutions of a module, and the ReLUs that follow in a Sequential, in place."""
    layers = [(name, one) for name, one in parent.named_children() if not _is_nothing(one)]
    for index, (name, layer) in enumerate(layers):
        if not _can_be(layer):
            continue
        fused = layer if isinstance(layer, FusedConv) else FusedConv(layer)
        setattr(parent, name, fused)
        after, following = layers[index + 1] if index + 1 < len(layers) else ("", None)
        if isinstance(parent, nn.Sequential) and isinstance(following, nn.ReLU):
            fused.activates = True
            setattr(parent, after, nn.Identity())


def _is_nothing(layer: nn.Module) -> bool:
    """What a folded BatchNorm has left."""
    return isinstance(layer, nn.Identity)


def _can_be(layer: nn.Module) -> TypeGuard[nn.Conv2d]:
    return (
        isinstance(layer, nn.Conv2d)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )
