"""CameraInfo to a pinhole camera: which matrix holds for an image, and what straightens it.

Follows image_geometry: K, D and P describe the full sensor; a region of interest moves the
principal point, binning divides. ``R`` turns rectified images of a stereo pair only.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.config import ImageConfig
from crkd_core.data.cameras import CameraError, prepare_image
from crkd_core.data.crop import Placement, horizon_row
from crkd_core.sensors import CAMERAS
from crkd_ros.convert import camera_info
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.camera_info import STRAIGHT
from crkd_ros.convert.images import image_rgb
from crkd_ros.motion.calibration_file import CameraEntry
from crkd_ros.parameters.knobs import check, check_overrides, knob, of_one, override_knob

#: No camera's image has sides in such a ratio.
_LONGEST = 16

Matrix = tuple[tuple[float, ...], ...]


@dataclass(frozen=True, kw_only=True)
class CamerasConfig:
    """How images and CameraInfo belong together; ``of`` has it of one camera."""

    rectified: Literal["auto", "always", "never"] = knob(
        "auto",
        "Images are rectified (P of CameraInfo holds): auto (topic says rect), always or never",
    )
    bits: int = knob(
        0,
        "Bits of a camera that fill 16-bit images from below; 0: 12 where no value needs more",
        low=0,
        high=16,
    )
    #: "CAM_FRONT.rectified" -> what holds for this camera alone.
    of_cameras: Mapping[str, Any] = override_knob(CAMERAS)

    def __post_init__(self) -> None:
        check(self, "cameras.")
        check_overrides(self, "of_cameras")

    def of(self, camera: str) -> CamerasConfig:
        """What holds for one camera."""
        return of_one(self, "of_cameras", camera)

    def is_rectified(self, topic: str) -> bool:
        """Whether the images of a topic are rectified."""
        if self.rectified != "auto":
            return self.rectified == "always"
        return re.search(r"(?<![a-z])rect(ified)?(?![a-z])", topic.lower()) is not None


@dataclass(frozen=True, kw_only=True)
class CameraModel:
    """A camera as its images come: what their pixels mean. Hashable.

    Attributes:
        matrix: [3, 3] of the images as delivered, before their distortion is removed.
        distortion: "none" or a key of camera_info.MODELS; coefficients: of OpenCV.
        straight: [3, 3] of the images without distortion: P's if CameraInfo has one, else K.
        rotation: camera_R_image [3, 3]; the identity but for rectified images of a stereo pair.
        size: (width, height) of the images; None where CameraInfo does not say.
    """

    matrix: Matrix
    straight: Matrix
    distortion: str = STRAIGHT
    coefficients: tuple[float, ...] = ()
    rotation: Matrix = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    size: tuple[int, int] | None = None

    @classmethod
    def pinhole(
        cls, matrix: NDArray[np.floating], size: tuple[int, int] | None = None
    ) -> CameraModel:
        """Images without distortion that ``matrix`` [3, 3] holds for."""
        return cls(matrix=_frozen(matrix), straight=_frozen(matrix), size=size)

    @classmethod
    def of_entry(cls, entry: CameraEntry, *, name: str) -> CameraModel:
        """The camera of a calibration file, which describes the images as they come.

        Raises:
            ConvertError: a distortion that is not known; names the camera.
        """
        distortion, coefficients = camera_info.distortion(
            entry.distortion_model, entry.distortion, f"calibration of {name}"
        )
        _refuse_skew(entry.intrinsics, distortion, f"calibration of {name}")
        matrix = _frozen(entry.intrinsics)
        turned = np.eye(3) if entry.rectification is None else entry.rectification
        return cls(
            matrix=matrix,
            rotation=_frozen(camera_info.rotation(turned)),
            straight=matrix,
            distortion=distortion,
            coefficients=coefficients,
            size=entry.image_size,
        )

    @classmethod
    def of_info(cls, info: Any, *, rectified: bool) -> CameraModel:
        """The camera of a CameraInfo.

        Args:
            info: sensor_msgs/CameraInfo.
            rectified: the images went through image_proc or alike: P holds and D is done with. A
                calibration without P and without distortion is taken for rectified by itself. Of
                rectified images P alone is enough.

        Raises:
            ConvertError: not calibrated, numbers that are not finite, a model or a number of
                coefficients that is not known, or a region of interest outside the sensor.
        """
        name = f"CameraInfo of {info.header.frame_id!r}"
        # P is all zeros where nobody rectifies, and K where only the rectified images are known.
        has_projection = bool(np.any(info.p))
        k = info.k
        if rectified and has_projection and not np.any(k):
            k = np.asarray(info.p, np.float64).reshape(3, 4)[:, :3]
        matrix = straight = camera_info.calibration(k, 3, f"{name}: k")
        distortion, coefficients = STRAIGHT, tuple[float, ...]()
        if not (rectified and has_projection):  # Else whatever the lens was is done with.
            distortion, coefficients = camera_info.distortion(info.distortion_model, info.d, name)
        rotation = np.eye(3)
        if has_projection and (rectified or distortion != STRAIGHT):
            projection = camera_info.calibration(info.p, 4, f"{name}: p")
            straight = projection[:, :3]
            if rectified and projection[:, 3].any():
                raise ConvertError(
                    f"{name}: p[3] = {projection[0, 3]} says that this is the second camera of a "
                    "stereo pair; use its raw images (cameras.rectified: never), or the first's"
                )
        if rectified:
            if distortion != STRAIGHT and not has_projection:
                raise ConvertError(
                    f"{name}: d is not zero and p is empty, so it is not known what rectified the "
                    "images; publish p, or use raw images with cameras.rectified: never"
                )
            if has_projection:
                rotation = camera_info.rotation(info.r)
            matrix, distortion, coefficients = straight, STRAIGHT, ()
        _refuse_skew(matrix, distortion, name)
        window = camera_info.window(info, name)
        return cls(
            matrix=_frozen(window @ matrix),
            straight=_frozen(window @ straight),
            distortion=distortion,
            coefficients=coefficients,
            rotation=_frozen(rotation),
            size=camera_info.size(info),
        )

    def check_size(self, columns: int, rows: int) -> None:
        """Raises ConvertError: images of this size are of another camera."""
        if self.size is not None and self.size != (columns, rows):
            raise ConvertError(
                f"CameraInfo is for {self.size[0]} x {self.size[1]} pixels, the image has "
                f"{columns} x {rows}; intrinsics of another resolution are wrong"
            )

    def prepare(
        self,
        image: NDArray[np.uint8],
        config: ImageConfig,
        *,
        up: NDArray[np.floating] | None = None,
    ) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
        """Straighten, resize and crop one image for the network.

        Without distortion this is ``prepare_image`` of the core, to the byte. With it, one remap
        does all three at once, after an exact reduction by a whole number where the image is more
        than twice too large (aliasing).

        Args:
            image: as it came.
            config: the detector's ``config.image``.
            up: [3] the vehicle's upward direction in the camera's optical axes; None = not known.

        Returns:
            uint8 [config.height, config.width, 3] and the [3, 3] matrix of exactly that image.

        Raises:
            ConvertError: an image of another size than CameraInfo says, or of no pixels, or more
                than 16 times as long as wide.
        """
        rows, columns = image.shape[:2]
        # The resized image has as many rows as its shape asks for, before it is cropped.
        if not rows * columns or max(rows, columns) > _LONGEST * min(rows, columns):
            raise ConvertError(f"expected a camera's image, got one of {columns} x {rows} pixels")
        self.check_size(columns, rows)
        if up is not None:
            up = np.array(self.rotation).T @ up
        if self.distortion == STRAIGHT:
            return prepare_image(image, np.array(self.matrix), config, up=up)
        horizon = None if up is None else horizon_row(np.array(self.straight), up, columns)
        place = Placement.of(columns, rows, config, horizon=horizon)
        maps = _maps(replace(self, size=(columns, rows)), config, place)
        shrink = maps.shrink
        image = image[: rows // shrink * shrink, : columns // shrink * shrink]
        if shrink > 1:
            to = (columns // shrink, rows // shrink)
            image = cv2.resize(image, to, interpolation=cv2.INTER_AREA)  # type: ignore[assignment]
        pixels = cv2.remap(image, maps.whole, maps.fraction, cv2.INTER_LINEAR)
        return pixels.astype(np.uint8, copy=False), maps.matrix.copy()


@dataclass(frozen=True, kw_only=True)
class PreparedImage:
    """One image as the network takes it, and the frame it was taken in.

    Attributes:
        pixels: uint8 [height, width, 3] RGB after ``CameraModel.prepare``.
        intrinsics: [3, 3] of these pixels.
        frame_id: of the image's header.
        rotation: camera_R_image [3, 3] of the CameraModel.
    """

    pixels: NDArray[np.uint8]
    intrinsics: NDArray[np.float64]
    frame_id: str
    rotation: Matrix = CameraModel.rotation


def prepared_image(
    message: Any,
    model: CameraModel,
    config: ImageConfig,
    *,
    camera: str,
    bits: int = 0,
    up: NDArray[np.floating] | None = None,
) -> PreparedImage:
    """Decode an image message and prepare it for the network.

    Args:
        message: Image or CompressedImage.
        model: of the image as sent.
        config: the detector's ``config.image``.
        camera: its name, for error texts; also the frame where the header names none.
        bits: see ``image_rgb``.
        up: see ``CameraModel.prepare``.

    Raises:
        ConvertError: see ``image_rgb`` and ``CameraModel.prepare``; names the camera.
    """
    image = image_rgb(message, source=camera, bits=bits)
    try:
        pixels, matrix = model.prepare(image, config, up=up)
    except (CameraError, ConvertError, cv2.error) as error:
        raise ConvertError(f"{camera}: {error}") from error
    return PreparedImage(
        pixels=pixels,
        intrinsics=matrix,
        frame_id=message.header.frame_id or camera.lower(),
        rotation=model.rotation,
    )


@dataclass(frozen=True)
class _Maps:
    """Where each pixel of the network's image comes from, for images reduced by ``shrink``."""

    shrink: int
    whole: NDArray[np.int16]
    fraction: NDArray[np.uint16]
    matrix: NDArray[np.float64]


