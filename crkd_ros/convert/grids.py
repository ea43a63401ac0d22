"""What the second head says of the cells, as a grid that navigation and RViz take."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.segments import Segments
from crkd_ros.convert.box_messages import Make, header

#: Of a cell about which the network says nothing.
UNKNOWN = -1
#: Share of a cell by which a grid may reach over its last cell, for rounding.
_SLACK = 1e-6


def occupancy_grid(
    segments: Segments,
    name: str,
    *,
    frame_T_ego: NDArray[np.float64],
    stamp_ns: int,
    make: Make,
    frame_id: str = "base_link",
) -> Any:
    """A nav_msgs/OccupancyGrid: 0 where a cell surely is of a class, 100 where it surely is not.

    So a drivable cell is a free one. The grid lies along the axes of ``frame_id``, because most
    readers ignore a turned origin. Where the network's own grid is turned in it, each cell takes
    the value of the network's cell that its centre lies in; outside of all it is UNKNOWN.

    Args:
        segments: of one frame.
        name: which class.
        frame_T_ego: [4, 4] pose of the vehicle in ``frame_id``.
        stamp_ns: of the frame.
        make: builds messages.
        frame_id: of the message.
    """
    grid = segments.grid
    free = np.rint(100 * (1 - segments.of(name))).astype(np.int8)
    frame_T_grid = frame_T_ego @ segments.ego_T_grid
    x, y = ([grid.low[i], grid.low[i] + grid.cell * grid.shape[i]] for i in (0, 1))
    corners = np.array([[a, b, 0.0] for a in x for b in y])
    there = geometry.apply(frame_T_grid, corners)[:, :2]
    low = there.min(0)
    count = np.ceil((there.max(0) - low) / grid.cell - _SLACK).astype(int)
    steps = [low[i] + grid.cell * (np.arange(count[i]) + 0.5) for i in (0, 1)]
    # As messages have it: rows of y, x the fastest.
    column, row = np.meshgrid(*steps)
    places = np.stack([column, row, np.full(column.shape, frame_T_grid[2, 3])], -1)
    own = geometry.apply(geometry.invert(frame_T_grid), places.reshape(-1, 3))[:, :2]
    cells = np.floor((own - grid.low[:2]) / grid.cell).astype(np.int64)
    inside = ((cells >= 0) & (cells < grid.shape)).all(1)
    data = np.full(len(cells), UNKNOWN, np.int8)
    data[inside] = free[tuple(cells[inside].T)]
    head = header(stamp_ns, frame_id, make)
    return make(
        "nav_msgs/msg/OccupancyGrid",
        header=head,
        info=make(
            "nav_msgs/msg/MapMetaData",
            map_load_time=head.stamp,
            resolution=float(grid.cell),
            width=int(count[0]),
            height=int(count[1]),
            origin=make(
                "geometry_msgs/msg/Pose",
                position=make(
                    "geometry_msgs/msg/Point",
                    x=float(low[0]),
                    y=float(low[1]),
                    z=float(frame_T_grid[2, 3]),
                ),
                orientation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=0.0, w=1.0),
            ),
        ),
        data=data,
    )
