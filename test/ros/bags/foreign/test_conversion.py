"""Bags of other converters -> our layout -> the same Frames as our own bag of the same drive."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import cv2
import foreign
import foreign_foxglove
import numpy as np
import pytest
import ros_rig
from bag_frames import frames_of_bag

from crkd_core.config import ImageConfig
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.data.radar import RADAR_DTYPE, from_records, to_records
from crkd_core.data.radar_file import encode_pcd
from crkd_core.sensors import CAMERAS, RADAR_COLUMNS, RADAR_FIELDS, RADARS
from crkd_ros.bags.foreign import contents
from crkd_ros.bags.foreign.conversion import ConvertSummary, convert_bag
from crkd_ros.bags.foreign.kinds import Kind
from crkd_ros.bags.frames import BagProblem
from crkd_ros.bags.message_types import make
from crkd_ros.bags.nuscenes import write_bag
from crkd_ros.bags.reader import read_bag, topics_of
from crkd_ros.bags.recorded_calibration import of_bag
from crkd_ros.convert import arrays
from crkd_ros.motion.calibration_file import Calibration, CameraEntry

SCENE = "scene-0103"
IMAGE = ImageConfig(height=32, width=64, zoom=1.1)


@pytest.fixture(scope="module")
def tables(tiny_drive: Path) -> NuScenes:
    return NuScenes(tiny_drive)


@pytest.fixture(scope="module")
def ours(tables: NuScenes, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("ours") / "bag"
    write_bag(tables, SCENE, path, progress=False)
    return path


@pytest.fixture(scope="module")
def calibration(tables: NuScenes, tmp_path_factory) -> Path:
    """What a bag without tf and camera_info needs."""
    path = tmp_path_factory.mktemp("calibration") / "calibration.yaml"
    known = Calibration()
    for record in foreign.records_of(tables, SCENE):
        known.add("base_link", record.channel.lower(), record.ego_T_sensor)
        if record.channel in CAMERAS:
            known.add_camera(record.channel.lower(), CameraEntry(intrinsics=record.intrinsics))
    known.save(path)
    return path


def frames(path: Path) -> list:
    problems: list[BagProblem] = []
    found = list(frames_of_bag(path, image=IMAGE, problems=problems))
    assert problems == []
    return found


def check(
    ours: Path,
    theirs: Path,
    *,
    without: tuple[str, ...] = (),
    apart: float = 1e-6,
    since: float = 0.0,
) -> None:
    """The frames are equal but for what the other bag does not hold.

    Args:
        without: radar columns that it lacks.
        apart: how far its poses may be off, metres.
        since: so many seconds after its first frame it has full radar history.
    """
    mine, other = {f.stamp_ns: f for f in frames(ours)}, frames(theirs)
    assert len(other) == len(mine) > 15 if not since else len(other) >= 12
    columns = [i for i, name in enumerate(RADAR_COLUMNS) if name not in without]
    compared = 0
    for b in other:
        a = mine[b.stamp_ns]
        for one, two in zip(a.images, b.images, strict=True):
            assert one is not None and two is not None
            np.testing.assert_array_equal(one, two)
        np.testing.assert_array_equal(a.intrinsics, b.intrinsics)
        np.testing.assert_allclose(b.ego_T_cam, a.ego_T_cam, atol=apart)
        np.testing.assert_allclose(b.global_T_ego, a.global_T_ego, atol=apart)
        if b.stamp_ns < other[0].stamp_ns + since * 1e9:
            continue
        compared += 1
        np.testing.assert_array_equal(a.radar_present, b.radar_present)
        assert len(a.radar) == len(b.radar) > 0
        difference = np.abs(b.radar[:, columns] - a.radar[:, columns])
        assert difference.max() <= max(4 * apart, 1e-4)
    assert compared >= 5


def converted(bag: Path, out: Path, kind: Kind, **options) -> ConvertSummary:
    done = convert_bag(bag, out, progress=False, **options)
    assert done.kind is kind
    return done


@pytest.mark.parametrize("ros1", [True, False], ids=["ros1", "ros2"])
def test_nuscenes2bag(tables, ours, calibration, tmp_path, ros1) -> None:
    path = tmp_path / "103.bag"  # a file, or a folder
    kind = Kind.NUSCENES2BAG if ros1 else Kind.NUSCENES2BAG_ROS2
    bag = foreign.nuscenes2bag(tables, SCENE, path, ros1=ros1)
    options = {"calibration": calibration, "image_format": "png"}
    done = converted(bag, tmp_path / "out", kind, **options)
    # Its converter forgets the cluster number.
    check(ours, tmp_path / "out", without=("id",))
    assert any("record times" in note for note in done.notes) is not ros1


def test_chris7462(tables, ours, calibration, tmp_path) -> None:
    bag = foreign.chris7462(tables, SCENE, tmp_path / "bag")
    options = {"calibration": calibration, "image_format": "png"}
    converted(bag, tmp_path / "out", Kind.CHRIS7462, **options)
    check(ours, tmp_path / "out")
    # And back: the new bag holds the calibration that was given.
    given, held = Calibration.load(calibration), of_bag(tmp_path / "out")
    for channel in CAMERAS + RADARS:
        np.testing.assert_allclose(held.base_T(channel), given.base_T(channel), atol=1e-9)
    for channel in CAMERAS:
        np.testing.assert_array_equal(held.intrinsics(channel), given.intrinsics(channel))


def test_raw_images_become_jpeg(tables, tmp_path) -> None:
    record = next(tables.records(SCENE, "CAM_FRONT"))
    image = foreign.Foreign(tmp_path / "unused").raw_image(record, 10**9, "cam_front")
    options = {"stamp": 10**9, "channel": "cam_front", "image_format": "jpeg"}
    sizes, losses = [], []
    for quality in (60, 95):
        made = contents.compressed_image(image, jpeg_quality=quality, **options)
        assert made.format == "jpeg" and made.header.frame_id == "cam_front"
        pixels = cv2.imdecode(made.data, cv2.IMREAD_COLOR)
        wanted = image.data.reshape(image.height, image.width, 3)
        losses.append(np.abs(pixels.astype(int) - wanted).mean())
        sizes.append(len(made.data))
    assert sizes[0] < sizes[1] and losses[1] < min(losses[0], 4.0)


@pytest.mark.parametrize("ros1", [True, False], ids=["ros1", "ros2"])
def test_poses_at_key_frames_only(tables, ours, tmp_path, ros1) -> None:
    bag = foreign.watonomous(tables, SCENE, tmp_path / ("x.bag" if ros1 else "x"), ros1=ros1)
    kind = Kind.FOXGLOVE_ROS1 if ros1 else Kind.WATONOMOUS
    done = converted(bag, tmp_path / "out", kind)
    assert any("between those of /tf (map -> base_link), 0.5" in note for note in done.notes)
    check(ours, tmp_path / "out", apart=0.05, since=0.5)


@pytest.mark.parametrize("encoding", ["protobuf", "json"])
def test_nuscenes2mcap(tables, ours, tmp_path, encoding) -> None:
    bag = foreign_foxglove.nuscenes2mcap(tables, SCENE, tmp_path / "scene.mcap", encoding=encoding)
    converted(bag, tmp_path / "out", Kind.FOXGLOVE_MCAP)
    check(ours, tmp_path / "out", apart=0.02, since=0.5)


def test_topics_times_and_frames_are_those_of_our_own_bag(tables, ours, tmp_path) -> None:
    bag = foreign.watonomous(tables, SCENE, tmp_path / "bag")
    converted(bag, tmp_path / "out", Kind.WATONOMOUS)
    mine, theirs = topics_of(ours), topics_of(tmp_path / "out")
    assert set(mine) - set(theirs) == {"/markers/annotations"}
    assert set(theirs) <= set(mine)
    last, posed = 0, set[int]()
    for record in read_bag(tmp_path / "out"):
        assert theirs[record.topic].type_name == mine[record.topic].type_name
        assert record.stamp_ns >= last
        last = record.stamp_ns
        message = record.message()
        if record.topic == "/odom":
            posed.add(record.stamp_ns)
        elif record.topic.startswith(("/cam", "/radar", "/lidar")):
            channel = record.topic.split("/")[1]
            assert message.header.frame_id == channel
            assert arrays.stamp_ns(message.header.stamp) == record.stamp_ns
            assert record.stamp_ns in posed or record.stamp_ns > max(posed)
        if record.topic.endswith("camera_info"):
            np.testing.assert_array_equal(message.r.reshape(3, 3), np.eye(3))
            np.testing.assert_array_equal(message.p.reshape(3, 4)[:, :3].ravel(), message.k)
    assert theirs["/tf_static"].qos is not None
    assert theirs["/tf_static"].qos.durability == mine["/tf_static"].qos.durability


def test_signed_radar_codes_come_back(tmp_path) -> None:
    values = dict.fromkeys(RADAR_FIELDS, 0.0)
    low = values | {"x": 1.5, "dyn_prop": -1, "id": -3, "vx_rms": -128, "rcs": -2.5, "pdh0": 127}
    points = np.array([[row[name] for name in RADAR_FIELDS] for row in (low, values)], np.float32)
    path = tmp_path / "radar.pcd"
    path.write_bytes(encode_pcd(points))
    bag = foreign.Foreign(tmp_path / "unused", ros1=True)
    bag.register_radar("nuscenes2bag")
    record = SimpleNamespace(path=path)
    message = bag.objects(record, "nuscenes2bag", 10**9, "radar_front", ids=True)
    assert message.objects[0].dyn_prop == 255 and message.objects[0].id == 65533
    cloud = contents.radar_cloud(message, stamp=10**9, channel="radar_front")
    assert cloud.point_step == 43
    records = np.frombuffer(cloud.data.tobytes(), RADAR_DTYPE)
    np.testing.assert_array_equal(from_records(records), points)


def test_codes_of_unsigned_fields_come_back(tmp_path) -> None:
    points = np.zeros((3, 18), np.float32)
    points[:, RADAR_FIELDS.index("x_rms")] = [0, 127, -1]
    points[:, RADAR_FIELDS.index("id")] = [0, 32767, -3]
    records = to_records(points)
    unsigned = [
        (name, kind.replace("i", "u") if name in ("x_rms", "id") else kind)
        for name, kind in RADAR_DTYPE.descr
    ]
    message = ros_rig.cloud(make, "radar_front", 10**9, records.view(unsigned))
    assert {field.datatype for field in message.fields if field.name in ("x_rms", "id")} == {2, 4}
    cloud = contents.radar_cloud(message, stamp=10**9, channel="radar_front")
    assert cloud.data.tobytes() == records.tobytes()


def test_radar_rows_without_a_return_are_left_out(tmp_path) -> None:
    path = tmp_path / "radar.pcd"
    path.write_bytes(encode_pcd(np.zeros((1, 18), np.float32)))
    bag = foreign.Foreign(tmp_path / "unused")
    bag.register_radar("nuscenes_msgs")
    record = SimpleNamespace(path=path)
    message = bag.objects(record, "nuscenes_msgs", 10**9, "radar_front", ids=True)
    message.objects[0].pose.x = float("nan")
    cloud = contents.radar_cloud(message, stamp=10**9, channel="radar_front")
    assert (cloud.width, len(cloud.data)) == (0, 0)
