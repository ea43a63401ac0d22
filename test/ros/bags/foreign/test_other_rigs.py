"""Vehicles unlike that of nuScenes: nothing of what their bags say is taken for something else."""

from __future__ import annotations

import foreign_foxglove
import numpy as np
import pytest
import rig_bags
import ros_rig
from camera_messages import LENSES, camera_info
from rig_bags import IMAGE

from crkd_core.sensors import CAMERAS
from crkd_ros.bags.foreign.conversion import convert_bag
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.frames import Recording
from crkd_ros.bags.info import describe
from crkd_ros.bags.layout_search import find_layout
from crkd_ros.bags.message_types import BagError, make
from crkd_ros.bags.reader import open_bag
from crkd_ros.bags.recorded_calibration import CalibrationError, of_bag
from crkd_ros.convert.camera_model import CameraModel
from crkd_ros.parameters.framing import FramingConfig


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


def foxglove_file(path, *, pose=None):
    """Two raw, distorted images and clouds in Foxglove's JSON; r and p are left empty."""
    file = foreign_foxglove.FoxgloveFile(path, "json")
    for number in range(2):
        at = rig_bags.START + number * 100_000_000
        places = {
            name.lower(): ros_rig.extrinsics()[name] for name in ("CAM_FRONT", "RADAR_FRONT")
        }
        links = [("map", "base_link", ros_rig.map_T_base(at))]
        links += [("base_link", name, matrix) for name, matrix in places.items()]
        for link in links:
            moved = foreign_foxglove._transform(at, *link)
            file.write("/tf", "foxglove.FrameTransform", moved, at)
        time = foreign_foxglove._time(at)
        image = {"width": ros_rig.WIDTH, "height": ros_rig.HEIGHT, "encoding": "rgb8"}
        image |= {"step": 3 * ros_rig.WIDTH, "data": ros_rig.pixels(number).tobytes()}
        info = {"width": ros_rig.WIDTH, "height": ros_rig.HEIGHT, "R": [], "P": []}
        info |= {"K": ros_rig.INTRINSICS.ravel().tolist(), "D": list(LENSES["plumb_bob"])}
        info["distortion_model"] = "plumb_bob"
        cloud = ros_rig.radar_cloud(make, "RADAR_FRONT", at)
        kinds = {1: 2, 3: 4, 7: 7}
        points = {
            "point_stride": cloud.point_step,
            "fields": [
                {"name": one.name, "offset": one.offset, "type": kinds[one.datatype]}
                for one in cloud.fields
            ],
            "data": bytes(cloud.data),
        } | ({"pose": pose} if pose else {})
        for topic, name, fields in (
            ("/cam_front/image_raw", "RawImage", image),
            ("/cam_front/camera_info", "CameraCalibration", info),
            ("/radar_front", "PointCloud", points),
        ):
            head = {"timestamp": time, "frame_id": topic.split("/")[1]}
            file.write(topic, f"foxglove.{name}", {**head, **fields}, at)
    file.close()
    return path


def test_raw_images_and_distortion_of_foxglove_are_read(tmp_path) -> None:
    bag, out = foxglove_file(tmp_path / "bag.mcap"), tmp_path / "out"
    convert_bag(bag, out, image_format="png", progress=False)
    with Recording(out) as recording:
        frames = list(recording.frames(IMAGE, problems=[]))
    lens = camera_info(make, k=ros_rig.INTRINSICS, d=LENSES["plumb_bob"])
    lens.width, lens.height = ros_rig.WIDTH, ros_rig.HEIGHT
    model = CameraModel.of_info(lens, rectified=False)
    front = CAMERAS.index("CAM_FRONT")
    up = ros_rig.extrinsics()["CAM_FRONT"][2, :3]
    assert len(frames) == 2
    for number, frame in enumerate(frames):
        pixels, matrix = model.prepare(ros_rig.pixels(number), IMAGE, up=up)
        np.testing.assert_array_equal(frame.images[front], pixels)
        np.testing.assert_allclose(frame.intrinsics[front], matrix)
        assert len(frame.radar)


def test_a_cloud_with_a_pose_of_its_own_is_refused(tmp_path) -> None:
    def pose(x):
        place = {"x": x, "y": 0.0, "z": 0.0}
        return {"position": place, "orientation": {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}}

    bag = foxglove_file(tmp_path / "bag.mcap", pose=pose(1.0))
    with pytest.raises(BagError, match=r"/radar_front: none .* has a pose of its own") as caught:
        convert_bag(bag, tmp_path / "out", progress=False)
    assert "--topic RADAR_FRONT=" in str(caught.value)
    bag = foxglove_file(tmp_path / "right.mcap", pose=pose(0.0))
    assert convert_bag(bag, tmp_path / "out", progress=False).messages["/radar_front"] == 2


