"""What the second head learns: vehicle cells from boxes, drivable cells from the map.

docs/method.md 1.11. Shapes: B batch, S classes, X Y grid cells.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from crkd_core.area import Area
from crkd_core.boxes import Truth
from crkd_core.config import DRIVABLE, VEHICLE, DetectorConfig
from crkd_core.losses.normalise import per_process, process_count
from crkd_core.losses.targets import TargetError, Targets
from crkd_core.model.output import ModelOutput

#: In targets: no, yes, and nobody knows.
NO, YES, UNKNOWN = 0, 1, 255


def segment_truth(
    truth: Truth | None, drivable: Area | None, config: DetectorConfig
) -> NDArray[np.uint8]:
    """What the second head should say of one sample, [S, X, Y] of NO, YES, UNKNOWN.

    A cell is of a class if its centre is. Vehicles are the boxes that a LiDAR or radar return fell
    into, as for detection (the published ones are all boxes; a hidden one cannot be learned).

    Args:
        truth: boxes in the grid frame, of any classes; None = unknown.
        drivable: where vehicles may drive, in the grid frame; None = unknown.
        config: a detector's with a second head.
    """
    areas: dict[str, Area | None] = {VEHICLE: None, DRIVABLE: drivable}
    if truth is not None:
        named = [name for name in config.vehicles if name in truth.classes]
        boxes = truth.select(truth.counts)
        areas[VEHICLE] = Area.of_boxes(boxes.of_classes(named))
    maps = []
    for name in config.segment_classes:
        area = areas[name]
        if area is None:
            maps.append(np.full(config.grid.shape, UNKNOWN, np.uint8))
        else:
            maps.append(area.cells(config.grid).astype(np.uint8))
    return np.stack(maps)


def segment_targets(
    truths: Sequence[Truth | None], drivable: Sequence[Area | None], config: DetectorConfig
) -> Tensor:
    """``segment_truth`` of B samples, uint8 [B, S, X, Y].

    Args:
        truths: in the grid frame.
        drivable: in the grid frame; () = of no sample.
        config: a detector's with a second head.

    Raises:
        TargetError: a sample with boxes and without a map, where the drivable area is learned.
    """
    areas = drivable or (None,) * len(truths)
    for index, (truth, area) in enumerate(zip(truths, areas, strict=True)):
        if DRIVABLE in config.segment_classes and truth is not None and area is None:
            raise TargetError(
                f"sample {index} of the batch says nothing of the drivable area, and "
                f"{config.name} learns it; take Frames of a data set with maps, or "
                "--set 'detector.segments.classes=[vehicle]'"
            )
    maps = [segment_truth(*pair, config) for pair in zip(truths, areas, strict=True)]
    return torch.from_numpy(np.stack(maps))


class SegmentLoss(nn.Module):
    """Focal loss of every cell and class (Lin et al. 2017, without alpha), a mean over all.

    Focal and not plain, as in BEVFusion (Liu et al. 2023): few cells are hard. A probability of
    one half keeps its meaning, because without alpha the loss is symmetric.
    """

    def __init__(self, config: DetectorConfig):
        super().__init__()
        assert config.segments is not None
        self.weight, self.gamma = config.segments.weight, config.segments.gamma

    def forward(self, output: ModelOutput, targets: Targets) -> Tensor:
        """A scalar, weighted; the mean over known cells, and 0 where there is none.

        With several processes the mean of their answers is that over the cells of all of them.

        Raises:
            MissingFeatureError: a network without a second head.
            TargetError: targets without segments.
        """
        logits = output.need("segments").float()
        target = targets.need("segments")
        known = target != UNKNOWN
        label = (target == YES).float()
        entropy = F.binary_cross_entropy_with_logits(logits, label, reduction="none")
        # Probability of what is wrong.
        wrong = torch.sigmoid(torch.where(label > 0, -logits, logits))
        loss = (entropy * wrong**self.gamma * known).sum()
        return self.weight * loss / per_process(known.sum()).clamp(min=1 / process_count())
