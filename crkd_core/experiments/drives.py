"""Which drives of a data set an experiment trains on, tunes on and tests on."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from crkd_core.data.nuscenes.scenes import NuScenes

#: Part -> names of its scenes. "few" and "rest" are the drives of "train", shared out.
Drives = Mapping[str, tuple[str, ...]]

#: Without other wishes: training, validation and test drives out of six.
SHARES = (3, 1, 2)
#: Of the training drives one in so many keeps its boxes where they are few.
FEW = 4


class DrivesError(ValueError):
    """Drives that cannot be shared out as asked for."""


def share_out(tables: NuScenes, wish: str | None = None) -> Drives:
    """Scenes of training, few, rest, validation and test.

    Args:
        tables: the data set.
        wish: "40,12,24": so many training, validation and test drives, in the order of the data
            set; "train,val,val": splits. None = shares of all as in SHARES.

    Raises:
        DrivesError: not three parts, too few drives, or one that is trained on and scored too.
        NuScenesError: unknown split.
    """
    scenes = tables.scenes
    if wish is None:
        if len(scenes) < len(SHARES):
            raise DrivesError(
                f"{tables.root}: expected 3 drives or more, to train, tune and test on, got "
                f"{len(scenes)}; make more by crkd world"
            )
        counts = [max(1, len(scenes) * share // sum(SHARES)) for share in SHARES]
        counts[0] = len(scenes) - sum(counts[1:])
        wish = ",".join(map(str, counts))
    parts = [part.strip() for part in wish.split(",")]
    if len(parts) != 3:
        raise DrivesError(
            f"--drives {wish!r}: expected numbers of training, validation and test drives, or "
            "three splits, such as 40,12,24 or train,val,val"
        )
    if all(part.isdecimal() for part in parts):
        numbers = [int(part) for part in parts]
        if sum(numbers) > len(scenes) or min(numbers) < 1:
            raise DrivesError(
                f"--drives {wish}: expected at least 1 of each and at most {len(scenes)} "
                f"together, as {tables.root} holds; make more by crkd world"
            )
        ends = [0, numbers[0], sum(numbers[:2]), sum(numbers)]
        chosen = [scenes[a:b] for a, b in pairwise(ends)]
    else:
        chosen = [tables.scenes_of(part) for part in parts]
    train, validation, test = (tuple(names) for names in chosen)
    if seen := {*train} & ({*validation} | {*test}):
        raise DrivesError(
            f"--drives {wish}: {len(seen)} training drives would be scored too, first "
            f"{min(seen)}; choose others"
        )
    few = train[: max(1, len(train) // FEW)]
    return {
        "train": train,
        "few": few,
        "rest": train[len(few) :],
        "validation": validation,
        "test": test,
    }
