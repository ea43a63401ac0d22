"""Image and CompressedImage messages to RGB pixels.

Whatever arrives is checked before anything of its size is allocated: sizes are compared with the
bytes that came (raw_images.py), and compressed images are measured in their header before they are
decoded (compressed_images.py).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.data.cameras import CameraError
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.compressed_images import compressed_rgb, picture_size
from crkd_ros.convert.raw_images import ENCODINGS, known_encoding, raw_rgb

__all__ = ["ENCODINGS", "Picture", "image_rgb", "picture_of"]


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
        encoding = known_encoding(message)
        return Picture(int(message.width), int(message.height), not encoding.startswith("mono"))
    return Picture(*picture_size(message))


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
            return raw_rgb(message, bits)
        return compressed_rgb(message, source, bits)
    except CameraError as error:
        raise ConvertError(str(error)) from error
    # cv_bridge raises CvBridgeError (a TypeError), and lets KeyError and ValueError through.
    except (TypeError, ValueError, KeyError, cv2.error) as error:
        raise ConvertError(f"{source}: {error}") from error
