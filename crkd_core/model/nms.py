"""Non-maximum suppression on the ground plane, by centre distance or by rotated overlap.

Shapes: N boxes, P pairs of boxes, Q candidate corners of an intersection. Boxes here are rows
(x, y, length, width, yaw), yaw counter-clockwise from +x; float64.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Corners this close to a side, relative to the sizes, count as inside.
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

    def overlapping(strong: NDArray[np.int64], weak: NDArray[np.int64]) -> NDArray[np.bool_]:
        # Boxes whose outer circles do not meet cannot overlap: most pairs end here.
        reaches = reach[strong, None] + reach[weak]
        found = _squared(centers, strong, weak) < reaches**2
        # Only a stronger box suppresses, so half of the pairs within a block are not asked for.
        found &= strong[:, None] < weak
        s, w = found.nonzero()
        if len(s):
            found[s, w] = rotated_iou(boxes[strong[s]], boxes[weak[w]]) > overlap
        return found

    return _greedy(len(boxes), overlapping, keep)


def _squared(
    centers: Array, strong: NDArray[np.int64], weak: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Squared distances [S, W] of centres."""
    apart: Array = centers[strong, None] - centers[weak]
    return np.square(apart[..., 0]) + np.square(apart[..., 1])


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
    """Intersection over union of P pairs of rectangles [P, 5] and [P, 5], exact. -> [P].

    The intersection of two convex polygons is convex: its corners are the corners of each inside
    the other and the crossings of their sides; sorted by angle they give the area. 0 / 0 is 0.
    """
    # Around the middle of the first box, so that far pairs lose no digits.
    corners_a, corners_b = _corners(a, a[:, :2]), _corners(b, a[:, :2])
    crossings, crossed = _crossings(corners_a, corners_b)
    points = np.concatenate([corners_a, corners_b, crossings], 1)
    valid = np.concatenate(
        [_inside(corners_a, b, a[:, :2]), _inside(corners_b, a, a[:, :2]), crossed], 1
    )
    # Where a candidate is no corner, a real one is repeated: that adds no area.
    first = points[np.arange(len(points)), valid.argmax(1)]
    points = np.where(valid[..., None], points, first[:, None])
    points = points - points.mean(1, keepdims=True)
    order = np.arctan2(points[..., 1], points[..., 0]).argsort(1)
    x, y = np.take_along_axis(points, order[..., None], 1).transpose(2, 0, 1)
    area = np.abs((x * np.roll(y, -1, 1) - y * np.roll(x, -1, 1)).sum(1)) / 2
    common = np.where(valid.any(1), area, 0)
    union = a[:, 2] * a[:, 3] + b[:, 2] * b[:, 3] - common
    return np.divide(common, union, out=np.zeros_like(common), where=union > 0)


def _corners(boxes: Array, origin: Array) -> Array:
    """[P, 4, 2] corners relative to ``origin`` [P, 2], counter-clockwise."""
    half = boxes[:, None, 2:4] / 2 * np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]])
    c, s = np.cos(boxes[:, 4, None]), np.sin(boxes[:, 4, None])
    turned = np.stack(
        [c * half[..., 0] - s * half[..., 1], s * half[..., 0] + c * half[..., 1]], -1
    )
    return turned + (boxes[:, :2] - origin)[:, None]


def _inside(points: Array, boxes: Array, origin: Array) -> NDArray[np.bool_]:
    """[P, Q] which points [P, Q, 2], relative to ``origin``, lie in their box or on its border."""
    offset = points - (boxes[:, :2] - origin)[:, None]
    c, s = np.cos(boxes[:, 4, None]), np.sin(boxes[:, 4, None])
    along = np.abs(c * offset[..., 0] + s * offset[..., 1])
    across = np.abs(c * offset[..., 1] - s * offset[..., 0])
    half = boxes[:, 2:4, None] / 2
    slack = TOLERANCE * half.sum(1)
    return (along <= half[:, 0] + slack) & (across <= half[:, 1] + slack)


def _crossings(a: Array, b: Array) -> tuple[Array, NDArray[np.bool_]]:
    """[P, 16, 2] points where sides of polygons [P, 4, 2] cross, and [P, 16] whether they do."""
    from_a, from_b = a[:, :, None], b[:, None]
    along_a, along_b = (np.roll(p, -1, 1) - p for p in (a, b))
    along_a, along_b = along_a[:, :, None], along_b[:, None]
    gap = from_b - from_a
    turn = _cross(along_a, along_b)
    lengths = np.linalg.norm(along_a, axis=-1) * np.linalg.norm(along_b, axis=-1)
    # Parallel sides need no crossing: the corners that lie on them are candidates already.
    crossing = np.abs(turn) > TOLERANCE * lengths
    divisor = np.where(crossing, turn, 1)
    at_a, at_b = _cross(gap, along_b) / divisor, _cross(gap, along_a) / divisor
    crossing &= (at_a >= 0) & (at_a <= 1) & (at_b >= 0) & (at_b <= 1)
    points = from_a + at_a[..., None] * along_a
    return points.reshape(len(a), 16, 2), crossing.reshape(len(a), 16)


def _cross(a: Array, b: Array) -> Array:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
