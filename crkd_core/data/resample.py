"""Bicubic resizing with antialiasing, as imaging libraries do it on photographs.

Released weights saw images of this kind; OpenCV has no antialiased bicubic.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

#: Free parameter of the cubic kernel (Keys 1981).
_A = -0.5


def bicubic(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize [H, W, C] uint8 to [height, width, C]; when shrinking the kernel is widened.

    Rows first, rounded to whole levels, then columns. Equal to Pillow's BICUBIC up to one level.
    """
    rows, columns, channels = image.shape
    if columns != width:
        flat = image.astype(np.float32).transpose(0, 2, 1).reshape(-1, columns)
        flat = _levels(flat @ weights(columns, width).T)
        image = flat.reshape(rows, channels, width).transpose(0, 2, 1)
    if rows != height:
        flat = image.astype(np.float32).reshape(rows, -1)
        image = _levels(weights(rows, height) @ flat).reshape(height, width, channels)
    return np.ascontiguousarray(image)


@functools.lru_cache(maxsize=16)
def weights(source: int, target: int) -> NDArray[np.float32]:
    """[target, source] share of every source pixel in every target pixel; rows sum to 1."""
    scale = source / target
    stretch = max(scale, 1.0)
    center = (np.arange(target) + 0.5) * scale
    x = np.abs((np.arange(source) + 0.5 - center[:, None]) / stretch)
    near = ((_A + 2) * x - (_A + 3)) * x * x + 1
    far = ((x - 5) * x + 8) * x * _A - 4 * _A
    kernel = np.where(x < 1, near, np.where(x < 2, far, 0.0))
    return (kernel / kernel.sum(1, keepdims=True)).astype(np.float32)


def _levels(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    return np.clip(values + 0.5, 0, 255).astype(np.uint8)
