"""Parameters of what is published: thresholds, published classes, ids.

Each class of the weights has its own. What they do is in node/thresholds.py and node/tracking.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from crkd_ros.parameters.knobs import ParameterError, check, class_knob, knob, of_class

#: How far the boxes of a class may be from where its track expects them, metres; others _GATE.
_GATES = {
    "car": 2.0,
    "truck": 3.0,
    "bus": 3.0,
    "trailer": 3.0,
    "construction_vehicle": 3.0,
    "pedestrian": 1.5,
    "motorcycle": 2.0,
    "bicycle": 2.0,
    "traffic_cone": 1.2,
    "barrier": 1.2,
}
_GATE = 2.0


def _no_threshold(name: str) -> tuple[float, ...]:
    return (0.0,)


def _itself(name: str) -> str:
    return name


def _gate(name: str) -> float:
    return _GATES.get(name.lower(), _GATE)


@dataclass(frozen=True, kw_only=True)
class ThresholdsConfig:
    """Least scores per class and range, on top of ``score_threshold``, which holds for all."""

    ranges: tuple[float, ...] = knob(
        (0.0,),
        "Where ranges begin, m from the vehicle, rising from 0.0; the last has no end",
        dynamic=True,
    )
    scores: Mapping[str, tuple[float, ...]] = class_knob(
        _no_threshold, "Least score of a {name}: one value, or one per range", dynamic=True
    )

    def __post_init__(self) -> None:
        starts = np.asarray(self.ranges, float)
        # Written so that a NaN fails too.
        rising = len(starts) > 0 and starts[0] == 0 and bool((np.diff(starts) > 0).all())
        if not rising or not np.isfinite(starts).all():
            raise ParameterError(
                f"thresholds.ranges: expected metres that rise from 0.0, such as [0.0, 30.0], got "
                f"{list(self.ranges)}"
            )
        for name, scores in self.scores.items():
            if len(scores) not in (1, len(starts)) or not all(0 <= s <= 1 for s in scores):
                raise ParameterError(
                    f"thresholds.{name}: expected one score, or one for each of the "
                    f"{len(starts)} thresholds.ranges, each 0.0 to 1.0; got {list(scores)}"
                )

    def least(self, name: str) -> tuple[float, ...]:
        """The least scores of a class: one, or one per range."""
        scores: tuple[float, ...] = of_class(self, "scores", name)
        return scores


@dataclass(frozen=True, kw_only=True)
class RemapConfig:
    """The class under which each class is published."""

    classes: Mapping[str, str] = class_knob(
        _itself, "Class under which a {name} is published; '' drops it", dynamic=True
    )

    def check_classes(self, known: Sequence[str]) -> None:
        """Refuse what is no class of the weights. Raises ParameterError."""
        for name, published in self.classes.items():
            if published not in (*known, ""):
                raise ParameterError(
                    f"remap.{name}: expected one of {', '.join(known)} or '' (not published), got "
                    f"{published!r}"
                )

    def published(self, name: str) -> str:
        """The class under which a class is published; '' for not at all."""
        published: str = of_class(self, "classes", name)
        return published


@dataclass(frozen=True, kw_only=True)
class GateConfig:
    """How far a detection may be from a track of its class to be the same object."""

    gates: Mapping[str, float] = class_knob(
        _gate,
        "Farthest that a {name} is from where its track expects it, m",
        low=0.1,
        high=20.0,
        dynamic=True,
    )

    def __post_init__(self) -> None:
        check(self, "tracking.gate.")

    def metres(self, name: str) -> float:
        """The gate of a class."""
        metres: float = of_class(self, "gates", name)
        return metres


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
