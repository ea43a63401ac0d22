"""What `crkd bag info` calls known is what a replay can use, whatever the rig sends."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import rig_bags
import ros_rig
from rig_bags import IMAGE, ROS2, SECOND, START

from crkd_ros.bags.foreign.conversion import convert_bag
from crkd_ros.bags.frames import BagProblem, Recording
from crkd_ros.bags.info import describe
from crkd_ros.bags.info_text import show
from crkd_ros.bags.message_types import BagError
from crkd_ros.bags.recorded_calibration import of_bag
from crkd_ros.convert.arrays import stamp_fields, stamp_ns
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.parameters.framing import FramingConfig

STEREO = (250.0, 0, 160, -30, 0, 250, 90, 0, 0, 0, 1, 0)
CAMERA = "/cam_front/image_rect_compressed"


def advice(path: Path, capsys) -> str:
    """The last line of what is shown of a bag."""
    show(describe(path, progress=False), path)
    return capsys.readouterr().out.strip().splitlines()[-1]


def whole_frames(path: Path, calibration: Path | None = None) -> int:
    """How many frames a replay makes with six cameras."""
    problems: list[BagProblem] = []
    file = None if calibration is None else Calibration.load(calibration)
    with Recording(path, calibration=file) as recording:
        frames = list(recording.frames(IMAGE, problems=problems))
    return sum(all(image is not None for image in frame.images) for frame in frames)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"distortion_model": "omni", "d": np.array([0.1, 0.2])}, "'omni' is not known"),
        ({"width": 640, "height": 360}, "CameraInfo is for 640 x 360 pixels, the image has 320"),
        ({"p": np.array(STEREO)}, "the second camera of a stereo pair"),
    ],
)
def test_a_camera_info_that_a_replay_refuses_is_not_called_known(
    tmp_path, capsys, fields, reason
) -> None:
    def change(topic, message, number):
        if topic == "/cam_front/camera_info":
            for name, value in fields.items():
                setattr(message, name, value)
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change)
    info = describe(bag, progress=False)
    assert info.frames == 12 and info.moving == whole_frames(bag) == 0
    assert info.missing == ("intrinsics of cam_front",) and info.refused == ("CAM_FRONT",)
    (trouble,) = info.troubles
    assert reason in trouble and "camera_info of cam_front" in trouble
    assert advice(bag, capsys).endswith(f"convert {bag} OUT --kind ros2 --calibration FILE")
    with pytest.raises(BagError, match="does not hold the intrinsics of cam_front") as refused:
        convert_bag(bag, tmp_path / "out", kind=ROS2, progress=False)
    assert reason in str(refused.value) and not (tmp_path / "out").exists()
    of_bag(rig_bags.write(tmp_path / "good")).save(tmp_path / "file.yaml")
    convert_bag(bag, tmp_path / "out", calibration=tmp_path / "file.yaml", progress=False)
    assert whole_frames(tmp_path / "out") == 12
    # A replay believes CameraInfo before the file.
    info = describe(bag, calibration=tmp_path / "file.yaml", progress=False)
    assert info.moving == whole_frames(bag, tmp_path / "file.yaml") == 0


def test_images_that_cannot_be_read_are_said(tmp_path, capsys) -> None:
    def change(topic, message, number):
        if topic == CAMERA:
            message.format, message.data = "h264", np.frombuffer(b"\0\0\0\1video", np.uint8)
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change)
    info = describe(bag, progress=False)
    assert info.moving == whole_frames(bag) == 0 and info.unused == ("CAM_FRONT",)
    assert any("images of cam_front" in text and "video (H.264)" in text for text in info.troubles)
    assert advice(bag, capsys).startswith("next: mend what is said above")


def test_first_messages_that_tell_nothing_do_not_speak_for_the_rest(tmp_path) -> None:
    """Drivers that come up: empty images, clouds without fields; then another maker's clouds."""

    def change(topic, message, number):
        message = copy.deepcopy(message)
        if topic == CAMERA and number < 3:
            message.data = np.zeros(0, np.uint8)
        if topic == "/radar_front" and number < 3:
            message.fields, message.data = [], np.zeros(0, np.uint8)
            message.width = message.row_step = 0
        elif topic == "/radar_front":
            message.fields = [one for one in message.fields if one.name != "rcs"]
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change)
    info = describe(bag, progress=False)
    assert info.foreign == ("RADAR_FRONT",) and not info.troubles
    of_bag(rig_bags.write(tmp_path / "good")).save(tmp_path / "file.yaml")
    describe(bag, calibration=tmp_path / "file.yaml", progress=False)


def test_a_file_places_sensors_as_it_does_in_a_replay(tmp_path) -> None:
    """By the frames of their messages; a copy may have them under the sensors' names."""

    def change(topic, message, number):
        if "static" not in topic:
            if topic != "/odom":
                message.header.frame_id += "_optical"
            yield topic, message

    file = tmp_path / "file.yaml"
    ros_rig.calibration().save(file)
    bag = rig_bags.write(tmp_path / "bag", change)
    info = describe(bag, calibration=file, progress=False)
    assert info.moving == whole_frames(bag, file) == 0
    assert info.missing[0].startswith("the place of cam_front, ")
    convert_bag(bag, tmp_path / "out", calibration=file, progress=False)
    assert whole_frames(tmp_path / "out") == 12


@pytest.mark.parametrize("to", [0, 5 * SECOND])
def test_a_sensor_that_no_frame_has_is_no_bag_to_be_played_as_it_is(tmp_path, capsys, to) -> None:
    """No stamps, or those of the time since boot: its messages are set aside."""

    def change(topic, message, number):
        if topic == CAMERA:
            now = stamp_ns(message.header.stamp) - START + to if to else 0
            for name, value in stamp_fields(now).items():
                setattr(message.header.stamp, name, value)
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change)
    info = describe(bag, progress=False)
    assert info.moving == info.frames == 12 and info.unused == ("CAM_FRONT",)
    assert "mend what is said above of cam_front" in advice(bag, capsys)


def test_a_vehicle_whose_frame_has_another_name_is_told_of_base_frame(tmp_path, capsys) -> None:
    """Not to stand still, as one whose motion is missing."""
    bag = rig_bags.write(tmp_path / "bag", rig_bags.based_on("robot1/base_link"))
    (place,) = [text for text in describe(bag, progress=False).missing if "the place" in text]
    assert "base_frame is base_link, and the bag's transforms lead from robot1/base_link" in place
    assert "say which of its frames is the vehicle's: base_frame" in advice(bag, capsys)
    info = describe(bag, framing=FramingConfig(base_frame="robot1/base_link"), progress=False)
    assert info.missing == () and not info.hindrance and info.moving == info.frames > 0
