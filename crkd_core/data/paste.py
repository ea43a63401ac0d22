"""Truth boxes of other frames in a teacher's LiDAR (ground-truth paste; SECOND, Yan et al. 2018).

Only LiDAR is added: a pasted box shows in no camera and no radar, so this is for networks that
read LiDAR (docs/method.md 1.8). A box is pasted where it was recorded, in ego axes, if it overlaps
no other box in the bird's-eye view; the points that were inside it go.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from crkd_core.boxes import Boxes, Truth, require_classes
from crkd_core.files import replacing
from crkd_core.frame import Frame
from crkd_core.progress import counted

#: How often a process looks whether another one has finished the database, seconds.
POLL = 1.0


class PasteError(RuntimeError):
    """Frames that nothing can be pasted from or into."""


class Indexed(Protocol):
    """A set of Frames by index."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Frame: ...


@dataclass(frozen=True, kw_only=True)
class PasteDatabase:
    """The LiDAR points of every truth box of a training set.

    Attributes:
        truth: [N] boxes of the data set's classes, each in the ego axes of its own frame.
        points: [P, 5] float32 x, y, z, intensity, age of all boxes, box by box, in those axes.
        start: [N + 1] first point of each box.
    """

    truth: Truth
    points: NDArray[np.float32]
    start: NDArray[np.int64]

    def __post_init__(self) -> None:
        if len(self.start) != len(self.truth) + 1 or self.start[-1] != len(self.points):
            raise PasteError(
                f"expected {len(self.truth) + 1} starts that end at {len(self.points)} points"
            )

    @classmethod
    def build(cls, frames: Iterable[Frame], *, min_points: int) -> PasteDatabase:
        """Cut the boxes of all classes out of Frames with LiDAR and truth.

        Args:
            frames: the training set; images are not looked at.
            min_points: boxes with fewer LiDAR points in the Frame stay out.

        Raises:
            PasteError: a Frame without LiDAR or truth, or no box with so many points at all.
        """
        kept: list[Truth] = []
        clouds: list[NDArray[np.float32]] = []
        for frame in frames:
            lidar = _lidar(frame)
            if frame.truth is None:
                raise PasteError(f"Frame {frame.token} has no truth; paste from annotated Frames")
            inside = [_inside(frame.truth, box, lidar) for box in range(len(frame.truth))]
            enough = [box for box, mask in enumerate(inside) if mask.sum() >= min_points]
            kept.append(frame.truth.select(np.array(enough, np.int64)))
            clouds += [lidar[inside[box]] for box in enough]
        if not clouds:
            raise PasteError(f"no box of the training set holds {min_points} LiDAR points")
        counts = np.array([len(cloud) for cloud in clouds])
        return cls(
            truth=dataclasses.replace(
                Truth.joined(kept),
                num_lidar_points=counts,
                num_radar_points=np.zeros_like(counts),
            ),
            points=np.concatenate(clouds),
            start=np.concatenate([[0], np.cumsum(counts)]),
        )

    def save(self, folder: Path) -> None:
        """Write the arrays into a new folder, which appears only when whole."""
        with replacing(folder) as partial:
            partial.mkdir()
            for name, array in self._arrays().items():
                np.save(partial / f"{name}.npy", array)

    @classmethod
    def load(cls, folder: Path) -> PasteDatabase:
        """What ``save`` wrote; the points are mapped, so worker processes share them.

        Raises:
            PasteError: files are missing or damaged; names the folder.
        """
        try:
            points = np.load(folder / "points.npy", mmap_mode="r")
            start = np.load(folder / "start.npy")
            fields = [field.name for field in dataclasses.fields(Truth)]
            arrays = {name: np.load(folder / f"{name}.npy") for name in fields}
            truth = Truth(**{**arrays, "classes": tuple(arrays["classes"].tolist())})
            return cls(truth=truth, points=np.asarray(points), start=start)
        except (OSError, EOFError, ValueError, PasteError) as error:
            raise PasteError(
                f"{folder}: cannot read the paste database: {error}; remove the folder, it is "
                "built again"
            ) from error

    def _arrays(self) -> dict[str, NDArray[Any]]:
        return {
            **self.truth.arrays(),
            "classes": np.array(self.truth.classes),
            "points": self.points,
            "start": self.start,
        }


