"""The reader against the official devkit and against brute force."""

import json
import pickle

import handmade
import numpy as np
import pytest

from crkd_core import geometry
from crkd_core.config import ImageConfig, TemporalConfig
from crkd_core.data.cameras import prepare
from crkd_core.data.nuscenes.classes import NUSCENES_ATTRIBUTES, NUSCENES_CLASSES
from crkd_core.data.nuscenes.index_boxes import _velocity
from crkd_core.data.nuscenes.reader import CHANNELS, NuScenes, NuScenesError, NuScenesFrames
from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return handmade.write_version(tmp_path_factory.mktemp("data"), samples=6)


@pytest.fixture(scope="module")
def tables(root):
    return NuScenes(root)


@pytest.fixture(scope="module")
def frames(tables):
    return NuScenesFrames(tables, tables.samples_of("mini_train"), lidar_sweeps=10)


@pytest.fixture(scope="module")
def devkit(root):
    module = pytest.importorskip("nuscenes")
    return module.NuScenes(version="v1.0-mini", dataroot=str(root), verbose=False)


def devkit_pose(devkit, record):
    row = devkit.get("ego_pose", record["ego_pose_token"])
    return geometry.pose(row["translation"], row["rotation"])


def test_samples_are_those_of_the_devkit_in_time_order(tables, devkit):
    assert tables.scenes == [row["name"] for row in devkit.scene]
    for scene in devkit.scene:
        tokens, token = [], scene["first_sample_token"]
        while token:
            tokens.append(token)
            token = devkit.get("sample", token)["next"]
        assert tables.samples_of_scene(scene["name"]) == tokens
        for one in tokens:
            assert tables.scene_of(one) == scene["name"]
            assert tables.stamp_ns(one) == devkit.get("sample", one)["timestamp"] * 1000
        assert tables.description_of(scene["name"]) == scene["description"]
        assert tables.location_of(scene["name"]) == "singapore-onenorth"


def test_truth_is_what_the_devkit_evaluates(tables, devkit):
    from nuscenes.eval.common.loaders import add_center_dist, load_gt
    from nuscenes.eval.common.utils import quaternion_yaw
    from nuscenes.eval.detection.data_classes import DetectionBox
    from pyquaternion import Quaternion

    nan_velocities, boxes = 0, 0
    for split in ("mini_train", "mini_val"):
        theirs = add_center_dist(devkit, load_gt(devkit, split, DetectionBox))
        assert set(theirs.sample_tokens) == set(tables.samples_of(split))
        for token in theirs.sample_tokens:
            ours = tables.truth_global(token)
            assert len(ours) == len(theirs[token])
            for i, box in enumerate(theirs[token]):
                assert tuple(ours.center[i]) == tuple(box.translation)
                assert tuple(geometry.lwh_to_wlh(ours.size[i])) == tuple(box.size)
                yaw = quaternion_yaw(Quaternion(box.rotation))
                assert ours.yaw[i] == pytest.approx(yaw, abs=1e-12)
                np.testing.assert_array_equal(ours.velocity[i], box.velocity)
                nan_velocities += bool(np.isnan(box.velocity).any())
                assert NUSCENES_CLASSES[ours.label[i]] == box.detection_name
                attribute = int(ours.attribute[i])
                assert (
                    NUSCENES_ATTRIBUTES[attribute] if attribute >= 0 else ""
                ) == box.attribute_name
                assert ours.num_lidar_points[i] + ours.num_radar_points[i] == box.num_pts
                range_vector = ours.center[i] - tables.ego_translation(token)
                assert tuple(range_vector) == tuple(box.ego_translation)
                boxes += 1
    # The set must hold known and unknown velocities, or the rule was not tested.
    assert 0 < nan_velocities < boxes / 2


def test_how_near_the_neighbours_of_a_velocity_must_be():
    """The devkit's limits: 1.5 s to an only neighbour, 3 s from one neighbour to the other."""
    known = {
        (0.0, 1.4, 2.8): [True, True, True],
        (0.0, 0.5, 2.9): [True, True, False],
        (0.0, 1.6, 3.05): [False, False, True],
    }
    for seconds, expected in known.items():
        x = np.array([0.0, 1.0, 5.0])
        center = np.stack([x, 2 * x, 0 * x], 1)
        stamp = (np.array(seconds) * 1e9).astype(np.int64)
        found = _velocity(center, stamp, np.array([-1, 0, 1]), np.array([1, 2, -1]))
        a, b, c = seconds
        slopes = np.array([1 / (b - a), 5 / (c - a), 4 / (c - b)])
        slopes[~np.array(expected)] = np.nan
        np.testing.assert_allclose(found, np.stack([slopes, 2 * slopes], 1))
    alone = _velocity(np.zeros((1, 3)), np.zeros(1, np.int64), np.array([-1]), np.array([-1]))
    assert np.isnan(alone).all()


