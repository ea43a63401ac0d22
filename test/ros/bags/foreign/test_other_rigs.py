"""Vehicles unlike that of nuScenes: nothing of what their bags say is taken for something else."""

from __future__ import annotations

import pytest
import rig_bags

from crkd_ros.bags.foreign.conversion import convert_bag
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.info import describe
from crkd_ros.bags.message_types import BagError


def test_the_place_of_another_frame_does_not_stand_in(tmp_path) -> None:
    """A body frame cam_front has other axes than the cam_front_optical of the images."""

    def change(topic, message, number):
        if topic.startswith("/cam_front/"):
            message.header.frame_id = "cam_front_optical"
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.3)
    told = describe(bag, progress=False)
    assert not told.sensors["CAM_FRONT"].placed and told.sensors["CAM_BACK"].placed
    assert told.moving == 0, "a replay drops every frame of it"
    with pytest.raises(BagError, match="poses on the vehicle of cam_front ") as caught:
        convert_bag(bag, tmp_path / "out", kind=Kind.ROS2, progress=False)
    assert "are in cam_front_optical; base_frame is base_link" in str(caught.value)
    assert "lead from base_link to cam_back, " in str(caught.value)
