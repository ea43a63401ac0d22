import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.boxes import Truth
from crkd_core.config import AugmentConfig, ImageConfig
from crkd_core.data.augment import augment, augment_images, drop_sensors, ground_matrix
from crkd_core.data.batch import grid_T_pixel
from crkd_core.data.crop import horizon_row
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.frame import Frame
from crkd_core.sensors import CAMERAS, RADAR_COLUMNS, RADARS

IMAGE = ImageConfig(height=128, width=352, zoom=1.0)
EGO_T_CAM = np.array([[0.0, 0, 1, 1.5], [-1, 0, 0, 0.1], [0, -1, 0, 1.6], [0, 0, 0, 1]])
K = np.array([[300.0, 0, 239.5], [0, 300.0, 134.5], [0, 0, 1]])
WILD = AugmentConfig(image_rotation=10, bev_rotation=180, bev_flip=0.5, image_zoom=(0.9, 1.4))


def a_frame(point=(20.0, 2.0, 1.0)) -> Frame:
    """All six cameras look forward; a white dot is painted where ``point`` is seen."""
    cam = geometry.apply(np.linalg.inv(EGO_T_CAM), np.array([point]))[0]
    u, v = (K @ cam)[:2] / cam[2]
    yy, xx = np.mgrid[0:270, 0:480]
    blob = np.exp(-((xx - u) ** 2 + (yy - v) ** 2) / (2 * 4.0**2))
    image = np.repeat((255 * blob)[..., None], 3, -1).astype(np.uint8)
    radar = np.zeros((2, len(RADAR_COLUMNS)), np.float32)
    radar[:, :2] = [[20, 2], [5, -7]]
    radar[:, 6:10] = [[1, 2, 3, 4], [-1, 0, 2, 5]]
    truth = Truth(
        center=np.array([point]),
        size=np.array([[4.0, 2.0, 1.5]]),
        yaw=np.array([0.3]),
        velocity=np.array([[3.0, 4.0]]),
        label=np.array([0]),
        attribute=np.array([0]),
        num_lidar_points=np.array([5]),
        num_radar_points=np.array([1]),
        classes=NUSCENES_CLASSES,
    )
    return Frame(
        stamp_ns=0,
        images=(image,) * 6,
        intrinsics=np.tile(K, (6, 1, 1)),
        ego_T_cam=np.tile(EGO_T_CAM, (6, 1, 1)),
        radar=radar,
        lidar=np.array([[20, 2, 1, 9, 0]], np.float32),
        truth=truth,
    )


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_the_painted_point_is_where_the_moved_geometry_says(seed):
    frame = augment(a_frame(), augment=WILD, image=IMAGE, rng=np.random.default_rng(seed))
    center = frame.truth.center[0]
    for k in range(6):
        image = frame.images[k]
        assert image.shape == (128, 352, 3)
        pixel = np.linalg.inv(grid_T_pixel(frame)[k].astype(float)) @ np.append(center, 1)
        u, v = pixel[:2] / pixel[2]
        if not (8 < u < 343 and 8 < v < 119):
            continue
        weight = image[..., 0].astype(float)
        weight[weight < 128] = 0
        assert weight.sum() > 0
        yy, xx = np.mgrid[0:128, 0:352]
        found = (xx * weight).sum() / weight.sum(), (yy * weight).sum() / weight.sum()
        assert np.hypot(found[0] - u, found[1] - v) < 0.5


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 10_000))
def test_radar_lidar_and_boxes_move_together(seed):
    before = a_frame()
    after = augment(before, augment=WILD, image=IMAGE, rng=np.random.default_rng(seed))
    box = after.truth
    # The first radar point and the LiDAR point sit at the box centre, before and after.
    np.testing.assert_allclose(after.radar[0, :2], box.center[0, :2], atol=1e-4)
    np.testing.assert_allclose(after.lidar[0, :3], box.center[0], atol=1e-4)
    # Its compensated velocity is the box's, so their angle and length agree after the move.
    np.testing.assert_allclose(after.radar[0, 8:10], box.velocity[0], atol=1e-4)
    scale = box.size[0, 0] / 4.0
    assert 0.9 <= scale <= 1.1
    np.testing.assert_allclose(np.linalg.norm(box.velocity), 5 * scale, rtol=1e-5)
    # The angle between heading and velocity keeps its size under turns and mirroring.
    angle = abs(geometry.wrap_angle(box.yaw[0] - np.arctan2(*box.velocity[0, ::-1])))
    assert angle == pytest.approx(abs(0.3 - np.arctan2(4, 3)), abs=1e-6)
    # Columns that are no vectors stay.
    np.testing.assert_array_equal(after.radar[:, 10:], before.radar[:, 10:])
    assert after.global_T_ego is None


