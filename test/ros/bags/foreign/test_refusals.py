"""What `crkd bag convert` refuses, in which words, and that nothing half-made remains."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import command_lines
import foreign
import foreign_foxglove
import numpy as np
import pytest
import rig_bags
from handmade import write_version
from mcap.writer import Writer as McapWriter
from rosbags.rosbag2 import Reader, Writer
from typer.testing import CliRunner

from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.sensors import RADARS
from crkd_ros.bags.foreign.conversion import convert_bag
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.frames import Recording
from crkd_ros.bags.info import describe
from crkd_ros.bags.message_types import BagError, make
from crkd_ros.bags.nuscenes import write_bag
from crkd_ros.bags.reader import read_bag, topics_of
from crkd_ros.bags.recorded_calibration import of_bag
from crkd_ros.bags.writer import BagWriter
from crkd_ros.commands.bag import app
from crkd_ros.convert.arrays import stamp_fields
from crkd_ros.motion.calibration_file import Calibration, CameraEntry
from crkd_ros.motion.pose_table import PoseTable
from crkd_ros.parameters.framing import FramingConfig, MotionConfig

SCENE = "scene-0103"


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> NuScenes:
    root = tmp_path_factory.mktemp("data")
    return NuScenes(write_version(root, samples=2, scenes=(SCENE,)))


@pytest.fixture(scope="module")
def chris(tables, tmp_path_factory) -> Path:
    return foreign.chris7462(tables, SCENE, tmp_path_factory.mktemp("chris") / "bag")


@pytest.fixture(scope="module")
def watonomous(tables, tmp_path_factory) -> Path:
    return foreign.watonomous(tables, SCENE, tmp_path_factory.mktemp("waterloo") / "bag")


def poses_file(tables: NuScenes, path: Path, *, intrinsics: bool) -> Path:
    known = Calibration()
    for record in foreign.records_of(tables, SCENE):
        name = record.channel.lower()
        known.add("base_link", name, record.ego_T_sensor)
        if intrinsics and record.intrinsics[0, 0] > 0:
            known.add_camera(name, CameraEntry(intrinsics=record.intrinsics))
    known.save(path)
    return path


def refused(match: str, source: Path, out: Path, **options) -> str:
    with pytest.raises(BagError, match=match) as caught:
        convert_bag(source, out, progress=False, **options)
    assert not out.exists() and (not out.parent.exists() or list(out.parent.iterdir()) == [])
    return str(caught.value)


def test_everything_that_is_missing_is_named_at_once(tables, chris, tmp_path) -> None:
    out = tmp_path / "out" / "bag"
    text = refused("poses on the vehicle of cam_front, .*radar_back_right", chris, out)
    assert "Chris7462/nuscenes_to_ros2bag" in text and "intrinsics" not in text
    assert "crkd calibration write" in text and "--calibration FILE" in text
    bag = foreign.nuscenes2bag(tables, SCENE, tmp_path / "x.bag", ros1=True)
    text = refused("intrinsics of cam_front, .*no --calibration is given", bag, out)
    assert "poses" not in text
    file = poses_file(tables, tmp_path / "poses.yaml", intrinsics=False)
    refused(r"intrinsics of .* nor does .*poses\.yaml", bag, out, calibration=file)


def test_a_calibration_of_other_images_is_refused(tables, chris, tmp_path) -> None:
    file = poses_file(tables, tmp_path / "file.yaml", intrinsics=True)
    text = file.read_text().replace(
        "  intrinsics:", "  image_size: [1600, 900]\n    intrinsics:", 1
    )
    file.write_text(text)
    out = tmp_path / "out" / "bag"
    refused(
        r"for images of \(1600, 900\) pixels, those of .* \(96, 54\)", chris, out, calibration=file
    )


def test_our_own_bag_needs_no_conversion(tables, tmp_path) -> None:
    write_bag(tables, SCENE, tmp_path / "ours", with_lidar=False, progress=False)
    refused("the layout of crkd bag already", tmp_path / "ours", tmp_path / "out" / "bag")


def advice(bag: Path, *options: object) -> str:
    """The last line of what is shown of a bag."""
    shown = CliRunner().invoke(app, ["info", *map(str, (bag, *options))])
    assert shown.exit_code == 0, shown.exception
    return shown.stdout.strip().splitlines()[-1]


def test_a_bag_is_played_as_it_is_only_if_it_lacks_nothing(tmp_path) -> None:
    def without(start: str):
        return lambda topic, message, number: [(topic, message)] * (start not in topic)

    def renamed(topic, message, number):
        if topic.startswith("/radar_front"):
            message.fields = [one for one in message.fields if one.name != "vx_comp"]
        yield topic, message

    def unplaced(topic, message, number):
        if topic == "/tf_static":
            message.transforms = message.transforms[1:]
        yield topic, message

    def cut(topic, message, number):
        if topic != "/odom" or number < 20:
            yield topic, message

    file = tmp_path / "file.yaml"
    whole = rig_bags.write(tmp_path / "whole")
    of_bag(whole).save(file)
    assert advice(whole) == "play it as it is"
    for name, change in (("info", without("camera_info")), ("place", unplaced)):
        bag = rig_bags.write(tmp_path / name, change)
        assert describe(bag, progress=False).moving == 0
        text = f"crkd bag convert {bag} OUT --kind ros2 --calibration"
        assert advice(bag).endswith(f"{text} FILE") and "calibration_file" in advice(bag)
        assert describe(bag, calibration=file, progress=False).moving == 12
        convert_bag(bag, tmp_path / f"{name} out", calibration=file, progress=False)
        assert advice(tmp_path / f"{name} out") == "play it as it is"
    bag = rig_bags.write(tmp_path / "fields", renamed)
    found = describe(bag, progress=False)
    assert found.foreign == tuple(name for name in RADARS if "FRONT" in name) and not found.moving
    assert "with radar_fields of radar_front, radar_front_left" in advice(bag)
    bag = rig_bags.write(tmp_path / "cut", cut)
    found = describe(bag, progress=False)
    assert 0 < found.moving < found.frames
    assert advice(bag) == f"play it as it is: {found.moving} of its 12 frames are whole"


def test_our_layout_is_known_by_its_names(tmp_path) -> None:
    def renamed(topic, message, number):
        yield topic.replace("/cam_front/", "/drive/cam_front/"), message

    def odometry(topic, message, number):
        yield topic.replace("/odom", "/localization/kinematic_state"), message

    for name, change in (("camera", renamed), ("odometry", odometry)):
        bag = rig_bags.write(tmp_path / name, change)
        assert describe(bag, progress=False).kind is Kind.ROS2
        convert_bag(bag, tmp_path / f"{name} out", progress=False)
        assert describe(tmp_path / f"{name} out", progress=False).kind is Kind.OURS
    whole = rig_bags.write(tmp_path / "whole")
    convert_bag(whole, tmp_path / "out", topics={"CAM_BACK": ""}, progress=False)
    assert "/cam_back/image_rect_compressed" not in topics_of(tmp_path / "out")


def test_a_bag_of_something_else_lists_its_topics(tmp_path) -> None:
    with BagWriter(tmp_path / "other") as bag:
        bag.write("/chatter", make("std_msgs/msg/String", data="x"), 10**9)
    text = refused("no camera image and no radar", tmp_path / "other", tmp_path / "out" / "bag")
    assert "/chatter (std_msgs/msg/String)" in text


def test_files_that_are_no_bags(tmp_path) -> None:
    out = tmp_path / "out" / "bag"
    refused("no such bag", tmp_path / "none", out)
    for name, wanted in (("a.bag", "ROS 1 bag"), ("a.mcap", "rosbag2"), ("a.txt", "rosbag2")):
        (tmp_path / name).write_bytes(b"not a bag at all")
        refused(f"{name}: not a readable {wanted}", tmp_path / name, out)


def test_mcap_of_ros1_messages_and_cut_mcap(tables, tmp_path) -> None:
    out = tmp_path / "out" / "bag"
    with (tmp_path / "old.mcap").open("wb") as stream:
        writer = McapWriter(stream)
        writer.start(profile="ros1", library="x")
        writer.finish()
    refused("mcap with ROS 1 messages", tmp_path / "old.mcap", out)
    whole = foreign_foxglove.nuscenes2mcap(tables, SCENE, tmp_path / "whole.mcap")
    cut = tmp_path / "cut.mcap"
    cut.write_bytes(whole.read_bytes()[:-200])
    refused("cut.mcap: ", cut, out)


def test_a_kind_must_fit_the_file(watonomous, tmp_path) -> None:
    out = tmp_path / "out" / "bag"
    refused("is a rosbag2, so it cannot be nuscenes2bag", watonomous, out, kind=Kind.NUSCENES2BAG)
    refused("cannot be foxglove-mcap", watonomous, out, kind=Kind.FOXGLOVE_MCAP)


def rewritten(source: Path, out: Path, change) -> Path:
    """A copy; ``change(topic, message) -> message or None`` to drop it."""
    with BagWriter(out) as bag:
        for record in read_bag(source):
            message = change(record.topic, record.message())
            if message is not None:
                bag.write(record.topic, message, record.stamp_ns)
    return out


def with_service(source: Path, out: Path, topic: str = "/a/_service_event") -> Path:
    """A copy with a topic whose definition no parser of messages reads."""
    with Reader(source) as reader, Writer(out, version=9) as writer:
        connections = {
            one.id: writer.add_connection(
                one.topic, one.msgtype, msgdef=one.msgdef.data, rihs01=one.digest or "RIHS01_0"
            )
            for one in reader.connections
            if one.topic != topic
        }
        service = writer.add_connection(
            topic, "a/srv/RadarObjects", msgdef="int32 x\n---\nint32 y\n", rihs01="RIHS01_1"
        )
        for one, stamp, data in reader.messages():
            if one.topic != topic:
                writer.write(connections[one.id], stamp, data)
        writer.write(service, stamp, b"\x00\x01\x00\x00")
    return out


def test_an_unreadable_definition_elsewhere_hinders_nothing(watonomous, tmp_path) -> None:
    bag = with_service(watonomous, tmp_path / "bag")
    found, clean = describe(bag, progress=False), describe(watonomous, progress=False)
    assert set(found.unreadable) == {"/a/_service_event"} and clean.unreadable == {}
    assert dataclasses.replace(found, unreadable={}, sensors=clean.sensors) == clean
    shown = command_lines.run("bag:app", "info", bag)
    assert shown.returncode == 0, shown.stderr
    assert "not read: /a/_service_event, a/srv/RadarObjects: its definition" in shown.stdout
    options = {"with_lidar": False, "progress": False}
    done = convert_bag(bag, tmp_path / "out", **options)
    assert any(note.startswith("/a/_service_event is not read: a/srv/") for note in done.notes)
    convert_bag(watonomous, tmp_path / "clean", **options)
    assert list(read_bag(tmp_path / "out")) == list(read_bag(tmp_path / "clean"))


def test_an_unreadable_definition_of_a_sensor_is_an_error(watonomous, tmp_path) -> None:
    bag = with_service(watonomous, tmp_path / "bag", topic="/RADAR_FRONT")
    refused("/RADAR_FRONT: .*a/srv/RadarObjects: .* cannot be read", bag, tmp_path / "out" / "bag")


def test_empty_stamps_need_the_users_word(watonomous, tmp_path) -> None:
    def unstamped(topic, message):
        if topic == "/RADAR_FRONT":
            message.header = make("std_msgs/msg/Header", frame_id="RADAR_FRONT")
        return message

    bag = rewritten(watonomous, tmp_path / "bag", unstamped)
    out = tmp_path / "out" / "bag"
    match = "headers of radar_front have no stamp.*--stamps record; .* --topic RADAR_FRONT="
    refused(match, bag, out)
    found = describe(bag, progress=False)
    assert found.frames and any("radar_front have no stamp" in one for one in found.troubles)
    refused("headers of radar_front have no stamp", bag, out, stamps="header")


def test_a_replay_of_a_bag_without_stamps_says_so(tmp_path) -> None:
    with BagWriter(tmp_path / "bag") as bag:
        for topic, message in rig_bags.messages():
            at = rig_bags.recorded_at(topic, message)
            if topic.startswith(("/cam", "/radar")):
                message.header.stamp = make("builtin_interfaces/msg/Time")
            bag.write(topic, message, at)
    match = r"headers of cam_back.* have no stamp.*crkd bag convert .*bag OUT --stamps record"
    with pytest.raises(BagError, match=match):
        Recording(tmp_path / "bag")
    convert_bag(tmp_path / "bag", tmp_path / "out", stamps="record", progress=False)
    assert describe(tmp_path / "out", progress=False).moving == 12


@pytest.mark.parametrize("clock", ["none", "other"])
def test_record_times_serve_for_poses_too(clock, tmp_path) -> None:
    """Nothing is stamped; or the odometry alone, by another clock than the recorder's."""
    with BagWriter(tmp_path / "bag") as bag:
        for topic, message in rig_bags.messages():
            at = rig_bags.recorded_at(topic, message)
            if topic != "/tf_static":
                other = topic == "/odom" and clock == "other"
                stamp = at - 1_000_000 * rig_bags.SECOND if other else 0
                message.header.stamp = make("builtin_interfaces/msg/Time", **stamp_fields(stamp))
            bag.write(topic, message, at)
    done = convert_bag(tmp_path / "bag", tmp_path / "out", stamps="record", progress=False)
    assert any("known for 100 % of the sensors' stamps" in note for note in done.notes)
    assert describe(tmp_path / "out", progress=False).moving == 12


