import dataclasses

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.config import ImageConfig
from crkd_core.data.cameras import CameraError, decode_jpeg, prepare, prepare_image, read_image
from crkd_core.frame import Frame, FrameError
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
    with pytest.raises(CameraError, match=r"a\.jpg: OpenCV cannot decode"):
        decode_jpeg(b"\xff\xd8" + bytes(500) + b"\xff\xd9", source="a.jpg")


def test_padding_behind_the_end_marker_is_accepted():
    data = jpeg(smooth_image())
    assert np.array_equal(decode_jpeg(data + bytes(8), source="a"), decode_jpeg(data, source="a"))


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


def test_image_too_small_for_the_crop_is_padded_black_above():
    image = np.full((20, 100, 3), 200, np.uint8)
    config = ImageConfig(width=50, height=40, zoom=1.0)
    out, k = prepare_image(image, np.eye(3), config)
    assert (out[:30] == 0).all() and (out[30:] == 200).all()
    assert k[1, 2] == 0.5 * 0.5 - 0.5 + 30


@pytest.mark.parametrize("image", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
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
