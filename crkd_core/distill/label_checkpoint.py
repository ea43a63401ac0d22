"""How far the training of a label encoder is, in one file beside where the encoder will be."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import torch

from crkd_core.distill.label_encoder import LabelEncoder
from crkd_core.files import write_bytes
from crkd_core.model.checkpoint import CheckpointError, read_state


class LabelTrainingError(RuntimeError):
    """A label encoder that cannot be trained."""


@dataclass(frozen=True, kw_only=True)
class LabelCheckpoint:
    """A file of a training, and what tells the training from others.

    Attributes:
        path: of the file; it appears whole or not at all.
        facts: name -> value; a training is gone on with under the same ones only.
        every: steps between two checkpoints.
    """

    path: Path
    facts: dict[str, str | int]
    every: int = 100

    @classmethod
    def beside(cls, encoder: Path, **facts: str | int) -> LabelCheckpoint:
        """That of the training that will write the file ``encoder``."""
        return cls(path=encoder.with_suffix(".checkpoint.pt"), facts=facts)

    def save(
        self,
        step: int,
        encoder: LabelEncoder,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        losses: list[float],
    ) -> None:
        """Keep what ``restore`` needs, after ``step`` steps."""
        data = io.BytesIO()
        torch.save(
            {
                "facts": self.facts,
                "step": step,
                "encoder": encoder.state_dict(),
                "optimiser": optimiser.state_dict(),
                "schedule": schedule.state_dict(),
                "losses": losses,
            },
            data,
        )
        write_bytes(data.getbuffer(), self.path, durable=True)

    def restore(
        self,
        encoder: LabelEncoder,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> list[float]:
        """Go back to the last ``save``: the losses of the steps that are done.

        Raises:
            LabelTrainingError: no file, one that cannot be read, or one of another training.
        """
        try:
            state = read_state(self.path)
        except CheckpointError as error:
            instead = "pass --overwrite" if self.path.exists() else "leave it out"
            raise LabelTrainingError(
                f"--resume: nothing to go on from: {error}; {instead} to begin anew"
            ) from error
        facts = state.get("facts", {})
        for name, value in self.facts.items():
            if facts.get(name) != value:
                raise LabelTrainingError(
                    f"{self.path} was begun with {name} {facts.get(name)}, not {value}; say the "
                    "same, or pass --overwrite in the place of --resume to begin anew"
                )
        encoder.load_state_dict(state["encoder"])
        optimiser.load_state_dict(state["optimiser"])
        schedule.load_state_dict(state["schedule"])
        losses: list[float] = state["losses"]
        return losses

    def remove(self) -> None:
        """When the encoder is written."""
        self.path.unlink(missing_ok=True)