def test_mirroring_x_negates_vx_only():
    """The released CRKD code negates rcs instead; see docs/method.md."""
    frame = a_frame().moved(np.diag([-1.0, 1, 1, 1]))
    np.testing.assert_allclose(frame.radar[:, 8], -a_frame().radar[:, 8])
    np.testing.assert_allclose(frame.radar[:, 9], a_frame().radar[:, 9])
    np.testing.assert_allclose(frame.radar[:, 5], a_frame().radar[:, 5])
    np.testing.assert_allclose(frame.truth.yaw, [np.pi - 0.3])


def test_same_seed_same_view():
    views = [
        augment(a_frame(), augment=WILD, image=IMAGE, rng=np.random.default_rng(3))
        for _ in range(2)
    ]
    np.testing.assert_array_equal(views[0].images[2], views[1].images[2])
    np.testing.assert_array_equal(views[0].ego_T_cam, views[1].ego_T_cam)


def test_sensor_dropout_masks_and_never_blinds():
    every = dataclasses.replace(AugmentConfig(), drop_camera=1.0, drop_radar=1.0)
    frame = drop_sensors(a_frame(), augment=every, rng=np.random.default_rng(0))
    assert frame.camera_present.all() and frame.radar_present.all()
    cameras = dataclasses.replace(AugmentConfig(), drop_all_cameras=1.0)
    frame = drop_sensors(a_frame(), augment=cameras, rng=np.random.default_rng(0))
    assert not frame.camera_present.any() and frame.radar_present.all()


def test_sensors_are_lost_as_often_as_the_configuration_says():
    frame, count = a_frame(), 1000

    def present(**chances):
        rng, config = np.random.default_rng(0), AugmentConfig(**chances)
        seen = [drop_sensors(frame, augment=config, rng=rng) for _ in range(count)]
        cameras = np.array([one.camera_present for one in seen])
        return cameras, np.array([one.radar_present for one in seen])

    cameras, radars = present(drop_camera=0.3, drop_radar=0.1)
    np.testing.assert_allclose(cameras.mean(0), 0.7, atol=0.05)
    np.testing.assert_allclose(radars.mean(0), 0.9, atol=0.03)
    cameras, radars = present(drop_all_cameras=0.2, drop_all_radars=0.5)
    assert (cameras.all(1) == cameras.any(1)).all() and (radars.all(1) == radars.any(1)).all()
    assert 1 - cameras[:, 0].mean() == pytest.approx(0.2, abs=0.05)
    assert 1 - radars[:, 0].mean() == pytest.approx(0.5, abs=0.05)
    assert (cameras[:, 0] | radars[:, 0]).all()


@pytest.mark.parametrize("mirrored", ["xy", "y"])
def test_the_ground_moves_as_far_as_the_configuration_says(mirrored):
    rng, count = np.random.default_rng(0), 1000
    config = AugmentConfig(
        bev_scale=(0.8, 1.3), bev_rotation=20, bev_flip=0.3, bev_mirror=mirrored
    )
    moved = np.array([ground_matrix(augment=config, rng=rng) for _ in range(count)])
    scale, flipped = moved[:, 2, 2], np.array([moved[:, i, i] < 0 for i in range(2)])
    # Where a point on the x axis goes, without the mirror.
    sign = 1 - 2 * flipped[0]
    angle = np.rad2deg(np.arctan2(sign * moved[:, 1, 0], sign * moved[:, 0, 0]))
    for values, low, high in ((scale, 0.8, 1.3), (angle, -20, 20)):
        assert low <= values.min() < low + 0.02 * (high - low)
        assert high >= values.max() > high - 0.02 * (high - low)
    expected = [0.3 * (axis in mirrored) for axis in "xy"]
    np.testing.assert_allclose(flipped.mean(1), expected, atol=0.05)
    assert flipped.all(0).mean() == pytest.approx(np.prod(expected), abs=0.03), "each by itself"


def test_images_move_as_far_as_the_configuration_says():
    frame, rng = a_frame(), np.random.default_rng(0)
    config = AugmentConfig(image_rotation=10, image_zoom=(1.1, 1.4), image_flip=0.3)

    def maps(config):
        """[180, 3, 3] recorded pixel to pixel of the network."""
        views = [augment_images(frame, augment=config, image=IMAGE, rng=rng) for _ in range(30)]
        return np.concatenate([one.intrinsics for one in views]) @ np.linalg.inv(K)

    seen = maps(config)
    # The image's height is turned and stretched and not mirrored.
    angle = np.rad2deg(np.arctan2(-seen[:, 0, 1], seen[:, 1, 1]))
    zoom = np.hypot(seen[:, 0, 1], seen[:, 1, 1]) * 480 / IMAGE.width
    for values, low, high in ((angle, -10, 10), (zoom, 1.1, 1.4)):
        assert low - 0.01 <= values.min() < low + 0.05 * (high - low)
        assert high + 0.01 >= values.max() > high - 0.05 * (high - low)
    assert (np.linalg.det(seen) < 0).mean() == pytest.approx(0.3, abs=0.1)
    # Crops lie anywhere between the left border of the image and the right one.
    straight = dataclasses.replace(config, image_rotation=0, image_flip=0)
    crops = maps(straight)
    left, right = ((crops @ [[u], [0], [1]])[:, 0, 0] + 0.5 for u in (-0.5, 479.5))
    for beyond in (-left, right - IMAGE.width):
        assert -1 < beyond.min() < 2 and beyond.max() > 80


