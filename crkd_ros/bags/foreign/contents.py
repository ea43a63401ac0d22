"""What we take of the messages in other people's bags.

Messages are duck-typed: those of ROS 1 bags (``K``), of ROS 2 bags (``k``) and those that
bags/foxglove.py makes serve alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from crkd_core.data.radar import from_records, to_records
from crkd_core.sensors import RADAR_COLUMN, RADAR_FIELDS
from crkd_ros.bags import scene_messages
from crkd_ros.bags.message_types import BagError, make
from crkd_ros.convert import arrays, box_messages, images, radar_clouds
from crkd_ros.convert.camera_info import STRAIGHT, distortion, rotation

_INT8 = tuple(
    name
    for name in RADAR_FIELDS
    if name not in ("x", "y", "z", "id", "rcs", "vx", "vy", "vx_comp", "vy_comp")
)
#: Datatypes of a PointField.
_UINT8, _UINT16 = 2, 4
_JPEG, _PNG = b"\xff\xd8", b"\x89PNG"


def tells(message: Any) -> bool:
    """Whether a message tells what its sensor sends: a cloud its fields, an image its size.

    The first ones of a driver that has just come up may be empty, or cut short.
    """
    if hasattr(message, "fields"):
        return bool(len(message.fields))
    if not hasattr(message, "data"):
        return True
    try:
        picture = images.picture_of(message)
    except arrays.ConvertError:
        return False
    return bool(picture.width and picture.height)


def frame_of(message: Any) -> str:
    """The header's frame, without the leading slash of ROS 1."""
    return str(message.header.frame_id).lstrip("/")


def radar_cloud(message: Any, *, stamp: int, channel: str) -> Any:
    """RadarObjects or a radar PointCloud2 of nuScenes' fields as 18 native fields, 43 bytes.

    Rows that are not finite ("no returns") are left out, as when a nuScenes file is read. Codes in
    unsigned fields are signed again. A cloud with other fields, fewer or more, keeps all it has:
    ``radar_fields`` says what they mean.

    Raises:
        BagError: it is no radar message, or a code is outside its range; names the channel.
    """
    try:
        if hasattr(message, "objects"):
            points = _objects(message.objects)
        elif {field.name for field in message.fields} == set(RADAR_FIELDS):
            found = radar_clouds.radar_points(message, source=channel)
            points = to_records(_signed(found, message.fields))
        else:
            arrays.check_cloud(message, channel)
            return cloud(message, stamp=stamp, channel=channel)
    except (ValueError, AttributeError) as error:
        raise BagError(f"{channel}: {error}") from error
    return scene_messages.cloud(box_messages.header(stamp, channel, make), points)


def _signed(points: NDArray[np.float32], fields: Sequence[Any]) -> NDArray[np.float32]:
    """Codes of unsigned fields of nuScenes' own widths as signed ones of the same bytes."""
    for field in fields:
        column = points[:, RADAR_COLUMN[field.name]]
        for name, kind, modulus in ((_INT8, _UINT8, 256), (("id",), _UINT16, 65536)):
            if field.name in name and field.datatype == kind:
                column[column >= modulus // 2] -= modulus
    return points


def _objects(objects: Sequence[Any]) -> NDArray[np.void]:
    columns: dict[str, NDArray] = {
        name: np.array([getattr(one.pose, name) for one in objects], np.float32) for name in "xyz"
    }
    for name in RADAR_FIELDS[3:]:
        values = [getattr(one, name) for one in objects]
        if name in _INT8:
            columns[name] = (np.array(values, np.int64) & 0xFF).astype(np.uint8).view(np.int8)
        elif name == "id":
            columns[name] = (np.array(values, np.int64) & 0xFFFF).astype(np.uint16).view(np.int16)
        else:
            columns[name] = np.array(values, np.float32)
    records = np.zeros(len(objects), [(name, columns[name].dtype) for name in RADAR_FIELDS])
    for name in RADAR_FIELDS:
        records[name] = columns[name]
    return to_records(from_records(records))


def cloud(message: Any, *, stamp: int, channel: str) -> Any:
    """A PointCloud2 with its own fields and data under our header."""
    fields = [
        make(
            "sensor_msgs/msg/PointField",
            name=field.name,
            offset=field.offset,
            datatype=field.datatype,
            count=field.count,
        )
        for field in message.fields
    ]
    rest = {
        name: getattr(message, name)
        for name in ("height", "width", "is_bigendian", "point_step", "row_step", "data")
    }
    return make(
        "sensor_msgs/msg/PointCloud2",
        header=box_messages.header(stamp, channel, make),
        fields=fields,
        is_dense=bool(message.is_dense),
        **rest,
    )


def compressed_image(
    message: Any, *, stamp: int, channel: str, image_format: str, jpeg_quality: int, bits: int = 0
) -> Any:
    """An Image or CompressedImage as CompressedImage. Compressed ones keep bytes and format.

    Raises:
        BagError: an encoding we cannot read, or compressed bytes that are neither JPEG nor PNG.
    """
    if hasattr(message, "encoding"):
        try:
            rgb = images.image_rgb(message, source=channel, bits=bits)
        except arrays.ConvertError as error:
            raise BagError(str(error)) from error
        options = {
            "jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, jpeg_quality]),
            "png": (".png", [cv2.IMWRITE_PNG_COMPRESSION, 1]),
        }[image_format]
        done, encoded = cv2.imencode(options[0], cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), options[1])
        if not done:
            raise BagError(f"{channel}: OpenCV cannot encode {rgb.shape} as {image_format}")
        data: Any = encoded.ravel()
    else:
        data = message.data
        head = bytes(data[:4])
        image_format = message.format or ("png" if head == _PNG else "jpeg")
        if head != _PNG and head[:2] != _JPEG:
            raise BagError(
                f"{channel}: expected JPEG or PNG data, got {len(data)} bytes beginning with "
                f"{head.hex(' ') or 'nothing'}"
            )
    return make(
        "sensor_msgs/msg/CompressedImage",
        header=box_messages.header(stamp, channel, make),
        format=image_format,
        data=data,
    )


