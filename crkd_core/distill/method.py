"""What all methods of distillation are: a teacher, losses by name, and adapters to train along.

A method is a class in a file of its own (crkd.py). Several may teach one student at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar, TypeAlias

from torch import Tensor, nn

from crkd_core.config import DetectorConfig, DistillConfig
from crkd_core.distill.adapt import check_fit, fitted
from crkd_core.distill.teacher import Teacher
from crkd_core.losses.targets import Targets
from crkd_core.model.output import ModelOutput
from crkd_core.train.batch import Taught

#: (student, teacher, targets) -> scalar. The teacher's answer is a constant on the student's grid.
#: A loss changes no tensor that it is given, so all of them see the same logits.
Loss: TypeAlias = Callable[[ModelOutput, ModelOutput, Targets], Tensor]


class Method(nn.Module):
    """A method of distillation. Its parameters, the adapters, are trained with the student.

    The teacher is an attribute and no module of it, so nothing trains or stores it by chance.

    Attributes:
        name: of its group of keys in TrainConfig.
        share: factor of all weights, at the step that is computed; see DistillConfig.ramp.
        teacher_reads: what each loss reads of the teacher; names of features, and of
            model.output.HEAD.
    """

    name: ClassVar[str]
    teacher_reads: ClassVar[Mapping[str, tuple[str, ...]]]

    def __init__(
        self, config: DistillConfig, *, student: DetectorConfig, teacher: Teacher
    ) -> None:
        """Compare a student with a teacher.

        Raises:
            AdaptError: the two networks cannot be compared.
        """
        super().__init__()
        check_fit(student=student, teacher=teacher.config)
        self.config, self.student, self.teacher = config, student, teacher
        self.share = 1.0

    @classmethod
    def reads(cls, config: DistillConfig) -> frozenset[str]:
        """What the chosen losses read of the teacher."""
        return frozenset(part for name in config.chosen for part in cls.teacher_reads[name])

    def verify(self) -> None:
        """Check that the teacher, and whatever else it learns from, is what was loaded.

        Raises:
            TeacherError: it is not.
        """
        self.teacher.verify()

    def losses(self) -> Mapping[str, Loss]:
        """All losses of the method by the names of its configuration."""
        raise NotImplementedError

    def forward(self, student: ModelOutput, seen: Taught, targets: Targets) -> dict[str, Tensor]:
        """The chosen losses of a batch, float32 scalars with their weights.

        Args:
            student: its answer to B samples.
            seen: the same samples as the teacher sees them, or what it is known to say.
            targets: of the same samples.

        Raises:
            LidarBranchError: a batch without the LiDAR that the teacher needs.
            TeacherError: the teacher's answer is not finite.
        """
        if not self.config.chosen:
            return {}
        return self.terms(student, self.teacher.answer(seen), targets)

    def terms(
        self, student: ModelOutput, teacher: ModelOutput, targets: Targets
    ) -> dict[str, Tensor]:
        """``forward`` with the teacher's answer, on the teacher's grid, at hand."""
        teacher = fitted(teacher, of=self.teacher.config.grid, to=self.student.grid)
        return {
            name: self.share * self.config.losses[name] * loss(student, teacher, targets)
            for name, loss in self.losses().items()
            if name in self.config.chosen
        }
