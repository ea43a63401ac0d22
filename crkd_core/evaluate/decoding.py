"""The boxes of a results JSON as columns, some samples at a time: fast, and only of sound files.

A file of the size of nuScenes' val has 1.2 million boxes; as Python objects all at once they take
gigabytes and most of the time. Here the samples' lists stay text until their turn comes.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from operator import attrgetter
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.classes import NUSCENES_ATTRIBUTES, NUSCENES_CLASSES

#: Numbers a box -> how many.
VECTORS = {"translation": 3, "size": 3, "rotation": 4, "velocity": 2}
#: Texts of a box -> what they may be; a column holds the places in these lists.
TEXTS = {"detection_name": NUSCENES_CLASSES, "attribute_name": ("", *NUSCENES_ATTRIBUTES)}

# Samples whose boxes are objects at the same time.
_TOGETHER = 4


@dataclass(frozen=True, kw_only=True)
class Columns:
    """N boxes of S samples, in the order of the file.

    Attributes:
        meta: what the file says of its inputs.
        counts: sample token -> its boxes.
        values: name of VECTORS -> [N, width] float64; "detection_score" -> [N] float64; name of
            TEXTS -> [N] int64; "num_pts" -> [N] int64, -1 where a box does not say.
    """

    meta: dict[str, Any]
    counts: dict[str, int]
    values: dict[str, NDArray[Any]]


class _Box(msgspec.Struct, gc=False):
    sample_token: str
    translation: tuple[float, float, float]
    size: tuple[float, float, float]
    rotation: tuple[float, float, float, float]
    velocity: tuple[float, float]
    detection_name: str
    detection_score: float
    attribute_name: str
    num_pts: float = -1.0


class _Token:
    """A key that equals nothing but itself: what a file lists twice stays there twice."""

    def __init__(self, text: str) -> None:
        self.text = text


class _File(msgspec.Struct):
    meta: dict[str, Any]
    results: dict[_Token, msgspec.Raw]


def decode(text: bytes, *, most: int) -> Columns | None:
    """The columns of a results JSON; None where any value, or a token, is not what it should be.

    NaN is no JSON and so None too. Values are the same to the last bit as those that Python's own
    reader gives.

    Args:
        text: the file.
        most: boxes that a sample may have.
    """
    try:
        file = msgspec.json.decode(text, type=_File, dec_hook=lambda _, text: _Token(text))
        counts: dict[str, int] = {}
        parts = list(_parts(file.results, counts, most))
    except (msgspec.MsgspecError, KeyError, ValueError, OverflowError, RecursionError):
        return None
    parts = parts or [_columns([])]
    values = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    return Columns(meta=file.meta, counts=counts, values=values)


def _parts(
    results: dict[_Token, msgspec.Raw], counts: dict[str, int], most: int
) -> Iterator[dict[str, NDArray[Any]]]:
    """Columns of some samples after the other; their counts go into ``counts``."""
    decoder = msgspec.json.Decoder(list[_Box])
    listed = iter(results.items())
    while some := list(itertools.islice(listed, _TOGETHER)):
        together: list[_Box] = []
        for key, raw in some:
            token, boxes = key.text, decoder.decode(raw)
            if token in counts or len(boxes) > most or not {*map(_TOKEN, boxes)} <= {token}:
                raise ValueError(token)
            counts[token] = len(boxes)
            together += boxes
        yield _columns(together)


def _columns(boxes: list[_Box]) -> dict[str, NDArray[Any]]:
    count, width = len(boxes), sum(VECTORS.values())
    # Nothing here runs a line of Python for a box.
    flat = itertools.chain.from_iterable(itertools.chain.from_iterable(map(_VECTORS, boxes)))
    numbers = np.fromiter(flat, np.float64, count * width).reshape(count, width)
    ends = np.cumsum([*VECTORS.values()])
    points = np.fromiter(map(_POINTS, boxes), np.float64, count)
    if not np.all(np.abs(points) < 2**31):
        raise ValueError("num_pts")
    return {
        **{
            name: numbers[:, end - VECTORS[name] : end]
            for name, end in zip(VECTORS, ends, strict=True)
        },
        "detection_score": np.fromiter(map(_SCORE, boxes), np.float64, count),
        **{
            name: np.fromiter(map(places.__getitem__, map(text, boxes)), np.int64, count)
            for name, (text, places) in _TEXTS.items()
        },
        # Their whole parts, as the devkit takes them.
        "num_pts": np.trunc(points).astype(np.int64),
    }


_VECTORS = attrgetter(*VECTORS)
_SCORE, _POINTS, _TOKEN = map(attrgetter, ("detection_score", "num_pts", "sample_token"))
_TEXTS = {
    name: (attrgetter(name), {text: place for place, text in enumerate(known)})
    for name, known in TEXTS.items()
}
