"""Image and CompressedImage messages to RGB pixels.

Whatever arrives is checked before anything of its size is allocated: sizes are compared with the
bytes that came, and compressed images are measured in their header before they are decoded.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.data.cameras import CameraError, decode_jpeg
from crkd_core.sensors import MAX_PIXELS
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

_PNG = b"\x89PNG\r\n\x1a\n"

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

#: One value per pixel that is no brightness: depth, labels.
_NO_PICTURES = ("16UC1", "32FC1", "16SC1", "32SC1", "64FC1", "8SC1")

#: In ``CompressedImage.format``: the pixels were stored as they came from the sensor.
_MOSAIC = re.compile(r"bayer_(?:rggb|bggr|gbrg|grbg)(?:8|16)")

#: What fits into 12 bits is of a 12-bit camera; as 16 bits it would be nearly black.
_TWELVE = 1 << 12

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


class Picture(NamedTuple):
    """What the header of an image says, before anything is decoded."""

    width: int
    height: int
    colour: bool


def picture_of(message: Any) -> Picture:
    """What an Image or CompressedImage is a picture of, without decoding it.

    Raises:
        ConvertError: not an image that ``image_rgb`` reads: depth, video, an unknown encoding.
    """
    if hasattr(message, "encoding"):
        encoding = _known(message)
        return Picture(int(message.width), int(message.height), not encoding.startswith("mono"))
    data = memoryview(message.data).tobytes()
    mosaic = _mosaic(str(message.format))
    if data.startswith(_PNG):
        if len(data) < 26:
            raise ConvertError(f"PNG cut short: {len(data)} bytes")
        width, height = struct.unpack(">II", data[16:24])
        return Picture(width, height, mosaic is not None or data[25] not in (0, 4))
    _check_jpeg(message, data)
    width, height, channels = _jpeg_size(data)
    return Picture(width, height, mosaic is not None or channels > 1)


def _check_jpeg(message: Any, data: bytes) -> None:
    """Say what was sent where it is no JPEG; H.264 is not a damaged one."""
    if data[:2] != b"\xff\xd8":
        raise ConvertError(
            f"format {message.format!r}: expected a JPEG or PNG, got {len(data)} bytes beginning "
            f"with {data[:4].hex(' ') or 'nothing'}; video (H.264) and other pictures are not read"
        )


def image_rgb(message: Any, *, source: str = "image", bits: int = 0) -> NDArray[np.uint8]:
    """Pixels of an Image (ENCODINGS) or of a CompressedImage (JPEG or PNG). -> [H, W, 3] RGB.

    May be a read-only view of the message. JPEGs are decoded by the core's own function, so that
    they give the same pixels as the file. 16-bit images are scaled to 8 by 255 / 65535.

    Args:
        message: its encoding or format says what the pixels are: a Bayer mosaic within a JPEG or
            PNG is one too.
        source: for error texts.
        bits: that 16-bit values use; 0: 12 where none of an image needs more, else 16.

    Raises:
        ConvertError: an encoding we cannot read, sizes that contradict the data, or a damaged JPEG
            or PNG; names the source.
    """
    try:
        if hasattr(message, "encoding"):
            return _raw(message, bits)
        return _compressed(message, source, bits)
    except CameraError as error:
        raise ConvertError(str(error)) from error
    # cv_bridge raises CvBridgeError (a TypeError), and lets KeyError and ValueError through.
    except (TypeError, ValueError, KeyError, cv2.error) as error:
        raise ConvertError(f"{source}: {error}") from error


def _known(message: Any) -> str:
    """The encoding of an Image under its first name. Raises ConvertError."""
    encoding = _SAME_AS.get(message.encoding, message.encoding)
    if encoding not in _PLANAR and encoding not in ros_packages.IMAGE_ENCODINGS:
        raise ConvertError(
            f"encoding {message.encoding!r} is no colour or grey image; expected one of "
            f"{', '.join(ENCODINGS)}"
        )
    return str(encoding)


def _raw(message: Any, bits: int) -> NDArray[np.uint8]:
    encoding = _known(message)
    if encoding in _PLANAR:
        return _planar(message, encoding)
    if encoding.startswith("yuv422") and int(message.width) % 2:
        raise ConvertError(f"expected an even width for {encoding}, got {int(message.width)}")
    channels, size = ros_packages.IMAGE_ENCODINGS[encoding]
    rows = _rows(message, width_bytes=int(message.width) * channels * size)
    if size == 2:
        if message.is_bigendian:
            rows = rows.reshape(len(rows), -1, 2)[..., ::-1].reshape(rows.shape)
        rows = _full_range(np.ascontiguousarray(rows).view("<u2"), bits).view(np.uint8)
    if encoding == "rgb8":
        return rows.reshape(len(rows), -1, 3)
    return _bridged(rows, encoding, int(message.width))


def _bridged(rows: NDArray[np.uint8], encoding: str, width: int) -> NDArray[np.uint8]:
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


def _full_range(values: NDArray[Any], bits: int) -> NDArray[Any]:
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


def _compressed(message: Any, source: str, bits: int) -> NDArray[np.uint8]:
    kind = str(message.format)
    data = memoryview(message.data).tobytes()
    mosaic = _mosaic(kind)
    if not data.startswith(_PNG):
        _check_jpeg(message, data)
    if mosaic is not None:
        return _demosaiced(data, mosaic, bits, source)
    if data.startswith(_PNG):
        image = _png(data, bits)
    else:
        _check_size(_jpeg_size(data)[:2])
        image = decode_jpeg(data, source=source)
    # As image_transport means it: a colour image without "compressed bgr" was stored with red
    # and blue exchanged (its publishers before 2012).
    head, _, tail = kind.partition(";")
    if tail and head.startswith(("rgb", "bgr")) and "compressed bgr" not in tail:
        image = np.ascontiguousarray(image[..., ::-1])
    return image


def _mosaic(kind: str) -> str | None:
    """The Bayer encoding that the pixels within a CompressedImage have; None: colours or grey.

    Args:
        kind: the ``format``: of image_transport "ENCODING; jpeg compressed STORED", without STORED
            if pixels were stored as they were; of others "jpeg", "png".

    Raises:
        ConvertError: it is no picture.
    """
    head, _, tail = (part.strip() for part in kind.partition(";"))
    if "compressedDepth" in kind or head in _NO_PICTURES:
        raise ConvertError(
            f"format {kind!r} is a depth image, not a picture; subscribe to the camera's "
            "colour topic"
        )
    found = _MOSAIC.search(kind)
    stored = tail.rpartition("compressed")[2].strip()
    if found is None or (stored and not stored.startswith("bayer")):
        return None
    return found[0]


def _demosaiced(data: bytes, encoding: str, bits: int, source: str) -> NDArray[np.uint8]:
    """The colours of a Bayer mosaic that was stored as a grey JPEG or PNG."""
    if data.startswith(_PNG):
        _check_png(data)
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
        if image is None:
            raise ConvertError(f"OpenCV cannot decode this PNG of {len(data)} bytes")
    else:
        _check_size(_jpeg_size(data)[:2])
        image = decode_jpeg(data, source=source)
    if image.ndim == 3:
        if (image[..., :1] != image[..., 1:3]).any():
            raise ConvertError(
                f"format says {encoding}, the image within has colours: which of both it is "
                "cannot be told; let the publisher say what it stores (... compressed bgr8)"
            )
        image = np.ascontiguousarray(image[..., 0])
    if image.dtype == np.uint16:
        image = _full_range(image, bits)
    # A JPEG has 8 bits, whatever the sensor has.
    name = f"{encoding.rstrip('0123456789')}{8 * image.dtype.itemsize}"
    return _bridged(image.view(np.uint8), name, image.shape[1])


def _check_png(data: bytes) -> None:
    if len(data) < 24:
        raise ConvertError(f"PNG cut short: {len(data)} bytes")
    _check_size(struct.unpack(">II", data[16:24]))
    if data.rfind(b"IEND", -64) < 0:
        raise ConvertError(f"PNG of {len(data)} bytes is cut short: it has no end chunk")


def _png(data: bytes, bits: int) -> NDArray[np.uint8]:
    """Pixels of a PNG: grey or colour, 8 or 16 bits; transparency is ignored."""
    _check_png(data)
    flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    if image is None:
        raise ConvertError(f"OpenCV cannot decode this PNG of {len(data)} bytes")
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
    if image.dtype == np.uint16:
        image = cv2.convertScaleAbs(_full_range(image, bits), alpha=255 / 65535)
    return image.astype(np.uint8, copy=False)


def _jpeg_size(data: bytes) -> tuple[int, int, int]:
    """(width, height, channels) from a JPEG's frame header; zeros where there is none."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker in _JPEG_FRAMES:
            height, width, channels = struct.unpack(">HHB", data[at + 5 : at + 10])
            return width, height, channels
        # Fill bytes and markers without content.
        alone = marker in (0xFF, 0x01) or 0xD0 <= marker <= 0xD8
        length = 0 if alone else int.from_bytes(data[at + 2 : at + 4], "big")
        at += (1 if marker == 0xFF else 2) + length
    return 0, 0, 0


def _check_size(size: tuple[int, ...]) -> None:
    if size[0] * size[1] > MAX_PIXELS:
        raise ConvertError(
            f"its header says {size[0]} x {size[1]} pixels, more than any camera has "
            f"({MAX_PIXELS}); the message is damaged"
        )
