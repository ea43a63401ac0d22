"""Drives with boxes and drives without, as one set in one order."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

from crkd_core.data.sets import SetFrames
from crkd_core.frame import Frame
from crkd_core.train.balance import Order
from crkd_core.train.pseudo_labels import PseudoLabels

#: Tells the order of drives without boxes from that of the others, under one seed.
_STREAM = 4


class MixedFrames(Sequence[Frame]):
    """The labelled samples, and after them others of which no box is told.

    Args:
        labelled: samples with truth.
        unlabelled: samples whose truth, where there is any, is not looked at.
        share: of the samples of a training, how many are of these; in (0, 1).
        pseudo: boxes of a detector for these, see ``with_pseudo``; None = they have none.
    """

    def __init__(
        self,
        labelled: SetFrames,
        unlabelled: SetFrames,
        *,
        share: float,
        pseudo: PseudoLabels | None = None,
    ) -> None:
        self.labelled, self.unlabelled, self.share = labelled, unlabelled, share
        self.pseudo = pseudo

    def __len__(self) -> int:
        return len(self.labelled) + len(self.unlabelled)

    def __getitem__(self, index: int) -> Frame:  # type: ignore[override]
        """The Frame of one sample; of an unlabelled one with truth None."""
        if index < len(self.labelled):
            return self.labelled[index]
        return dataclasses.replace(self.unlabelled[index - len(self.labelled)], truth=None)

    def with_pseudo(self, frame: Frame) -> Frame:
        """A Frame of this set, with the boxes of a detector where nobody drew any.

        They are given last, so that samples are kept without: who drew boxes decides no file.
        """
        if self.pseudo is None or frame.truth is not None:
            return frame
        return dataclasses.replace(frame, truth=self.pseudo.truth_of(frame))

    def digest(self) -> str:
        """Changes when one of the data sets or the pseudo-labels do."""
        sets = self.recorded_digest()
        return sets if self.pseudo is None else f"{sets} {self.pseudo.digest()}"

    def recorded_digest(self) -> str:
        """Changes when one of the data sets does: what a teacher sees knows no pseudo-labels."""
        return f"{self.labelled.digest()} {self.unlabelled.digest()}"

    def identity(self) -> list[Any]:
        """What its Frames are decided by, as JSON."""
        return [*self.labelled.identity(), "unlabelled", *self.unlabelled.identity()]

    @property
    def tokens(self) -> list[str]:
        """Of the samples, by index; recordings of View-of-Delft count from 0 alike."""
        return [*self.labelled.tokens, *(f"unlabelled {t}" for t in self.unlabelled.tokens)]

    def with_lidar_sweeps(self, count: int) -> MixedFrames:
        """The same samples with another number of LiDAR sweeps; 0 = no LiDAR."""
        return MixedFrames(
            self.labelled.with_lidar_sweeps(count),
            self.unlabelled.with_lidar_sweeps(count),
            share=self.share,
            pseudo=self.pseudo,
        )


class MixedOrder(Order):
    """The order of labelled samples, with unlabelled ones strewn in as evenly as can be.

    Of the first n positions floor(n share) are unlabelled, so every batch has its share, give or
    take one. The labelled samples come in the order that they have without the others.
    """

    def __init__(self, labelled: Order, unlabelled: int, *, share: float) -> None:
        super().__init__(labelled.frames + unlabelled, seed=labelled.seed)
        self.labelled, self.share = labelled, share
        self.unlabelled = Order(unlabelled, seed=labelled.seed, stream=_STREAM)

    def __len__(self) -> int:
        """Positions in which every labelled sample comes once."""
        return round(len(self.labelled) / (1 - self.share))

    def __getitem__(self, position: int) -> int:
        """Index of the sample at a position, unlabelled ones after the labelled ones."""
        before, after = (int(place * self.share) for place in (position, position + 1))
        if after > before:
            return self.labelled.frames + self.unlabelled[before]
        return self.labelled[position - before]
