"""Sensors of a bag by their names: in a calibration file, or among its transforms. Pure."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_ros.bags.foreign import contents
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.survey import Survey
from crkd_ros.motion.calibration_file import Calibration, CameraEntry
from crkd_ros.motion.poses import Extrinsics, MotionError

Array = NDArray[np.float64]


def _names(channel: str, frame: str, *, exact: bool) -> list[str]:
    """What a sensor may be called in a calibration file, the likeliest first."""
    names = [name for name in (frame, channel, f"{channel}_link") if name]
    return names[:1] if exact else names


def places(
    frames: Mapping[str, str],
    source: Extrinsics | None,
    *,
    replayed: bool,
    own: bool = False,
) -> dict[str, Array]:
    """Channel -> ``base_T_sensor`` of those that a source places.

    Args:
        frames: channel -> frame of its messages.
        source: a calibration file or /tf; None: it places none.
        replayed: as a replay does it, sensors are known by one name alone.
        own: it is the bag's own, where a frame that messages name is that and no other one: a
            ``cam_front`` beside a ``cam_front_optical`` has other axes.
    """
    found = {}
    for channel, frame in frames.items():
        names = _names(channel, frame, exact=replayed or (own and bool(frame)))
        matrix = None if source is None else _base_T(source, names)
        if matrix is not None:
            found[channel] = matrix
    return found


def _base_T(source: Extrinsics, names: Sequence[str]) -> Array | None:
    for name in names:
        try:
            return source.base_T(name)
        except MotionError:
            continue
    return None


def cameras_of(
    survey: Survey, given: Calibration, file: str, path: Path, *, replayed: bool
) -> dict[str, CameraEntry]:
    """What a calibration file says of the cameras of a bag, with the size of their images.

    Raises:
        BagError: it is for images of another size; names ``file`` and the bag's ``path``.
    """
    found: dict[str, CameraEntry] = {}
    for camera in survey.layout.images:
        names = _names(camera, survey.frames.get(camera, ""), exact=replayed)
        entry = next((one for name in names if (one := given.camera(name)) is not None), None)
        if entry is None or camera not in survey.heads:
            continue
        size = contents.image_size(survey.heads[camera])
        if entry.image_size not in (None, size):
            raise BagError(
                f"{file}: {camera.lower()} is for images of {entry.image_size} pixels, "
                f"those of {path} have {size}"
            )
        found[camera] = dataclasses.replace(entry, image_size=size)
    return found
