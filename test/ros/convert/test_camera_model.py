"""CameraInfo to what pixels mean: windows, binning, distortion, rectified images, broken ones."""

from __future__ import annotations

import dataclasses
import time
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import ros_rig
from camera_messages import HEIGHT, LENSES, STAMP, WIDTH, K, camera_info
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.config import ImageConfig
from crkd_core.data.cameras import prepare_image
from crkd_core.sensors import CAMERAS
from crkd_ros import frames
from crkd_ros.bags import message_types
from crkd_ros.convert import camera_model, ros_packages
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.camera_model import CameraModel, CamerasConfig, prepared_image
from crkd_ros.motion.calibration_file import CameraEntry
from crkd_ros.motion.poses import NoMotion
from crkd_ros.parameters.knobs import ParameterError
from crkd_ros.sync.history import Timed
from crkd_ros.sync.synchroniser import FrameSet

NET = ImageConfig(height=128, width=352, zoom=1.1)


def project(points, model: str, matrix, d):
    """OpenCV's own projection of [N, 3] points in camera axes."""
    if model == "equidistant":
        pixels, _ = cv2.fisheye.projectPoints(
            points[:, None], np.zeros(3), np.zeros(3), matrix, np.array(d)
        )
    else:
        pixels, _ = cv2.projectPoints(points, np.zeros(3), np.zeros(3), matrix, np.array(d))
    return pixels[:, 0]


def blob(pixel, size=(WIDTH, HEIGHT), sigma=5.0):
    """A picture of one round spot around a pixel, uint8 [H, W, 3]."""
    v, u = np.mgrid[: size[1], : size[0]]
    spot = np.exp(-((u - pixel[0]) ** 2 + (v - pixel[1]) ** 2) / (2 * sigma**2))
    return np.repeat(np.rint(255 * spot).astype(np.uint8)[..., None], 3, 2)


def middle(image):
    """Where the spot is."""
    weight = image[..., 1].astype(float)
    v, u = np.mgrid[: len(image), : image.shape[1]]
    return np.array([(weight * u).sum(), (weight * v).sum()]) / weight.sum()


# -- what a pixel means ---------------------------------------------------------------------------


def test_the_full_image_has_k(make):
    model = CameraModel.of_info(camera_info(make), rectified=False)
    np.testing.assert_array_equal(model.matrix, K)
    assert (model.size, model.distortion) == ((WIDTH, HEIGHT), "none")
    assert CameraModel.of_info(camera_info(make, width=0), rectified=False).size is None
    assert hash(model) == hash(CameraModel.of_info(camera_info(make), rectified=False))


WINDOWS = [
    ((0, 0, 0, 0), (0, 0)),
    ((0, 0, WIDTH, HEIGHT), (1, 1)),
    ((0, 0, 0, 0), (2, 3)),
    ((100, 40, 400, 300), (0, 0)),
    ((100, 40, 400, 301), (4, 2)),
]


