"""Reading and checking nuScenes results JSON files of any origin."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import orjson
from numpy.typing import NDArray

from crkd_core import geometry
from crkd_core.data.nuscenes.classes import NUSCENES_ATTRIBUTES, NUSCENES_CLASSES
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import DetectionRules
from crkd_core.evaluate.submission import Submission, SubmissionError
from crkd_core.files import read_file

_VECTORS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}


def read_submission(path: Path, *, rules: DetectionRules | None = None) -> Submission:
    """Read and check a results JSON. Samples and boxes keep the order of the file.

    It can hold any of the ten classes of nuScenes. Quaternions are normalised; an unknown velocity
    may be NaN. A box that says ``num_pts: 0`` is left out, as the devkit does.

    Raises:
        SubmissionError: no such file, not JSON, a key missing, or a value that the benchmark would
            not accept; the message names sample, box and field.
    """
    rules = rules or DetectionRules()
    data = _parse(path)
    if not isinstance(data, dict) or not all(
        isinstance(data.get(key), dict) for key in ("meta", "results")
    ):
        raise SubmissionError(
            f'{path}: expected {{"meta": {{...}}, "results": {{sample token: [boxes]}}}}'
        )
    results: dict[str, Any] = data["results"]
    for token, listed in results.items():
        if not isinstance(listed, list):
            _refuse(path, token, None, "expected a list of boxes", listed)
        if len(listed) > rules.max_boxes:
            _refuse(path, token, None, f"expected at most {rules.max_boxes} boxes", len(listed))
    owners = [(token, i) for token, listed in results.items() for i in range(len(listed))]
    raw = [box for listed in results.values() for box in listed]
    read = _Reader(path=path, owners=owners, raw=raw)

    for (token, i), name in zip(owners, read.texts("sample_token"), strict=True):
        if name != token:
            _refuse(path, token, i, "sample_token: expected the token it is listed under", name)
    rotation = read.vectors("rotation")
    length = np.linalg.norm(rotation, axis=-1)
    read.check("rotation", np.isfinite(length) & (length > 1e-6), "finite parts, not all 0")
    matrix = geometry.quat_wxyz_to_matrix(rotation) if len(raw) else np.zeros((0, 3, 3))
    size = read.vectors("size")
    read.check("size", np.all(np.isfinite(size) & (size > 0), -1), "positive, finite values")
    score = read.numbers("detection_score", ())
    read.check("detection_score", (score >= 0) & (score <= 1), "a number from 0 to 1")
    center = read.vectors("translation")
    read.check("translation", np.all(np.isfinite(center), -1), "finite values")
    velocity = read.vectors("velocity")
    read.check("velocity", ~np.any(np.isinf(velocity), -1), "finite values or NaN")
    counts = [len(listed) for listed in results.values()]
    boxes = ScoredBoxes(
        center=center,
        size=geometry.wlh_to_lwh(size),
        yaw=np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]),
        velocity=velocity,
        label=read.indices("detection_name", NUSCENES_CLASSES),
        sample=np.repeat(np.arange(len(results)), counts),
        attribute=read.indices("attribute_name", ("", *NUSCENES_ATTRIBUTES)) - 1,
        score=score,
        classes=NUSCENES_CLASSES,
    )
    points = read.points()
    return Submission(
        tokens=tuple(results),
        boxes=boxes if points.all() else boxes.select(np.flatnonzero(points)),
        meta=data["meta"],
    )


def _parse(path: Path) -> Any:
    try:
        text = read_file(path)
    except OSError as error:
        raise SubmissionError(
            f"{path}: cannot be read: {error.strerror}; expected a nuScenes results JSON"
        ) from error
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        pass  # orjson is faster and stricter: NaN is not JSON, but the devkit writes and reads it.
    try:
        return json.loads(text)
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
    """Columns out of a list of boxes: fast where all is well, exact about the first bad box."""

    path: Path
    owners: list[tuple[str, int]]
    raw: list[Any]

    def column(self, key: str) -> list[Any]:
        try:
            return [box[key] for box in self.raw]
        except (KeyError, TypeError, IndexError):
            pass
        for (token, i), box in zip(self.owners, self.raw, strict=True):
            if not isinstance(box, dict):
                _refuse(self.path, token, i, "expected a mapping", box)
            if key not in box:
                _refuse(self.path, token, i, f"expected a key {key!r}", sorted(map(str, box)))
        raise AssertionError("unreachable: some box has no such key")

    def texts(self, key: str) -> list[str]:
        values = self.column(key)
        for (token, i), value in zip(self.owners, values, strict=True):
            if type(value) is not str:
                _refuse(self.path, token, i, f"{key}: expected text", value)
        return values

    def indices(self, key: str, known: tuple[str, ...]) -> NDArray[np.int64]:
        index = {name: k for k, name in enumerate(known)}
        values = self.texts(key)
        for (token, i), value in zip(self.owners, values, strict=True):
            if value not in index:
                expected = f"{key}: expected one of {', '.join(map(repr, known))}"
                _refuse(self.path, token, i, expected, value)
        return np.array([index[value] for value in values], np.int64)

    def points(self) -> NDArray[np.int64]:
        """``num_pts`` as the devkit takes it: the whole part of a number, else -1."""
        values = [box.get("num_pts", -1) for box in self.raw]
        for (token, i), value in zip(self.owners, values, strict=True):
            if type(value) not in (int, float) or not abs(value) < 2**31:
                _refuse(self.path, token, i, "num_pts: expected a number", value)
        return np.array([int(value) for value in values], np.int64)

    def vectors(self, key: str) -> NDArray[np.float64]:
        return self.numbers(key, (_VECTORS[key],))

    def numbers(self, key: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
        values = self.column(key)
        if not values:
            return np.zeros((0, *shape))
        try:
            array = np.asarray(values)
            # Texts and None would be converted silently if float were asked for at once.
            if array.shape[1:] == shape and array.dtype.kind in "fiu":
                return array.astype(np.float64)
        except ValueError:
            pass  # Rows of different lengths: found below.
        wanted = f"{shape[0]} numbers" if shape else "a number"
        for (token, i), value in zip(self.owners, values, strict=True):
            parts = value if shape and isinstance(value, list) else [value]
            if len(parts) != (shape[0] if shape else 1) or not all(
                type(part) in (int, float) for part in parts
            ):
                _refuse(self.path, token, i, f"{key}: expected {wanted}", value)
        return np.array(values, np.float64).reshape(len(values), *shape)

    def check(self, key: str, good: NDArray[np.bool_], expected: str) -> None:
        bad = np.flatnonzero(~good)
        if len(bad):
            token, i = self.owners[bad[0]]
            _refuse(self.path, token, i, f"{key}: expected {expected}", self.raw[bad[0]][key])
