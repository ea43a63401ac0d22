"""What the reader takes from every table, of what kind and magnitude: declared once, checked once.

A field that is not listed here is not looked at, whatever it holds. Units are those of nuScenes
(docs/nuscenes.md): microseconds, metres, pixels, quaternions w x y z. Bounds are wide; what they
tell apart is units: seconds or nanoseconds, millimetres (crkd_core/calibration.py).
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from crkd_core.calibration import MOUNTED, PINHOLE, is_pinhole

#: Of a stamp, microseconds since 1970: to the year 2100. Nanoseconds are a thousand times more.
LAST_STAMP = 4_102_444_800_000_000

#: Larger than any coordinate of a map projection, metres.
_WORLD = 1e8
#: Longer than any vehicle, metres.
_LARGEST_BOX = 200.0
#: No camera has more pixels in a row or a column.
_MOST_PIXELS = 65_500
#: A quaternion's length may be off by this much: some writers round.
_UNIT = 0.1


class Field(NamedTuple):
    """What a field holds.

    Attributes:
        expected: in words.
        read: a list of values to a list or an array of as many; raises ValueError or TypeError
            where any of them is not as expected.
        default: for rows without the field, or with null; None = there must be one.
    """

    expected: str
    read: Callable[[list[Any]], Any]
    default: Any = None


def _texts(values: list[Any]) -> list[str]:
    if set(map(type, values)) - {str}:
        raise TypeError
    return values


def _tokens(values: list[Any]) -> list[str]:
    if "" in _texts(values):
        raise ValueError
    return values


def _links(values: list[Any]) -> list[str]:
    if None in values:
        values = ["" if value is None else value for value in values]
    return _texts(values)


def _lists_of_texts(values: list[Any]) -> list[list[str]]:
    if set(map(type, values)) - {list}:
        raise TypeError
    _texts(list(chain.from_iterable(values)))
    return values


def _files(values: list[Any]) -> list[str]:
    odd = [name for name in _tokens(values) if name[0] == "/" or ".." in name]
    if any(name[0] == "/" or ".." in name.split("/") for name in odd):
        raise ValueError
    return values


def _flags(values: list[Any]) -> NDArray[np.bool_]:
    if set(map(type, values)) - {bool, int} or set(values) - {0, 1}:
        raise TypeError
    return np.array(values, np.bool_)


def _array(values: list[Any], length: int | None) -> NDArray[np.float64]:
    """[n] or [n, length], finite."""
    flat = values
    if length is not None:
        if set(map(type, values)) - {list} or set(map(len, values)) - {length}:
            raise TypeError
        flat = list(chain.from_iterable(values))
    # A truth value would pass for a number.
    if set(map(type, flat)) - {int, float}:
        raise TypeError
    array = np.array(flat, np.float64)
    if not np.isfinite(array).all():
        raise ValueError
    return array if length is None else array.reshape(-1, length)


def _numbers(
    expected: str,
    *,
    length: int | None = None,
    least: float,
    most: float,
    kind: type = np.float64,
    default: Any = None,
) -> Field:
    def read(values: list[Any]) -> NDArray[Any]:
        array = _array(values, length)
        if not ((array >= least) & (array <= most)).all():
            raise ValueError
        if kind is not np.float64 and (array % 1).any():
            raise ValueError
        return array.astype(kind)

    return Field(expected, read, default)


def _rotations(values: list[Any]) -> NDArray[np.float64]:
    array = _array(values, 4)
    if not (np.abs(np.linalg.norm(array, axis=1) - 1) <= _UNIT).all():
        raise ValueError
    return array


def _intrinsics(values: list[Any]) -> NDArray[np.float64]:
    """[n, 3, 3], zeros where there are none."""
    matrices = np.zeros((len(values), 3, 3))
    for matrix, value in zip(matrices, values, strict=True):
        if value == [] or value is None:
            continue
        matrix[:] = _array(value, 3)
        if not is_pinhole(matrix):
            raise ValueError
    return matrices


_TEXT = Field("a text", _texts)
_TOKEN = Field("a token, a text that is not empty", _tokens)
_LINK = Field("the token of another row, or '' for none", _links)
_TOKENS = Field("a list of tokens", _lists_of_texts)
_FILE = Field("the name of a file below the data set's root, without '..'", _files)
_FLAG = Field("true or false", _flags)
_TIME = _numbers(
    "a whole number of microseconds since 1970", least=0, most=LAST_STAMP, kind=np.int64
)
_MOUNTING = _numbers(
    f"3 numbers, metres, of at most {MOUNTED:g}", length=3, least=-MOUNTED, most=MOUNTED
)
_POSITION = _numbers("3 numbers, metres", length=3, least=-_WORLD, most=_WORLD)
_ROTATION = Field("4 numbers, a quaternion w x y z of length 1", _rotations)
_INTRINSICS = Field(
    f"[], or a 3x3 matrix {PINHOLE}",
    _intrinsics,
)
_SIZE = _numbers(
    f"3 numbers above 0, metres, of at most {_LARGEST_BOX:g}",
    length=3,
    least=float(np.nextafter(0, 1)),
    most=_LARGEST_BOX,
)
_PIXELS = _numbers(
    f"a whole number of pixels, of at most {_MOST_PIXELS}",
    least=0,
    most=_MOST_PIXELS,
    kind=np.int32,
    default=0,
)
_COUNT = _numbers("a whole number", least=-(2**31), most=2**31 - 1, kind=np.int32)

#: Table -> field -> what it must hold.
SCHEMA: dict[str, dict[str, Field]] = {
    "category": {"token": _TOKEN, "name": _TEXT},
    "attribute": {"token": _TOKEN, "name": _TEXT},
    "instance": {"token": _TOKEN, "category_token": _TOKEN},
    "sensor": {"token": _TOKEN, "channel": _TEXT},
    "calibrated_sensor": {
        "token": _TOKEN,
        "sensor_token": _TOKEN,
        "translation": _MOUNTING,
        "rotation": _ROTATION,
        "camera_intrinsic": _INTRINSICS,
    },
    "log": {"token": _TOKEN, "location": _TEXT},
    "scene": {"token": _TOKEN, "name": _TOKEN, "description": _TEXT, "log_token": _TOKEN},
    "sample": {"token": _TOKEN, "timestamp": _TIME, "scene_token": _TOKEN},
    "ego_pose": {"token": _TOKEN, "translation": _POSITION, "rotation": _ROTATION},
    "sample_data": {
        "token": _TOKEN,
        "sample_token": _TOKEN,
        "ego_pose_token": _TOKEN,
        "calibrated_sensor_token": _TOKEN,
        "timestamp": _TIME,
        "is_key_frame": _FLAG,
        "filename": _FILE,
        "prev": _LINK,
        "width": _PIXELS,
        "height": _PIXELS,
    },
    "sample_annotation": {
        "token": _TOKEN,
        "sample_token": _TOKEN,
        "instance_token": _TOKEN,
        "attribute_tokens": _TOKENS,
        "translation": _POSITION,
        "size": _SIZE,
        "rotation": _ROTATION,
        "num_lidar_pts": _COUNT,
        "num_radar_pts": _COUNT,
        "prev": _LINK,
        "next": _LINK,
    },
}
