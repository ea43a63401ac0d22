"""3D boxes, and what a detector answers.

Box convention, everywhere in this project: gravity centre, (length, width, height), yaw
counter-clockwise from +x, velocity over ground expressed in the axes of the box's frame.

A label is an index into a list of class names, and every set of boxes carries that list: data sets
and detectors have their own. Sets of two lists are brought to one by name (``of_classes``); what
joins or compares sets refuses two lists.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from crkd_core import geometry

#: Columns of the arrays that have more than one, and those that hold integers.
_WIDTHS = {"center": (3,), "size": (3,), "velocity": (2,)}
_INTS = ("label", "attribute", "num_lidar_points", "num_radar_points", "id", "sample")

#: Detections that score less are no answers: of a detector in use, and of one that is evaluated,
#: since average precision counts the tail.
SCORE_THRESHOLD, SCORED_FROM = 0.1, 0.02


#: Twelve edges of a box, pairs of corners in the order of ``Boxes.corners``.
_RING = ((0, 1), (1, 2), (2, 3), (3, 0))
EDGES = (*_RING, *((a + 4, b + 4) for a, b in _RING), *((k, k + 4) for k in range(4)))


class BoxError(ValueError):
    """Arrays that do not describe one set of boxes, or labels that mean other classes."""


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """N boxes in one frame.

    Attributes:
        center: [N, 3] gravity centre, metres.
        size: [N, 3] length, width, height, metres.
        yaw: [N] radians, counter-clockwise from +x.
        velocity: [N, 2] (vx, vy) m/s over ground; NaN where unknown.
        label: [N] int64, index into ``classes``.
        classes: names of the classes that these boxes can be of, each once.

    Raises:
        BoxError: no array of numbers (whole ones, for labels and counts) or one of another shape,
            a name that comes twice, or a label that no class has.
    """

    center: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: NDArray[np.float64]
    velocity: NDArray[np.float64]
    label: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        kind, n = type(self).__name__, len(self.center)
        if isinstance(self.classes, str):
            raise BoxError(f"{kind}.classes: expected names, got the word {self.classes!r}")
        # A list of the same names is the same classes.
        object.__setattr__(self, "classes", tuple(self.classes))
        for name in _INTS:
            given: Any = getattr(self, name, None)
            # NumPy makes floats of an empty list.
            if n == 0 and given is not None and np.shape(given) == (0,):
                object.__setattr__(self, name, np.zeros(0, np.int64))
        for name, array in self.arrays().items():
            _check_numbers(f"{kind}.{name}", array, whole=name in _INTS)
            width = _WIDTHS.get(name, ())
            if np.shape(array) != (n, *width):
                raise BoxError(
                    f"{kind}.{name}: expected shape {(n, *width)}, got {np.shape(array)}; every "
                    "array needs one row per box"
                )
        if len(set(self.classes)) < len(self.classes):
            raise BoxError(f"{kind}.classes: expected every name once, got {self.classes}")
        if n and not 0 <= self.label.min() <= self.label.max() < len(self.classes):
            raise BoxError(
                f"{kind}.label: expected indices into the {len(self.classes)} classes "
                f"{', '.join(self.classes)}, got {self.label.min()} to {self.label.max()}"
            )

    @classmethod
    def empty(cls, classes: Sequence[str]) -> Self:
        """No boxes, of these classes."""
        names = [f.name for f in dataclasses.fields(cls) if f.name != "classes"]
        return cls(
            classes=tuple(classes),
            **{
                name: np.zeros((0, *_WIDTHS.get(name, ())), np.int64 if name in _INTS else float)
                for name in names
            },
        )

    @classmethod
    def joined(cls, parts: Sequence[Self]) -> Self:
        """All boxes of ``parts``, at least one, in their order.

        Raises:
            BoxError: no parts, or parts of two lists of classes.
        """
        if not parts:
            raise BoxError("expected at least one set of boxes to join; see empty")
        first = parts[0]
        for part in parts:
            require_classes(part, first.classes, "sets of boxes that are joined")
        columns = [part.arrays() for part in parts]
        joined: dict[str, Any] = {
            name: np.concatenate([column[name] for column in columns]) for name in columns[0]
        }
        return dataclasses.replace(first, **joined)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Every array by its name: all fields but ``classes``."""
        names = (f.name for f in dataclasses.fields(self))
        return {name: getattr(self, name) for name in names if name != "classes"}

    def of_classes(self, classes: Sequence[str]) -> Self:
        """The boxes of these classes, found by name, with labels that index ``classes``.

        Boxes of other classes are left out; the order stays.

        Raises:
            BoxError: a class that these boxes cannot be of: they say nothing about it, and none
                would look like an answer.
        """
        if tuple(classes) == self.classes:
            return self
        unknown = [name for name in classes if name not in self.classes]
        if unknown:
            raise BoxError(
                f"unknown classes {', '.join(unknown)}: these boxes are of "
                f"{', '.join(self.classes)}"
            )
        new = np.array([list(classes).index(c) if c in classes else -1 for c in self.classes])
        chosen = self.select(new[self.label] >= 0)
        return dataclasses.replace(
            chosen, label=new[chosen.label].astype(np.int64), classes=tuple(classes)
        )

    def __len__(self) -> int:
        return len(self.center)

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """The boxes that a mask [N] or an index array picks."""
        picked: dict[str, Any] = {name: array[index] for name, array in self.arrays().items()}
        return dataclasses.replace(self, **picked)

    def transformed(self, a_T_b: NDArray[np.float64]) -> Self:
        """The same boxes, moved from frame b to frame a.

        Args:
            a_T_b: [4, 4] that keeps z up: rigid, or with one scale for all axes and mirroring of
                x or y, as augmentation makes it.
        """
        heading = geometry.rotate(a_T_b, np.stack([np.cos(self.yaw), np.sin(self.yaw)], -1))
        return dataclasses.replace(
            self,
            center=geometry.apply(a_T_b, self.center),
            size=self.size * np.cbrt(np.abs(np.linalg.det(a_T_b[:3, :3]))),
            yaw=np.arctan2(heading[:, 1], heading[:, 0]),
            velocity=geometry.rotate(a_T_b, self.velocity),
        )

    def corners(self) -> NDArray[np.float64]:
        """[N, 8, 3] corners: the bottom four counter-clockwise from front left, then the top."""
        signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
        flat = signs[None] * self.size[:, None, :2]
        c, s = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        x = c * flat[..., 0] - s * flat[..., 1] + self.center[:, None, 0]
        y = s * flat[..., 0] + c * flat[..., 1] + self.center[:, None, 1]
        low = np.broadcast_to((self.center[:, 2] - self.size[:, 2] / 2)[:, None], x.shape)
        bottom = np.stack([x, y, low], -1)
        top = bottom + np.array([0, 0, 1]) * self.size[:, None, 2:]
        return np.concatenate([bottom, top], 1)

    def contains(self, points: NDArray[np.floating], *, margin: float = 0.0) -> NDArray[np.bool_]:
        """[N, P] which points [P, 3] lie in which box, each side moved out by ``margin`` m."""
        offset = points[None, :, :3] - self.center[:, None]
        c, s = np.cos(self.yaw)[:, None], np.sin(self.yaw)[:, None]
        along = c * offset[..., 0] + s * offset[..., 1]
        across = -s * offset[..., 0] + c * offset[..., 1]
        half = self.size[:, None] / 2 + margin
        return (
            (np.abs(along) <= half[..., 0])
            & (np.abs(across) <= half[..., 1])
            & (np.abs(offset[..., 2]) <= half[..., 2])
        )


