"""What all runs of an experiment have in common, as its folder keeps it."""

from __future__ import annotations

from dataclasses import dataclass, field

from crkd_core.experiments.plan import Unlabelled


class ExperimentError(RuntimeError):
    """An experiment that cannot go on."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What all runs of a folder have in common.

    Attributes:
        data: root of the data set.
        drives: part -> scenes, see drives.py.
        scale: factor of all steps.
        changes: KEY=VALUE for ``--set`` of every training.
        start_image: weights file whose image branch the first trainings start from; None = random.
        trained: run -> folder of a training elsewhere, or weights file, which stands for it.
        more: root of another data set, of drives without boxes; None = there is none.
        more_drives: its scenes.
        device: where everything is computed; of a call, not of the folder.
        readers: processes that read samples for each training that others wait for; likewise.
    """

    data: str
    drives: dict[str, tuple[str, ...]]
    scale: float = 1.0
    changes: tuple[str, ...] = ()
    start_image: str | None = None
    trained: dict[str, str] = field(default_factory=dict)
    more: str | None = None
    more_drives: tuple[str, ...] = ()
    device: str = "cpu"
    readers: int = 0

    def unlabelled(self, part: Unlabelled) -> tuple[str, tuple[str, ...]]:
        """Root and scenes of drives without boxes.

        Raises:
            ExperimentError: there are none.
        """
        if part == "rest":
            if not self.drives["rest"]:
                raise ExperimentError(
                    "this list has boxes on a quarter of the training drives and needs others "
                    f"beside them; there are {len(self.drives['train'])}: choose 2 or more"
                )
            return self.data, self.drives["rest"]
        if self.more is None:
            raise ExperimentError(
                "this list has runs that learn from drives without boxes; say with --more where "
                "they are, such as a world of another --seed"
            )
        return self.more, self.more_drives

    def scored(self, part: str) -> tuple[str, tuple[str, ...]]:
        """Root and scenes of what a run is evaluated on: drives of the data, or those of another.

        Raises:
            ExperimentError: there are none.
        """
        if part == "rest":
            return self.unlabelled("rest")
        if part == "more":
            return self.unlabelled("more")
        return self.data, self.drives[part]
