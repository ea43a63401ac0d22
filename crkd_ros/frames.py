"""One synchronised set of converted messages to a Frame.

The only place where a Frame is made of messages; the node and the replay both call it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.config import ImageConfig
from crkd_core.data.radar import RadarSweep, accumulate
from crkd_core.frame import Frame
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.radar_clouds import Sweep
from crkd_ros.motion.poses import Array, EgoMotion, Extrinsics, MotionError, NoTransform
from crkd_ros.sync.history import Timed
from crkd_ros.sync.synchroniser import FrameSet

#: A radar's velocity is how far it moved in so many nanoseconds.
_STEP_NS = 50_000_000


def decoded(frame_set: FrameSet, problem: Callable[[int, str, str], None]) -> FrameSet:
    """The set with images; one that cannot be decoded masks its camera.

    Args:
        frame_set: its items are those of Camera and Radar (sensors/sensor.py).
        problem: takes the stamp of such an image, ns, its camera, and what is wrong with it.
    """
    images = {}
    for _, image in frame_set.images.values():
        image.begin()
    for camera, (stamp_ns, decode) in frame_set.images.items():
        try:
            images[camera] = Timed(stamp_ns, decode())
        except ConvertError as error:
            problem(stamp_ns, camera, str(error))
        # Whatever the decoder says, it is this camera's trouble alone.
        except Exception as error:
            problem(stamp_ns, camera, f"{camera}: {type(error).__name__}: {error}")
    return dataclasses.replace(frame_set, images=images)


def frame_from_set(
    frame_set: FrameSet,
    *,
    extrinsics: Extrinsics,
    motion: EgoMotion,
    image: ImageConfig,
    token: str = "",
) -> Frame:
    """One Frame of one synchronised set.

    Args:
        frame_set: its items are PreparedImage and Sweep.
        extrinsics: where the sensors sit.
        motion: how the vehicle moved between their stamps.
        image: what the images were prepared for.
        token: sample token, where known.

    Returns:
        A Frame at the set's reference time, ``prepared``; sensors absent from the set are masked.

    Raises:
        NoTransform: where sensors sit is not known, all of them in one error. MotionError: the
            ego motion is not known. The frame must then be dropped.
    """
    base_T = _places(frame_set, extrinsics)
    reference = frame_set.stamp_ns
    images: list[NDArray[np.uint8] | None] = [None] * len(CAMERAS)
    # Matrices of masked cameras are never used; the identity keeps them invertible.
    matrices = np.tile(np.eye(3), (len(CAMERAS), 1, 1))
    ego_T_cam = np.tile(np.eye(4), (len(CAMERAS), 1, 1))
    for index, camera in enumerate(CAMERAS):
        if camera not in frame_set.images:
            continue
        stamp, item = frame_set.images[camera]
        images[index], matrices[index] = item.pixels, item.intrinsics
        ego_T_cam[index] = motion.ego_T_ego(stamp, reference) @ base_T[item.frame_id, stamp]
        ego_T_cam[index, :3, :3] = ego_T_cam[index, :3, :3] @ np.array(item.rotation)
    sweeps = [
        RadarSweep(
            stamp_ns=stamp,
            sensor=RADARS.index(radar),
            points=_over_ground(item, stamp, base_T[item.frame_id, stamp], motion),
            ego_T_radar=motion.ego_T_ego(stamp, reference) @ base_T[item.frame_id, stamp],
        )
        for radar in RADARS
        for stamp, item in frame_set.sweeps.get(radar, ())
    ]
    return Frame(
        stamp_ns=reference,
        images=tuple(images),
        intrinsics=matrices,
        ego_T_cam=ego_T_cam,
        prepared=image,
        radar=accumulate(sweeps, reference),
        radar_present=np.array([radar in frame_set.sweeps for radar in RADARS]),
        global_T_ego=motion.pose(reference),
        scene=str(motion.stretch(reference)),
        token=token,
    )


def _places(frame_set: FrameSet, extrinsics: Extrinsics) -> dict[tuple[str, int], Array]:
    """(frame, stamp) of every item of the set -> ``base_T_frame`` then. Raises NoTransform."""
    items = {name: [timed] for name, timed in frame_set.images.items()}
    items |= {name: list(sweeps) for name, sweeps in frame_set.sweeps.items()}
    places: dict[tuple[str, int], Array] = {}
    unknown: dict[str, str] = {}
    for sensor, timed in items.items():
        for stamp, item in timed:
            if sensor in unknown:
                continue
            try:
                places[item.frame_id, stamp] = extrinsics.base_T(item.frame_id, stamp)
            except MotionError as error:
                unknown[sensor] = str(error)
    if unknown:
        raise NoTransform(unknown)
    return places


def _over_ground(
    sweep: Sweep, stamp_ns: int, base_T_radar: Array, motion: EgoMotion
) -> NDArray[np.float32]:
    """Points of a sweep with speeds over ground: as they are, or by the radar's own velocity."""
    if not sweep.relative:
        return sweep.points
    step = -_STEP_NS
    try:
        there = motion.ego_T_ego(stamp_ns + step, stamp_ns)
    except MotionError:
        # At the start of a drive only what came after is known.
        step = _STEP_NS
        there = motion.ego_T_ego(stamp_ns + step, stamp_ns)
    moved = (geometry.invert(base_T_radar) @ there @ base_T_radar)[:3, 3]
    return sweep.compensated(moved / (step * 1e-9)).points
