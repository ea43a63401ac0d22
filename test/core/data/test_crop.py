"""Which rows of an image the network sees: of nuScenes the bottom ones, of others the road's."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.config import ImageConfig
from crkd_core.data.cameras import prepare_image
from crkd_core.data.crop import HORIZON, LEAST, Placement, horizon_row
from crkd_core.sensors import CAMERAS
from crkd_core.world.calibration import recorded_rig

#: CAM_FRONT of nuScenes, rounded, with the camera 1.5 m above the road.
K = np.array([[1266.0, 0, 816], [0, 1266.0, 491], [0, 0, 1]])
SIZE = (1600, 900)
NET = ImageConfig()
OPTICAL = np.array([[0.0, 0, 1], [-1, 0, 0], [0, -1, 0]])


def up(pitch: float = 0.0, roll: float = 0.0) -> np.ndarray:
    """Upward, in the axes of a camera that looks ``pitch`` degrees down and is rolled."""
    turns = []
    for degrees, axis in ((pitch, (0, 1, 0)), (roll, (1, 0, 0))):
        half = np.deg2rad(degrees) / 2
        turns.append(
            geometry.quat_wxyz_to_matrix([np.cos(half), *(np.sin(half) * np.array(axis))])
        )
    return (turns[0] @ turns[1] @ OPTICAL)[2]


def in_crop(k: np.ndarray, size: tuple[int, int], up_in_camera: np.ndarray) -> float:
    """Where the horizon is in the prepared image, as a share of its height."""
    image = np.zeros((size[1], size[0], 3), np.uint8)
    _, prepared = prepare_image(image, k, NET, up=up_in_camera)
    row = horizon_row(prepared, up_in_camera, NET.width)
    assert row is not None
    return row / NET.height


@pytest.mark.parametrize("key", range(0, 400, 4))
def test_rows_of_nuscenes_cars_are_the_bottom_rows(key) -> None:
    rig = recorded_rig(key, 1600)
    for camera in CAMERAS:
        mount = rig[camera]
        row = horizon_row(mount.intrinsics, mount.ego_T_sensor[2, :3], 1600)
        assert Placement.of(*SIZE, NET, horizon=row) == Placement.of(*SIZE, NET)


@settings(deadline=None, max_examples=200)
@given(st.floats(-60, 60), st.floats(-40, 40), st.floats(200, 2000), st.floats(0.3, 0.7))
def test_the_horizon_is_where_far_points_of_the_ground_are(pitch, roll, focal, middle) -> None:
    k = np.array([[focal, 3.0, 800], [0, focal * 1.1, 900 * middle], [0, 0, 1]])
    above = up(pitch, roll)
    row = horizon_row(k, above, 1600)
    assert row is not None
    ray = np.linalg.solve(k, [(1600 - 1) / 2, row, 1.0])
    assert abs(above @ ray) < 1e-9 * np.linalg.norm(ray) + 1e-9


#: What was done to the images -> (matrix, size, pitch).
OTHERS = {
    "padded below to 4:3": (K, (1600, 1200), 0.0),
    "padded below to a square": (K, (1600, 1600), 0.0),
    "sides cut off to 4:3": (
        K - np.array([[0, 0, 200.0], [0, 0, 0], [0, 0, 0]]),
        (1200, 900),
        0.0,
    ),
    "a 4:3 sensor": (np.array([[1000.0, 0, 800], [0, 1000, 600], [0, 0, 1]]), (1600, 1200), 0.0),
    "5 degrees down": (K, SIZE, 5.0),
    "12 degrees down": (K, SIZE, 12.0),
    "4:3 and 10 degrees down": (K, (1600, 1200), 10.0),
}


@pytest.mark.parametrize("what", OTHERS)
def test_the_far_road_stays_in_the_picture(what) -> None:
    k, size, pitch = OTHERS[what]
    share = in_crop(k, size, up(pitch))
    assert min(share, HORIZON) >= LEAST and share < 0.3, share
    # Of these the bottom rows would have cut it off, or nearly.
    image = np.zeros((size[1], size[0], 3), np.uint8)
    _, bottom = prepare_image(image, k, NET)
    row = horizon_row(bottom, up(pitch), NET.width)
    assert row is not None and row < LEAST * NET.height


def test_padding_below_changes_a_picture_by_a_few_rows_at_most() -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 255, (900, 1600, 3), dtype=np.uint8)
    want, _ = prepare_image(image, K, NET, up=up())
    for rows in (300, 700):
        padded = np.concatenate([image, np.zeros((rows, 1600, 3), np.uint8)])
        got, matrix = prepare_image(padded, K, NET, up=up())
        shift = round(matrix[1, 2] - (0.48 * (K[1, 2] + 0.5) - 0.5 - 176))
        assert abs(shift) <= 6
        inside = slice(max(shift, 0), NET.height + min(shift, 0))
        there = slice(max(-shift, 0), NET.height - max(shift, 0))
        assert np.abs(got[inside].astype(int) - want[there]).max() <= 1


def test_padding_above_and_looking_up_keep_the_bottom_rows() -> None:
    for k, size, pitch in (
        (K + np.array([[0, 0, 0], [0, 0, 300.0], [0, 0, 0]]), (1600, 1200), 0.0),
        (K, SIZE, -8.0),
        (K, (1600, 700), 0.0),
    ):
        row = horizon_row(k, up(pitch), size[0])
        assert Placement.of(*size, NET, horizon=row) == Placement.of(*size, NET)


def test_a_camera_that_looks_far_down_shows_its_upmost_rows() -> None:
    for pitch in (35.0, 60.0, 89.0):
        row = horizon_row(K, up(pitch), 1600)
        assert Placement.of(1600, 900, NET, horizon=row).top == 0


def test_without_sky_above_road_the_bottom_rows_are_kept() -> None:
    upside_down = np.array([0.0, 1.0, 0.0])
    on_its_side = np.array([1.0, 0.0, 0.1])
    assert horizon_row(K, upside_down, 1600) is None
    assert horizon_row(K, on_its_side, 1600) is None
    assert horizon_row(np.zeros((3, 3)), up(), 1600) is None
    image = np.zeros((1200, 1600, 3), np.uint8)
    for direction in (upside_down, on_its_side):
        np.testing.assert_array_equal(
            prepare_image(image, K, NET, up=direction)[1], prepare_image(image, K, NET)[1]
        )


def test_an_image_lower_than_the_crop_is_padded_above_as_ever() -> None:
    place = Placement.of(1600, 400, NET, horizon=-500.0)
    assert place.top == 192 - 256