def test_a_message_in_another_frame_is_not_placed_as_the_first(tmp_path) -> None:
    """Two radars on one topic; a frame in other letters is the same one."""

    def change(topic, message, number):
        if topic == "/radar_front" and number % 2:
            message.header.frame_id = "radar_back_left"
        if topic == "/radar_back_right" and number % 2:
            message.header.frame_id = "/Radar_Back_Right"
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.4)
    done = convert_bag(bag, tmp_path / "out", kind=Kind.ROS2, progress=False)
    (said,) = [note for note in done.notes if "cannot be used" in note]
    assert said.startswith("/radar_front: 3 of 6 messages") and "'radar_back_left', the" in said
    assert done.messages["/radar_front"] == 3 and done.messages["/radar_back_right"] == 5


def test_two_parents_that_place_a_sensor_differently_are_refused(tmp_path) -> None:
    def with_footprint(x: float):
        place = ros_rig.extrinsics()["CAM_FRONT"].copy()
        place[0, 3] += x
        yield "/tf_static", rig_bags.tf_message("foot", {"base_link": np.eye(4)}, rig_bags.START)
        yield "/tf_static", rig_bags.tf_message("foot", {"cam_front": place}, rig_bags.START)
        yield from rig_bags.messages(0.3)

    same = rig_bags.write(tmp_path / "same", source=with_footprint(0.0))
    assert describe(same, progress=False).troubles == ()
    bag = rig_bags.write(tmp_path / "bag", source=with_footprint(0.5))
    text = "cam_front has static transforms from foot and from base_link"
    assert any(text in one for one in describe(bag, progress=False).troubles)
    with pytest.raises(BagError, match=text):
        Recording(bag)


def test_the_vehicles_frame_may_have_another_name(tmp_path) -> None:
    change = rig_bags.based_on("ego_vehicle")
    bag, out = rig_bags.write(tmp_path / "bag", change, seconds=0.3), tmp_path / "out"
    with pytest.raises(BagError, match=r"base_frame is base_link, .* lead from ego_vehicle to"):
        convert_bag(bag, out, kind=Kind.ROS2, progress=False)
    named = FramingConfig(base_frame="ego_vehicle")
    done = convert_bag(bag, out, kind=Kind.ROS2, framing=named, progress=False)
    assert "its ego_vehicle is called base_link in the new bag" in done.notes
    with Recording(bag, framing=named) as one, Recording(out) as other:
        mine, theirs = list(one.frames(IMAGE)), list(other.frames(IMAGE))
    assert len(mine) == len(theirs) > 1
    for frame, again in zip(mine, theirs, strict=True):
        np.testing.assert_allclose(frame.ego_T_cam, again.ego_T_cam, atol=1e-9)


def test_the_camera_info_of_another_topic_is_named(tmp_path) -> None:
    def change(topic, message, number):
        yield topic, message
        if topic == "/cam_front/image_rect_compressed":
            yield "/wide/image_rect_gray/compressed", message
        if topic == "/cam_back/camera_info":
            yield "/rear/camera_info", message
        if topic == "/cam_back/image_rect_compressed":
            yield "/rear/image_rect_gray/compressed", message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.3)
    named = {"CAM_FRONT": "/wide/image_rect_gray/compressed"}
    named["CAM_BACK"] = "/rear/image_rect_gray/compressed"
    with open_bag(bag) as opened:
        layout = find_layout(opened, named=named)
    assert layout.infos["CAM_BACK"].name == "/rear/camera_info"
    assert list(layout.sentences()) == [
        "CAM_FRONT: /cam_front/camera_info is taken for /wide/image_rect_gray/compressed"
    ]


def test_a_camera_that_was_calibrated_later_is_known(tmp_path) -> None:
    """Drivers publish zeros until they have read their file."""

    def change(topic, message, number):
        if topic == "/cam_front/camera_info" and number < 2:
            message.k = message.k * 0
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.4)
    assert describe(bag, progress=False).sensors["CAM_FRONT"].calibrated
    assert of_bag(bag).camera("cam_front") is not None


def test_a_camera_that_changes_is_in_no_file(tmp_path) -> None:
    def change(topic, message, number):
        if topic == "/cam_front/camera_info" and number > 2:
            message.k = message.k * [2, 1, 1, 1, 2, 1, 1, 1, 1]
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.4)
    with pytest.raises(CalibrationError, match="/cam_front/camera_info changes within the bag"):
        of_bag(bag)
