"""Which detections are published and under which class: pure functions on Detections.

Both are the user's settings and may change while the node runs. Thresholds come first: they judge
the class that the network answered, with the scores of that class; the class is renamed after.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from crkd_core.boxes import CLASS_NAMES, Detections
from crkd_ros.parameters.knobs import ParameterError, knob


def _scores(name: str) -> tuple[float, ...]:
    described = f"Least score of a {name.replace('_', ' ')}: one value, or one per range"
    scores: tuple[float, ...] = knob((0.0,), described, dynamic=True)
    return scores


def _renamed(name: str) -> str:
    described = f"Class under which a {name.replace('_', ' ')} is published; '' drops it"
    renamed: str = knob(name, described, dynamic=True)
    return renamed


@dataclass(frozen=True, kw_only=True)
class ThresholdsConfig:
    """Least scores per class and range, on top of ``score_threshold``, which holds for all."""

    ranges: tuple[float, ...] = knob(
        (0.0,),
        "Where ranges begin, m from the vehicle, rising from 0.0; the last has no end",
        dynamic=True,
    )
    car: tuple[float, ...] = _scores("car")
    truck: tuple[float, ...] = _scores("truck")
    bus: tuple[float, ...] = _scores("bus")
    trailer: tuple[float, ...] = _scores("trailer")
    construction_vehicle: tuple[float, ...] = _scores("construction_vehicle")
    pedestrian: tuple[float, ...] = _scores("pedestrian")
    motorcycle: tuple[float, ...] = _scores("motorcycle")
    bicycle: tuple[float, ...] = _scores("bicycle")
    traffic_cone: tuple[float, ...] = _scores("traffic_cone")
    barrier: tuple[float, ...] = _scores("barrier")

    def __post_init__(self) -> None:
        starts = np.asarray(self.ranges, float)
        # Written so that a NaN fails too.
        rising = len(starts) > 0 and starts[0] == 0 and bool((np.diff(starts) > 0).all())
        if not rising or not np.isfinite(starts).all():
            raise ParameterError(
                f"thresholds.ranges: expected metres that rise from 0.0, such as [0.0, 30.0], got "
                f"{list(self.ranges)}"
            )
        for name in CLASS_NAMES:
            scores = getattr(self, name)
            if len(scores) not in (1, len(starts)) or not all(0 <= s <= 1 for s in scores):
                raise ParameterError(
                    f"thresholds.{name}: expected one score, or one for each of the "
                    f"{len(starts)} thresholds.ranges, each 0.0 to 1.0; got {list(scores)}"
                )


@dataclass(frozen=True, kw_only=True)
class RemapConfig:
    """The class under which each class is published."""

    car: str = _renamed("car")
    truck: str = _renamed("truck")
    bus: str = _renamed("bus")
    trailer: str = _renamed("trailer")
    construction_vehicle: str = _renamed("construction_vehicle")
    pedestrian: str = _renamed("pedestrian")
    motorcycle: str = _renamed("motorcycle")
    bicycle: str = _renamed("bicycle")
    traffic_cone: str = _renamed("traffic_cone")
    barrier: str = _renamed("barrier")

    def __post_init__(self) -> None:
        for name in CLASS_NAMES:
            if getattr(self, name) not in (*CLASS_NAMES, ""):
                raise ParameterError(
                    f"remap.{name}: expected one of {', '.join(CLASS_NAMES)} or '' (not "
                    f"published), got {getattr(self, name)!r}"
                )


def above(detections: Detections, config: ThresholdsConfig) -> Detections:
    """The detections that reach the least score of their class at their range, in their order.

    Args:
        detections: in axes of the vehicle; range is the distance of the centre on the ground.
        config: range i goes from ``ranges[i]`` (included) to the next (not included).
    """
    bins = len(config.ranges)
    least = np.stack([np.resize(getattr(config, name), bins) for name in CLASS_NAMES])
    ranges = np.hypot(detections.center[:, 0], detections.center[:, 1])
    column = np.searchsorted(config.ranges, ranges, side="right") - 1
    return detections.select(detections.score >= least[detections.label, column])


def renamed(detections: Detections, config: RemapConfig) -> Detections:
    """The detections under their published classes, in their order; dropped classes left out."""
    names = [getattr(config, name) for name in CLASS_NAMES]
    labels = np.array([CLASS_NAMES.index(name) if name else -1 for name in names])
    published = labels[detections.label]
    return dataclasses.replace(detections, label=published).select(published >= 0)
