"""Non-maximum suppression on the ground plane, by centre distance or by rotated overlap.

Shapes: N boxes, P pairs of boxes. Boxes here are rows
(x, y, length, width, yaw), yaw counter-clockwise from +x; float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: How much larger the weaker box is taken, relative to the sizes: far above the rounding.
TOLERANCE = 1e-9

#: Boxes that are compared with each other at once.
BLOCK = 64


def circle_nms(centers: Array, *, distance: float, keep: int) -> NDArray[np.int64]:
    """Greedy suppression of centres [N, 2], best first, within ``distance`` m of a kept one.

    Returns:
        Indices of at most ``keep`` survivors, ascending.
    """

    def near(strong: NDArray[np.int64], weak: NDArray[np.int64]) -> NDArray[np.bool_]:
        return _squared(centers, strong, weak) <= distance**2

    return _greedy(len(centers), near, keep)


def rotated_nms(boxes: Array, *, overlap: float, keep: int) -> NDArray[np.int64]:
    """Greedy suppression of boxes [N, 5], best first, whose BEV IoU with a kept one is larger.

    Returns:
        Indices of at most ``keep`` survivors, ascending.
    """
    centers, reach = boxes[:, :2], np.hypot(boxes[:, 2], boxes[:, 3]) / 2
    area = boxes[:, 2] * boxes[:, 3]

    def overlapping(strong: NDArray[np.int64], weak: NDArray[np.int64]) -> NDArray[np.bool_]:
        # Boxes whose outer circles do not meet cannot overlap: most pairs end here.
        reaches = reach[strong, None] + reach[weak]
        found = _squared(centers, strong, weak) < reaches**2
        # Only a stronger box suppresses, so half of the pairs within a block are not asked for.
        found &= strong[:, None] < weak
        s, w = found.nonzero()
        # Nor can a pair overlap more than the smaller's share of the larger.
        one, other = area[strong[s]], area[weak[w]]
        likely = np.minimum(one, other) > overlap * np.maximum(one, other)
        found[s, w] = False
        s, w = s[likely], w[likely]
        if len(s):
            found[s, w] = rotated_iou(boxes[strong[s]], boxes[weak[w]]) > overlap
        return found

    return _greedy(len(boxes), overlapping, keep)


def _squared(
    centers: Array, strong: NDArray[np.int64], weak: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Squared distances [S, W] of centres."""
    # Coordinate by coordinate: small arrays come from memory that is at hand.
    x, y = centers.T
    across, along = np.subtract.outer(x[strong], x[weak]), np.subtract.outer(y[strong], y[weak])
    squared: Array = across * across + along * along
    return squared


def _greedy(
    count: int,
    suppresses: Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.bool_]],
    keep: int,
) -> NDArray[np.int64]:
    """The greedy choice among ``count`` boxes, best first.

    Block by block: the survivors of a block are found among its own pairs, and then meet all
    weaker boxes at once. A few large questions cost much less than one per survivor.

    Args:
        count: of boxes.
        suppresses: indices [S] and [W] -> bool [S, W], whether the first suppresses the second.
        keep: at most so many survivors.
    """
    rest, kept = np.arange(count), np.zeros(0, np.int64)
    while len(rest) and len(kept) < keep:
        block, rest = rest[:BLOCK], rest[BLOCK:]
        pairs = suppresses(block, block)
        alive = np.ones(len(block), bool)
        for index in range(len(block)):
            if alive[index]:
                alive[index + 1 :] &= ~pairs[index, index + 1 :]
        survivors = block[alive][: keep - len(kept)]
        kept = np.concatenate([kept, survivors])
        rest = rest[~suppresses(survivors, rest).any(0)]
    return kept


def rotated_iou(a: Array, b: Array) -> Array:
    """Intersection over union of P pairs of rectangles [P, 5] and [P, 5]. -> [P]. 0 / 0 is 0.

    The border of the intersection is what of each rectangle's sides lies inside the other one;
    Green's theorem makes an area of it: half the sum of p x q over its pieces from p to q. Sides
    that lie on each other would count twice or not at all: ``b`` is taken a hair larger.
    """
    half_a = a[:, 2:4] / 2
    half_b = b[:, 2:4] / 2
    half_b = half_b + TOLERANCE * (half_a + half_b).sum(1, keepdims=True)
    axis_a, axis_b = (np.stack([np.cos(box[:, 4]), np.sin(box[:, 4])], 1) for box in (a, b))
    # Each rectangle around its own middle and along its own sides, as far as it goes.
    apart = b[:, :2] - a[:, :2]
    turn = axis_a[:, 0] * axis_b[:, 0] + axis_a[:, 1] * axis_b[:, 1]
    lean = axis_a[:, 0] * axis_b[:, 1] - axis_a[:, 1] * axis_b[:, 0]
    b_in_a = _corners(half_b, turn, lean, _along(apart, axis_a))
    a_in_b = _corners(half_a, turn, -lean, -_along(apart, axis_b))
    side_b = np.roll(b_in_a, -1, 1) - b_in_a
    share_a = _share_inside(a_in_b, np.roll(a_in_b, -1, 1) - a_in_b, half_b)
    share_b = _share_inside(b_in_a, side_b, half_a)
    area_a, area_b = a[:, 2] * a[:, 3], b[:, 2] * b[:, 3]
    # Around its own middle every side of a rectangle spans a quarter of it.
    common = area_a / 4 * share_a.sum(1) + (share_b * _cross(b_in_a, side_b)).sum(1) / 2
    common = np.clip(common, 0, np.minimum(area_a, area_b))
    union = area_a + area_b - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _along(vector: Array, axis: Array) -> Array:
    """[P, 2] vectors in axes whose x is ``axis`` [P, 2]."""
    return np.stack([(vector * axis).sum(1), _cross(axis, vector)], 1)


def _corners(half: Array, cosine: Array, sine: Array, middle: Array) -> Array:
    """[P, 4, 2] corners, counter-clockwise, of rectangles that are turned and moved."""
    x, y = half[:, :1] * np.array([1, -1, -1, 1]), half[:, 1:] * np.array([1, 1, -1, -1])
    c, s = cosine[:, None], sine[:, None]
    corners: Array = np.stack([c * x - s * y, s * x + c * y], -1) + middle[:, None]
    return corners


def _share_inside(start: Array, side: Array, half: Array) -> Array:
    """[P, 4] which share of sides, from [P, 4, 2] by [P, 4, 2], lies within +- half [P, 2]."""
    # A side that runs along the border is in or out as a whole: a step of nothing is a tiny one.
    side = np.where(side == 0, np.finfo(float).tiny, side)
    with np.errstate(over="ignore"):
        enter, leave = (-half[:, None] - start) / side, (half[:, None] - start) / side
    first = np.minimum(enter, leave).max(-1)
    last = np.maximum(enter, leave).min(-1)
    share: Array = np.minimum(last, 1) - np.maximum(first, 0)
    return np.maximum(share, 0)


def _cross(a: Array, b: Array) -> Array:
    product: Array = a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
    return product
