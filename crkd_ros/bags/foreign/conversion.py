"""Bags of other nuScenes converters in the layout of crkd bag. Command `crkd bag convert`.

Two passes: poses and calibration first (bags/known.py), then all sensor messages in one
stream (foreign/stream.py). Memory does not grow with the bag but for the poses of the drive.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.foreign.kinds import Kind, check_container, recognise
from crkd_ros.bags.foreign.stream import Conversion, ImageFormat
from crkd_ros.bags.known import BASE, Reading, look_through
from crkd_ros.bags.layout_search import find_layout
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.reader import open_bag
from crkd_ros.bags.survey import Survey
from crkd_ros.bags.writer import BagWriter, Storage
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.radar_clouds import radar_points
from crkd_ros.motion.poses import frame_key
from crkd_ros.parameters.framing import FramingConfig


@dataclass(frozen=True, kw_only=True)
class ConvertSummary:
    """What was written, and what a user should know of it.

    Attributes:
        path: the new bag.
        kind: who wrote the old one.
        messages: topic -> number of messages.
        start_ns, end_ns: first and last sensor stamp.
        notes: sentences.
    """

    path: Path
    kind: Kind
    messages: dict[str, int]
    start_ns: int
    end_ns: int
    notes: tuple[str, ...]


def convert_bag(
    source: Path,
    out: Path,
    *,
    kind: Kind | None = None,
    calibration: Path | None = None,
    stamps: str = "auto",
    image_format: ImageFormat = "jpeg",
    jpeg_quality: int = 95,
    storage: Storage = "mcap",
    with_lidar: bool = True,
    framing: FramingConfig | None = None,
    topics: Mapping[str, str] | None = None,
    progress: bool = True,
) -> ConvertSummary:
    """Convert one bag. The new one appears when it is whole.

    Args:
        source: the bag of another converter.
        out: folder of the new bag; must not exist.
        kind: who wrote it; None = recognise it.
        calibration: file with what the bag does not hold; overrules the bag where it lists a
            sensor.
        stamps: see ``look_through``.
        image_format: of raw images; compressed ones keep their bytes.
        jpeg_quality: of raw images that become JPEG, 1 to 100.
        storage: of the new bag.
        with_lidar: False leaves the LiDAR clouds out.
        framing: as the node has it: ``sensors``, ``topics``, ``cameras``, ``motion``,
            ``base_frame`` (which is base_link in the new bag) and ``calibration_file`` (where
            ``calibration`` is None) hold; ``radar_fields`` say which clouds are a radar's.
        topics: what the user names, see ``find_layout``.
        progress: a bar on stderr.

    Raises:
        BagError: not a bag that can be converted, something is missing (all of it is named), a
            message is damaged, or ``out`` exists.
        MotionError: the calibration file cannot be used.
    """
    framing = framing or FramingConfig()
    if calibration is None and framing.calibration_file:
        calibration = Path(framing.calibration_file)
    with open_bag(source) as bag:
        layout = find_layout(bag, framing=framing, named=topics)
        found = recognise(bag, layout) if kind is None else kind
        if kind is None and (stamps == "record" or topics or calibration is not None):
            # Its names are ours, what the user says of it is not in it.
            found = Kind.ROS2 if found is Kind.OURS else found
        if found is Kind.OURS:
            raise BagError(
                f"{source} has the layout of crkd bag already: play it as it is; if it is another "
                f"converter's, pass --kind {Kind.ROS2.value}"
            )
        check_container(bag, found)
        known = look_through(
            bag,
            layout,
            Reading.to_convert(framing),
            kind=found,
            calibration=calibration,
            stamps=stamps,
            progress=progress,
        )
        known.check(bag.path, found)
        if back := known.strays.time_back():
            raise BagError(f"{source}: {back}")
        job = Conversion(
            bag=bag,
            kind=found,
            layout=layout,
            known=known,
            cameras=framing.cameras,
            image_format=image_format,
            jpeg_quality=jpeg_quality,
            with_lidar=with_lidar and layout.lidar is not None and "LIDAR_TOP" in known.extrinsics,
        )
        with BagWriter(out, storage=storage) as writer:
            job.run(writer, f"converting {source.name}" if progress else "")
        assert job.span is not None
        return ConvertSummary(
            path=out,
            kind=found,
            messages=job.counts,
            start_ns=job.span[0],
            end_ns=job.span[1],
            notes=tuple(_notes(job, with_lidar, framing)),
        )


def _notes(job: Conversion, lidar_wanted: bool, framing: FramingConfig) -> Iterator[str]:
    known, layout, topics = job.known, job.layout, job.bag.topics
    missing = [name.lower() for name in (*CAMERAS, *RADARS) if name not in layout.sensors]
    if missing:
        yield f"the bag holds no {', '.join(missing)}"
    yield from layout.sentences()
    for topic, reason in job.bag.unreadable().items():
        yield f"{topic} is not read: {reason}"
    if frame_key(framing.base_frame) != BASE:
        yield f"its {framing.base_frame} is called {BASE} in the new bag"
    if job.encoded:
        loss = "without loss" if job.image_format == "png" else f"quality {job.jpeg_quality}"
        yield f"{job.encoded} raw images became {job.image_format.upper()}, {loss}"
    if known.record_times:
        yield "headers have no stamps: record times were taken"
    yield from known.motion.sentences()
    if job.interpolated:
        yield (
            f"{job.interpolated} poses at sensor stamps were interpolated between those of "
            f"{known.motion.taken.name}, {known.motion.table.interval_ns / 1e9:.3f} s apart"
        )
    if job.without_pose and (len(known.motion.table) or not known.still):
        yield (
            f"{job.without_pose} sensor messages lie outside the poses of "
            f"{known.motion.taken.name} and make no frame"
        )
    for topic in sorted(known.strays.places):
        yield known.strays.sentence(topic, topics[topic].count)
    for topic, (count, reason) in sorted((known.survey.broken | job.damaged).items()):
        total = topics[topic].count
        yield f"{topic}: {count} of {total} messages cannot be used: {reason}"
    for channel, reasons in sorted(job.unplaced.items()):
        text = f"its place is not known for {len(reasons)} messages: {reasons[0]}"
        yield f"{channel.lower()}: {text}"
    yield from foreign_clouds(known.survey, framing)
    if lidar_wanted and layout.lidar is not None and not job.with_lidar:
        yield "the place of lidar_top is not known: its clouds were left out"
    used = {topic.name for topic in (*layout.sensors.values(), *layout.infos.values())}
    used |= {topic.name for topic in (*layout.transforms, *layout.odometry)}
    used |= {layout.lidar.name} if layout.lidar is not None else set()
    left = [t for name, t in sorted(topics.items()) if t.count and name not in used]
    if left:
        texts = (f"{t.name} ({t.type_name.rpartition('/')[2]}, {t.count})" for t in left)
        yield f"left out, as no detector reads it: {', '.join(texts)}"


def foreign_radars(survey: Survey, framing: FramingConfig) -> dict[str, list[str]]:
    """Why clouds cannot be read with these ``radar_fields`` -> the radars that send such."""
    reasons: dict[str, list[str]] = {}
    for radar in survey.layout.radars:
        head = survey.heads.get(radar)
        if head is None or hasattr(head, "objects"):
            continue
        try:
            radar_points(head, source="", fields=framing.radar_fields.of(radar))
        except ConvertError as error:
            reasons.setdefault(str(error).lstrip(": "), []).append(radar)
    return reasons


def foreign_clouds(survey: Survey, framing: FramingConfig) -> Iterator[str]:
    """What to give for radars whose fields are others than ``radar_fields`` names."""
    for reason, radars in foreign_radars(survey, framing).items():
        names = ", ".join(radar.lower() for radar in radars)
        yield f"{names}: {reason}; radar_fields stand in a parameter file (--params FILE)"
