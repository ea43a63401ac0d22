"""The node's self check over a data set or a bag, without ROS."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from crkd_core.config import ImageConfig
from crkd_core.data import radar
from crkd_core.data.cameras import prepare_image, read_image
from crkd_core.data.nuscenes import NuScenes, Record
from crkd_core.frame import CAMERAS, RADARS
from crkd_ros.calibration import Calibration
from crkd_ros.camera_model import PreparedImage
from crkd_ros.motion import PoseBuffer
from crkd_ros.radar_clouds import Sweep
from crkd_ros.self_check import SelfCheck
from crkd_ros.sync import FrameSet, Synchronizer
from crkd_ros.tracks import Timed

#: Pictures for the check need not be those of any weights.
IMAGE = ImageConfig(height=256, width=704, zoom=1.0)


def check_dataset(
    tables: NuScenes, scene: str, calibration: Calibration, *, frames: int = 48
) -> SelfCheck:
    """Check the beginning of a scene; its own ego poses are the motion.

    Args:
        tables: an opened nuScenes data set.
        scene: its name.
        calibration: to be checked; frames are the channels' names.
        frames: how many images of the anchor camera.

    Raises:
        NuScenesError: no such scene. CameraError, RadarError: a file cannot be read.
        MotionError: the calibration lacks a sensor.
    """
    records = sorted(
        (r for channel in CAMERAS + RADARS for r in tables.records(scene, channel)),
        key=lambda record: record.stamp_ns,
    )
    poses = PoseBuffer(history=1e6)
    for record in records:
        poses.add(record.stamp_ns, record.global_T_ego)
    check = SelfCheck(extrinsics=calibration, motion=poses, frames=frames)
    for frame_set in _sets(records):
        check.add(frame_set)
        if check.done:
            break
    return check


def _sets(records: list[Record]) -> Iterator[FrameSet]:
    sync = Synchronizer()
    for record in records:
        for frame_set in sync.flush(before_ns=record.stamp_ns):
            yield _loaded(frame_set)
        add: Any = sync.add_image if record.channel in CAMERAS else sync.add_radar
        add(record.channel, record.stamp_ns, record)
    for frame_set in sync.flush():
        yield _loaded(frame_set)


def _loaded(frame_set: FrameSet) -> FrameSet:
    """The set with what the files hold instead of their records."""
    images = {}
    for camera, (stamp_ns, record) in frame_set.images.items():
        pixels, matrix = prepare_image(read_image(record.path), record.intrinsics, IMAGE)
        image = PreparedImage(pixels=pixels, intrinsics=matrix, frame_id=camera.lower())
        images[camera] = Timed(stamp_ns, image)
    sweeps = {
        name: tuple(
            Timed(stamp_ns, Sweep(points=radar.read_pcd(record.path), frame_id=name.lower()))
            for stamp_ns, record in recent
        )
        for name, recent in frame_set.sweeps.items()
    }
    return dataclasses.replace(frame_set, images=images, sweeps=sweeps)
