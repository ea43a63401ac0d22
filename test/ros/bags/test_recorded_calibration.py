"""Data set -> file, bag -> file: it says what its source says, and the node's frames agree."""

from __future__ import annotations

import json
import re
from pathlib import Path

import command_lines
import cv2
import numpy as np
import pytest
import rig_bags
import ros_rig
from bag_frames import frames_of_bag
from click.testing import Result
from handmade import write_version
from rosbags.rosbag2 import Reader
from typer.testing import CliRunner

from crkd_core import geometry
from crkd_core.config import ImageConfig
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.files import OutputError
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags import recorded_calibration
from crkd_ros.bags.foreign.conversion import convert_bag
from crkd_ros.bags.message_types import make
from crkd_ros.bags.nuscenes import write_bag
from crkd_ros.bags.reader import read_bag
from crkd_ros.bags.recorded_calibration import CalibrationError
from crkd_ros.bags.writer import BagWriter
from crkd_ros.commands import calibration as calibration_command
from crkd_ros.convert import arrays, box_messages
from crkd_ros.motion.calibration_file import Calibration
from crkd_ros.motion.poses import MotionError

SCENE = "scene-0103"
IMAGE = ImageConfig(height=32, width=64, zoom=1.1)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> NuScenes:
    return NuScenes(write_version(tmp_path_factory.mktemp("data"), samples=3))


