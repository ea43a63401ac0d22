"""How much every cell counts where IMKD compares features (docs/method.md 1.10).

Shapes: B batch, C channels, X Y grid cells.
"""

from __future__ import annotations

from torch import Tensor

from crkd_core.config import CellWeightConfig
from crkd_core.distill.responses import objectness, teacher_foreground
from crkd_core.losses.targets import Targets
from crkd_core.model.intensity import activation, unit_range
from crkd_core.model.output import ModelOutput

#: Parts of ModelOutput.lidar_returns by the intensity that they are.
RETURNS = {"reflectance": 0, "density": 1}


def cell_weights(
    config: CellWeightConfig, theirs: Tensor, teacher: ModelOutput, targets: Targets
) -> Tensor:
    """Intensity times cells, [B, X, Y] in 0 to 1.

    In samples without truth the teacher's objectness stands for the truth's Gaussians and rays,
    where it sees something; elsewhere a probability that is nowhere zero would make every cell of
    the background count.

    Args:
        config: what an intensity is, and which cells count.
        theirs: [B, C, X, Y] the teacher's features.
        teacher: its answers, with heatmaps where samples have no truth.
        targets: of the batch, with rays where ``config.cells`` is "rays".
    """
    if config.intensity == "activation":
        intensity = activation(theirs)
    elif config.intensity == "uniform":
        intensity = theirs.float().new_ones((len(theirs), *theirs.shape[2:]))
    else:
        returns = teacher.need("lidar_returns").float()
        intensity = unit_range(returns[:, RETURNS[config.intensity]])
    if config.cells == "all":
        return intensity
    if config.cells == "bright":
        return intensity * (intensity > intensity.mean((1, 2), keepdim=True))
    if config.cells == "rays":
        cells = targets.need("rays").float()
    else:
        cells = targets.heatmap.sum(1).clamp(max=1)
    if targets.labelled is not None and teacher.tasks and "heatmap" in teacher.tasks[0]:
        heatmaps = [maps["heatmap"] for maps in teacher.tasks]
        said = objectness(heatmaps, form="maximum")[:, 0] * teacher_foreground(heatmaps)
        cells = cells.where(targets.labelled[:, None, None], said)
    if config.cells == "support":
        cells = (cells > 0).float()
    return intensity * cells
