"""Image and CompressedImage messages to RGB pixels.

Whatever arrives is checked before anything of its size is allocated: sizes are compared with the
bytes that came, and compressed images are measured in their header before they are decoded.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.data.cameras import MAX_PIXELS, CameraError, decode_jpeg
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

#: JPEG markers that hold the size: start of frame, without DHT, JPG and DAC.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


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


def image_rgb(message: Any, *, source: str = "image") -> NDArray[np.uint8]:
    """Pixels of an Image (ENCODINGS) or of a CompressedImage (JPEG or PNG). -> [H, W, 3] RGB.

    May be a read-only view of the message. JPEGs are decoded by the core's own function, so that
    they give the same pixels as the file. 16-bit images are scaled to 8 by 255 / 65535.

    Raises:
        ConvertError: an encoding we cannot read, sizes that contradict the data, or a damaged JPEG
            or PNG; names the source.
    """
    try:
        if hasattr(message, "encoding"):
            return _raw(message)
        return _compressed(message, source)
    except CameraError as error:
        raise ConvertError(str(error)) from error
    # cv_bridge raises CvBridgeError (a TypeError), and lets KeyError and ValueError through.
    except (TypeError, ValueError, KeyError, cv2.error) as error:
        raise ConvertError(f"{source}: {error}") from error


def _raw(message: Any) -> NDArray[np.uint8]:
    encoding = _SAME_AS.get(message.encoding, message.encoding)
    if encoding in _PLANAR:
        return _planar(message, encoding)
    if encoding not in ros_packages.IMAGE_ENCODINGS:
        raise ConvertError(
            f"encoding {message.encoding!r} is no colour or grey image; expected one of "
            f"{', '.join(ENCODINGS)}"
        )
    channels, size = ros_packages.IMAGE_ENCODINGS[encoding]
    rows = _rows(message, width_bytes=int(message.width) * channels * size)
    if size == 2 and message.is_bigendian:
        rows = rows.reshape(len(rows), -1, 2)[..., ::-1].reshape(rows.shape)
    if encoding == "rgb8":
        return rows.reshape(len(rows), -1, 3)
    plain = _Rows(
        encoding=encoding,
        height=len(rows),
        width=int(message.width),
        step=rows.shape[1],
        data=np.ascontiguousarray(rows).reshape(-1),
    )
    image = ros_packages.bridge().imgmsg_to_cv2(plain, desired_encoding="rgb8")
    return image.astype(np.uint8, copy=False)  # type: ignore[no-any-return]


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


def _compressed(message: Any, source: str) -> NDArray[np.uint8]:
    kind = str(message.format)
    data = memoryview(message.data).tobytes()
    if "compressedDepth" in kind:
        raise ConvertError(
            f"format {kind!r} is a depth image, not a picture; subscribe to the camera's "
            "colour topic"
        )
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        image = _png(data)
    else:
        _check_size(_jpeg_size(data))
        image = decode_jpeg(data, source=source)
    # As image_transport means it: a colour image without "compressed bgr" was stored with red
    # and blue exchanged (its publishers before 2012).
    head, _, tail = kind.partition(";")
    if tail and head.startswith(("rgb", "bgr")) and "compressed bgr" not in tail:
        image = np.ascontiguousarray(image[..., ::-1])
    return image


def _png(data: bytes) -> NDArray[np.uint8]:
    """Pixels of a PNG: grey or colour, 8 or 16 bits; transparency is ignored."""
    if len(data) < 24:
        raise ConvertError(f"PNG cut short: {len(data)} bytes")
    _check_size(struct.unpack(">II", data[16:24]))
    if data.rfind(b"IEND", -64) < 0:
        raise ConvertError(f"PNG of {len(data)} bytes is cut short: it has no end chunk")
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ConvertError(f"OpenCV cannot decode this PNG of {len(data)} bytes")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(image, alpha=255 / 65535)
    return image.astype(np.uint8, copy=False)


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """(width, height) from a JPEG's frame header; (0, 0) where there is none (decoding fails)."""
    at = 2
    while at + 9 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        # Fill bytes and markers without content.
        alone = marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8
        length = 0 if alone else int.from_bytes(data[at + 2 : at + 4], "big")
        at += (1 if marker == 0xFF else 2) + length
    return 0, 0


def _check_size(size: tuple[int, ...]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise ConvertError(
            f"its header says {size[0]} x {size[1]} pixels, more than any camera has "
            f"({MAX_PIXELS}); the message is damaged"
        )
