"""Frames as a network sees them: in its grid frame, radar ages as it was trained with.

Our own networks work in ego axes and nothing changes. Imported ones work in the LIDAR_TOP frame of
nuScenes (x right, y forward) and count radar ages from each radar's newest return.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.config import IDENTITY, DetectorConfig
from crkd_core.frame import RADAR_COLUMNS, RADARS, Frame

_AGE, _SENSOR = RADAR_COLUMNS.index("age"), RADAR_COLUMNS.index("sensor")
_VELOCITY, _COMPENSATED = slice(6, 8), slice(8, 10)


def in_grid(frame: Frame, config: DetectorConfig) -> Frame:
    """The Frame for this network; its poses, points and boxes are then in the grid frame.

    Where the grid frame is ego and ages count from the reference time, the Frame itself.
    """
    if config.radar.age == "newest":
        frame = dataclasses.replace(frame, radar=since_newest(frame.radar))
    if config.ego_T_grid == IDENTITY:
        return frame
    ego_T_grid = np.array(config.ego_T_grid, np.float64)
    grid_T_ego = geometry.invert(ego_T_grid)
    radar = frame.radar.copy()
    radar[:, :3] = geometry.apply(grid_T_ego, radar[:, :3])
    for columns in (_VELOCITY, _COMPENSATED):
        radar[:, columns] = geometry.rotate(grid_T_ego, radar[:, columns])
    lidar = frame.lidar
    if lidar is not None:
        lidar = lidar.copy()
        lidar[:, :3] = geometry.apply(grid_T_ego, lidar[:, :3])
    return dataclasses.replace(
        frame,
        ego_T_cam=grid_T_ego @ frame.ego_T_cam,
        radar=radar,
        lidar=lidar,
        global_T_ego=None if frame.global_T_ego is None else frame.global_T_ego @ ego_T_grid,
        truth=None if frame.truth is None else frame.truth.transformed(grid_T_ego),
    )


def since_newest(radar: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ages from the newest return of the same radar, positions moved back accordingly. [N, 20].

    A sweep without a return leaves no trace in a Frame: the newest sweep here is the newest one
    that saw anything.
    """
    radar = radar.copy()
    for sensor in range(len(RADARS)):
        own = radar[:, _SENSOR] == sensor
        if own.any():
            newest = radar[own, _AGE].min()
            radar[own, :2] -= radar[own, _COMPENSATED] * newest
            radar[own, _AGE] -= newest
    return radar
