"""Images as released weights saw them: Pillow's bicubic, and a zoom that maps u to s u."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crkd_core.config import ImageConfig
from crkd_core.data.cameras import bicubic, prepare_image


@pytest.mark.parametrize("size", [(48, 27), (96, 54), (110, 61), (31, 40), (96, 20)])
def test_bicubic_is_pillows(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (54, 96, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    found = bicubic(image, *size)
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.99


def test_bicubic_is_its_formula() -> None:
    """A slow oracle in float64: rows first, rounded to whole levels, then columns."""

    def kernel(x: float) -> float:
        x, a = abs(x), -0.5
        if x < 1:
            return (a + 2) * x**3 - (a + 3) * x**2 + 1
        return a * (x**3 - 5 * x**2 + 8 * x - 4) if x < 2 else 0.0

    def resized(line: np.ndarray, target: int) -> np.ndarray:
        scale = len(line) / target
        out = []
        for i in range(target):
            share = [
                kernel((j + 0.5 - (i + 0.5) * scale) / max(scale, 1)) for j in range(len(line))
            ]
            out.append(np.dot(share, line) / sum(share))
        return np.clip(np.floor(np.array(out) + 0.5), 0, 255)

    image = np.random.default_rng(1).integers(0, 256, (13, 17, 2), dtype=np.uint8)
    for width, height in ((9, 6), (24, 20), (17, 5), (30, 13)):
        rows = np.apply_along_axis(resized, 1, image.astype(float), width)
        expected = np.apply_along_axis(resized, 0, rows, height)
        found = bicubic(image, width, height).astype(int)
        assert np.abs(found - expected).max() <= 1
        assert (found == expected).mean() > 0.9
    np.testing.assert_array_equal(bicubic(image, 17, 13), image)


def test_released_placement() -> None:
    image = np.zeros((900, 1600, 3), np.uint8)
    prepared, intrinsics = prepare_image(image, np.eye(3), ImageConfig(resize="released"))
    assert prepared.shape == (256, 704, 3)
    expected = [[0.48, 0, -32], [0, 0.48, -176], [0, 0, 1]]
    np.testing.assert_allclose(intrinsics, expected, atol=1e-12)
