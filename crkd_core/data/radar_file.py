"""nuScenes radar files: packed records of 43 bytes behind a text header (docs/nuscenes.md).

What a row is, and which returns are valid, is in radar.py.
"""

from __future__ import annotations

import os

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.radar import RADAR_DTYPE, USED, RadarError, from_records, to_records
from crkd_core.data.warn import warn_of_lost, warn_of_nothing
from crkd_core.files import read_file
from crkd_core.sensors import RADAR_COLUMN, RADAR_FIELDS

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


def read_pcd(path: str | os.PathLike[str]) -> NDArray[np.float32]:
    """Read one nuScenes radar file.

    Returns:
        float32 [N, 18], columns RADAR_FIELDS, without invalid returns (``kept_returns``). Where
        nothing is left of several, or all lie at 0, it warns.

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
    # A single row that is not finite says that there are no returns.
    if count > 1:
        columns = {name: records[name] for name in USED}
        warn_of_lost(path, columns, left=len(points), what="returns")
    if len(points) > 1:
        warn_of_nothing(path, points)
    return points


def encode_pcd(points: NDArray[np.floating]) -> bytes:
    """[N, 18] as the bytes of a nuScenes radar file, which the devkit reads too.

    No points are one row with NaN in x, which is how the devkit knows an empty cloud.

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
