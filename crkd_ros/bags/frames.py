"""The Frames of a rosbag2, through the same sync/ and convert/ as in the live node.

Only the order of messages differs from the node's: it is that of the record times, and no frame
waits for a message.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.config import ImageConfig
from crkd_core.frame import Frame
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros import frames
from crkd_ros.bags.container import Bag, Topic
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.reader import open_rosbag2, read_bag
from crkd_ros.convert import arrays
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.motion.odometry import OdometryMotion
from crkd_ros.motion.poses import EgoMotion, Extrinsics, MotionError, NoMotion
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.sensors.rig import Rig
from crkd_ros.sync.history import Arrival
from crkd_ros.sync.synchroniser import FrameSet

_ODOMETRY = "nav_msgs/msg/Odometry"
_IMAGES = ("sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image")
_INFO = "sensor_msgs/msg/CameraInfo"
_CLOUD = "sensor_msgs/msg/PointCloud2"

#: Takes a stamp in nanoseconds and what was wrong there.
Problem = Callable[[int, str], None]
#: Takes the set of a frame that was made, where its sensors sit and how the vehicle moves.
Look = Callable[[FrameSet, Extrinsics, EgoMotion], None]


@dataclass(frozen=True, kw_only=True)
class BagProblem:
    """A message or a frame that could not be used, and why."""

    stamp_ns: int
    reason: str


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Which topic of a bag carries what. Absent sensors have no entry.

    Attributes:
        images, infos: camera -> topic.
        radars: radar -> topic.
        odometry: topic of nav_msgs/Odometry, or None: then /tf gives the ego motion.
    """

    images: Mapping[str, Topic]
    infos: Mapping[str, Topic]
    radars: Mapping[str, Topic]
    odometry: Topic | None

    @property
    def topics(self) -> dict[str, tuple[str, str]]:
        """Topic -> (role, sensor)."""
        found = {topic.name: ("image", name) for name, topic in self.images.items()}
        found |= {topic.name: ("info", name) for name, topic in self.infos.items()}
        found |= {topic.name: ("radar", name) for name, topic in self.radars.items()}
        found |= {"/tf_static": ("tf", ""), "/tf": ("tf", "")}
        if self.odometry is not None:
            found[self.odometry.name] = ("odometry", "")
        return found


def layout_of(path: Path, framing: FramingConfig | None = None) -> Layout:
    """Find the sensors of a bag by topic type and by the channel in the topic's name, any case.

    Of several topics of a sensor the one that ``framing`` names is taken, then a compressed one.
    Odometry gives the ego motion unless /tf has more poses, or ``framing`` names tf as its source.

    Raises:
        BagError: not a bag, or neither a camera with CameraInfo nor a radar is in it.
    """
    with open_rosbag2(path) as bag:
        return layout_in(bag, framing)


def layout_in(bag: Bag, framing: FramingConfig | None = None) -> Layout:
    """The same of an open bag. Raises BagError: no known sensor is in it."""
    framing, topics = framing or FramingConfig(), bag.topics

    def of(sensor: str, kinds: Sequence[str], named: str) -> Topic | None:
        named = f"/{named.lstrip('/')}"
        found = [
            topic
            for topic in topics.values()
            if topic.type_name in kinds
            and (topic.name == named or sensor.lower() in topic.name.lower().split("/"))
        ]
        return min(
            found, key=lambda t: (t.name != named, kinds.index(t.type_name), t.name), default=None
        )

    def all_of(
        sensors: Iterable[str], kinds: Sequence[str], named: Callable[[str], str] = framing.topic
    ) -> dict[str, Topic]:
        return {
            name: topic
            for name in sensors
            if name in framing.sensors and (topic := of(name, kinds, named(name))) is not None
        }

    infos = all_of(CAMERAS, [_INFO], framing.info_topic)
    images = {name: t for name, t in all_of(CAMERAS, _IMAGES).items() if name in infos}
    radars = all_of(RADARS, [_CLOUD])
    if not images and not radars:
        raise BagError(
            f"{bag.path}: no camera (image and camera_info) and no radar (PointCloud2) named "
            f"{', '.join(name.lower() for name in framing.sensors)}; its topics: "
            f"{', '.join(sorted(topics)) or 'none'}"
        )
    odometry = min(
        (t for t in topics.values() if t.type_name == _ODOMETRY),
        key=lambda t: (t.name != f"/{framing.topics.odometry.lstrip('/')}", t.name),
        default=None,
    )
    tf, asked = topics.get("/tf"), framing.motion.source == "tf"
    if tf is not None and odometry is not None and (asked or tf.count > odometry.count):
        odometry = None
    return Layout(images=images, infos=infos, radars=radars, odometry=odometry)


