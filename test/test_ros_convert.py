"""Messages to arrays, of rclpy and of rosbags; one set of messages to a Frame."""

from __future__ import annotations

import numpy as np
import pytest
import ros_rig
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core import geometry
from crkd_core.config import ImageConfig
from crkd_core.data.cameras import decode_jpeg, prepare_image
from crkd_core.data.radar import RADAR_FIELDS, to_records
from crkd_core.frame import CAMERAS, RADARS
from crkd_ros import bag_messages, convert, frames, messages
from crkd_ros.convert import ConvertError
from crkd_ros.motion import MotionError, NoMotion, PoseBuffer
from crkd_ros.sync import FrameSet
from crkd_ros.tracks import Timed

STAMP = 1_700_000_000_123_456_789
IMAGE = ImageConfig(height=64, width=160, zoom=1.0)


@pytest.fixture(params=["rclpy", "rosbags"])
def make(request):
    if request.param == "rosbags":
        return bag_messages.make
    pytest.importorskip("rclpy")
    return messages.make


@settings(deadline=None)
@given(st.integers(1, 2**31 * 10**9 - 1))
def test_stamps_keep_every_nanosecond(stamp):
    fields = convert.stamp_fields(stamp)
    assert 0 <= fields["nanosec"] < 10**9
    made = bag_messages.make("builtin_interfaces/msg/Time", **fields)
    assert convert.stamp_ns(made) == stamp


def test_a_compressed_image_gives_the_pixels_of_its_file(make):
    message = ros_rig.compressed_image(make, "CAM_FRONT", STAMP, seed=3)
    want = decode_jpeg(bytes(message.data), source="file")
    np.testing.assert_array_equal(convert.image_rgb(message), want)
    # Red and blue are where they belong: the JPEG is close to what was encoded.
    assert np.abs(want.astype(int) - ros_rig.pixels(3)).mean() < 6


