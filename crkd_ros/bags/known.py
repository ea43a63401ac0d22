"""What is known of a bag's sensors before they are used: stamps, poses, calibration."""

from __future__ import annotations

import functools
from collections.abc import Mapping
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
from crkd_ros.bags.pictures import Pictures
from crkd_ros.bags.sensor_names import cameras_of, places
from crkd_ros.bags.strays import Strays, Times
from crkd_ros.bags.survey import Survey, no_stamps
from crkd_ros.convert.camera_model import CamerasConfig
from crkd_ros.motion.calibration_file import Calibration, CameraEntry
from crkd_ros.parameters.framing import FramingConfig, MotionConfig

Array = NDArray[np.float64]

BASE = "base_link"

#: What to do about a bag without ego motion.
STANDS = "if the vehicle stands still, pass --params FILE with motion.source: none"


@dataclass(frozen=True, kw_only=True)
class Reading:
    """As what a bag is read.

    Attributes:
        base: the vehicle's frame.
        motion: which source of the ego motion is asked for.
        odometry: topic of odometry that is taken when others are as good.
        tf_first: /tf is taken when odometry is as good.
        cameras: how images and CameraInfo belong together.
        replayed: by the rules of a replay: a calibration file knows sensors by the frames of their
            messages alone, no place of /tf is taken beside it, and CameraInfo stands above it.
    """

    base: str
    motion: MotionConfig
    odometry: str
    tf_first: bool
    cameras: CamerasConfig
    replayed: bool

    @classmethod
    def to_convert(cls, framing: FramingConfig) -> Reading:
        """As one of another converter, which becomes one in our layout: its base is base_link."""
        return cls(
            base=framing.base_frame,
            motion=framing.motion,
            odometry="",
            tf_first=True,
            cameras=framing.cameras,
            replayed=False,
        )

    @classmethod
    def to_replay(cls, framing: FramingConfig) -> Reading:
        """As a replay reads it, see bags/frames.py."""
        return cls(
            base=framing.base_frame,
            motion=framing.motion,
            odometry=framing.topics.odometry,
            tf_first=False,
            cameras=framing.cameras,
            replayed=True,
        )


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a bag.

    Attributes:
        survey: of the bag.
        motion: where its ego motion comes from.
        still: the user says that the vehicle stands still.
        calibration: the calibration file; None: none is given.
        extrinsics: channel -> ``base_T_sensor`` [4, 4]; ``given``: those of the calibration file.
        cameras: camera -> what the calibration file says of it, with ``image_size``; converted,
            the bag's CameraInfo is not taken for these.
        pictures: whether the bag's images can be used at all.
        refused: camera -> why its CameraInfo cannot be used.
        record_times: True when headers have no stamps and record times stand in for them.
        stamps: channel -> stamps of its messages, ns, without strays.
        strays: sensor messages with wrong stamps; those of CameraInfo, which holds at any time,
            are none.
    """

    survey: Survey
    motion: MotionSource
    still: bool
    calibration: Path | None
    extrinsics: dict[str, Array]
    given: frozenset[str]
    cameras: dict[str, CameraEntry]
    pictures: Pictures
    refused: dict[str, str]
    record_times: bool
    stamps: dict[str, Times]
    strays: Strays

    def calibrated(self, camera: str) -> bool:
        """Whether the intrinsics of a camera are known."""
        if camera in self.refused:
            return False
        info = self.survey.infos.get(camera)
        return camera in self.cameras or (info is not None and contents.is_calibrated(info))

    def check(self, path: Path, kind: Kind) -> None:
        """Refuse a bag that cannot be converted whole.

        Args:
            path: of the bag.
            kind: who wrote it.

        Raises:
            BagError: sensors whose messages cannot be read or have no stamps, or two topics that
                place a frame differently;
                something that a detector needs is neither in the bag nor in the file; the text
                names all of it and what to pass.
        """
        layout = self.survey.layout
        for channel, topic in layout.sensors.items():
            if channel not in self.survey.heads:
                _, why = self.survey.broken.get(topic.name, (0, "it holds none"))
                raise BagError(
                    f"{path}: {topic.name}: none of its messages can be read: {why}; if {channel} "
                    f"is not wanted, leave it out: --topic {channel}="
                )
        if not self.record_times and (empty := self.survey.unstamped()):
            raise BagError(f"{path}: {no_stamps(path, empty, others=True)}")
        if self.calibration is None and (wrong := self.survey.tree.contradiction()):
            raise BagError(f"{path}: {wrong}")
        missing = []
        if unknown := [c.lower() for c in layout.images if not self.calibrated(c)]:
            why = next((f" ({self.refused[c]})" for c in layout.images if c in self.refused), "")
            missing.append(f"the intrinsics of {', '.join(unknown)}{why}")
        if unplaced := [c.lower() for c in layout.sensors if c not in self.extrinsics]:
            missing.append(f"the poses on the vehicle of {', '.join(unplaced)}{self.elsewhere()}")
        if missing:
            file = self.calibration
            where = f"nor does {file} list them" if file else "no --calibration is given"
            raise BagError(
                f"{path} ({kind.converter}) does not hold {' and '.join(missing)}, and {where}; "
                "make one, crkd calibration write --data DIR --out FILE (of a vehicle of your own "
                "by hand, as config/calibration.yaml), and pass --calibration FILE"
            )
        if not self.motion.known and not self.still:
            why = "; ".join(one.text() for one in (self.motion.taken, *self.motion.others))
            raise BagError(
                f"{path} ({kind.converter}) has no ego motion at its sensors' stamps: {why}; "
                f"{STANDS}"
            )

    def has_other_base(self) -> bool:
        """Whether the bag places its sensors, and none of them on ``base_frame``."""
        frames = self.survey.frames.values()
        return not self.extrinsics and any(len(self.survey.tree.ancestors(f)) > 1 for f in frames)

    def elsewhere(self) -> str:
        """Which frames were looked for, where the bag places others; "": it places none."""
        frames, tree = self.survey.frames, self.survey.tree
        roots: dict[str, list[str]] = {}
        for name in tree.frames:
            above = tree.ancestors(name)
            if name not in tree.ancestors(tree.base):
                roots.setdefault(tree.base if tree.base in above else above[-1], []).append(name)
        if not roots:
            return ""
        unplaced = set(self.survey.layout.sensors) - set(self.extrinsics)
        asked = {frames.get(channel) or channel.lower() for channel in unplaced}
        chains = (f"from {root} to {', '.join(names)}" for root, names in roots.items())
        return (
            f" (their messages are in {', '.join(sorted(asked))}; base_frame is {tree.base}, and "
            f"the bag's transforms lead {' and '.join(chains)})"
        )


def look_through(
    bag: Bag,
    layout: Layout,
    reading: Reading,
    *,
    kind: Kind,
    calibration: Path | None = None,
    stamps: str = "auto",
    progress: bool = True,
) -> Known:
    """Read the bag once: poses, transforms, stamps and the first message of every sensor.

    What is missing is no error: see ``Known.check``.

    Args:
        bag: an open bag.
        layout: its topics.
        reading: what it is read for.
        kind: who wrote it.
        calibration: a calibration file. Where it lists a sensor, it overrules the bag.
        stamps: "header", "record" (for headers without stamps), or "auto": as the kind does it.
        progress: a bar on stderr.

    Raises:
        BagError: no sensor has stamps, the odometry that the user names cannot be used, or the
            file is of images of another size.
        MotionError: the calibration file cannot be used.
    """
    given = Calibration.load(calibration, base=reading.base) if calibration else None
    read = functools.partial(Survey, bag, layout, base=reading.base, progress=progress)
    by_record = stamps == "record" or (stamps == "auto" and kind is Kind.NUSCENES2BAG_ROS2)
    survey = read(pose_times="filled" if by_record else "header")
    empty = survey.unstamped()
    if empty and not by_record and set(empty) >= layout.sensors.keys() & survey.heads.keys():
        raise BagError(f"{bag.path}: {no_stamps(bag.path, empty, others=False)}")
    record_times = stamps == "record" or (by_record and bool(empty))
    times, strays = survey.times(record_times=record_times)
    source = _motion(survey, times, reading, given)
    if stamps == "record" and source.taken.table is not None and not source.known:
        # The headers of poses are of another clock than the recorder's.
        survey = read(pose_times="record")
        source = _motion(survey, times, reading, given)
    own = places(survey.frames, given, replayed=reading.replayed)
    others = {channel: frame for channel, frame in survey.frames.items() if channel not in own}
    hidden = reading.replayed and given is not None
    cameras: dict[str, CameraEntry] = {}
    if given is not None:
        cameras = cameras_of(survey, given, f"{calibration}", bag.path, replayed=reading.replayed)
    pictures = Pictures(kind=kind, cameras=reading.cameras, layout=layout, survey=survey)
    return Known(
        survey=survey,
        motion=source,
        still=reading.motion.source == "none",
        calibration=calibration,
        extrinsics=places(
            others, None if hidden else survey.tree, replayed=reading.replayed, own=True
        )
        | own,
        given=frozenset(own),
        cameras=cameras,
        pictures=pictures,
        refused=pictures.refused(() if reading.replayed else cameras),
        record_times=record_times,
        stamps=times,
        strays=strays,
    )


def _motion(
    survey: Survey, times: Mapping[str, Times], reading: Reading, given: Calibration | None
) -> MotionSource:
    return find_motion(
        survey,
        {name: own for name, own in times.items() if name in survey.layout.sensors},
        motion=reading.motion,
        preferred=reading.odometry,
        tf_first=reading.tf_first,
        extrinsics=given,
    )
