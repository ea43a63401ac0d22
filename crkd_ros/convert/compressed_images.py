"""Pixels of sensor_msgs/CompressedImage: JPEG and PNG, colours, grey or a Bayer mosaic.

A compressed image is measured in its header before it is decoded.
"""

from __future__ import annotations

import re
import struct
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.data.cameras import decode_jpeg
from crkd_core.sensors import MAX_PIXELS
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.raw_images import bridged, full_range

_PNG = b"\x89PNG\r\n\x1a\n"

#: One value per pixel that is no brightness: depth, labels.
_NO_PICTURES = ("16UC1", "32FC1", "16SC1", "32SC1", "64FC1", "8SC1")

#: In ``CompressedImage.format``: the pixels were stored as they came from the sensor.
_MOSAIC = re.compile(r"bayer_(?:rggb|bggr|gbrg|grbg)(?:8|16)")

#: JPEG markers that hold the size: start of frame, without DHT, JPG and DAC.
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def picture_size(message: Any) -> tuple[int, int, bool]:
    """Width, height, and whether it has colours, by format and header alone.

    Raises:
        ConvertError: not a JPEG or PNG picture.
    """
    data = memoryview(message.data).tobytes()
    mosaic = _mosaic(str(message.format))
    if data.startswith(_PNG):
        if len(data) < 26:
            raise ConvertError(f"PNG cut short: {len(data)} bytes")
        width, height = struct.unpack(">II", data[16:24])
        return width, height, mosaic is not None or data[25] not in (0, 4)
    _check_jpeg(message, data)
    width, height, channels = _jpeg_size(data)
    return width, height, mosaic is not None or channels > 1


def compressed_rgb(message: Any, source: str, bits: int) -> NDArray[np.uint8]:
    """[H, W, 3] RGB; ``source`` and ``bits`` as of ``images.image_rgb``.

    Raises:
        ConvertError: not a JPEG or PNG picture, or it is damaged.
        CameraError: a damaged JPEG.
    """
    kind = str(message.format)
    data = memoryview(message.data).tobytes()
    mosaic = _mosaic(kind)
    if not data.startswith(_PNG):
        _check_jpeg(message, data)
        # USB cameras fill Motion JPEG up to whole blocks; what was cut short lacks its end still.
        data = data.rstrip(b"\0")
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


def _check_jpeg(message: Any, data: bytes) -> None:
    """Say what was sent where it is no JPEG; H.264 is not a damaged one."""
    if data[:2] != b"\xff\xd8":
        raise ConvertError(
            f"format {message.format!r}: expected a JPEG or PNG, got {len(data)} bytes beginning "
            f"with {data[:4].hex(' ') or 'nothing'}; video (H.264) and other pictures are not read"
        )


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
        image = full_range(image, bits)
    # A JPEG has 8 bits, whatever the sensor has.
    name = f"{encoding.rstrip('0123456789')}{8 * image.dtype.itemsize}"
    return bridged(image.view(np.uint8), name, image.shape[1])


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
        image = cv2.convertScaleAbs(full_range(image, bits), alpha=255 / 65535)
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
