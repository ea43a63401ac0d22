"""Camera images: bytes to pixels, pixels to network inputs with the intrinsics they need.

Pixel (u, v) is the CENTRE of column u, row v. A resize by s therefore takes u to
(u + 0.5) s - 0.5 (what ``cv2.resize`` does), and a crop shifts u by its left edge.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re

import cv2
import numpy as np
import simplejpeg
from numpy.typing import NDArray

from crkd_core.config import ImageConfig
from crkd_core.data.crop import Placement, horizon_row
from crkd_core.files import read_file
from crkd_core.frame import Frame, FrameError
from crkd_core.frame_checks import check_recorded
from crkd_core.sensors import CAMERAS, MAX_PIXELS

# Some writers pad after the end-of-image marker; more than this is another file, or a torn one.
_TRAILER_BYTES = 64

# What libjpeg says of an image that it fills up or guesses at. Others of its warnings are about
# the frame around an image, such as an unknown revision of JFIF.
_DAMAGE = re.compile(r"Corrupt JPEG data(?!: bad ICC)|Premature end")
# Cameras that stuff a few bytes in front of the end marker are common; the image is whole.
_STUFFED = re.compile(r"Corrupt JPEG data: ([1-8]) extraneous bytes before marker 0xd9")


class CameraError(ValueError):
    """Bytes that are not one whole JPEG, or an image that cannot be prepared."""


def decode_jpeg(
    data: bytes, *, source: str, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Pixels of one JPEG, as stored (an EXIF rotation would break the intrinsics: ignored).

    Damage inside the image is found where the code of its coefficients breaks, which is nearly
    always; a few changed bytes that are a code again are not.

    Args:
        data: the whole file or message payload.
        source: file or topic, for error texts.
        size: width and height that the image must have; None = any.

    Returns:
        uint8 [H, W, 3] RGB.

    Raises:
        CameraError: not a JPEG, cut short, damaged, of another size, or of more than MAX_PIXELS.
    """
    width, height = jpeg_size(data, source=source)
    if size is not None and size != (width, height):
        raise CameraError(
            f"{source}: expected {size[0]} x {size[1]} pixels, as the data set's tables or the "
            f"camera's calibration say, got {width} x {height}; an image of another size needs "
            "other intrinsics"
        )
    image = np.empty((height, width, 3), np.uint8)
    try:
        simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=image)
    except ValueError as error:
        text = str(error)
        if _DAMAGE.search(text) and not _STUFFED.fullmatch(text):
            raise CameraError(f"{source}: damaged JPEG: {text}; copy the file again") from error
        # The decoder stops at the first warning. Without it, only what is no image is refused.
        try:
            simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=image, strict=False)
        except ValueError as worse:
            raise CameraError(f"{source}: this JPEG cannot be decoded: {worse}") from worse
    return image


def jpeg_size(data: bytes, *, source: str) -> tuple[int, int]:
    """Width and height of a whole JPEG by its header; it is not decoded.

    Raises:
        CameraError: not a JPEG, cut short, of more than MAX_PIXELS, or of no colours of a camera.
    """
    head = bytes(data[:2])
    if head != b"\xff\xd8":
        raise CameraError(
            f"{source}: expected a JPEG (first bytes ff d8), got {len(data)} bytes beginning with "
            f"{head.hex(' ') or 'nothing'}; check that the file or message is complete"
        )
    # The missing rows of a truncated JPEG are filled with grey if it has an end marker somewhere.
    if bytes(data[-_TRAILER_BYTES:]).rfind(b"\xff\xd9") < 0:
        raise CameraError(
            f"{source}: truncated JPEG, no end-of-image marker in the last {_TRAILER_BYTES} of "
            f"{len(data)} bytes; copy the file again"
        )
    try:
        height, width, colours, _ = _header(data)
    except ValueError as error:
        raise CameraError(f"{source}: this JPEG cannot be decoded: {error}") from error
    if width * height > MAX_PIXELS:
        raise CameraError(
            f"{source}: its header says {width} x {height} pixels, more than any camera has "
            f"({MAX_PIXELS}); it is damaged"
        )
    if colours in ("CMYK", "YCCK"):
        raise CameraError(
            f"{source}: expected a colour or grey JPEG, got {colours}, as of a print"
        )
    return width, height


def _header(data: bytes) -> tuple[int, int, str, str]:
    """Height, width, colour space and subsampling. Raises ValueError: there is no header."""
    try:
        return simplejpeg.decode_jpeg_header(data)
    except ValueError as error:
        # A mere warning, or not: then it fails again, without a word.
        try:
            return simplejpeg.decode_jpeg_header(data, strict=False)
        except (ValueError, KeyError):
            raise error from None


def read_image(
    path: str | os.PathLike[str], *, size: tuple[int, int] | None = None
) -> NDArray[np.uint8]:
    """Pixels of one JPEG file, uint8 [H, W, 3] RGB.

    Args:
        path: the file.
        size: width and height that it must have; None = any.

    Raises:
        CameraError: missing, or see ``decode_jpeg``; names the file.
    """
    try:
        data = read_file(path)
    except OSError as error:
        raise CameraError(f"{path}: cannot read image: {error.strerror}") from error
    return decode_jpeg(data, source=str(path), size=size)


