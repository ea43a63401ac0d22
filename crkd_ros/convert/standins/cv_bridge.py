"""Stand-in for ``cv_bridge``: Image messages to rgb8, with the conversions of the original.

Colours first, in the depth of the source, then 16 bits to 8 by 255 / 65535. ROS names a Bayer
pattern by its first two rows, OpenCV by pixels one row and one column further: the rggb of ROS is
the BayerBG of OpenCV.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray


class _Encoding(NamedTuple):
    """Channels and bytes per channel of a pixel, and OpenCV's conversion to RGB; None: is RGB."""

    channels: int
    size: int
    to_rgb: int | None


_OF_BOTH_DEPTHS = {
    "rgb": (3, None),
    "bgr": (3, cv2.COLOR_BGR2RGB),
    "rgba": (4, cv2.COLOR_RGBA2RGB),
    "bgra": (4, cv2.COLOR_BGRA2RGB),
    "mono": (1, cv2.COLOR_GRAY2RGB),
    "bayer_rggb": (1, cv2.COLOR_BayerBG2RGB),
    "bayer_bggr": (1, cv2.COLOR_BayerRG2RGB),
    "bayer_gbrg": (1, cv2.COLOR_BayerGR2RGB),
    "bayer_grbg": (1, cv2.COLOR_BayerGB2RGB),
}

ENCODINGS = {
    f"{name}{8 * size}": _Encoding(channels, size, to_rgb)
    for size in (1, 2)
    for name, (channels, to_rgb) in _OF_BOTH_DEPTHS.items()
} | {
    "yuv422": _Encoding(2, 1, cv2.COLOR_YUV2RGB_UYVY),
    "yuv422_yuy2": _Encoding(2, 1, cv2.COLOR_YUV2RGB_YUY2),
}


class CvBridgeError(TypeError):
    """An encoding or a size that cannot be converted."""


class CvBridge:
    """Image messages to OpenCV arrays."""

    def imgmsg_to_cv2(self, img_msg: Any, desired_encoding: str = "passthrough") -> NDArray[Any]:
        """Pixels of an Image of any step and byte order, [H, W] or [H, W, C].

        A view of the message's data where nothing has to be converted. ``desired_encoding`` is
        "passthrough" or "rgb8".
        """
        if img_msg.encoding not in ENCODINGS:
            raise CvBridgeError(
                f"encoding {img_msg.encoding!r} is not one of {', '.join(ENCODINGS)}"
            )
        source = ENCODINGS[img_msg.encoding]
        height, width, step = int(img_msg.height), int(img_msg.width), int(img_msg.step)
        data, row = np.frombuffer(img_msg.data, np.uint8), width * source.channels * source.size
        if step < row or len(data) < height * step or not height * width:
            raise CvBridgeError(
                f"expected {height} rows of {width} {img_msg.encoding} pixels, got step {step} "
                f"and {len(data)} bytes"
            )
        image = data[: height * step].reshape(height, step)[:, :row]
        if source.size == 2:
            order = ">" if img_msg.is_bigendian else "<"
            image = np.ascontiguousarray(image).view(f"{order}u2").astype(np.uint16, copy=False)
        if source.channels > 1:
            image = image.reshape(height, width, source.channels)
        if desired_encoding in ("passthrough", img_msg.encoding):
            return image
        if desired_encoding != "rgb8":
            raise CvBridgeError(f"conversion to {desired_encoding!r} needs the real cv_bridge")
        if source.to_rgb is not None:
            try:
                image = cv2.cvtColor(image, source.to_rgb)  # type: ignore[assignment]
            except cv2.error as error:
                raise CvBridgeError(f"{img_msg.encoding} to rgb8: {error}") from error
        if source.size == 2:
            image = cv2.convertScaleAbs(image, alpha=255 / 65535)  # type: ignore[assignment]
        return image