@pytest.mark.parametrize("rectified", [False, True])
@pytest.mark.parametrize(("roi", "binning"), WINDOWS)
def test_windows_and_binning_change_the_matrix_and_the_size(roi, binning, rectified):
    p = np.c_[K * [[0.9], [0.95], [1]], np.zeros(3)]
    info = camera_info(roi=roi, binning=binning, p=p, rectify=True)
    model = CameraModel.of_info(info, rectified=rectified)
    x, y = max(1, binning[0]), max(1, binning[1])
    assert model.size == ((roi[2] or WIDTH) // x, (roi[3] or HEIGHT) // y)
    # A point's pixel on the sensor, and in the window, by hand.
    matrix = p[:, :3] if rectified else K
    u, v, _ = matrix @ [0.1, -0.2, 1]
    got = np.array(model.matrix) @ [0.1, -0.2, 1]
    np.testing.assert_allclose(got, [(u - roi[0]) / x, (v - roi[1]) / y, 1])


@pytest.mark.parametrize(("roi", "binning"), WINDOWS)
def test_matrices_are_those_of_image_geometry(roi, binning):
    image_geometry = pytest.importorskip("image_geometry")
    pytest.importorskip("rclpy")
    info = camera_info(ros_packages.make, roi=roi, binning=binning, p=np.c_[2 * K, np.zeros(3)])
    theirs = image_geometry.PinholeCameraModel()
    # The names before and since jazzy's successor.
    new = hasattr(theirs, "from_camera_info")
    (theirs.from_camera_info if new else theirs.fromCameraInfo)(info)
    matrix = theirs.intrinsic_matrix() if new else theirs.intrinsicMatrix()
    ours = CameraModel.of_info(info, rectified=False).matrix
    np.testing.assert_allclose(np.asarray(matrix).reshape(3, 3), ours)


@pytest.mark.parametrize(
    ("topic", "rectified"),
    [
        ("/cam_front/image_rect_compressed", True),
        ("/cam_front/image_rect/compressed", True),
        ("cam/image_rect_color", True),
        ("/rectified/front/image", True),
        ("/CAM_FRONT/IMAGE_RECT", True),
        ("/front/Rectified/image", True),
        ("/cam_front/image_raw/compressed", False),
        ("/direct/image", False),
        ("/cam_front/image_raw_rectangle", False),
    ],
)
def test_topics_say_whether_images_are_rectified(topic, rectified):
    assert CamerasConfig().is_rectified(topic) == rectified
    assert CamerasConfig(rectified="always").is_rectified(topic)
    assert not CamerasConfig(rectified="never").is_rectified(topic)


def test_a_remapped_topic_counts_by_the_name_it_is_remapped_to():
    rclpy = pytest.importorskip("rclpy")
    context = rclpy.Context()
    rclpy.init(context=context)
    remap = ["--ros-args", "-r", "cam_front/image_rect_compressed:=/front/image_raw/compressed"]
    node = rclpy.create_node("detector_node", context=context, cli_args=remap)
    try:
        for camera, rectified in (("cam_front", False), ("cam_back", True)):
            topic = node.resolve_topic_name(f"{camera}/image_rect_compressed")
            assert CamerasConfig().is_rectified(topic) == rectified
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)


def test_choices_are_checked():
    with pytest.raises(ParameterError, match=r"cameras\.rectified: expected one of auto, always"):
        CamerasConfig(rectified="yes")


# -- distortion -----------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [(), (0.0,) * 5, (0.0,) * 8])
@pytest.mark.parametrize("model", ["plumb_bob", "", "rational_polynomial", "none", "pinhole"])
def test_without_distortion_the_pixels_are_those_of_the_core(d, model):
    image = cv2.resize(ros_rig.pixels(1), (WIDTH, HEIGHT))
    camera = CameraModel.of_info(
        camera_info(d=d, model=model, p=np.c_[2 * K, np.zeros(3)]), rectified=False
    )
    got, matrix = camera.prepare(image, NET)
    want, want_matrix = prepare_image(image, K, NET)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(matrix, want_matrix)


@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_a_point_in_space_lands_where_the_new_matrix_says(data):
    """A spot at OpenCV's distorted projection of a point comes out at the pinhole projection."""
    name = data.draw(st.sampled_from(sorted(LENSES)))
    d = np.array(LENSES[name]) * data.draw(st.floats(0.2, 1.1))
    p = data.draw(st.sampled_from([None, np.c_[K * [[0.8], [0.85], [1]], np.zeros(3)]]))
    roi, binning = data.draw(
        st.sampled_from(
            [((0, 0, 0, 0), (0, 0)), ((0, 0, 0, 0), (2, 2)), ((40, 30, 720, 400), (1, 1))]
        )
    )
    net = data.draw(st.sampled_from([NET, ImageConfig(height=200, width=352, zoom=0.6)]))
    info = camera_info(d=d, model=name, p=p, roi=roi, binning=binning)
    camera = CameraModel.of_info(info, rectified=False)
    x = data.draw(st.floats(-0.35, 0.35))
    y = data.draw(st.floats(-0.05, 0.25))
    point = np.array([[x, y, 1.0]]) * 7
    raw = project(point, name, K, d)[0]
    size = camera.size
    pixel = (raw - roi[:2]) / np.maximum(binning, 1)
    got, matrix = camera.prepare(blob(pixel, size, sigma=5 / max(1, binning[0])), net)
    u, v, w = matrix @ point[0]
    want = np.array([u, v]) / w
    if np.all((want > 16) & (want < (net.width - 16, net.height - 16))):
        assert np.abs(middle(got) - want).max() < 0.4


