"""How much of two boxes is common: in the image, from above, in space.

As KITTI's protocol has it, boxes are upright in the CAMERA's axes: from above is its x-z plane,
and a box reaches from its bottom ``y`` to ``y - height``. The camera of View-of-Delft is tilted
against that by some degrees, for truth and detections alike.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.vod.labels import Objects

Array = NDArray[np.float64]


def image_overlap(a: Objects, b: Objects) -> Array:
    """[A, B] intersection over union of the 2D boxes."""
    common = _common(a.box, b.box)
    union = _area(a.box)[:, None] + _area(b.box)[None] - common
    return np.divide(common, union, out=np.zeros_like(common), where=common > 0)


def covered(a: Objects, areas: Objects) -> Array:
    """[A, B] share of each 2D box of ``a`` that lies in each of ``areas``."""
    common, whole = _common(a.box, areas.box), _area(a.box)[:, None]
    return np.divide(common, whole, out=np.zeros_like(common), where=common > 0)


def overlaps(a: Objects, b: Objects) -> tuple[Array, Array]:
    """[A, B] intersection over union from above, and in space."""
    flat = _intersections(a, b)
    ground = [(o.size[:, 1] * o.size[:, 2]) for o in (a, b)]
    above = flat / np.maximum(ground[0][:, None] + ground[1][None] - flat, 1e-9)
    low = np.maximum(
        (a.bottom[:, 1] - a.size[:, 0])[:, None], (b.bottom[:, 1] - b.size[:, 0])[None]
    )
    high = np.minimum(a.bottom[:, 1][:, None], b.bottom[:, 1][None])
    common = flat * np.maximum(high - low, 0)
    volume = [o.size.prod(1) for o in (a, b)]
    union = volume[0][:, None] + volume[1][None] - common
    return above, common / np.maximum(union, 1e-9)


def _intersections(a: Objects, b: Objects) -> Array:
    """[A, B] common ground, square metres; only of pairs that are near enough to have any."""
    reach = [np.hypot(o.size[:, 1], o.size[:, 2]) / 2 for o in (a, b)]
    places = [o.bottom[:, [0, 2]] for o in (a, b)]
    gap = np.linalg.norm(places[0][:, None] - places[1][None], axis=-1)
    rows, columns = np.nonzero(gap < reach[0][:, None] + reach[1][None])
    result = np.zeros((len(a), len(b)))
    # Around the first of each pair: far from the origin areas would lose digits.
    origin = places[0][rows]
    first, second = _corners(a)[rows], _corners(b)[columns]
    result[rows, columns] = clipped_area(first - origin[:, None], second - origin[:, None])
    return result


def _corners(objects: Objects) -> Array:
    """[N, 4, 2] footprints in the plane x, z of the camera, in one sense of turning."""
    signs = np.array([[1, 1], [-1, 1], [-1, -1], [1, -1]]) / 2
    along = signs[None] * objects.size[:, None, [2, 1]]
    c, s = np.cos(objects.rotation)[:, None], np.sin(objects.rotation)[:, None]
    x = c * along[..., 0] + s * along[..., 1]
    z = -s * along[..., 0] + c * along[..., 1]
    return np.stack([x, z], -1) + objects.bottom[:, None, [0, 2]]


def clipped_area(subject: Array, window: Array) -> Array:
    """[P] area common to each pair of convex polygons, by Sutherland and Hodgman (1974).

    Args:
        subject: [P, V, 2] corners counter-clockwise.
        window: [P, W, 2] the same.
    """
    polygon = subject
    for edge in range(window.shape[1]):
        start = window[:, edge, None]
        along = window[:, (edge + 1) % window.shape[1], None] - start
        polygon = _clip(polygon, start, along)
    following = np.roll(polygon, -1, 1)
    cross = polygon[..., 0] * following[..., 1] - polygon[..., 1] * following[..., 0]
    return np.maximum(cross.sum(1) / 2, 0)


def _clip(polygon: Array, start: Array, along: Array) -> Array:
    """[P, V + 1, 2] what of polygons [P, V, 2] lies left of a line; corners may come twice."""
    offset = polygon - start
    side = along[..., 0] * offset[..., 1] - along[..., 1] * offset[..., 0]
    following, other = np.roll(polygon, -1, 1), np.roll(side, -1, 1)
    crosses = (side >= 0) != (other >= 0)
    share = np.divide(side, side - other, out=np.zeros_like(side), where=crosses)
    meeting = polygon + share[..., None] * (following - polygon)
    # After each corner the crossing that follows it; what is not there goes to the end.
    count, corners = side.shape
    points = np.stack([polygon, meeting], 2).reshape(count, 2 * corners, 2)
    there = np.stack([side >= 0, crosses], 2).reshape(count, 2 * corners)
    order = np.argsort(~there, 1, kind="stable")[:, : corners + 1]
    points = np.take_along_axis(points, order[..., None], 1)
    there = np.take_along_axis(there, order, 1)
    # An edge of no length adds no area, and a polygon of one point has none.
    return np.where(there[..., None], points, points[:, :1])


def _common(a: Array, b: Array) -> Array:
    """[A, B] common area of upright rectangles left, top, right, bottom."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.maximum(high - low, 0).prod(-1)


def _area(box: Array) -> Array:
    return (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
