"""nuScenes scene -> bag -> Frames: what goes in comes out, for both storages."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import command_lines
import numpy as np
import pytest
from bag_frames import frames_of_bag
from handmade import write_version

from crkd_core import geometry
from crkd_core.config import ImageConfig
from crkd_core.data import lidar, radar
from crkd_core.data.nuscenes.reader import CHANNELS, NuScenes, NuScenesFrames
from crkd_core.data.radar_file import read_pcd
from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS
from crkd_ros.bags import recorded_calibration
from crkd_ros.bags.frames import BagProblem, layout_of
from crkd_ros.bags.message_types import BagError, make
from crkd_ros.bags.nuscenes import write_bag
from crkd_ros.bags.reader import read_bag, topics_of
from crkd_ros.bags.samples import key_frames
from crkd_ros.bags.writer import BagWriter
from crkd_ros.convert import arrays, radar_clouds
from crkd_ros.parameters.framing import FramingConfig, MotionConfig
from crkd_ros.parameters.topics import TopicsConfig

SCENE = "scene-0103"
IMAGE = ImageConfig(height=32, width=64, zoom=1.1)


@pytest.fixture(scope="module")
def tables(tmp_path_factory) -> NuScenes:
    return NuScenes(write_version(tmp_path_factory.mktemp("data"), samples=4))


@pytest.fixture(scope="module", params=["mcap", "sqlite3"])
def bag(request, tables: NuScenes, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("bags") / "drive"
    write_bag(tables, SCENE, path, storage=request.param, progress=False)
    return path


def messages(path: Path, topic: str) -> list:
    return [record.message() for record in read_bag(path, topics=[topic])]


def test_every_file_of_the_scene_is_in_the_bag_with_its_own_time(tables, bag) -> None:
    topics = topics_of(bag)
    for channel in CHANNELS:
        name = f"/{channel.lower()}"
        if channel in CAMERAS:
            name += "/image_rect_compressed"
        records = list(tables.records(SCENE, channel))
        found = list(read_bag(bag, topics=[name]))
        assert len(records) == len(found) == topics[name].count > 3
        for record, one in zip(records, found, strict=True):
            message = one.message()
            assert one.stamp_ns == arrays.stamp_ns(message.header.stamp) == record.stamp_ns
            assert message.header.frame_id == channel.lower()
            if channel in CAMERAS:
                assert message.format == "jpeg"
                assert message.data.tobytes() == record.path.read_bytes()
            elif channel in RADARS:
                assert message.point_step == 43
                points = read_pcd(record.path)
                np.testing.assert_array_equal(radar_clouds.radar_points(message), points)
                assert [f.name for f in message.fields] == list(radar.RADAR_FIELDS)
            else:
                data = np.frombuffer(message.data.tobytes(), "<f4").reshape(-1, 5)
                np.testing.assert_array_equal(data, lidar.read_bin(record.path))


def test_camera_info_is_that_of_a_rectified_camera(tables, bag) -> None:
    for camera in CAMERAS:
        record = next(tables.records(SCENE, camera))
        infos = messages(bag, f"/{camera.lower()}/camera_info")
        assert len(infos) == len(list(tables.records(SCENE, camera)))
        info = infos[0]
        assert (info.width, info.height, len(info.d)) == (96, 54, 0)
        np.testing.assert_array_equal(info.k.reshape(3, 3), record.intrinsics)
        np.testing.assert_array_equal(info.r.reshape(3, 3), np.eye(3))
        np.testing.assert_array_equal(info.p.reshape(3, 4)[:, :3], record.intrinsics)
        np.testing.assert_array_equal(info.p.reshape(3, 4)[:, 3], 0)


def test_camera_info_has_the_size_of_images_whose_tables_do_not_say_it(tmp_path) -> None:
    root = write_version(tmp_path / "data", samples=2, scenes=(SCENE,))
    (path,) = root.glob("*/sample_data.json")
    rows = [row | {"width": None, "height": None} for row in json.loads(path.read_text())]
    path.write_text(json.dumps(rows))
    write_bag(NuScenes(root), SCENE, tmp_path / "bag", progress=False)
    infos = messages(tmp_path / "bag", "/cam_back/camera_info")
    assert infos and {(info.width, info.height) for info in infos} == {(96, 54)}


def test_poses_are_those_of_the_tables(tables, bag) -> None:
    records = [r for channel in CHANNELS for r in tables.records(SCENE, channel)]
    wanted = {r.stamp_ns: r.global_T_ego for r in records}
    for topic, matrix in (
        ("/tf", lambda m: arrays.transform_matrix(m.transforms[0])),
        ("/odom", arrays.odometry_pose),
    ):
        found = {r.stamp_ns: matrix(r.message()) for r in read_bag(bag, topics=[topic])}
        assert sorted(found) == sorted(wanted)
        for stamp, pose in wanted.items():
            np.testing.assert_allclose(found[stamp], pose, atol=1e-9)
    (static,) = messages(bag, "/tf_static")
    found = {t.child_frame_id: arrays.transform_matrix(t) for t in static.transforms}
    assert sorted(found) == sorted(channel.lower() for channel in CHANNELS)
    for record in records:
        np.testing.assert_allclose(found[record.channel.lower()], record.ego_T_sensor, atol=1e-9)


def test_poses_come_before_the_sensors_that_need_them(bag) -> None:
    known: set[int] = set()
    for record in read_bag(bag):
        if record.topic == "/odom":
            known.add(record.stamp_ns)
        elif record.topic.startswith(("/cam", "/radar", "/lidar")):
            assert record.stamp_ns in known


def test_the_twist_is_the_motion_of_the_drive(bag) -> None:
    # The drive is a circle of 40 m radius at 0.25 rad/s.
    odometry = messages(bag, "/odom")
    for message in odometry[5:-5]:
        twist = message.twist.twist
        assert twist.linear.x == pytest.approx(10.0, abs=0.05)
        assert abs(twist.linear.y) < 0.05
        assert twist.angular.z == pytest.approx(0.25, abs=0.01)


def test_truth_is_drawn_at_every_sample(tables, bag) -> None:
    markers = list(read_bag(bag, topics=["/markers/annotations"]))
    samples = tables.samples_of_scene(SCENE)
    assert [record.stamp_ns for record in markers] == [tables.stamp_ns(s) for s in samples]
    for record, sample in zip(markers, samples, strict=True):
        truth = tables.truth_global(sample)
        cubes = [m for m in record.message().markers if m.ns == "truth" and m.action == 0]
        assert len(cubes) == len(truth) > 0
        for cube, center, size in zip(cubes, truth.center, truth.size, strict=True):
            assert cube.header.frame_id == "map"
            np.testing.assert_allclose(
                [cube.pose.position.x, cube.pose.position.y, cube.pose.position.z], center
            )
            np.testing.assert_allclose([cube.scale.x, cube.scale.y, cube.scale.z], size)


def check_frames(tables: NuScenes, bag: Path, samples: int) -> None:
    tokens = key_frames(tables, [SCENE])
    framing = FramingConfig()
    replayed = {
        frame.token: frame
        for frame in frames_of_bag(bag, image=IMAGE, framing=framing, tokens=tokens)
    }
    frames = NuScenesFrames(tables, tables.samples_of_scene(SCENE), radar_sweeps=6, image=IMAGE)
    assert len(frames) == samples
    for frame in frames:
        other = replayed[frame.token]
        assert other.stamp_ns == frame.stamp_ns
        assert other.prepared == frame.prepared == IMAGE
        for ours, theirs in zip(other.images, frame.images, strict=True):
            np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_array_equal(other.intrinsics, frame.intrinsics)
        np.testing.assert_allclose(other.ego_T_cam, frame.ego_T_cam, atol=1e-6)
        np.testing.assert_array_equal(other.radar_present, frame.radar_present)
        assert len(frame.radar) > 0
        np.testing.assert_allclose(_sorted(other.radar), _sorted(frame.radar), atol=1e-4)
        np.testing.assert_allclose(other.global_T_ego, frame.global_T_ego, atol=1e-6)


def test_frames_of_the_bag_are_the_readers_frames(tables, bag) -> None:
    check_frames(tables, bag, samples=4)


def test_frames_of_a_world_drive_are_the_readers_frames(tiny_drive, tmp_path) -> None:
    tables = NuScenes(tiny_drive)
    write_bag(tables, SCENE, tmp_path / "bag", with_lidar=False, progress=False)
    check_frames(tables, tmp_path / "bag", samples=len(tables.samples_of_scene(SCENE)))


@pytest.mark.parametrize("listed", [True, False])
def test_frames_of_key_frames_alone_are_the_readers_frames(tmp_path, listed) -> None:
    root = write_version(tmp_path / "data", samples=7, scenes=(SCENE,))
    shutil.rmtree(root / "sweeps")
    if not listed:
        path = root / "v1.0-mini" / "sample_data.json"
        rows = [row for row in json.loads(path.read_text()) if row["is_key_frame"]]
        path.write_text(json.dumps(rows))
    tables = NuScenes(root)
    write_bag(tables, SCENE, tmp_path / "bag", with_lidar=False, progress=False)
    check_frames(tables, tmp_path / "bag", samples=7)


def _sorted(points: np.ndarray) -> np.ndarray:
    """Rows by sensor, then age; the order inside a sweep is the file's."""
    return points[np.lexsort((np.round(points[:, 18], 4), points[:, 19]))]


