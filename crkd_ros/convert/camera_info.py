"""The fields of a CameraInfo, checked one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.calibration import is_pinhole, is_rotation
from crkd_ros.convert.arrays import ConvertError

#: Numbers of coefficients that each distortion model may have.
MODELS = {
    "plumb_bob": (4, 5),
    "rational_polynomial": (5, 8, 12, 14),
    "equidistant": (4,),
}

#: Other names under which drivers publish these models.
_SAME_AS = {
    "fisheye": "equidistant",
    "kannala_brandt": "equidistant",
    "kannala_brandt4": "equidistant",
    "radtan": "plumb_bob",
    "brown": "plumb_bob",
    "brown_conrady": "plumb_bob",
}

#: Polynomials in the pinhole's image: without coefficients nothing is left but the pinhole. Any
#: other model is a lens of its own even if all its coefficients are zero.
_POLYNOMIALS = (
    *("", "none", "pinhole", "perspective", "plumb_bob", "rational_polynomial"),
    *("inverse_brown_conrady", "modified_brown_conrady", "thin_prism"),
)

#: Far beyond any camera, but inverting such a matrix still works.
_LARGEST = 1e6

#: The distortion of images that have none.
STRAIGHT = "none"


def distortion(kind: str, d: Any, name: str) -> tuple[str, tuple[float, ...]]:
    """The model and its coefficients; of a polynomial, no coefficient but zeros means none.

    Raises:
        ConvertError: numbers that are not finite, or a model or a count that is not known.
    """
    values = np.asarray(d, np.float64)
    if not np.isfinite(values).all() or (np.abs(values) > _LARGEST).any():
        raise ConvertError(f"{name}: d = {values.tolist()} is not a calibration; calibrate again")
    plain = kind.strip().lower().replace(" ", "_")
    model = _SAME_AS.get(plain, plain)
    if not values.any() and model in _POLYNOMIALS:
        return STRAIGHT, ()
    if model not in MODELS:
        raise ConvertError(
            f"{name}: distortion_model {kind!r} is not known; expected one of "
            f"{', '.join(MODELS)}, or publish rectified images"
        )
    if not len(values):
        values = np.zeros(MODELS[model][0])
    if len(values) not in MODELS[model]:
        raise ConvertError(
            f"{name}: distortion_model {model} has "
            f"{' or '.join(map(str, MODELS[model]))} coefficients, got {len(values)} in d"
        )
    return model, tuple(values.tolist())


def calibration(values: Any, columns: int, name: str) -> NDArray[np.float64]:
    """A pinhole matrix [3, columns], with or without skew. Raises ConvertError when invalid."""
    matrix = np.asarray(values, np.float64).reshape(3, columns)
    # A skew of more than the focal length is no lens: the matrix is turned or transposed.
    good = is_pinhole(matrix[:, :3]) and abs(matrix[0, 1]) <= matrix[0, 0]
    if not good or not np.abs(matrix).max() <= _LARGEST:
        raise ConvertError(
            f"{name} = {matrix.ravel().tolist()} is not a calibration (k[0] = 0 means "
            "uncalibrated); expected fx skew cx 0 fy cy 0 0 1 with fx and fy above 1; publish a "
            "calibrated camera_info"
        )
    return matrix


def window(info: Any, name: str) -> NDArray[np.float64]:
    """[3, 3] from pixels of the full sensor to pixels as delivered.

    ``do_rectify`` changes nothing: image_proc rectifies the window as it is.

    Raises:
        ConvertError: the region of interest is outside the sensor.
    """
    region = info.roi
    right, bottom = region.x_offset + region.width, region.y_offset + region.height
    if info.width and info.height and (right > info.width or bottom > info.height):
        raise ConvertError(
            f"{name}: roi {region.width} x {region.height} at ({region.x_offset}, "
            f"{region.y_offset}) is outside the {info.width} x {info.height} sensor"
        )
    x, y = 1 / max(1, info.binning_x), 1 / max(1, info.binning_y)
    return np.array([[x, 0, -x * region.x_offset], [0, y, -y * region.y_offset], [0, 0, 1]])


def size(info: Any) -> tuple[int, int] | None:
    """(width, height) of the images as delivered; None where CameraInfo does not say."""
    width, height = int(info.roi.width or info.width), int(info.roi.height or info.height)
    delivered = width // max(1, info.binning_x), height // max(1, info.binning_y)
    return delivered if all(delivered) else None


def rotation(values: Any) -> NDArray[np.float64]:
    """camera_R_image of CameraInfo's ``r`` (image_R_camera); many bags hold none: the identity.

    One that was rounded, as in a file by hand, is made a rotation again.
    """
    matrix = np.asarray(values, np.float64).reshape(3, 3)
    if not np.isfinite(matrix).all() or not is_rotation(matrix):
        return np.eye(3)
    left, _, right = np.linalg.svd(matrix)
    return np.asarray((left @ right).T)
