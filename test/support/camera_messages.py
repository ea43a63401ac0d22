"""Images of every encoding and CameraInfo of every lens, as messages."""

from __future__ import annotations

import numpy as np
import ros_rig

from crkd_ros.bags import message_types

STAMP = 1_700_000_000_123_456_789
WIDTH, HEIGHT = 800, 450
K = np.array([[620.0, 0, 395], [0, 615.0, 230], [0, 0, 1]])
LENSES = {
    "plumb_bob": (-0.3, 0.09, 1e-3, -5e-4, -0.01),
    "rational_polynomial": (0.4, -0.2, 5e-4, 3e-4, 0.01, 0.7, -0.1, 0.02),
    "equidistant": (-0.02, 0.01, -0.005, 0.001),
}


def camera_info(
    make=message_types.make, *, p=None, r=None, roi=(0, 0, 0, 0), binning=(0, 0), **kw
):
    """A CameraInfo of the full sensor; roi is x, y, width, height."""
    fields = dict(zip(("x_offset", "y_offset", "width", "height"), roi, strict=True))
    numbers = {"k": kw.pop("k", K), "d": kw.pop("d", ()), "r": np.eye(3) if r is None else r}
    numbers["p"] = np.zeros((3, 4)) if p is None else p
    return make(
        "sensor_msgs/msg/CameraInfo",
        header=ros_rig.header(make, STAMP, "cam_front"),
        width=kw.pop("width", WIDTH),
        height=kw.pop("height", HEIGHT),
        distortion_model=kw.pop("model", "plumb_bob"),
        **{name: np.asarray(values, np.float64).ravel() for name, values in numbers.items()},
        binning_x=binning[0],
        binning_y=binning[1],
        roi=make(
            "sensor_msgs/msg/RegionOfInterest", do_rectify=kw.pop("rectify", False), **fields
        ),
    )


def raw(make, encoding, rows, *, height=None, width, padding=0, big=False):
    """An Image of rows of numbers, [R, ...]; each row ends in ``padding`` bytes of rubbish."""
    rows = np.ascontiguousarray(rows)
    if rows.dtype.itemsize == 2:
        rows = rows.astype(">u2" if big else "<u2")
    rows = rows.reshape(len(rows), -1).view(np.uint8)
    rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=77)
    return make(
        "sensor_msgs/msg/Image",
        header=ros_rig.header(make, STAMP, "cam_front"),
        height=len(rows) if height is None else height,
        width=width,
        encoding=encoding,
        is_bigendian=int(big),
        step=rows.shape[1],
        data=rows.ravel(),
    )


def mosaic(rgb, pattern: str):
    """One colour per pixel: ``pattern`` names the first two rows' first two pixels."""
    out = np.empty(rgb.shape[:2], rgb.dtype)
    for place, color in enumerate(pattern):
        y, x = divmod(place, 2)
        out[y::2, x::2] = rgb[y::2, x::2, "rgb".index(color)]
    return out
