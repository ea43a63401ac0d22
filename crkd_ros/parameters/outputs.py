"""Parameters of what is published: thresholds, published classes, ids.

What they do is in node/thresholds.py and node/tracking.py.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from crkd_core.boxes import CLASS_NAMES
from crkd_ros.parameters.knobs import ParameterError, check, knob


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


def _gate(metres: float, name: str) -> float:
    described = f"Farthest that a {name} is from where its track expects it, m"
    gate: float = knob(metres, described, low=0.1, high=20.0, dynamic=True)
    return gate


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """How far a detection may be from a track of its class to be the same object."""

    car: float = _gate(2.0, "car")
    truck: float = _gate(3.0, "truck")
    bus: float = _gate(3.0, "bus")
    trailer: float = _gate(3.0, "trailer")
    construction_vehicle: float = _gate(3.0, "construction vehicle")
    pedestrian: float = _gate(1.5, "pedestrian")
    motorcycle: float = _gate(2.0, "motorcycle")
    bicycle: float = _gate(2.0, "bicycle")
    traffic_cone: float = _gate(1.2, "traffic cone")
    barrier: float = _gate(1.2, "barrier")

    def __post_init__(self) -> None:
        check(self, "tracking.gate.")


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Whether and how detections get ids."""

    enabled: bool = knob(False, "Give detections ids that stay with their object", dynamic=True)
    birth: int = knob(
        2, "Detections of an object before it gets an id", low=1, high=100, dynamic=True
    )
    death: float = knob(
        1.0, "An object not detected for longer loses its id, s", low=0.0, high=60.0, dynamic=True
    )
    gate_growth: float = knob(
        2.0, "Gates grow while an object is not detected, m/s", low=0.0, high=50.0, dynamic=True
    )
    gate: GateConfig = GateConfig()

    def __post_init__(self) -> None:
        check(self, "tracking.")
