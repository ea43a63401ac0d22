"""Radar sweeps: nuScenes files to arrays, several sweeps to one cloud, clouds to network columns.

A sweep is [N, 18] float32 with columns RADAR_FIELDS, in the radar frame (x forward, y left). Files
hold packed records of 43 bytes behind a text header (docs/nuscenes.md, "Radar files"). No return
is filtered by its state codes: the network sees the codes (docs/method.md 1.2).
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.files import read_file, write_bytes
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

logger = logging.getLogger(__name__)

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

#: Columns without which a return is none: what the network reads of it.
USED = (
    *("x", "y", "z", "dyn_prop", "rcs", "vx_comp", "vy_comp"),
    *("ambig_state", "invalid_state", "pdh0"),
)

_USED = [RADAR_COLUMN[name] for name in USED]
# Columns that nobody reads and that files hold as whole numbers, which NaN is not.
_IDLE = [
    index
    for index, name in enumerate(RADAR_FIELDS)
    if name not in USED and name not in ("vx", "vy")
]

# What tells units apart, and damage: no radar sees so far (m), nothing is so fast (m/s), and no
# echo is so strong (dBsm).
_LIMITS = {
    **dict.fromkeys(("x", "y", "z"), 1000.0),
    **dict.fromkeys(("vx", "vy", "vx_comp", "vy_comp"), 200.0),
    "rcs": 200.0,
}

#: TYPE and SIZE of a field.
_KINDS = ("I1", "I2", "I4", "I8", "U1", "U2", "U4", "U8", "F4", "F8")

# A header is eleven lines of text.
_HEADER_BYTES = 1 << 16

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

    Returns that are none are left out, see ``kept_returns``: nuScenes writes a NaN row for "no
    returns".

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


def read_pcd(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read one nuScenes radar file.

    Returns:
        float32 [N, 18], columns RADAR_FIELDS, without what is no return (``kept_returns``). Where
        nothing is left of several, it warns.

    Raises:
        RadarError: missing, truncated, not a binary PCD with the 18 fields, or with values of
            another unit; names the file, and the field.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise RadarError(f"{path}: cannot read radar file: {error.strerror}") from error
    try:
        header, offset = _parse_header(data)
        dtype, count = _layout(header)
        need = count * dtype.itemsize
        if len(data) - offset < need:
            raise RadarError(
                f"truncated: header promises {count} points of {dtype.itemsize} bytes = {need} "
                f"bytes, file holds {len(data) - offset}"
            )
        records = np.frombuffer(data, dtype, count, offset)
        points = from_records(records)
        for name, limit in _LIMITS.items():
            most = np.abs(points[:, RADAR_COLUMN[name]]).max(initial=0.0)
            if most > limit:
                raise RadarError(
                    f"field {name}: expected at most {limit:g} (m, m/s, dBsm), got {most:g}; the "
                    "file is damaged or in other units"
                )
    except RadarError as error:
        raise RadarError(f"{path}: {error}") from error
    if count > 1 and not len(points):
        lost = [name for name in USED if not np.isfinite(records[name]).any()]
        logger.warning(
            "%s: none of its %d returns is left: %s is not finite in any",
            path,
            count,
            ", ".join(lost) or "some field",
        )
    return points


def write_pcd(path: str | os.PathLike[str], points: NDArray[np.floating]) -> None:
    """Write [N, 18] as a nuScenes radar file that the devkit reads too.

    No points are written as one row with NaN in x, which is how the devkit knows an empty cloud.
    The file appears under its name only when it is whole.

    Raises:
        RadarError: wrong width, or an integer field outside its range; names the file.
    """
    try:
        data = encode_pcd(points)
    except RadarError as error:
        raise RadarError(f"{path}: {error}") from error
    write_bytes(data, path)


def encode_pcd(points: NDArray[np.floating]) -> bytes:
    """What ``write_pcd`` writes.

    Raises:
        RadarError: wrong width, or an integer field outside its range.
    """
    records = to_records(points)
    if not len(records):
        records = np.zeros(1, RADAR_DTYPE)
        records["x"] = np.nan
    kinds = [RADAR_DTYPE[name] for name in RADAR_FIELDS]
    header = "\n".join(
        [
            "# .PCD v0.7 - Point Cloud Data file format",
            "VERSION 0.7",
            "FIELDS " + " ".join(RADAR_FIELDS),
            "SIZE " + " ".join(str(kind.itemsize) for kind in kinds),
            "TYPE " + " ".join(kind.kind.upper() for kind in kinds),
            "COUNT " + " ".join("1" for _ in kinds),
            f"WIDTH {len(records)}",
            "HEIGHT 1",
            "VIEWPOINT 0 0 0 1 0 0 0",
            f"POINTS {len(records)}",
            "DATA binary",
        ]
    )
    # The devkit's reader demands one more byte behind the last record.
    return header.encode() + b"\n" + records.tobytes() + b"\n"


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


def _parse_header(data: bytes) -> tuple[dict[str, list[str]], int]:
    """Key words of the PCD header, and where the records begin."""
    header: dict[str, list[str]] = {}
    offset = 0
    while "DATA" not in header:
        end = data.find(b"\n", offset, offset + 4096)
        if end < 0 or offset > _HEADER_BYTES:
            raise RadarError(
                "truncated or not a PCD file: no DATA line in the header; expected a text header "
                "with FIELDS, SIZE, TYPE, COUNT, POINTS and DATA"
            )
        words = data[offset:end].decode("ascii", "replace").split()
        offset = end + 1
        if words and not words[0].startswith("#"):
            header[words[0]] = words[1:]
    return header, offset


def _layout(header: dict[str, list[str]]) -> tuple[np.dtype, int]:
    """Record layout and number of points that a header promises."""
    if header["DATA"] != ["binary"]:
        raise RadarError(f"expected DATA binary, got DATA {' '.join(header['DATA'])}")
    try:
        names, sizes, types = header["FIELDS"], header["SIZE"], header["TYPE"]
        counts = header.get("COUNT", ["1"] * len(names))
        if any(count != "1" for count in counts):
            raise RadarError(f"expected COUNT 1 for every field, got {' '.join(counts)}")
        kinds = [f"{kind}{size}" for kind, size in zip(types, sizes, strict=True)]
        if other := sorted({*kinds} - {*_KINDS}):
            raise RadarError(f"expected fields of {', '.join(_KINDS)}, got {', '.join(other)}")
        dtype = np.dtype([(n, f"<{k.lower()}") for n, k in zip(names, kinds, strict=True)])
        count = int(header["POINTS"][0])
        size = [int(header[name][0]) for name in ("WIDTH", "HEIGHT") if name in header]
        if count < 0 or (len(size) == 2 and size[0] * size[1] != count):
            raise RadarError(f"expected POINTS of WIDTH x HEIGHT, got {count} of {size}")
        return dtype, count
    except (KeyError, IndexError, ValueError, TypeError) as error:
        if isinstance(error, RadarError):
            raise
        raise RadarError(f"malformed PCD header: {error}") from error
