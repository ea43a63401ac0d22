"""What a pass over a bag was worth: offline and streaming metrics, latency, lost frames.

Latency is real time from the reference image's stamp, as the player published it, to the arrival
of the boxes at a subscriber: transport, waiting, network and publishing, nothing left out.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crkd_ros.bags.layout import Layout
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.reader import open_rosbag2
from crkd_ros.bags.replay import POSE_TOLERANCE
from crkd_ros.bags.samples import key_frames, of_one_vehicle
from crkd_ros.convert import arrays
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.streaming_eval.recorder import Pass
from crkd_ros.streaming_eval.streaming import Answer, Stream, StreamScores, score_stream

if TYPE_CHECKING:
    from crkd_core.data.nuscenes.reader import NuScenes

#: Boxes in this frame need no pose of the vehicle.
MAP_FRAME = "map"
#: An anchor image this near the end of a pass cannot be answered in it, nanoseconds.
_TAIL = 1_000_000

#: What is made of them: files of `crkd live` and of the evaluator (report.py).
RESULTS = ("metrics.json", "report.html", "streaming.png")


class ScoreError(ValueError):
    """A pass that cannot be scored: of another drive, or boxes of an unknown frame."""


@dataclass(frozen=True, kw_only=True)
class PassScores:
    """One pass over a bag.

    Attributes:
        rate: bag seconds per real second.
        scores: offline, streaming and forwarded metrics over the key frames of the pass.
        latencies: of each published frame, real seconds.
        possible: images of the anchor camera in the pass, each of which asks for a frame.
        skipped: complete, but a newer frame was too when the network came free. None: not told.
        dropped: failed; the node's /diagnostics say why. None: not told.
        stages: stage -> mean milliseconds, as the node measured them.
    """

    rate: float
    scores: StreamScores
    latencies: tuple[float, ...]
    possible: int
    skipped: int | None
    dropped: int | None
    stages: Mapping[str, float]

    @property
    def published(self) -> int:
        """Frames whose boxes arrived."""
        return len(self.latencies)

    @property
    def lost(self) -> int | None:
        """Anchor images that became no frame and are in no count; None: the node told nothing."""
        if self.skipped is None or self.dropped is None:
            return None
        return max(0, self.possible - self.published - self.skipped - self.dropped)

    def latency(self, quantile: float | None = None) -> float:
        """Mean or a quantile, real seconds; NaN without a frame."""
        if not self.latencies:
            return math.nan
        values = np.asarray(self.latencies)
        return float(values.mean() if quantile is None else np.quantile(values, quantile))

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        latency: dict[str, float | None] = {"mean": None, "p50": None, "p95": None, "max": None}
        if self.latencies:
            quantiles = {"mean": None, "p50": 0.5, "p95": 0.95, "max": 1.0}
            latency = {name: self.latency(q) for name, q in quantiles.items()}
        return {
            "rate": self.rate,
            **self.scores.as_dict(),
            "latency_s": latency,
            "frames": {
                "possible": self.possible,
                "published": self.published,
                "skipped": self.skipped,
                "dropped": self.dropped,
                "lost": self.lost,
            },
            "stages_ms": dict(self.stages),
        }


def score_pass(
    tables: NuScenes,
    split: str,
    one: Pass,
    *,
    base_frame: str = "base_link",
    rate: float | None = None,
) -> PassScores:
    """Score what came during one pass over a bag of this data set.

    Args:
        tables: the annotated data set that the bag was made of.
        split: its split; the key frames within the pass are scored.
        one: what was recorded.
        base_frame: frame of the vehicle; boxes may be in it or in MAP_FRAME.
        rate: of playing, where it is known better than from the ticks.

    Raises:
        ScoreError: no key frame of the split in the pass, poses of another data set, boxes of
            another frame or that cannot be read, a detector that did not tell its classes, or a
            pass without a rate.
    """
    rate = rate or one.rate
    if not rate > 0:
        raise ScoreError("/clock did not move: start the player with --clock")
    if not one.classes:
        raise ScoreError(
            "the detector's /diagnostics told no classes, so its labels mean nothing; "
            "is it a detector_node of this version, and its name right?"
        )
    # The first ticks of /clock may be lost; what was answered was played.
    first_ns = min([one.first_ns, *(arrival.stamp_ns for arrival in one.arrivals)])
    samples, scenes = samples_between(tables, split, first_ns, one.last_ns, stamps=stamps_of(one))
    poses = poses_of(tables, scenes)
    _check_poses(tables, one, poses)
    answers = []
    for arrival in one.arrivals:
        refuse_other_frames(arrival.frame_id, base_frame)
        pose = np.eye(4) if arrival.frame_id == MAP_FRAME else poses.get(arrival.stamp_ns)
        if pose is None:
            raise ScoreError(
                f"boxes with stamp {arrival.stamp_ns} ns, at which {', '.join(scenes)} of "
                f"{tables.root} has no sensor message; is this the data set of the bag?"
            )
        try:
            found = arrival.detections(one.classes)
        except ConvertError as error:
            raise ScoreError(f"at {arrival.stamp_ns} ns: {error}") from error
        answers.append(
            Answer(
                stamp_ns=arrival.stamp_ns,
                available_ns=arrival.available_ns,
                detections=found,
                global_T_ego=pose,
            )
        )
    stream = Stream(answers, classes=one.classes)
    anchors = (
        record.stamp_ns
        for scene in scenes
        for record in tables.records(scene, tables.anchor(scene))
    )
    return PassScores(
        rate=rate,
        scores=score_stream(tables, stream, samples),
        latencies=tuple((a.available_ns - a.stamp_ns) * 1e-9 / rate for a in stream),
        possible=sum(first_ns <= stamp <= one.last_ns for stamp in anchors),
        skipped=one.skipped,
        dropped=one.dropped,
        stages=one.stages,
    )


def refuse_other_frames(frame_id: str, base_frame: str) -> None:
    """Raise ScoreError for boxes in a frame whose place in the data set nobody knows."""
    if frame_id not in (base_frame.lstrip("/"), MAP_FRAME):
        raise ScoreError(
            f"boxes are in frame {frame_id!r}; expected {base_frame} or {MAP_FRAME} (output_frame "
            "of the detector)"
        )


def stamps_of(one: Pass) -> set[int]:
    """The reference stamps of the frames that were answered in a pass, ns."""
    return {arrival.stamp_ns for arrival in one.arrivals}


def samples_between(
    tables: NuScenes, split: str, first_ns: int, last_ns: int, *, stamps: Collection[int] = ()
) -> tuple[dict[int, str], list[str]]:
    """Reference stamp -> token of the split's samples in a span of time, and their scenes.

    Args:
        tables: the annotated data set.
        split: its split.
        first_ns: where the span begins.
        last_ns: where it ends.
        stamps: of frames that were made of the bag. Of scenes that were recorded at the same time,
            by two vehicles, those without a sensor message at one of them are left out.

    Raises:
        ScoreError: there is none.
    """
    drives: dict[str, dict[int, str]] = {}
    for scene in tables.scenes_of(split):
        inside = {
            stamp: token
            for stamp, token in key_frames(tables, [scene]).items()
            if first_ns - _TAIL <= stamp <= last_ns + _TAIL
        }
        if inside:
            drives[scene] = inside
    if not drives:
        raise ScoreError(
            f"no sample of split {split!r} of {tables.root} between {first_ns} and {last_ns} ns, "
            "which is when the bag is; was the bag made of another data set or split?"
        )
    drives = of_one_vehicle(
        drives, is_own=lambda scene: not poses_of(tables, [scene]).keys().isdisjoint(stamps)
    )
    samples = sorted(pair for inside in drives.values() for pair in inside.items())
    return dict(samples), sorted(drives)


def refuse_other_drives(bag: Path, layout: Layout, tables: NuScenes, split: str) -> None:
    """Refuse a bag that has no time in common with a split, before it is played.

    Args:
        bag: a rosbag2.
        layout: its topics.
        tables: the annotated data set.
        split: one that should hold the bag's scene.

    Raises:
        ScoreError: no sample of the split is in the time of the bag.
    """
    topics = {topic.name for topic in layout.sensors.values()}
    with open_rosbag2(bag) as opened:
        first_ns, last_ns = opened.span_ns()
        # A bag may have been recorded at another time than that of the headers, which count too.
        for record in opened.records(topics):
            with contextlib.suppress(BagError):
                stamp_ns = arrays.stamp_ns(record.message().header.stamp)
                first_ns, last_ns = min(first_ns, stamp_ns), max(last_ns, stamp_ns)
                break
    samples_between(tables, split, first_ns, last_ns)


def poses_of(tables: NuScenes, scenes: Iterable[str]) -> dict[int, NDArray[np.float64]]:
    """Stamp ns -> global_T_ego of every sensor message: whatever triggers a frame is in it."""
    from crkd_core.data.nuscenes.reader import CHANNELS

    return {
        record.stamp_ns: record.global_T_ego
        for scene in scenes
        for channel in CHANNELS
        for record in tables.records(scene, channel)
    }


def _check_poses(tables: NuScenes, one: Pass, poses: Mapping[int, NDArray[np.float64]]) -> None:
    """Refuse to score boxes that would land elsewhere: two data sets can have the same stamps."""
    for stamp_ns in one.poses.keys() & poses.keys():
        apart = float(np.linalg.norm((one.poses[stamp_ns] - poses[stamp_ns])[:2, 3]))
        if apart > POSE_TOLERANCE:
            raise ScoreError(
                f"at {stamp_ns} ns the odometry is {apart:.1f} m from where {tables.root} has the "
                "vehicle; was the bag made of another data set, or is its map another?"
            )
