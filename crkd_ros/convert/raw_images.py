"""Pixels of sensor_msgs/Image: rows of any step, byte order and encoding to RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_ros.convert import ros_packages
from crkd_ros.convert.arrays import ConvertError

#: Other names for an encoding. Content without a colour is taken for what OpenCV users mean by it.
_SAME_AS = {
    "uyvy": "yuv422",
    "yuyv": "yuv422_yuy2",
    "8UC1": "mono8",
    "8UC3": "bgr8",
    "8UC4": "bgra8",
}

#: YUV with planes: (height of all planes in image heights, name). cv_bridge knows none of them.
_PLANAR = {"nv12": 1.5, "nv21": 1.5, "nv24": 3.0}

#: Encodings that are read; what ROS calls them.
ENCODINGS = (*ros_packages.IMAGE_ENCODINGS, *_SAME_AS, *_PLANAR)

#: BT.601 studio swing, as OpenCV converts NV21 and UYVY: rows R, G, B of columns Y, U, V, 1.
_YUV_TO_RGB = np.array(
    [
        [1.164, 0.0, 1.596, -16 * 1.164 - 128 * 1.596],
        [1.164, -0.391, -0.813, -16 * 1.164 + 128 * (0.391 + 0.813)],
        [1.164, 2.018, 0.0, -16 * 1.164 - 128 * 2.018],
    ]
)

#: What fits into 12 bits is of a 12-bit camera; as 16 bits it would be nearly black.
_TWELVE = 1 << 12


@dataclass(frozen=True)
class _Rows:
    """An Image as every cv_bridge reads it right: rows without padding, native byte order.

    The original takes a step that is no multiple of the pixel for a shorter row, and its swapping
    of bytes fails with NumPy 2.
    """

    encoding: str
    height: int
    width: int
    step: int
    data: NDArray[np.uint8]
    is_bigendian: int = 0


def known_encoding(message: Any) -> str:
    """The encoding of an Image under its first name. Raises ConvertError."""
    encoding = _SAME_AS.get(message.encoding, message.encoding)
    if encoding not in _PLANAR and encoding not in ros_packages.IMAGE_ENCODINGS:
        raise ConvertError(
            f"encoding {message.encoding!r} is no colour or grey image; expected one of "
            f"{', '.join(ENCODINGS)}"
        )
    return str(encoding)


def raw_rgb(message: Any, bits: int) -> NDArray[np.uint8]:
    """[H, W, 3] RGB; ``bits`` as of ``images.image_rgb``. Raises ConvertError."""
    encoding = known_encoding(message)
    if encoding in _PLANAR:
        return _planar(message, encoding)
    if encoding.startswith("yuv422") and int(message.width) % 2:
        raise ConvertError(f"expected an even width for {encoding}, got {int(message.width)}")
    channels, size = ros_packages.IMAGE_ENCODINGS[encoding]
    rows = _rows(message, width_bytes=int(message.width) * channels * size)
    if size == 2:
        if message.is_bigendian:
            rows = rows.reshape(len(rows), -1, 2)[..., ::-1].reshape(rows.shape)
        rows = full_range(np.ascontiguousarray(rows).view("<u2"), bits).view(np.uint8)
    if encoding == "rgb8":
        return rows.reshape(len(rows), -1, 3)
    return bridged(rows, encoding, int(message.width))


def bridged(rows: NDArray[np.uint8], encoding: str, width: int) -> NDArray[np.uint8]:
    """Rows of bytes [H, W x pixel] in any encoding that cv_bridge knows -> [H, W, 3] RGB."""
    plain = _Rows(
        encoding=encoding,
        height=len(rows),
        width=width,
        step=rows.shape[1],
        data=np.ascontiguousarray(rows).reshape(-1),
    )
    image = ros_packages.bridge().imgmsg_to_cv2(plain, desired_encoding="rgb8")
    return image.astype(np.uint8, copy=False)  # type: ignore[no-any-return]


def full_range(values: NDArray[Any], bits: int) -> NDArray[Any]:
    """16-bit values of a camera of fewer bits, moved up to where 16 bits have white."""
    bits = bits or (12 if values.size and values.max() < _TWELVE else 16)
    if bits == 16:
        return values
    most = np.uint16((1 << bits) - 1)
    moved: NDArray[Any] = np.minimum(values, most) << np.uint16(16 - bits)
    return moved.astype(values.dtype, copy=False)


def _rows(message: Any, *, width_bytes: int, height: int | None = None) -> NDArray[np.uint8]:
    """[height, width_bytes] of a message's data, a view. Sizes are Python ints: no overflow."""
    height = int(message.height) if height is None else height
    step, data = int(message.step), np.frombuffer(message.data, np.uint8)
    if step < width_bytes or len(data) < height * step or not height * width_bytes:
        raise ConvertError(
            f"expected {height} rows of {int(message.width)} {message.encoding} pixels, that is a "
            f"step of at least {width_bytes} and {height} x step bytes; got step {step} and "
            f"{len(data)} bytes"
        )
    return data[: height * step].reshape(height, step)[:, :width_bytes]


def _planar(message: Any, encoding: str) -> NDArray[np.uint8]:
    """A plane of Y, then interleaved U V (V U in nv21) of half or full resolution."""
    height, width = int(message.height), int(message.width)
    if encoding != "nv24" and (height % 2 or width % 2):
        raise ConvertError(f"expected an even size for {encoding}, got {width} x {height}")
    planes = _rows(message, width_bytes=width, height=round(_PLANAR[encoding] * height))
    if encoding != "nv24":
        code = cv2.COLOR_YUV2RGB_NV21 if encoding == "nv21" else cv2.COLOR_YUV2RGB_NV12
        image = cv2.cvtColor(np.ascontiguousarray(planes), code)
    else:
        color = np.ascontiguousarray(planes[height:]).reshape(height, width, 2)
        image = cv2.transform(np.dstack([planes[:height], color]), _YUV_TO_RGB)
    return image.astype(np.uint8, copy=False)
