"""What a bag offers to the detector. Command `crkd bag info`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.container import Bag, Topic
from crkd_ros.bags.foreign.conversion import foreign_clouds, foreign_radars
from crkd_ros.bags.foreign.kinds import Kind, recognise
from crkd_ros.bags.known import STANDS, Known, Reading, look_through
from crkd_ros.bags.layout_search import find_layout
from crkd_ros.bags.motion_source import MotionSource
from crkd_ros.bags.reader import open_bag
from crkd_ros.bags.survey import no_stamps
from crkd_ros.motion.poses import MotionError
from crkd_ros.parameters.framing import FramingConfig, SyncConfig
from crkd_ros.sync.firing import Firing, measure
from crkd_ros.sync.history import Arrival
from crkd_ros.sync.synchroniser import FrameSet, Synchronizer


@dataclass(frozen=True, kw_only=True)
class SensorInfo:
    """One camera or radar.

    Attributes:
        topic: of its images or clouds; None where the bag has none.
        rate: messages per second by their stamps; 0 of less than two.
        calibrated: whether its intrinsics are known; None for a radar.
        placed: whether its place on the vehicle is known.
    """

    topic: Topic | None
    rate: float
    calibrated: bool | None
    placed: bool


@dataclass(frozen=True, kw_only=True)
class BagInfo:
    """What a bag offers.

    Attributes:
        kind: who wrote it.
        seconds: between the first and the last sensor message.
        sensors: channel -> what is known of it; all six cameras and five radars.
        motion: where the ego motion comes from.
        frames: frames that the synchroniser forms of all messages: as they were recorded, where
            the bag can be replayed, else as ``crkd bag convert`` will put them.
        firing: how its cameras fire, in words.
        trigger: the sensor at whose stamps most of them are.
        cameras, radars: how many of them a frame has on average.
        moving: frames that a replay can make whole: every pose and place in them is known, every
            camera's intrinsics, and every radar's fields.
        missing: what a detector needs and must be given.
        foreign: radars whose fields ``radar_fields`` do not name.
        refused: cameras whose CameraInfo cannot be used; said in ``troubles``.
        unused: sensors of which no frame has a message, or none that can be used.
        hindrance: what must be done before it can be converted; "": nothing else.
        unreadable: topic -> why its messages cannot be decoded.
        troubles: sentences about single messages that cannot be used.
        too_late: the bag gives more frames in the order of its stamps; said in ``troubles``.
        chosen: sentences about topics that were taken or not, and fields that must be named.
    """

    kind: Kind
    seconds: float
    sensors: Mapping[str, SensorInfo]
    motion: MotionSource
    frames: int
    firing: str
    trigger: str
    cameras: float
    radars: float
    moving: int
    missing: tuple[str, ...]
    foreign: tuple[str, ...]
    refused: tuple[str, ...]
    unused: tuple[str, ...]
    hindrance: str
    unreadable: Mapping[str, str]
    troubles: tuple[str, ...]
    too_late: bool
    chosen: tuple[str, ...]


def describe(
    path: Path,
    *,
    calibration: Path | None = None,
    framing: FramingConfig | None = None,
    topics: Mapping[str, str] | None = None,
    progress: bool = True,
) -> BagInfo:
    """Read a bag of any known converter, ours included. All messages are read, no picture decoded.

    Args:
        path: the bag.
        calibration: a calibration file that would be given to the node or to `convert`.
        framing: as the node has it.
        topics: what the user names, see ``find_layout``.
        progress: a bar on stderr.

    Raises:
        BagError: not a readable bag, or no sensor in it.
        MotionError: the calibration file cannot be used.
    """
    framing = framing or FramingConfig()
    if calibration is None and framing.calibration_file:
        calibration = Path(framing.calibration_file)
    with open_bag(path) as bag:
        layout = find_layout(bag, framing=framing, named=topics)
        kind = recognise(bag, layout)
        as_it_is = kind in (Kind.OURS, Kind.ROS2)
        reading = Reading.to_replay(framing) if as_it_is else Reading.to_convert(framing)
        known = look_through(
            bag, layout, reading, kind=kind, calibration=calibration, progress=progress
        )
        unreadable = bag.unreadable()
        unseen = known.pictures.unseen()
        troubles = tuple(_troubles(bag, known, unseen))
    heard = layout.sensors
    ordered = sorted((s, s, name) for name in heard for s in known.stamps[name].tolist())
    seconds = (ordered[-1][0] - ordered[0][0]) / 1e9 if ordered else 0.0
    sensors = {}
    for name in (*CAMERAS, *RADARS):
        own = np.sort(known.stamps.get(name, np.zeros(0, np.int64)))
        sensors[name] = SensorInfo(
            topic=heard.get(name),
            rate=(len(own) - 1) * 1e9 / max(int(own[-1] - own[0]), 1) if len(own) > 1 else 0.0,
            calibrated=None if name in RADARS else known.calibrated(name),
            placed=name in known.extrinsics,
        )
    frames, firing = _frames(ordered, framing.sync, sensors=framing.sensors)
    foreign = [
        name for radars in foreign_radars(known.survey, framing).values() for name in radars
    ]
    usable = {
        name
        for name, sensor in sensors.items()
        if sensor.placed and sensor.calibrated is not False and sensor.topic is not None
        if sensor.topic.name not in unreadable and name not in (*foreign, *unseen)
    }
    late: tuple[str, ...] = ()
    if as_it_is:
        recorded = [one for one in known.survey.in_order() if one[2] in heard]
        put_right = frames
        frames, firing = _frames(recorded, framing.sync, sensors=framing.sensors)
        late = tuple(_late(frames, put_right, kind))
    framed = {name for one in frames for name in (*one.images, *one.sweeps)}
    return BagInfo(
        kind=kind,
        seconds=seconds,
        sensors=sensors,
        motion=known.motion,
        frames=len(frames),
        firing=firing.text(),
        trigger=Counter(one.trigger for one in frames).most_common(1)[0][0] if frames else "",
        cameras=_mean(len(one.images) for one in frames),
        radars=_mean(len(one.sweeps) for one in frames),
        moving=sum(_is_known(one, known, usable) for one in frames),
        missing=tuple(_missing(sensors, known)),
        foreign=tuple(foreign),
        refused=tuple(known.refused),
        unused=tuple(name for name in heard if name not in framed & usable),
        hindrance=_hindrance(known),
        unreadable=unreadable,
        troubles=(*troubles, *late),
        too_late=bool(late),
        chosen=(*layout.sentences(), *foreign_clouds(known.survey, framing)),
    )


def _frames(
    messages: Sequence[tuple[int, int, str]], config: SyncConfig, *, sensors: Sequence[str]
) -> tuple[list[FrameSet], Firing]:
    """What the synchroniser makes of messages, and how it finds the cameras to fire.

    Args:
        messages: stamp, record time, ns, and sensor, in the order in which it gets them.
        config: its parameters.
        sensors: those that frames may have.
    """
    cameras = [name for name in CAMERAS if name in sensors]
    radars = [name for name in RADARS if name in sensors]
    sync, sets = Synchronizer(config, cameras=cameras, radars=radars), []
    for stamp, record_ns, name in messages:
        sets += sync.flush(before_ns=stamp)
        sync.add(name, Arrival(stamp, record_ns * 1e-9), None)
    sets += sync.flush()
    firing = sync.firing()
    if not firing.periods_ns:  # Too short a bag to be measured on the way.
        own = {one: [stamp for stamp, _, name in messages if name == one] for one in cameras}
        heard = [one for one in (config.anchor, *cameras) if own.get(one)]
        firing = measure(own, heard, config) or firing
    return sets, firing


def _is_known(one: FrameSet, known: Known, usable: Collection[str]) -> bool:
    """Whether a replay can make this frame whole: its sensors are usable, its poses known."""
    stamps = [one.stamp_ns, *(image.stamp_ns for image in one.images.values())]
    stamps += [sweep.stamp_ns for sweeps in one.sweeps.values() for sweep in sweeps]
    whole = set(usable) >= {*one.images, *one.sweeps}
    if known.still:
        return whole
    table = known.motion.table
    try:
        # Also that the map does not jump in between.
        table.ego_T_ego(min(stamps), one.stamp_ns)
    except MotionError:
        return False
    return whole and bool(table.known(np.array(stamps, np.int64)).all())


def _late(frames: Sequence[FrameSet], ordered: Sequence[FrameSet], kind: Kind) -> Iterator[str]:
    """What the order of the stamps would give more than that of the record times."""
    counts = [
        (len(sets), sum(len(one.images) + len(one.sweeps) for one in sets))
        for sets in (frames, ordered)
    ]
    if counts[1] > counts[0]:
        option = f" --kind {Kind.ROS2.value}" if kind is Kind.OURS else ""
        yield (
            "messages came after later ones, too late for their frames; in the order of their "
            f"stamps, as crkd bag convert{option} writes them, there are {len(ordered)} frames "
            f"with {_mean(len(one.images) for one in ordered):.2f} cameras and "
            f"{_mean(len(one.sweeps) for one in ordered):.2f} radars each"
        )


def _mean(counts: Iterable[int]) -> float:
    """0 of none."""
    values = [*counts]
    return sum(values) / max(len(values), 1)


def _troubles(bag: Bag, known: Known, unseen: Mapping[str, str]) -> Iterator[str]:
    for topic in sorted(known.strays.places):
        yield known.strays.sentence(topic, bag.topics[topic].count)
    if not known.record_times and (empty := known.survey.unstamped()):
        yield no_stamps(bag.path, empty, others=True)
    for topic, (count, reason) in sorted(known.survey.broken.items()):
        yield f"{topic}: {count} of {bag.topics[topic].count} messages cannot be read: {reason}"
    for camera, reason in known.refused.items():
        yield f"the camera_info of {camera.lower()} cannot be used: {reason}"
    for camera, reason in unseen.items():
        yield f"the images of {camera.lower()} cannot be used: {reason}"
    if not known.given and (wrong := known.survey.tree.contradiction()):
        yield wrong
    if back := known.strays.time_back():
        yield back


def _missing(sensors: Mapping[str, SensorInfo], known: Known) -> list[str]:
    found = []
    for text, names in (
        ("messages of", [n for n, s in sensors.items() if s.topic is None]),
        ("intrinsics of", [n for n, s in sensors.items() if s.topic and s.calibrated is False]),
        ("the place of", [n for n, s in sensors.items() if s.topic and not s.placed]),
    ):
        if names:
            told = text == "the place of" and known.has_other_base()
            why = known.elsewhere() if told else ""
            found.append(f"{text} {', '.join(name.lower() for name in names)}{why}")
    if not known.motion.known and not known.still:
        found.append(f"ego motion ({STANDS})")
    return found


def _hindrance(known: Known) -> str:
    if known.strays.back is not None:
        return "cut the bag where its stamps go back"
    if known.has_other_base():
        return "say which of its frames is the vehicle's: base_frame in a file of --params"
    if not known.motion.known and not known.still:
        return STANDS
    return ""
