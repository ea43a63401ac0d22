"""Of several topics for one sensor the sensor's own is taken, whatever their names sort like."""

from __future__ import annotations

from pathlib import Path

import command_lines
import cv2
import numpy as np
import pytest
import rig_bags
import ros_rig
from camera_messages import raw
from rig_bags import IMAGE

from crkd_core.data.radar import to_records
from crkd_core.sensors import CAMERAS
from crkd_ros.bags.foreign.conversion import convert_bag
from crkd_ros.bags.frames import Recording, layout_of
from crkd_ros.bags.info import describe
from crkd_ros.bags.message_types import BagError, make
from crkd_ros.bags.reader import open_bag, topics_of
from crkd_ros.bags.recorded_calibration import CalibrationError, of_bag
from crkd_ros.parameters.framing import FramingConfig
from crkd_ros.parameters.topics import TopicsConfig

OWN = "/cam_front/image_rect_compressed"


def picture(message, width: int, height: int, *, grey: bool = False):
    """Another picture of the same moment."""
    pixels = cv2.resize(ros_rig.pixels(3), (width, height))
    done, data = cv2.imencode(".jpg", pixels[..., 1] if grey else pixels)
    assert done
    return make(
        "sensor_msgs/msg/CompressedImage",
        header=message.header,
        format="jpeg",
        data=data.ravel(),
    )


def depth(message):
    image = raw(make, "16UC1", np.full((18, 32), 900, np.uint16), width=32)
    image.header = message.header
    return image


def raw_image(message, width=ros_rig.WIDTH, height=ros_rig.HEIGHT):
    pixels = cv2.resize(ros_rig.pixels(3), (width, height))
    image = raw(make, "rgb8", pixels, width=width)
    image.header = message.header
    return image


def beside(*others):
    """A change: topics beside the front camera's own, (name, message of its image) each."""

    def change(topic, message, number):
        yield topic, message
        if topic == OWN:
            for name, build in others:
                one = build(message, number)
                if one is not None:
                    yield name, one

    return change


OTHERS = {
    "depth aligned to colour": ("/cam_front/aligned_depth_to_color/image", lambda m, n: depth(m)),
    "depth named as an image": ("/cam_front/a_image_rect", lambda m, n: depth(m)),
    "one message of a sibling": (
        "/cam_front/image_rect",
        lambda m, n: raw_image(m) if n == 2 else None,
    ),
    "half of the messages": (
        "/cam_front/image_color",
        lambda m, n: raw_image(m) if n % 2 else None,
    ),
    "an overlay": ("/cam_front/annotated/image_rect", lambda m, n: raw_image(m)),
    "a detector's picture": ("/cam_front/detections_image", lambda m, n: picture(m, 320, 180)),
    "infrared": ("/cam_front/a/image_raw", lambda m, n: picture(m, 320, 180, grey=True)),
    "a preview": ("/cam_front/a/image", lambda m, n: picture(m, 80, 45)),
    "video": (
        "/cam_front/a/compressed",
        lambda m, n: make(
            "sensor_msgs/msg/CompressedImage",
            header=m.header,
            format="h264",
            data=np.array([0, 0, 0, 1, 9], np.uint8),
        ),
    ),
}


@pytest.mark.parametrize("what", OTHERS)
@pytest.mark.parametrize("own", [OWN, "/cam_front/image_raw/compressed", "/cam_front/zz/image"])
def test_the_picture_itself_is_taken(what, own, tmp_path) -> None:
    name, build = OTHERS[what]

    def change(topic, message, number):
        for one, what in beside((name, build))(topic, message, number):
            yield own if one == OWN else one, what

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.5)
    layout = layout_of(bag)
    assert layout.images["CAM_FRONT"].name == own, list(layout.sentences())
    ((other, reason),) = layout.passed["CAM_FRONT"]
    assert other == name and reason
    (sentence,) = layout.sentences()
    assert sentence.startswith(f"CAM_FRONT: {own} is taken, not {name}: ")


def test_an_empty_compressed_sibling_is_passed_over(tmp_path) -> None:
    def change(topic, message, number):
        if topic == OWN:
            yield "/cam_front/image_raw", raw_image(message)
        else:
            yield topic, message

    from crkd_ros.bags.writer import BagWriter

    with BagWriter(tmp_path / "bag") as bag:
        bag.add_topic("/cam_front/image_raw/compressed", "sensor_msgs/msg/CompressedImage")
        for topic, message in rig_bags.messages(0.3):
            for name, one in change(topic, message, 0):
                bag.write(name, one, rig_bags.recorded_at(name, one))
    layout = layout_of(tmp_path / "bag")
    assert layout.images["CAM_FRONT"].name == "/cam_front/image_raw"
    assert layout.passed["CAM_FRONT"] == (
        ("/cam_front/image_raw/compressed", "it holds no message"),
    )