@pytest.mark.parametrize("name", sorted(LENSES))
def test_pixels_are_those_of_undistorting_first(name):
    image = cv2.resize(ros_rig.pixels(4), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    d = np.array(LENSES[name])
    if name == "equidistant":
        straight = cv2.fisheye.undistortImage(image, K, d, Knew=K)
    else:
        straight = cv2.undistort(image, K, d)
    for config in (NET, ImageConfig(height=256, width=704), ImageConfig(height=64, width=160)):
        want, want_matrix = prepare_image(straight, K, config)
        info = camera_info(d=d, model=name)
        got, matrix = CameraModel.of_info(info, rectified=False).prepare(image, config)
        np.testing.assert_allclose(matrix, want_matrix)
        seen = (want > 8).all(-1) & (got > 8).all(-1)
        error = np.abs(got.astype(int) - want.astype(int))[seen]
        assert seen.mean() > 0.5
        assert error.mean() < 1
        assert np.percentile(error, 99) <= 4
        # Nothing of that is so if the distortion is left in.
        left_in = np.abs(prepare_image(image, K, config)[0].astype(int) - want)[seen]
        assert left_in.mean() > 3 * error.mean()


def test_released_weights_get_the_matrix_they_know():
    config = ImageConfig(height=128, width=352, zoom=1.1, resize="released")
    image = cv2.resize(ros_rig.pixels(4), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    info = camera_info(d=np.array(LENSES["plumb_bob"]) * 1e-6)
    got, matrix = CameraModel.of_info(info, rectified=False).prepare(image, config)
    want, want_matrix = prepare_image(image, K, config)
    np.testing.assert_allclose(matrix, want_matrix)
    assert np.abs(got.astype(int) - want).mean() < 1


def test_undistorting_costs_no_more_than_resizing():
    image = cv2.resize(ros_rig.pixels(0), (1600, 900))
    camera = CameraModel.of_info(
        camera_info(k=2 * K - np.diag([0, 0, 1]), d=LENSES["plumb_bob"], width=1600, height=900),
        rectified=False,
    )
    config = ImageConfig(height=256, width=704)

    def fastest(prepare):
        times = []
        for _ in range(8):
            start = time.perf_counter()
            prepare()
            times.append(time.perf_counter() - start)
        return min(times)

    plain = fastest(lambda: prepare_image(image, K, config))
    assert fastest(lambda: camera.prepare(image, config)) < 2 * plain


def test_maps_are_made_once_per_camera_and_size():
    camera_model._maps.cache_clear()
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for _ in range(3):
        info = camera_info(d=LENSES["plumb_bob"])
        CameraModel.of_info(info, rectified=False).prepare(image, NET)
    assert camera_model._maps.cache_info().misses == 1
    # The matrix handed out is the caller's own.
    camera = CameraModel.of_info(camera_info(d=LENSES["plumb_bob"]), rectified=False)
    camera.prepare(image, NET)[1][:] = 0
    assert camera.prepare(image, NET)[1][2, 2] == 1


@pytest.mark.parametrize("name", ["fisheye", "kannala_brandt4"])
def test_other_names_of_equidistant(name):
    info = camera_info(d=LENSES["equidistant"], model=name)
    assert CameraModel.of_info(info, rectified=False).distortion == "equidistant"


def test_a_calibration_file_describes_the_images_as_they_come():
    entry = CameraEntry(
        intrinsics=K,
        image_size=(WIDTH, HEIGHT),
        distortion_model="plumb_bob",
        distortion=LENSES["plumb_bob"],
    )
    of_entry = CameraModel.of_entry(entry, name="CAM_FRONT")
    of_info = CameraModel.of_info(camera_info(d=LENSES["plumb_bob"]), rectified=False)
    assert of_entry == of_info
    with pytest.raises(ConvertError, match="calibration of CAM_FRONT: distortion_model 'odd'"):
        CameraModel.of_entry(
            CameraEntry(intrinsics=K, distortion_model="odd", distortion=(1.0,)), name="CAM_FRONT"
        )


# -- rectified images -----------------------------------------------------------------------------


def test_rectified_images_have_p_and_are_not_straightened_again():
    p = np.c_[K * [[0.9], [0.95], [1]], np.zeros(3)]
    info = camera_info(d=LENSES["plumb_bob"], p=p)
    camera = CameraModel.of_info(info, rectified=True)
    np.testing.assert_allclose(camera.matrix, p[:, :3])
    image = cv2.resize(ros_rig.pixels(3), (WIDTH, HEIGHT))
    got, matrix = camera.prepare(image, NET)
    want, want_matrix = prepare_image(image, p[:, :3], NET)
    np.testing.assert_array_equal(got, want)
    np.testing.assert_array_equal(matrix, want_matrix)


def test_rectified_images_without_p_have_k_where_nothing_was_distorted():
    camera = CameraModel.of_info(camera_info(), rectified=True)
    np.testing.assert_array_equal(camera.matrix, K)
    with pytest.raises(ConvertError, match="d is not zero and p is empty"):
        CameraModel.of_info(camera_info(d=LENSES["plumb_bob"]), rectified=True)


def test_raw_and_rectified_images_of_a_camera_agree():
    """What image_proc would make of the raw image, and ours, differ by interpolation only."""
    p = np.c_[K * [[0.9], [0.95], [1]], np.zeros(3)]
    image = cv2.resize(ros_rig.pixels(3), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    info = camera_info(d=LENSES["plumb_bob"], p=p)
    rectified = cv2.undistort(image, K, np.array(LENSES["plumb_bob"]), None, p[:, :3])
    a, matrix_a = CameraModel.of_info(info, rectified=False).prepare(image, NET)
    b, matrix_b = CameraModel.of_info(info, rectified=True).prepare(rectified, NET)
    np.testing.assert_allclose(matrix_a, matrix_b)
    assert np.abs(a.astype(int) - b)[8:-8, 8:-8].mean() < 1


def test_a_stereo_pair_is_turned_back_into_its_camera():
    turn = geometry.pose([0, 0, 0], geometry.yaw_to_quat_wxyz(0.03))[:3, :3]
    r = np.array([[0, 1, 0], [0, 0, 1], [1, 0, 0]]).T @ turn @ [[0, 1, 0], [0, 0, 1], [1, 0, 0]]
    p = np.c_[K, np.zeros(3)]
    camera = CameraModel.of_info(camera_info(p=p, r=r), rectified=True)
    image = ros_rig.compressed_image(message_types.make, "CAM_FRONT", STAMP)
    item = prepared_image(image, dataclasses.replace(camera, size=None), NET, camera="CAM_FRONT")
    frame_set = FrameSet(
        stamp_ns=STAMP, trigger="CAM_FRONT", images={"CAM_FRONT": Timed(STAMP, item)}, sweeps={}
    )
    frame = frames.frame_from_set(
        frame_set, extrinsics=ros_rig.calibration(), motion=NoMotion(), image=NET
    )
    # CameraInfo: a point in camera axes is at r times it in the axes of the rectified image.
    point = np.array([0.5, -0.3, 10.0])
    in_ego = geometry.apply(ros_rig.extrinsics()["CAM_FRONT"], point)
    ego_T_cam = frame.ego_T_cam[CAMERAS.index("CAM_FRONT")]
    np.testing.assert_allclose(geometry.apply(geometry.invert(ego_T_cam), in_ego), r @ point)
    # One of four digits, as in files by hand, counts.
    rounded = CameraModel.of_info(camera_info(p=p, r=np.round(r, 4)), rectified=True)
    np.testing.assert_allclose(np.array(rounded.rotation), r.T, atol=1e-4)
    square = np.array(rounded.rotation) @ np.transpose(rounded.rotation)
    np.testing.assert_allclose(square, np.eye(3), atol=1e-12)
    # Raw images are not turned, and what is no rotation is not one.
    for info, rectified in [
        (camera_info(p=p, r=r), False),
        (camera_info(p=p, r=[1, 0, 0, 1, 0, 0, 1, 0, 0]), True),
        (camera_info(p=p, r=np.zeros(9)), True),
        (camera_info(p=p, r=np.full(9, np.nan)), True),
        (camera_info(p=p, r=-np.eye(3)), True),
    ]:
        model = CameraModel.of_info(info, rectified=rectified)
        np.testing.assert_array_equal(model.rotation, np.eye(3))
    p[0, 3] = -40.0
    with pytest.raises(ConvertError, match=r"p\[3\] = -40.0 .*second camera of a stereo pair"):
        CameraModel.of_info(camera_info(p=p), rectified=True)
    assert CameraModel.of_info(camera_info(p=p), rectified=False).size == (WIDTH, HEIGHT)


# -- messages and what is broken ------------------------------------------------------------------


def test_images_are_prepared_by_the_cores_own_function(make):
    message = ros_rig.compressed_image(make, "CAM_FRONT", STAMP)
    camera = CameraModel.of_info(ros_rig.camera_info(make, "CAM_FRONT", STAMP), rectified=True)
    got = prepared_image(message, camera, NET, camera="CAM_FRONT")
    assert got.frame_id == "cam_front"
    assert got.pixels.shape == (NET.height, NET.width, 3)
    wrong = CameraModel.of_info(camera_info(make), rectified=True)
    with pytest.raises(ConvertError, match="CAM_FRONT: CameraInfo is for 800 x 450 pixels, the"):
        prepared_image(message, wrong, NET, camera="CAM_FRONT")
    message.header.frame_id = ""
    assert prepared_image(message, camera, NET, camera="CAM_FRONT").frame_id == "cam_front"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"k": np.zeros(9)}, r"k = .*not a calibration .k\[0\] = 0 means uncalibrated"),
        ({"k": np.full(9, np.nan)}, "k = .*not a calibration"),
        ({"k": K * 1e9}, "k = .*not a calibration"),
        ({"k": np.diag([1 / 800, 1 / 450, 1]) @ K}, "k = .*with fx and fy above 1"),
        ({"k": K.T}, "k = .*expected fx skew cx 0 fy cy 0 0 1"),
        ({"d": (np.nan, 0, 0, 0, 0)}, "d = .*not a calibration"),
        ({"d": (0.1, np.inf, 0, 0, 0)}, "d = .*not a calibration"),
        (
            {"d": (0.1,) * 5, "model": "double_sphere"},
            "distortion_model 'double_sphere' is not known; expected one",
        ),
        ({"d": (0.1,) * 5, "model": ""}, "distortion_model '' is not known"),
        ({"d": (0.1,) * 3}, "distortion_model plumb_bob has 4 or 5 coefficients, got 3 in d"),
        (
            {"d": (0.1,) * 5, "model": "equidistant"},
            "distortion_model equidistant has 4 coefficients, got 5",
        ),
        ({"d": (0.1,) * 5, "p": np.full(12, np.nan)}, "p = .*not a calibration"),
        ({"roi": (500, 0, 400, 450)}, r"roi 400 x 450 at \(500, 0\) is outside the 800 x 450"),
    ],
)
def test_calibrations_that_are_none_are_refused(make, changes, text):
    with pytest.raises(ConvertError, match=f"CameraInfo of 'cam_front': {text}"):
        CameraModel.of_info(camera_info(make, **changes), rectified=False)