def test_only_makes_the_frames_asked_for(tables, bag) -> None:
    tokens = key_frames(tables, [SCENE])
    frames = list(frames_of_bag(bag, image=IMAGE, tokens=tokens, only=tokens))
    assert [frame.token for frame in frames] == tables.samples_of_scene(SCENE)
    assert len(list(frames_of_bag(bag, image=IMAGE))) > len(frames)


def test_a_damaged_image_masks_its_camera_in_its_frame(tables, tmp_path) -> None:
    source, broken = tmp_path / "whole", tmp_path / "broken"
    write_bag(tables, SCENE, source, with_lidar=False, progress=False)
    topic = "/cam_front/image_rect_compressed"
    with BagWriter(broken) as bag:
        seen = 0
        for record in read_bag(source):
            message = record.message()
            if record.topic == topic:
                seen += 1
                if seen == 5:
                    message.data = message.data[:200]
            bag.write(record.topic, message, record.stamp_ns)
    whole = list(frames_of_bag(source, image=IMAGE))
    problems: list[BagProblem] = []
    left = list(frames_of_bag(broken, image=IMAGE, problems=problems))
    assert len(left) == len(whole)
    present = np.array([frame.camera_present for frame in left])
    assert present.sum() == present.size - 1
    assert not present[4, CAMERAS.index("CAM_FRONT")]
    assert len(problems) == 1 and "CAM_FRONT" in problems[0].reason
    with pytest.raises(BagError, match="CAM_FRONT"):
        list(frames_of_bag(broken, image=IMAGE))