def test_a_debug_cloud_is_not_the_radar(tmp_path) -> None:
    def change(topic, message, number):
        yield topic, message
        if topic == "/radar_front":
            plain = to_records(ros_rig.radar_points(1))[["x", "y", "z"]].astype("<f4,<f4,<f4")
            plain.dtype.names = ("x", "y", "z")
            head = message.header.frame_id, ros_rig.START if hasattr(ros_rig, "START") else 0
            cloud = ros_rig.cloud(make, head[0], 0, plain)
            cloud.header = message.header
            yield "/a_debug/radar_front", cloud
            yield "/a_tracks/radar_front", message

    layout = layout_of(rig_bags.write(tmp_path / "bag", change, seconds=0.5))
    assert layout.radars["RADAR_FRONT"].name == "/radar_front"
    reasons = dict(layout.passed["RADAR_FRONT"])
    assert "fields" in reasons["/a_debug/radar_front"]
    assert "its name says" in reasons["/a_tracks/radar_front"]


def test_the_camera_info_is_that_of_the_picture(tmp_path) -> None:
    """Two streams of one camera, each with its own CameraInfo."""

    def change(topic, message, number):
        if topic == OWN:
            yield "/cam_front/color/image_raw/compressed", message
            yield "/cam_front/a_depth/image", depth(message)
        elif topic == "/cam_front/camera_info":
            yield "/cam_front/color/camera_info", message
            other = ros_rig.camera_info(make, "CAM_FRONT", 0, k=ros_rig.INTRINSICS * 3)
            other.header = message.header
            yield "/cam_front/a_depth/camera_info", other
        else:
            yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=0.5)
    assert layout_of(bag).infos["CAM_FRONT"].name == "/cam_front/color/camera_info"
    np.testing.assert_allclose(of_bag(bag).intrinsics("cam_front"), ros_rig.INTRINSICS)


def fleet(path: Path, **moves: float) -> Path:
    """Several vehicles with the same frames, the sensors of each so many metres higher."""

    def change(topic, message, number):
        for name, metres in moves.items():
            if topic == "/tf_static":
                places = ros_rig.extrinsics()
                for pose in places.values():
                    pose[2, 3] += metres
                yield f"/{name}{topic}", rig_bags.static_tf(places)
            elif not (name == "one" and topic == "/cam_back/image_rect_compressed" and number % 3):
                yield f"/{name}{topic}", message

    return rig_bags.write(path, change, seconds=0.5)


def test_of_several_vehicles_one_is_read(tmp_path) -> None:
    bag = fleet(tmp_path / "bag", one=0.0, two=0.7)
    with pytest.raises(
        BagError, match=r"2 vehicles, below /one and /two; .*--topic CAM_FRONT=/one"
    ):
        layout_of(bag)
    own = ros_rig.extrinsics()["CAM_FRONT"][2, 3]
    for name, height in (("one", own), ("two", own + 0.7)):
        with Recording(bag, topics={"RADAR_FRONT": f"/{name}/radar_front"}) as recording:
            layout = recording.layout
            topics = [*layout.sensors.values(), *layout.infos.values(), *layout.transforms]
            assert all(one.name.startswith(f"/{name}/") for one in (*topics, *layout.odometry))
            assert len(topics) == 18
            assert recording.extrinsics.base_T("cam_front")[2, 3] == pytest.approx(height)
            assert recording.source.taken.name == f"/{name}/odom"
        (other,) = {"one", "two"} - {name}
        assert f"topics below /{other} are not read" in next(layout.sentences())
    names = TopicsConfig(image_compressed="two/<sensor>/image_rect_compressed")
    assert layout_of(bag, FramingConfig(topics=names)).others == ("/one",)


def test_transforms_of_another_vehicle_are_not_read(tmp_path) -> None:
    """It has no sensors in the bag, or the sensors' names do not say whose they are."""

    def change(topic, message, number):
        yield "/one" + topic, message
        if topic in ("/tf_static", "/odom"):
            yield "/two" + topic, message

    layout = layout_of(rig_bags.write(tmp_path / "bag", change, seconds=0.3))
    assert [one.name for one in (*layout.transforms, *layout.odometry)] == [
        "/one/tf_static",
        "/one/odom",
    ]

    def shared(topic, message, number):
        yield topic, message
        if topic == "/tf_static":
            places = {name: pose @ pose for name, pose in ros_rig.extrinsics().items()}
            yield "/two/tf_static", rig_bags.static_tf(places)

    bag = rig_bags.write(tmp_path / "shared", shared, seconds=0.3)
    match = "/tf_static and /two/tf_static say different static transforms of cam_back"
    with pytest.raises(BagError, match=match):
        Recording(bag)
    with pytest.raises(BagError, match=match):
        convert_bag(bag, tmp_path / "out", kind=rig_bags.ROS2, progress=False)
    with pytest.raises(CalibrationError, match=match):
        of_bag(bag)
    assert any("say different" in one for one in describe(bag, progress=False).troubles)
    with Recording(bag, calibration=ros_rig.calibration()) as recording:
        assert list(recording.frames(IMAGE))