def prepare_image(
    image: NDArray[np.uint8],
    intrinsics: NDArray[np.float64],
    config: ImageConfig,
    *,
    up: NDArray[np.floating] | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Resize and crop one image for the network (docs/method.md 1.2, test-time placement).

    Args:
        image: uint8 [H, W, 3] RGB as recorded.
        intrinsics: [3, 3] of that image.
        config: target size and zoom.
        up: [3] the vehicle's upward direction in the camera's optical axes, that is the third row
            of the rotation of ``base_T_cam``; None = not known: the bottom rows are kept.

    Returns:
        uint8 [config.height, config.width, 3] (black where the image does not reach), and the
        [3, 3] intrinsics of exactly that image.

    Raises:
        CameraError: the image is empty or not uint8 [H, W, 3].
    """
    place, adapted = placed(image, intrinsics, config, up=up)
    if config.resize == "released":
        image, first = bicubic(image, place.width, place.height), 0
    else:
        image, first = _resized(image, place, config.height)
    out = np.zeros((config.height, config.width, 3), np.uint8)
    top, left = max(place.top, 0), max(place.left, 0)
    bottom = max(place.top + config.height, 0)
    part = image[max(top - first, 0) : max(bottom - first, 0), left : place.left + config.width]
    y, x = top - place.top, left - place.left
    out[y : y + part.shape[0], x : x + part.shape[1]] = part
    return out, adapted


def _resized(
    image: NDArray[np.uint8], place: Placement, height: int
) -> tuple[NDArray[np.uint8], int]:
    """The resized image, or at least its rows that ``height`` rows of the crop show.

    Returns:
        The rows, and which of the resized image the first one is.
    """
    rows, columns = image.shape[:2]
    if (place.height, place.width) == (rows, columns):
        return image, 0
    if place.width >= columns or place.height >= rows:
        # Averaging keeps thin objects when shrinking, and is undefined when enlarging.
        method = cv2.INTER_AREA if place.width < columns else cv2.INTER_LINEAR
        return cv2.resize(image, (place.width, place.height), interpolation=method), 0  # type: ignore
    # Where a row of the result begins with one of the image, nothing above has a part in it: sky
    # that is cropped need not be averaged.
    common = math.gcd(place.height, rows)
    new, old = place.height // common, rows // common
    start = min(max(place.top // new, 0), common - 1)
    end = min(max(-(-(place.top + height) // new), start + 1), common)
    size = (place.width, new * (end - start))
    part = image[start * old : end * old]
    return cv2.resize(part, size, interpolation=cv2.INTER_AREA), start * new  # type: ignore


def placed(
    image: NDArray[np.uint8],
    intrinsics: NDArray[np.float64],
    config: ImageConfig,
    *,
    up: NDArray[np.floating] | None = None,
) -> tuple[Placement, NDArray[np.float64]]:
    """Where ``prepare_image`` puts an image, and the intrinsics that it then has; see there."""
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or not image.size:
        raise CameraError(f"expected a uint8 [H, W, 3] image, got {image.dtype} {image.shape}")
    rows, columns = image.shape[:2]
    horizon = None if up is None else horizon_row(intrinsics, up, columns)
    place = Placement.of(columns, rows, config, horizon=horizon)
    return place, place.matrix(columns, rows) @ np.asarray(intrinsics, np.float64)


def bicubic(image: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resize uint8 [H, W, C] to [height, width, C] as imaging libraries do it on photographs.

    When shrinking, the kernel (Keys 1981, a = -0.5) is widened. OpenCV has nothing of the kind.
    Equal to Pillow's BICUBIC up to one level when shrinking, two when enlarging.
    """
    # Reading a data set or a message needs no torch, which takes seconds to import.
    import torch
    from torch.nn.functional import interpolate

    planes = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    resized = interpolate(planes, (height, width), mode="bicubic", antialias=True)
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def prepare(frame: Frame, config: ImageConfig) -> Frame:
    """The same Frame with every image resized and cropped, intrinsics adapted.

    A Frame that was already prepared with an equal ``config`` is returned as it is. Intrinsics of
    missing cameras stay as they came.

    Raises:
        FrameError: the Frame was prepared with another ImageConfig, or the calibration of a camera
            is none (``frame_checks.check_recorded``).
        CameraError: an image cannot be prepared; the text names the camera.
    """
    if frame.prepared == config:
        return frame
    if frame.prepared is not None:
        raise FrameError(
            f"the images of this Frame were prepared for {frame.prepared}, not for {config}; "
            "prepare from the recorded images, or not at all"
        )
    check_recorded(frame.images, frame.intrinsics, frame.ego_T_cam)
    images: list[NDArray[np.uint8] | None] = []
    intrinsics = np.array(frame.intrinsics, np.float64)
    for index, image in enumerate(frame.images):
        if image is not None:
            try:
                image, intrinsics[index] = prepare_image(
                    image, intrinsics[index], config, up=frame.ego_T_cam[index, 2, :3]
                )
            except CameraError as error:
                raise CameraError(f"{CAMERAS[index]}: {error}") from error
        images.append(image)
    return dataclasses.replace(frame, images=tuple(images), intrinsics=intrinsics, prepared=config)
