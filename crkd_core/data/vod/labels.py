"""Label files: KITTI's lines, one an object, in the camera's axes.

A line: class, truncated (in View-of-Delft a number that says nothing, or the track number),
occluded, alpha, 2D box (left, top, right, bottom, pixels), height, width, length (m), x, y, z of
the middle of the BOTTOM face (m, camera axes), rotation (rad), and in results a score. The
rotation is about the LiDAR's -z axis, as the camera is tilted (docs/vod.md, "Labels").
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.records import FARTHEST
from crkd_core.data.vod.classes import DONT_CARE
from crkd_core.data.vod.errors import VodError
from crkd_core.files import read_file

#: Numbers behind the class, and with a score.
_NUMBERS = 14


@dataclass(frozen=True, kw_only=True)
class Objects:
    """The lines of label or result files, N objects.

    Attributes:
        name: [N] class names.
        track: [N] the second column: number of the object over time where the release has it.
        occluded: [N] 0 (fully visible) to 2 (largely hidden).
        alpha: [N] rotation as the camera sees it, radians.
        box: [N, 4] left, top, right, bottom, pixels.
        size: [N, 3] height, width, length, metres.
        bottom: [N, 3] middle of the bottom face, camera axes, metres.
        rotation: [N] about the LiDAR's -z axis, radians.
        score: [N]; 0 where the file has none.
    """

    name: NDArray[np.str_]
    track: NDArray[np.float64]
    occluded: NDArray[np.float64]
    alpha: NDArray[np.float64]
    box: NDArray[np.float64]
    size: NDArray[np.float64]
    bottom: NDArray[np.float64]
    rotation: NDArray[np.float64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.name)

    @cached_property
    def lower(self) -> NDArray[np.str_]:
        """[N] class names in small letters, as metrics compare them."""
        return np.char.lower(self.name)

    @property
    def shown(self) -> NDArray[np.bool_]:
        """[N] whether the 2D box has an area."""
        wide, high = (self.box[:, 2:] - self.box[:, :2]).T
        return np.asarray((wide > 0) & (high > 0))

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Objects:
        """The objects that a mask [N] or an index array picks."""
        fields = dataclasses.fields(self)
        return Objects(**{field.name: getattr(self, field.name)[index] for field in fields})


def objects_of(names: Sequence[str], numbers: NDArray[np.float64]) -> Objects:
    """Objects of class names [N] and the other columns [N, 15] of a file, score last."""
    numbers = np.asarray(numbers, np.float64).reshape(-1, _NUMBERS + 1)
    return Objects(
        name=np.array(names, np.str_),
        track=numbers[:, 0],
        occluded=numbers[:, 1],
        alpha=numbers[:, 2],
        box=numbers[:, 3:7],
        size=numbers[:, 7:10],
        bottom=numbers[:, 10:13],
        rotation=numbers[:, 13],
        score=numbers[:, 14],
    )


def read_labels(path: Path, *, scored: bool = False) -> Objects:
    """The objects of one label or result file.

    The second column may hold any number, NaN too, and so may what an area without care says in
    space; a word is refused in every column but the first.

    Args:
        path: the file.
        scored: every line must have a score, as results do; lines of labels may.

    Raises:
        VodError: missing, a malformed line, numbers that are not finite or not in metres, or
            an object without extent; names the file and the line.
    """
    try:
        text = read_file(path).decode("utf-8-sig", "replace")
    except OSError as error:
        raise VodError(f"{path}: cannot read the labels: {error.strerror}") from error
    names, rows, lines = [], [], []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = [float(word) for word in words[1:]]
        except ValueError as error:
            raise VodError(f"{path}, line {number}: expected numbers: {error}") from error
        if len(values) not in (_NUMBERS, _NUMBERS + 1):
            raise VodError(
                f"{path}, line {number}: expected a class and {_NUMBERS} numbers, or one more "
                f"for a score, got {len(words)} words"
            )
        if scored and len(values) == _NUMBERS:
            raise VodError(
                f"{path}, line {number}: expected a score behind the {_NUMBERS} numbers of an "
                "object, as result files have it, got none; labels are no results"
            )
        lines.append(number)
        names.append(words[0])
        rows.append(values if len(values) > _NUMBERS else [*values, 0.0])
    objects = objects_of(names, np.array(rows))
    solid = objects.name != DONT_CARE
    place = np.hstack([objects.bottom, objects.rotation[:, None]])
    image = np.column_stack([objects.occluded, objects.alpha, objects.box, objects.score])
    checks = (
        ("a size above 0 in metres", objects.size, (objects.size > 0) & (objects.size < FARTHEST)),
        ("a finite place and rotation in metres and radians", place, np.abs(place) < FARTHEST),
        ("finite occlusion, alpha, 2D box and score", image, np.isfinite(image)),
    )
    for expected, numbers, fine in checks:
        good = fine.all(1)
        if numbers is not image:
            good |= ~solid
        if not good.all():
            bad = int(good.argmin())
            raise VodError(
                f"{path}, line {lines[bad]}: expected {expected}, got {numbers[bad].tolist()}"
            )
    return objects


def encode_labels(objects: Objects, *, scored: bool = False) -> str:
    """The text of a file; a reader gets equal numbers back.

    Args:
        objects: the lines.
        scored: write the score too, as result files have it.
    """
    lines = []
    for i in range(len(objects)):
        numbers = [
            *(objects.alpha[i], *objects.box[i], *objects.size[i], *objects.bottom[i]),
            objects.rotation[i],
        ]
        if scored:
            numbers.append(objects.score[i])
        whole = f"{_whole(objects.track[i])} {_whole(objects.occluded[i])}"
        lines.append(
            f"{objects.name[i]} {whole} {' '.join(repr(float(number)) for number in numbers)}\n"
        )
    return "".join(lines)


def _whole(number: float) -> str:
    """Without a point where it is whole, as the published evaluation reads these columns."""
    return str(int(number)) if float(number).is_integer() else repr(float(number))
