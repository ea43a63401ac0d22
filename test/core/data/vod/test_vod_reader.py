"""A hand-made View-of-Delft frame, read; and folders and files that are damaged."""

from __future__ import annotations

import dataclasses
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import vod_tiny

from crkd_core import geometry
from crkd_core.config import SegmentsConfig, TemporalConfig
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.data.sets import frames_of, open_set
from crkd_core.data.vod.boxes import image_boxes, to_boxes, to_objects
from crkd_core.data.vod.calibration import read_calibration
from crkd_core.data.vod.classes import VOD_CLASSES
from crkd_core.data.vod.errors import VodError
from crkd_core.data.vod.labels import encode_labels, read_labels
from crkd_core.data.vod.layout import Vod, is_vod
from crkd_core.data.vod.lidar import CLOUD_FIELDS, EGO_T_LIDAR, LIDAR_HEIGHT, read_cloud
from crkd_core.data.vod.poses import ODOMETRY, read_pose
from crkd_core.data.vod.radar import SCAN_FIELDS, read_scans
from crkd_core.data.vod.reader import VodFrames
from crkd_core.data.warn import warn_once
from crkd_core.evaluate.scoring import EvaluateError
from crkd_core.evaluate.vod.evaluation import check_labelled
from crkd_core.presets import preset
from crkd_core.sensors import CAMERAS, RADAR_AGE, RADAR_COLUMN, RADAR_COMPENSATED, RADAR_XYZ

FRONT = CAMERAS.index("CAM_FRONT")
CAR = ("Car", (12.0, 2.0, -1.0), (4.0, 1.8, 1.5), 0.3)
WALKER = ("Pedestrian", (8.0, -1.0, -0.9), (0.6, 0.5, 1.7), -2.0)
WASTE = "DontCare -1 -1 -10 5 5 20 20 -1 -1 -1 -1000 -1000 -1000 -10 0"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return vod_tiny.write(
        tmp_path / "vod", labels=(vod_tiny.label(*CAR), vod_tiny.label(*WALKER), WASTE)
    )


def read(root: Path, **options):
    return VodFrames(Vod(root), "train", **options)


def test_boxes_are_where_the_labels_say_in_spite_of_the_tilt(root):
    truth = read(root)[0].truth
    assert truth is not None and len(truth) == 2 and truth.classes == VOD_CLASSES
    for row, (name, center, size, yaw) in enumerate((CAR, WALKER)):
        assert truth.classes[truth.label[row]] == name
        expected = np.array(center) + np.array([0, 0, LIDAR_HEIGHT])
        np.testing.assert_allclose(truth.center[row], expected, atol=1e-9)
        np.testing.assert_allclose(truth.size[row], size)
        assert truth.yaw[row] == pytest.approx(yaw)
    assert np.isnan(truth.velocity).all() and (truth.attribute == -1).all()
    assert (truth.num_lidar_points + truth.num_radar_points > 0).all()


def test_camera_lidar_time_and_pose(root):
    frame = read(root, lidar_sweeps=1)[0]
    assert frame.token == "00012" and frame.stamp_ns == 1_200_000_000
    image = frame.images[FRONT]
    assert image is not None and image.shape == (vod_tiny.HEIGHT, vod_tiny.WIDTH, 3)
    assert frame.camera_present.sum() == 1 and frame.radar_present.tolist() == [True] + 4 * [False]
    np.testing.assert_allclose(frame.intrinsics[FRONT, [0, 1], 2], vod_tiny.CENTRE)
    lidar_T_ego = geometry.invert(EGO_T_LIDAR)
    np.testing.assert_allclose(
        lidar_T_ego @ frame.ego_T_cam[FRONT], vod_tiny.lidar_T_camera(), atol=1e-12
    )
    assert frame.lidar is not None
    np.testing.assert_allclose(frame.lidar[0], [10, 1, LIDAR_HEIGHT - 1, 127.5, 0], atol=1e-5)
    # The camera's pose in the map is that of the files; ego hangs on it.
    np.testing.assert_allclose(
        (frame.global_T_ego @ frame.ego_T_cam[FRONT])[:3, 3],
        np.array([100, 200, 1]) + vod_tiny.CAMERA_AT,
        atol=1e-9,
    )


