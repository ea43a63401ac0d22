"""A head that computes boxes only at peaks: the same numbers with a fraction of the work.

Of a head whose branches have hidden channels of their own, as published, five sixths belong to box
parameters, of which decoding reads a few hundred cells. Heatmaps stay whole.

Shapes: C shared channels, X Y grid cells, K cells of one task in one sample, S side of the patch
of shared features that one output reads.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.model.head import REGRESSION, CenterHead


class BoxBranches(nn.Module):
    """What of a CenterHead computes box parameters, for a few cells."""

    def __init__(self, head: CenterHead) -> None:
        """Take a folded head, one of which ``PeakHead.of`` makes something."""
        super().__init__()
        self._width = head.width
        self.box_hidden = nn.ModuleList()
        self.box_outputs = nn.ModuleList()
        self._branches: list[list[list[tuple[str, int]]]] = []
        parts = _parts(head)
        for task in range(head.task_count):
            own = [p for p in parts if p[0][0][0] == task and p[0][0][1] != "heatmap"]
            self.box_hidden.append(_joined([layer for _, layer, _ in own]))
            self.box_outputs.append(nn.ModuleList(output for _, _, output in own))
            self._branches.append([[(name, size) for _, name, size in g] for g, _, _ in own])

    def at(
        self, tasks: Sequence[dict[str, Tensor]], sample: int, cells: Sequence[Tensor]
    ) -> Tensor:
        """The box parameters of every task at some cells.

        Args:
            tasks: maps as PeakHead made them.
            sample: index in the batch.
            cells: per task int64 [K], x * Y + y.

        Returns:
            [10, sum of K] in the order of REGRESSION, task after task.
        """
        hidden = cast(nn.Conv2d, self.box_hidden[0])
        shared = tasks[0]["shared"][sample].permute(1, 2, 0).to(hidden.weight.dtype)  # [X, Y, C]
        every = torch.cat(list(cells))
        if not len(every):
            return shared.new_zeros((sum(REGRESSION.values()), 0))
        output = cast(nn.Conv2d, cast(nn.ModuleList, self.box_outputs[0])[0])
        rim = hidden.kernel_size[0] // 2
        # Beyond the grid are zeros, of the shared features as of the hidden ones.
        patches, inside = _patches(shared, every, rim + output.kernel_size[0] // 2)
        last = inside.shape[-1] - rim
        inner = inside[..., rim:last, rim:last]
        sizes = [len(cell) for cell in cells]
        parts = zip(patches.split(sizes), inner.split(sizes), strict=True)
        return torch.cat([self._of(task, *part) for task, part in enumerate(parts)]).T

    def _of(self, task: int, patches: Tensor, inside: Tensor) -> Tensor:
        """[K, C, S, S] shared features around the cells of a task -> [K, 10]."""
        if not len(patches):
            return patches.new_zeros((0, sum(REGRESSION.values())))
        hidden = cast(nn.Conv2d, self.box_hidden[task])
        outputs = cast(nn.ModuleList, self.box_outputs[task])
        features = F.conv2d(patches, hidden.weight, hidden.bias).relu_()
        values: dict[str, Tensor] = {}
        split = (features * inside).split(self._width, 1)
        for part, output, branches in zip(split, outputs, self._branches[task], strict=True):
            layer = cast(nn.Conv2d, output)
            maps = F.conv2d(part, layer.weight, layer.bias).flatten(1)  # [K, c]
            sizes = [size for _, size in branches]
            values |= dict(zip((n for n, _ in branches), maps.split(sizes, 1), strict=True))
        return torch.cat([values[name] for name in REGRESSION], 1)


class PeakHead(nn.Module):
    """A folded CenterHead that answers heatmaps, and leaves box parameters to ``boxes``.

    Its maps are, per task, the heatmap as CenterHead has it, and "shared" [B, C, X, Y], which
    ``boxes`` reads.
    """

    def __init__(self, head: CenterHead) -> None:
        super().__init__()
        self.shared = head.shared
        heat = [part for part in _parts(head) if part[0][0][1] == "heatmap"]
        self._heat_tasks = [group[0][0] for group, _, _ in heat]
        hidden = _joined([layer for _, layer, _ in heat])
        self.heat_hidden = nn.Sequential(hidden, nn.ReLU(inplace=True))
        self.heat_outputs = nn.ModuleList(output for _, _, output in heat)
        self._width = head.width
        self.boxes = BoxBranches(head)

    @staticmethod
    def of(head: CenterHead) -> PeakHead | None:
        """The same head; None where heatmaps share hidden channels, or BatchNorm is not folded."""
        apart = all(
            len(group) == 1 or all(branch != "heatmap" for _, branch, _ in group)
            for group in head.groups
        )
        single = all(len({task for task, _, _ in group}) == 1 for group in head.groups)
        folded = isinstance(head.hidden[0], nn.Conv2d) and isinstance(head.hidden[1], nn.Identity)
        return PeakHead(head) if apart and single and folded else None

    def forward(self, decoded: Tensor) -> list[dict[str, Tensor]]:
        """[B, inputs, X, Y] -> per task heatmap [B, n, X, Y] and shared [B, C, X, Y]."""
        shared = self.shared(decoded)
        hidden = self.heat_hidden(shared).split(self._width, 1)
        maps: list[dict[str, Tensor]] = [{"shared": shared} for _ in self._heat_tasks]
        for task, features, output in zip(
            self._heat_tasks, hidden, self.heat_outputs, strict=True
        ):
            maps[task]["heatmap"] = output(features)
        return maps


def _parts(head: CenterHead) -> list[tuple[list[tuple[int, str, int]], nn.Conv2d, nn.Module]]:
    """Of every output convolution its maps, its hidden convolution, and itself."""
    hidden = _split(cast(nn.Conv2d, head.hidden[0]), head.width)
    return list(zip(head.groups, hidden, head.outputs, strict=True))


def _split(layer: nn.Conv2d, width: int) -> list[nn.Conv2d]:
    """A convolution as one for each ``width`` of its outputs."""
    layers = []
    for first in range(0, layer.out_channels, width):
        part = nn.Conv2d(layer.in_channels, width, layer.kernel_size, padding=layer.padding)  # type: ignore[arg-type]
        part.weight.data = layer.weight.data[first : first + width].clone()
        assert layer.bias is not None and part.bias is not None
        part.bias.data = layer.bias.data[first : first + width].clone()
        layers.append(part)
    return layers


def _joined(layers: list[nn.Conv2d]) -> nn.Conv2d:
    """The inverse of ``_split``."""
    one, width = layers[0], sum(layer.out_channels for layer in layers)
    joined = nn.Conv2d(one.in_channels, width, one.kernel_size, padding=one.padding)  # type: ignore[arg-type]
    joined.weight.data = torch.cat([layer.weight.data for layer in layers])
    assert joined.bias is not None
    joined.bias.data = torch.cat([cast(Tensor, layer.bias).data for layer in layers])
    return joined


def _patches(maps: Tensor, cell: Tensor, reach: int) -> tuple[Tensor, Tensor]:
    """[K, C, S, S] squares of maps [X, Y, C] around cells, and [K, 1, S, S] 1 inside the grid."""
    size_x, size_y = maps.shape[:2]
    steps = torch.arange(-reach, reach + 1, device=cell.device)
    x, y = (cell // size_y)[:, None] + steps, (cell % size_y)[:, None] + steps
    inside_x, inside_y = (x >= 0) & (x < size_x), (y >= 0) & (y < size_y)
    inside = (inside_x[:, :, None] & inside_y[:, None])[:, None].to(maps.dtype)
    x, y = x.clamp(0, size_x - 1), y.clamp(0, size_y - 1)
    # index_select copies whole rows, a fraction of the time of indexing.
    place = (x[:, :, None] * size_y + y[:, None]).flatten()
    rows = maps.reshape(size_x * size_y, -1).index_select(0, place)
    patch = rows.view(*inside.shape[:1], *inside.shape[2:], -1).permute(0, 3, 1, 2)
    return patch.mul_(inside), inside
