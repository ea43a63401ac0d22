"""Non-maximum suppression on the ground plane, by centre distance or by rotated overlap.

Shapes: N boxes, P pairs of boxes. Boxes here are rows
(x, y, length, width, yaw), yaw counter-clockwise from +x; float64.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Indices = NDArray[np.int64]

#: How much larger the weaker box is taken, relative to the sizes: far above the rounding.
TOLERANCE = 1e-9

#: Boxes that are compared with each other at once.
BLOCK = 96


@dataclass(frozen=True, kw_only=True)
class Circles:
    """Boxes, best first, that suppress by distance of centres: what is within ``distance``.

    Attributes:
        centers: [N, 2] metres.
        distance: metres.
    """

    centers: Array
    distance: float

    def __len__(self) -> int:
        return len(self.centers)

    def near(self, strong: Indices, weak: Indices) -> NDArray[np.bool_]:
        """[S, W] whether one suppresses the other."""
        return _squared(self.centers, strong, weak) <= self.distance**2


@dataclass(frozen=True, kw_only=True)
class Rectangles:
    """Boxes, best first, that suppress by BEV IoU: what is above ``overlap``.

    Attributes:
        boxes: [N, 5].
        overlap: in [0, 1).
    """

    boxes: Array
    overlap: float

    def __len__(self) -> int:
        return len(self.boxes)

    def near(self, strong: Indices, weak: Indices) -> NDArray[np.bool_]:
        """[S, W] whether one may suppress the other, as their IoU must tell."""
        sides = self.boxes[:, 2:4]
        reach, area = np.hypot(*sides.T) / 2, sides.prod(1)
        # Boxes whose outer circles do not meet cannot overlap: most pairs end here.
        squared = _squared(self.boxes[:, :2], strong, weak)
        found: NDArray[np.bool_] = squared < np.add.outer(reach[strong], reach[weak]) ** 2
        # Only a stronger box suppresses, so half of the pairs within a block are not asked for.
        found &= strong[:, None] < weak
        s, w = found.nonzero()
        # Nor can a pair overlap more than the smaller's share of the larger.
        one, other = area[strong[s]], area[weak[w]]
        found[s, w] = np.minimum(one, other) > self.overlap * np.maximum(one, other)
        return found


def suppressed(groups: Sequence[Circles | Rectangles], *, keep: int) -> list[Indices]:
    """Greedy suppression within each of several groups of boxes, which do not see each other.

    Returns:
        Per group the indices of at most ``keep`` survivors, ascending.
    """
    # All groups ask at the same time: a few large questions cost much less than many small ones.
    kept: list[Indices] = [np.zeros(0, np.int64)] * len(groups)
    runs = [_greedy(len(group), keep) for group in groups]
    answers: dict[int, NDArray[np.bool_] | None] = dict.fromkeys(range(len(groups)))
    while answers:
        questions = {}
        for index, answer in answers.items():
            try:
                questions[index] = runs[index].send(answer)
            except StopIteration as end:
                kept[index] = end.value
        places = [*questions]
        found = _suppresses([(groups[i], *questions[i]) for i in places])
        answers = dict(zip(places, found, strict=True))
    return kept


def _squared(centers: Array, strong: Indices, weak: Indices) -> Array:
    """Squared distances [S, W] of centres."""
    # Coordinate by coordinate: small arrays come from memory that is at hand.
    x, y = centers.T
    across, along = np.subtract.outer(x[strong], x[weak]), np.subtract.outer(y[strong], y[weak])
    squared: Array = across * across + along * along
    return squared


def _suppresses(
    questions: Sequence[tuple[Circles | Rectangles, Indices, Indices]],
) -> list[NDArray[np.bool_]]:
    """Per group with indices [S] and [W] whether the first suppress the second, [S, W]."""
    found = [group.near(strong, weak) for group, strong, weak in questions]
    open_: list[tuple[int, Indices, Indices]] = []
    pairs: list[tuple[Array, Array, float]] = []
    for place, (group, strong, weak) in enumerate(questions):
        if isinstance(group, Rectangles):
            s, w = found[place].nonzero()
            open_.append((place, s, w))
            pairs.append((group.boxes[strong[s]], group.boxes[weak[w]], group.overlap))
    if sum(len(s) for _, s, _ in open_):
        iou = rotated_iou(*(np.concatenate([pair[side] for pair in pairs]) for side in (0, 1)))
        ends = np.cumsum([len(s) for _, s, _ in open_])[:-1]
        for (place, s, w), part, (_, _, overlap) in zip(
            open_, np.split(iou, ends), pairs, strict=True
        ):
            found[place][s, w] = part > overlap
    return found


def _greedy(
    count: int, keep: int
) -> Generator[tuple[Indices, Indices], NDArray[np.bool_] | None, Indices]:
    """The greedy choice among ``count`` boxes, best first.

    Block by block: the survivors of a block are found among its own pairs, and then meet all
    weaker boxes at once.

    Args:
        count: of boxes.
        keep: at most so many survivors.

    Yields:
        Indices [S] and [W]; it is sent bool [S, W], whether the first suppresses the second.

    Returns:
        Indices of the survivors, ascending.
    """
    rest, kept = np.arange(count), np.zeros(0, np.int64)
    while len(rest) and len(kept) < keep:
        block, rest = rest[:BLOCK], rest[BLOCK:]
        pairs = yield block, block
        assert pairs is not None
        alive = np.ones(len(block), bool)
        for index in range(len(block)):
            if alive[index]:
                alive[index + 1 :] &= ~pairs[index, index + 1 :]
        survivors = block[alive][: keep - len(kept)]
        kept = np.concatenate([kept, survivors])
        if len(rest):
            weaker = yield survivors, rest
            assert weaker is not None
            rest = rest[~weaker.any(0)]
    return kept


def rotated_iou(a: Array, b: Array) -> Array:
    """Intersection over union of P pairs of rectangles [P, 5] and [P, 5]. -> [P]. 0 / 0 is 0.

    The border of the intersection is what of each rectangle's sides lies inside the other one;
    Green's theorem makes an area of it: half the sum of p x q over its pieces from p to q. Sides
    that lie on each other would count twice or not at all: ``b`` is taken a hair larger.

    Coordinates are rows of their own [4, P]: NumPy is slow along short axes.
    """
    half_a = a[:, 2] / 2, a[:, 3] / 2
    half_b = b[:, 2] / 2, b[:, 3] / 2
    hair = TOLERANCE * (half_a[0] + half_b[0] + (half_a[1] + half_b[1]))
    half_b = half_b[0] + hair, half_b[1] + hair
    axis_a, axis_b = ((np.cos(box[:, 4]), np.sin(box[:, 4])) for box in (a, b))
    # Each rectangle around its own middle and along its own sides, as far as it goes.
    apart = b[:, 0] - a[:, 0], b[:, 1] - a[:, 1]
    turn = axis_a[0] * axis_b[0] + axis_a[1] * axis_b[1]
    lean = axis_a[0] * axis_b[1] - axis_a[1] * axis_b[0]
    there, back = _along(apart, axis_a), _along(apart, axis_b)
    b_in_a = _corners(half_b, turn, lean, there)
    a_in_b = _corners(half_a, turn, -lean, (-back[0], -back[1]))
    side_a, side_b = _sides(a_in_b), _sides(b_in_a)
    share_a = _share_inside(a_in_b, side_a, half_b)
    share_b = _share_inside(b_in_a, side_b, half_a)
    area_a, area_b = a[:, 2] * a[:, 3], b[:, 2] * b[:, 3]
    # Around its own middle every side of a rectangle spans a quarter of it.
    crosses = b_in_a[0] * side_b[1] - b_in_a[1] * side_b[0]
    common = area_a / 4 * share_a.sum(0) + (share_b * crosses).sum(0) / 2
    common = np.clip(common, 0, np.minimum(area_a, area_b))
    union = area_a + area_b - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


#: x and y of something.
_Pair = tuple[Array, Array]
#: Corners of a rectangle by the signs of x and y, counter-clockwise, [4, 1].
_RIGHT = np.array([1.0, -1, -1, 1])[:, None]
_LEFT = np.array([1.0, 1, -1, -1])[:, None]
#: The corner behind each.
_NEXT = [1, 2, 3, 0]


def _along(vector: _Pair, axis: _Pair) -> _Pair:
    """Vectors [P] in axes whose x is ``axis`` [P]."""
    x, y = vector
    c, s = axis
    return x * c + y * s, c * y - s * x


def _corners(half: _Pair, cosine: Array, sine: Array, middle: _Pair) -> _Pair:
    """[4, P] corners, counter-clockwise, of rectangles that are turned and moved."""
    x, y = half[0] * _RIGHT, half[1] * _LEFT
    return cosine * x - sine * y + middle[0], sine * x + cosine * y + middle[1]


def _sides(corners: _Pair) -> _Pair:
    """[4, P] from each corner to the next."""
    x, y = corners
    return x[_NEXT] - x, y[_NEXT] - y


def _share_inside(start: _Pair, side: _Pair, half: _Pair) -> Array:
    """[4, P] which share of sides, from [4, P] by [4, P], lies within +- half [P]."""
    firsts, lasts = [], []
    with np.errstate(over="ignore"):
        for begin, step, limit in zip(start, side, half, strict=True):
            # A side that runs along the border is in or out as a whole: a step of nothing is a
            # tiny one.
            step = np.where(step == 0, np.finfo(float).tiny, step)
            enter, leave = (-limit - begin) / step, (limit - begin) / step
            firsts.append(np.minimum(enter, leave))
            lasts.append(np.maximum(enter, leave))
    first, last = np.maximum(*firsts), np.minimum(*lasts)
    share: Array = np.minimum(last, 1) - np.maximum(first, 0)
    return np.maximum(share, 0)