def test_without_removes_the_points_of_a_radar():
    frame = a_frame()
    assert len(frame.without("RADAR_FRONT").radar) == 0
    assert len(frame.without("RADAR_BACK_LEFT").radar) == 2
    assert frame.without(*RADARS, *CAMERAS[1:]).camera_present.tolist() == [True] + [False] * 5
    with pytest.raises(ValueError, match="unknown sensors"):
        frame.without("RADAR_TOP")


def test_the_dot_detector_of_this_file_can_fail():
    image = cv2.GaussianBlur(a_frame().images[0], (0, 0), 1)
    assert image.max() > 200


def test_the_far_road_of_taller_images_is_trained_on_too():
    frame = a_frame()
    tall = [np.concatenate([one, np.zeros((120, 480, 3), np.uint8)]) for one in frame.images]
    tall = dataclasses.replace(frame, images=tuple(tall))
    only_zoom = AugmentConfig(image_rotation=0, bev_rotation=0, bev_flip=0, image_zoom=(0.9, 1.1))
    for seed in range(20):
        rows = []
        for one in (frame, tall):
            rng = np.random.default_rng(seed)
            seen = augment(one, augment=only_zoom, image=IMAGE, rng=rng)
            up = seen.ego_T_cam[0, 2, :3]
            rows.append(horizon_row(seen.intrinsics[0], up, IMAGE.width) / IMAGE.height)
        assert min(rows) > 0.05 and abs(rows[0] - rows[1]) < 0.03


def test_a_flat_image_that_shrinks_keeps_a_row():
    frame = a_frame()
    flat = dataclasses.replace(frame, images=tuple(one[130:136] for one in frame.images))
    least = AugmentConfig(image_zoom=(0.05, 0.05))
    seen = augment(flat, augment=least, image=IMAGE, rng=np.random.default_rng(0))
    assert seen.images[0].shape == (128, 352, 3) and np.isfinite(seen.intrinsics).all()


def test_views_of_one_frame_share_images_and_stay_what_they_are():
    frame = a_frame()
    small = ImageConfig(height=64, width=176, zoom=1.0)
    losing = AugmentConfig(drop_camera=0.4, image_rotation=10, image_zoom=(0.9, 1.4))
    whole = AugmentConfig(drop_camera=0.0, image_rotation=10, image_zoom=(0.9, 1.4))
    for seed in range(5):
        warped = {}
        for config, size in ((whole, IMAGE), (losing, IMAGE), (whole, small), (losing, IMAGE)):
            alone, shared = (
                augment(
                    frame, augment=config, image=size, rng=np.random.default_rng(seed), warped=w
                )
                for w in (None, warped)
            )
            for a, b in zip(alone.images, shared.images, strict=True):
                assert (a is None) == (b is None)
                assert a is None or np.array_equal(a, b)
            np.testing.assert_array_equal(alone.intrinsics, shared.intrinsics)
            np.testing.assert_array_equal(alone.ego_T_cam, shared.ego_T_cam)
        assert len(warped) == 2 * len(CAMERAS), "one image a camera and size"


def test_an_image_is_shared_only_by_views_that_were_drawn_alike():
    frame = a_frame()
    plain = AugmentConfig(image_rotation=0, image_zoom=(1.3, 1.3), image_flip=0)
    changes = ({"image_zoom": (1.2, 1.2)}, {"image_flip": 1.0}, {"image_rotation": 5.0})
    drawn = [(0, plain), (1, plain)]  # Another seed is another crop.
    drawn += [(0, dataclasses.replace(plain, **change)) for change in changes]
    warped = {}
    for seed, config in drawn:
        alone, shared = (
            augment_images(
                frame, augment=config, image=IMAGE, rng=np.random.default_rng(seed), warped=w
            )
            for w in (None, warped)
        )
        np.testing.assert_array_equal(np.stack(shared.images), np.stack(alone.images))
        np.testing.assert_array_equal(shared.intrinsics, alone.intrinsics)
    assert len(warped) == len(drawn) * len(CAMERAS)