def raw_image(make, encoding: str, image: np.ndarray, *, padding: int = 0):
    rows = np.ascontiguousarray(image).reshape(len(image), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return make(
        "sensor_msgs/msg/Image",
        header=ros_rig.header(make, STAMP, "cam_front"),
        height=len(image),
        width=image.shape[1],
        encoding=encoding,
        step=rows.shape[1],
        data=rows.ravel(),
    )


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("encoding", ["rgb8", "bgr8", "rgba8", "bgra8", "mono8"])
def test_raw_images_of_every_encoding_become_rgb(make, encoding, padding):
    rgb = ros_rig.pixels(1)
    image = {
        "rgb8": rgb,
        "bgr8": rgb[..., ::-1],
        "rgba8": np.dstack([rgb, np.full(rgb.shape[:2], 9, np.uint8)]),
        "bgra8": np.dstack([rgb[..., ::-1], np.full(rgb.shape[:2], 9, np.uint8)]),
        "mono8": rgb[..., 0],
    }[encoding]
    want = np.repeat(rgb[..., :1], 3, 2) if encoding == "mono8" else rgb
    got = convert.image_rgb(raw_image(make, encoding, image, padding=padding))
    np.testing.assert_array_equal(got, want)


def test_broken_images_are_errors_that_name_the_camera(make):
    good = np.asarray(ros_rig.compressed_image(make, "CAM_FRONT", STAMP).data)
    for data, text in [
        (good[: len(good) // 2], "truncated JPEG"),
        (good[:0], "expected a JPEG"),
        (np.zeros(500, np.uint8), "expected a JPEG"),
    ]:
        message = ros_rig.compressed_image(make, "CAM_FRONT", STAMP, data=data)
        with pytest.raises(ConvertError, match=rf"CAM_BACK.*{text}"):
            convert.image_rgb(message, source="CAM_BACK")
    raw = raw_image(make, "rgb8", ros_rig.pixels(0))
    raw.height += 1
    with pytest.raises(ConvertError, match=r"CAM_BACK: expected 181 rows of 320 rgb8 pixels"):
        convert.image_rgb(raw, source="CAM_BACK")
    raw = raw_image(make, "32FC1", ros_rig.pixels(0))
    with pytest.raises(ConvertError, match="'32FC1' is not one of rgb8"):
        convert.image_rgb(raw, source="CAM_BACK")


def test_intrinsics_are_k_and_uncalibrated_cameras_are_refused(make):
    info = ros_rig.camera_info(make, "CAM_FRONT", STAMP)
    np.testing.assert_array_equal(convert.intrinsics(info), ros_rig.INTRINSICS)
    assert convert.image_size(info) == (320, 180)
    info.width = 0
    assert convert.image_size(info) is None
    for k in (np.zeros(9), np.full(9, np.nan)):
        with pytest.raises(ConvertError, match=r"'cam_front'.*not a calibration"):
            convert.intrinsics(ros_rig.camera_info(make, "CAM_FRONT", STAMP, k=k))


def test_images_are_prepared_by_the_cores_own_function(make):
    message = ros_rig.compressed_image(make, "CAM_FRONT", STAMP)
    got = convert.prepared_image(
        message, ros_rig.INTRINSICS, IMAGE, camera="CAM_FRONT", size=(320, 180)
    )
    pixels, matrix = prepare_image(convert.image_rgb(message), ros_rig.INTRINSICS, IMAGE)
    np.testing.assert_array_equal(got.pixels, pixels)
    np.testing.assert_array_equal(got.intrinsics, matrix)
    assert got.frame_id == "cam_front"
    with pytest.raises(ConvertError, match="CAM_FRONT: CameraInfo is for 1600 x 900"):
        convert.prepared_image(
            message, ros_rig.INTRINSICS, IMAGE, camera="CAM_FRONT", size=(1600, 900)
        )


def test_native_radar_clouds_give_the_points_of_the_file(make):
    message = ros_rig.radar_cloud(make, "RADAR_FRONT", STAMP, seed=4)
    assert message.point_step == 43
    sweep = convert.sweep(message, radar="RADAR_FRONT")
    assert sweep.points.dtype == np.float32
    np.testing.assert_array_equal(sweep.points, ros_rig.radar_points(4))
    assert sweep.frame_id == "radar_front"
    message.header.frame_id = ""
    assert convert.sweep(message, radar="RADAR_FRONT").frame_id == "radar_front"


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_radar_clouds_of_any_order_type_step_and_endian(data):
    points = ros_rig.radar_points(7, count=data.draw(st.integers(0, 5)))
    required = list(convert.REQUIRED_RADAR_FIELDS)
    optional = [name for name in RADAR_FIELDS if name not in required]
    names = required + data.draw(st.lists(st.sampled_from(optional), unique=True))
    names = data.draw(st.permutations([*names, "extra"]))
    order = data.draw(st.sampled_from("<>"))
    layout, offset = {"names": [], "formats": [], "offsets": []}, 0
    for name in names:
        integers = "i4" if name in convert.RADAR_DEFAULTS else "f8"
        kind = order + data.draw(st.sampled_from(["f4", "f8", integers]))
        offset += data.draw(st.integers(0, 3))
        layout["names"].append(name)
        layout["formats"].append(kind)
        layout["offsets"].append(offset)
        offset += int(kind[-1])
    layout["itemsize"] = offset + data.draw(st.integers(0, 4))
    records = np.zeros(len(points), np.dtype(layout))
    for column, name in enumerate(RADAR_FIELDS):
        if name in names:
            records[name] = points[:, column]
    message = ros_rig.cloud(bag_messages.make, "radar_front", STAMP, records)
    got = convert.radar_points(message)
    for column, name in enumerate(RADAR_FIELDS):
        want = points[:, column]
        if name in ("vx", "vy") and name not in names:
            want = points[:, column + 2]
        elif name not in names:
            want = np.full(len(points), convert.RADAR_DEFAULTS[name], np.float32)
        np.testing.assert_array_equal(got[:, column], want, err_msg=name)


def test_defaults_are_a_valid_return_of_unknown_motion(make):
    assert set(convert.RADAR_DEFAULTS) | {"vx", "vy"} | set(convert.REQUIRED_RADAR_FIELDS) == set(
        RADAR_FIELDS
    )
    points = np.zeros((1, 18))
    for name, value in convert.RADAR_DEFAULTS.items():
        points[0, RADAR_FIELDS.index(name)] = value
    # docs/nuscenes.md, "Radar files": unknown, unambiguous, valid, below 25 % false alarm.
    assert points[0, [3, 11, 14, 15]].tolist() == [4, 3, 0, 1]
    to_records(points)


def test_padded_rows_and_bad_rows(make):
    points = ros_rig.radar_points(2, count=6)
    points[1, 0], points[4, 9] = np.nan, np.inf
    message = ros_rig.cloud(make, "radar_front", STAMP, to_records(points))
    data = np.asarray(message.data).reshape(2, 3 * 43)
    padded = np.pad(data, ((0, 0), (0, 10))).ravel()
    fields = {
        name: getattr(message, name) for name in ("header", "fields", "point_step", "is_dense")
    }
    message = make(
        "sensor_msgs/msg/PointCloud2", height=2, width=3, row_step=139, data=padded, **fields
    )
    np.testing.assert_array_equal(convert.radar_points(message), points[[0, 2, 3, 5]])


def test_clouds_that_contradict_themselves_are_errors(make):
    good = ros_rig.radar_cloud(make, "RADAR_FRONT", STAMP)

    def broken(**changes):
        message = ros_rig.radar_cloud(make, "RADAR_FRONT", STAMP)
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    with pytest.raises(ConvertError, match="need 172043 bytes, got 1720"):
        convert.radar_points(broken(width=4001))
    with pytest.raises(ConvertError, match="does not fit a point of 40 bytes"):
        convert.radar_points(broken(point_step=40))
    with pytest.raises(ConvertError, match=r"RADAR_FRONT.*lacks rcs, vx_comp; found .*y_rms, z"):
        fields = [f for f in good.fields if f.name not in ("rcs", "vx_comp")]
        convert.radar_points(broken(fields=fields), source="RADAR_FRONT")
    with pytest.raises(ConvertError, match="found no fields"):
        convert.radar_points(broken(fields=[]))
    fields = list(good.fields)
    fields[2].datatype = 99
    with pytest.raises(ConvertError, match=r"'z' .datatype 99"):
        convert.radar_points(broken(fields=fields))
    assert convert.radar_points(broken(width=0)).shape == (0, 18)
    assert convert.radar_points(broken(width=0, height=0)).shape == (0, 18)


def test_poses_keep_quaternion_order(make):
    want = ros_rig.map_T_base(STAMP)
    got = convert.odometry_pose(ros_rig.odometry(make, STAMP))
    np.testing.assert_allclose(got, want, atol=1e-9)
    half = np.sqrt(0.5)
    transform = make(
        "geometry_msgs/msg/TransformStamped",
        transform=make(
            "geometry_msgs/msg/Transform",
            translation=make("geometry_msgs/msg/Vector3", x=1.0, y=2.0, z=3.0),
            rotation=make("geometry_msgs/msg/Quaternion", x=0.0, y=0.0, z=half, w=half),
        ),
    )
    matrix = convert.transform_matrix(transform)
    np.testing.assert_allclose(geometry.apply(matrix, [1, 0, 0]), [1, 3, 3], atol=1e-12)
    transform.transform.rotation.z = transform.transform.rotation.w = 0.0
    with pytest.raises(ConvertError, match="not a pose"):
        convert.transform_matrix(transform)


def item(camera, seed=0):
    message = ros_rig.compressed_image(bag_messages.make, camera, STAMP, seed=seed)
    return convert.prepared_image(message, ros_rig.INTRINSICS, IMAGE, camera=camera)


def test_a_frame_of_a_set_is_seen_from_its_reference_time():
    poses, rig = PoseBuffer(), ros_rig.extrinsics()
    old, older = STAMP - 40_000_000, STAMP - 90_000_000
    for stamp in (older, old, STAMP):
        poses.add(stamp, ros_rig.map_T_base(stamp))
    images = {"CAM_BACK_LEFT": Timed(STAMP, item("CAM_BACK_LEFT"))}
    images["CAM_FRONT"] = Timed(old, item("CAM_FRONT", 1))
    sweeps = {
        "RADAR_BACK_LEFT": (
            Timed(old, convert.Sweep(points=ros_rig.radar_points(1), frame_id="radar_back_left")),
            Timed(
                older, convert.Sweep(points=ros_rig.radar_points(2), frame_id="RADAR_BACK_LEFT")
            ),
        ),
        "RADAR_FRONT": (
            Timed(STAMP, convert.Sweep(points=np.zeros((0, 18), "f4"), frame_id="radar_front")),
        ),
    }
    frame_set = FrameSet(stamp_ns=STAMP, trigger="CAM_BACK_LEFT", images=images, sweeps=sweeps)
    frame = frames.frame_from_set(
        frame_set, extrinsics=ros_rig.calibration(), motion=poses, image=IMAGE, token="t"
    )
    assert (frame.stamp_ns, frame.token, frame.prepared) == (STAMP, "t", IMAGE)
    present = [CAMERAS[i] for i in np.flatnonzero(frame.camera_present)]
    assert present == ["CAM_FRONT", "CAM_BACK_LEFT"]
    radars = [RADARS[i] for i in np.flatnonzero(frame.radar_present)]
    assert radars == ["RADAR_FRONT", "RADAR_BACK_LEFT"]
    np.testing.assert_allclose(frame.global_T_ego, ros_rig.map_T_base(STAMP))

    # A point that the front camera sees lies, over the map, where the camera was at ITS time.
    point = np.array([1.0, -0.5, 12.0])
    over_map = geometry.apply(ros_rig.map_T_base(old) @ rig["CAM_FRONT"], point)
    in_ego = geometry.apply(frame.ego_T_cam[CAMERAS.index("CAM_FRONT")], point)
    np.testing.assert_allclose(geometry.apply(frame.global_T_ego, in_ego), over_map, atol=1e-6)

    assert len(frame.radar) == 80
    np.testing.assert_allclose(frame.radar[[0, 40], 18], [0.04, 0.09], rtol=1e-5)
    assert set(frame.radar[:, 19]) == {RADARS.index("RADAR_BACK_LEFT")}
    first = ros_rig.radar_points(2)[0]
    map_T_radar = ros_rig.map_T_base(older) @ rig["RADAR_BACK_LEFT"]
    velocity = geometry.rotate(map_T_radar, [*first[8:10], 0.0])
    moved = geometry.apply(map_T_radar, first[:3]) + velocity * 0.09
    got = geometry.apply(frame.global_T_ego, frame.radar[40, :3])
    np.testing.assert_allclose(got, moved, atol=1e-3)


def test_a_missing_transform_or_pose_is_an_error_not_the_identity():
    calibration = ros_rig.calibration()
    odd = convert.PreparedImage(
        pixels=item("CAM_FRONT").pixels, intrinsics=np.eye(3), frame_id="roof"
    )
    frame_set = FrameSet(
        stamp_ns=STAMP, trigger="CAM_FRONT", images={"CAM_FRONT": Timed(STAMP, odd)}, sweeps={}
    )
    with pytest.raises(MotionError, match="no static transform from base_link to 'roof'"):
        frames.frame_from_set(frame_set, extrinsics=calibration, motion=NoMotion(), image=IMAGE)
    known = FrameSet(
        stamp_ns=STAMP,
        trigger="CAM_FRONT",
        images={"CAM_FRONT": Timed(STAMP, item("CAM_FRONT"))},
        sweeps={},
    )
    with pytest.raises(MotionError, match="no ego pose"):
        frames.frame_from_set(known, extrinsics=calibration, motion=PoseBuffer(), image=IMAGE)
    frame = frames.frame_from_set(known, extrinsics=calibration, motion=NoMotion(), image=IMAGE)
    assert frame.global_T_ego is None
    np.testing.assert_array_equal(frame.ego_T_cam[0], ros_rig.extrinsics()["CAM_FRONT"])