def test_poses_of_another_time_are_no_ego_motion(tmp_path) -> None:
    def change(topic, message, number):
        if topic == "/odom":
            message.header.stamp.sec -= 1000
        yield topic.replace("/cam_back/", "/CAM_BACK/"), message

    bag = rig_bags.write(tmp_path / "bag", change)
    refused(r"no ego motion at .* known for 0 % of", bag, tmp_path / "out" / "bag")
    found = describe(bag, progress=False)
    assert "motion.source: none" in found.hindrance and "ego motion" in found.missing[-1]

    def unstamped(topic, message, number):
        if topic == "/odom":
            message.header.stamp = make("builtin_interfaces/msg/Time")
        yield topic, message

    bag = rig_bags.write(tmp_path / "unstamped", unstamped)
    match = "/odom .none of its messages can be used: odometry without a stamp"
    refused(match, bag, tmp_path / "out" / "bag", kind=Kind.ROS2)


def test_distorted_images_are_not_called_rectified(watonomous, tmp_path) -> None:
    d = np.array([-0.2, 0.05, 0.0, 0.0, 0.0])
    with BagWriter(tmp_path / "bag") as bag:
        for record in read_bag(watonomous):
            topic, message = record.topic.lower(), record.message()
            if topic.endswith("camera_info"):
                message.d, message.distortion_model, message.binning_x = d, "plumb_bob", 2
                message.width *= 2
            topic = topic.replace("image_rect_compressed", "image_raw/compressed")
            bag.write(topic, message, record.stamp_ns)
    out = tmp_path / "out"
    done = convert_bag(tmp_path / "bag", out, with_lidar=False, progress=False)
    assert done.kind is Kind.ROS2
    topics = topics_of(out)
    assert "/cam_back/image_raw/compressed" in topics and len(topics) == 20
    for record in read_bag(out, topics=["/cam_back/camera_info"]):
        info = record.message()
        np.testing.assert_array_equal(info.d, d)
        assert info.binning_x == 2 and info.header.frame_id == "cam_back"


