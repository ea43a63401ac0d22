"""The command that says whether a detector knows speeds, on answers made by hand."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from model_tiny import truth
from velocities import COLUMNS, pairs, row

from crkd_core.boxes import Detections


def found_as(boxes, *, factor: float, turn: float) -> Detections:
    """Detections at the places of some truth, with other speeds and headings."""
    names = [field.name for field in dataclasses.fields(Detections)]
    values = {name: getattr(boxes, name) for name in names if hasattr(boxes, name)}
    values |= {"velocity": factor * boxes.velocity, "yaw": boxes.yaw + turn}
    return Detections(**{**values, "score": np.full(len(boxes), 0.9)})


def boxes_of(name: str):
    made = truth(np.random.default_rng(3), 3)
    label = made.classes.index(name)
    speeds = np.array([[5.0, 0.0], [0.0, -8.0], [0.0, 0.0]])
    center = np.array([[5.0, 0, 0], [-8.0, 3, 0], [9.0, 9, 0]])
    picked = made.select(np.zeros(3, int))
    return dataclasses.replace(picked, velocity=speeds, center=center, label=np.full(3, label))


def test_half_the_speed_and_half_a_turn() -> None:
    boxes = boxes_of("car")
    met = pairs(found_as(boxes, factor=0.5, turn=np.pi), boxes, "car")
    said = dict(zip(COLUMNS, row("car", met), strict=True))
    assert (said["met"], said["moving"]) == ("3", "2")
    assert said["slope of speed"] == "0.50" and said["said of standing m/s"] == "0.00"
    assert float(said["error of zero m/s"]) == pytest.approx(
        2 * float(said["error m/s"]), abs=0.02
    )
    assert (said["heading right"], said["or turned round"]) == ("0%", "100%")


def test_other_classes_and_far_boxes_are_nobodys() -> None:
    boxes = boxes_of("car")
    away = dataclasses.replace(boxes, center=boxes.center + 5)
    assert len(pairs(found_as(away, factor=1, turn=0), boxes, "car")) == 0
    assert len(pairs(found_as(boxes, factor=1, turn=0), boxes, "truck")) == 0
    assert row("bus", np.zeros((0, 6)))[:3] == ["bus", "0", "0"]
