"""Averaging an image down gives the bytes that OpenCV gives."""

import cv2
import numpy as np
import pytest

from crkd_core.data.shrink import shrink

SIZES = [
    *((234, 416, height, width) for width in range(352, 417, 3) for height in (width * 9 // 16,)),
    *((900, 1600, 396, 704), (900, 1600, 300, 533), (90, 160, 45, 80), (90, 160, 45, 79)),
    *((90, 160, 41, 80), (90, 160, 90, 97), (90, 160, 90, 160), (37, 53, 1, 2)),
]


@pytest.mark.parametrize(("rows", "columns", "height", "width"), SIZES)
def test_as_opencv(rows: int, columns: int, height: int, width: int) -> None:
    image = np.random.default_rng(width).integers(0, 256, (rows, columns, 3), dtype=np.uint8)
    expected = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
    np.testing.assert_array_equal(shrink(image, (width, height), (0, height)), expected)


def test_some_rows() -> None:
    image = np.random.default_rng(0).integers(0, 256, (234, 416, 3), dtype=np.uint8)
    expected = cv2.resize(image, (370, 208), interpolation=cv2.INTER_AREA)
    for first, last in ((0, 1), (70, 208), (3, 90), (207, 208)):
        seen = shrink(image, (370, 208), (first, last))
        np.testing.assert_array_equal(seen[first:last], expected[first:last])
        assert not seen[:first].any() and not seen[last:].any()
    assert not shrink(image, (370, 208), (5, 5)).any()
