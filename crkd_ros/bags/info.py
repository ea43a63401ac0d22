"""What a bag offers to the detector. Command `crkd bag info`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_core.tables import Table, print_tables
from crkd_ros.bags.container import Bag, Topic
from crkd_ros.bags.foreign.kinds import Kind, foreign_layout, recognise
from crkd_ros.bags.foreign.survey import Survey, survey
from crkd_ros.bags.reader import open_bag
from crkd_ros.parameters.framing import SyncConfig
from crkd_ros.sync.history import Arrival
from crkd_ros.sync.synchroniser import Synchronizer


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
        pose_source: topics of the ego poses, "" for none; ``poses`` of them, ``pose_interval``
            seconds apart.
        frames: frames that the synchroniser forms of all messages in the order of their stamps.
        references: images of the anchor camera.
        cameras, radars: how many of them a frame has on average.
        moving: frames whose ego pose is known.
        missing: what a detector needs and must be given.
        unreadable: topic -> why its messages cannot be decoded.
        troubles: sentences about single messages that cannot be used.
    """

    kind: Kind
    seconds: float
    sensors: Mapping[str, SensorInfo]
    pose_source: str
    poses: int
    pose_interval: float
    frames: int
    references: int
    cameras: float
    radars: float
    moving: int
    missing: tuple[str, ...]
    unreadable: Mapping[str, str]
    troubles: tuple[str, ...]


def describe(
    path: Path,
    *,
    calibration: Path | None = None,
    sync: SyncConfig | None = None,
    progress: bool = True,
) -> BagInfo:
    """Read a bag of any known converter, ours included. All messages are read, none decoded.

    Args:
        path: the bag.
        calibration: a calibration file that would be given to the node or to `convert`.
        sync: limits of a frame.
        progress: a bar on stderr.

    Raises:
        BagError: not a readable bag, or no sensor in it.
        MotionError: the calibration file cannot be used.
    """
    with open_bag(path) as bag:
        kind, layout = recognise(bag), foreign_layout(bag)
        known = survey(
            bag,
            layout,
            kind=kind,
            calibration=calibration,
            progress=progress,
            strict=False,
        )
        unreadable = bag.unreadable()
        troubles = tuple(_troubles(bag, known))
    heard = {**layout.images, **layout.radars}
    stamps = sorted((s, name) for name in heard for s in known.stamps[name].tolist())
    seconds = (stamps[-1][0] - stamps[0][0]) / 1e9 if stamps else 0.0
    sensors = {}
    for name in (*CAMERAS, *RADARS):
        topic_of = heard.get(name)
        own = np.sort(known.stamps.get(name, np.zeros(0, np.int64)))
        sensors[name] = SensorInfo(
            topic=topic_of,
            rate=(len(own) - 1) * 1e9 / max(int(own[-1] - own[0]), 1) if len(own) > 1 else 0.0,
            calibrated=None if name in RADARS else name in layout.infos or name in known.cameras,
            placed=name in known.extrinsics,
        )
    frames = _frames(stamps, sync or SyncConfig())
    return BagInfo(
        kind=kind,
        seconds=seconds,
        sensors=sensors,
        pose_source=known.pose_source,
        poses=len(known.poses),
        pose_interval=known.poses.interval_ns / 1e9,
        frames=len(frames),
        references=sum(name == ANCHOR_CAMERA for _, name in stamps),
        cameras=sum(one.cameras for one in frames) / max(len(frames), 1),
        radars=sum(one.radars for one in frames) / max(len(frames), 1),
        moving=sum(known.poses.at(one.stamp_ns) is not None for one in frames),
        missing=tuple(_missing(sensors, known)),
        unreadable=unreadable,
        troubles=troubles,
    )


@dataclass(frozen=True)
class _Formed:
    stamp_ns: int
    cameras: int
    radars: int


def _frames(stamps: list[tuple[int, str]], config: SyncConfig) -> list[_Formed]:
    sync, sets = Synchronizer(config), []
    for stamp, name in stamps:
        sets += sync.flush(before_ns=stamp)
        sync.add(name, Arrival(stamp, 0.0), None)
    sets += sync.flush()
    return [_Formed(one.stamp_ns, len(one.images), len(one.sweeps)) for one in sets]


def _troubles(bag: Bag, known: Survey) -> Iterator[str]:
    for topic in sorted(known.strays.places):
        yield known.strays.sentence(topic, bag.topics[topic].count)
    for topic, (count, reason) in sorted(known.broken.items()):
        yield f"{topic}: {count} of {bag.topics[topic].count} messages cannot be read: {reason}"
    if known.strays.back is not None:
        at_ns, seconds = known.strays.back
        yield f"at record time {at_ns} ns all stamps go back by {seconds:.1f} s: cut the bag there"


def _missing(sensors: Mapping[str, SensorInfo], known: Survey) -> list[str]:
    found = []
    for text, names in (
        ("messages of", [n for n, s in sensors.items() if s.topic is None]),
        ("intrinsics of", [n for n, s in sensors.items() if s.topic and s.calibrated is False]),
        ("the place of", [n for n, s in sensors.items() if s.topic and not s.placed]),
    ):
        if names:
            found.append(f"{text} {', '.join(name.lower() for name in names)}")
    if not len(known.poses):
        found.append("ego motion")
    return found


def show(info: BagInfo, path: Path) -> None:
    """Print it as a table and sentences."""
    print(f"{path}: {info.kind.value} ({info.kind.converter}), {info.seconds:.1f} s")
    columns = ("sensor", "topic", "type", "messages", "Hz", "intrinsics", "place")
    mark = {True: "yes", False: "missing", None: ""}
    rows = []
    for name, sensor in info.sensors.items():
        if sensor.topic is None:
            rows.append([name.lower(), "missing", *[""] * (len(columns) - 2)])
            continue
        rows.append(
            [
                name.lower(),
                sensor.topic.name,
                sensor.topic.type_name.rpartition("/")[2],
                str(sensor.topic.count),
                f"{sensor.rate:.1f}",
                mark[sensor.calibrated],
                mark[sensor.placed],
            ]
        )
    texts = ("topic", "type", "intrinsics", "place")
    print_tables(Table(columns=columns, rows=rows, texts=texts))
    if info.pose_source:
        print(
            f"ego motion: {info.poses} poses of {info.pose_source}, "
            f"{info.pose_interval:.3f} s apart"
        )
    print(
        f"frames: {info.frames} (images of {ANCHOR_CAMERA.lower()}: {info.references}), "
        f"{info.cameras:.2f} cameras and {info.radars:.2f} radars each; ego motion is known for "
        f"{info.moving}"
    )
    print(f"missing: {'; '.join(info.missing) or 'nothing'}")
    for trouble in info.troubles:
        print(f"wrong: {trouble}")
    for topic, reason in info.unreadable.items():
        print(f"not read: {topic}, {reason}")
    calibration = " --calibration FILE" if set(_of_file(info)) else ""
    if info.kind is Kind.OURS:
        print("play it as it is")
    else:
        print(f"next: crkd bag convert {path} OUT{calibration}")


def _of_file(info: BagInfo) -> list[str]:
    return [text for text in info.missing if text.startswith(("intrinsics", "the place"))]
