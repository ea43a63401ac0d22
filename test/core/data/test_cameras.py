import dataclasses

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tiny import ego_T_cam

from crkd_core.config import AugmentConfig, ImageConfig
from crkd_core.data.augment import augment_images
from crkd_core.data.cameras import (
    CameraError,
    decode_jpeg,
    placed,
    prepare,
    prepare_image,
    read_image,
)
from crkd_core.frame import Frame, FrameError
from crkd_core.infer.engines.gpu_images import GpuImages
from crkd_core.sensors import CAMERAS, RADAR_COLUMNS


def smooth_image(height=54, width=96):
    v, u = np.mgrid[:height, :width]
    return np.stack([u * 2, v * 3, (u + v)], -1).clip(0, 255).astype(np.uint8)


def jpeg(image):
    return cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])[1].tobytes()


def ramps(width, height):
    """Two [H, W, 3] images whose pixel values are three times their own column and row."""
    v, u = 3 * np.mgrid[:height, :width].astype(np.uint8)
    return np.repeat(u[..., None], 3, 2), np.repeat(v[..., None], 3, 2)


def test_decoding_gives_rgb():
    image = smooth_image()
    decoded = decode_jpeg(jpeg(image), source="x.jpg")
    assert decoded.dtype == np.uint8 and decoded.shape == image.shape
    assert np.abs(decoded.astype(int) - image).mean() < 3


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated_jpeg_is_an_error_naming_the_source(part):
    data = jpeg(smooth_image())
    with pytest.raises(CameraError, match=r"sweeps/a\.jpg: truncated JPEG"):
        decode_jpeg(data[: int(len(data) * part)], source="sweeps/a.jpg")


@pytest.mark.parametrize("data", [b"", b"\x89PNG\r\n\x1a\n" + bytes(100), b"hello"])
def test_other_bytes_are_an_error(data):
    with pytest.raises(CameraError, match=r"here: expected a JPEG .*got \d+ bytes"):
        decode_jpeg(data, source="here")


def test_damaged_jpeg_with_both_markers_is_an_error():
    with pytest.raises(CameraError, match=r"a\.jpg: this JPEG cannot be decoded"):
        decode_jpeg(b"\xff\xd8" + bytes(500) + b"\xff\xd9", source="a.jpg")


def test_padding_behind_the_end_marker_is_accepted():
    data = jpeg(smooth_image())
    assert np.array_equal(decode_jpeg(data + bytes(8), source="a"), decode_jpeg(data, source="a"))


