"""Images averaged by products of matrices, beside the processor's."""

import dataclasses

import cv2
import numpy as np
import pytest
import torch
from model_tiny import frame

from crkd_core.config import ImageConfig
from crkd_core.data.cameras import prepare
from crkd_core.frame import FrameError
from crkd_core.infer.engines.gpu_images import GpuImages, shares

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


def recorded(*sizes, seed=0):
    """A Frame with images of these sizes (width, height), coarse shapes and noise."""
    rng = np.random.default_rng(seed)
    images = []
    for width, height in sizes:
        coarse = rng.integers(0, 255, (height // 20, width // 20, 3), np.uint8)
        image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
        noise = rng.normal(0, 5, image.shape)
        images.append(np.clip(image + noise, 0, 255).astype(np.uint8))
    given = frame(0)
    intrinsics = np.array(given.intrinsics)
    for index, (width, height) in enumerate(sizes):
        intrinsics[index] = [[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]]
    return dataclasses.replace(given, images=tuple(images), intrinsics=intrinsics, prepared=None)


@pytest.mark.parametrize(
    "sizes",
    [
        [(1600, 900)] * 6,
        [(704, 256)] * 6,  # An average over whole numbers of pixels.
        [(1600, 900), (640, 480), (1280, 360), (1936, 1216), (500, 900), (352, 640)],
    ],
    ids=["nuScenes", "whole", "mixed"],
)
@pytest.mark.parametrize("zoom", [1.0, 1.09, 0.8])
def test_images_are_those_of_the_processor(sizes, zoom):
    config = ImageConfig(height=128, width=352, zoom=zoom)
    given, whole = recorded(*sizes), sizes[0] == (704, 256)
    found, expected = GpuImages(DEVICE)(given, config), prepare(given, config)
    assert found.prepared == config
    np.testing.assert_array_equal(found.intrinsics, expected.intrinsics)
    for mine, other in zip(found.images, expected.images, strict=True):
        off = np.abs(mine.astype(int) - other.astype(int))
        # Averages of a few whole pixels lie halfway between two levels often, others hardly ever.
        assert off.max() <= 1 and np.mean(off > 0) < (0.2 if whole else 2e-3)


def test_what_is_no_average_goes_to_the_processor():
    given = recorded(*[(160, 90)] * 6)
    for config in (
        ImageConfig(height=128, width=352),
        ImageConfig(height=64, width=96, resize="released"),
    ):
        found, expected = GpuImages(DEVICE)(given, config), prepare(given, config)
        for mine, other in zip(found.images, expected.images, strict=True):
            np.testing.assert_array_equal(mine, other)


def test_missing_cameras_stay_away_and_prepared_frames_as_they_are():
    config = ImageConfig(height=128, width=352)
    lost = recorded(*[(1600, 900)] * 6).keeping(["CAM_BACK", "RADAR_FRONT"])
    found = GpuImages(DEVICE)(lost, config)
    assert [image is None for image in found.images].count(False) == 1
    assert GpuImages(DEVICE)(found, config) is found
    with pytest.raises(FrameError, match="prepared for"):
        GpuImages(DEVICE)(found, ImageConfig(height=64, width=96))


@pytest.mark.parametrize(("before", "after"), [(900, 432), (100, 10), (7, 5), (8, 8)])
def test_shares_of_every_average_sum_to_one(before, after):
    found = shares(before, after)
    assert found.shape == (after + 1, before)
    torch.testing.assert_close(found[:-1].sum(1), torch.ones(after))
    assert not found[-1].any()
    # Every pixel is used, and as much as any other.
    torch.testing.assert_close(found.sum(0), torch.full((before,), after / before))