class Paste:
    """Pastes boxes of a database into Frames.

    Args:
        database: what to paste.
        counts: class -> boxes that a frame is filled up to; other classes are not pasted. Chance
            draws class by class, in this order.
        stop: from this stream position on nothing is pasted; None = never.

    Raises:
        PasteError: a class that the database does not know.
    """

    def __init__(
        self, database: PasteDatabase, *, counts: Mapping[str, int], stop: int | None = None
    ) -> None:
        self.database, self.counts, self.stop = database, dict(counts), stop
        classes = database.truth.classes
        unknown = [name for name in counts if name not in classes]
        if unknown:
            raise PasteError(
                f"unknown classes {', '.join(unknown)}; those of the data set: "
                f"{', '.join(classes)}"
            )
        self.labels = [classes.index(name) for name in counts]
        self.rows = [np.flatnonzero(database.truth.label == label) for label in self.labels]

    def __call__(self, frame: Frame, *, position: int, rng: np.random.Generator) -> Frame:
        """``frame`` with every class filled up as far as boxes fit.

        Args:
            frame: before augmentation, with LiDAR and truth.
            position: in the stream of samples.
            rng: the only source of chance.

        Raises:
            PasteError: no LiDAR or no truth.
            BoxError: truth of other classes than the database's.
        """
        if self.stop is not None and position >= self.stop:
            return frame
        lidar = _lidar(frame)
        if frame.truth is None:
            raise PasteError(f"Frame {frame.token} has no truth; paste into annotated Frames")
        require_classes(frame.truth, self.database.truth.classes, f"truth of Frame {frame.token}")
        there, chosen = frame.truth, np.zeros(0, np.int64)
        wanted = zip(self.labels, self.rows, self.counts.values(), strict=True)
        for label, rows, count in wanted:
            missing = count - int((frame.truth.label == label).sum())
            if missing <= 0 or not len(rows):
                continue
            drawn = rng.permutation(rows)[:missing]
            for row in drawn:
                box = self.database.truth.select(np.array([row]))
                if not overlaps(box, there).any():
                    there, chosen = Truth.joined([there, box]), np.append(chosen, row)
        if not len(chosen):
            return frame
        pasted = self.database.truth.select(chosen)
        hidden = np.zeros(len(lidar), bool)
        for index in range(len(pasted)):
            hidden |= _inside(pasted, index, lidar)
        start = self.database.start
        new = [self.database.points[start[row] : start[row + 1]] for row in chosen]
        # First, as the earliest voxels and points are those that a network keeps: what a full
        # cloud would push out is told by the truth, and must be seen.
        return dataclasses.replace(
            frame, lidar=np.concatenate([*new, lidar[~hidden]]), truth=there
        )


def overlaps(a: Boxes, b: Boxes) -> NDArray[np.bool_]:
    """[A, B] whether the rectangles of boxes share an area in the bird's-eye view.

    Two convex shapes are apart if and only if they are along one of their sides' normals.
    """
    corners_a, corners_b = a.corners()[:, :4, :2], b.corners()[:, :4, :2]
    shape = (len(a), len(b))
    apart = np.zeros(shape, bool)
    for yaw in (np.broadcast_to(a.yaw[:, None], shape), np.broadcast_to(b.yaw, shape)):
        for turned in (yaw, yaw + np.pi / 2):
            axis = np.stack([np.cos(turned), np.sin(turned)], -1)
            along_a = np.einsum("aki,abi->abk", corners_a, axis)
            along_b = np.einsum("bki,abi->abk", corners_b, axis)
            apart |= along_a.max(-1) <= along_b.min(-1)
            apart |= along_b.max(-1) <= along_a.min(-1)
    return ~apart


def open_database(
    folder: Path, frames: Indexed, *, min_points: int, builds: bool = True
) -> PasteDatabase:
    """The database in ``folder``, built there first where it does not exist.

    Args:
        folder: its name must stand for the frames and ``min_points``.
        frames: the training set, with LiDAR; images are not needed.
        min_points: see ``PasteDatabase.build``.
        builds: False = wait until another process has built it.

    Raises:
        PasteError: it cannot be built or read.
    """
    if builds and not folder.exists():
        numbered = counted(range(len(frames)), "paste database", stays=True)
        database = PasteDatabase.build((frames[i] for i in numbered), min_points=min_points)
        try:
            database.save(folder)
        except OSError:
            # Another run, or another machine of this one, has built the same meanwhile.
            if not folder.exists():
                raise
    while not folder.exists():
        time.sleep(POLL)
    return PasteDatabase.load(folder)


def _lidar(frame: Frame) -> NDArray[np.float32]:
    if frame.lidar is None:
        raise PasteError(
            f"Frame at {frame.stamp_ns} ns {frame.token} has no LiDAR; ground-truth paste is for "
            "Frames that are read with LiDAR sweeps"
        )
    return frame.lidar


def _inside(boxes: Boxes, index: int, points: NDArray[np.float32]) -> NDArray[np.bool_]:
    """[P] which points lie in one box; cheap where nearly all lie far away."""
    box = boxes.select(np.array([index]))
    reach = float(np.linalg.norm(box.size[0, :2])) / 2
    # More than float32 rounds, in which this is done: ``contains`` has the last word.
    reach += 0.01 + 1e-6 * float(np.abs(box.center[0, :2]).max())
    x, y = box.center[0, :2].astype(np.float32)
    # Column by column, which is ten times as fast as rows of two.
    near = np.flatnonzero(np.abs(points[:, 0] - x) <= reach)
    near = near[np.abs(points[near, 1] - y) <= reach]
    mask = np.zeros(len(points), bool)
    mask[near[box.contains(points[near])[0]]] = True
    return mask