class _Assembler:
    """Feeds messages to the sensors and their synchroniser, and makes Frames of its sets."""

    def __init__(
        self,
        layout: Layout,
        framing: FramingConfig,
        *,
        image: ImageConfig,
        calibration: Calibration | None = None,
    ) -> None:
        self.layout, self._image = layout, image
        self._base = framing.base_frame.lstrip("/")
        if calibration is None and framing.calibration_file:
            calibration = Calibration.load(framing.calibration_file, base=self._base)
        self._tree = Calibration(base=self._base)
        self._extrinsics = calibration or self._tree
        self._poses = OdometryMotion(extrinsics=self._extrinsics, base=self._base)
        off = framing.motion.source == "none"
        self._motion: EgoMotion = NoMotion() if off else self._poses
        self.rig = Rig(
            framing,
            image=image,
            topics={n: topic.name for n, topic in {**layout.images, **layout.radars}.items()},
            calibration=calibration,
            motion=self._poses,
        )

    def add(self, role: str, sensor: str, message: Any, now: float) -> list[FrameSet]:
        """Take one message, recorded at ``now`` (s); the sets that are complete as it is later.

        Raises:
            ConvertError: it cannot be used.
        """
        rig = self.rig
        if role == "tf":
            self._tf(message)
        elif role == "info":
            rig.cameras[sensor].on_info(message)
        elif role == "odometry" and rig.odometry is not None:
            rig.odometry.on_pose(message)
        else:
            arrival = Arrival(arrays.stamp_ns(message.header.stamp), now)
            item = rig.sensors[sensor].item(message)
            sets = rig.sync.flush(before_ns=arrival.stamp_ns)
            rig.sync.add(sensor, arrival, item)
            return sets
        return []

    def _tf(self, message: Any) -> None:
        for transform in message.transforms:
            matrix = arrays.transform_matrix(transform)
            if transform.child_frame_id.lstrip("/") != self._base:
                self._tree.add(transform.header.frame_id, transform.child_frame_id, matrix)
            elif self.layout.odometry is None:
                self._poses.add(arrays.stamp_ns(transform.header.stamp), matrix)

    def frame(
        self, frame_set: FrameSet, token: str, problem: Problem, look: Look | None = None
    ) -> Frame:
        """One Frame; an image that cannot be decoded is a problem and masks its camera.

        Raises:
            MotionError: a transform is not known.
        """
        frame_set = frames.decoded(frame_set, problem)
        frame = frames.frame_from_set(
            frame_set,
            extrinsics=self._extrinsics,
            motion=self._motion,
            image=self._image,
            token=token,
        )
        if look is not None:
            look(frame_set, self._extrinsics, self._motion)
        return frame


def frames_of_bag(
    path: Path,
    *,
    image: ImageConfig,
    framing: FramingConfig | None = None,
    tokens: Mapping[int, str] | None = None,
    only: Collection[int] | None = None,
    problems: list[BagProblem] | None = None,
    calibration: Calibration | None = None,
    look: Look | None = None,
) -> Iterator[Frame]:
    """The Frames of a bag in time order, at the references that the live node would choose.

    Args:
        path: a rosbag2 in our layout or a similar one, see ``layout_of``.
        image: how images are prepared (``detector.config.image``).
        framing: as the node has it; made ``for_detector``.
        tokens: reference stamp, ns -> sample token, for key frames.
        only: make only the frames at these reference stamps, ns.
        problems: takes what could not be used, as the node would go on without it; None = the
            first problem is an error.
        calibration: where the sensors sit, instead of ``framing.calibration_file``, without which
            the bag's transforms tell.
        look: is shown the messages of every frame.

    Raises:
        BagError: not a readable bag, no known sensor in it, or (``problems`` is None) a message or
            a frame that cannot be used.
    """
    framing = framing or FramingConfig()
    layout = layout_of(path, framing)
    assembler = _Assembler(layout, framing, image=image, calibration=calibration)

    def problem(stamp_ns: int, reason: str) -> None:
        if problems is None:
            raise BagError(f"{path}: at {stamp_ns} ns: {reason}")
        problems.append(BagProblem(stamp_ns=stamp_ns, reason=reason))

    def frames_of(sets: list[FrameSet]) -> Iterator[Frame]:
        for frame_set in sets:
            stamp_ns = frame_set.stamp_ns
            if only is not None and stamp_ns not in only:
                continue
            try:
                yield assembler.frame(frame_set, (tokens or {}).get(stamp_ns, ""), problem, look)
            except MotionError as error:
                problem(stamp_ns, f"frame dropped: {error}")

    for sets in _sets(path, assembler, problem):
        yield from frames_of(sets)


def references_of_bag(path: Path, *, image: ImageConfig, framing: FramingConfig) -> list[int]:
    """The reference stamps, ns, of the frames that ``frames_of_bag`` will try to make.

    Args: as there. Nothing is decoded. Raises BagError: not a readable bag.
    """
    assembler = _Assembler(layout_of(path, framing), framing, image=image)
    # What is wrong will be said when the frames are made.
    return [
        frame_set.stamp_ns
        for sets in _sets(path, assembler, lambda stamp_ns, reason: None)
        for frame_set in sets
    ]


def _sets(path: Path, assembler: _Assembler, problem: Problem) -> Iterator[list[FrameSet]]:
    """Feed every message of a bag to an assembler."""
    topics = assembler.layout.topics
    for record in read_bag(path, topics=topics):
        role, sensor = topics[record.topic]
        try:
            sets = assembler.add(role, sensor, record.message(), record.stamp_ns * 1e-9)
        except (BagError, arrays.ConvertError) as error:
            problem(record.stamp_ns, f"{record.topic}: {error}")
            continue
        yield sets
    yield assembler.rig.sync.flush()
