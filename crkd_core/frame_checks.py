"""What the arrays of a Frame must be. They are looked at for every Frame, the live ones too."""

from __future__ import annotations

import operator
from collections.abc import Collection, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.calibration import MOUNTED, PINHOLE, RIGID, is_pinhole, is_rigid
from crkd_core.config import ImageConfig
from crkd_core.sensors import CAMERAS, RADAR_COLUMNS, RADAR_SENSOR, RADARS

#: Older returns say nothing of now, seconds. It tells units apart: a sweep of 13 Hz is 77 ms old.
OLDEST = 60.0

#: A straight image with a focal length of a smaller share of its side sees more than 175 degrees.
_WIDEST = 0.02


class FrameError(ValueError):
    """Arrays that do not describe one Frame, or a Frame that a model cannot use."""


def stamp(value: Any) -> int:
    """The whole number that it is. Raises FrameError: it is none."""
    try:
        return operator.index(value)
    except TypeError:
        raise FrameError(
            f"Frame.stamp_ns: expected a whole number of nanoseconds, got {value!r}"
        ) from None


def mask(value: Any) -> NDArray[np.bool_]:
    """Which radars deliver, of five truth values. Raises FrameError: they are none."""
    given = np.asarray(value)
    if given.shape != (len(RADARS),):
        raise FrameError(
            f"Frame.radar_present: expected shape ({len(RADARS)},), got {given.shape}"
        )
    # Whole numbers would be taken for indices of rows.
    if given.dtype != bool and not np.isin(given, (0, 1)).all():
        raise FrameError(f"Frame.radar_present: expected True or False, got {given.tolist()}")
    return given.astype(bool, copy=False)


def check_sensors(names: Collection[str], known: Sequence[str]) -> None:
    """Raises FrameError for names of no sensor, and for one that stands for a list of them."""
    if isinstance(names, str):
        raise FrameError(f"expected a list of sensors, got the word {names!r}; put it in a list")
    unknown = {*names} - {*known}
    if unknown:
        raise FrameError(
            f"unknown sensors {', '.join(sorted(unknown))}; known: {', '.join(known)}"
        )


def check_matrices(name: str, value: Any, shape: tuple[int, ...]) -> None:
    """Raises FrameError for anything but an array of numbers of this shape."""
    _check_array(name, value, shape, "fiu")


