"""Which frame of a bag is a sample's of the data set that the bag was made of."""

from __future__ import annotations

import itertools
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from crkd_ros.bags.message_types import BagError

if TYPE_CHECKING:
    from crkd_core.data.nuscenes.reader import NuScenes

#: The only frame of a bag is a sample's if it is this near, ns.
_ALONE_NS = 50_000_000


def key_frames(tables: NuScenes, scenes: Iterable[str]) -> dict[int, str]:
    """Reference stamp, ns -> sample token, of every sample of these scenes."""
    return {
        tables.reference(token).stamp_ns: token
        for scene in scenes
        for token in tables.samples_of_scene(scene)
    }


def of_one_vehicle(
    drives: Mapping[str, dict[int, str]], *, is_own: Callable[[str], bool]
) -> dict[str, dict[int, str]]:
    """Drives without those that other vehicles recorded while the bag's recorded one of them.

    Args:
        drives: scene -> reference stamp, ns -> sample token, of at least one sample each.
        is_own: whether the bag is of a scene; only asked where two were recorded at once. Where
            it is of none of them all stay.
    """
    spans = {scene: (min(samples), max(samples)) for scene, samples in drives.items()}

    def meet(one: str, other: str) -> bool:
        (first, last), (begin, end) = spans[one], spans[other]
        return first <= end and begin <= last

    if not any(meet(*pair) for pair in itertools.combinations(drives, 2)):
        return dict(drives)
    own = [scene for scene in drives if is_own(scene)]
    return {
        scene: samples
        for scene, samples in drives.items()
        if scene in own or not any(meet(scene, other) for other in own)
    }


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Those samples of a split that a bag covers.

    Attributes:
        tokens: reference stamp of a frame, ns -> token of its sample.
        missed: tokens of samples without a frame, though there are frames before and after.
    """

    tokens: dict[int, str]
    missed: tuple[str, ...]


def find_samples(path: Path, references: Sequence[int], tables: NuScenes, split: str) -> Samples:
    """The frame of each sample: the nearest one within half the usual time between frames.

    Args:
        path: of the bag, for the error's text.
        references: of the bag's frames, ns, ascending.
        tables: the data set that the bag was made of.
        split: its split.

    Raises:
        BagError: no sample of the split has a frame, or two frames have one stamp.
    """
    if twice := [stamp for stamp, count in Counter(references).items() if count > 1]:
        raise BagError(
            f"{path}: expected one frame at each time, there are two at {len(twice)} stamps, "
            f"first {twice[0]} ns; was a clock set back? cut the bag there"
        )
    tokens: dict[int, str] = {}
    missed: list[str] = []
    every = {scene: key_frames(tables, [scene]) for scene in tables.scenes_of(split)}
    count = sum(map(len, every.values()))
    # Frames have the stamps of their own drive, but for stand-ins of a lost anchor.
    drives = of_one_vehicle(
        {scene: samples for scene, samples in every.items() if samples},
        is_own=lambda scene: not every[scene].keys().isdisjoint(references),
    )
    gaps = [after - before for before, after in itertools.pairwise(references)]
    limit = statistics.median(gaps) / 2 if gaps else _ALONE_NS
    for samples in drives.values():
        found, lost = dict[int, str](), list[str]()
        for stamp_ns, token in samples.items():
            nearest = min(references, key=lambda one: abs(one - stamp_ns), default=None)
            if nearest is not None and abs(nearest - stamp_ns) <= limit:
                found[nearest] = token
            elif references and references[0] < stamp_ns < references[-1]:
                lost.append(token)
        tokens |= found
        # Another scene may have been recorded at the same hours.
        missed += lost if found else []
    if not tokens:
        raise BagError(
            f"{path}: none of the {count} samples of split {split!r} of {tables.root} is "
            "in this bag; was it made of another data set or split?"
        )
    return Samples(tokens=tokens, missed=tuple(missed))