def test_radar_speeds_become_velocities_and_scans_ages(root):
    points = read(root)[0].radar
    np.testing.assert_allclose(points[:, RADAR_AGE], [0, 2 / 13, 4 / 13], atol=1e-6)
    ego_T_radar = EGO_T_LIDAR @ vod_tiny.lidar_T_radar()
    forward, left = ego_T_radar[:2, 0], ego_T_radar[:2, 1]
    # Rays rise: 0.5 m over 10 m, and 1 m over 20 m.
    level = 1 / np.hypot(1, 0.05)
    np.testing.assert_allclose(points[0, RADAR_COMPENSATED], -2 * level * forward, atol=1e-5)
    np.testing.assert_allclose(points[1, RADAR_COMPENSATED], 3 * level * left, atol=1e-5)
    place = geometry.apply(ego_T_radar, [[10, 0, 0.5], [0, 20, 1.0], [5, 5, -0.3]])
    place[1, :2] += 3 * level * left * 2 / 13
    np.testing.assert_allclose(points[:, RADAR_XYZ], place, atol=1e-5)
    assert points[:, RADAR_COLUMN["rcs"]].tolist() == [12, -5, 0]
    assert (points[:, RADAR_COLUMN["dyn_prop"]] == -1).all()


@pytest.mark.parametrize(("scans", "returns"), [(0, 0), (1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_as_many_scans_as_are_asked_for(root, scans, returns):
    frame = read(root, radar_sweeps=scans)[0]
    assert len(frame.radar) == returns and frame.radar_present.any() == (scans > 0)


def test_a_network_reads_what_it_has_branches_for(root):
    frames = frames_of(open_set(root), "train", preset("vod_student").detector)
    frame = frames[0]
    assert frame.prepared is not None and frame.lidar is None and len(frame.radar) == 3
    teacher = frames_of(open_set(root), "train", preset("vod_teacher").detector, recorded=True)[0]
    assert teacher.lidar is not None and not len(teacher.radar) and teacher.prepared is None
    masked = frames_of(
        open_set(root), "train", preset("vod_student").detector, sensors=("RADAR_FRONT",)
    )[0]
    assert not masked.camera_present.any() and masked.radar_present.any()
    with pytest.raises(TypeError, match="slice"):
        frames[0:2]
    with pytest.raises(VodError, match="at most 5 radar scans, got 6"):
        frames_of(open_set(root), "train", preset("demo_student").detector)
    with pytest.raises(VodError, match="one LiDAR sweep a frame, got 3"):
        read(root, lidar_sweeps=3)
    for count in (3, -1):
        with pytest.raises(VodError, match=f"one LiDAR sweep a frame, got {count}"):
            read(root).with_lidar_sweeps(count)
    assert read(root).with_lidar_sweeps(1)[0].lidar is not None


@pytest.mark.parametrize("name", ["CAM_FRNT", "CAM_BACK", "RADAR_BACK_LEFT", "LIDAR_TOP"])
def test_sensors_that_it_does_not_have_are_refused(root, name):
    sensors = ("RADAR_FRONT", name)
    message = f"unknown sensors {name}; View-of-Delft has CAM_FRONT and RADAR_FRONT$"
    with pytest.raises(VodError, match=message):
        read(root, sensors=sensors)
    # Also one that the detector would not read.
    for network in ("vod_student", "vod_teacher"):
        with pytest.raises(VodError, match=message):
            frames_of(open_set(root), "train", preset(network).detector, sensors=sensors)


def test_the_test_set_has_no_truth(root):
    frames = VodFrames(Vod(root), "test")
    assert frames[0].truth is None and not len(frames.objects(0))
    with pytest.raises(VodError, match="00099 has no labels"):
        frames.truth(0)


def test_the_test_set_lies_among_the_others_in_the_archive(root):
    """There ``testing`` is a link to ``training``, which holds every frame."""
    for folder in (root / "lidar", *root.glob("radar*")):
        for path in (folder / "testing").rglob("*.*"):
            path.rename(folder / "training" / path.relative_to(folder / "testing"))
        shutil.rmtree(folder / "testing")
        (folder / "testing").symlink_to("training")
    frames = VodFrames(Vod(root), "test")
    assert frames[0].truth is None and not len(frames.objects(0)) and frames.digest()
    with pytest.raises(EvaluateError, match="frame 00099 is of the test set and has no labels"):
        check_labelled(frames)
    assert read(root)[0].truth is not None
    (root / "lidar/training/label_2/00012.txt").unlink()
    with pytest.raises(VodError, match=r"label_2/00012\.txt: cannot read the labels"):
        read(root)[0]
    (root / "lidar/ImageSets/test.txt").unlink()
    with pytest.raises(VodError, match=r"label_2/00099\.txt: cannot read the labels"):
        VodFrames(Vod(root), ["00099"])[0]


def test_a_place_that_the_recording_did_not_know_is_warned_of(root, caplog):
    path = root / "lidar/training/pose/00012.json"
    whole = path.read_text()
    for text in ("", whole.splitlines()[0], whole.splitlines()[0] + "\n\n"):
        caplog.clear()
        warn_once.cache_clear()
        path.write_text(text)
        frames = read(root)
        assert frames[0].global_T_ego is None and frames[0].truth is not None
        assert caplog.text.count("00012.json: has no 'mapToCamera'") == 1
    assert read_pose(path, ODOMETRY).shape == (4, 4)


def test_labels_survive_boxes_and_back(root):
    frames = read(root)
    objects = frames.objects(0).select(np.arange(2))
    calibration = frames.calibration(0)
    poses = {"ego_T_lidar": EGO_T_LIDAR, "camera_T_lidar": calibration.camera_T_sensor}
    boxes = to_boxes(objects, classes=VOD_CLASSES, **poses)
    again = to_objects(
        boxes,
        intrinsics=calibration.intrinsics,
        image_size=(vod_tiny.WIDTH, vod_tiny.HEIGHT),
        **poses,
    )
    assert again.name.tolist() == ["Car", "Pedestrian"]
    np.testing.assert_allclose(again.bottom, objects.bottom, atol=1e-9)
    np.testing.assert_allclose(again.size, objects.size)
    turn = geometry.wrap_angle(again.rotation - objects.rotation)
    np.testing.assert_allclose(turn, 0, atol=1e-9)
    side = np.arctan2(objects.bottom[:, 0], objects.bottom[:, 2])
    difference = geometry.wrap_angle(again.alpha + side - objects.rotation)
    np.testing.assert_allclose(difference, 0, atol=1e-9)
    path = root / "again.txt"
    path.write_text(encode_labels(again, scored=True))
    np.testing.assert_array_equal(read_labels(path).bottom, again.bottom)


@pytest.mark.parametrize("track", ["0.33", "nan", "-1", "1234567", "inf"])
def test_any_second_column_survives_writing(tmp_path, track):
    path = tmp_path / "00012.txt"
    path.write_text(f"Car {track} 2 0.1 0 0 9 9 1.5 1.8 4.2 1 2 10 0.1\n")
    objects = read_labels(path)
    path.write_text(encode_labels(objects))
    assert path.read_text().split()[1:3] == [track, "2"]
    np.testing.assert_array_equal(read_labels(path).track, objects.track)


def test_image_boxes_end_at_the_image_and_at_the_camera():
    def cube(x, z, half=1.0):
        signs = np.array(np.meshgrid(*[[-half, half]] * 3, indexing="ij")).reshape(3, -1).T
        # In the order of Boxes.corners, which its edges index: a ring below, the same above.
        ring = [0, 1, 3, 2, 4, 5, 7, 6]
        return signs[ring] + np.array([x, 0, z])

    corners = np.stack([cube(0, 11), cube(0, -5), cube(60, 11), cube(0.0, 0.5), cube(5, 11)])
    intrinsics = np.array([[100.0, 0, 50], [0, 100, 40], [0, 0, 1]])
    boxes = image_boxes(corners, intrinsics=intrinsics, image_size=(101, 81))
    np.testing.assert_allclose(boxes[0], [40, 30, 60, 50])
    assert not boxes[1].any() and not boxes[2].any()
    np.testing.assert_allclose(boxes[3], [0, 0, 100, 80])
    np.testing.assert_allclose(boxes[4], [50 + 400 / 12, 30, 100, 50])


def test_splits_are_the_lists(root):
    tables = Vod(root)
    assert tables.splits() == {"train": ["00012"], "test": ["00099"], "empty": []}
    assert tables.samples_of("00012,00099") == ["00012", "00099"]
    with pytest.raises(VodError, match=r"split 'val' is not known; lists .*: test, train"):
        tables.samples_of("val")
    with pytest.raises(VodError, match="'empty' is empty"):
        tables.samples_of("empty")
    with pytest.raises(VodError, match="no frame '00013'"):
        VodFrames(tables, ["00013"])
    (root / "lidar/ImageSets/val.txt").write_text("00012\n00012\n")
    with pytest.raises(VodError, match="frame 00012 is there twice"):
        tables.splits()
    (root / "lidar/ImageSets/val.txt").write_text("scene-1\n")
    with pytest.raises(VodError, match="got 'scene-1'"):
        tables.splits()


def test_data_sets_are_told_apart_by_their_layout(root, tiny_world):
    assert is_vod(root) and not is_vod(tiny_world)
    assert open_set(tiny_world).classes != open_set(root).classes
    with pytest.raises(VodError, match="has no versions"):
        open_set(root, version="v1.0-mini")
    with pytest.raises(NuScenesError, match="no version folder"):
        open_set(root / "lidar")
    with pytest.raises(NuScenesError, match="is View-of-Delft, and this command reads nuScenes a"):
        NuScenes(root)
    with pytest.raises(VodError, match="expected the root of View-of-Delft"):
        Vod(root / "radar")


def test_the_digest_follows_labels_and_calibration(root):
    before = read(root).digest()
    assert before == read(root).digest()
    labels = root / "lidar/training/label_2/00012.txt"
    labels.write_text(labels.read_text().replace("Car", "truck"))
    assert read(root).digest() != before


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("label_2/00012.txt", "Car 0 0 0", "line 1: expected a class and 14 numbers"),
        ("label_2/00012.txt", "Car a b", "line 1: expected numbers"),
        ("label_2/00012.txt", f"Car x{' 1' * 14}", "line 1: expected numbers"),
        ("label_2/00012.txt", "Tram" + 14 * " 1", "unknown classes Tram; known: Car"),
        (
            "label_2/00012.txt",
            "Car" + 13 * " 1" + " nan",
            "line 1: expected a finite place and rot",
        ),
        (
            "label_2/00012.txt",
            "Car" + 8 * " 1" + " 0" + 5 * " 1",
            "line 1: expected a size above 0",
        ),
        (
            "label_2/00012.txt",
            "Car" + 9 * " 1" + " -1" + 4 * " 1",
            "line 1: expected a size above",
        ),
        ("calib/00012.txt", "P2: 1 2 3", "P2: expected 12 numbers"),
        ("calib/00012.txt", "", "no line 'P2'"),
        ("pose/00012.json", '{"mapToCamera": [1, 2]}', "expected lines of JSON"),
        ("pose/00012.json", "no", "expected lines of JSON"),
        ("pose/00012.json", f'{{"mapToCamera": {[0] * 15 + [1]}}}', "a rotation and a shift"),
    ],
)
def test_damaged_texts_are_named(root, file, text, message):
    path = root / "lidar/training" / file
    path.write_text(text)
    with pytest.raises(VodError, match=message) as caught:
        read(root)[0]
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["Car", "DontCare"])
@pytest.mark.parametrize("column", range(15))
def test_every_number_of_an_object_that_is_read_must_be_finite(tmp_path, kind, column):
    numbers = ["1"] * 15
    numbers[column] = "nan"
    path = tmp_path / "00000.txt"
    path.write_text(f"\n{WASTE}\n\n{kind} {' '.join(numbers)}\n")
    # The track number is not read; of an area without care only what it is in the image is.
    if column == 0 or (kind == "DontCare" and 7 <= column <= 13):
        assert read_labels(path).name.tolist() == ["DontCare", kind]
    else:
        with pytest.raises(VodError, match=r"00000\.txt, line 4: expected .*nan"):
            read_labels(path)


