"""Frames as a network sees them: in its grid frame, radar ages and codes as it was trained with.

Our own networks work in ego axes and nothing changes, but those of View-of-Delft see no radar
codes. Imported ones work in the LIDAR_TOP frame of nuScenes (x right, y forward) and count radar
ages from each radar's newest return. Earlier moments of a Frame move with it.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.config import IDENTITY, DetectorConfig
from crkd_core.data.radar import without_codes
from crkd_core.frame import Frame
from crkd_core.sensors import RADAR_AGE, RADAR_COMPENSATED, RADAR_SENSOR, RADARS


def in_grid(frame: Frame, config: DetectorConfig) -> Frame:
    """The Frame for this network; its poses, points and boxes are then in the grid frame.

    Where the grid frame is ego, ages count from the reference time and codes are read, the Frame
    itself.
    """
    if config.radar is not None and config.radar.age == "newest":
        frame = dataclasses.replace(frame, radar=since_newest(frame.radar))
    if config.radar is not None and not config.radar.codes:
        frame = dataclasses.replace(frame, radar=without_codes(frame.radar))
    if config.ego_T_grid == IDENTITY:
        return frame
    ego_T_grid = np.array(config.ego_T_grid, np.float64)
    moved = frame.moved(geometry.invert(ego_T_grid))
    known = frame.global_T_ego
    return dataclasses.replace(moved, global_T_ego=None if known is None else known @ ego_T_grid)


def since_newest(radar: NDArray[np.float32]) -> NDArray[np.float32]:
    """Ages from the newest return of the same radar, positions moved back accordingly. [N, 20].

    A sweep without a return leaves no trace in a Frame: the newest sweep here is the newest one
    that saw anything.
    """
    radar = radar.copy()
    for sensor in range(len(RADARS)):
        own = radar[:, RADAR_SENSOR] == sensor
        if own.any():
            newest = radar[own, RADAR_AGE].min()
            radar[own, :2] -= radar[own, RADAR_COMPENSATED] * newest
            radar[own, RADAR_AGE] -= newest
    return radar
