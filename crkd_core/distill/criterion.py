"""What a distillation minimises: the loss of a plain training, and what the teachers add."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from crkd_core.config import TrainConfig
from crkd_core.distill.method import Method
from crkd_core.model.output import ModelOutput
from crkd_core.train.batch import TrainingBatch
from crkd_core.train.objective import TrainingLoss


class DistillationLoss(TrainingLoss):
    """Detection loss, depth loss where asked for, and the losses of every method.

    Its parameters are the adapters of the methods.
    """

    def __init__(self, config: TrainConfig, methods: Sequence[Method]) -> None:
        """The loss of the student of ``config``; ``methods`` as in ``config.distillations``."""
        super().__init__(config)
        self.methods = nn.ModuleDict({method.name: method for method in methods})

    def forward(self, output: ModelOutput, batch: TrainingBatch) -> dict[str, Tensor]:
        """Weighted terms; "total" is their sum.

        Raises:
            LidarBranchError: a batch without the LiDAR that a teacher needs.
            TeacherError: a teacher's answer is not finite.
            MissingFeatureError: a student that lacks what a loss reads.
        """
        losses = super().forward(output, batch)
        for method, seen in zip(self.methods.values(), batch.taught, strict=True):
            terms = method(output, seen, batch.targets)
            total = sum(terms.values(), losses["total"])
            losses = {**losses, **terms, "total": total}
        return losses

    def begin(self, step: int) -> None:
        """The step that comes next, counted from 1: the methods' ramps follow it."""
        super().begin(step)
        for method in self.methods.values():
            assert isinstance(method, Method)
            method.share = method.config.ramp(step)

    def check(self) -> None:
        """The teachers must be what they were.

        Raises:
            TeacherError: one is not.
        """
        for method in self.methods.values():
            assert isinstance(method, Method)
            method.verify()