def test_a_throttled_copy_of_the_sensors_is_no_vehicle(tmp_path) -> None:
    def change(topic, message, number):
        yield topic, message
        if topic.startswith(("/cam", "/radar")) and number % 3 == 0:
            yield "/throttled" + topic, message

    layout = layout_of(rig_bags.write(tmp_path / "bag", change, seconds=0.5))
    assert layout.others == () and layout.images["CAM_FRONT"].name == OWN


@pytest.fixture
def elsewhere(tmp_path) -> Path:
    """A bag whose front camera is called otherwise."""
    names = {OWN: "/camera/image_raw", "/cam_front/camera_info": "/camera/camera_info"}

    def change(topic, message, number):
        yield names.get(topic, topic), raw_image(message) if topic == OWN else message

    return rig_bags.write(tmp_path / "elsewhere", change, seconds=0.5)


def test_the_user_names_topics_wherever_a_bag_is_read(elsewhere, tmp_path) -> None:
    named = {"cam_front": "camera/image_raw"}
    assert "CAM_FRONT" not in layout_of(elsewhere).images
    layout = layout_of(elsewhere, topics=named)
    assert layout.images["CAM_FRONT"].name == "/camera/image_raw"
    assert layout.infos["CAM_FRONT"].name == "/camera/camera_info"
    with Recording(elsewhere, topics=named) as recording:
        found = list(recording.frames(IMAGE))
    front = CAMERAS.index("CAM_FRONT")
    assert found and all(frame.images[front] is not None for frame in found)
    assert describe(elsewhere, topics=named, progress=False).sensors["CAM_FRONT"].placed
    assert of_bag(elsewhere, topics=named).camera("cam_front") is not None
    convert_bag(elsewhere, tmp_path / "out", topics=named, progress=False)
    assert "/cam_front/image_raw/compressed" in topics_of(tmp_path / "out")
    # And a sensor can be left out, a CameraInfo named.
    less = layout_of(elsewhere, topics={"CAM_BACK": "", "odometry": ""})
    assert "CAM_BACK" not in less.images and less.odometry == ()
    other = {**named, "CAM_FRONT/camera_info": "/cam_back/camera_info"}
    assert layout_of(elsewhere, topics=other).infos["CAM_FRONT"].name == "/cam_back/camera_info"


@pytest.mark.parametrize(
    ("named", "error"),
    [
        ({"CAM_FRNT": "/a"}, "CAM_FRNT is no sensor; did you mean CAM_FRONT"),
        ({"CAM_FRONT": "/camera/image_rw"}, "has no such topic; did you mean /camera/image_raw"),
        ({"CAM_FRONT": "/odom"}, "expected .*CompressedImage or .*Image, it is .*Odometry"),
        ({"RADAR_FRONT": "/camera/image_raw"}, "expected .*PointCloud2"),
        ({"odometry": "/tf_static"}, "expected nav_msgs/msg/Odometry"),
        ({"RADAR_FRONT": "radar_back_left"}, r"RADAR_BACK_LEFT and of RADAR_FRONT.*BACK_LEFT=\)"),
        ({"LIDAR_TOP": "radar_front"}, r"/radar_front would be .*\(--topic RADAR_FRONT=\)"),
    ],
)
def test_wrong_names_are_refused(elsewhere, named, error) -> None:
    with pytest.raises(BagError, match=error):
        layout_of(elsewhere, topics=named)


def test_the_parameters_names_hold_where_the_bag_has_them(tmp_path) -> None:
    bag = rig_bags.write(tmp_path / "bag", beside(OTHERS["an overlay"]), seconds=0.3)
    chosen = TopicsConfig(image_raw="<sensor>/annotated/image_rect")
    framing = FramingConfig(topics=chosen, image_transport="raw")
    layout = layout_of(bag, framing)
    assert layout.images["CAM_FRONT"].name == "/cam_front/annotated/image_rect"
    assert layout.images["CAM_BACK"].name == "/cam_back/image_rect_compressed"


def test_the_commands_take_and_tell_topics(elsewhere, tmp_path) -> None:
    option = ("--topic", "CAM_FRONT=/camera/image_raw")
    shown = command_lines.run("bag:app", "info", elsewhere, *option)
    assert shown.returncode == 0 and "/camera/image_raw" in shown.stdout, shown.stderr
    done = command_lines.run("bag:app", "convert", elsewhere, tmp_path / "out", *option)
    assert done.returncode == 0, done.stderr
    wrong = command_lines.run("bag:app", "info", elsewhere, "--topic", "CAM_FRONT")
    assert wrong.returncode == 1 and "--topic: expected SENSOR=/TOPIC" in wrong.stderr
    with open_bag(tmp_path / "out") as bag:
        assert "/cam_front/camera_info" in bag.topics
