"""What a call of an experiment says, beside what its folder was set up with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.distill.held_out import HeldOut, ProtocolError, check_apart
from crkd_core.distill.origins import check_origins
from crkd_core.experiments.changes import check_changes
from crkd_core.experiments.drives import share_out
from crkd_core.experiments.folder import Folder, check_ended
from crkd_core.experiments.plan import RunSpec
from crkd_core.experiments.settings import ExperimentError, Settings
from crkd_core.infer.detector import usable_device

#: Largest factor of all steps: beyond it lies a slip, and years.
_LONGEST = 1e6


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a call says. None = as the folder was set up; in a new one, the default of Settings.

    Attributes:
        data: root of the data set; a new folder needs it.
        drives: see drives.share_out, which has the default of a new folder.
        scale: factor of all steps.
        changes: KEY=VALUE for ``--set`` of every training.
        start_image: weights file whose image branch the trainings that start from no other run
            start from.
        trained: run -> folder of a training elsewhere, or weights file, that stands for it.
        more: root of another data set, for the lists that learn from drives without boxes.
        device: where everything is computed, in this call.
        readers: processes that read for each training that others wait for, in this call.
    """

    data: Path | None = None
    drives: str | None = None
    scale: float | None = None
    changes: Sequence[str] | None = None
    start_image: Path | None = None
    trained: Mapping[str, Path] | None = None
    more: Path | None = None
    device: str = Settings.device
    readers: int = Settings.readers

    def settled(self, folder: Folder, specs: Sequence[RunSpec]) -> Settings:
        """The folder's settings, which the first call makes and no later one changes.

        Args:
            folder: of the experiment.
            specs: runs of this call, parents first.

        Raises:
            ExperimentError: no data, other settings than the folder's, no usable scale, weights or
                a training that are not there, a change of what a list decides, drives without
                boxes that are not there, or scored drives that are learned.
            ConfigError: a change that one of the runs would not take.
            DrivesError, NuScenesError: drives that cannot be had.
        """
        known = folder.settings()
        # What is kept holds for every run of the folder, so a slip must not get that far.
        self._check(known, specs)
        if known is None and self.data is None:
            raise ExperimentError(f"{folder.path} holds no experiment yet: say --data")
        said = self._said(known)
        settings = Settings(**said) if known is None else dataclasses.replace(known, **said)
        for spec in specs:
            if spec.unlabelled is not None and spec.name not in settings.trained:
                settings.unlabelled(spec.unlabelled)  # Refuses drives that there are none of.
        check_unseen(settings)
        if self.more is not None or any(spec.unlabelled == "more" for spec in specs):
            check_more(settings)
        folder.set_up(settings)
        return settings

    def _check(self, known: Settings | None, specs: Sequence[RunSpec]) -> None:
        """Refuse a device, a scale, files and changes that the runs could not use."""
        usable_device(self.device)
        if self.scale is not None and not 0 <= self.scale <= _LONGEST:
            raise ExperimentError(
                f"--scale {self.scale:g}: expected a factor of all steps from 0 to {_LONGEST:g}; "
                "such as 0.1 for a tenth of them"
            )
        if self.start_image is not None and not self.start_image.is_file():
            raise ExperimentError(
                f"--start-image: there is no file {self.start_image}; give a weights file"
            )
        for name, source in (self.trained or {}).items():
            check_ended(name, source)
        if self.changes is not None:
            trained = self.trained
            if trained is None:
                trained = {k: Path(v) for k, v in known.trained.items()} if known else {}
            check_changes(self.changes, specs, trained)

    def _said(self, known: Settings | None) -> dict[str, Any]:
        """The settings that this call names, as Settings keeps them."""
        said: dict[str, Any] = {"device": self.device, "readers": self.readers}
        if self.scale is not None:
            said["scale"] = self.scale
        root = None if known is None else known.data
        if self.data is not None:
            said["data"] = root = str(self.data.resolve())
        if root is not None and (known is None or self.drives is not None):
            said["drives"] = dict(share_out(NuScenes(root), self.drives))
        if self.changes is not None:
            said["changes"] = tuple(self.changes)
        if self.start_image is not None:
            said["start_image"] = str(self.start_image.resolve())
        if self.trained is not None:
            said["trained"] = {k: str(path.resolve()) for k, path in self.trained.items()}
        if self.more is not None:
            more = self.more.resolve()
            said |= {"more": str(more), "more_drives": tuple(NuScenes(more).scenes)}
        return said


def check_unseen(settings: Settings) -> None:
    """Refuse trainings from elsewhere that know drives which the experiment scores on.

    What a weights file was trained on, or a folder whose data set is gone, nobody can tell.

    Raises:
        ExperimentError: validation or test drives are among those of its run folder.
        NuScenesError: the data set cannot be used.
    """
    sources = {f"--trained {name}={source}": source for name, source in settings.trained.items()}
    if settings.start_image is not None:
        sources[f"--start-image {settings.start_image}"] = settings.start_image
    for option, source in sources.items():
        for part, drives in _scored(settings):
            try:
                check_origins(drives, [source])
            except ProtocolError as error:
                raise ExperimentError(
                    f"{option}: this experiment's {part} drives are known to it: {error}"
                ) from error


def check_more(settings: Settings) -> None:
    """Refuse drives without boxes that the experiment scores on.

    Raises:
        ExperimentError: validation or test drives are among them.
        NuScenesError: one of the data sets cannot be used.
    """
    if settings.more is None:
        return
    more = HeldOut(data=Path(settings.more), split=",".join(settings.more_drives))
    for part, drives in _scored(settings):
        try:
            check_apart(drives, more)
        except ProtocolError as error:
            raise ExperimentError(
                f"--more {settings.more}: holds {part} drives of this experiment: {error}"
            ) from error


def _scored(settings: Settings) -> Iterator[tuple[str, HeldOut]]:
    """The parts of the drives that runs are scored on."""
    for part in ("validation", "test"):
        yield part, HeldOut(data=Path(settings.data), split=",".join(settings.drives[part]))
