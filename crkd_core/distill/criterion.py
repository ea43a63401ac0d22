"""What a distillation minimises: the loss of a plain training, and what the teacher adds."""

from __future__ import annotations

from torch import Tensor

from crkd_core.config import TrainConfig
from crkd_core.distill.crkd import CrkdLoss
from crkd_core.distill.teacher import Teacher
from crkd_core.model.output import ModelOutput
from crkd_core.train.batch import TrainingBatch
from crkd_core.train.objective import TrainingLoss


class DistillationLoss(TrainingLoss):
    """Detection loss, depth loss where asked for, and the chosen losses of CRKD.

    Its parameters are the adapters. The teacher is an attribute and no part of it.
    """

    def __init__(self, config: TrainConfig, teacher: Teacher) -> None:
        """Compare the student of ``config`` with ``teacher``.

        Raises:
            AdaptError: the two networks cannot be compared.
        """
        super().__init__(config)
        assert config.distill is not None
        self.teacher = teacher
        self.crkd = CrkdLoss(config.distill, student=config.detector, teacher=teacher.config)

    def forward(self, output: ModelOutput, batch: TrainingBatch) -> dict[str, Tensor]:
        """Weighted terms; "total" is their sum.

        Raises:
            LidarError: a batch without the LiDAR that the teacher needs.
            CrkdError: a student that lacks what a loss reads.
        """
        losses = super().forward(output, batch)
        if not self.crkd.config.losses:
            return losses
        (seen,) = batch.taught
        terms = self.crkd(output, self.teacher(seen), batch.targets)
        return {**losses, **terms, "total": sum(terms.values(), losses["total"])}

    def check(self) -> None:
        """The teacher must be what it was.

        Raises:
            TeacherError: it is not.
        """
        self.teacher.verify()