def test_what_a_bag_offers(tables, chris, tmp_path) -> None:
    found = describe(chris, progress=False)
    assert (found.kind, found.trigger) == (Kind.CHRIS7462, "CAM_BACK_LEFT")
    assert found.frames == found.sensors["CAM_BACK_LEFT"].topic.count > 5
    assert found.firing.startswith("in turn, every 83 ms (median)")
    assert found.cameras > 5.5 and found.radars > 4.5 and found.moving == 0
    assert found.sensors["CAM_BACK"].rate == pytest.approx(12, rel=0.1)
    (missing,) = found.missing
    assert missing.startswith("the place of cam_front,") and "radar_back_right" in missing
    file = poses_file(tables, tmp_path / "file.yaml", intrinsics=True)
    placed = describe(chris, calibration=file, progress=False)
    assert placed.missing == () and placed.moving == placed.frames == found.frames
    write_bag(tables, SCENE, tmp_path / "ours", with_lidar=False, progress=False)
    ours = describe(tmp_path / "ours", progress=False)
    assert ours.kind is Kind.OURS and ours.missing == () and ours.frames == found.frames
    shown = command_lines.run("bag:app", "info", chris)
    assert shown.returncode == 0, shown.stderr
    assert "chris7462 (Chris7462/nuscenes_to_ros2bag)" in shown.stdout
    assert "convert" in shown.stdout and "--calibration FILE" in shown.stdout


