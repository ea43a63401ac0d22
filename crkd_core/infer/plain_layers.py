"""What a machine reaches in plain large layers: the measure that stages are held against.

How fast it copies says what of that small layers can have: machines that share their memory with
others lose far more there than in what is computed.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

#: Sizes of the plain layers whose rates are the measure, and how often the best is sought.
_CHANNELS, _SIDE, _MATRIX, _TRIES = 256, 128, 2048, 5
#: Runs of a layer between two looks at the clock on a GPU, where one is over before it is seen.
_RUNS = 50
#: Bytes of a copy that no cache holds.
_COPIED = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Rates:
    """What plain large layers reach here, in the detector's precision.

    Attributes:
        convolution: GFLOP/s.
        matmul: GFLOP/s.
        copy: GB/s that a copy in memory reads and writes.
    """

    convolution: float
    matmul: float
    copy: float


def rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """The best of a few runs of a large convolution, matrix product and copy."""
    layer = nn.Conv2d(_CHANNELS, _CHANNELS, 3, padding=1, bias=False)
    layer = layer.to(device, dtype).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    image = torch.randn(1, _CHANNELS, _SIDE, _SIDE, device=device, dtype=dtype)
    image = image.to(memory_format=torch.channels_last)
    matrix = torch.randn(_MATRIX, _MATRIX, device=device, dtype=dtype)
    # Pages of zeros may be one and the same.
    source = torch.ones(_COPIED, device=device, dtype=torch.uint8)
    target = torch.ones_like(source)
    convolution, matmul = 2 * 9 * (_CHANNELS * _SIDE) ** 2 / 1e9, 2 * _MATRIX**3 / 1e9
    with torch.inference_mode():
        return Rates(
            convolution=convolution / _best(lambda: layer(image), device),
            matmul=matmul / _best(lambda: matrix @ matrix, device),
            copy=2 * _COPIED / 1e9 / _best(lambda: target.copy_(source), device),
        )


def _best(call: Callable[[], object], device: torch.device) -> float:
    times, runs = [], _RUNS if device.type == "cuda" else 1
    for _ in range(_TRIES + 1):
        begin = time.perf_counter()
        for _ in range(runs):
            call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append((time.perf_counter() - begin) / runs)
    return min(times[1:])
