"""3D boxes, and what a detector answers.

Box convention, everywhere in this project: gravity centre, (length, width, height), yaw
counter-clockwise from +x, velocity over ground expressed in the axes of the box's frame.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from crkd_core import geometry

#: The ten nuScenes detection classes in the devkit's order. Labels index this tuple.
CLASS_NAMES = (
    "car",
    "truck",
    "bus",
    "trailer",
    "construction_vehicle",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic_cone",
    "barrier",
)

#: nuScenes attribute names; ``Boxes.attribute`` indexes this tuple, -1 means none or unknown.
ATTRIBUTE_NAMES = (
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
    "cycle.with_rider",
    "cycle.without_rider",
    "pedestrian.moving",
    "pedestrian.standing",
    "pedestrian.sitting_lying_down",
)


class BoxError(ValueError):
    """Arrays that do not describe one set of boxes."""


@dataclass(frozen=True, kw_only=True)
class Boxes:
    """N boxes in one frame.

    Attributes:
        center: [N, 3] gravity centre, metres.
        size: [N, 3] length, width, height, metres.
        yaw: [N] radians, counter-clockwise from +x.
        velocity: [N, 2] (vx, vy) m/s over ground; NaN where unknown.
        label: [N] int64, index into CLASS_NAMES.
    """

    center: NDArray[np.float64]
    size: NDArray[np.float64]
    yaw: NDArray[np.float64]
    velocity: NDArray[np.float64]
    label: NDArray[np.int64]

    def __post_init__(self) -> None:
        n = len(self.center)
        for field in dataclasses.fields(self):
            array = getattr(self, field.name)
            width = {"center": (3,), "size": (3,), "velocity": (2,)}.get(field.name, ())
            if np.shape(array) != (n, *width):
                raise BoxError(
                    f"{type(self).__name__}.{field.name}: expected shape {(n, *width)}, got "
                    f"{np.shape(array)}; every field needs one row per box"
                )

    @classmethod
    def empty(cls) -> Self:
        """No boxes."""
        widths = {"center": (3,), "size": (3,), "velocity": (2,)}
        ints = ("label", "attribute", "num_lidar_points", "num_radar_points", "id")
        return cls(
            **{
                f.name: np.zeros(
                    (0, *widths.get(f.name, ())), np.int64 if f.name in ints else float
                )
                for f in dataclasses.fields(cls)
            }
        )

    def __len__(self) -> int:
        return len(self.center)

    def select(self, index: NDArray[np.bool_] | NDArray[np.int64]) -> Self:
        """The boxes that a mask [N] or an index array picks."""
        return dataclasses.replace(
            self, **{f.name: getattr(self, f.name)[index] for f in dataclasses.fields(self)}
        )

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
        attribute: [N] int64, index into ATTRIBUTE_NAMES, -1 for none.
        num_lidar_points, num_radar_points: [N] int64 returns inside the box.
    """

    attribute: NDArray[np.int64]
    num_lidar_points: NDArray[np.int64]
    num_radar_points: NDArray[np.int64]


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