def test_one_camera_fires_at_its_rate(tmp_path) -> None:
    def change(topic, message, number):
        if not topic.startswith("/cam") or topic.startswith("/cam_front/"):
            yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change, seconds=2.0)
    assert describe(bag, progress=False).firing == "one camera, every 83 ms (median)"


def test_no_ego_motion_is_an_error(tables, chris, tmp_path) -> None:
    # RadarObjects are unknown to read_bag: only cameras are kept.
    names = [name for name in topics_of(chris) if "cam" in name]
    with BagWriter(tmp_path / "bag") as bag:
        for record in read_bag(chris, topics=names):
            bag.write_raw(record.topic, record.type_name, record.data, record.stamp_ns)
    file = poses_file(tables, tmp_path / "file.yaml", intrinsics=True)
    without, out = tmp_path / "bag", tmp_path / "out" / "bag"
    refused("no ego motion at.*motion.source: none", without, out, calibration=file)
    shown = command_lines.run("bag:app", "info", without, "--calibration", file)
    assert "missing: " in shown.stdout and "ego motion (if the vehicle stands" in shown.stdout
    assert "next: if the vehicle stands still" in shown.stdout


def test_a_vehicle_that_stands_needs_no_ego_motion(tmp_path) -> None:
    def change(topic, message, number):
        if topic != "/odom":
            yield topic.replace("/cam_back/", "/CAM_BACK/"), message

    bag = rig_bags.write(tmp_path / "bag", change)
    params = tmp_path / "node.yaml"
    params.write_text("/**: {ros__parameters: {motion: {source: none}}}")
    still = FramingConfig(motion=MotionConfig(source="none"))
    found = describe(bag, framing=still, progress=False)
    assert found.missing == () and found.moving == found.frames == 12
    shown = command_lines.run("bag:app", "info", bag, "--params", params)
    assert f"next: crkd bag convert {bag} OUT --params {params}" in shown.stdout, shown.stderr
    done = convert_bag(bag, tmp_path / "out", framing=still, progress=False)
    assert not any("outside the poses" in note for note in done.notes)
    after = describe(tmp_path / "out", framing=still, progress=False)
    assert after.kind is Kind.OURS and after.moving == after.frames == 12


