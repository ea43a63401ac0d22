"""Which objects count: the numbers of the benchmark, by class and area."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.vod.classes import VOD_SCORED
from crkd_core.data.vod.labels import Objects

#: "entire_area" is all that is annotated, "driving_corridor" what the vehicle may soon drive into.
Area = Literal["entire_area", "driving_corridor"]
AREAS: tuple[Area, ...] = ("entire_area", "driving_corridor")

#: Overlap in space, from above, and in the image, from which AOS is taken.
Metric = Literal["3d", "bev", "image"]
METRICS: tuple[Metric, ...] = ("3d", "bev", "image")

#: How an object takes part: it counts, may be matched but counts neither way, or is not there.
COUNTS, IGNORED, ABSENT = 0, 1, -1


@dataclass(frozen=True, kw_only=True)
class VodRules:
    """The numbers of the benchmark (A. Palffy et al. 2022, section V; its published evaluation).

    Attributes:
        classes: what is scored.
        overlap: metric -> class -> overlap that a match must exceed.
        neighbours: class -> classes whose objects are no miss of it and no false alarm.
        min_height: objects whose 2D box is lower count for nothing, pixels.
        max_occluded: truth that is more hidden counts for nothing.
        corridor: half its width and its depth, metres of the camera's x and z.
    """

    classes: tuple[str, ...] = VOD_SCORED
    overlap: Mapping[Metric, Mapping[str, float]] = field(
        default_factory=lambda: {
            "3d": {"Car": 0.5, "Pedestrian": 0.25, "Cyclist": 0.25},
            "bev": {"Car": 0.5, "Pedestrian": 0.25, "Cyclist": 0.25},
            "image": {"Car": 0.7, "Pedestrian": 0.5, "Cyclist": 0.5},
        }
    )
    neighbours: Mapping[str, tuple[str, ...]] = field(
        default_factory=lambda: {"Car": ("Van",), "Pedestrian": ("Person_sitting",)}
    )
    min_height: float = 40.0
    max_occluded: float = 4.0
    corridor: tuple[float, float] = (4.0, 25.0)

    def truth(self, objects: Objects, name: str, area: Area) -> NDArray[np.int64]:
        """[N] COUNTS, IGNORED or ABSENT, of labelled objects for class ``name``."""
        own = self._is(objects, (name,))
        near = self._is(objects, self.neighbours.get(name, ()))
        height = objects.box[:, 3] - objects.box[:, 1]
        ignored = (objects.occluded > self.max_occluded) | (height <= self.min_height)
        ignored |= self._outside(objects, area)
        state = np.where(ignored, IGNORED, COUNTS)
        return np.where(own, state, np.where(near, IGNORED, ABSENT))

    def detections(self, objects: Objects, name: str, area: Area) -> NDArray[np.int64]:
        """[N] the same of detections.

        Low ones, and in the corridor those outside it, may be matched whatever class they say:
        the published evaluation asks for the height first.
        """
        low = np.abs(objects.box[:, 3] - objects.box[:, 1]) < self.min_height
        state = np.where(self._is(objects, (name,)), COUNTS, ABSENT)
        return np.where(low | self._outside(objects, area), IGNORED, state)

    def _outside(self, objects: Objects, area: Area) -> NDArray[np.bool_]:
        if area == "entire_area":
            return np.zeros(len(objects), bool)
        side, depth = self.corridor
        return (np.abs(objects.bottom[:, 0]) > side) | (objects.bottom[:, 2] > depth)

    @staticmethod
    def _is(objects: Objects, names: tuple[str, ...]) -> NDArray[np.bool_]:
        return np.isin(objects.lower, [name.lower() for name in names])
