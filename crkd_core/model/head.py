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
    """A shared convolution, one hidden convolution per branch, one output convolution per branch.

    All hidden convolutions read the same input and are computed as one. With
    ``joint_regression`` the five regression branches of a task share their hidden channels.
    """

    def __init__(self, inputs: int, config: HeadConfig):
        super().__init__()
        regression = tuple(REGRESSION)
        groups = (regression,) if config.joint_regression else tuple((r,) for r in regression)
        self.width = config.branch_channels
        self.tasks = [[*groups, ("heatmap",)] for _ in config.tasks]
        self.sizes = [{**REGRESSION, "heatmap": len(task.classes)} for task in config.tasks]
        branches = sum(len(task) for task in self.tasks)
        self.shared = conv_norm(inputs, config.shared_channels)
        self.hidden = conv_norm(
            config.shared_channels, branches * self.width, kernel=config.hidden_kernel
        )
        self.outputs = nn.ModuleList(
            nn.Conv2d(
                self.width,
                sum(sizes[name] for name in group),
                config.output_kernel,
                padding=config.output_kernel // 2,
            )
            for task, sizes in zip(self.tasks, self.sizes, strict=True)
            for group in task
        )
        for index, group in enumerate(group for task in self.tasks for group in task):
            if group == ("heatmap",):
                nn.init.constant_(self.outputs[index].bias, HEATMAP_BIAS)  # type: ignore[arg-type]

    def forward(self, decoded: Tensor) -> list[dict[str, Tensor]]:
        """[B, inputs, X, Y] -> per task raw maps reg height dim rot vel heatmap [B, c, X, Y]."""
        hidden = self.hidden(self.shared(decoded)).split(self.width, 1)
        branches = iter(zip(hidden, self.outputs, strict=True))
        outputs = []
        for task, sizes in zip(self.tasks, self.sizes, strict=True):
            maps: dict[str, Tensor] = {}
            for group in task:
                features, convolution = next(branches)
                parts = convolution(features).split([sizes[name] for name in group], 1)
                maps.update(zip(group, parts, strict=True))
            outputs.append(maps)
        return outputs


def stacked(maps: dict[str, Tensor]) -> Tensor:
    """The ten regression channels of a task in the order of REGRESSION. -> [B, 10, X, Y]."""
    return torch.cat([maps[name] for name in REGRESSION], 1)
