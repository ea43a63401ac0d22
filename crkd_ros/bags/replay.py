"""A rosbag2 to frames to detections to metrics, deterministic and without ROS.

Command `crkd replay`. Two runs write the same bytes.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from crkd_core.boxes import Detections
from crkd_core.config import check_classes
from crkd_core.evaluate.predict import detect
from crkd_core.evaluate.scoring import score
from crkd_core.evaluate.submission import Answer, make_submission, write_submission
from crkd_core.files import write_json
from crkd_core.frame import Frame
from crkd_ros.bags.detections import write_detections
from crkd_ros.bags.frames import BagProblem, frames_of_bag, layout_of, references_of_bag
from crkd_ros.bags.message_types import BagError
from crkd_ros.parameters.framing import FramingConfig

if TYPE_CHECKING:
    from crkd_core.data.nuscenes.reader import NuScenes
    from crkd_core.evaluate.metrics import Evaluation
    from crkd_core.infer.detector import Detector

#: A bag's ego pose at a sample may differ this much from the data set's, metres.
POSE_TOLERANCE = 1.0

#: Detections above this are scored, as in `crkd evaluate`: average precision counts the tail.
SCORED_FROM = 0.02


#: The only frame of a bag is a sample's if it is this near, ns.
_ALONE_NS = 50_000_000
#: The vehicle may be this fast: frames near a sample are compared with its pose, metres/second.
_TOP_SPEED = 60.0


def key_frames(tables: NuScenes, scenes: Iterable[str]) -> dict[int, str]:
    """Reference stamp, ns -> sample token, of every sample of these scenes."""
    return {
        tables.reference(token).stamp_ns: token
        for scene in scenes
        for token in tables.samples_of_scene(scene)
    }


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """What a replay did.

    Attributes:
        frames: frames that the detector answered.
        key_frames: those among them that are samples of the data set.
        problems: messages and frames that could not be used.
        evaluation: nuScenes metrics, None without a data set.
    """

    frames: int
    key_frames: int
    problems: tuple[BagProblem, ...]
    evaluation: Evaluation | None


def replay(
    path: Path,
    detector: Detector,
    out: Path,
    *,
    data: Path | None = None,
    split: str | None = None,
    key_frames_only: bool = False,
    score_threshold: float = 0.0,
    framing: FramingConfig | None = None,
    version: str | None = None,
    on_frame: Callable[[Frame, Detections], None] | None = None,
) -> ReplayReport:
    """Run a detector over a bag: ``out/detections`` and, given the data set, its metrics.

    With ``data`` and ``split``, ``out/results.json`` (submission) and ``out/metrics.json`` cover
    those samples of the split that are in the bag; one without a frame counts as empty. The frame
    of a sample is the nearest one within half the usual time between frames: with the anchor
    camera lost, that of its stand-in. Its boxes are scored as they are, at its own time.

    Args:
        path: the bag.
        detector: an opened detector.
        out: folder for the results; made if missing.
        data: root of the nuScenes data set that the bag was made of.
        split: its split.
        key_frames_only: run only on samples; needs ``data``.
        score_threshold: weaker detections are scored, but left out of the bag.
        framing: of which messages frames are made, as the node has it; of its sensors those that
            the detector reads.
        version: version folder of ``data``; None = the one that holds the split.
        on_frame: called with every frame and its detections.

    Raises:
        BagError: see ``frames_of_bag``; ``out/detections`` exists; not one frame could be formed;
            no sample of the split is in the bag, or the bag's poses are not those of the data set;
            ``data`` without ``split`` or ``key_frames_only`` without both.
            ConfigError: the detector has a class that the data set does not know.
            ParameterError: a detector that reads LiDAR, or none of the sensors of ``framing``.
    """
    if (data is None) != (split is None):
        raise BagError("give --data and --split together")
    if key_frames_only and data is None:
        raise BagError("--key-frames-only needs --data and --split: a bag does not name samples")
    framing = (framing or FramingConfig()).for_detector(detector.config)
    image = detector.config.image
    tables, samples = None, Samples(tokens={}, missed=())
    total = max((topic.count for topic in layout_of(path, framing).images.values()), default=None)
    if data is not None and split is not None:
        from crkd_core.data.nuscenes.reader import NuScenes

        tables = NuScenes(data, split=split, version=version)
        check_classes(detector.config.name, detector.config.classes, tables.classes)
        references = references_of_bag(path, image=image, framing=framing)
        samples = find_samples(path, references, tables, split)
        total = len(samples.tokens) if key_frames_only else len(references)
    problems: list[BagProblem] = []
    answers: list[Answer] = []

    def frames() -> Iterator[Frame]:
        for frame in frames_of_bag(
            path,
            image=image,
            framing=framing,
            tokens=samples.tokens,
            only=samples.tokens if key_frames_only else None,
            problems=problems,
        ):
            if tables is not None and frame.token:
                _check_pose(path, tables, frame)
            yield frame

    def run() -> Iterator[tuple[int, Detections]]:
        formed = False
        for frame, found in detect(detector, frames(), f"replaying {path.name}", total=total):
            if frame.token:
                answers.append(Answer.to(frame, found))
            if on_frame is not None:
                on_frame(frame, found)
            formed = True
            yield frame.stamp_ns, found.select(found.score > score_threshold)
        if not formed:
            reason = problems[0].reason if problems else "no camera and no radar message"
            raise BagError(f"{path}: not one frame could be formed; first problem: {reason}")

    count = write_detections(
        run(),
        out / "detections",
        source=path,
        classes=detector.config.classes,
        threshold=score_threshold,
    )
    evaluation = None
    if tables is not None:
        evaluation = _score(
            tables,
            detector.config.classes,
            answers,
            [*samples.tokens.values(), *samples.missed],
            out,
        )
    return ReplayReport(
        frames=count, key_frames=len(answers), problems=tuple(problems), evaluation=evaluation
    )


def _check_pose(path: Path, tables: NuScenes, frame: Frame) -> None:
    """Refuse to score boxes that would land elsewhere: two data sets can have the same stamps."""
    record = tables.reference(frame.token)
    if frame.global_T_ego is None:
        return
    apart = float(np.linalg.norm((frame.global_T_ego - record.global_T_ego)[:2, 3]))
    if apart > POSE_TOLERANCE + _TOP_SPEED * abs(frame.stamp_ns - record.stamp_ns) * 1e-9:
        raise BagError(
            f"{path}: at sample {frame.token} the vehicle is {apart:.1f} m from where "
            f"{tables.root} has it; was the bag made of another data set, or is its map another?"
        )


def _score(
    tables: NuScenes,
    classes: Sequence[str],
    answers: Sequence[Answer],
    tokens: Sequence[str],
    out: Path,
) -> Evaluation:
    """Write results.json and metrics.json of these samples."""
    submission = make_submission(answers, classes=classes, tokens=tokens)
    write_submission(submission, out / "results.json")
    evaluation = score(tables, submission, tokens)
    # How long it took would differ between two runs.
    summary = {k: v for k, v in evaluation.summary.items() if k != "eval_time"}
    write_json({**summary, "meta": dict(submission.meta)}, out / "metrics.json", indent=2)
    return evaluation


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Those samples of a split that a bag covers.

    Attributes:
        tokens: reference stamp of a frame, ns -> token of its sample.
        missed: tokens of samples without a frame, though there are frames before and after.
    """

    tokens: dict[int, str]
    missed: tuple[str, ...]