@pytest.fixture(scope="module")
def bag(tables, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "drive"
    write_bag(tables, SCENE, path, progress=False, with_lidar=False)
    return path


def edited(bag: Path, out: Path, edit) -> Path:
    """A copy of a bag; ``edit(topic, message)`` answers [(topic, message)]."""
    with BagWriter(out) as writer:
        for record in read_bag(bag):
            for topic, message in edit(record.topic, record.message()):
                writer.write(topic, message, record.stamp_ns)
    return out


def assert_same(one: Calibration, other: Calibration) -> None:
    assert one.frames == other.frames == sorted(name.lower() for name in CAMERAS + RADARS)
    for frame in one.frames:
        np.testing.assert_allclose(one.base_T(frame), other.base_T(frame), atol=1e-9)
        camera, again = one.camera(frame), other.camera(frame)
        assert (camera is None) == (again is None) == frame.startswith("radar")
        if camera is not None and again is not None:
            np.testing.assert_array_equal(camera.intrinsics, again.intrinsics)
            assert camera.image_size == again.image_size
            assert (camera.distortion_model, camera.distortion) == (
                again.distortion_model,
                again.distortion,
            )


def test_a_data_set_comes_back_from_its_file(tables, tmp_path):
    calibration = recorded_calibration.of_dataset(tables)
    calibration.save(tmp_path / "c.yaml", comment="from here\nand there")
    text = (tmp_path / "c.yaml").read_text()
    assert text.startswith("# from here\n# and there\nsensors:\n")
    again = Calibration.load(tmp_path / "c.yaml")
    assert_same(calibration, again)
    for sensor in CAMERAS + RADARS:
        record = next(tables.records(SCENE, sensor))
        np.testing.assert_allclose(again.base_T(sensor), record.ego_T_sensor, atol=1e-9)
        if sensor in CAMERAS:
            camera = again.camera(sensor)
            assert camera is not None
            np.testing.assert_array_equal(camera.intrinsics, record.intrinsics)
            assert camera.image_size == (record.width, record.height)


def test_a_bag_says_what_its_data_set_says(tables, bag):
    assert_same(recorded_calibration.of_bag(bag), recorded_calibration.of_dataset(tables, SCENE))


def test_a_bag_is_opened_once(bag, monkeypatch):
    opened = []
    open_file = Reader.open

    def noted(reader: Reader) -> None:
        opened.append(reader.path)
        open_file(reader)

    monkeypatch.setattr(Reader, "open", noted)
    recorded_calibration.of_bag(bag)
    assert opened == [bag]


def test_frames_made_with_the_file_are_those_made_with_the_bags_own_transforms(bag, tmp_path):
    recorded_calibration.of_bag(bag).save(tmp_path / "c.yaml")
    own = list(frames_of_bag(bag, image=IMAGE))
    file = Calibration.load(tmp_path / "c.yaml")
    again = list(frames_of_bag(bag, image=IMAGE, calibration=file))
    assert len(own) == len(again) > 2
    for one, other in zip(own, again, strict=True):
        np.testing.assert_allclose(one.ego_T_cam, other.ego_T_cam, atol=1e-9)
        np.testing.assert_allclose(one.radar, other.radar, rtol=1e-6, atol=1e-5)
        np.testing.assert_array_equal(one.intrinsics, other.intrinsics)
        for a, b in zip(one.images, other.images, strict=True):
            np.testing.assert_array_equal(a, b)
    # And the file is used: with another one the frames differ.
    shifted = Calibration.load(tmp_path / "c.yaml")
    shifted.add("base_link", "cam_back", geometry.pose([0, 0, 1], [1, 0, 0, 0]))
    other = next(frames_of_bag(bag, image=IMAGE, calibration=shifted))
    back = CAMERAS.index("CAM_BACK")
    assert np.abs(other.ego_T_cam[back] - own[0].ego_T_cam[back]).max() > 0.1


def test_sensors_on_tf_behind_a_mount_in_upper_case_are_found_too(bag, tables, tmp_path):
    """As some converters do: no /tf_static, frames of channels, and here a mount between."""
    mount = geometry.pose([0.5, 0, 1.0], geometry.yaw_to_quat_wxyz(0.2))

    def edit(topic, message):
        if topic == "/tf_static":
            sensors = [
                box_messages.transform(
                    geometry.invert(mount) @ arrays.transform_matrix(one),
                    "mount",
                    one.child_frame_id.upper(),
                    0,
                    make,
                )
                for one in message.transforms
            ]
            base = box_messages.transform(mount, "/base_link", "mount", 0, make)
            yield "/tf", make("tf2_msgs/msg/TFMessage", transforms=[*sensors, base])
        else:
            yield topic, message

    assert_same(
        recorded_calibration.of_bag(edited(bag, tmp_path / "other", edit)),
        recorded_calibration.of_dataset(tables, SCENE),
    )


def test_distortion_of_camera_info_is_kept(bag, tmp_path):
    values = [-0.3, 0.1, 0.001, -0.002, 0.0]

    def edit(topic, message):
        if topic.endswith("camera_info"):
            message.d, message.distortion_model = np.array(values), "plumb_bob"
        yield topic.replace("image_rect_compressed", "image_raw/compressed"), message

    calibration = recorded_calibration.of_bag(edited(bag, tmp_path / "raw", edit))
    calibration.save(tmp_path / "c.yaml")
    camera = Calibration.load(tmp_path / "c.yaml").camera("CAM_BACK")
    assert camera is not None
    assert (camera.distortion_model, camera.distortion) == ("plumb_bob", tuple(values))
    assert "distortion_model: plumb_bob" in (tmp_path / "c.yaml").read_text()


def test_a_written_file_is_of_cameras_as_the_nodes_parameters_say_they_are(bag, tmp_path):
    """Topics of all cameras say rect; one is not rectified."""

    def edit(topic, message):
        if topic.endswith("camera_info"):
            message.d, message.distortion_model = np.array([-0.3, 0.1, 0, 0, 0]), "plumb_bob"
        if topic == "/tf_static":
            for one in message.transforms:
                one.header.frame_id = one.header.frame_id.replace("base_link", "vehicle")
        yield topic, message

    source, params = edited(bag, tmp_path / "raw", edit), tmp_path / "p.yaml"
    told = "base_frame: vehicle, cameras: {CAM_BACK: {rectified: never}}"
    params.write_text(f"/**: {{ros__parameters: {{{told}}}}}")
    options = ("--bag", source, "--out", tmp_path / "c.yaml", "--params", params)
    done = command("write", *options)
    assert done.exit_code == 0, done.exception
    assert "-> vehicle axes" in (tmp_path / "c.yaml").read_text()
    calibration = Calibration.load(tmp_path / "c.yaml", base="vehicle")
    cameras = {name: calibration.camera(name) for name in CAMERAS}
    assert [name for name, one in cameras.items() if one and one.distortion] == ["CAM_BACK"]
    # What is read is not replaced, whatever is said.
    refused = command("write", *options, "--overwrite", "--out", params)
    assert isinstance(refused.exception, OutputError) and "it is read" in str(refused.exception)
    assert told in params.read_text()


def test_the_rotation_of_a_rectified_stereo_pair_is_kept(tmp_path):
    turn = cv2.Rodrigues(np.array([0.01, 0.04, -0.02]))[0]

    def edit(topic, message, number):
        if topic == "/cam_front/camera_info":
            message.r = turn.ravel()
            message.p = np.c_[message.k.reshape(3, 3), np.zeros(3)].ravel()
        yield topic, message

    def silent(topic, message, number):
        if not topic.endswith("camera_info"):
            yield topic, message

    bag = rig_bags.write(tmp_path / "bag", edit, seconds=0.3)
    recorded_calibration.of_bag(bag).save(tmp_path / "c.yaml")
    own = list(frames_of_bag(bag, image=IMAGE))
    file = Calibration.load(tmp_path / "c.yaml")
    less = rig_bags.write(tmp_path / "less", silent, seconds=0.3)
    convert_bag(less, tmp_path / "out", calibration=tmp_path / "c.yaml", progress=False)
    for again in (
        frames_of_bag(less, image=IMAGE, calibration=file),
        frames_of_bag(bag, image=IMAGE, calibration=file),
        frames_of_bag(tmp_path / "out", image=IMAGE),
    ):
        for one, other in zip(own, again, strict=True):
            np.testing.assert_allclose(one.ego_T_cam, other.ego_T_cam, atol=1e-9)
            np.testing.assert_array_equal(one.intrinsics, other.intrinsics)


def test_a_bag_that_does_not_say_is_refused(bag, tmp_path):
    def without(topic, message):
        return [] if topic == "/tf_static" else [(topic, message)]

    with pytest.raises(CalibrationError, match="no sensor transform on /tf_static or /tf"):
        recorded_calibration.of_bag(edited(bag, tmp_path / "none", without))

    def some(topic, message):
        if topic == "/tf_static":
            message.transforms = [t for t in message.transforms if t.child_frame_id != "cam_back"]
        return [(topic, message)]

    with pytest.raises(CalibrationError, match="CAM_BACK: no transform from base_link"):
        recorded_calibration.of_bag(edited(bag, tmp_path / "some", some))

    def moving(topic, message):
        yield topic, message
        if topic == "/tf_static":
            (one,) = (t for t in message.transforms if t.child_frame_id == "cam_front")
            one.transform.translation.z += 0.05
            yield topic, make("tf2_msgs/msg/TFMessage", transforms=[one])

    with pytest.raises(CalibrationError, match="transform of cam_front changes within the bag"):
        recorded_calibration.of_bag(edited(bag, tmp_path / "moving", moving))


@pytest.fixture(scope="module")
def two_cars(tmp_path_factory) -> NuScenes:
    """Two scenes, the second one's CAM_BACK mounted 3 cm higher."""
    root = write_version(tmp_path_factory.mktemp("two"), samples=2)
    folder = root / "v1.0-mini"
    calibrated = json.loads((folder / "calibrated_sensor.json").read_text())
    samples = {s["token"]: s for s in json.loads((folder / "sample.json").read_text())}
    scenes = {s["token"]: s["name"] for s in json.loads((folder / "scene.json").read_text())}
    data = json.loads((folder / "sample_data.json").read_text())
    sensors = {s["token"]: s["channel"] for s in json.loads((folder / "sensor.json").read_text())}
    (back,) = (c for c in calibrated if sensors[c["sensor_token"]] == "CAM_BACK")
    other = json.loads(json.dumps(back)) | {"token": "f" * 32}
    other["translation"][2] += 0.03
    calibrated.append(other)
    for row in data:
        scene = scenes[samples[row["sample_token"]]["scene_token"]]
        if row["calibrated_sensor_token"] == back["token"] and scene == SCENE:
            row["calibrated_sensor_token"] = other["token"]
    (folder / "calibrated_sensor.json").write_text(json.dumps(calibrated))
    (folder / "sample_data.json").write_text(json.dumps(data))
    return NuScenes(root)


def test_two_cars_need_a_scene(two_cars):
    with pytest.raises(CalibrationError, match=r"cam_back of scene-\d+ differs from .*0\.030 m"):
        recorded_calibration.of_dataset(two_cars)
    heights = [
        recorded_calibration.of_dataset(two_cars, scene).base_T("cam_back")[2, 3]
        for scene in ("scene-0061", SCENE)
    ]
    assert heights[1] - heights[0] == pytest.approx(0.03)


@pytest.mark.parametrize(
    ("entry", "error"),
    [
        ("image_size: [4, 3]", "image_size without intrinsics"),
        ("intrinsics: [[2, 0, 0], [0, 2, 0], [0, 0, 1]], image_size: [0, 3]", "expected .width"),
        ("intrinsics: [[2, 0, 0], [0, 2, 0], [0, 0, 1]], distortion: [1]", "belong together"),
        (
            "intrinsics: [[2, 0, 0], [0, 2, 0], [0, 0, 1]], distortion_model: a, distortion: 7",
            "expected a list of numbers",
        ),
        ("intrinsics: [[.nan, 0, 0], [0, 1, 0], [0, 0, 1]]", "is not a calibration"),
        ("rectification: [[1, 0, 0], [0, 1, 0], [0, 0, 1]]", "rectification without intrinsics"),
        (
            "intrinsics: [[2, 0, 0], [0, 2, 0], [0, 0, 1]], rectification: [[1, 0], [0, 1]]",
            "expected a rotation",
        ),
    ],
)
def test_wrong_cameras_in_files_are_refused(tmp_path, entry, error):
    path = tmp_path / "c.yaml"
    pose = "translation: [0, 0, 0], rotation_xyzw: [0, 0, 0, 1]"
    path.write_text(f"sensors: {{cam: {{{pose}, {entry}}}}}")
    with pytest.raises(MotionError, match=error):
        Calibration.load(path)


def command(*arguments: object) -> Result:
    return CliRunner().invoke(calibration_command.app, [*map(str, arguments)])


def test_the_command_writes_shows_and_checks(tiny_drive, tmp_path):
    file = tmp_path / "new" / "c.yaml"
    done = command("write", "--data", tiny_drive, "--out", file)
    assert done.exit_code == 0, done.exception
    assert "11 sensors from data set tiny_drive/v1.0-mini" in done.stdout
    assert file.read_text().startswith("# Calibration from data set tiny_drive/v1.0-mini")
    assert [path.name for path in file.parent.iterdir()] == ["c.yaml"]
    again = command("write", "--data", tiny_drive, "--out", file)
    assert isinstance(again.exception, OutputError)
    assert "pass --overwrite to replace it" in str(again.exception)
    shown = command("show", file)
    # Every car is a little different; these are the places of all, give or take some centimetres.
    row = r"cam_back_left +(1\.\d\d) +(0\.\d\d) +(1\.\d\d) +(1\d\d\.\d\d) +-?\d\.\d\d +160 x 90"
    found = re.search(row, shown.stdout)
    assert found is not None, shown.stdout
    x, y, z, heading = map(float, found.groups())
    assert [x, y, z] == pytest.approx([1.04, 0.48, 1.59], abs=0.08)
    assert heading == pytest.approx(109, abs=2)
    good = command("check", "--data", tiny_drive, "--calibration", file, "--frames", 4)
    assert good.exit_code == 0, good.stdout
    assert good.stdout.startswith("looks right; checked places of 11 sensors")
    short = command("check", "--data", tiny_drive, "--frames", 1000)
    text = r"tiny_drive: the drive is too short to judge .*\d+ of 1000 frames.*--frames"
    assert re.search(text, str(short.exception)) and short.stdout == ""
    wrong = Calibration.load(file)
    wrong.add("base_link", "cam_front", geometry.pose([1.7, 0, 1.5], [1, 0, 0, 0]))
    wrong.save(file)
    bad = command("check", "--data", tiny_drive, "--calibration", file, "--frames", 4)
    assert bad.exit_code == 1
    assert "body frame (x forward)" in bad.stdout


def test_a_bag_is_checked_with_its_own_calibration_or_a_file(tiny_drive, tmp_path):
    from crkd_ros.calibration_check.drive import check_bag

    bag = tmp_path / "drive"
    write_bag(NuScenes(tiny_drive), SCENE, bag, progress=False, with_lidar=False)
    looked = check_bag(bag, frames=6)
    assert looked.check.done and looked.check.findings == []
    assert looked.unseen == () and looked.troubles == ()
    wrong = recorded_calibration.of_bag(bag)
    places = {name: wrong.base_T(name) for name in ("radar_back_left", "radar_back_right")}
    wrong.add("base_link", "radar_back_left", places["radar_back_right"])
    wrong.add("base_link", "radar_back_right", places["radar_back_left"])
    found = check_bag(bag, wrong, frames=2).check.findings
    assert {finding.sensor for finding in found} == {"RADAR_BACK_LEFT", "RADAR_BACK_RIGHT"}


def test_a_file_of_a_vehicle_whose_frame_has_another_name_is_shown_and_checked(tmp_path):
    """Its base_link is a frame like others: odometry may be of it."""

    def without_tf(topic, message, number):
        if topic == "/odom":
            message.child_frame_id = "base_link"
        if "tf" not in topic:
            yield topic, message

    file, params = tmp_path / "c.yaml", tmp_path / "p.yaml"
    calibration = Calibration(base="vehicle")
    for sensor, place in ros_rig.extrinsics().items():
        calibration.add("vehicle", sensor.lower(), place)
    calibration.add("vehicle", "base_link", geometry.pose([0.5, 0, 0], [1, 0, 0, 0]))
    calibration.save(file)
    params.write_text("/**: {ros__parameters: {base_frame: vehicle}}")
    shown = command("show", file)
    assert re.search(r"base_link +0\.50 +0\.00", shown.stdout), shown.exception
    bag = rig_bags.write(tmp_path / "bag", without_tf)
    options = ("--bag", bag, "--frames", 4, "--params", params)
    by_option = command("check", *options, "--calibration", file)
    assert "checked places of 11 sensors" in by_option.stdout, by_option.exception
    named = f"{{base_frame: vehicle, calibration_file: {file}}}"
    params.write_text(f"/**: {{ros__parameters: {named}}}")
    assert command("check", *options).stdout == by_option.stdout


def test_expected_errors_are_one_line(tmp_path):
    done = command_lines.run("calibration:app", "write", "--out", tmp_path / "c.yaml")
    assert done.returncode == 1
    assert done.stderr.startswith("error: CalibrationError: give either --data")
    assert len(done.stderr.splitlines()) == 1


def test_sensors_that_were_never_looked_at_are_named(tmp_path):
    def change(topic, message, number):
        if topic.startswith("/radar_back"):
            message.fields = [one for one in message.fields if one.name != "vx_comp"]
        if topic.startswith("/cam_back_left/image"):
            message.data = message.data[:20]
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", change)
    checked = command("check", "--bag", bag, "--frames", 8)
    assert isinstance(checked.exception, CalibrationError), checked.stdout
    text = "got none of CAM_BACK_LEFT, RADAR_BACK_LEFT, RADAR_BACK_RIGHT"
    assert text in str(checked.exception)
    for sensor, reason in (
        ("RADAR_BACK_LEFT", "radar cloud lacks vx_comp"),
        ("CAM_BACK_LEFT", "messages could not be used: "),
    ):
        (said,) = [line for line in checked.stdout.splitlines() if f" {sensor} " in line]
        assert f"{sensor} is in no frame" in said and reason in said, checked.stdout
    names = text.removeprefix("got none of ").split(", ")
    without = [word for name in names for word in ("--topic", f"{name}=")]
    assert "not looked at" not in command("check", "--bag", bag, "--frames", 8, *without).stdout