def image_size(message: Any) -> tuple[int, int]:
    """(width, height) of an Image or CompressedImage. Raises BagError when it has none."""
    if hasattr(message, "encoding"):
        return int(message.width), int(message.height)
    image = cv2.imdecode(np.frombuffer(bytes(message.data), np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise BagError(f"{frame_of(message) or 'camera'}: OpenCV cannot decode its first image")
    return image.shape[1], image.shape[0]


def info_matrix(message: Any) -> NDArray[np.float64]:
    """``k`` (ROS 1: ``K``) of a CameraInfo, [3, 3]. Raises BagError when it is invalid."""
    k = _numbers(message, "k").reshape(3, 3)
    if not np.isfinite(k).all() or k[0, 0] <= 0 or k[1, 1] <= 0:
        raise BagError(
            f"CameraInfo of {frame_of(message)!r} is not calibrated: k = {k.ravel().tolist()}; "
            "list the camera's intrinsics in the file of --calibration"
        )
    return k


def is_calibrated(message: Any) -> bool:
    """Whether a CameraInfo knows its camera: by k, or by p where images are rectified."""
    return any(_numbers(message, name)[0] > 0 for name in ("k", "p"))


def same_camera(one: Any, other: Any) -> bool:
    """Whether two CameraInfo say the same of a camera."""
    a, b = one.roi, other.roi
    window = ("x_offset", "y_offset", "width", "height")
    same = all(getattr(a, name) == getattr(b, name) for name in window)
    names = ("width", "height", "distortion_model", "binning_x", "binning_y")
    same &= all(getattr(one, name) == getattr(other, name) for name in names)
    return same and all(
        np.array_equal(_numbers(one, name), _numbers(other, name), equal_nan=True)
        for name in "dkrp"
    )


def is_straight(message: Any) -> bool:
    """Whether a CameraInfo is of images without distortion."""
    try:
        model, _ = distortion(message.distortion_model, _numbers(message, "d"), "")
    except arrays.ConvertError:
        return False
    return model == STRAIGHT


def is_plain(message: Any) -> bool:
    """Whether ``k`` and the size are all that a CameraInfo says, as converters of nuScenes do.

    An ``r`` that is no rotation, as some of them write, says nothing.
    """
    region = message.roi
    window = (region.x_offset, region.y_offset, region.width, region.height)
    binned = max(message.binning_x, message.binning_y) > 1
    k, p = _numbers(message, "k"), _numbers(message, "p")
    same = not p.any() or np.allclose(p.reshape(3, 4), np.c_[k.reshape(3, 3), np.zeros(3)])
    turned = not np.allclose(rotation(_numbers(message, "r")), np.eye(3))
    whole = bool(k[0] > 0) and same and not turned
    return is_straight(message) and not any(window) and not binned and whole


def whole_info(message: Any, *, stamp: int, channel: str) -> Any:
    """A CameraInfo of ROS 1 or 2 with all it says, under our header."""
    region = message.roi
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=box_messages.header(stamp, channel, make),
        width=message.width,
        height=message.height,
        distortion_model=message.distortion_model,
        **{name: _numbers(message, name) for name in "dkrp"},
        binning_x=message.binning_x,
        binning_y=message.binning_y,
        roi=make(
            "sensor_msgs/msg/RegionOfInterest",
            **{
                name: getattr(region, name)
                for name in ("x_offset", "y_offset", "height", "width", "do_rectify")
            },
        ),
    )


def _numbers(message: Any, name: str) -> NDArray[np.float64]:
    """A field that ROS 1 writes in capitals."""
    return np.asarray(getattr(message, name if hasattr(message, name) else name.upper()), float)


def camera_info(
    *,
    stamp: int,
    channel: str,
    k: NDArray[np.float64],
    size: tuple[int, int],
    lens: tuple[str, Sequence[float]] = ("plumb_bob", ()),
    r: NDArray[np.float64] | None = None,
) -> Any:
    """CameraInfo with p = [k|0] and, unless given, r = identity."""
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=box_messages.header(stamp, channel, make),
        width=size[0],
        height=size[1],
        distortion_model=lens[0] or "plumb_bob",
        d=np.asarray(lens[1], np.float64),
        k=k,
        r=np.eye(3) if r is None else r,
        p=np.concatenate([k, np.zeros((3, 1))], 1),
    )
