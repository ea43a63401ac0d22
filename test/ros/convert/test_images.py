"""Image messages of every encoding to pixels, against slow references; broken ones to errors."""

from __future__ import annotations

import struct
import tracemalloc
import zlib
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import ros_rig
from camera_messages import STAMP, mosaic, raw
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_core.data.cameras import decode_jpeg
from crkd_core.sensors import MAX_PIXELS
from crkd_ros.bags import message_types
from crkd_ros.convert import images, ros_packages
from crkd_ros.convert.arrays import ConvertError
from crkd_ros.convert.images import image_rgb, picture_of
from crkd_ros.convert.standins import cv_bridge as standin


def noise(*shape, depth=8, seed=0):
    dtype = np.uint8 if depth == 8 else np.uint16
    return np.random.default_rng(seed).integers(0, 2**depth, shape, dtype=dtype)


# -- slow references ------------------------------------------------------------------------------


def yuv_pixel(y: int, u: int, v: int) -> list[int]:
    """BT.601, studio swing, in the fixed point that OpenCV documents: 20 bits."""
    y, u, v = max(0, y - 16) * 1220542, u - 128, v - 128
    half = 1 << 19
    rgb = (
        (y + half + 1673527 * v) >> 20,
        (y + half - 852492 * v - 409993 * u) >> 20,
        (y + half + 2116026 * u) >> 20,
    )
    return [min(255, max(0, value)) for value in rgb]


def yuv_image(y, u, v):
    return np.array(
        [
            [yuv_pixel(*map(int, p)) for p in zip(*row, strict=True)]
            for row in zip(y, u, v, strict=True)
        ],
        np.uint8,
    )


