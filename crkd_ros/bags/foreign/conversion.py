"""Bags of other nuScenes converters in the layout of crkd bag. Command `crkd bag convert`.

Two passes: poses and calibration first (foreign/survey.py), then all sensor messages in one
stream (foreign/stream.py). Memory does not grow with the bag but for the poses of the drive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.foreign.kinds import Kind, check_container, foreign_layout, recognise
from crkd_ros.bags.foreign.stream import Conversion, ImageFormat
from crkd_ros.bags.foreign.survey import survey
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.reader import open_bag
from crkd_ros.bags.writer import BagWriter, Storage


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
    progress: bool = True,
) -> ConvertSummary:
    """Convert one bag. The new one appears when it is whole.

    Args:
        source: the bag of another converter.
        out: folder of the new bag; must not exist.
        kind: who wrote it; None = recognise it.
        calibration: file with what the bag does not hold; overrules the bag where it lists a
            sensor.
        stamps: see ``survey``.
        image_format: of raw images; compressed ones keep their bytes.
        jpeg_quality: of raw images that become JPEG, 1 to 100.
        storage: of the new bag.
        with_lidar: False leaves the LiDAR clouds out.
        progress: a bar on stderr.

    Raises:
        BagError: not a bag that can be converted, something is missing (all of it is named), a
            message is damaged, or ``out`` exists.
        MotionError: the calibration file cannot be used.
    """
    with open_bag(source) as bag:
        found = recognise(bag) if kind is None else kind
        if found is Kind.OURS:
            raise BagError(
                f"{source} has the layout of crkd bag already; if it is another converter's, "
                f"pass --kind {Kind.ROS2.value}"
            )
        check_container(bag, found)
        layout = foreign_layout(bag)
        known = survey(
            bag,
            layout,
            kind=found,
            calibration=calibration,
            stamps=stamps,
            progress=progress,
        )
        if known.strays.back is not None:
            at_ns, seconds = known.strays.back
            raise BagError(
                f"{source}: at record time {at_ns} ns all stamps go back by {seconds:.1f} s; was "
                "a bag recorded that was played in a loop, or a clock set? cut the bag there"
            )
        job = Conversion(
            bag=bag,
            kind=found,
            layout=layout,
            known=known,
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
            notes=tuple(_notes(job, with_lidar)),
        )


def _notes(job: Conversion, lidar_wanted: bool) -> Iterator[str]:
    missing = [name.lower() for name in CAMERAS if name not in job.layout.images]
    missing += [name.lower() for name in RADARS if name not in job.layout.radars]
    if missing:
        yield f"the bag holds no {', '.join(missing)}"
    for topic, reason in job.bag.unreadable().items():
        yield f"{topic} is not read: {reason}"
    if job.encoded:
        loss = "without loss" if job.image_format == "png" else f"quality {job.jpeg_quality}"
        yield f"{job.encoded} raw images became {job.image_format.upper()}, {loss}"
    if job.known.record_times:
        yield "headers have no stamps: record times were taken"
    if job.interpolated:
        yield (
            f"{job.interpolated} poses at sensor stamps were interpolated between those of "
            f"{job.known.pose_source}, {job.known.poses.interval_ns / 1e9:.3f} s apart"
        )
    if job.without_pose:
        yield (
            f"{job.without_pose} sensor messages lie outside the poses of "
            f"{job.known.pose_source} and make no frame"
        )
    for topic in sorted(job.known.strays.places):
        yield job.known.strays.sentence(topic, job.bag.topics[topic].count)
    for topic, (count, reason) in sorted(job.damaged.items()):
        total = job.bag.topics[topic].count
        yield f"{topic}: {count} of {total} messages cannot be used: {reason}"
    if lidar_wanted and job.layout.lidar is not None and not job.with_lidar:
        yield "the place of lidar_top is not known: its clouds were left out"
