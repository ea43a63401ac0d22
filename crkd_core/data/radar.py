"""Radar sweeps: records to arrays, several sweeps to one cloud, clouds to network columns.

A sweep is [N, 18] float32 with columns RADAR_FIELDS, in the radar frame (x forward, y left); its
file is read in radar_file.py. No return is filtered by its state codes: the network sees the codes
(docs/method.md 1.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.sensors import (
    RADAR_AGE,
    RADAR_COLUMN,
    RADAR_COLUMNS,
    RADAR_COMPENSATED,
    RADAR_FIELDS,
    RADAR_SENSOR,
    RADAR_VELOCITY,
    RADAR_XYZ,
    RADARS,
)

_FLOATS = ("x", "y", "z", "rcs", "vx", "vy", "vx_comp", "vy_comp")

#: For files, replay and the live node: a radar whose newest sweep is older than ``TIMEOUT`` is
#: missing, and sweeps older than ``OLDEST`` are not used, seconds.
TIMEOUT, OLDEST = 0.3, 2.0

#: One packed record of a file or of a PointCloud2, 43 bytes.
RADAR_DTYPE = np.dtype(
    [
        (name, "<f4" if name in _FLOATS else "<i2" if name == "id" else "i1")
        for name in RADAR_FIELDS
    ]
)

#: Columns that must be finite for a return to count: what the network reads.
USED = (
    *("x", "y", "z", "dyn_prop", "rcs", "vx_comp", "vy_comp"),
    *("ambig_state", "invalid_state", "pdh0"),
)

#: State codes of nuScenes' radars, and what each is of a return that has none.
NO_CODES = {"dyn_prop": -1, "ambig_state": -1, "invalid_state": -1, "pdh0": 0}

_USED = [RADAR_COLUMN[name] for name in USED]
# Columns that nobody reads and that files hold as whole numbers, which NaN is not.
_IDLE = [
    index
    for index, name in enumerate(RADAR_FIELDS)
    if name not in USED and name not in ("vx", "vy")
]

#: Columns of ``encode``, in order (docs/method.md 1.2).
ENCODED_COLUMNS = (
    *("x", "y", "z", "rcs", "vx_comp", "vy_comp", "age"),
    *(f"dyn_prop={code}" for code in range(8)),
    *(f"ambig_state={code}" for code in range(5)),
    *(f"invalid_state={code}" for code in range(18)),
    *(f"pdh0>{code}" for code in range(7)),
)


class RadarError(ValueError):
    """A file or a set of sweeps that is not radar data as nuScenes defines it."""


@dataclass(frozen=True, kw_only=True)
class RadarSweep:
    """One sweep of one radar, not yet moved.

    Attributes:
        stamp_ns: time of the sweep, nanoseconds.
        sensor: index into RADARS.
        points: [N, 18] float32, columns RADAR_FIELDS, in the radar frame.
        ego_T_radar: [4, 4] radar at its own time to ego at the reference time.
    """

    stamp_ns: int
    sensor: int
    points: NDArray[np.float32]
    ego_T_radar: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != len(RADAR_FIELDS):
            raise RadarError(
                f"RadarSweep.points: expected [N, {len(RADAR_FIELDS)}], got {self.points.shape}"
            )
        if np.shape(self.ego_T_radar) != (4, 4):
            raise RadarError(
                f"RadarSweep.ego_T_radar: expected [4, 4], got {np.shape(self.ego_T_radar)}"
            )
        if not 0 <= self.sensor < len(RADARS):
            raise RadarError(
                f"RadarSweep.sensor: expected 0..{len(RADARS) - 1}, got {self.sensor}"
            )


def from_records(records: NDArray[np.void]) -> NDArray[np.float32]:
    """Structured records that have the fields RADAR_FIELDS to [N, 18] float32.

    Invalid returns are left out, see ``kept_returns``: nuScenes writes a NaN row for "no returns".

    Raises:
        RadarError: a field is missing; the text names the fields found.
    """
    found = records.dtype.names or ()
    missing = [name for name in RADAR_FIELDS if name not in found]
    if missing:
        raise RadarError(
            f"radar fields {', '.join(missing)} are missing; found {', '.join(found) or 'none'}"
        )
    points = np.empty((len(records), len(RADAR_FIELDS)), np.float32)
    # A double beyond float32 becomes an infinity.
    with np.errstate(over="ignore", invalid="ignore"):
        for index, name in enumerate(RADAR_FIELDS):
            points[:, index] = records[name]
    return kept_returns(points)


def kept_returns(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The returns [M, 18] of [N, 18] that have a finite number in every column of USED.

    The other columns decide nothing: of those that nobody reads what is not finite becomes 0, and
    a speed against the sensor (``vx``, ``vy``) that is not known stays NaN. A height of NaN, as
    of a radar that measures none, is 0.
    """
    points = points.copy()
    height = points[:, RADAR_COLUMN["z"]]
    height[np.isnan(height)] = 0.0
    idle = points[:, _IDLE]
    points[:, _IDLE] = np.where(np.isfinite(idle), idle, 0.0)
    velocity = points[:, RADAR_VELOCITY]
    velocity[np.isinf(velocity)] = np.nan
    return points[np.isfinite(points[:, _USED]).all(1)]