def test_class_of_every_category(tables):
    detection = pytest.importorskip("nuscenes.eval.detection.utils")
    from crkd_core.data.nuscenes.index_boxes import CATEGORY_CLASS

    assert len(CATEGORY_CLASS) == 14 and set(CATEGORY_CLASS.values()) == set(NUSCENES_CLASSES)
    for category in [*CATEGORY_CLASS, *handmade.CATEGORIES, "vehicle.emergency.police"]:
        assert CATEGORY_CLASS.get(category) == detection.category_to_detection_name(category)


def test_bicycle_racks(tables, devkit):
    seen = 0
    for sample in devkit.sample:
        rows = [devkit.get("sample_annotation", token) for token in sample["anns"]]
        rows = [row for row in rows if row["category_name"] == "static_object.bicycle_rack"]
        racks = tables.bicycle_racks(sample["token"])
        assert np.array_equal(racks.center, np.reshape([r["translation"] for r in rows], (-1, 3)))
        assert set(racks.classes).isdisjoint(tables.classes) and len(racks) == len(rows)
        seen += len(rows)
    assert seen


def test_truth_of_a_frame_is_seen_from_ego_at_the_anchor(frames, devkit):
    for frame in frames:
        sample = devkit.get("sample", frame.token)
        anchor = devkit.get("sample_data", sample["data"][ANCHOR_CAMERA])
        assert frame.stamp_ns == anchor["timestamp"] * 1000
        assert np.allclose(frame.global_T_ego, devkit_pose(devkit, anchor), atol=1e-12)
        boxes = devkit.get_boxes(anchor["token"])
        from crkd_core.data.nuscenes.index_boxes import CATEGORY_CLASS

        boxes = [box for box in boxes if box.name in CATEGORY_CLASS]
        assert len(boxes) == len(frame.truth)
        row = devkit.get("ego_pose", anchor["ego_pose_token"])
        from pyquaternion import Quaternion

        for i, box in enumerate(boxes):
            velocity = devkit.box_velocity(box.token)
            box.translate(-np.array(row["translation"]))
            box.rotate(Quaternion(row["rotation"]).inverse)
            assert np.allclose(box.center, frame.truth.center[i], atol=1e-9)
            heading = box.orientation.rotation_matrix[:, 0]
            # Ego pitches and rolls by a degree; the heading in its plane changes by less than that
            # squared.
            yaw = np.arctan2(heading[1], heading[0])
            assert abs(geometry.wrap_angle(yaw - frame.truth.yaw[i])) < 1e-3
            turned = Quaternion(row["rotation"]).inverse.rotate([*velocity[:2], 0.0])
            np.testing.assert_allclose(frame.truth.velocity[i], turned[:2], atol=1e-9)


def test_cameras_go_through_their_own_ego_pose(frames, devkit, root):
    import cv2

    for frame in frames:
        sample = devkit.get("sample", frame.token)
        for i, name in enumerate(CAMERAS):
            record = devkit.get("sample_data", sample["data"][name])
            calib = devkit.get("calibrated_sensor", record["calibrated_sensor_token"])
            mounting = geometry.pose(calib["translation"], calib["rotation"])
            expected = np.linalg.inv(frame.global_T_ego) @ devkit_pose(devkit, record) @ mounting
            assert np.allclose(frame.ego_T_cam[i], expected, atol=1e-9)
            assert np.array_equal(frame.intrinsics[i], calib["camera_intrinsic"])
            image = cv2.imread(str(root / record["filename"]))[:, :, ::-1]
            assert np.array_equal(frame.images[i], image)
            moved = np.linalg.norm(expected[:3, 3] - mounting[:3, 3])
            assert (moved > 0.05) == (name != ANCHOR_CAMERA)


