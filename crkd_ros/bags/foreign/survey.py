"""What a foreign bag must say before its sensors are converted: poses and calibration."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_ros.bags.container import Bag
from crkd_ros.bags.foreign import contents
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.layout import Layout
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.motion_source import MotionSource, find_motion
from crkd_ros.bags.strays import Strays, Times
from crkd_ros.bags.survey import PoseTimes, Survey, no_stamps
from crkd_ros.motion.calibration_file import Calibration, CameraEntry
from crkd_ros.motion.poses import Extrinsics, MotionError
from crkd_ros.parameters.framing import FramingConfig, MotionConfig

Array = NDArray[np.float64]

BASE = "base_link"

#: What to do about a bag without ego motion.
STANDS = "if the vehicle stands still, pass --params FILE with motion.source: none"


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a foreign bag.

    Attributes:
        survey: of the bag.
        motion: where its ego motion comes from.
        extrinsics: channel -> ``base_T_sensor`` [4, 4]; ``given``: those of the calibration file.
        cameras: camera -> what the calibration file says of it, with ``image_size``; the bag's
            CameraInfo is not taken for these.
        record_times: True when headers have no stamps and record times stand in for them.
        stamps: channel -> stamps of its messages, ns, without strays.
        strays: sensor messages with wrong stamps; those of CameraInfo, which holds at any time,
            are none.
    """

    survey: Survey
    motion: MotionSource
    extrinsics: dict[str, Array]
    given: frozenset[str]
    cameras: dict[str, CameraEntry]
    record_times: bool
    stamps: dict[str, Times]
    strays: Strays


def look_through(
    bag: Bag,
    layout: Layout,
    *,
    kind: Kind,
    calibration: Path | None = None,
    stamps: str = "auto",
    motion: MotionConfig | None = None,
    progress: bool = True,
    strict: bool = True,
    replayed: FramingConfig | None = None,
) -> Known:
    """Read the bag once: poses, transforms, stamps and the first message of every sensor.

    Args:
        bag: an open bag.
        layout: its topics.
        kind: who wrote it.
        calibration: a calibration file. Where it lists a sensor, it overrules the bag.
        stamps: "header", "record" (for headers without stamps), or "auto": as the kind does it.
        motion: which source of the ego motion is asked for.
        progress: a bar on stderr.
        strict: False: what is missing is no error, nor are sensors without stamps beside others.
        replayed: look as a replay of the bag itself does, with this framing: it takes odometry
            before tf, and given a calibration file no place of tf.

    Raises:
        BagError: sensors without stamps, or two topics that place a frame differently; something
            that a detector needs is neither in the bag nor in the file; the text names all of it
            and what to pass.
        MotionError: the calibration file cannot be used.
    """
    base = BASE if replayed is None else replayed.base_frame
    given = Calibration.load(calibration, base=base) if calibration else None

    def read(pose_times: PoseTimes) -> Survey:
        return Survey(bag, layout, base=base, progress=progress, pose_times=pose_times)

    def motion_of(survey: Survey) -> MotionSource:
        return find_motion(
            survey,
            {name: own for name, own in times.items() if name in layout.sensors},
            motion=motion or MotionConfig(),
            preferred="" if replayed is None else replayed.topics.odometry,
            tf_first=replayed is None,
            extrinsics=given,
        )

    by_record = stamps == "record" or (stamps == "auto" and kind is Kind.NUSCENES2BAG_ROS2)
    survey = read("filled" if by_record else "header")
    record_times = _record_times(survey, path=bag.path, kind=kind, stamps=stamps, strict=strict)
    times, strays = survey.times(record_times=record_times)
    source = motion_of(survey)
    if stamps == "record" and source.taken.table is not None and not source.known:
        # The headers of poses are of another clock than the recorder's.
        survey = read("record")
        source = motion_of(survey)
    tree = survey.tree if replayed is None or given is None else None
    frames = survey.frames
    own: dict[str, Array] = {}
    extrinsics: dict[str, Array] = {}
    for channel, frame in frames.items():
        names = (frame, channel, f"{channel}_link")
        if (matrix := _base_T(given, names)) is not None:
            own[channel] = matrix
        elif (matrix := _base_T(tree, names)) is not None:
            extrinsics[channel] = matrix
    cameras: dict[str, CameraEntry] = {}
    for camera in layout.images:
        entry = _camera(given, (frames.get(camera, ""), camera, f"{camera}_link"))
        if entry is not None and camera in survey.heads:
            size = contents.image_size(survey.heads[camera])
            if entry.image_size not in (None, size):
                raise BagError(
                    f"{calibration}: {camera.lower()} is for images of {entry.image_size} pixels, "
                    f"those of {bag.path} have {size}"
                )
            cameras[camera] = dataclasses.replace(entry, image_size=size)
    if strict:
        if given is None and (wrong := survey.tree.contradiction()):
            raise BagError(f"{bag.path}: {wrong}")
        _refuse(
            path=bag.path,
            kind=kind,
            motion=source,
            unplaced=[c for c in layout.sensors if c not in {**extrinsics, **own}],
            unknown=[c for c in layout.images if c not in cameras and not calibrated(survey, c)],
            calibration=calibration,
            still=(motion or MotionConfig()).source == "none",
        )
    return Known(
        survey=survey,
        motion=source,
        extrinsics=extrinsics | own,
        given=frozenset(own),
        cameras=cameras,
        record_times=record_times,
        stamps=times,
        strays=strays,
    )


def calibrated(survey: Survey, camera: str) -> bool:
    """Whether a bag holds the intrinsics of a camera."""
    info = survey.infos.get(camera)
    return info is not None and contents.is_calibrated(info)


def _record_times(survey: Survey, *, path: Path, kind: Kind, stamps: str, strict: bool) -> bool:
    empty = survey.unstamped()
    if stamps == "record" or not empty:
        return stamps == "record"
    if stamps == "auto" and kind is Kind.NUSCENES2BAG_ROS2:
        return True
    others = not set(empty) >= survey.layout.sensors.keys() & survey.heads.keys()
    if strict or not others:
        raise BagError(f"{path}: {no_stamps(path, empty, others=others)}")
    return False


def _base_T(calibration: Extrinsics | None, names: Sequence[str]) -> Array | None:
    for name in names:
        if calibration is not None and name:
            try:
                return calibration.base_T(name)
            except MotionError:
                continue
    return None


def _camera(calibration: Calibration | None, names: Sequence[str]) -> CameraEntry | None:
    if calibration is None:
        return None
    found = (calibration.camera(name) for name in names if name)
    return next((entry for entry in found if entry is not None), None)


def _refuse(
    *,
    path: Path,
    kind: Kind,
    motion: MotionSource,
    unplaced: Sequence[str],
    unknown: Sequence[str],
    calibration: Path | None,
    still: bool,
) -> None:
    missing = []
    if unknown:
        missing.append(f"the intrinsics of {', '.join(c.lower() for c in unknown)}")
    if unplaced:
        missing.append(f"the poses on the vehicle of {', '.join(c.lower() for c in unplaced)}")
    if missing:
        where = f"nor does {calibration} list them" if calibration else "no --calibration is given"
        raise BagError(
            f"{path} ({kind.converter}) does not hold {' and '.join(missing)}, and {where}; "
            "make one, crkd calibration write --data DIR --out FILE, and pass --calibration FILE"
        )
    if not motion.known and not still:
        why = "; ".join(one.text() for one in (motion.taken, *motion.others))
        raise BagError(
            f"{path} ({kind.converter}) has no ego motion at its sensors' stamps: {why}; {STANDS}"
        )