def test_a_broken_cloud_costs_no_frame(bag, tmp_path) -> None:
    """Also when it is the message that tells that a frame is complete."""
    with BagWriter(tmp_path / "broken") as out:
        after_anchor = False
        for record in read_bag(bag):
            message = record.message()
            if after_anchor and record.topic.startswith("/radar"):
                message.data = message.data[:-1]
                after_anchor = False
            after_anchor |= record.topic.startswith("/cam_back_left/image")
            out.write(record.topic, message, record.stamp_ns)
    problems: list[BagProblem] = []
    whole = [frame.stamp_ns for frame in frames_of_bag(bag, image=IMAGE)]
    broken = frames_of_bag(tmp_path / "broken", image=IMAGE, problems=problems)
    assert [frame.stamp_ns for frame in broken] == whole
    assert len(problems) > 10
    assert all("radar" in problem.reason for problem in problems)


def test_without_ego_poses_no_frame_is_made(bag, tmp_path) -> None:
    with BagWriter(tmp_path / "still") as out:
        for record in read_bag(bag):
            if record.topic not in ("/tf", "/odom"):
                out.write_raw(record.topic, record.type_name, record.data, record.stamp_ns)
    problems: list[BagProblem] = []
    assert list(frames_of_bag(tmp_path / "still", image=IMAGE, problems=problems)) == []
    assert len(problems) == 20 and "no ego pose" in problems[0].reason