def known_pose(pose: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The pose, or None for one that is not finite. Raises FrameError: it is finite and none."""
    if not np.isfinite(pose).all():
        return None
    if not is_rigid(pose):
        raise FrameError(
            f"Frame.global_T_ego: expected {RIGID}, or None where it is not known, got "
            f"{pose.tolist()}"
        )
    return pose


def check_images(images: Any, prepared: ImageConfig | None) -> None:
    """Raises FrameError for images that are none, or are not those of ``prepared``."""
    if not isinstance(images, Sequence | np.ndarray) or len(images) != len(CAMERAS):
        got = len(images) if isinstance(images, Sequence | np.ndarray) else type(images).__name__
        raise FrameError(
            f"Frame.images: expected {len(CAMERAS)} entries in the order {', '.join(CAMERAS)} "
            f"(None for a missing camera), got {got}"
        )
    for name, image in zip(CAMERAS, images, strict=True):
        if image is None:
            continue
        if not isinstance(image, np.ndarray):
            raise FrameError(
                f"Frame.images[{name}]: expected a NumPy array, uint8 [H, W, 3] RGB, got "
                f"{type(image).__name__}"
            )
        if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
            raise FrameError(
                f"Frame.images[{name}]: expected uint8 [H, W, 3] RGB, got {image.dtype} "
                f"{image.shape}"
            )
        if prepared is not None:
            size = (prepared.height, prepared.width)
            if image.shape[:2] != size:
                raise FrameError(
                    f"Frame.images[{name}]: expected [H, W] {size} as prepared says, got "
                    f"{image.shape[:2]}; leave prepared out for images as recorded"
                )


def check_recorded(
    images: Sequence[NDArray[np.uint8] | None],
    intrinsics: NDArray[np.floating],
    ego_T_cam: NDArray[np.floating],
) -> None:
    """Refuse calibrations that no camera has, of images as recorded.

    Augmented Frames are scaled and mirrored, and are not asked.

    Args:
        images: per camera, None where it is missing.
        intrinsics: [6, 3, 3].
        ego_T_cam: [6, 4, 4].

    Raises:
        FrameError: of a camera that is there, intrinsics that are not in pixels of its image, a
            pose that scales, mirrors or is transposed, or one that is not in metres.
    """
    there = [index for index, image in enumerate(images) if image is not None]
    sides = np.array([image.shape[1::-1] for image in images if image is not None]).reshape(-1, 2)
    k, pose = intrinsics[there], ego_T_cam[there]
    narrow = (k[:, (0, 1), (0, 1)] > _WIDEST * sides).all(1)
    good = is_pinhole(k) & narrow
    rigid = is_rigid(pose)
    near = (np.abs(pose[:, :3, 3]) <= MOUNTED).all(1)
    if (good & rigid & near).all():
        return
    bad = int(np.flatnonzero(~(good & rigid & near))[0])
    name = CAMERAS[there[bad]]
    if not good[bad]:
        raise FrameError(
            f"Frame.intrinsics[{name}]: expected {PINHOLE}, of an image of {sides[bad][0]} x "
            f"{sides[bad][1]} pixels, got {k[bad].tolist()}; a missing camera has None in images"
        )
    if not rigid[bad]:
        raise FrameError(
            f"Frame.ego_T_cam[{name}]: expected {RIGID}, got {pose[bad].tolist()}; a missing "
            "camera has None in images"
        )
    raise FrameError(
        f"Frame.ego_T_cam[{name}]: expected metres, at most {MOUNTED:g} from ego along each axis, "
        f"got {pose[bad, :3, 3].tolist()}"
    )


def check_points(name: str, points: Any, columns: Sequence[str]) -> None:
    """Raises FrameError for no array, numbers that are not finite, and ages in other units."""
    _check_array(name, points, (None, len(columns)), "f")
    if not len(points):
        return
    if not np.isfinite(points).all():
        finite = np.asarray(np.isfinite(points).all(0))
        finite |= [column in ("vx", "vy") for column in columns]
        if not finite.all():
            names = ", ".join(columns[index] for index in np.flatnonzero(~finite).tolist())
            raise FrameError(f"Frame.{name}: {names}: expected finite numbers; leave such out")
    age = points[:, columns.index("age")]
    if age.min() < 0 or age.max() > OLDEST:
        raise FrameError(
            f"Frame.{name}: age: expected seconds before stamp_ns, 0 to {OLDEST:g}, got "
            f"{age.min():g} to {age.max():g}"
        )


def check_radar(radar: Any, present: NDArray[np.bool_]) -> None:
    """Raises FrameError for returns that no radar of a Frame measured."""
    check_points("radar", radar, RADAR_COLUMNS)
    if not len(radar):
        return
    sensor = radar[:, RADAR_SENSOR]
    known = sensor.min() >= 0 and sensor.max() < len(RADARS)
    index = sensor.astype(np.int64) if known else np.zeros(0, np.int64)
    if not np.array_equal(index, sensor):
        other = sensor[~np.isin(sensor, np.arange(len(RADARS)))][0]
        raise FrameError(
            f"Frame.radar: sensor: expected whole numbers 0 to {len(RADARS) - 1}, for "
            f"{', '.join(RADARS)}, got {other:g}"
        )
    if not present.all() and not present[index].all():
        name = RADARS[index[~present[index]][0]]
        raise FrameError(
            f"Frame.radar: has returns of {name}, which is missing by radar_present; leave them "
            "out (Frame.without does), or say that it is there"
        )


def _check_array(name: str, value: Any, shape: tuple[int | None, ...], kinds: str) -> None:
    """Raises FrameError for anything but an array of these kinds of numbers, of this shape."""
    numbers = "floating point numbers" if kinds == "f" else "numbers"
    if not isinstance(value, np.ndarray):
        raise FrameError(
            f"Frame.{name}: expected a NumPy array of {numbers}, got {type(value).__name__}"
        )
    if value.dtype.kind not in kinds:
        raise FrameError(f"Frame.{name}: expected {numbers}, got {value.dtype}")
    fits = [want in (None, got) for want, got in zip(shape, value.shape, strict=False)]
    if value.ndim != len(shape) or not all(fits):
        wanted = ", ".join("N" if want is None else str(want) for want in shape)
        raise FrameError(f"Frame.{name}: expected shape ({wanted}), got {value.shape}")
