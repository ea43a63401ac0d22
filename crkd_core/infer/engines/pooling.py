"""Summing lifted pixels over cells of the ground on a GPU, as one kernel of Triton's.

What Lift does with an embedding bag, for points of fixed number: which of them lie in the grid is
read on the device. A program per cell sums its points in their order, so the same frame gives the
same sums (docs/decisions/0040).

Shapes: R pixels, D depth bins, C context channels, X Y grid cells.
"""

from __future__ import annotations

import functools
from typing import Any

from torch import Tensor

from crkd_core.infer.errors import EngineError
from crkd_core.model.camera.lift import LiftIndex, summed

#: Points that a program reads at once. Near the vehicle two thousand points of a large network lie
#: in one cell, and the program that has it ends last; 16 and 64 are slower (docs/benchmarks.md).
_POINTS = 32


def pooled(depth: Tensor, rows: Tensor, index: LiftIndex) -> Tensor:
    """Context weighed by depth, summed over every cell, [X Y, C].

    Args:
        depth: [R, D] probabilities.
        rows: [R, C] context.
        index: of Lift.fixed_index.

    Raises:
        EngineError: on a GPU without Triton.
    """
    if not depth.is_cuda:
        count = int(index.offset[-1])
        inside = LiftIndex(index.point[:count], index.pixel[:count], index.offset)
        return summed(rows, inside.pixel, depth.flatten()[inside.point], inside)
    return launch(depth, rows, index)


def launch(
    depth: Tensor,
    rows: Tensor,
    index: LiftIndex,
    *,
    points: int = _POINTS,
    warps: int | None = None,
) -> Tensor:
    """The same by the kernel, which Triton's interpreter runs on a CPU, too.

    Args:
        depth: see ``pooled``.
        rows: likewise.
        index: likewise.
        points: that a program reads at once, a power of 2.
        warps: of a program, a power of 2; None = the fastest for the number format.
    """
    depth, rows = depth.contiguous(), rows.contiguous()
    if warps is None:
        warps = min(4, rows.element_size())
    cells, channels = len(index.offset) - 1, rows.shape[1]
    out = rows.new_empty((cells, channels))
    width = 1 << (channels - 1).bit_length()
    kernel()[(cells,)](
        depth, rows, index.point, index.offset, out, depth.shape[1],
        channels=channels, width=width, points=points, num_warps=warps,
    )  # fmt: skip
    return out


def check_triton() -> None:
    """Refuse to go on without Triton.

    Raises:
        EngineError: it is not installed.
    """
    try:
        import triton  # noqa: F401
    except ImportError as error:
        raise EngineError(
            "engine cuda_graph needs Triton, which PyTorch's CUDA builds for Linux bring along: "
            "pip install triton, or use engine torch"
        ) from error


@functools.cache
def kernel() -> Any:
    """The kernel; a machine without a GPU need not have Triton."""
    check_triton()
    import triton
    import triton.language as tl

    # Without types: Triton reads annotations itself.
    @triton.jit  # type: ignore[untyped-decorator]
    def sum_cells(  # type: ignore[no-untyped-def]
        depth, rows, point, offset, out, bins,
        channels: tl.constexpr, width: tl.constexpr, points: tl.constexpr,
    ):  # fmt: skip
        cell = tl.program_id(0)
        first, last = tl.load(offset + cell), tl.load(offset + cell + 1)
        channel = tl.arange(0, width)
        in_row = channel < channels
        total = tl.zeros([width], tl.float32)
        while first < last:
            place = first + tl.arange(0, points)
            inside = place < last
            at = tl.load(point + place, mask=inside, other=0)
            weight = tl.load(depth + at, mask=inside, other=0.0).to(tl.float32)
            row = (at // bins)[:, None] * channels + channel[None, :]
            value = tl.load(rows + row, mask=inside[:, None] & in_row[None, :], other=0.0)
            total += tl.sum(weight[:, None] * value.to(tl.float32), 0)
            first += points
        tl.store(out + cell * channels + channel, total, mask=in_row)

    return sum_cells
