"""A rosbag2 to frames to detections to metrics, deterministic and without ROS.

Command `crkd replay`. Two runs write the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.config import check_classes
from crkd_core.evaluate.predict import detect
from crkd_core.evaluate.scored_data import scored_data
from crkd_core.evaluate.scoring import score
from crkd_core.evaluate.submission import Answer, make_submission, write_submission
from crkd_core.files import check_output, replacing, write_json
from crkd_core.frame import Frame
from crkd_ros.bags.account import Account
from crkd_ros.bags.detections import Found, Publishing, write_detections
from crkd_ros.bags.frames import BagProblem, Recording
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.samples import Samples, find_samples
from crkd_ros.motion.poses import MotionError
from crkd_ros.parameters.framing import FramingConfig

if TYPE_CHECKING:
    from crkd_core.data.nuscenes.reader import NuScenes
    from crkd_core.evaluate.metrics import Evaluation
    from crkd_core.infer.detector import Detector

#: What it writes into its folder.
RESULTS = ("detections", "results.json", "metrics.json")

#: A bag's ego pose at a sample may differ this much from the data set's, metres.
POSE_TOLERANCE = 1.0

#: The vehicle may be this fast: frames near a sample are compared with its pose, metres/second.
_TOP_SPEED = 60.0


@dataclass(frozen=True, kw_only=True)
class ReplayReport:
    """What a replay did.

    Attributes:
        frames: frames that the detector answered.
        key_frames: those among them that are samples of the data set.
        problems: messages and frames that could not be used.
        account: what became of every sensor's messages.
        notes: sentences: which topics and which ego motion were taken.
        evaluation: nuScenes metrics, None without a data set.
    """

    frames: int
    key_frames: int
    problems: tuple[BagProblem, ...]
    account: Account
    notes: tuple[str, ...]
    evaluation: Evaluation | None


def replay(
    path: Path,
    detector: Detector,
    out: Path,
    *,
    data: Path | None = None,
    split: str | None = None,
    key_frames_only: bool = False,
    publishing: Callable[[Recording], Publishing] | None = None,
    framing: FramingConfig | None = None,
    topics: Mapping[str, str] | None = None,
    version: str | None = None,
    overwrite: bool = False,
) -> ReplayReport:
    """Run a detector over a bag: ``out/detections`` and, given the data set, its metrics.

    All results appear together, when everything has been computed.

    With ``data`` and ``split``, ``out/results.json`` (submission) and ``out/metrics.json`` cover
    those samples of the split that are in the bag; one without a frame counts as empty. The frame
    of a sample is the nearest one within half the usual time between frames: with the anchor
    camera lost, that of its stand-in. Its boxes are scored as they are, at its own time. Without
    ego motion (``motion.source`` none) the vehicle is where the data set has it.

    Args:
        path: the bag.
        detector: an opened detector.
        out: folder for the results; made if missing.
        data: root of the nuScenes data set that the bag was made of.
        split: its split.
        key_frames_only: run only on samples; needs ``data``.
        publishing: of an open recording, what becomes of detections before they are written, as
            the node's parameters say it (node/offline.py); what is scored is what the network
            answered.
        framing: of which messages frames are made, as the node has it; of its sensors those that
            the detector reads.
        topics: what the user names, see ``find_layout``.
        version: version folder of ``data``; None = the one that holds the split.
        overwrite: results of another replay in ``out`` go when these appear, also those that
            these have no successor for.

    Raises:
        BagError: see ``Recording``; not one frame could be formed; no sample of the split is in
            the bag, or the bag's poses are not those of the data set; ``data`` without ``split``
            or ``key_frames_only`` without both.
        OutputError: ``out`` holds results, or cannot be written.
        ConfigError: the detector has a class that the data set does not know.
        ParameterError: a detector that reads LiDAR, or none of the sensors of ``framing``.
    """
    check_output(out, results=RESULTS, overwrite=overwrite)
    if (data is None) != (split is None):
        raise BagError("give --data and --split together")
    if key_frames_only and data is None:
        raise BagError("--key-frames-only needs --data and --split: a bag does not name samples")
    framing = (framing or FramingConfig()).for_detector(detector.config)
    with Recording(path, framing=framing, topics=topics) as recording:
        how = Publishing() if publishing is None else publishing(recording)
        with _together(out, overwrite=overwrite) as room:
            return _Replay(recording, detector, room, how).run(
                data=data, split=split, version=version, key_frames_only=key_frames_only
            )


@contextmanager
def _together(out: Path, *, overwrite: bool) -> Iterator[Path]:
    """A folder to write RESULTS in; they come to ``out`` together when the block ends well."""
    bag, *scores = RESULTS
    with replacing(out / bag) as new:
        room = new.parent
        yield room
        check_output(out, results=RESULTS, overwrite=overwrite)
        # What was before goes with the room.
        before = room / "before"
        before.mkdir()
        for name in RESULTS:
            if os.path.lexists(out / name):
                (out / name).replace(before / name)
        for name in scores:
            if (room / name).exists():
                (room / name).replace(out / name)


class _Replay:
    """One replay of an open recording."""

    def __init__(
        self,
        recording: Recording,
        detector: Detector,
        out: Path,
        publishing: Publishing,
    ) -> None:
        self._recording, self._detector, self._out = recording, detector, out
        self._publishing = publishing
        self._problems: list[BagProblem] = []
        self._answers: list[Answer] = []
        self._recorded: list[int] = []
        self._account = recording.new_account()
        self._tables: NuScenes | None = None

    def run(
        self,
        *,
        data: Path | None,
        split: str | None,
        version: str | None,
        key_frames_only: bool,
    ) -> ReplayReport:
        """See ``replay``."""
        recording, detector = self._recording, self._detector.config
        samples = Samples(tokens={}, missed=())
        total = max((t.count for t in recording.layout.images.values()), default=None)
        if data is not None and split is not None:
            from crkd_core.data.nuscenes.reader import NuScenes

            self._tables = tables = NuScenes(data, split=split, version=version)
            check_classes(detector.name, detector.classes, tables.classes)
            references = recording.references(detector.image)
            samples = find_samples(recording.path, references, tables, split)
            total = len(samples.tokens) if key_frames_only else len(references)
        count = write_detections(
            self._detected(samples, total, only_samples=key_frames_only),
            self._out / "detections",
            source=recording.path,
            classes=detector.classes,
            publishing=self._publishing,
        )
        evaluation = None
        if self._tables is not None and split is not None:
            tokens = [*samples.tokens.values(), *samples.missed]
            facts = scored_data(self._tables, tokens, split=split)
            evaluation = _score(
                self._tables, detector.classes, self._answers, tokens, self._out, facts
            )
        return ReplayReport(
            frames=count,
            key_frames=len(self._answers),
            problems=tuple(self._problems),
            account=self._account,
            notes=tuple(recording.sentences()),
            evaluation=evaluation,
        )

    def _detected(
        self, samples: Samples, total: int | None, *, only_samples: bool
    ) -> Iterator[Found]:
        path, formed, recorded_ns = self._recording.path, False, 0
        frames = self._frames(samples, only_samples=only_samples)
        for frame, found in detect(self._detector, frames, f"replaying {path.name}", total=total):
            if not self._detector.can_use(frame):
                # Nor does the node say anything of it; a sample without an answer counts as empty.
                self._account.dropped += 1
                reason = "frame dropped: none of its messages can be decoded"
                self._problems.append(BagProblem(stamp_ns=frame.stamp_ns, reason=reason))
                continue
            if frame.token:
                self._answers.append(Answer(frame.token, self._pose(frame), found))
            formed = True
            # Of frames that came in another order: not before the one before.
            recorded_ns = max(recorded_ns, self._recorded[-1])
            strong = found.select(found.score > self._publishing.threshold)
            try:
                published = self._publishing.apply(strong, frame.stamp_ns)
            except MotionError as error:
                self._problems.append(BagProblem(stamp_ns=frame.stamp_ns, reason=str(error)))
                continue
            yield Found(stamp_ns=frame.stamp_ns, recorded_ns=recorded_ns, detections=published)
        if not formed:
            reason = "no camera and no radar message"
            if self._problems:
                reason = self._problems[0].reason
            raise BagError(f"{path}: not one frame could be formed; first problem: {reason}")

    def _pose(self, frame: Frame) -> NDArray[np.float64]:
        """Where the vehicle is in the map; as live, the data set says it where no motion does."""
        if frame.global_T_ego is not None:
            return frame.global_T_ego
        assert self._tables is not None  # It has named the sample.
        return self._tables.reference(frame.token).global_T_ego

    def _frames(self, samples: Samples, *, only_samples: bool) -> Iterator[Frame]:
        for frame in self._recording.frames(
            self._detector.config.image,
            tokens=samples.tokens,
            only=samples.tokens if only_samples else None,
            problems=self._problems,
            account=self._account,
            recorded=self._recorded,
        ):
            if self._tables is not None and frame.token:
                _check_pose(self._recording.path, self._tables, frame)
            yield frame


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
    facts: Mapping[str, Any],
) -> Evaluation:
    """Write results.json and metrics.json of these samples."""
    submission = make_submission(answers, classes=classes, tokens=tokens)
    write_submission(submission, out / "results.json")
    evaluation = score(tables, submission, tokens)
    # How long it took would differ between two runs.
    summary = {k: v for k, v in evaluation.summary.items() if k != "eval_time"}
    metrics = {**summary, "meta": dict(submission.meta), **facts}
    write_json(metrics, out / "metrics.json", indent=2)
    return evaluation