def demosaic(raw_pixels, pattern: str):
    """Bilinear, inner pixels only: the mean of the nearest pixels that have the colour."""
    height, width = raw_pixels.shape
    values = raw_pixels.astype(int)
    out = np.zeros((height, width, 3), int)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            for index, color in enumerate("rgb"):
                near = {}
                for dy in (-1, 0, 1):
                    for dx in (-1, 0, 1):
                        if pattern[(y + dy) % 2 * 2 + (x + dx) % 2] == color:
                            near.setdefault(dy * dy + dx * dx, []).append(values[y + dy, x + dx])
                nearest = near[min(near)]
                out[y, x, index] = (sum(nearest) + len(nearest) // 2) // len(nearest)
    return out[1:-1, 1:-1]


# -- every encoding -------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [0, 5])
@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("name", ["rgb", "bgr", "rgba", "bgra", "mono"])
def test_plain_images_become_rgb(make, name, depth, big, padding):
    image = noise(14, 10, {"mono": 1}.get(name, len(name)), depth=depth)
    want = image[..., [name.index(c) for c in "rgb"]] if name != "mono" else image[..., [0, 0, 0]]
    if depth == 16:
        want = np.rint(want * (255 / 65535)).astype(np.uint8)
    got = image_rgb(raw(make, f"{name}{depth}", image, width=10, padding=padding, big=big))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("same, name", [("8UC1", "mono8"), ("8UC3", "bgr8"), ("8UC4", "bgra8")])
def test_content_without_a_colour_is_what_opencv_users_mean(make, same, name):
    image = noise(6, 8, int(same[-1]))
    np.testing.assert_array_equal(
        image_rgb(raw(make, same, image, width=8)), image_rgb(raw(make, name, image, width=8))
    )


@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_bayer_patterns_are_named_as_ros_names_them(make, pattern):
    # A picture of one colour stays one: that tells red from blue, and green from both.
    flat = np.full((8, 12, 3), (200, 100, 20), np.uint8)
    got = image_rgb(raw(make, f"bayer_{pattern}8", mosaic(flat, pattern), width=12, padding=3))
    np.testing.assert_array_equal(got, flat)
    pixels = noise(10, 12)
    got = image_rgb(raw(make, f"bayer_{pattern}8", pixels, width=12))
    np.testing.assert_array_equal(got[1:-1, 1:-1], demosaic(pixels, pattern))
    deep = noise(10, 12, depth=16)
    got = image_rgb(raw(make, f"bayer_{pattern}16", deep, width=12, big=True))
    want = np.rint(demosaic(deep, pattern) * (255 / 65535))
    np.testing.assert_array_equal(got[1:-1, 1:-1], want)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("names", [("yuv422", "uyvy"), ("yuv422_yuy2", "yuyv")])
def test_packed_yuv_is_bt601(make, names, padding):
    y, u, v = noise(6, 8), noise(6, 4, seed=1), noise(6, 4, seed=2)
    color = np.stack([u, v], -1).reshape(6, 8)
    pair = (color, y) if names[0] == "yuv422" else (y, color)
    want = yuv_image(y, np.repeat(u, 2, 1), np.repeat(v, 2, 1))
    for name in names:
        message = raw(make, name, np.stack(pair, -1), width=8, padding=padding)
        np.testing.assert_array_equal(image_rgb(message), want)


@pytest.mark.parametrize("padding", [0, 6])
def test_planar_yuv_is_bt601(make, padding):
    y, u, v = noise(6, 8), noise(3, 4, seed=1), noise(3, 4, seed=2)
    full = [np.repeat(np.repeat(plane, 2, 0), 2, 1) for plane in (u, v)]
    for name, planes in (("nv21", (v, u)), ("nv12", (u, v))):
        rows = np.concatenate([y, np.stack(planes, -1).reshape(3, 8)])
        message = raw(make, name, rows, width=8, height=6, padding=padding)
        np.testing.assert_array_equal(image_rgb(message), yuv_image(y, *full))
    u, v = noise(6, 8, seed=3), noise(6, 8, seed=4)
    rows = np.concatenate([y, np.stack([u, v], -1).reshape(12, 8)])
    got = image_rgb(raw(make, "nv24", rows, width=8, height=6, padding=padding))
    # The reference cuts dark Y at 16 and rounds coefficients otherwise.
    bright = y >= 16
    error = np.abs(got.astype(int) - yuv_image(y, u, v).astype(int))
    assert error[bright].max() <= 1
    assert (error[bright] == 0).mean() > 0.9


def test_pixels_are_a_view_of_the_message(make):
    message = raw(make, "rgb8", noise(6, 8, 3), width=8, padding=2)
    assert np.shares_memory(image_rgb(message), np.frombuffer(message.data, np.uint8))


def test_the_real_cv_bridge_gives_the_pixels_of_the_stand_in():
    if not ros_packages.installed("cv_bridge"):
        pytest.skip("cv_bridge is not installed")
    # Another process tries it first: one that was built for another NumPy ends this one.
    real = ros_packages.bridge()
    if isinstance(real, standin.CvBridge):
        pytest.skip("the installed cv_bridge was built for another NumPy or OpenCV")
    for name, (channels, size) in ros_packages.IMAGE_ENCODINGS.items():
        image = noise(12, 16, channels, depth=8 * size)
        message = raw(ros_packages.make, name, image, width=16)
        want = standin.CvBridge().imgmsg_to_cv2(message, "rgb8")
        got = real.imgmsg_to_cv2(message, desired_encoding="rgb8")
        np.testing.assert_array_equal(got, want, err_msg=name)
        with_real = image_rgb(message)
        np.testing.assert_array_equal(with_real, want, err_msg=name)


def test_a_cv_bridge_that_ends_the_process_is_not_used(monkeypatch, tmp_path):
    (tmp_path / "cv_bridge.py").write_text("import os\nos.abort()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    caches = (ros_packages.bridge, ros_packages._bridge_works)
    for cache in caches:
        cache.cache_clear()
    try:
        assert isinstance(ros_packages.bridge(), standin.CvBridge)
        assert "cv_bridge is installed but" in ros_packages.missing_features()[-1]
    finally:
        for cache in caches:
            cache.cache_clear()


# -- compressed -----------------------------------------------------------------------------------


def compressed(make, data, kind):
    return make(
        "sensor_msgs/msg/CompressedImage",
        header=ros_rig.header(make, STAMP, "cam_front"),
        format=kind,
        data=np.frombuffer(bytes(data), np.uint8),
    )


def encoded(image, extension):
    done, data = cv2.imencode(extension, image)
    assert done
    return data.tobytes()


@pytest.mark.parametrize(
    "kind",
    ["jpeg", "jpg", "", "rgb8; jpeg compressed bgr8", "bgr8; jpeg compressed bgr8",
     "bayer_rggb8; jpeg compressed bgr8", "mono8; jpeg compressed "],
)  # fmt: skip
def test_jpegs_have_the_colours_of_their_file(make, kind):
    rgb = ros_rig.pixels(2)
    data = encoded(rgb[..., ::-1], ".jpg")
    got = image_rgb(compressed(make, data, kind))
    np.testing.assert_array_equal(got, decode_jpeg(data, source="file"))
    assert np.abs(got.astype(int) - rgb).mean() < 6


def test_zeros_behind_a_jpeg_are_no_damage_and_mend_none(make):
    data = encoded(ros_rig.pixels(1), ".jpg")
    got, plain = (image_rgb(compressed(make, one, "jpeg")) for one in (data + bytes(1000), data))
    np.testing.assert_array_equal(got, plain)
    with pytest.raises(ConvertError, match="truncated JPEG"):
        image_rgb(compressed(make, data[: len(data) // 2] + bytes(1000), "jpeg"))


def test_old_publishers_exchanged_red_and_blue(make):
    rgb = ros_rig.pixels(2)
    for kind in ("rgb8; jpeg compressed", "bgr8; png compressed rgb8"):
        data = encoded(rgb, ".png" if "png" in kind else ".jpg")
        assert np.abs(image_rgb(compressed(make, data, kind)).astype(int) - rgb).mean() < 6


@pytest.mark.parametrize("kind", ["png", "rgb8; png compressed bgr8"])
def test_pngs_are_read_to_the_bit(make, kind):
    rgb = ros_rig.pixels(2)
    got = image_rgb(compressed(make, encoded(rgb[..., ::-1], ".png"), kind))
    np.testing.assert_array_equal(got, rgb)
    alpha = np.dstack([rgb[..., ::-1], noise(*rgb.shape[:2])])
    np.testing.assert_array_equal(image_rgb(compressed(make, encoded(alpha, ".png"), kind)), rgb)


def test_grey_and_deep_pngs(make):
    grey = noise(9, 11)
    got = image_rgb(compressed(make, encoded(grey, ".png"), "mono8; png compressed mono8"))
    np.testing.assert_array_equal(got, np.repeat(grey[..., None], 3, 2))
    deep = noise(9, 11, depth=16)
    got = image_rgb(compressed(make, encoded(deep, ".png"), "mono16; png compressed mono16"))
    want = np.rint(deep * (255 / 65535)).astype(np.uint8)
    np.testing.assert_array_equal(got, np.repeat(want[..., None], 3, 2))
    color = noise(9, 11, 3, depth=16)
    got = image_rgb(compressed(make, encoded(color, ".png"), "rgb16; png compressed bgr16"))
    np.testing.assert_array_equal(got, np.rint(color[..., ::-1] * (255 / 65535)))


def test_depth_is_refused(make):
    data = b"\0" * 12 + encoded(noise(5, 6, depth=16), ".png")
    with pytest.raises(ConvertError, match=r"CAM_BACK.*depth image.*colour topic"):
        image_rgb(
            compressed(make, data, "16UC1; compressedDepth png"),
            source="CAM_BACK",
        )
    with pytest.raises(ConvertError, match=r"CAM_BACK.*'16UC1' is no colour or grey"):
        image_rgb(raw(make, "16UC1", noise(5, 6, depth=16), width=6), source="CAM_BACK")


# -- broken ---------------------------------------------------------------------------------------


def huge_png(width, height):
    head = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + head + struct.pack(">I", zlib.crc32(head))
    return b"\x89PNG\r\n\x1a\n" + chunk + b"\0\0\0\0IEND\xae\x42\x60\x82"


def huge_jpeg(width, height):
    data = bytearray(encoded(noise(16, 16, 3), ".jpg"))
    place = data.index(b"\xff\xc0")
    data[place + 5 : place + 9] = struct.pack(">HH", height, width)
    return bytes(data)


def test_broken_compressed_images_are_errors(make):
    jpeg, png = encoded(noise(60, 80, 3), ".jpg"), encoded(noise(60, 80, 3), ".png")
    for data, text in [
        (jpeg[: len(jpeg) // 2], "truncated JPEG"),
        (b"", "expected a JPEG"),
        (b"\0" * 500, r"expected a JPEG or PNG, got 500 bytes .* video \(H.264\) and other"),
        (png[: len(png) // 2], "PNG of .* bytes is cut short"),
        (png[:20], "PNG cut short"),
        (huge_png(50_000, 40_000), "50000 x 40000 pixels, more than any camera"),
        (huge_jpeg(65_500, 60_000), "65500 x 60000 pixels, more than any camera"),
    ]:
        with pytest.raises(ConvertError, match=rf"CAM_BACK: .*{text}"):
            image_rgb(compressed(make, data, "jpeg"), source="CAM_BACK")


def test_raw_sizes_that_contradict_the_data_are_errors(make):
    def broken(encoding="rgb8", **changes):
        message = raw(make, "rgb8", noise(6, 8, 3), width=8)
        message.encoding = encoding
        for name, value in changes.items():
            setattr(message, name, value)
        return message

    most = 2**32 - 1
    for message in [
        broken(height=7),
        broken(step=23),
        broken(width=9),
        broken(width=0),
        broken(height=0),
        broken(data=np.zeros(0, np.uint8) if make is message_types.make else b""),
        # Products that are small again in 32 and 64 bits.
        broken(height=1 << 16, width=1 << 16, step=1 << 16),
        broken(height=most, width=most, step=most),
        broken(encoding="nv24"),
        broken(encoding="mono16", width=13),
    ]:
        with pytest.raises(ConvertError, match=r"CAM_BACK: expected .* rows of .* got step"):
            image_rgb(message, source="CAM_BACK")
    with pytest.raises(ConvertError, match="expected an even size for nv21"):
        image_rgb(broken(encoding="nv21", height=5, width=8), source="CAM_BACK")
    with pytest.raises(ConvertError, match="expected an even width for yuv422, got 13"):
        image_rgb(broken(encoding="uyvy", width=13), source="CAM_BACK")
    with pytest.raises(ConvertError, match=r"CAM_BACK: encoding '32FC1' is no .* expected one of"):
        image_rgb(broken(encoding="32FC1"), source="CAM_BACK")


_JPEG, _PNG = encoded(noise(24, 32, 3), ".jpg"), encoded(noise(12, 16, 3), ".png")


@settings(deadline=None, max_examples=200)
@given(
    data=st.sampled_from([_JPEG, _PNG]),
    changes=st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 255)), max_size=8),
    keep=st.integers(0, 4000),
    kind=st.sampled_from(["jpeg", "png", "rgb8; jpeg compressed", ";", "\0"]),
)
def test_any_damage_to_a_compressed_image_is_an_error_or_pixels(data, changes, keep, kind):
    data = bytearray(data[:keep])
    for place, value in changes:
        if place < len(data):
            data[place] = value
    message = SimpleNamespace(format=kind, data=np.frombuffer(bytes(data), np.uint8))
    try:
        got = image_rgb(message, source="CAM_BACK")
    except ConvertError as error:
        assert str(error).startswith("CAM_BACK: ")
    else:
        assert got.ndim == 3
        assert got.shape[0] * got.shape[1] <= MAX_PIXELS


@settings(deadline=None, max_examples=200)
@given(
    encoding=st.sampled_from([*images.ENCODINGS, "32FC1", "", "bayer"]),
    sizes=st.tuples(*[st.one_of(st.integers(0, 40), st.integers(0, 2**32 - 1))] * 3),
    length=st.integers(0, 2000),
    big=st.integers(0, 1),
)
def test_any_raw_image_is_an_error_or_pixels(encoding, sizes, length, big):
    height, width, step = sizes
    message = SimpleNamespace(
        encoding=encoding,
        height=height,
        width=width,
        step=step,
        is_bigendian=big,
        data=np.zeros(length, np.uint8),
    )
    tracemalloc.start()
    try:
        got = image_rgb(message, source="CAM_BACK")
    except ConvertError as error:
        assert str(error).startswith("CAM_BACK: ")
    else:
        assert got.shape == (height, width, 3)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    # What is declared reserves nothing; what came does.
    assert peak < 1e6


@pytest.mark.parametrize("extension", [".png", ".jpg"])
@pytest.mark.parametrize("pattern", ["rggb", "bggr", "gbrg", "grbg"])
def test_a_mosaic_within_a_compressed_image_has_colours(make, pattern, extension):
    """As image_transport sends a Bayer image: the pixels as they are, their encoding in format."""
    flat = np.empty((32, 48, 3), np.uint8)
    flat[:] = (200, 90, 30)
    kind = f"bayer_{pattern}8; {'png' if extension == '.png' else 'jpeg'} compressed "
    data = encoded(mosaic(flat, pattern), extension)
    got = image_rgb(compressed(make, data, kind))[4:-4, 4:-4].astype(int)
    assert np.abs(got - [200, 90, 30]).max() < (3 if extension == ".png" else 25)
    want = image_rgb(raw(make, f"bayer_{pattern}8", mosaic(flat, pattern), width=48))
    if extension == ".png":
        np.testing.assert_array_equal(image_rgb(compressed(make, data, kind)), want)
        deep = mosaic(flat, pattern).astype(np.uint16) * 257
        kind16 = f"bayer_{pattern}16; png compressed "
        np.testing.assert_array_equal(
            image_rgb(compressed(make, encoded(deep, ".png"), kind16)), want
        )
    # What the publisher has already made colours of is left alone, and what is neither is refused.
    colours = encoded(flat[..., ::-1], extension)
    done = image_rgb(compressed(make, colours, f"{kind.strip()} bgr8")).astype(int)
    assert np.abs(done - [200, 90, 30]).max() < 12
    with pytest.raises(ConvertError, match="the image within has colours"):
        image_rgb(compressed(make, colours, kind))


@pytest.mark.parametrize("kind", ["16UC1; png compressed ", "32FC1; png compressed ", "16UC1"])
def test_depth_within_a_compressed_image_is_refused(make, kind):
    deep = np.full((8, 8), 900, np.uint16)
    with pytest.raises(ConvertError, match="is a depth image, not a picture"):
        image_rgb(compressed(make, encoded(deep, ".png"), kind))


@pytest.mark.parametrize("name", ["mono", "rgb", "bgr", "bayer_rggb"])
def test_twelve_bits_in_sixteen_are_no_black_picture(make, name):
    channels = 3 if name in ("rgb", "bgr") else 1
    full = noise(12, 10, channels, depth=16) if channels == 3 else noise(12, 10, depth=16)
    twelve = (full >> 4).astype(np.uint16)
    encoding = f"{name}16"
    got = image_rgb(raw(make, encoding, twelve, width=10)).astype(int)
    want = image_rgb(raw(make, encoding, full, width=10)).astype(int)
    assert np.abs(got - want).max() <= 1
    dark = image_rgb(raw(make, encoding, twelve, width=10), bits=16)
    assert dark.max() <= 16
    ten = image_rgb(raw(make, encoding, (full >> 6).astype(np.uint16), width=10), bits=10)
    assert np.abs(ten.astype(int) - want).max() <= 1
    if name == "mono":
        png = image_rgb(compressed(make, encoded(twelve, ".png"), "mono16; png compressed "))
        assert np.abs(png.astype(int) - want).max() <= 1


def test_what_a_picture_is_is_told_by_its_header(make):
    rgb = np.zeros((30, 40, 3), np.uint8)
    for data, kind in ((encoded(rgb, ".jpg"), "jpeg"), (encoded(rgb, ".png"), "png")):
        assert picture_of(compressed(make, data, kind)) == (40, 30, True)
    for extension in (".jpg", ".png"):
        grey = compressed(make, encoded(rgb[..., 0], extension), "mono8")
        assert picture_of(grey) == (40, 30, False)
    assert picture_of(raw(make, "bayer_rggb8", rgb[..., 0], width=40)) == (40, 30, True)
    assert picture_of(raw(make, "mono16", rgb[..., 0].astype(np.uint16), width=40))[2] is False
    with pytest.raises(ConvertError, match="no colour or grey image"):
        picture_of(raw(make, "32FC1", rgb[..., 0], width=10))
    with pytest.raises(ConvertError, match="expected a JPEG or PNG"):
        picture_of(compressed(make, np.zeros(40, np.uint8), "h264"))
