"""Polygons to cells, against a test of every cell's centre, and moved as boxes are."""

from __future__ import annotations

import numpy as np
import pytest

from crkd_core import geometry
from crkd_core.area import Area, AreaError
from crkd_core.boxes import Boxes
from crkd_core.config import GridConfig

GRID = GridConfig(low=(-8.0, -6.0, -5.0), high=(8.0, 6.0, 3.0), cell=0.5)


def square(low: float, high: float) -> np.ndarray:
    return np.array([[low, low], [high, low], [high, high], [low, high]], float)


def centres(grid: GridConfig) -> np.ndarray:
    x, y = (grid.low[i] + grid.cell * (np.arange(grid.shape[i]) + 0.5) for i in (0, 1))
    return np.stack(np.meshgrid(x, y, indexing="ij"), -1)


def slowly(ring: np.ndarray, point: np.ndarray) -> bool:
    """Whether a point lies in a ring, by the turns that the ring makes around it."""
    angles = np.arctan2(ring[:, 1] - point[1], ring[:, 0] - point[0])
    turns = geometry.wrap_angle(np.roll(angles, -1) - angles)
    return bool(abs(turns.sum()) > np.pi)


def test_cells_of_a_square_with_a_hole():
    mask = Area(polygons=((square(-3, 3), square(-1, 1)),)).cells(GRID)
    assert mask.shape == GRID.shape and mask.sum() == (12 * 12 - 4 * 4)
    point = np.abs(centres(GRID)).max(-1)
    np.testing.assert_array_equal(mask, (point < 3) & (point > 1))


def test_polygons_that_overlap_do_not_cancel():
    two = Area(polygons=((square(-3, 1),), (square(-1, 3),)))
    each = [Area(polygons=(polygon,)).cells(GRID) for polygon in two.polygons]
    np.testing.assert_array_equal(two.cells(GRID), each[0] | each[1])


def test_cells_of_any_polygon_against_every_centre():
    rng = np.random.default_rng(3)
    for _ in range(20):
        angle = np.sort(rng.uniform(-np.pi, np.pi, 9))
        # Around a point inside, and so without a line that crosses itself; partly off the grid.
        reach = rng.uniform(2, 9, 9)[:, None]
        ring = np.stack([np.cos(angle), np.sin(angle)], 1) * reach + rng.uniform(-4, 4, 2)
        expected = [[slowly(ring, point) for point in row] for row in centres(GRID)]
        np.testing.assert_array_equal(Area(polygons=((ring,),)).cells(GRID), expected)


def test_an_area_moves_as_boxes_do():
    boxes = Boxes(
        center=np.array([[2.0, 1, 0], [-4, -2, 0]]),
        size=np.array([[4.0, 2, 1.5], [3, 1, 1]]),
        yaw=np.array([0.4, -2.0]),
        velocity=np.zeros((2, 2)),
        label=np.zeros(2, np.int64),
        classes=("car",),
    )
    turn = geometry.pose([0.7, -1.1, 0], geometry.yaw_to_quat_wxyz(0.9)) @ np.diag([1, -1, 1, 1.0])
    turn[:3, :3] *= 1.1
    moved = Area.of_boxes(boxes).moved(turn).cells(GRID)
    np.testing.assert_array_equal(moved, Area.of_boxes(boxes.transformed(turn)).cells(GRID))
    assert moved.sum() > 20


def test_what_is_far_is_left_out_and_nothing_else():
    area = Area(polygons=((square(-3, 3),), (square(100, 104),)))
    near = area.near(np.array([0.0, 10.0]), 8.0)
    assert len(near.polygons) == 1 and near.polygons[0][0] is area.polygons[0][0]
    assert area.near(np.array([0.0, 50.0]), 8.0).cells(GRID).sum() == 0
    assert Area(polygons=()).cells(GRID).sum() == 0


def test_what_is_no_outline_is_refused():
    with pytest.raises(AreaError, match=r"expected outlines \[N, 2\] of finite x and y, got one"):
        Area(polygons=((np.zeros((4, 3)),),))
    with pytest.raises(AreaError, match="finite"):
        Area(polygons=((np.full((4, 2), np.nan),),))
