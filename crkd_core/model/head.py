"""CenterHead: per task a heatmap of box centres and the box parameters at each cell.

docs/method.md 1.6. Shapes: B batch, C channels, X Y grid cells, T tasks, n classes of a task.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from crkd_core.config import HeadConfig
from crkd_core.model.layers import conv_norm

#: Regression branches and their channels, in the order of HeadConfig.code_weights: offset of the
#: centre inside its cell (cells), z of the centre (m), log of length width height (log m), sine
#: and cosine of yaw, velocity (m/s).
REGRESSION = {"reg": 2, "height": 1, "dim": 3, "rot": 2, "vel": 2}

#: Logit of the share of positives a fresh heatmap should claim, 0.1 (RetinaNet).
HEATMAP_BIAS = -2.19


class CenterHead(nn.Module):
    """A shared convolution, hidden convolutions, and output convolutions to the maps of all tasks.

    All hidden convolutions read the same input and are computed as one. Branches that share their
    hidden channels share an output convolution: a branch each, the heatmap and the regression of a
    task, or all of them (HeadConfig.hidden).
    """

    def __init__(self, inputs: int, config: HeadConfig):
        super().__init__()
        self.width = config.branch_channels
        #: (task, branch, channels) of every map, in the order of the output convolutions.
        self.groups = _groups(config)
        self.shared = conv_norm(inputs, config.shared_channels)
        self.hidden = conv_norm(
            config.shared_channels, len(self.groups) * self.width, kernel=config.hidden_kernel
        )
        self.outputs = nn.ModuleList(
            nn.Conv2d(
                self.width,
                sum(size for _, _, size in group),
                config.output_kernel,
                padding=config.output_kernel // 2,
            )
            for group in self.groups
        )
        self.task_count = len(config.tasks)
        for output, group in zip(self.outputs, self.groups, strict=True):
            first = 0
            for _, branch, size in group:
                if branch == "heatmap":
                    nn.init.constant_(output.bias[first : first + size], HEATMAP_BIAS)  # type: ignore[index]
                first += size

    def forward(self, decoded: Tensor) -> list[dict[str, Tensor]]:
        """[B, inputs, X, Y] -> per task raw maps reg height dim rot vel heatmap [B, c, X, Y]."""
        hidden = self.hidden(self.shared(decoded)).split(self.width, 1)
        tasks: list[dict[str, Tensor]] = [{} for _ in range(self.task_count)]
        for features, output, group in zip(hidden, self.outputs, self.groups, strict=True):
            maps = output(features).split([size for _, _, size in group], 1)
            for part, (task, branch, _) in zip(maps, group, strict=True):
                tasks[task][branch] = part
        return tasks


def _groups(config: HeadConfig) -> list[list[tuple[int, str, int]]]:
    """Per output convolution the (task, branch, channels) of its maps."""
    tasks = [
        [(index, branch, size) for branch, size in REGRESSION.items()]
        + [(index, "heatmap", len(task.classes))]
        for index, task in enumerate(config.tasks)
    ]
    if config.hidden == "head":
        return [[one for task in tasks for one in task]]
    if config.hidden == "task":
        return [group for task in tasks for group in (task[:-1], task[-1:])]
    return [[one] for task in tasks for one in task]


def stacked(maps: dict[str, Tensor]) -> Tensor:
    """The ten regression channels of a task in the order of REGRESSION. -> [B, 10, X, Y]."""
    return torch.cat([maps[name] for name in REGRESSION], 1)
