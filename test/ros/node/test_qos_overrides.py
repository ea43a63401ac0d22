"""QoS overrides that no input takes are told."""

from __future__ import annotations

import pytest

rclpy = pytest.importorskip("rclpy")

from crkd_ros.node.qos_overrides import without_effect  # noqa: E402
from crkd_ros.parameters.framing import FramingConfig  # noqa: E402
from crkd_ros.parameters.topics import TopicsConfig  # noqa: E402

#: What is named for the whole vehicle holds, whatever sensors are in use.
FRAMING = FramingConfig(sensors=("CAM_FRONT",), topics=TopicsConfig(odometry=""))
INFO = "/cam_front/camera_info.subscription"


@pytest.mark.parametrize(
    ("names", "near"),
    [
        (["/cam_front/image_rect_compressed.subscription.reliability"], ""),
        ([f"{INFO}.{policy}" for policy in ("history", "depth", "durability")], ""),
        (["/radar_back_left.subscription.depth", "/tf.subscription.depth"], ""),
        (["/cam_fromt/camera_info.subscription.depth"], f"{INFO}.depth"),
        ([f"{INFO}.durabilty"], f"{INFO}.durability"),
        ([f"{INFO}.deadline"], f"{INFO}.depth"),
        (["cam_front/camera_info.subscription.depth"], f"{INFO}.depth"),
        (["/cam_front/camera_info.publisher.depth"], f"{INFO}.depth"),
        (["/other/cam_front/camera_info.subscription.depth", "x"], f"{INFO}.depth"),
    ],
)
def test_an_override_that_no_input_takes_is_told_with_the_nearest(names, near):
    context = rclpy.Context()
    rclpy.init(args=[], context=context)
    names = [f"qos_overrides.{name}" for name in names]
    given = [rclpy.parameter.Parameter(name, value=5) for name in names]
    node = rclpy.create_node("overrides", context=context, parameter_overrides=given)
    try:
        # Whoever else subscribes declares its own.
        node.declare_parameter("qos_overrides./tf.subscription.depth", 1)
        text = without_effect(node, FRAMING)
    finally:
        node.destroy_node()
        rclpy.shutdown(context=context)
    more = " (and 1 more)" if "qos_overrides.x" in names else ""
    said = f"{names[0]}{more} has no effect, for no input takes it; did you mean "
    assert text == (f"{said}'qos_overrides.{near}'?" if near else "")
