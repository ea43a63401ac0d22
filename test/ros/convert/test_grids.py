"""Cells of the second head as OccupancyGrid, by rclpy's classes and the readers' of bags."""

from __future__ import annotations

import numpy as np
import pytest

from crkd_core import geometry
from crkd_core.config import GridConfig
from crkd_core.segments import Segments
from crkd_ros.bags import message_types
from crkd_ros.convert import arrays, ros_packages
from crkd_ros.convert.grids import UNKNOWN, occupancy_grid

STAMP = 1_700_000_000_123_456_789
GRID = GridConfig(low=(-4.0, -3.0, -5.0), high=(8.0, 5.0, 3.0), cell=0.5)
TURNED = np.array([[0.0, 1, 0, 0.9], [-1, 0, 0, 0], [0, 0, 1, 1.8], [0, 0, 0, 1]])


def segments(ego_T_grid=None) -> Segments:
    rng = np.random.default_rng(2)
    return Segments(
        classes=("vehicle", "drivable_area"),
        probability=rng.random((2, *GRID.shape), np.float32),
        grid=GRID,
        ego_T_grid=np.eye(4) if ego_T_grid is None else ego_T_grid,
    )


def at(message, x: float, y: float) -> int:
    """As a reader of the message finds the value of a place."""
    info = message.info
    i = int(np.floor((x - info.origin.position.x) / info.resolution))
    j = int(np.floor((y - info.origin.position.y) / info.resolution))
    assert 0 <= i < info.width and 0 <= j < info.height
    return int(message.data[j * info.width + i])


def told(said: Segments, frame_T_ego, make, frame_id="base_link"):
    return occupancy_grid(
        said, "drivable_area", frame_T_ego=frame_T_ego, stamp_ns=STAMP, make=make,
        frame_id=frame_id,
    )  # fmt: skip


def test_in_axes_of_the_vehicle_every_cell_is_its_own(make):
    said = segments()
    message = told(said, np.eye(4), make)
    assert message.header.frame_id == "base_link"
    assert arrays.stamp_ns(message.header.stamp) == STAMP
    info = message.info
    assert (info.width, info.height) == GRID.shape == (24, 16)
    assert info.resolution == pytest.approx(0.5)
    assert (info.origin.position.x, info.origin.position.y) == (-4.0, -3.0)
    assert info.origin.orientation.w == 1.0
    expected = np.rint(100 * (1 - said.of("drivable_area"))).T
    np.testing.assert_array_equal(np.array(message.data).reshape(16, 24), expected)


@pytest.mark.parametrize("turn", [0.0, 0.6, -2.5])
@pytest.mark.parametrize("ego_T_grid", [None, TURNED])
def test_in_another_frame_places_keep_their_values(make, turn, ego_T_grid):
    said = segments(ego_T_grid)
    frame_T_ego = geometry.pose([50.2, -7.7, 0.3], geometry.yaw_to_quat_wxyz(turn))
    message = told(said, frame_T_ego, make, "map")
    assert message.header.frame_id == "map"
    info = message.info
    frame_T_grid = frame_T_ego @ said.ego_T_grid
    assert info.origin.position.z == pytest.approx(frame_T_grid[2, 3])
    data = np.array(message.data)
    assert len(data) == info.width * info.height
    assert (data == UNKNOWN).any() == (turn != 0.0)
    assert data[data != UNKNOWN].min() >= 0 and data.max() <= 100
    values = np.rint(100 * (1 - said.of("drivable_area")))
    found = 0
    for i, j in np.ndindex(*GRID.shape):
        place = [GRID.low[0] + 0.5 * (i + 0.5), GRID.low[1] + 0.5 * (j + 0.5), 0.0]
        x, y, _ = geometry.apply(frame_T_grid, np.array([place]))[0]
        # A turned cell is hit by the centres of cells of this grid or of its neighbours.
        i0, j0 = slice(max(i - 1, 0), i + 2), slice(max(j - 1, 0), j + 2)
        value = at(message, x, y)
        assert value == UNKNOWN or value in values[i0, j0]
        found += value == values[i, j]
    assert found > (0.99 if turn == 0 else 0.5) * values.size
    corner = geometry.apply(frame_T_grid, np.array([[GRID.low[0], GRID.low[1], 0]]))[0]
    assert info.origin.position.x <= corner[0] + 1e-6


def test_the_message_survives_its_own_bytes():
    pytest.importorskip("rclpy")
    from rclpy.serialization import deserialize_message, serialize_message

    kind = ros_packages.message_class("nav_msgs/msg/OccupancyGrid")
    real = told(segments(), np.eye(4), ros_packages.make)
    data = serialize_message(real)
    assert list(deserialize_message(data, kind).data) == list(real.data)
    store = message_types.typestore()
    again = store.deserialize_cdr(data, "nav_msgs/msg/OccupancyGrid")
    np.testing.assert_array_equal(again.data, np.array(real.data))
    assert again.info.width == 24
