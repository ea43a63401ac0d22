"""The node is told the names of a bag that has others than its own."""

from __future__ import annotations

import pytest
import rig_bags
import ros_rig
from camera_messages import raw

from crkd_ros.bags.frames import layout_of
from crkd_ros.bags.message_types import make
from crkd_ros.node.launching import detector_command
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.parameters.topics import TopicsConfig
from crkd_ros.streaming_eval.naming import Naming, naming
from crkd_ros.streaming_eval.players import SessionError


def test_our_own_names_need_nothing(tmp_path) -> None:
    bag = rig_bags.write(tmp_path / "bag", seconds=0.2)
    assert naming(layout_of(bag)) == Naming(odometry="/odom")


def elsewhere(kinds):
    """Raw images under other names, of the cameras named."""

    def change(topic, message, number):
        name = topic.split("/")[1]
        if topic.endswith("image_rect_compressed") and name in kinds:
            image = raw(make, "rgb8", ros_rig.pixels(1), width=ros_rig.WIDTH)
            image.header = message.header
            yield f"/sensors/{name}/image_raw", image
        elif topic == "/odom":
            yield "/ekf/odometry", message
        else:
            yield topic, message

    return change


def test_raw_images_and_other_names_are_remapped(tmp_path) -> None:
    every = [name.lower() for name in ros_rig.CAMERAS]
    bag = rig_bags.write(tmp_path / "bag", elsewhere(every), seconds=0.2)
    found = naming(layout_of(bag))
    assert found.parameters == {"image_transport": "raw"} and found.odometry == "/ekf/odometry"
    assert found.remaps["cam_back/image_rect"] == "/sensors/cam_back/image_raw"
    assert found.remaps["odom"] == "/ekf/odometry" and "cam_back/camera_info" not in found.remaps
    command = detector_command(found.parameters, remaps=found.remaps)
    assert "cam_back/image_rect:=/sensors/cam_back/image_raw" in command


def test_names_and_images_that_the_node_is_told_anyway_are_left(tmp_path) -> None:
    bag = rig_bags.write(tmp_path / "bag", seconds=0.2)
    topics = TopicsConfig(radar="points/<sensor>", odometry="/odom")
    told = FramingConfig(image_transport="raw", topics=topics)
    found = naming(layout_of(bag, told), told)
    assert found.parameters == {"image_transport": "compressed"}
    radars = {f"points/{name.lower()}": f"/{name.lower()}" for name in ros_rig.RADARS}
    assert found.remaps == radars


def test_images_of_two_kinds_are_refused(tmp_path) -> None:
    bag = rig_bags.write(tmp_path / "bag", elsewhere(["cam_front"]), seconds=0.2)
    with pytest.raises(SessionError, match=r"CompressedImage: .*; Image: cam_front; convert it"):
        naming(layout_of(bag))