def test_what_the_node_makes_frames_of_holds_for_a_bag_too(bag, tmp_path) -> None:
    with BagWriter(tmp_path / "two") as out:
        for record in read_bag(bag):
            if record.topic not in ("/tf", "/odom"):
                out.write_raw(record.topic, record.type_name, record.data, record.stamp_ns)
            if record.topic == "/cam_front/image_rect_compressed":
                # By the alphabet it would come first.
                out.write_raw("/a/cam_front", record.type_name, record.data, record.stamp_ns)
    other = TopicsConfig(image_compressed="/a/<sensor>")
    for topics, name in (
        (TopicsConfig(), "/cam_front/image_rect_compressed"),
        (other, "/a/cam_front"),
    ):
        layout = layout_of(tmp_path / "two", FramingConfig(topics=topics))
        assert layout.images["CAM_FRONT"].name == name
        assert layout.images["CAM_BACK"].name == "/cam_back/image_rect_compressed"
    sensors = ("CAM_FRONT", ANCHOR_CAMERA, "RADAR_FRONT")
    standing = FramingConfig(sensors=sensors, motion=MotionConfig(source="none"))
    frames = list(frames_of_bag(tmp_path / "two", image=IMAGE, framing=standing))
    assert len(frames) == 20
    for present, names in (
        (frames[-1].camera_present, CAMERAS),
        (frames[-1].radar_present, RADARS),
    ):
        assert [name for name, is_in in zip(names, present, strict=True) if is_in] == [
            name for name in names if name in sensors
        ]
    # And where the sensors sit is the file's, if it names one.
    calibration = recorded_calibration.of_bag(bag)
    calibration.add("base_link", "cam_front", geometry.pose([0, 0, 9], [1, 0, 0, 0]))
    calibration.save(tmp_path / "c.yaml")
    moved = replace(standing, calibration_file=str(tmp_path / "c.yaml"))
    frame = next(frames_of_bag(tmp_path / "two", image=IMAGE, framing=moved))
    assert frame.ego_T_cam[CAMERAS.index("CAM_FRONT"), 2, 3] == 9


def test_without_lidar_only_its_clouds_are_missing(tables, bag, tmp_path) -> None:
    small = tmp_path / "small"
    write_bag(tables, SCENE, small, with_lidar=False, progress=False)
    everything, less = topics_of(bag), topics_of(small)
    assert set(everything) - set(less) == {"/lidar_top"}
    assert less["/odom"].count == everything["/odom"].count


def test_upper_case_topics_of_other_converters_are_found(bag, tmp_path) -> None:
    other = tmp_path / "other"
    with BagWriter(other) as out:
        for record in read_bag(bag):
            topic = record.topic
            if topic.startswith(("/cam", "/radar")):
                first, _, rest = topic[1:].partition("/")
                topic = f"/nuscenes/{first.upper()}" + (f"/{rest}" if rest else "")
            out.write_raw(topic, record.type_name, record.data, record.stamp_ns)
    layout = layout_of(other)
    assert set(layout.images) == set(layout.infos) == set(CAMERAS)
    assert set(layout.radars) == set(RADARS)
    mine = [frame.radar for frame in frames_of_bag(bag, image=IMAGE)]
    theirs = [frame.radar for frame in frames_of_bag(other, image=IMAGE)]
    for a, b in zip(mine, theirs, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_same_scene_gives_the_same_bytes(tables, tmp_path) -> None:
    for folder in ("a", "b"):
        write_bag(tables, SCENE, tmp_path / folder / "bag", progress=False)
    first, second = (sorted((tmp_path / f / "bag").iterdir()) for f in ("a", "b"))
    assert [p.name for p in first] == ["bag.mcap", "metadata.yaml"]
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]


