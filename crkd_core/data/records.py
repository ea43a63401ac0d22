"""Clouds as files of equal float32 records, as nuScenes' LiDAR and View-of-Delft have them."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_core.files import read_file

#: Farther than any sensor sees, metres: what tells units apart.
FARTHEST = 1000.0


def read_records(
    path: str | os.PathLike[str], fields: Sequence[str], *, what: str, error: type[ValueError]
) -> NDArray[np.float32]:
    """Read one file.

    Args:
        path: of little-endian float32, record after record.
        fields: columns of a record.
        what: of which kind the file is, for errors.
        error: which is raised.

    Returns:
        float32 [N, len(fields)], values as they are.

    Raises:
        ValueError: ``error``: missing, or not a whole number of records; names the file.
    """
    try:
        data = read_file(path)
    except OSError as problem:
        raise error(f"{path}: cannot read {what} file: {problem.strerror}") from problem
    record = 4 * len(fields)
    if len(data) % record:
        raise error(
            f"{path}: truncated, expected a multiple of {record} bytes ({len(fields)} float32 a "
            f"point), got {len(data)}"
        )
    return np.frombuffer(data, "<f4").reshape(-1, len(fields)).astype(np.float32)


def encode_records(
    points: NDArray[np.floating], fields: Sequence[str], *, what: str, error: type[ValueError]
) -> bytes:
    """What a file of these points [N, len(fields)] holds.

    Raises:
        ValueError: ``error``: another shape.
    """
    points = np.asarray(points)
    if points.ndim != 2 or points.shape[1] != len(fields):
        raise error(f"expected {what} points [N, {len(fields)}], got {points.shape}")
    return np.ascontiguousarray(points, "<f4").tobytes()


def check_metres(
    points: NDArray[np.float32], path: str | os.PathLike[str], *, error: type[ValueError]
) -> None:
    """Refuse points [N, 3+] of which half lie farther away than any sensor sees.

    Raises:
        ValueError: ``error``; names the file.
    """
    # Column by column, which is ten times as fast as rows of three; not finite stays so.
    far = np.maximum.reduce([np.abs(points[:, axis]) for axis in range(3)])
    far = far[np.isfinite(far)]
    middle = float(np.median(far)) if len(far) else 0.0
    if middle > FARTHEST:
        raise error(
            f"{path}: x, y, z: expected metres; read so, half of the points lie beyond "
            f"{middle:.3g} m"
        )