def find_samples(path: Path, references: Sequence[int], tables: NuScenes, split: str) -> Samples:
    """The frame of each sample: the nearest one within half the usual time between frames.

    Args:
        path: of the bag, for the error's text.
        references: of the bag's frames, ns, ascending.
        tables: the data set that the bag was made of.
        split: its split.

    Raises:
        BagError: no sample of the split has a frame.
    """
    tokens: dict[int, str] = {}
    missed: list[str] = []
    scenes = tables.scenes_of(split)
    gaps = [after - before for before, after in itertools.pairwise(references)]
    limit = statistics.median(gaps) / 2 if gaps else _ALONE_NS
    count = 0
    for scene in scenes:
        found, lost = dict[int, str](), list[str]()
        for stamp_ns, token in key_frames(tables, [scene]).items():
            count += 1
            nearest = min(references, key=lambda one: abs(one - stamp_ns), default=None)
            if nearest is not None and abs(nearest - stamp_ns) <= limit:
                found[nearest] = token
            elif references and references[0] < stamp_ns < references[-1]:
                lost.append(token)
        tokens |= found
        # Another scene may have been recorded at the same hours.
        missed += lost if found else []
    if not tokens:
        raise BagError(
            f"{path}: none of the {count} samples of split {split!r} of {tables.root} is "
            "in this bag; was it made of another data set or split?"
        )
    return Samples(tokens=tokens, missed=tuple(missed))
