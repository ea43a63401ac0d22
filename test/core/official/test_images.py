"""Images as released weights saw them: Pillow's bicubic, and a zoom that maps u to s u."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from crkd_core.config import ImageConfig
from crkd_core.data.cameras import prepare_image
from crkd_core.data.resample import bicubic, weights


@pytest.mark.parametrize("size", [(48, 27), (96, 54), (110, 61), (31, 40), (96, 20)])
def test_bicubic_is_pillows(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (54, 96, 3), dtype=np.uint8)
    expected = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    found = bicubic(image, *size)
    assert found.shape == expected.shape and found.dtype == np.uint8
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.99


def test_rows_of_weights_sum_to_one() -> None:
    np.testing.assert_allclose(weights(100, 37).sum(1), 1, rtol=1e-6)
    np.testing.assert_allclose(weights(37, 100).sum(1), 1, rtol=1e-6)


def test_released_placement() -> None:
    image = np.zeros((900, 1600, 3), np.uint8)
    prepared, intrinsics = prepare_image(image, np.eye(3), ImageConfig(resize="released"))
    assert prepared.shape == (256, 704, 3)
    expected = [[0.48, 0, -32], [0, 0.48, -176], [0, 0, 1]]
    np.testing.assert_allclose(intrinsics, expected, atol=1e-12)