NUMBERS = st.floats(width=64) | st.floats(-2, 2) | st.integers(-3, 3).map(float)
COUNTS = st.integers(0, 2000) | st.integers(0, 2**32 - 1)


@settings(deadline=None, max_examples=200)
@given(
    k=st.just(K) | st.lists(NUMBERS, min_size=9, max_size=9),
    d=st.lists(NUMBERS, max_size=14) | st.lists(st.floats(-0.5, 0.5), min_size=4, max_size=5),
    p=st.just(np.zeros(12)) | st.lists(NUMBERS, min_size=12, max_size=12),
    r=st.lists(NUMBERS, min_size=9, max_size=9),
    model=st.sampled_from([*LENSES, "fisheye", "", "other"]),
    window=st.tuples(*[COUNTS] * 8) | st.just((0,) * 6 + (320, 180)),
    rectified=st.booleans(),
)
def test_any_camera_info_is_an_error_or_prepares_an_image(k, d, p, r, model, window, rectified):
    info = SimpleNamespace(
        header=SimpleNamespace(frame_id="cam_front"),
        k=np.asarray(k).ravel(), d=d, p=p, r=r, distortion_model=model,
        roi=SimpleNamespace(
            x_offset=window[0], y_offset=window[1], width=window[2], height=window[3]
        ),
        binning_x=window[4], binning_y=window[5], width=window[6], height=window[7],
    )  # fmt: skip
    image = np.zeros((180, 320, 3), np.uint8)
    config = ImageConfig(height=32, width=64)
    try:
        pixels, matrix = CameraModel.of_info(info, rectified=rectified).prepare(image, config)
    except ConvertError as error:
        assert "CameraInfo" in str(error)
    else:
        assert pixels.shape == (32, 64, 3)
        assert np.isfinite(matrix).all()
        assert np.linalg.det(matrix) > 0


