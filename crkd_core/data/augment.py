"""Training augmentation: Frame in, Frame out.

The geometry is carried in the Frame: what is done to an image multiplies its intrinsics, what is
done to the ground plane multiplies ``ego_T_cam``, every point, every velocity and every box. So
the network needs no second set of matrices, and no sensor can be forgotten.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.config import AugmentConfig, ImageConfig
from crkd_core.data.crop import Placement, horizon_rows
from crkd_core.frame import Frame, FrameError
from crkd_core.frame_checks import check_recorded
from crkd_core.sensors import CAMERAS, RADARS

#: Camera, draws of chance and size -> the image, and its intrinsics.
Warped = dict[
    tuple[int, float, float, bool, float, ImageConfig],
    tuple[NDArray[np.uint8], NDArray[np.float64]],
]


def augment(
    frame: Frame,
    *,
    augment: AugmentConfig,
    image: ImageConfig,
    rng: np.random.Generator,
    read: Collection[str] = (*CAMERAS, *RADARS),
    warped: Warped | None = None,
) -> Frame:
    """One random view of ``frame``: sensors dropped, images prepared, the ground plane moved.

    Args:
        frame: with images as recorded (not prepared).
        augment: ranges and probabilities.
        image: the network's image size.
        rng: the only source of chance.
        read: names of the sensors that the network reads; never all of them are dropped.
        warped: images of other views of this very frame, to be looked up and added to; a teacher
            and its student mostly see the same ones. None = there are no others.
    """
    frame = drop_sensors(frame, augment=augment, rng=rng, read=read)
    frame = augment_images(frame, augment=augment, image=image, rng=rng, warped=warped)
    ground = ground_matrix(augment=augment, rng=rng)
    # Drawn last, so that a network without memory sees the same views.
    past = tuple(
        moment
        and dataclasses.replace(
            moment, frame=augment_images(moment.frame, augment=augment, image=image, rng=rng)
        )
        for moment in frame.past
    )
    return dataclasses.replace(frame, past=past).moved(ground)


def drop_sensors(
    frame: Frame,
    *,
    augment: AugmentConfig,
    rng: np.random.Generator,
    read: Collection[str] = (*CAMERAS, *RADARS),
) -> Frame:
    """Mask sensors at random, never all of those that are ``read``."""
    cameras = [name for name in CAMERAS if rng.random() < augment.drop_camera]
    radars = [name for name in RADARS if rng.random() < augment.drop_radar]
    chance = rng.random()
    if chance < augment.drop_all_cameras:
        cameras, radars = list(CAMERAS), []
    elif chance < augment.drop_all_cameras + augment.drop_all_radars:
        cameras, radars = [], list(RADARS)
    if not cameras and not radars:
        return frame
    dropped = frame.without(*cameras, *radars)
    return dropped if dropped.sensors & {*read} else frame


def augment_images(
    frame: Frame,
    *,
    augment: AugmentConfig,
    image: ImageConfig,
    rng: np.random.Generator,
    warped: Warped | None = None,
) -> Frame:
    """Zoom, crop, flip and turn each camera's image by itself, intrinsics with it.

    Raises:
        FrameError: as ``cameras.prepare``.
    """
    if frame.prepared is not None:
        raise FrameError("augment_images needs images as recorded; this Frame's are prepared")
    check_recorded(frame.images, frame.intrinsics, frame.ego_T_cam)
    images: list[NDArray[np.uint8] | None] = []
    intrinsics = np.empty_like(frame.intrinsics)
    horizons = horizon_rows(frame.intrinsics, frame.ego_T_cam[:, 2, :3], _widths(frame))
    for k, source in enumerate(frame.images):
        # Drawn for a missing camera too, so that masking one does not change the others' views.
        zoom = rng.uniform(*augment.image_zoom)
        left, flip = rng.random(), rng.random() < augment.image_flip
        angle = np.deg2rad(rng.uniform(-augment.image_rotation, augment.image_rotation))
        if source is None:
            images.append(None)
            intrinsics[k] = frame.intrinsics[k]
            continue
        key = (k, zoom, left, flip, angle, image)
        if warped is not None and key in warped:
            seen, intrinsics[k] = warped[key]
            images.append(seen)
            continue
        height, width = source.shape[:2]
        scale = zoom * image.width / width
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        shrink = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
        resized = cv2.resize(source, size, interpolation=shrink)
        # Pixel (u, v) is the centre of its square: a scale acts on u + 0.5.
        matrix = _about_half_pixel(np.diag([size[0] / width, size[1] / height, 1.0]))
        crop = np.eye(3)
        crop[0, 2] = -round(left * max(0, size[0] - image.width))
        crop[1, 2] = image.height - size[1] + round(_raised(source, horizons[k], image) * size[1])
        turn = _turn(angle, center=((image.width - 1) / 2, (image.height - 1) / 2))
        if flip:
            turn = turn @ np.array([[-1.0, 0, image.width - 1], [0, 1, 0], [0, 0, 1]])
        place = turn @ crop
        seen = np.asarray(
            cv2.warpAffine(resized, place[:2], (image.width, image.height)), np.uint8
        )
        images.append(seen)
        intrinsics[k] = place @ matrix @ frame.intrinsics[k]
        if warped is not None:
            warped[key] = seen, intrinsics[k].copy()
    return dataclasses.replace(frame, images=tuple(images), intrinsics=intrinsics, prepared=image)


def _widths(frame: Frame) -> list[int]:
    return [1 if image is None else image.shape[1] for image in frame.images]


def _raised(source: NDArray[np.uint8], horizon: float | None, image: ImageConfig) -> float:
    """How much higher than the bottom rows the network's crop is, of the image's height."""
    height, width = source.shape[:2]
    place = Placement.of(width, height, image, horizon=horizon)
    return (place.height - image.height - place.top) / place.height


def ground_matrix(*, augment: AugmentConfig, rng: np.random.Generator) -> NDArray[np.float64]:
    """A random scale, turn about z and mirroring of x and y, as one [4, 4] matrix."""
    scale = rng.uniform(*augment.bev_scale)
    angle = np.deg2rad(rng.uniform(-augment.bev_rotation, augment.bev_rotation))
    flips = rng.random(2) < augment.bev_flip
    mirror = np.where(flips & [axis in augment.bev_mirror for axis in "xy"], -1.0, 1.0)
    matrix = geometry.pose([0, 0, 0], geometry.yaw_to_quat_wxyz(angle))
    matrix[:3, :3] *= scale
    return matrix @ np.diag([*mirror, 1.0, 1.0])


def _about_half_pixel(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    return np.linalg.inv(shift) @ matrix @ shift


def _turn(angle: float, *, center: tuple[float, float]) -> NDArray[np.float64]:
    c, s = np.cos(angle), np.sin(angle)
    move = np.array([[1, 0, center[0]], [0, 1, center[1]], [0, 0, 1.0]])
    return move @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.linalg.inv(move)
