"""The order of frames: shuffled, or class-balanced (CBGS, Zhu et al. 2019, section 3.1).

An order is a function of seed and position and remembers nothing that matters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from crkd_core.boxes import Truth


class BalanceError(ValueError):
    """A set that cannot be balanced."""


@runtime_checkable
class Annotated(Protocol):
    """A set that tells truth without reading a sensor file, as data.nuscenes.NuScenesFrames."""

    def __len__(self) -> int: ...

    def truth(self, index: int) -> Truth:
        """Boxes of one frame, in whichever axes."""
        ...


class Order:
    """The endless stream of frames: position -> index; every frame once an epoch."""

    def __init__(self, frames: int, *, seed: int, stream: int = 0) -> None:
        self.frames, self.seed, self.stream = frames, seed, stream
        self._epoch: tuple[int, NDArray[np.int64]] = (-1, np.zeros(0, np.int64))

    def __len__(self) -> int:
        """Positions of an epoch."""
        return self.frames

    def __getitem__(self, position: int) -> int:
        """Frame at a position; the same for the same seed."""
        epoch, place = divmod(position, len(self))
        if self._epoch[0] != epoch:
            self._epoch = (
                epoch,
                self.draw(np.random.default_rng((self.seed, self.stream, epoch))),
            )
        return int(self._epoch[1][place])

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The indices of one epoch."""
        return rng.permutation(self.frames)


class BalancedOrder(Order):
    """Frames repeated so that each class that occurs has an equal share of an epoch.

    With n_c frames that hold class c, an epoch has sum_c n_c positions; of these every class
    fills as many with frames that hold it, each of them equally often, give or take one.

    Args:
        holds: [frames, classes] bool, which frame holds which class.
        seed: of the order.

    Raises:
        BalanceError: no frame holds any class.
    """

    def __init__(self, holds: NDArray[np.bool_], *, seed: int) -> None:
        super().__init__(len(holds), seed=seed)
        self.members = [np.flatnonzero(column) for column in holds.T if column.any()]
        if not self.members:
            raise BalanceError(
                "class-balanced sampling: no frame holds a box that a sensor saw; set balanced to "
                "false, or look at the data"
            )
        self.share = sum(map(len, self.members)) // len(self.members)

    def __len__(self) -> int:
        return self.share * len(self.members)

    def draw(self, rng: np.random.Generator) -> NDArray[np.int64]:
        """The indices of one epoch."""
        parts = []
        for frames in self.members:
            whole, rest = divmod(self.share, len(frames))
            parts += [frames] * whole + [rng.permutation(frames)[:rest]]
        return rng.permutation(np.concatenate(parts))


def classes_held(frames: object, classes: Sequence[str]) -> NDArray[np.bool_]:
    """[frames, classes] which frame holds a box of a class that a sensor return fell into.

    Args:
        frames: Annotated.
        classes: names; truth of other classes counts for none.

    Raises:
        BalanceError: a set that cannot tell without decoding images.
    """
    if not isinstance(frames, Annotated):
        raise BalanceError(
            f"class-balanced sampling: {type(frames).__name__} has no truth(index); use a "
            "nuScenes data set, or set balanced to false"
        )
    holds = np.zeros((len(frames), len(classes)), bool)
    for index in range(len(frames)):
        truth = frames.truth(index).of_classes(classes)
        holds[index, truth.label[truth.counts]] = True
    return holds