@pytest.mark.parametrize("d", [(), LENSES["plumb_bob"]])
@pytest.mark.parametrize("shape", [(0, 0), (0, 5), (5, 0), (1, 40), (500_000, 1)])
def test_an_image_of_an_impossible_shape_is_an_error(d, shape):
    """A column of pixels would be resized to the network's width, and its height likewise."""
    camera = CameraModel.of_info(camera_info(d=d, width=0), rectified=False)
    with pytest.raises(ConvertError, match=f"got one of {shape[1]} x {shape[0]} pixels"):
        camera.prepare(np.zeros((*shape, 3), np.uint8), NET)


@pytest.mark.parametrize("d", [(), (0.0,) * 4])
@pytest.mark.parametrize("model", ["equidistant", "fisheye", "kannala_brandt"])
def test_an_ideal_fisheye_is_no_pinhole(d, model):
    """r = f theta: without coefficients too, only polynomials leave the pinhole."""
    camera = CameraModel.of_info(camera_info(d=d, model=model), rectified=False)
    assert (camera.distortion, camera.coefficients) == ("equidistant", (0.0,) * 4)
    angle = np.deg2rad(24)
    raw = K[:2, 2] + [K[0, 0] * angle, 0]
    got, matrix = camera.prepare(blob(raw, (WIDTH, HEIGHT), sigma=5), NET)
    u, v, w = matrix @ [np.tan(angle), 0, 1]
    assert np.abs(middle(got) - [u / w, v / w]).max() < 0.5
    entry = CameraEntry(intrinsics=K, distortion_model=model, distortion=tuple(d))
    assert CameraModel.of_entry(entry, name="cam").distortion == "equidistant"
    # Once it is straightened, P holds, whatever the lens was.
    info = camera_info(d=d, model="double_sphere", p=np.c_[K, np.zeros(3)])
    assert CameraModel.of_info(info, rectified=True).distortion == "none"