def test_calibration_must_be_of_a_rectified_camera_and_a_rigid_pose(root):
    path = root / "lidar/training/calib/00012.txt"
    good = path.read_text()
    path.write_text(good.replace("P2: 80.0 0 48.0 0", "P2: 80.0 0 48.0 -3"))
    with pytest.raises(VodError, match="rectified camera"):
        read_calibration(path)
    path.write_text(good.replace("Tr_velo_to_cam: -0.0 -1.0", "Tr_velo_to_cam: 0.5 -1.0"))
    with pytest.raises(VodError, match="expected a rotation and a shift"):
        read_calibration(path)
    path.write_text(good.replace("P2: 80.0", "P2: 0.8"))
    with pytest.raises(VodError, match="fx and fy above 1"):
        read_calibration(path)
    turned = "R0_rect: 0.8 -0.6 0 0.6 0.8 0 0 0 1"
    path.write_text(re.sub(r"R0_rect: .*", turned, good))
    with pytest.raises(VodError, match=r"R0_rect: expected the identity, .* got \[\[0\.8, -0\.6"):
        read_calibration(path)
    path.write_text(re.sub(r"R0_rect: .*", "R0_rect: 1 0 0", good))
    with pytest.raises(VodError, match="R0_rect: expected 9 numbers, got '1 0 0'"):
        read_calibration(path)
    path.write_text(re.sub(r"R0_rect: .*\n", "", good))
    assert read_calibration(path).intrinsics[0, 0] == 80.0
    path.write_text(re.sub(r"(Tr_velo_to_cam:(?: \S+){3}) \S+", r"\1 1500.0", good))
    with pytest.raises(VodError, match="a shift of at most 100 m"):
        read_calibration(path)
    path.unlink()
    with pytest.raises(VodError, match="cannot read the calibration"):
        read_calibration(path)


