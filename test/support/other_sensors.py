"""A vehicle with a raw, distorted, binned Bayer camera and a Doppler radar of another maker."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import ros_rig
from camera_messages import LENSES, camera_info, mosaic, raw

from crkd_core import geometry
from crkd_core.sensors import ANCHOR_CAMERA
from crkd_ros.bags.message_types import make
from crkd_ros.bags.writer import BagWriter
from crkd_ros.convert.arrays import stamp_ns
from crkd_ros.convert.box_messages import transform
from crkd_ros.convert.radar_clouds import RadarFieldsConfig

START = 1_700_000_010_000_000_000
STEP = 100_000_000
CAMERA, RADAR = ANCHOR_CAMERA, "RADAR_FRONT"
IMAGES = f"/{CAMERA.lower()}/image_raw"
FIELDS = RadarFieldsConfig(rcs="RCS", doppler="Doppler")


def static_transforms():
    transforms = []
    for sensor in (CAMERA, RADAR):
        pose = ros_rig.extrinsics()[sensor]
        transforms.append(transform(pose, "base_link", sensor.lower(), START, make))
    return make("tf2_msgs/msg/TFMessage", transforms=transforms)


def image(make=make):
    """A Bayer image of half the sensor, in rows that are padded."""
    pixels = cv2.resize(ros_rig.pixels(5), (400, 224))
    message = raw(make, "bayer_gbrg8", mosaic(pixels, "gbrg"), width=400, padding=8)
    message.header.frame_id = CAMERA.lower()
    return message


def info(make=make):
    return camera_info(make, d=LENSES["plumb_bob"], roi=(0, 2, 800, 448), binning=(2, 2))


def cloud(stamp, make=make):
    records = np.zeros(30, [(name, ">f8") for name in ("Doppler", "y", "x", "RCS")])
    points = ros_rig.radar_points(8, count=30)
    records["x"], records["y"] = points[:, 0], points[:, 1]
    # Everything stands still: the radar's own motion is all that is seen.
    rays = points[:, :2] / np.linalg.norm(points[:, :2], axis=1, keepdims=True)
    base_T_radar = ros_rig.extrinsics()[RADAR]
    places = [ros_rig.map_T_base(at) @ base_T_radar for at in (stamp - 1_000_000, stamp)]
    moved = geometry.rotate(geometry.invert(places[1]), (places[1] - places[0])[:3, 3])
    records["Doppler"] = -(rays @ moved[:2]) / 1e-3
    return ros_rig.cloud(make, RADAR.lower(), stamp, records)


def drive(make, seconds: float):
    """(topic, message) of an odometry, a camera and a radar, all at the same stamps."""
    for stamp in range(START, START + round(seconds * 1e9), STEP):
        yield "/odom", ros_rig.odometry(make, stamp)
        for topic, message in [
            (f"/{CAMERA.lower()}/camera_info", info(make)),
            (f"/{RADAR.lower()}", cloud(stamp, make)),
            (IMAGES, image(make)),
        ]:
            message.header.stamp = ros_rig.header(make, stamp, "").stamp
            yield topic, message


def write_bag(path: Path) -> Path:
    """0.4 s of the drive."""
    with BagWriter(path) as out:
        out.write("/tf_static", static_transforms(), START)
        for topic, message in drive(make, 0.4):
            out.write(topic, message, stamp_ns(message.header.stamp))
    return path
