"""Stand-in for ``sensor_msgs_py.point_cloud2``: reading by field name."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: PointField datatype code -> numpy type.
DATATYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 8: "f8"}


def dtype_from_fields(
    fields: Iterable[Any], point_step: int | None = None, *, byte_order: str = "<"
) -> np.dtype:
    """Structured dtype of PointFields; a field of count n > 1 becomes name_0 .. name_(n-1).

    Raises what the original raises: AssertionError for a count of 0, or two fields of one name.
    """
    layout = tuple((field.name, field.offset, field.datatype, field.count) for field in fields)
    return _dtype(layout, point_step, byte_order)


@functools.lru_cache(maxsize=64)
def _dtype(
    fields: tuple[tuple[str, int, int, int], ...], point_step: int | None, byte_order: str
) -> np.dtype:
    """The same of name, offset, datatype and count: making one costs more than reading with it."""
    names: list[str] = []
    formats: list[str] = []
    offsets: list[int] = []
    for place, (called, offset, datatype, count) in enumerate(fields):
        kind = DATATYPES[datatype]
        name = called or f"unnamed_field_{place}"
        assert count > 0, "Can't process fields with count = 0."
        for part in range(count):
            names.append(name if count == 1 else f"{name}_{part}")
            assert names[-1] not in names[:-1], "Duplicate field names are not allowed!"
            formats.append(byte_order + kind)
            offsets.append(offset + part * int(kind[1]))
    layout: dict[str, Any] = {"names": names, "formats": formats, "offsets": offsets}
    if point_step is not None:
        layout["itemsize"] = point_step
    return np.dtype(layout)  # type: ignore[call-overload,no-any-return]


def read_points(
    cloud: Any,
    field_names: list[str] | None = None,
    skip_nans: bool = False,
    uvs: Iterable[Any] | None = None,
    reshape_organized_cloud: bool = False,
) -> NDArray[np.void]:
    """Points of a PointCloud2 as a structured array [width * height], by field name.

    A view of the message's bytes unless rows are padded or ``skip_nans`` is set.
    """
    if uvs is not None or reshape_organized_cloud:
        raise NotImplementedError("uvs and reshape_organized_cloud need the real sensor_msgs_py")
    order = ">" if cloud.is_bigendian else "<"
    dtype = dtype_from_fields(cloud.fields, cloud.point_step, byte_order=order)
    data = np.frombuffer(cloud.data, np.uint8)
    packed = cloud.width * cloud.point_step
    if cloud.height > 1 and cloud.row_step != packed:
        # By strides: the last row needs no padding after it.
        rows = np.ndarray((cloud.height, packed), np.uint8, data, strides=(cloud.row_step, 1))
        data = np.ascontiguousarray(rows).reshape(-1)
    points: NDArray[np.void] = np.ndarray((cloud.width * cloud.height,), dtype, data)
    if field_names is not None:
        missing = set(field_names) - set(dtype.names or ())
        assert not missing, f"Requested fields {sorted(missing)} are not in {dtype.names}"
        points = points[list(field_names)]
    if skip_nans and not cloud.is_dense:
        keep = np.ones(len(points), bool)
        for name in points.dtype.names or ():
            keep &= ~np.isnan(points[name].astype(float))
        points = points[keep]
    return points
