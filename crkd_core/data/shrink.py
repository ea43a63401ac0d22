"""Images made smaller by averaging: what ``cv2.resize`` does with INTER_AREA, in half the time.

A pixel of the result is the mean of the rectangle that it covers. OpenCV averages along the rows
anew for each row of the result that an image's row has a part in; here it is done once, and only
for the rows of the result that somebody looks at. All sums are OpenCV's, number by number and in
its order, so that on x86 every byte is the same.

Shapes: H x W image, h x w result, T parts that rows of the image have in one of the result.
"""

from __future__ import annotations

from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray


def shrink(
    image: NDArray[np.uint8], size: tuple[int, int], rows: tuple[int, int]
) -> NDArray[np.uint8]:
    """``image`` averaged down to ``size``.

    Args:
        image: uint8 [H, W, 3].
        size: w and h, at most W and H.
        rows: first row of the result that is needed, and the one after the last; the others are
            black.

    Returns:
        uint8 [h, w, 3].
    """
    width, height = size
    if image.shape[1] % width == 0:
        # Whole numbers of pixels: OpenCV has another, faster way.
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    out = np.zeros((height, width, 3), np.uint8)
    first, last = rows
    if first >= last:
        return out
    begin, weights = _parts(len(image), height)
    begin, weights = begin[first:last], weights[first:last]
    low = max(0, int(begin[0]))
    high = min(len(image), int(begin[-1]) + weights.shape[1])
    seen = image[low:high].astype(np.float32)
    wide = cv2.resize(seen, (width, high - low), interpolation=cv2.INTER_AREA)
    wide = np.asarray(wide, np.float32).reshape(high - low, -1)
    total = np.zeros((last - first, wide.shape[1]), np.float32)
    for index, weight in enumerate(weights.T[..., None]):
        # Where a part is missing its weight is 0, and its row any.
        place = np.minimum(np.maximum(begin - low + index, 0), len(wide) - 1)
        if index < 2:
            part = wide.take(place, 0)
            part *= weight
            total += part
        else:
            # Most rows of the result have two parts or as many as there are.
            own = np.flatnonzero(weight)
            total[own] += wide.take(place[own], 0) * weight[own]
    cv2.convertScaleAbs(total, dst=out[first:last].reshape(last - first, -1))
    return out


@lru_cache(maxsize=512)
def _parts(source: int, size: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """What rows of an image add to those of a result, by the formulas of OpenCV.

    Args:
        source: H.
        size: h.

    Returns:
        int64 [h], the first row of each; may be -1, with the weight 0. float32 [h, T], weights of
        this row and of the ones after it.
    """
    scale = 1.0 / (size / source)
    low = np.arange(size) * scale
    high = low + scale
    covered = np.minimum(scale, source - low)
    end = np.minimum(np.floor(high), source - 1)
    whole = np.minimum(np.ceil(low), end)
    row = whole[:, None] - 1 + np.arange(int((end - whole).max()) + 2)
    weights = np.where(row < end[:, None], 1 / covered[:, None], 0.0)
    # Parts of a thousandth of a row count for nothing.
    weights[:, 0] = np.where(whole - low > 1e-3, (whole - low) / covered, 0.0)
    rest = np.minimum(np.minimum(high - end, 1.0), covered) / covered
    rest[high - end <= 1e-3] = 0.0
    weights[np.arange(size), (end - whole).astype(int) + 1] = rest
    return whole.astype(np.int64) - 1, weights.astype(np.float32)
