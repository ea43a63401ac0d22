"""A CenterHead whose outputs are one convolution, for a GPU: the same numbers.

Convolutions of a few channels each, one a branch, take longer to start than to compute, and read
slices that lie apart. Here their weights stand in the blocks of one matrix; the zeros between them
are multiplied, too, and cost less.

Shapes: B batch, C channels of all maps, X Y grid cells.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from crkd_core.model.head import CenterHead


class JoinedHead(nn.Module):
    """In the place of a folded CenterHead."""

    def __init__(self, head: CenterHead) -> None:
        super().__init__()
        self.shared, self.hidden = head.shared, head.hidden
        outputs = [cast(nn.Conv2d, layer) for layer in head.outputs]
        total = sum(layer.out_channels for layer in outputs)
        one = outputs[0]
        self.output = nn.Conv2d(
            head.width * len(outputs),
            total,
            one.kernel_size,  # type: ignore[arg-type]
            padding=one.padding,  # type: ignore[arg-type]
        ).requires_grad_(False)
        assert self.output.bias is not None
        self.output.weight.zero_()
        first = 0
        for index, layer in enumerate(outputs):
            last = first + layer.out_channels
            block = self.output.weight[first:last, index * head.width : (index + 1) * head.width]
            block.copy_(layer.weight)
            assert layer.bias is not None
            self.output.bias[first:last] = layer.bias
            first = last
        self._maps = [one for group in head.groups for one in group]
        self._tasks = head.task_count

    def forward(self, decoded: Tensor) -> list[dict[str, Tensor]]:
        """[B, inputs, X, Y] -> per task its raw maps [B, c, X, Y]."""
        maps = self.output(self.hidden(self.shared(decoded)))
        parts = maps.split([size for _, _, size in self._maps], 1)
        tasks: list[dict[str, Tensor]] = [{} for _ in range(self._tasks)]
        for part, (task, branch, _) in zip(parts, self._maps, strict=True):
            tasks[task][branch] = part
        return tasks