def noisy_jpeg(height=120, width=160, seed=0):
    """A picture with detail everywhere, so that its body is long."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    return jpeg(image)


def test_pixels_are_those_of_opencv():
    for image in (smooth_image(), smooth_image(53, 97), smooth_image()[..., :1].repeat(3, 2)):
        data = jpeg(image)
        theirs = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        np.testing.assert_array_equal(decode_jpeg(data, source="a"), theirs[..., ::-1])
    grey = cv2.imencode(".jpg", smooth_image()[..., 0])[1].tobytes()
    assert np.ptp(decode_jpeg(grey, source="a"), -1).max() == 0


@pytest.mark.parametrize("damage", ["zeros", "noise", "cut", "end"])
@pytest.mark.parametrize("place", [0.3, 0.6, 0.85])
def test_a_damaged_body_is_not_filled_with_grey(damage, place):
    data = bytearray(noisy_jpeg())
    at = int(place * len(data))
    noise = np.random.default_rng(1).integers(0, 256, 512, np.uint8).tobytes()
    if damage == "cut":
        del data[at : at + 512]
    elif damage == "end":
        data[at:] = b"\xff\xd9"
    else:
        data[at : at + 512] = bytes(512) if damage == "zeros" else noise
    with pytest.raises(CameraError, match=r"a\.jpg: (damaged JPEG|this JPEG cannot be decoded)"):
        decode_jpeg(bytes(data), source="a.jpg")


def test_bytes_stuffed_in_front_of_the_end_do_no_harm():
    """Many cameras do it; the image is whole."""
    data = noisy_jpeg()
    whole = decode_jpeg(data, source="a")
    for count in (1, 3, 8):
        stuffed = data[:-2] + bytes(count) + data[-2:]
        np.testing.assert_array_equal(decode_jpeg(stuffed, source="a"), whole)
    with pytest.raises(CameraError, match="extraneous bytes"):
        decode_jpeg(data[:-2] + bytes(500) + data[-2:], source="a")


def with_size(data, width, height):
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + height.to_bytes(2, "big") + width.to_bytes(2, "big") + data[at + 4 :]


def test_a_header_that_asks_for_gigabytes_is_refused_before_they_are_taken():
    data = with_size(noisy_jpeg(), 40_000, 20_000)
    with pytest.raises(CameraError, match=r"a: its header says 40000 x 20000 pixels, more than"):
        decode_jpeg(data, source="a")


def test_an_image_of_another_size_is_refused(tmp_path):
    data = jpeg(smooth_image(54, 96))
    (tmp_path / "a.jpg").write_bytes(data)
    assert read_image(tmp_path / "a.jpg", size=(96, 54)).shape == (54, 96, 3)
    with pytest.raises(CameraError, match=r"a\.jpg: expected 192 x 108 pixels, .* got 96 x 54"):
        read_image(tmp_path / "a.jpg", size=(192, 108))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 3),
    place=st.floats(0, 1, exclude_max=True),
    cut=st.integers(0, 30),
    put=st.binary(max_size=30),
)
def test_any_damage_of_a_jpeg_is_refused_or_an_image(seed, place, cut, put):
    data = noisy_jpeg(48, 64, seed)
    at = int(place * len(data))
    try:
        image = decode_jpeg(data[:at] + put + data[at + cut :], source="a.jpg", size=(64, 48))
    except CameraError as error:
        assert str(error).startswith("a.jpg: ") and "\n" not in str(error)
    else:
        assert image.shape == (48, 64, 3)


def test_devices_are_no_images():
    with pytest.raises(CameraError, match=r"/dev/zero: cannot read image: is a device or a pipe"):
        read_image("/dev/zero")


def test_exif_rotation_is_ignored():
    data = jpeg(smooth_image())
    # Big-endian TIFF with one entry: orientation 6, "rotate by 90 degrees".
    tiff = (
        b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00"
        + bytes(4)
    )
    body = b"Exif\x00\x00" + tiff
    turned = data[:2] + b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body + data[2:]
    assert cv2.imdecode(np.frombuffer(turned, np.uint8), cv2.IMREAD_COLOR).shape[:2] == (96, 54)
    assert decode_jpeg(turned, source="a").shape[:2] == (54, 96)


def test_missing_image_file_is_named(tmp_path):
    with pytest.raises(CameraError, match=r"gone\.jpg: cannot read image: No such file"):
        read_image(tmp_path / "gone.jpg")


def test_test_time_placement_of_nuscenes():
    # docs/method.md 1.2: 1600x900 -> 768x432, rows 176..432, columns 32..736.
    image = np.zeros((900, 1600, 3), np.uint8)
    out, k = prepare_image(image, np.eye(3), ImageConfig())
    assert out.shape == (256, 704, 3)
    expected = [[0.48, 0, 0.24 - 0.5 - 32], [0, 0.48, 0.24 - 0.5 - 176], [0, 0, 1]]
    assert np.allclose(k, expected, atol=1e-12)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(24, 84),
    st.integers(24, 84),
    st.integers(10, 100),
    st.integers(10, 100),
    st.floats(0.8, 1.6),
)
def test_pixels_lie_where_the_intrinsics_say(width, height, out_width, out_height, zoom):
    """The colour of a prepared pixel is the recorded position that the adapted K maps there."""
    config = ImageConfig(width=out_width, height=out_height, zoom=zoom)
    k = np.array([[100.0, 0, width / 2], [0, 90.0, height / 3], [0, 0, 1]])
    for axis, ramp in enumerate(ramps(width, height)):
        out, adapted = prepare_image(ramp, k, config)
        assert out.shape == (out_height, out_width, 3)
        rows, columns = np.mgrid[:out_height, :out_width]
        pixels = np.stack([columns, rows, np.ones_like(rows)], -1).astype(float)
        rays = pixels @ np.linalg.inv(adapted).T
        recorded = rays @ k.T
        # One resized pixel away from the rim nothing is replicated or padded.
        margin = 1 + np.array([width, height]) / (zoom * out_width)
        inside = np.all(
            (recorded[..., :2] > margin) & (recorded[..., :2] < [width, height] - margin - 1), -1
        )
        error = out[..., 0][inside] / 3 - recorded[..., axis][inside]
        if error.size:
            # A sixth of a pixel is rounding; the rest is area averaging over broken pixels.
            assert np.abs(error).max() < 0.4
            assert np.abs(error.mean()) < 0.2


@settings(max_examples=200, deadline=None)
@given(
    width=st.integers(20, 200),
    height=st.integers(10, 160),
    out_width=st.integers(8, 64),
    out_height=st.integers(8, 64),
    zoom=st.floats(0.5, 1.5),
    pitch=st.floats(-0.4, 0.4),
    seed=st.integers(0, 99),
)
def test_rows_that_are_cropped_are_not_missed(
    width, height, out_width, out_height, zoom, pitch, seed
) -> None:
    """Only rows that are shown are resized; pixels are those of the whole image, resized."""
    config = ImageConfig(height=out_height, width=out_width, zoom=zoom)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    k = np.array([[width, 0, width / 2], [0, width, height / 2], [0, 0, 1.0]])
    up = np.array([0, -np.cos(pitch), np.sin(pitch)])
    place, _ = placed(image, k, config, up=up)
    whole = image
    if (place.height, place.width) != (height, width):
        method = cv2.INTER_AREA if place.width < width else cv2.INTER_LINEAR
        whole = cv2.resize(image, (place.width, place.height), interpolation=method)
    expected = np.zeros((out_height, out_width, 3), np.uint8)
    for row in range(out_height):
        for column in range(out_width):
            y, x = row + place.top, column + place.left
            if 0 <= y < place.height and 0 <= x < place.width:
                expected[row, column] = whole[y, x]
    found, _ = prepare_image(image, k, config, up=up)
    assert np.array_equal(found, expected)


def test_image_too_small_for_the_crop_is_padded_black_above():
    image = np.full((20, 100, 3), 200, np.uint8)
    config = ImageConfig(width=50, height=40, zoom=1.0)
    out, k = prepare_image(image, np.eye(3), config)
    assert (out[:30] == 0).all() and (out[30:] == 200).all()
    assert k[1, 2] == 0.5 * 0.5 - 0.5 + 30


@pytest.mark.parametrize(
    "image",
    [np.zeros(4, np.uint8), np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)],
)
def test_other_arrays_are_no_images(image):
    with pytest.raises(CameraError, match=r"expected a uint8 \[H, W, 3\] image, got"):
        prepare_image(image, np.eye(3), ImageConfig())


def frame(images):
    return Frame(
        stamp_ns=1,
        images=images,
        intrinsics=np.tile(np.array([[50.0, 0, 48], [0, 50, 27], [0, 0, 1]]), (6, 1, 1)),
        ego_T_cam=np.tile(np.eye(4), (6, 1, 1)),
        radar=np.zeros((0, len(RADAR_COLUMNS)), np.float32),
    )


def test_a_frame_is_prepared_once():
    config = ImageConfig(width=48, height=20, zoom=1.0)
    before = frame((smooth_image(), None, *[smooth_image()] * 4))
    after = prepare(before, config)
    assert after.prepared == config and after.images[1] is None
    assert after.images[0].shape == (20, 48, 3)
    expected, k = prepare_image(before.images[0], before.intrinsics[0], config)
    assert np.array_equal(after.images[0], expected) and np.array_equal(after.intrinsics[0], k)
    assert np.array_equal(after.intrinsics[1], before.intrinsics[1])
    assert prepare(after, dataclasses.replace(config)) is after
    assert before.images[0].shape == (54, 96, 3) and before.prepared is None
    with pytest.raises(FrameError, match="prepare from the recorded images"):
        prepare(after, ImageConfig())


def test_the_camera_is_named_when_its_image_cannot_be_prepared():
    bad = frame((smooth_image(), *[None] * 4, np.zeros((0, 5, 3), np.uint8)))
    with pytest.raises(CameraError, match=f"{CAMERAS[5]}: expected a uint8"):
        prepare(bad, ImageConfig())


MATRIX = np.array([[60.0, 0, 47.5], [0, 60, 26.5], [0, 0, 1]])
POSE = ego_T_cam(35.0)


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("ego_T_cam", POSE.T, "a rotation and a shift"),
        ("ego_T_cam", np.diag([1.0, -1, 1, 1]) @ POSE, "a rotation and a shift"),
        ("ego_T_cam", np.diag([2.0, 2, 2, 1]) @ POSE, "a rotation and a shift"),
        ("ego_T_cam", POSE * np.nan, "a rotation and a shift"),
        ("ego_T_cam", np.zeros((4, 4)), "a rotation and a shift"),
        ("ego_T_cam", POSE * [1, 1, 1, 1000] - 999 * np.diag([0, 0, 0, 1]), "metres, at most 100"),
        ("intrinsics", MATRIX.T, "fx and fy above 1, of an image of 96 x 54 pixels"),
        ("intrinsics", MATRIX * 2, "fx and fy above 1"),
        ("intrinsics", np.diag([-1.0, 1, 1]) @ MATRIX, "fx and fy above 1"),
        ("intrinsics", np.diag([1 / 96, 1 / 54, 1]) @ MATRIX, "fx and fy above 1"),
        # Above 1, and still not in pixels of this image.
        ("intrinsics", np.diag([3 / 96, 2 / 54, 1]) @ MATRIX, "fx and fy above 1"),
        ("intrinsics", MATRIX * np.nan, "fx and fy above 1"),
    ],
)
def test_recorded_images_have_the_calibration_of_a_camera(field, value, text):
    config = ImageConfig(width=48, height=20, zoom=1.0)
    good = dataclasses.replace(
        frame((smooth_image(), None, *[smooth_image()] * 4)),
        intrinsics=np.tile(MATRIX, (6, 1, 1)),
        ego_T_cam=np.tile(POSE, (6, 1, 1)),
    )
    values = getattr(good, field).copy()
    values[2] = value
    bad = dataclasses.replace(good, **{field: values})
    chance = np.random.default_rng(0)
    for made in (
        lambda one: prepare(one, config),
        lambda one: GpuImages(torch.device("cpu"))(one, config),
        lambda one: augment_images(one, augment=AugmentConfig(), image=config, rng=chance),
    ):
        made(good)
        with pytest.raises(FrameError, match=rf"Frame.{field}\[CAM_FRONT_LEFT\]: .*{text}"):
            made(bad)
        # Of a missing camera nothing is read, and what is prepared may be scaled and mirrored.
        made(bad.without("CAM_FRONT_LEFT"))
    prepare(prepare(good, config).moved(np.diag([0.9, -0.9, 0.9, 1.0])), config)


def test_rounded_and_shifted_calibrations_are_taken():
    config = ImageConfig(width=48, height=20, zoom=1.0)
    poses = np.round(np.stack([ego_T_cam(angle) for angle in range(0, 180, 30)]), 4)
    skewed = np.tile(MATRIX + np.array([[0, 0.5, 400], [0, 0, -90], [0, 0, 0]]), (6, 1, 1))
    plain = frame([smooth_image()] * 6)
    prepare(dataclasses.replace(plain, ego_T_cam=poses, intrinsics=skewed), config)
    # Numbers of other formats say the same.
    whole = np.tile(MATRIX.astype(int), (6, 1, 1))
    prepare(dataclasses.replace(plain, ego_T_cam=poses.astype("f4"), intrinsics=whole), config)