@dataclass(frozen=True, kw_only=True)
class Truth(Boxes):
    """Annotated boxes.

    Attributes:
        attribute: [N] int64, index into the attribute names of the data set, -1 for none.
        num_lidar_points, num_radar_points: [N] int64 returns inside the box.
    """

    attribute: NDArray[np.int64]
    num_lidar_points: NDArray[np.int64]
    num_radar_points: NDArray[np.int64]

    @property
    def counts(self) -> NDArray[np.bool_]:
        """[N] which boxes are learned and scored: a return fell into them.

        The rest are hidden from every sensor. Any number but 0 counts, -1 too, as in the devkit.
        """
        return self.num_lidar_points + self.num_radar_points != 0


@dataclass(frozen=True, kw_only=True)
class Detections(Boxes):
    """What a detector found in one Frame, in that Frame's ego axes, best score first.

    Attributes:
        score: [N] in [0, 1].
    """

    score: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Tracked(Detections):
    """Detections whose objects are known again from frame to frame.

    Attributes:
        id: [N] int64 number of the object, from 1 on; 0: it has none (yet).
    """

    id: NDArray[np.int64]


def _check_numbers(name: str, array: Any, *, whole: bool) -> None:
    """Raises BoxError for anything but an array of numbers, or of whole ones."""
    if not isinstance(array, np.ndarray) or array.dtype.kind not in ("iu" if whole else "fiu"):
        got = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
        raise BoxError(
            f"{name}: expected a NumPy array of {'whole ' if whole else ''}numbers, got {got}"
        )


def require_classes(boxes: Boxes, classes: Sequence[str], what: str) -> None:
    """Refuse boxes whose labels index another list of classes.

    Args:
        boxes: what is to be used.
        classes: the list that is expected, in its order.
        what: names the use in the error.

    Raises:
        BoxError: another list, or another order.
    """
    if boxes.classes != tuple(classes):
        raise BoxError(
            f"{what}: expected boxes of the classes {', '.join(classes)}, got boxes of "
            f"{', '.join(boxes.classes)}; bring them to one list with Boxes.of_classes"
        )
