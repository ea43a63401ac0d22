"""Reading and checking nuScenes results JSON files of any origin."""

from __future__ import annotations

import gc
import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.evaluate.decoding import TEXTS, VECTORS, Columns, decode
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import DetectionRules
from crkd_core.evaluate.submission import Submission, SubmissionError
from crkd_core.files import read_file

# Beyond it a whole number has no float.
_LARGEST = 10**308


def read_submission(path: Path, *, rules: DetectionRules | None = None) -> Submission:
    """Read and check a results JSON. Samples and boxes keep the order of the file.

    It can hold any of the ten classes of nuScenes. Quaternions are normalised; an unknown velocity
    may be NaN. A box that says ``num_pts: 0`` is left out, as the devkit does.

    Raises:
        SubmissionError: no such file, not JSON, a key missing, a sample listed twice, or a value
            that the benchmark would not accept; the message names sample, box and field.
    """
    most = (rules or DetectionRules()).max_boxes
    try:
        text = read_file(path)
    except OSError as error:
        raise SubmissionError(
            f"{path}: cannot be read: {error.strerror}; expected a nuScenes results JSON"
        ) from error
    columns = decode(text, most=most)
    # What is wrong with a file is told by a reader that takes one value after the other.
    if columns is None or not all(good.all() for _, good, _ in _conditions(columns.values)):
        columns = _examined(path, text, most)
    return _submission(columns)


def _submission(columns: Columns) -> Submission:
    values, tokens = columns.values, tuple(columns.counts)
    boxes = ScoredBoxes(
        center=values["translation"],
        size=geometry.wlh_to_lwh(values["size"]),
        yaw=geometry.quat_wxyz_to_yaw(values["rotation"]),
        velocity=values["velocity"],
        label=values["detection_name"],
        sample=np.repeat(np.arange(len(tokens)), list(columns.counts.values())),
        attribute=values["attribute_name"] - 1,
        score=values["detection_score"],
        classes=NUSCENES_CLASSES,
    )
    points = values["num_pts"]
    return Submission(
        tokens=tokens,
        boxes=boxes if points.all() else boxes.select(np.flatnonzero(points)),
        meta=columns.meta,
    )


def _conditions(
    values: Mapping[str, NDArray[Any]],
) -> Iterator[tuple[str, NDArray[np.bool_], str]]:
    """Field, [N] whether a box meets what is expected of it, and that in words."""
    length = np.linalg.norm(values["rotation"], axis=-1)
    size, score = values["size"], values["detection_score"]
    yield "rotation", np.isfinite(length) & (length > 1e-6), "finite parts, not all 0"
    yield "size", np.all(np.isfinite(size) & (size > 0), -1), "positive, finite values"
    yield "detection_score", (score >= 0) & (score <= 1), "a number from 0 to 1"
    yield "translation", np.all(np.isfinite(values["translation"]), -1), "finite values"
    yield "velocity", ~np.any(np.isinf(values["velocity"]), -1), "finite values or NaN"


def _examined(path: Path, text: bytes, most: int) -> Columns:
    """The columns of a file with NaN; of any that is not sound, the first thing that is wrong."""
    # Millions of small objects are made and none is part of a circle: looking for circles among
    # them, again and again, would take more time than all the rest.
    searches = gc.isenabled()
    gc.disable()
    try:
        return _read(path, text, most)
    finally:
        if searches:
            gc.enable()


def _read(path: Path, text: bytes, most: int) -> Columns:
    data = _parse(path, text)
    if not isinstance(data, dict) or not all(
        isinstance(data.get(key), dict) for key in ("meta", "results")
    ):
        raise SubmissionError(
            f'{path}: expected {{"meta": {{...}}, "results": {{sample token: [boxes]}}}}'
        )
    results: dict[str, Any] = data["results"]
    if isinstance(results, _Repeating):
        raise SubmissionError(
            f"{path}: sample {results.key} is listed more than once; expected one list of all its "
            "boxes, so join them, or remove those that are not meant"
        )
    for token, listed in results.items():
        if not isinstance(listed, list):
            _refuse(path, token, None, "expected a list of boxes", listed)
        if len(listed) > most:
            _refuse(path, token, None, f"expected at most {most} boxes", len(listed))
    raw = list(itertools.chain.from_iterable(results.values()))
    counts = {token: len(listed) for token, listed in results.items()}
    read = _Reader(path=path, counts=counts, raw=raw)

    said = read.texts("sample_token")
    listed_under = [token for token, count in counts.items() for _ in range(count)]
    if said != listed_under:
        bad = next(i for i, token in enumerate(listed_under) if said[i] != token)
        read.refuse(bad, "sample_token: expected the token it is listed under", said[bad])
    values: dict[str, NDArray[Any]] = {
        **{name: read.numbers(name, (width,)) for name, width in VECTORS.items()},
        "detection_score": read.numbers("detection_score", ()),
        **{name: read.indices(name, known) for name, known in TEXTS.items()},
        "num_pts": read.points(),
    }
    for key, good, expected in _conditions(values):
        read.check(key, good, expected)
    return Columns(meta=data["meta"], counts=counts, values=values)