@pytest.mark.parametrize(
    ("place", "data", "message"),
    [
        ("lidar/training", b"12345", "truncated, expected a multiple of 16"),
        ("lidar/training", np.full(8, 5e4, "<f4").tobytes(), "expected metres"),
        ("radar_5_scans/training", b"123", "truncated, expected a multiple of 28"),
        ("radar_5_scans/training", np.full(7, 5e3, "<f4").tobytes(), "at most 1000"),
        ("radar_5_scans/training", np.full(7, 1, "<f4").tobytes(), "number of a scan"),
    ],
)
def test_damaged_clouds_are_named(root, place, data, message):
    path = root / place / "velodyne/00012.bin"
    path.write_bytes(data)
    with pytest.raises(VodError, match=message) as caught:
        read(root, lidar_sweeps=1)[0]
    assert str(path) in str(caught.value)


def test_clouds_of_which_nothing_is_left_are_warned_of(tmp_path, caplog):
    path = tmp_path / "00012.bin"
    for fields, column, read_file in (
        (CLOUD_FIELDS, "reflectance", read_cloud),
        (SCAN_FIELDS, "v_r_compensated", read_scans),
    ):
        points = np.zeros((9, len(fields)), "<f4")
        points[:, :3] = 1
        points[:8, fields.index(column)] = np.nan
        path.write_bytes(points.tobytes())
        assert len(read_file(path)) == 1 and not caplog.text
        points[8, fields.index(column)] = np.nan
        path.write_bytes(points.tobytes())
        assert not len(read_file(path))
        assert f"00012.bin: none of its 9 points is left: {column} is not finite" in caplog.text
        caplog.clear()
    path.write_bytes(b"")
    assert not len(read_scans(path)) and not caplog.text, "a radar may see nothing"
    assert not len(read_cloud(path)) and "00012.bin: holds no point" in caplog.text


