"""The choice of packages, the message factory, and the stand-ins."""

from __future__ import annotations

import array
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rclpy")

from crkd_ros.convert import ros_packages
from crkd_ros.convert.ros_packages import MessageError
from crkd_ros.convert.standins import cv_bridge, point_cloud2


def test_numbers_of_variable_length_become_arrays_and_the_rest_stays():
    message = ros_packages.make("sensor_msgs/msg/PointCloud2", data=np.arange(5, dtype=np.uint8))
    assert isinstance(message.data, array.array)
    assert message.data.tolist() == [0, 1, 2, 3, 4]
    ranges = np.linspace(0, 1, 4, dtype=np.float32)
    scan = ros_packages.make("sensor_msgs/msg/LaserScan", ranges=ranges)
    assert scan.ranges.typecode == "f"
    np.testing.assert_array_equal(scan.ranges, ranges)
    info = ros_packages.make("sensor_msgs/msg/CameraInfo", k=np.arange(9.0), d=np.arange(5.0))
    assert isinstance(info.k, np.ndarray)
    assert info.d.tolist() == [0, 1, 2, 3, 4]
    # Not contiguous.
    message = ros_packages.make(
        "sensor_msgs/msg/PointCloud2", data=np.arange(6, dtype=np.uint8)[::2]
    )
    assert message.data.tolist() == [0, 2, 4]


def test_unknown_types_say_what_to_install():
    with pytest.raises(MessageError, match=r"nope_msgs/msg/Thing is not available.*nope_msgs"):
        ros_packages.message_class("nope_msgs/msg/Thing")
    with pytest.raises(MessageError, match="sensor_msgs/msg/Nope is not available"):
        ros_packages.make("sensor_msgs/msg/Nope")


def test_every_missing_package_has_one_line():
    lines = ros_packages.missing_features()
    for package in ("vision_msgs", "tf2_ros"):
        mentioned = [line for line in lines if line.startswith(f"{package} is not installed: ")]
        assert len(mentioned) == (not ros_packages.installed(package))


def test_no_other_module_looks_for_the_optional_packages(request):
    folder = request.config.rootpath / "crkd_ros"
    paths = [path for path in folder.rglob("*.py") if path.parent.name != "standins"]
    assert len(paths) > 50
    for path in paths:
        text = path.read_text()
        for package in ("sensor_msgs_py", "cv_bridge", "tf2_ros", "standins"):
            imported = f"import {package}" in text or f"from {package}" in text
            imported |= f"crkd_ros.convert.{package}" in text
            assert not imported or path.name == "ros_packages.py", f"{path} imports {package}"


def test_pure_modules_import_without_ros_and_without_torch():
    code = (
        "import sys; sys.modules['rclpy'] = None\n"
        "from crkd_ros import frames\n"
        "from crkd_ros.convert import box_messages, ros_packages\n"
        "from crkd_ros.motion import odometry, tf_tree\n"
        "from crkd_ros.node import health, worker\n"
        "from crkd_ros.parameters import node\n"
        "from crkd_ros.sync import stock_policy\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def cloud_of(fields, records):
    """A PointCloud2 of one row from a structured array."""
    from sensor_msgs.msg import PointCloud2

    return PointCloud2(
        height=1,
        width=len(records),
        fields=fields,
        is_dense=False,
        point_step=records.itemsize,
        row_step=records.nbytes,
        data=array.array("B", records.tobytes()),
    )


def test_clouds_are_read_by_field():
    from sensor_msgs.msg import PointField

    fields = [
        PointField(name="x", offset=0, datatype=7, count=1),
        PointField(name="n", offset=5, datatype=3, count=2),
    ]
    rows = [(1.5, -2, 3), (2.5, 4, -5)]
    layout = {
        "names": ["x", "n_0", "n_1"],
        "formats": ["<f4", "<i2", "<i2"],
        "offsets": [0, 5, 7],
        "itemsize": 12,
    }
    cloud = cloud_of(fields, np.array(rows, layout))
    points = point_cloud2.read_points(cloud)
    assert points.dtype.names == ("x", "n_0", "n_1")
    assert points.tolist() == rows
    assert point_cloud2.read_points(cloud, field_names=["n_1"])["n_1"].tolist() == [3, -5]
    with pytest.raises(AssertionError, match="are not in"):
        point_cloud2.read_points(cloud, field_names=["intensity"])
    with pytest.raises(NotImplementedError):
        point_cloud2.read_points(cloud, uvs=[(0, 0)])


def test_nans_are_skipped_on_demand():
    from sensor_msgs.msg import PointField

    fields = [PointField(name=n, offset=4 * i, datatype=7, count=1) for i, n in enumerate("xy")]
    rows = [(1.0, 2.0), (np.nan, 1.0), (3.0, 4.0)]
    cloud = cloud_of(fields, np.array(rows, [("x", "<f4"), ("y", "<f4")]))
    assert len(point_cloud2.read_points(cloud)) == 3
    assert point_cloud2.read_points(cloud, skip_nans=True)["x"].tolist() == [1.0, 3.0]


def test_the_stand_in_bridge_refuses_what_only_the_real_one_can():
    bridge = cv_bridge.CvBridge()
    image = ros_packages.make(
        "sensor_msgs/msg/Image",
        encoding="rgb8", height=2, width=2, step=6, data=np.arange(12, dtype=np.uint8),
    )  # fmt: skip
    assert bridge.imgmsg_to_cv2(image).shape == (2, 2, 3)
    with pytest.raises(cv_bridge.CvBridgeError, match="'hsv8' needs the real cv_bridge"):
        bridge.imgmsg_to_cv2(image, "hsv8")
    image.encoding = "32FC1"
    with pytest.raises(cv_bridge.CvBridgeError, match="'32FC1' is not one of rgb8"):
        bridge.imgmsg_to_cv2(image)