def test_radar_points_lie_where_the_devkit_puts_them(frames, devkit):
    """Sweep by sweep, matched by time; ours without the motion of the objects."""
    from nuscenes.utils.data_classes import RadarPointCloud

    RadarPointCloud.disable_filters()
    try:
        for frame in frames:
            sample = devkit.get("sample", frame.token)
            anchor = devkit.get("sample_data", sample["data"][ANCHOR_CAMERA])
            calib = devkit.get("calibrated_sensor", anchor["calibrated_sensor_token"])
            ego_T_cam = geometry.pose(calib["translation"], calib["rotation"])
            for sensor, name in enumerate(RADARS):
                cloud, lags = RadarPointCloud.from_file_multisweep(
                    devkit, sample, name, ANCHOR_CAMERA, nsweeps=8, min_distance=0.0
                )
                theirs = geometry.apply(ego_T_cam, cloud.points[:3].T)
                ours = frame.radar[frame.radar[:, 19] == sensor].astype(float)
                still = ours[:, :3].copy()
                still[:, :2] -= ours[:, 8:10] * ours[:, 18:19]
                matched = 0
                for age in np.unique(ours[:, 18]):
                    mine = still[ours[:, 18] == age]
                    other = theirs[np.abs(lags[0] - age) < 1e-4]
                    if len(other):
                        assert np.allclose(mine, other, atol=1e-3)
                        matched += 1
                assert matched >= min(5, len(np.unique(ours[:, 18])) - 1)
    finally:
        RadarPointCloud.default_filters()


def test_radar_sweeps_are_the_last_not_later_than_the_reference(frames, devkit):
    counts = set()
    for frame in frames:
        scene = devkit.get("sample", frame.token)["scene_token"]
        for sensor, name in enumerate(RADARS):
            stamps = sorted(
                row["timestamp"]
                for row in devkit.sample_data
                if row["channel"] == name
                and devkit.get("sample", row["sample_token"])["scene_token"] == scene
                and row["timestamp"] * 1000 <= frame.stamp_ns
            )[-6:]
            ages = frame.radar[frame.radar[:, 19] == sensor][:, 18]
            expected = [(frame.stamp_ns - stamp * 1000) * 1e-9 for stamp in reversed(stamps)]
            assert np.allclose(list(dict.fromkeys(ages)), expected, atol=1e-6)
            counts.add(len(stamps))
    # Full histories, and shorter ones at the start of the drive.
    assert max(counts) == 6 and min(counts) < 6


def test_radar_velocities_are_turned_into_ego_axes(tables, devkit):
    from nuscenes.utils.data_classes import RadarPointCloud

    frame = NuScenesFrames(tables, "mini_val", radar_sweeps=1)[2]
    scene = tables.scene_of(frame.token)
    for sensor, name in enumerate(RADARS):
        ours = frame.radar[frame.radar[:, 19] == sensor]
        record = [r for r in tables.records(scene, name) if r.stamp_ns <= frame.stamp_ns][-1]
        RadarPointCloud.disable_filters()
        raw = RadarPointCloud.from_file(str(record.path)).points.T
        RadarPointCloud.default_filters()
        turn = np.linalg.inv(frame.global_T_ego) @ record.global_T_ego @ record.ego_T_sensor
        for columns in ((6, 7), (8, 9)):
            vectors = np.pad(raw[:, columns], ((0, 0), (0, 1))) @ turn[:3, :3].T
            assert np.allclose(ours[:, columns], vectors[:, :2], atol=1e-4)
        assert np.array_equal(ours[:, [3, 4, 5]], raw[:, [3, 4, 5]].astype(np.float32))


def test_lidar_points_lie_where_the_devkit_puts_them(frames, devkit):
    from nuscenes.utils.data_classes import LidarPointCloud

    for frame in frames:
        sample = devkit.get("sample", frame.token)
        anchor = devkit.get("sample_data", sample["data"][ANCHOR_CAMERA])
        calib = devkit.get("calibrated_sensor", anchor["calibrated_sensor_token"])
        ego_T_cam = geometry.pose(calib["translation"], calib["rotation"])
        key = devkit.get("sample_data", sample["data"]["LIDAR_TOP"])
        assert 0 < key["timestamp"] * 1000 - frame.stamp_ns < 2_000_000
        for close in (0.0, 1.0):
            cloud, lags = LidarPointCloud.from_file_multisweep(
                devkit, sample, "LIDAR_TOP", ANCHOR_CAMERA, nsweeps=10, min_distance=close
            )
            lags = lags[0] - lags[0].min()
            # Close points go from the sweeps, not from the key sweep.
            part = lags == 0 if close == 0 else lags > 0
            points = geometry.apply(ego_T_cam, cloud.points[:3].T)
            expected = np.column_stack([points, cloud.points[3], lags])[part]
            ours = frame.lidar[(frame.lidar[:, 4] == 0) == (close == 0)]
            assert ours.shape == expected.shape
            assert np.allclose(ours, expected, atol=2e-4)


