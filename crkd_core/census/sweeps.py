"""Single sweeps of radars and LiDAR: how many returns, where, how fast, with which states."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from crkd_core.sensors import RADAR_COLUMN, RADAR_COMPENSATED, RADAR_FIELDS

#: Edges of the LiDAR bands, metres; nearer are returns of the vehicle itself.
LIDAR_EDGES = (3, 10, 20, 30, 40, 55, 70)


def devkit_filter(points: NDArray[np.floating]) -> NDArray[np.bool_]:
    """[N] which returns the devkit keeps by default: valid, unambiguous, dyn_prop 0 to 6."""
    keep = points[:, RADAR_COLUMN["invalid_state"]] == 0
    keep &= points[:, RADAR_COLUMN["ambig_state"]] == 3
    return keep & (points[:, RADAR_COLUMN["dyn_prop"]] <= 6)


def radar_figures(sweeps: Sequence[NDArray[np.floating]]) -> dict[str, float]:
    """Figures of radar sweeps [N, 18]: counts are means a sweep, shares and quantiles of all.

    Empty sweeps count as sweeps. All figures but the counts are NaN where there is no return.
    """
    count = max(len(sweeps), 1)
    points = np.concatenate([np.zeros((0, len(RADAR_FIELDS))), *sweeps])
    if not len(points):
        names = radar_figures([np.ones((1, len(RADAR_FIELDS)))])
        return {name: 0.0 if name.startswith("returns") else float("nan") for name in names}
    column = {name: points[:, i] for name, i in RADAR_COLUMN.items() if i < len(RADAR_FIELDS)}
    kept = devkit_filter(points)
    fast = np.hypot(*points[:, RADAR_COMPENSATED].T) > 1.0
    distance = np.hypot(column["x"], column["y"])
    azimuth = np.rad2deg(np.arctan2(column["y"], column["x"]))
    figures = {
        "returns": len(points) / count,
        "returns left by the devkit's default filter": kept.sum() / count,
        "share with invalid_state other than 0": (column["invalid_state"] != 0).mean(),
        "share with ambig_state other than 3": (column["ambig_state"] != 3).mean(),
        "share with pdh0 above 1": (column["pdh0"] > 1).mean(),
    }
    for code in range(5):
        figures[f"share with dyn_prop {code}"] = (column["dyn_prop"] == code).mean()
    figures["returns above 1 m/s over ground, after the filter"] = (kept & fast).sum() / count
    median, most, extreme = np.quantile(distance, [0.5, 0.9, 1.0])
    figures |= {"range, median, m": median, "range, 90 %, m": most, "range, most, m": extreme}
    for name, unit, values in (("rcs", "dBsm", column["rcs"]), ("azimuth", "degrees", azimuth)):
        for text, q in (("10 %", 0.1), ("median", 0.5), ("90 %", 0.9)):
            figures[f"{name}, {text}, {unit}"] = np.quantile(values, q)
    return {name: float(value) for name, value in figures.items()}


def lidar_figures(sweeps: Sequence[NDArray[np.floating]]) -> dict[str, float]:
    """Returns a sweep by distance from the LiDAR, of sweeps [N, 5]."""
    edges = (*LIDAR_EDGES, np.inf)
    number = np.zeros(len(LIDAR_EDGES))
    for points in sweeps:
        number += np.histogram(np.linalg.norm(points[:, :3], axis=1), edges)[0]
    names = [f"returns at {a}-{b} m" for a, b in pairwise(LIDAR_EDGES)]
    names.append(f"returns beyond {LIDAR_EDGES[-1]} m")
    return dict(zip(names, (number / max(len(sweeps), 1)).tolist(), strict=True))
