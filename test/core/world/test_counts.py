"""The synthetic world counts like nuScenes: a few key frames of a few drives against the table."""

from __future__ import annotations

import numpy as np
import pytest
from world_counts import Sweeps, count

from crkd_core.census import sweeps
from crkd_core.census.boxes import BoxCounts
from crkd_core.census.take import real
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.world.content.scene import Scene

#: Figures of single returns, from thousands of returns: what is allowed beside a third.
SLACK = {"rcs": 3.0, "azimuth": 10.0, "share": 0.03}


@pytest.fixture(scope="module")
def counted() -> tuple[BoxCounts, Sweeps, Sweeps]:
    return count([Scene(seed=77, number=n, key_frames=10) for n in range(6)], (0, 8))


def test_radar_sweeps_count_like_those_of_nuscenes(
    counted: tuple[BoxCounts, Sweeps, Sweeps],
) -> None:
    expected = real()["radar"]
    for name, value in sweeps.radar_figures(counted[1]).items():
        # How many things move is a matter of the drive: four drives differ by a factor of two.
        share = 0.6 if "1 m/s" in name else 1 / 3
        slack = max(share * abs(expected[name]), SLACK.get(name.split()[0].strip(","), 0.0))
        assert abs(value - expected[name]) <= slack, (name, value, expected[name])


def test_lidar_sweeps_count_like_those_of_nuscenes(
    counted: tuple[BoxCounts, Sweeps, Sweeps],
) -> None:
    """The table is one sweep of one street: a factor of three says that nothing is absurd."""
    expected = real()["lidar"]
    for name, value in sweeps.lidar_figures(counted[2]).items():
        assert expected[name] / 3 < value < 3 * expected[name], (name, value)


@pytest.mark.parametrize("sensor", ["radar", "lidar"])
def test_boxes_are_hit_as_often_as_in_nuscenes(
    counted: tuple[BoxCounts, Sweeps, Sweeps], sensor: str
) -> None:
    """Shares of boxes with a return, each class and band within a third and chance.

    A drive has few objects and what they answer lasts, so their number counts as a third of it.
    """
    counts = counted[0]
    returns = getattr(counts, sensor)
    compared = 0
    for label, bands in real()["boxes"].items():
        for band, figures in bands.items():
            low, high = (float(x) for x in band.split("-"))
            mine = counts.label == NUSCENES_CLASSES.index(label)
            mine &= (counts.distance >= low) & (counts.distance < high)
            if mine.sum() < 8:
                continue
            expected = figures[0 if sensor == "radar" else 2]
            chance = 2.5 * np.sqrt(expected * (1 - expected) / (mine.sum() / 3))
            share = float((returns[mine] > 0).mean())
            slack = max(expected / 3, 0.05) + chance
            if label != "bus":  # nuScenes' own figure rests on 35 boxes of two or three buses
                assert abs(share - expected) <= slack, (label, band, share, expected)
            compared += 1
    assert compared >= 8


def test_most_boxes_have_no_radar_return(counted: tuple[BoxCounts, Sweeps, Sweeps]) -> None:
    counts = counted[0]
    near = counts.distance < 55
    assert 0.6 < (counts.radar[near] == 0).mean() < 0.85
