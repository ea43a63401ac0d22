"""The Frames of a rosbag2, through the same sync/ and convert/ as in the live node.

Only the order of messages differs from the node's: it is that of the record times, and no frame
waits for a message. Poses and transforms are read before, so their order does not matter.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from typing_extensions import Self

from crkd_core.config import ImageConfig
from crkd_core.frame import Frame
from crkd_ros import frames
from crkd_ros.bags.account import Account
from crkd_ros.bags.container import Bag
from crkd_ros.bags.layout import Layout
from crkd_ros.bags.layout_search import find_layout
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.motion_source import MotionSource, find_motion
from crkd_ros.bags.reader import open_rosbag2
from crkd_ros.bags.record_times import RecordTimes
from crkd_ros.bags.survey import Survey, no_stamps
from crkd_ros.convert import arrays
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.motion.poses import EgoMotion, Extrinsics, MotionError, NoMotion
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.sensors.rig import Rig
from crkd_ros.sensors.sensor import Camera
from crkd_ros.sync.history import Arrival
from crkd_ros.sync.synchroniser import FrameSet

#: Takes a stamp in nanoseconds and what was wrong there.
Problem = Callable[[int, str], None]
#: Takes the set of a frame that was made, where its sensors sit and how the vehicle moves.
Look = Callable[[FrameSet, Extrinsics, EgoMotion], None]


@dataclass(frozen=True, kw_only=True)
class BagProblem:
    """A message or a frame that could not be used, and why."""

    stamp_ns: int
    reason: str


def layout_of(
    path: Path,
    framing: FramingConfig | None = None,
    topics: Mapping[str, str] | None = None,
) -> Layout:
    """Which topic of a rosbag2 carries what, see ``find_layout``.

    Raises:
        BagError: not a bag, or neither a camera nor a radar is in it.
    """
    with open_rosbag2(path) as bag:
        return layout_in(bag, framing or FramingConfig(), topics)


def layout_in(bag: Bag, framing: FramingConfig, topics: Mapping[str, str] | None) -> Layout:
    """The same of an open bag. Raises BagError: no known sensor is in it."""
    layout = find_layout(bag, framing=framing, named=topics)
    if not layout.sensors:
        raise BagError(
            f"{bag.path}: no camera image and no radar cloud (PointCloud2) named "
            f"{', '.join(name.lower() for name in framing.sensors)} (if they have other names, "
            "say which is which: --topic CAM_FRONT=/camera/image_raw); its topics: "
            f"{', '.join(sorted(bag.topics)) or 'none'}"
        )
    return layout


class Recording:
    """A rosbag2 that frames are made of: opened and looked through once. A context.

    Args:
        path: a rosbag2 in our layout or a similar one.
        framing: as the node has it; made ``for_detector``.
        topics: what the user names, see ``find_layout``.
        calibration: where the sensors sit, instead of ``framing.calibration_file``, without which
            the bag's transforms tell.
        progress: a bar on stderr.

    Attributes:
        layout: its topics; survey: what they hold.
        source: where the ego motion comes from.
        extrinsics: where the sensors sit; motion: how the vehicle moves.

    Raises:
        BagError: not a readable bag, no known sensor in it, none of them stamps its messages,
            their stamps go back, or two topics place a frame differently.
        MotionError: the calibration file cannot be used.
    """

    def __init__(
        self,
        path: Path,
        *,
        framing: FramingConfig | None = None,
        topics: Mapping[str, str] | None = None,
        calibration: Calibration | None = None,
        progress: bool = False,
    ) -> None:
        self.path, self.framing = path, framing or FramingConfig()
        framing = self.framing
        if calibration is None and framing.calibration_file:
            calibration = Calibration.load(framing.calibration_file, base=framing.base_frame)
        self._calibration = calibration
        self._bag = open_rosbag2(path)
        try:
            self.layout = layout_in(self._bag, framing, topics)
            self.survey = Survey(
                self._bag, self.layout, base=framing.base_frame, progress=progress
            )
            empty = self.survey.unstamped()
            if empty and set(empty) >= self.layout.sensors.keys() & self.survey.heads.keys():
                raise BagError(f"{path}: {no_stamps(path, empty, others=False)}")
            self.stamps, self.strays = self.survey.times()
            if calibration is None and (wrong := self.survey.tree.contradiction()):
                raise BagError(f"{path}: {wrong}")
            # Poses are read before: those of one pass would serve the frames of the other.
            if back := self.strays.time_back():
                raise BagError(f"{path}: {back}")
            self.source: MotionSource = find_motion(
                self.survey,
                {name: self.stamps[name] for name in self.layout.sensors},
                motion=framing.motion,
                preferred=framing.topics.odometry,
                extrinsics=calibration,
            )
        except BaseException:
            self.close()
            raise
        self.extrinsics: Extrinsics = calibration or self.survey.tree
        off = framing.motion.source == "none"
        self.motion: EgoMotion = NoMotion() if off else self.source.table

    def close(self) -> None:
        """Close the bag."""
        self._bag.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def sentences(self) -> Iterator[str]:
        """What is taken of the bag, and what of its poses and transforms cannot be read."""
        yield from self.layout.sentences()
        yield from self.source.sentences()
        yield from self.survey.unread_motion()

    def references(self, image: ImageConfig) -> list[int]:
        """The reference stamps, ns, of the frames that ``frames`` will try to make.

        Args:
            image: how images are prepared (``detector.config.image``); nothing is decoded.
        """
        # What is wrong will be said when the frames are made.
        sets = self._sets(self._rig(image), self.new_account(), lambda stamp_ns, reason: None)
        return [one.stamp_ns for one, _ in sets]

    def new_account(self) -> Account:
        """An account for ``frames``."""
        sync, topics = self.framing.sync, self.layout.sensors
        limits = {
            name: sync.camera_spread if name.startswith("CAM") else sync.radar_timeout
            for name in self.framing.sensors
        }
        return Account(
            {name: topics[name].name if name in topics else "" for name in self.framing.sensors},
            limits,
        )

    def frames(
        self,
        image: ImageConfig,
        *,
        tokens: Mapping[int, str] | None = None,
        only: Collection[int] | None = None,
        problems: list[BagProblem] | None = None,
        look: Look | None = None,
        account: Account | None = None,
        recorded: list[int] | None = None,
    ) -> Iterator[Frame]:
        """The Frames in time order, at the references that the live node would choose.

        Args:
            image: how images are prepared (``detector.config.image``).
            tokens: reference stamp, ns -> sample token, for key frames.
            only: make only the frames at these reference stamps, ns.
            problems: takes what could not be used, as the node would go on without it; None = the
                first problem is an error.
            look: is shown the messages of every frame.
            account: counts what becomes of the messages.
            recorded: takes, of every frame, when the message at its reference was recorded, ns.

        Raises:
            BagError: the bag is damaged, or (``problems`` is None) a message or a frame cannot be
                used.
        """
        account = account or self.new_account()

        def problem(stamp_ns: int, reason: str) -> None:
            if problems is None:
                raise BagError(f"{self.path}: at {stamp_ns} ns: {reason}")
            problems.append(BagProblem(stamp_ns=stamp_ns, reason=reason))

        for asked, recorded_ns in self._sets(self._rig(image), account, problem):
            stamp_ns = asked.stamp_ns
            if only is not None and stamp_ns not in only:
                continue
            made = frames.decoded(asked, _noting(account, problem))
            try:
                frame = frames.frame_from_set(
                    made,
                    extrinsics=self.extrinsics,
                    motion=self.motion,
                    image=image,
                    token=(tokens or {}).get(stamp_ns, ""),
                )
            except MotionError as error:
                account.dropped += 1
                problem(stamp_ns, f"frame dropped: {error}")
                continue
            account.frame(asked, made)
            if recorded is not None:
                recorded.append(recorded_ns)
            if look is not None:
                look(made, self.extrinsics, self.motion)
            yield frame

    def _rig(self, image: ImageConfig) -> Rig:
        """Fresh sensors, which know their cameras by the first CameraInfo there is."""
        rig = Rig(
            self.framing,
            image=image,
            topics={name: topic.name for name, topic in self.layout.sensors.items()},
            calibration=self._calibration,
            extrinsics=self.extrinsics,
        )
        for name, info in self.survey.infos.items():
            with contextlib.suppress(
                arrays.ConvertError
            ):  # It comes again, and is a problem then.
                rig.cameras[name].on_info(info)
        return rig

    def _sets(
        self, rig: Rig, account: Account, problem: Problem
    ) -> Iterator[tuple[FrameSet, int]]:
        """Feed every message of the bag to the sensors; the sets of their synchroniser.

        Each with the time, ns, at which the message at its reference was recorded.
        """
        sensors = {topic.name: rig.sensors[name] for name, topic in self.layout.sensors.items()}
        times = RecordTimes(self.layout.sensors)

        def timed(sets: list[FrameSet]) -> Iterator[tuple[FrameSet, int]]:
            return ((one, times.of(one.trigger, one.stamp_ns)) for one in sets)

        infos: dict[str, list[Camera]] = {}
        for name, topic in self.layout.infos.items():
            infos.setdefault(topic.name, []).append(rig.cameras[name])
        for record in self._bag.records({*sensors, *infos}):
            sensor = sensors.get(record.topic)
            name = sensor.name if sensor is not None else infos[record.topic][0].name
            if sensor is not None:
                account.came(name)
            try:
                message = record.message()
                if sensor is None:
                    for camera in infos[record.topic]:
                        camera.on_info(message)
                    continue
                arrival = Arrival(arrays.stamp_ns(message.header.stamp), record.stamp_ns * 1e-9)
                item = sensor.item(message)
            except (BagError, arrays.ConvertError) as error:
                account.trouble(name if sensor is not None else "", str(error))
                problem(record.stamp_ns, f"{record.topic}: {error}")
                continue
            account.stamped(name, arrival.stamp_ns)
            # All that bears on these frames has been added; what follows is of later ones.
            yield from timed(rig.sync.flush(before_ns=arrival.stamp_ns))
            if rig.sync.add(sensor.name, arrival, item):
                times.add(sensor.name, arrival.stamp_ns, record.stamp_ns)
        yield from timed(rig.sync.flush())
        account.finish(rig.sync.counts)


def _noting(account: Account, problem: Problem) -> Callable[[int, str, str], None]:
    def broken_image(stamp_ns: int, camera: str, reason: str) -> None:
        account.trouble(camera, reason)
        problem(stamp_ns, reason)

    return broken_image
