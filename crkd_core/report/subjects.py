"""The networks that a report is about: their runs, and what they answer on a split."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from crkd_core.boxes import SCORED_FROM, Detections
from crkd_core.config import DetectorConfig, TrainConfig
from crkd_core.data.sets import DataSet, frames_of
from crkd_core.data.vod.reader import VodFrames
from crkd_core.evaluate.metrics import Evaluation
from crkd_core.evaluate.predict import detect, load_detector, segment_score
from crkd_core.evaluate.scoring import Countable, check_annotated, countable
from crkd_core.evaluate.slices import score_slices
from crkd_core.evaluate.submission import Answer, make_submission
from crkd_core.evaluate.vod.distance import countable_by_distance
from crkd_core.evaluate.vod.evaluation import check_labelled, pairs_of
from crkd_core.evaluate.vod.metrics import VodEvaluation, evaluate_pairs
from crkd_core.evaluate.vod.results import results_of
from crkd_core.evaluate.vod.slices import score_parts
from crkd_core.model.checkpoint import CheckpointError, weights_file
from crkd_core.train.run_folder import RECORD, Run, RunError, read_record


class SubjectError(ValueError):
    """An argument that names no run and no weights."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """What an argument of the command names.

    Attributes:
        name: in tables and legends.
        weights: file of the network.
        run: folder of its training; None = only the weights are known.
    """

    name: str
    weights: Path
    run: Path | None

    @property
    def config(self) -> TrainConfig | None:
        """Of the training; None where only the weights are known."""
        return None if self.run is None else Run.open(self.run).config

    @property
    def command(self) -> list[str]:
        """The words after ``crkd`` that began the training; [] where they are not known."""
        record = {} if self.run is None else read_record(self.run)
        words = record.get("command")
        return [str(word) for word in words[1:]] if isinstance(words, list) else []


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network and its answers on a split.

    Attributes:
        source: where it comes from.
        detector: its configuration.
        answers: sample token -> what it found.
        counted: truth and detections that hit by the distance of centres.
        result: the metrics of the data set.
        parts: those of the parts of the split, see slices.py of evaluate/ or evaluate/vod/.
        cells: ``SegmentScore.summary`` of its second head; None = it has none.
    """

    source: Source
    detector: DetectorConfig
    answers: dict[str, Detections]
    counted: Countable
    result: Evaluation | VodEvaluation
    parts: list[dict[str, Any]]
    cells: dict[str, Any] | None = None

    @property
    def name(self) -> str:
        """In tables and legends."""
        return self.source.name


def classes_of(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """The classes of all networks, each once, those of the first one first."""
    return tuple(dict.fromkeys(name for one in subjects for name in one.detector.classes))


def shared_classes(subjects: Sequence[Subject]) -> tuple[str, ...]:
    """The classes that all networks are scored on, in the order of the first one."""
    first, *others = (subject.counted.truth.classes for subject in subjects)
    return tuple(name for name in first if all(name in classes for classes in others))


def parse(arguments: list[str]) -> list[Source]:
    """[NAME=]PATH arguments, run folders or weights files; a name comes once.

    Raises:
        SubjectError: nothing there, a folder without weights or with another program's
            config.json, or two of one name.
    """
    found: dict[str, Source] = {}
    for argument in arguments:
        name, separator, text = argument.partition("=")
        if not separator or Path(argument).exists():
            name, text = "", argument
        path = Path(text)
        try:
            weights = weights_file(path)
        except CheckpointError as error:
            raise SubjectError(str(error)) from error
        run = path if (path / RECORD).is_file() else None
        if run is not None:
            try:
                Run.open(run)
            except RunError as error:
                raise SubjectError(
                    f"{error}; name {weights} to report on the weights alone"
                ) from error
        name = name or (path.name if path.is_dir() else path.stem)
        if name in found:
            raise SubjectError(f"{name}: two have this name; call one otherwise, NAME={text}")
        found[name] = Source(name=name, weights=weights, run=run)
    if not found:
        raise SubjectError("nothing to report on; give [NAME=]RUN at least once")
    return list(found.values())


def observe(source: Source, tables: DataSet, split: str, *, device: str = "cpu") -> Subject:
    """Run a network over a split and score it.

    Raises:
        EvaluateError: the data set or the split has no annotations.
        ConfigError: the network has a class that the data set does not know.
        NuScenesError, VodError, CheckpointError, InferError: data, weights or device cannot be
            used.
    """
    detector = load_detector(source.weights, tables, device=device, score_threshold=SCORED_FROM)
    config = source.config
    sensors = () if config is None else config.sensors
    frames = frames_of(tables, split, detector.config, sensors=sensors)
    if isinstance(frames, VodFrames):  # Not after hours of computing.
        check_labelled(frames)
    else:
        check_annotated(frames.tables)
    cells = segment_score(detector)
    seen = detect(detector, frames, f"{source.name} on {split}", stays=True, cells=cells)
    pairs = [(Answer.to(frame, found), found) for frame, found in seen]
    answers = {answer.token: found for answer, found in pairs}
    result: Evaluation | VodEvaluation
    if isinstance(frames, VodFrames):
        found = [*answers.values()]
        counted = countable_by_distance(frames, found)
        overlaps = pairs_of(frames, results_of(frames, found))
        result = evaluate_pairs(overlaps)
        parts = score_parts(overlaps, result.rules)
    else:
        submission = make_submission((a for a, _ in pairs), classes=detector.config.classes)
        counted = countable(frames.tables, submission, split)
        result, parts = counted.score(), score_slices(frames.tables, counted)
    return Subject(
        source=source,
        detector=detector.config,
        answers=answers,
        counted=counted,
        result=result,
        parts=parts,
        cells=None if cells is None else cells.summary(),
    )