def test_a_damaged_message_leaves_nothing(watonomous, tmp_path) -> None:
    def damaged(topic, message):
        if topic == "/CAM_BACK/image_rect_compressed":
            message.data = np.zeros(100, np.uint8)
        return message

    bag = rewritten(watonomous, tmp_path / "bag", damaged)
    out = tmp_path / "out" / "bag"
    refused("cam_back: expected JPEG or PNG data, got 100 bytes beginning with 00", bag, out)


def test_poses_are_not_guessed_across_gaps_or_far_outside() -> None:
    def pose(x: float) -> np.ndarray:
        matrix = np.eye(4)
        matrix[0, 3] = x
        return matrix

    second = 10**9
    table = PoseTable()
    for x in (3, 0, 7, 1):
        table.add(x * second, pose(x))
    table.add(7 * second, pose(7.5))
    assert table.at(7 * second)[0, 3] == 7.5
    assert table.at(second // 2)[0, 3] == pytest.approx(0.5)
    assert table.at(second + second // 2) is None
    assert table.at(-second // 20)[0, 3] == pytest.approx(-0.05)
    assert table.at(-second // 5) is None and table.at(8 * second) is None
    linear, yaw_rate = table.twist(second // 2)
    np.testing.assert_allclose(linear, [1.0, 0, 0])
    assert yaw_rate == 0
    one = PoseTable()
    assert one.at(0) is None and len(one) == 0
    one.add(second, pose(1.0))
    assert one.at(second + 1) is None and one.at(second) is not None


def test_the_command_converts_and_refuses(tables, watonomous, tmp_path) -> None:
    done = command_lines.run("bag:app", "convert", watonomous, tmp_path / "out", "--no-lidar")
    assert done.returncode == 0, done.stderr
    assert "watonomous (WATonomous/nuscenes_to_ros2bag)" in done.stdout
    assert "messages of 20 topics" in done.stdout and "Traceback" not in done.stderr

    def inside(*arguments: object):
        return CliRunner().invoke(app, [str(a) for a in arguments])

    options = ("--data", tables.root, "--scene", SCENE, "--no-lidar", "--out", tmp_path / "ours")
    made = inside("nuscenes", *options)
    assert made.exit_code == 0 and "messages of" in made.output
    assert "exists already" in str(inside("convert", watonomous, tmp_path / "out").exception)
    wrong = inside("convert", watonomous, tmp_path / "x", "--kind", "rosbag").exception
    assert "--kind: expected auto, nuscenes2bag," in str(wrong)
    shown = inside("--help")
    assert shown.exit_code == 0
    assert all(name in shown.output for name in ("convert", "nuscenes", "info"))