@pytest.mark.parametrize("damage", ["missing", "truncated", "radar", "wider than a bag"])
def test_a_bad_file_is_named_and_no_bag_remains(tmp_path, damage) -> None:
    tables = NuScenes(write_version(tmp_path / "data", samples=2, scenes=(SCENE,)))
    channel = "CAM_BACK" if damage in ("missing", "truncated") else "RADAR_FRONT"
    path = next(tables.records(SCENE, channel)).path
    if damage == "missing":
        path.unlink()
    elif damage == "wider than a bag":  # dyn_prop, behind x, y and z, is 200.
        header, points = path.read_bytes().split(b"binary\n")
        header = header.replace(b"TYPE F F F I", b"TYPE F F F U")
        path.write_bytes(header + b"binary\n" + points[:12] + b"\xc8" + points[13:])
        assert read_pcd(path)[0, 3] == 200
    else:
        path.write_bytes(path.read_bytes()[:300])
    with pytest.raises((BagError, radar.RadarError), match=path.name):
        write_bag(tables, SCENE, tmp_path / "out" / "bag", progress=False)
    assert list((tmp_path / "out").iterdir()) == []


def test_key_frames_alone_make_a_bag(tmp_path, caplog) -> None:
    tables = NuScenes(write_version(tmp_path / "data", samples=2, scenes=(SCENE,)))
    shutil.rmtree(tmp_path / "data" / "sweeps")
    summary = write_bag(tables, SCENE, tmp_path / "bag", progress=False)
    assert "files that sample_data.json lists are not there, first" in caplog.text
    assert summary.messages["/cam_back/image_rect_compressed"] == 2
    assert summary.messages["/radar_front"] == 2
    # The vehicle's way is known as before.
    assert summary.messages["/odom"] > 20


def test_the_command_writes_refuses_and_explains(tmp_path) -> None:
    write_version(tmp_path / "data", samples=2, scenes=(SCENE,))

    def run(*arguments: object) -> subprocess.CompletedProcess:
        return command_lines.run("bag:nuscenes", "--data", tmp_path / "data", *arguments)

    bag = tmp_path / "bag"
    done = run("--scene", SCENE, "--out", bag, "--storage", "sqlite3", "--no-lidar")
    assert done.returncode == 0, done.stderr
    assert (bag / "bag.db3").is_file() and "messages" in done.stdout
    again = run("--scene", SCENE, "--out", bag)
    assert again.returncode == 1
    assert "exists already" in again.stderr and "Traceback" not in again.stderr
    unknown = run("--scene", "scene-9999", "--out", tmp_path / "other")
    assert unknown.returncode == 1
    assert "scene-9999" in unknown.stderr and SCENE in unknown.stderr
    assert not (tmp_path / "other").exists()
    wrong = run("--scene", SCENE, "--out", tmp_path / "other", "--storage", "zip")
    assert wrong.returncode == 1 and "mcap, sqlite3" in wrong.stderr


def test_a_bag_without_sensors_lists_what_it_has(tmp_path) -> None:
    with BagWriter(tmp_path / "bag") as out:
        out.write("/chatter", make("std_msgs/msg/String", data="x"), 1)
    with pytest.raises(BagError, match=r"no camera .* its topics: /chatter"):
        list(frames_of_bag(tmp_path / "bag", image=IMAGE))


def test_geometry_of_written_transforms_is_not_transposed(tables, bag) -> None:
    # A transposed rotation or a swapped quaternion would survive a round trip through one helper.
    (static,) = messages(bag, "/tf_static")
    front = next(t for t in static.transforms if t.child_frame_id == "cam_front_right")
    record = next(tables.records(SCENE, "CAM_FRONT_RIGHT"))
    q = front.transform.rotation
    wanted = geometry.matrix_to_quat_wxyz(record.ego_T_sensor[:3, :3])
    found = np.array([q.w, q.x, q.y, q.z])
    np.testing.assert_allclose(found * np.sign(found @ wanted), wanted, atol=1e-9)
