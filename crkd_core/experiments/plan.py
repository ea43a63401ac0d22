"""What a run of an experiment is, and which runs it needs before it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Literal


class PlanError(ValueError):
    """A list of runs that cannot be carried out, or a name that is not in it."""


#: Which training drives a run has boxes of: all, or only a quarter.
Drives = Literal["train", "few"]

#: Drives without boxes: the training drives that are not "few", or those of another data set.
Unlabelled = Literal["rest", "more"]


@dataclass(frozen=True, kw_only=True)
class RunSpec:
    """One training. Paths are those of the experiment's folder, made by commands.py.

    Attributes:
        arm: what is compared; its runs differ in nothing but the seed.
        what: the same in words, for tables.
        seed: of order, augmentation and fresh weights; runs of one seed see the same samples. 0 is
            that of arms with a single run.
        steps, warmup: of the schedule, before the experiment's scale.
        preset: of a plain training.
        start: name of the run whose weights it starts from; None = random.
        teacher: name of the run that teaches it; None = nobody does.
        options: further words for `crkd train` or `crkd distill`.
        changes: KEY=VALUE for ``--set``.
        drives: those with boxes.
        unlabelled: drives on which it learns from the teacher alone; None = none.
        learns_pseudo_labels: there it learns the teacher's boxes as if somebody had drawn them,
            in a plain training.
        is_measured: its teacher is compared with its start on the validation drives first, and
            teaches only what it knows better.
        needs_label_encoder: it waits for an encoder of labels, which is trained for its teacher.
        plain, self_taught: arms that its runs are compared with, seed by seed: the same without a
            teacher, and the same with its own start as teacher.
    """

    arm: str
    what: str
    seed: int = 0
    steps: int
    warmup: int
    preset: str = "demo_student"
    start: str | None = None
    teacher: str | None = None
    options: tuple[str, ...] = ()
    changes: tuple[str, ...] = ()
    drives: Drives = "train"
    unlabelled: Unlabelled | None = None
    learns_pseudo_labels: bool = False
    is_measured: bool = False
    needs_label_encoder: bool = False
    plain: str | None = None
    self_taught: str | None = None

    def __post_init__(self) -> None:
        if self.teacher is not None and self.start is None:
            raise PlanError(f"{self.name}: a distilled student needs a run to start from")
        if self.unlabelled and self.teacher is None:
            raise PlanError(f"{self.name}: drives without boxes need a teacher")
        if self.learns_pseudo_labels and not self.unlabelled:
            raise PlanError(f"{self.name}: pseudo-labels need drives without boxes")

    @property
    def name(self) -> str:
        """Of the run, unique in a list."""
        return f"{self.arm}-{self.seed}" if self.seed else self.arm

    @property
    def is_distilled(self) -> bool:
        """Whether `crkd distill` trains it; else `crkd train` does."""
        return self.teacher is not None and not self.learns_pseudo_labels

    @property
    def parents(self) -> tuple[str, ...]:
        """Names of the runs that must be trained before."""
        found = (name for name in (self.start, self.teacher) if name is not None)
        return tuple(dict.fromkeys(found))


def in_order(runs: Sequence[RunSpec], only: Collection[str] = ()) -> list[RunSpec]:
    """The runs, parents first, otherwise in their order.

    Args:
        runs: a list; a run may stand in it twice, if it is the same.
        only: names of runs or arms; these and what they need. Empty = all.

    Raises:
        PlanError: a name that is not in the list, a parent that is not, two different runs of one
            name, or runs that wait for each other.
    """
    named: dict[str, RunSpec] = {}
    for run in runs:
        if named.setdefault(run.name, run) != run:
            raise PlanError(f"{run.name}: two different runs have this name")
    wanted = [run for run in named.values() if not only or {run.name, run.arm} & {*only}]
    known = {*named, *(run.arm for run in runs)}
    if unknown := [name for name in only if name not in known]:
        arms = ", ".join(dict.fromkeys(run.arm for run in runs))
        raise PlanError(f"no run {', '.join(unknown)} in this list; it has {arms}")
    ordered: dict[str, RunSpec] = {}

    def add(run: RunSpec, above: tuple[str, ...]) -> None:
        if run.name in above:
            raise PlanError(f"{' needs '.join((*above, run.name))}: a circle")
        for parent in run.parents:
            if parent not in named:
                raise PlanError(f"{run.name} needs {parent}, which is not in the list")
            add(named[parent], (*above, run.name))
        ordered[run.name] = run

    for run in wanted:
        add(run, ())
    return list(ordered.values())


def label_encoded(specs: Sequence[RunSpec]) -> set[str]:
    """The teachers for which an encoder of labels must be trained: one of the runs needs it."""
    return {spec.teacher for spec in specs if spec.needs_label_encoder and spec.teacher}


def labelled_parts(specs: Sequence[RunSpec]) -> dict[str, list[str]]:
    """Teacher -> the drives without boxes of which others learn its boxes."""
    parts: dict[str, list[str]] = {}
    for spec in specs:
        if spec.learns_pseudo_labels and spec.teacher and spec.unlabelled:
            known = parts.setdefault(spec.teacher, [])
            known += [spec.unlabelled] if spec.unlabelled not in known else []
    return parts