def test_records_are_all_files_of_a_channel_in_time_order(tables, devkit, root):
    for scene in tables.scenes:
        for channel in CHANNELS:
            rows = sorted(
                (
                    row
                    for row in devkit.sample_data
                    if row["channel"] == channel and scene in row["filename"]
                ),
                key=lambda row: row["timestamp"],
            )
            records = list(tables.records(scene, channel))
            assert [r.path for r in records] == [root / row["filename"] for row in rows]
            assert [r.stamp_ns for r in records] == [row["timestamp"] * 1000 for row in rows]
            assert [r.is_key_frame for r in records] == [row["is_key_frame"] for row in rows]
            assert [r.sample_token for r in records] == [row["sample_token"] for row in rows]
            assert {r.channel for r in records} == {channel}
            size = handmade.IMAGE_SIZE if channel in CAMERAS else (0, 0)
            assert {(r.width, r.height) for r in records} == {size}
            for record, row in zip(records, rows, strict=True):
                assert np.allclose(record.global_T_ego, devkit_pose(devkit, row), atol=1e-12)
    for token in tables.samples_of("mini_val"):
        for channel in CHANNELS:
            row = devkit.get("sample_data", devkit.get("sample", token)["data"][channel])
            record = tables.key_record(token, channel)
            assert record.path == root / row["filename"] and record.is_key_frame


def test_images_come_prepared_when_asked(tables, frames):
    config = ImageConfig(width=48, height=20, zoom=1.0)
    prepared = NuScenesFrames(tables, "mini_train", image=config)[1]
    expected = prepare(frames[1], config)
    assert prepared.prepared == config and frames[1].prepared is None
    assert np.array_equal(prepared.intrinsics, expected.intrinsics)
    for one, other in zip(prepared.images, expected.images, strict=True):
        assert np.array_equal(one, other)


def test_sensors_that_are_not_wanted_are_masked(tables, frames):
    wanted = ("CAM_FRONT", "CAM_BACK", "RADAR_BACK_LEFT")
    masked = NuScenesFrames(tables, "mini_train", sensors=wanted)[2]
    expected = frames[2].keeping(wanted)
    assert masked.lidar is None
    assert np.array_equal(masked.camera_present, expected.camera_present)
    assert np.array_equal(masked.radar_present, expected.radar_present)
    assert np.array_equal(masked.radar, expected.radar)
    assert np.array_equal(masked.ego_T_cam, expected.ego_T_cam)
    with pytest.raises(NuScenesError, match="unknown sensors CAM_TOP; known: CAM_FRONT"):
        NuScenesFrames(tables, "mini_train", sensors=("CAM_TOP",))


def test_frames_are_a_sequence_and_travel_to_workers(tables, frames):
    assert len(frames) == 6 and frames[-1].token == frames.tokens[-1]
    with pytest.raises(IndexError):
        frames[6]
    with pytest.raises(TypeError, match="slice"):
        frames[0:2]
    data = pickle.dumps(frames)
    assert len(data) < 5000
    copy = pickle.loads(data)
    assert np.array_equal(copy[3].radar, frames[3].radar)


def test_a_sample_without_key_records_hinders_no_other(tmp_path):
    root = handmade.write_version(tmp_path, scenes=("scene-0061",), samples=4)
    memory = TemporalConfig(frames=3, interval=0.5)
    whole = NuScenesFrames(NuScenes(root), "mini_train", memory=memory)
    expected = [past and past.frame.token for past in whole[3].past]
    assert expected == whole.tokens[2::-1]
    lost = whole.tokens[1]
    path = root / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    for row in rows:
        row["is_key_frame"] &= row["sample_token"] != lost
    path.write_text(json.dumps(rows))
    tables = NuScenes(root)
    frames = NuScenesFrames(tables, "mini_train", memory=memory)
    found = [past and past.frame.token for past in frames[3].past]
    assert found == [None if token == lost else token for token in expected]
    assert tables.anchor("scene-0061") == ANCHOR_CAMERA
    with pytest.raises(NuScenesError, match=f"sample {lost}: no key-frame record"):
        frames[1]


def test_what_is_not_there_is_named(tables):
    with pytest.raises(NuScenesError, match=r"no sample 'x' in .*mini, which has 12 samples"):
        tables.truth_global("x")
    with pytest.raises(NuScenesError, match=r"no scene 'x' .* 2 scenes: scene-0061, scene-0103"):
        tables.samples_of_scene("x")
    with pytest.raises(NuScenesError, match="unknown channel 'CAM_TOP'; known: CAM_FRONT"):
        list(tables.records("scene-0061", "CAM_TOP"))
    with pytest.raises(NuScenesError, match="expected at least one sample"):
        NuScenesFrames(tables, [])
    with pytest.raises(NuScenesError, match="radar_sweeps >= 0"):
        NuScenesFrames(tables, "mini_train", radar_sweeps=-1)
