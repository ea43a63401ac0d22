"""The spconv library in the place of our own sparse convolution, where it is installed.

Same weights, same results; on a GPU it is faster and needs less memory in training. Nothing here
is needed: `Sites` does the same in plain PyTorch.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
from typing import Any

import torch
from torch import Tensor

from crkd_core.model.lidar.sparse_map import Convolution, Triple


class SpconvError(RuntimeError):
    """An spconv that this project cannot use."""


@functools.cache
def installed() -> bool:
    """Whether spconv can be imported; it is looked for once."""
    return importlib.util.find_spec("spconv") is not None


class SpconvSites:
    """Occupied cells in spconv's keeping: the counterpart of `sites.Sites`.

    Attributes:
        shape: X, Y, Z.
    """

    def __init__(self, tensor: Any, level: int) -> None:
        # The tensor carries spconv's index tables along; a level is a set of sites.
        self._tensor, self._level = tensor, level
        x, y, z = tensor.spatial_shape
        self.shape: Triple = (x, y, z)

    @classmethod
    def of(cls, coords: Tensor, *, batch: int, shape: Triple) -> SpconvSites:
        """Sites of cells [V, 4] int64 (sample, x, y, z), in their order.

        Raises:
            SpconvError: spconv is not installed, or cannot be imported.
        """
        features = torch.zeros(len(coords), 1, device=coords.device)
        tensor = _library().SparseConvTensor(features, coords.int(), list(shape), batch)
        return cls(tensor, 0)

    def __len__(self) -> int:
        return len(self._tensor.indices)

    def coords(self) -> Tensor:
        """[V, 4] int64: sample, x, y, z."""
        return self._tensor.indices.long()

    def convolve(self, features: Tensor, convolution: Convolution) -> tuple[Tensor, SpconvSites]:
        """Features [V, C] -> features [W, C'] and their sites. Float32, whatever the mode.

        Raises:
            SpconvError: spconv stores kernels in another order than version 2.2 and later.
        """
        inputs, outputs = convolution.weight.shape[1:]
        submanifold = convolution.stride is None
        module = _module(
            inputs,
            outputs,
            convolution.kernel,
            convolution.stride,
            convolution.padding,
            f"{self._level}{convolution.kernel}" if submanifold else None,
            features.is_cuda,
        )
        kernel = convolution.weight.view(*convolution.kernel, inputs, outputs)
        kernel = kernel.permute(4, 0, 1, 2, 3).float().contiguous()
        if module.weight.shape != kernel.shape:
            raise SpconvError(
                f"spconv: expected kernels stored as {tuple(kernel.shape)}, got "
                f"{tuple(module.weight.shape)}; install version 2.2 or later, or none"
            )
        with torch.autocast(features.device.type, enabled=False):
            tensor = self._tensor.replace_feature(features.float())
            out = torch.func.functional_call(module, {"weight": kernel}, (tensor,))
        sites = self if submanifold else SpconvSites(out, self._level + 1)
        return out.features.to(features.dtype), sites

    def dense(self, features: Tensor) -> Tensor:
        """[B, C, X, Y, Z], zeros where no site is."""
        return self._tensor.replace_feature(features).dense()


@functools.cache
def _module(
    inputs: int,
    outputs: int,
    kernel: Triple,
    stride: Triple | None,
    padding: Triple,
    key: str | None,
    cuda: bool,
) -> Any:
    """A layer of spconv, whose own weights are never used."""
    library = _library()
    settings: dict[str, Any] = {"bias": False, "indice_key": key}
    if not cuda:
        settings["algo"] = importlib.import_module("spconv.core").ConvAlgo.Native
    if stride is None:
        return library.SubMConv3d(inputs, outputs, kernel, **settings)
    return library.SparseConv3d(inputs, outputs, kernel, stride, padding, **settings)


def _library() -> Any:
    try:
        return importlib.import_module("spconv.pytorch")
    except ImportError as error:
        raise SpconvError(
            f"spconv cannot be imported: {error}; uninstall it or repair it"
        ) from error