def test_what_is_not_unpacked_is_said(root):
    for path in (root / "radar_5_scans").rglob("*.bin"):
        path.unlink()
    with pytest.raises(VodError, match="cannot read radar file"):
        read(root)[0]
    (root / "radar_5_scans").rename(root / "elsewhere")
    with pytest.raises(VodError, match="no folder radar_5frames or radar_5_scans"):
        read(root)[0]
    assert read_pose(root / "lidar/training/pose/00012.json", ODOMETRY).shape == (4, 4)


def test_what_it_cannot_give_a_detector_is_refused_before_anything_is_read(root):
    detector = preset("vod_student").detector
    both = dataclasses.replace(detector, segments=SegmentsConfig(vehicles=("Car",)))
    with pytest.raises(VodError, match=r"has no maps.*segments\.vehicles those of Car"):
        VodFrames.for_detectors(Vod(root), "train", both)
    cars = dataclasses.replace(
        detector, segments=SegmentsConfig(classes=("vehicle",), vehicles=("Car",))
    )
    assert len(VodFrames.for_detectors(Vod(root), "train", cars)) > 0
    remembering = dataclasses.replace(detector, temporal=TemporalConfig())
    with pytest.raises(VodError, match=r"--set detector\.temporal=null"):
        VodFrames.for_detectors(Vod(root), "train", remembering, remembered=True)
