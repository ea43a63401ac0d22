"""Labels as features: boxes drawn on the grid, and a network that encodes them for a teacher.

docs/method.md 1.10, after LabelDistill (Kim et al. 2024): an approximate inverse of a frozen
teacher's decoder and head, trained through these with the ordinary detection loss. Ours: boxes are
described by offset, logarithms of sides, sine and cosine, as the head describes them; there is one
level, what enters the teacher's decoder, where LabelDistill has two.

Shapes: B samples, M boxes of a sample, K classes, C channels, X Y cells of the teacher's grid.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from crkd_core.config import DetectorConfig
from crkd_core.losses.targets import CODE, Targets
from crkd_core.model.layers import BasicBlock

#: A box fills the rectangle of half its sides around its centre, as in LabelDistill.
SHRUNKEN = 0.5


class LabelEncoder(nn.Module):
    """Per cell two small networks for box and class, one for both, then two convolutions."""

    def __init__(self, teacher: DetectorConfig, *, width: int = 64) -> None:
        """For a teacher of this configuration.

        Args:
            teacher: the teacher's.
            width: channels inside; LabelDistill has 256.
        """
        super().__init__()
        self.config, self.width = teacher, width
        self.box = _per_cell(len(CODE), width)
        self.label = _per_cell(len(teacher.classes), width)
        self.joint = nn.Conv2d(width, width, 1)
        self.norm = nn.LayerNorm(width)
        self.block = BasicBlock(width, width)
        self.out = nn.Sequential(
            nn.Conv2d(width, teacher.fused_channels, 3, padding=1, padding_mode="replicate"),
            nn.ReLU(),
        )

    def forward(self, targets: Targets, classes: Sequence[str] = ()) -> Tensor:
        """What would enter the teacher's decoder if it saw these boxes. -> [B, C, X, Y].

        Args:
            targets: see ``label_maps``, as is ``classes``.
            classes: those of the detector that they were made for; () = the teacher's.
        """
        box, label = label_maps(targets, self.config, classes)
        cells = self.joint(self.box(box) + self.label(label)).permute(0, 2, 3, 1)
        return self.out(self.block(self.norm(cells).permute(0, 3, 1, 2)))


def label_maps(
    targets: Targets, config: DetectorConfig, classes: Sequence[str] = ()
) -> tuple[Tensor, Tensor]:
    """Boxes drawn on the grid: their numbers [B, 10, X, Y], and their classes [B, K, X, Y].

    A cell inside the shrunken rectangle of a box, or at its centre, holds the box's numbers as in
    ``losses.targets.CODE``, the offset in cells from this very cell, unknown velocities as 0; of
    several boxes the nearest counts. Elsewhere all is 0.

    Args:
        targets: of B samples on the grid of ``config``, of whatever tasks.
        config: the teacher's; K are its classes.
        classes: what the labels of ``targets`` index, all of them known to ``config``; () = K.
    """
    device = targets.heatmap.device
    size_x, size_y = config.grid.shape
    count = len(targets.heatmap)
    boxes = torch.zeros((count, len(CODE), size_x, size_y), device=device)
    labels = torch.zeros((count, len(config.classes), size_x, size_y), device=device)
    names = [config.classes.index(name) for name in classes or config.classes]
    label = torch.tensor(names, device=device)[targets.label]
    code, sample, cell = targets.code.nan_to_num(), targets.sample, targets.cell
    x = torch.arange(size_x, device=device)
    y = torch.arange(size_y, device=device)
    for index in range(count):
        own = (sample == index).nonzero()[:, 0]
        if not len(own):
            continue
        c = code[own]
        at = torch.stack([cell[own] // size_y, cell[own] % size_y], 1)
        center = at + c[:, :2]
        dx = (x + 0.5 - center[:, :1])[:, :, None].expand(-1, -1, size_y)
        dy = (y + 0.5 - center[:, 1:2])[:, None, :].expand(-1, size_x, -1)
        sin, cos = c[:, 6, None, None], c[:, 7, None, None]
        half = SHRUNKEN * c[:, 3:5].exp() / config.grid.cell / 2
        inside = (cos * dx + sin * dy).abs() <= half[:, 0, None, None]
        inside &= (cos * dy - sin * dx).abs() <= half[:, 1, None, None]
        rows = torch.arange(len(own), device=device)
        inside[rows, at[:, 0], at[:, 1]] = True
        far = (dx**2 + dy**2).masked_fill(~inside, torch.inf)
        # At its own cell a box is the nearest, whatever lies closer to the middle of that cell.
        far[rows, at[:, 0], at[:, 1]] = -1.0
        nearest, box = far.min(0)
        i, j = (nearest < torch.inf).nonzero(as_tuple=True)
        box = box[i, j]
        values = c[box].clone()
        values[:, 0] = center[box, 0] - i
        values[:, 1] = center[box, 1] - j
        boxes[index][:, i, j] = values.T
        labels[index][label[own][box], i, j] = 1.0
    return boxes, labels


def _per_cell(inputs: int, width: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, width, 1), nn.ReLU(), nn.Conv2d(width, width, 1))
