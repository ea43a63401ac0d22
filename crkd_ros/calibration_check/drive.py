"""The node's check of the calibration over a data set or a bag, without ROS."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crkd_core.config import ImageConfig
from crkd_core.data.cameras import prepare_image, read_image
from crkd_core.data.nuscenes.reader import NuScenes, Record
from crkd_core.data.radar_file import read_pcd
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.account import Account
from crkd_ros.bags.frames import BagProblem, Recording
from crkd_ros.bags.message_types import BagError
from crkd_ros.calibration_check.check import CalibrationCheck
from crkd_ros.convert.camera_model import PreparedImage
from crkd_ros.convert.radar_clouds import Sweep
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.motion.pose_buffer import PoseBuffer
from crkd_ros.motion.poses import EgoMotion, Extrinsics
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.sync.history import Arrival, Timed
from crkd_ros.sync.synchroniser import FrameSet, Synchronizer

#: Pictures for the check need not be those of any weights.
IMAGE = ImageConfig(height=256, width=704, zoom=1.0)


@dataclass(frozen=True, kw_only=True)
class BagCheck:
    """A check over a bag.

    Attributes:
        check: of the frames that could be made.
        unseen: sensors of the bag that were in none of them.
        troubles: sentences about these, and messages and frames that could not be used.
    """

    check: CalibrationCheck
    unseen: tuple[str, ...]
    troubles: tuple[str, ...]


def check_dataset(
    tables: NuScenes, scene: str, calibration: Calibration, *, frames: int = 48
) -> CalibrationCheck:
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
    check = CalibrationCheck(extrinsics=calibration, motion=poses_of(tables, scene), frames=frames)
    for frame_set in sets_of(tables, scene):
        check.add(frame_set)
        if check.done:
            break
    return check


def check_bag(
    path: Path,
    calibration: Calibration | None = None,
    *,
    frames: int = 48,
    framing: FramingConfig | None = None,
    topics: Mapping[str, str] | None = None,
) -> BagCheck:
    """Check the beginning of a bag; its own odometry or /tf is the motion.

    Args:
        path: a rosbag2, see ``bags.layout_search.find_layout``.
        calibration: to be checked; None = that of the bag.
        frames: how many frames.
        framing: as the node has it.
        topics: what the user names, see ``find_layout``.

    Raises:
        BagError: not a readable bag, or no frame could be made of it; the text says why.
    """
    checks: list[CalibrationCheck] = []

    def look(frame_set: FrameSet, extrinsics: Extrinsics, motion: EgoMotion) -> None:
        if not checks:
            checks.append(CalibrationCheck(extrinsics=extrinsics, motion=motion, frames=frames))
        checks[0].add(frame_set)

    problems: list[BagProblem] = []
    with Recording(path, framing=framing, topics=topics, calibration=calibration) as recording:
        account = recording.new_account()
        unread = [*recording.survey.unread_motion()]
        for _ in recording.frames(IMAGE, problems=problems, look=look, account=account):
            if checks[0].done:
                break
    if not checks:
        reason = problems[0].reason if problems else "it holds none"
        raise BagError(f"{path}: no frame could be made of this bag: {reason}")
    return BagCheck(
        check=checks[0],
        unseen=tuple(name for name, one in account.sensors.items() if one.topic and not one.used),
        troubles=(*_troubles(account, problems), *unread),
    )


def _troubles(account: Account, problems: list[BagProblem]) -> Iterator[str]:
    for name, one in account.sensors.items():
        unseen = bool(one.topic) and not one.used
        if one.broken or unseen:
            text = "is in no frame, and " if unseen else ""
            yield (
                f"{name} {text}{one.broken} of {one.messages} messages could not be used: "
                f"{one.why().removeprefix(f'{name}: ')}"
            )
    if account.dropped:
        reason = next(p.reason for p in problems if p.reason.startswith("frame dropped"))
        yield f"{account.dropped} frames could not be made: {reason}"


def poses_of(tables: NuScenes, scene: str) -> PoseBuffer:
    """The ego poses of a scene's cameras and radars."""
    poses = PoseBuffer(history=1e6)
    for record in _records(tables, scene):
        poses.add(record.stamp_ns, record.global_T_ego)
    return poses


def sets_of(tables: NuScenes, scene: str, *, image: ImageConfig = IMAGE) -> Iterator[FrameSet]:
    """A scene as the synchroniser forms it: every image of the anchor camera, with what belongs.

    Raises:
        NuScenesError: no such scene. CameraError, RadarError: a file cannot be read.
    """
    sync = Synchronizer()
    for record in _records(tables, scene):
        for frame_set in sync.flush(before_ns=record.stamp_ns):
            yield _loaded(frame_set, image)
        sync.add(record.channel, Arrival(record.stamp_ns, 0.0), record)
    for frame_set in sync.flush():
        yield _loaded(frame_set, image)


def _records(tables: NuScenes, scene: str) -> list[Record]:
    records = (r for channel in CAMERAS + RADARS for r in tables.records(scene, channel))
    return sorted(records, key=lambda record: record.stamp_ns)


def _loaded(frame_set: FrameSet, config: ImageConfig) -> FrameSet:
    """The set with what the files hold instead of their records."""
    images = {}
    for camera, (stamp_ns, record) in frame_set.images.items():
        image = read_image(record.path, size=record.size)
        pixels, matrix = prepare_image(
            image, record.intrinsics, config, up=record.ego_T_sensor[2, :3]
        )
        prepared = PreparedImage(pixels=pixels, intrinsics=matrix, frame_id=camera.lower())
        images[camera] = Timed(stamp_ns, prepared)
    sweeps = {
        name: tuple(
            Timed(stamp_ns, Sweep(points=read_pcd(record.path), frame_id=name.lower()))
            for stamp_ns, record in recent
        )
        for name, recent in frame_set.sweeps.items()
    }
    return dataclasses.replace(frame_set, images=images, sweeps=sweeps)
