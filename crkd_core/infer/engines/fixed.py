"""A detector's network in fixed shapes: one sample, no branch on data, operators that ONNX has.

The same weights and the same function as BevDetector in evaluation mode; a test compares them.
Pooling scatters sums and maxima where PyTorch runs embedding bags and unique pillars
(docs/decisions/0008). Shapes: see inputs.py.
"""

from __future__ import annotations

from typing import cast

import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.infer.engines.inputs import Capacity, FixedInputs
from crkd_core.infer.fold import fold_batch_norms
from crkd_core.infer.peaks import BoxBranches, PeakHead
from crkd_core.model.detector import BevDetector
from crkd_core.model.output import ModelOutput


class FixedNetwork(nn.Module):
    """Inputs by position, in the order of ``FixedInputs``, to outputs in that of ``names``."""

    def __init__(
        self, model: BevDetector, capacity: Capacity, *, whole_head: bool = False
    ) -> None:
        """Take a folded copy of ``model``.

        Args:
            model: in either mode.
            capacity: how much it holds.
            whole_head: answer box parameters of every cell, also where these may be computed at
                the peaks alone.

        Raises:
            EngineError: see ``inputs.refuse``.
        """
        super().__init__()
        #: What makes its inputs.
        self.inputs = FixedInputs(model.config, capacity)
        training = model.training
        self.model = fold_batch_norms(model.eval()).float().cpu().requires_grad_(False)
        model.train(training)
        #: Computes box parameters of what ``answers`` calls "shared"; None: they are answered.
        self.boxes: BoxBranches | None = None
        peaks = None if whole_head else PeakHead.of(self.model.head)
        if peaks is not None:
            self.boxes = peaks.boxes
            self.model.head = peaks  # type: ignore[assignment]
        # Only a training reads it.
        if not model.calibrated:
            self.model.calibration = None

    def forward(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """See FixedInputs -> raw maps of all tasks [1, c, X, Y], then what ``answers`` adds."""
        return tuple(self.answers(*tensors).values())

    def answers(self, *tensors: Tensor) -> dict[str, Tensor]:
        """The same by name: "task0.reg" and so on; "instant", "segments" of networks with them.

        "instant" is [1, X, Y, C], and so is "shared", which ``boxes`` reads: of a parted head
        there are heatmaps and this alone.
        """
        model, given = self.model, list(tensors)
        maps = []
        if model.image is not None:
            maps.append(self._lifted(model.image.features(given.pop(0)), given))
        if model.radar is not None:
            radar = self._pillars(given.pop(0), given.pop(0))
            maps.append(radar if model.calibration is None else model.calibration(radar)[0])
        factors: list[Tensor] = []
        if model.guide is not None:
            returns = None if model.guide.intensity == "uniform" else given.pop(0)
            factors = model.guide.told(maps[0], maps[1], returns)
        _, fused = model.fuser(maps, factors)
        beside = {}
        if model.temporal is not None:
            beside["instant"] = cells_first(fused)
            fused = model.temporal.joined(fused, channels_first(given.pop(0)))
        decoded = model.decoder(fused)
        if model.segments is not None:
            beside["segments"] = model.segments(decoded)
        tasks = model.head(decoded)
        if self.boxes is not None:
            beside["shared"] = cells_first(tasks[0]["shared"])
            tasks = [{"heatmap": task["heatmap"]} for task in tasks]
        return {
            f"task{i}.{k}": v for i, task in enumerate(tasks) for k, v in task.items()
        } | beside

    def _lifted(self, features: Tensor, given: list[Tensor]) -> Tensor:
        """Image features [S, c, h, w] -> summed over cells, [1, C, X, Y]; takes its inputs."""
        lift, cell = self.model.lift, given.pop(0)
        assert lift is not None
        logits, context = lift.depth_context(features).split([lift.bins, lift.context], 1)
        depth = logits.permute(0, 2, 3, 1).softmax(-1)
        rows = context.permute(0, 2, 3, 1)
        lifted = (depth[..., None] * rows[..., None, :]).reshape(-1, lift.context)
        cells = lifted.new_zeros((self.inputs.cells + 1, lift.context))
        # Row by row: a scatter over elements wants an index for each of them.
        cells = cells.index_put((cell,), lifted, accumulate=True)
        return self._as_map(cells)

    def _pillars(self, points: Tensor, cell: Tensor) -> Tensor:
        """Radar rows [M, 47] -> maxima over pillars, [1, C, X, Y]."""
        radar = self.model.radar
        assert radar is not None
        size = (self.inputs.cells + 1, radar.channels)
        points = points.to(next(radar.parameters()).dtype)
        if radar.points_per_pillar is None:
            features = radar.layers(points)
            start = features.new_zeros(size)
        else:
            # As the released weights need it, an empty slot takes part where a pillar is not full.
            every = radar.layers(F.pad(points, (0, 0, 0, 1)))
            features, empty = every[:-1], every[-1:]
            count = points.new_zeros(size[:1]).scatter_add(0, cell, points.new_ones(len(points)))
            partly = (count > 0) & (count < radar.points_per_pillar)
            start = partly[:, None].to(empty) * empty
        where = cell[:, None].expand(-1, radar.channels)
        return self._as_map(start.scatter_reduce(0, where, features, "amax"))

    def _as_map(self, cells: Tensor) -> Tensor:
        """[X Y + 1, C], the last row masked -> [1, C, X, Y]."""
        x, y = self.inputs.config.grid.shape
        return cells[:-1].view(1, x, y, -1).permute(0, 3, 1, 2)


def as_output(answers: dict[str, Tensor]) -> ModelOutput:
    """The answers of a network of fixed shapes; of ``fused`` there is no channel."""
    first = next(iter(answers.values()))
    if "instant" in answers:
        answers = {**answers, "instant": channels_first(answers["instant"])}
    output = ModelOutput.of(cast(dict[str, Tensor], {"fused": first[:, :0], **answers}))
    if "shared" in answers:
        for task in output.tasks:
            task["shared"] = channels_first(answers["shared"])
    return output


def cells_first(maps: Tensor) -> Tensor:
    """[..., C, X, Y] -> [..., X, Y, C]: so CPUs have maps anyway, and nothing is reordered."""
    return maps.movedim(-3, -1)


def channels_first(maps: Tensor) -> Tensor:
    """The inverse of ``cells_first``."""
    return maps.movedim(-1, -3)