@pytest.mark.parametrize("model", ["double_sphere", "omnidirectional", "my_lens", "fov"])
def test_a_lens_that_is_not_known_is_refused_also_without_coefficients(model):
    with pytest.raises(ConvertError, match=f"distortion_model '{model}' is not known"):
        CameraModel.of_info(camera_info(d=(), model=model), rectified=False)


def test_a_skew_is_a_calibration_and_counts():
    skewed = K.copy()
    skewed[0, 1] = 3.5
    camera = CameraModel.of_info(camera_info(k=skewed), rectified=False)
    np.testing.assert_array_equal(camera.matrix, skewed)
    with pytest.raises(ConvertError, match=r"a skew of 3\.5 and a distortion together"):
        CameraModel.of_info(camera_info(k=skewed, d=LENSES["plumb_bob"]), rectified=False)
    with pytest.raises(ConvertError, match="is not a calibration"):
        CameraModel.of_info(camera_info(k=skewed.T), rectified=False)


def test_rectified_images_need_p_alone():
    p = np.c_[K, np.zeros(3)]
    camera = CameraModel.of_info(camera_info(k=np.zeros((3, 3)), p=p), rectified=True)
    np.testing.assert_array_equal(camera.matrix, K)
    with pytest.raises(ConvertError, match="is not a calibration"):
        CameraModel.of_info(camera_info(k=np.zeros((3, 3)), p=p), rectified=False)


@pytest.mark.parametrize("d", [(), LENSES["plumb_bob"]])
def test_rows_follow_the_horizon_with_distortion_or_without(d):
    image = np.zeros((1200, 1600, 3), np.uint8)
    k = np.array([[1266.0, 0, 800], [0, 1266.0, 491], [0, 0, 1]])
    model = CameraModel(
        matrix=tuple(map(tuple, k)),
        straight=tuple(map(tuple, k)),
        distortion="plumb_bob" if d else "none",
        coefficients=tuple(d),
    )
    above = np.array([0.0, -1.0, 0.0])
    _, matrix = model.prepare(image, ImageConfig(), up=above)
    _, want = prepare_image(image, k, ImageConfig(), up=above)
    np.testing.assert_allclose(matrix, want, atol=1e-9)
    assert abs(matrix[1, 2] - 0.22 * 256) < 2
    assert model.prepare(image, ImageConfig())[1][1, 2] < -80


def test_the_horizon_of_a_stereo_camera_is_that_of_its_turned_images():
    turn = cv2.Rodrigues(np.array([np.deg2rad(10.0), 0, 0]))[0]
    k = ((1266.0, 0, 800), (0, 1266.0, 491), (0, 0, 1))
    model = CameraModel(matrix=k, straight=k, rotation=tuple(map(tuple, turn)))
    image = np.zeros((900, 1600, 3), np.uint8)
    above = turn @ np.array([0.0, -1.0, 0.0])  # The images are level, the camera is not.
    _, matrix = model.prepare(image, ImageConfig(), up=above)
    np.testing.assert_allclose(matrix, prepare_image(image, np.array(k), ImageConfig())[1])