def to_records(points: NDArray[np.floating]) -> NDArray[np.void]:
    """[N, 18] to structured records of RADAR_DTYPE; integer fields are rounded.

    Raises:
        RadarError: wrong width, or an integer field outside its range.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != len(RADAR_FIELDS):
        raise RadarError(f"expected radar points [N, {len(RADAR_FIELDS)}], got {points.shape}")
    records = np.zeros(len(points), RADAR_DTYPE)
    for index, name in enumerate(RADAR_FIELDS):
        column = points[:, index]
        if name not in _FLOATS:
            column = np.rint(column)
            limits = np.iinfo(RADAR_DTYPE[name])
            # Written so that a NaN fails too.
            if not np.all((column >= limits.min) & (column <= limits.max)):
                raise RadarError(
                    f"radar field {name}: expected values in {limits.min}..{limits.max}, got "
                    f"{column.min()}..{column.max()}"
                )
        records[name] = column
    return records


def accumulate(sweeps: Sequence[RadarSweep], stamp_ns: int) -> NDArray[np.float32]:
    """Several sweeps of any radars as one cloud in ego axes at ``stamp_ns``.

    Positions and velocities are turned into ego axes, then positions are moved by the compensated
    velocity times the age, so that a moving object's returns lie on it (docs/method.md 1.2).

    Returns:
        float32 [N, 20], columns RADAR_COLUMNS, sweeps in the order given; [0, 20] for no sweeps.

    Raises:
        RadarError: a sweep is newer than ``stamp_ns``.
    """
    clouds = [np.zeros((0, len(RADAR_COLUMNS)), np.float32)]
    for sweep in sweeps:
        if sweep.stamp_ns > stamp_ns:
            raise RadarError(
                f"{RADARS[sweep.sensor]}: sweep at {sweep.stamp_ns} ns is "
                f"{(sweep.stamp_ns - stamp_ns) / 1e6:.3f} ms newer than the reference "
                f"{stamp_ns} ns; a frame takes sweeps not later than its reference"
            )
        age = (stamp_ns - sweep.stamp_ns) * 1e-9
        cloud = np.empty((len(sweep.points), len(RADAR_COLUMNS)), np.float32)
        cloud[:, : len(RADAR_FIELDS)] = sweep.points
        measured = geometry.rotate(sweep.ego_T_radar, sweep.points[:, RADAR_VELOCITY])
        cloud[:, RADAR_VELOCITY] = measured
        velocity = geometry.rotate(sweep.ego_T_radar, sweep.points[:, RADAR_COMPENSATED])
        cloud[:, RADAR_COMPENSATED] = velocity
        position = geometry.apply(sweep.ego_T_radar, sweep.points[:, RADAR_XYZ])
        position[:, :2] += velocity * age
        cloud[:, RADAR_XYZ] = position
        cloud[:, RADAR_AGE] = age
        cloud[:, RADAR_SENSOR] = sweep.sensor
        clouds.append(cloud)
    return np.concatenate(clouds)


def without_codes(points: NDArray[np.float32]) -> NDArray[np.float32]:
    """The same cloud [N, 20] without state codes: their columns of ``encode`` are 0."""
    points = points.copy()
    for name, value in NO_CODES.items():
        points[:, RADAR_COLUMN[name]] = value
    return points


def encode(points: NDArray[np.floating]) -> NDArray[np.float32]:
    """Network columns of an accumulated cloud (docs/method.md 1.2): [N, 20] -> [N, 45].

    Columns ENCODED_COLUMNS: x y z rcs vx_comp vy_comp age as they are (m, dBsm, m/s, s), one-hot
    dyn_prop (8), ambig_state (5) and invalid_state (18), thermometer pdh0 (7: bit i = pdh0 > i).
    A code outside its range has no bit set.

    Raises:
        RadarError: the input is not [N, 20].
    """
    if points.ndim != 2 or points.shape[1] != len(RADAR_COLUMNS):
        raise RadarError(f"expected radar points [N, {len(RADAR_COLUMNS)}], got {points.shape}")

    def column(name: str) -> NDArray[np.floating]:
        return points[:, RADAR_COLUMN[name], None]

    plain = [RADAR_COLUMN[name] for name in ENCODED_COLUMNS[:7]]
    return np.concatenate(
        [
            points[:, plain],
            column("dyn_prop") == np.arange(8),
            column("ambig_state") == np.arange(5),
            column("invalid_state") == np.arange(18),
            column("pdh0") > np.arange(7),
        ],
        axis=1,
        dtype=np.float32,
    )