@functools.lru_cache(maxsize=32)
def _maps(model: CameraModel, config: ImageConfig, place: Placement) -> _Maps:
    assert model.size is not None
    columns, rows = model.size
    # "released" says less of where pixels lie than it does to them; the pixels must be the same.
    pixels = replace(place, half=0.5).matrix(columns, rows) @ np.array(model.straight)
    shrink = max(1, columns // place.width)
    # The pixel whose centre is u lies in the square around (u + 0.5) / n - 0.5 of the reduced one.
    scale = 1 / shrink
    middle = (scale - 1) / 2
    reduced = np.array([[scale, 0, middle], [0, scale, middle], [0, 0, 1]])
    build: Any = cv2.initUndistortRectifyMap
    if model.distortion == "equidistant":
        build = cv2.fisheye.initUndistortRectifyMap
    whole, fraction = build(
        reduced @ np.array(model.matrix),
        np.array(model.coefficients),
        np.eye(3),
        pixels,
        (config.width, config.height),
        cv2.CV_16SC2,
    )
    matrix = place.matrix(columns, rows) @ np.array(model.straight)
    return _Maps(shrink, whole, fraction, matrix)


def _refuse_skew(matrix: NDArray[np.floating], distortion: str, name: str) -> None:
    """OpenCV passes over it where a lens is straightened."""
    if matrix[0, 1] and distortion != STRAIGHT:
        raise ConvertError(
            f"{name}: a skew of {matrix[0, 1]:g} and a distortion together are not known here; "
            "calibrate without skew, or publish rectified images"
        )


def _frozen(matrix: NDArray[np.floating]) -> Matrix:
    return tuple(tuple(row) for row in np.asarray(matrix, np.float64).tolist())