class _Repeating(dict[str, Any]):
    """A mapping of a file that has ``key`` more than once; the last one is in it."""

    key: str


def _mapping(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    found = _Repeating(found)
    found.key = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
    return found


def _parse(path: Path, text: bytes) -> Any:
    try:
        # Faster readers know no NaN, which the devkit writes and reads, or drop what is repeated.
        return json.loads(text, object_pairs_hook=_mapping)
    except (ValueError, RecursionError) as error:
        raise SubmissionError(f"{path}: expected a JSON file, got: {error}") from error


def _refuse(path: Path, token: str, index: int | None, expected: str, got: object) -> NoReturn:
    box = "" if index is None else f", box {index}"
    shown = repr(got)
    raise SubmissionError(
        f"{path}: sample {token}{box}: {expected}, got {shown[:80]}{'...' * (len(shown) > 80)}"
    )


@dataclass(frozen=True, kw_only=True)
class _Reader:
    """Columns out of a list of boxes: fast where all is well, exact about the first bad box.

    Attributes:
        path: of the file, for errors.
        counts: sample token -> how many of the boxes are its.
        raw: the boxes of all samples, one after the other.
    """

    path: Path
    counts: dict[str, int]
    raw: list[Any]

    def refuse(self, row: int, expected: str, got: object) -> NoReturn:
        """Refuse a box by its place in ``raw``."""
        for token, count in self.counts.items():
            if row < count:
                _refuse(self.path, token, row, expected, got)
            row -= count
        raise AssertionError("unreachable: there is no such box")

    def column(self, key: str) -> list[Any]:
        try:
            return [box[key] for box in self.raw]
        except (KeyError, TypeError, IndexError):
            pass
        for row, box in enumerate(self.raw):
            if not isinstance(box, dict):
                self.refuse(row, "expected a mapping", box)
            if key not in box:
                self.refuse(row, f"expected a key {key!r}", sorted(map(str, box)))
        raise AssertionError("unreachable: some box has no such key")

    def texts(self, key: str) -> list[str]:
        values = self.column(key)
        if not {*map(type, values)} <= {str}:
            bad = next(row for row, value in enumerate(values) if type(value) is not str)
            self.refuse(bad, f"{key}: expected text", values[bad])
        return values

    def indices(self, key: str, known: tuple[str, ...]) -> NDArray[np.int64]:
        index = {name: k for k, name in enumerate(known)}
        values = self.texts(key)
        try:
            return np.fromiter(map(index.__getitem__, values), np.int64, len(values))
        except KeyError:
            bad = next(row for row, value in enumerate(values) if value not in index)
            expected = f"{key}: expected one of {', '.join(map(repr, known))}"
            self.refuse(bad, expected, values[bad])

    def points(self) -> NDArray[np.int64]:
        """``num_pts`` as the devkit takes it: the whole part of a number, else -1."""
        values = [box.get("num_pts", -1) for box in self.raw]
        if {*map(type, values)} <= {int} and {*values} <= {-1}:
            return np.full(len(values), -1)
        for row, value in enumerate(values):
            if type(value) not in (int, float) or not abs(value) < 2**31:
                self.refuse(row, "num_pts: expected a number", value)
        return np.array([int(value) for value in values], np.int64)

    def numbers(self, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        values = self.column(key)
        width = shape[0] if shape else 1
        parts: list[Any] = values
        if shape and {*map(type, values)} <= {list} and {*map(len, values)} <= {width}:
            parts = list(itertools.chain.from_iterable(values))
        if {*map(type, parts)} <= {int, float}:
            try:
                flat = np.fromiter(parts, np.float64, len(parts))
                return flat.reshape(len(values), *shape)
            except OverflowError:
                pass  # A whole number beyond every float: found below.
        wanted = f"{shape[0]} numbers" if shape else "a number"
        for row, value in enumerate(values):
            parts = value if shape and isinstance(value, list) else [value]
            if len(parts) != width or not all(
                type(part) is float or (type(part) is int and abs(part) < _LARGEST)
                for part in parts
            ):
                self.refuse(row, f"{key}: expected {wanted}", value)
        return np.array(values, np.float64).reshape(len(values), *shape)

    def check(self, key: str, good: NDArray[np.bool_], expected: str) -> None:
        bad = np.flatnonzero(~good)
        if len(bad):
            row = int(bad[0])
            self.refuse(row, f"{key}: expected {expected}", self.raw[row][key])
