"""Stand-in for ``cv_bridge``: 8-bit images of 1, 3 and 4 channels, and compressed ones."""

from __future__ import annotations

import array
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

#: Encoding -> channels, and the same pixels' conversion to bgr8 and back (None: no change).
_ENCODINGS: dict[str, tuple[int, int | None, int | None]] = {
    "bgr8": (3, None, None),
    "8UC3": (3, None, None),
    "rgb8": (3, cv2.COLOR_RGB2BGR, cv2.COLOR_BGR2RGB),
    "mono8": (1, cv2.COLOR_GRAY2BGR, cv2.COLOR_BGR2GRAY),
    "8UC1": (1, cv2.COLOR_GRAY2BGR, cv2.COLOR_BGR2GRAY),
    "bgra8": (4, cv2.COLOR_BGRA2BGR, cv2.COLOR_BGR2BGRA),
    "rgba8": (4, cv2.COLOR_RGBA2BGR, cv2.COLOR_BGR2RGBA),
}


class CvBridgeError(TypeError):
    """An encoding or a size that cannot be converted."""


class CvBridge:
    """Image messages to OpenCV arrays and back."""

    def imgmsg_to_cv2(
        self, img_msg: Any, desired_encoding: str = "passthrough"
    ) -> NDArray[np.uint8]:
        """Pixels of an Image, uint8 [H, W] or [H, W, C]; a view of the message where possible."""
        channels = self._lookup(img_msg.encoding)[0]
        height, width, step = img_msg.height, img_msg.width, img_msg.step
        data = np.frombuffer(img_msg.data, np.uint8)
        if step < width * channels or len(data) < height * step or not height * width:
            raise CvBridgeError(
                f"expected {height} rows of {width} {img_msg.encoding} pixels, got step {step} "
                f"and {len(data)} bytes"
            )
        rows = data[: height * step].reshape(height, step)[:, : width * channels]
        image = rows.reshape((height, width) if channels == 1 else (height, width, channels))
        return self._convert(image, img_msg.encoding, desired_encoding)

    def compressed_imgmsg_to_cv2(
        self, cmprs_img_msg: Any, desired_encoding: str = "passthrough"
    ) -> NDArray[np.uint8]:
        """Pixels of a CompressedImage, bgr8 or as stored if grey."""
        data = np.frombuffer(cmprs_img_msg.data, np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_ANYCOLOR) if len(data) else None
        if image is None:
            raise CvBridgeError(f"OpenCV cannot decode these {len(data)} bytes")
        encoding = "mono8" if image.ndim == 2 else "bgr8"
        return self._convert(image.astype(np.uint8, copy=False), encoding, desired_encoding)

    def cv2_to_imgmsg(
        self, cvim: NDArray[np.uint8], encoding: str = "passthrough", header: Any = None
    ) -> Any:
        """An Image with these pixels; ``encoding`` names what they are, nothing is converted."""
        from sensor_msgs.msg import Image

        channels = 1 if cvim.ndim == 2 else cvim.shape[2]
        if encoding == "passthrough":
            encoding = f"8UC{channels}"
        if self._lookup(encoding)[0] != channels or cvim.dtype != np.uint8:
            raise CvBridgeError(
                f"{cvim.dtype} {cvim.shape} is not an image of encoding {encoding}"
            )
        message = Image(height=cvim.shape[0], width=cvim.shape[1], encoding=encoding)
        message.step = cvim.shape[1] * channels
        message.data = _bytes(cvim)
        if header is not None:
            message.header = header
        return message

    def cv2_to_compressed_imgmsg(self, cvim: NDArray[np.uint8], dst_format: str = "jpg") -> Any:
        """A CompressedImage of bgr8 or mono8 pixels."""
        from sensor_msgs.msg import CompressedImage

        done, data = cv2.imencode(f".{dst_format}", cvim)
        if not done:
            raise CvBridgeError(f"OpenCV cannot write {cvim.dtype} {cvim.shape} as {dst_format}")
        return CompressedImage(format=dst_format, data=_bytes(data))

    def _convert(self, image: NDArray[np.uint8], source: str, target: str) -> NDArray[np.uint8]:
        if target in ("passthrough", source):
            return image
        forward, back = self._lookup(source)[1], self._lookup(target)[2]
        for code in (forward, back):
            if code is not None:
                image = cv2.cvtColor(image, code).astype(np.uint8, copy=False)
        return image

    def _lookup(self, encoding: str) -> tuple[int, int | None, int | None]:
        if encoding not in _ENCODINGS:
            raise CvBridgeError(
                f"encoding {encoding!r} needs the real cv_bridge; without it, these work: "
                f"{', '.join(_ENCODINGS)}"
            )
        return _ENCODINGS[encoding]


def _bytes(values: NDArray[np.uint8]) -> array.array:
    out = array.array("B")
    out.frombytes(np.ascontiguousarray(values).tobytes())
    return out
