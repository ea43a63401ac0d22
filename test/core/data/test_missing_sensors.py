"""Data sets with holes: lost and damaged files, sensors without records, no annotations."""

import json
import pickle
import shutil

import cv2
import handmade
import numpy as np
import pytest

from crkd_core import geometry
from crkd_core.data.cameras import CameraError
from crkd_core.data.lidar import LidarError
from crkd_core.data.nuscenes import absent
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesError, NuScenesFrames
from crkd_core.data.radar import RadarError
from crkd_core.sensors import ANCHOR_CAMERA, CAMERAS, RADARS


@pytest.mark.parametrize(
    ("channel", "error", "truncated"),
    [
        ("CAM_BACK", CameraError, "truncated JPEG"),
        ("RADAR_FRONT", RadarError, "truncated"),
        ("LIDAR_TOP", LidarError, "truncated"),
    ],
)
def test_missing_and_truncated_files_are_named(tmp_path, channel, error, truncated):
    tables = NuScenes(handmade.write_version(tmp_path, samples=2, scenes=("scene-0061",)))
    frames = NuScenesFrames(tables, "mini_train", lidar_sweeps=3)
    path = tables.key_record(frames.tokens[1], channel).path
    data = path.read_bytes()
    path.write_bytes(data[:-47])
    with pytest.raises(error, match=f"{path.name}: {truncated}"):
        frames[1]
    path.unlink()
    with pytest.raises(error, match=f"{path.name}: cannot read .*: No such file"):
        frames[1]
    path.write_bytes(data)
    frames[1]


def test_sensors_without_records_are_missing_not_zero(tmp_path):
    root = handmade.write_version(tmp_path, samples=3, scenes=("scene-0061",))
    path = root / "v1.0-mini" / "sample_data.json"
    lost = ("CAM_FRONT_LEFT", "RADAR_FRONT_RIGHT", "LIDAR_TOP")
    rows = [
        row for row in json.loads(path.read_text()) if row["filename"].split("/")[1] not in lost
    ]
    path.write_text(json.dumps(rows))
    frames = NuScenesFrames(NuScenes(root), "mini_train", lidar_sweeps=10)
    frame = frames[1]
    assert frame.camera_present.tolist() == [name not in lost for name in CAMERAS]
    assert frame.radar_present.tolist() == [name not in lost for name in RADARS]
    assert frame.lidar is None
    # Without LiDAR range is measured from the reference.
    reference = frames.tables.reference(frame.token)
    assert reference.channel == ANCHOR_CAMERA
    ego = frames.tables.ego_translation(frame.token)
    assert ego.tolist() == reference.global_T_ego[:3, 3].tolist()


def without(root, *channels):
    """The tables of a rig that never had these sensors."""
    for table in ("sample_data", "sensor", "calibrated_sensor"):
        path = root / "v1.0-mini" / f"{table}.json"
        rows = json.loads(path.read_text())
        gone = {handmade.token("sensor", channel) for channel in channels}
        rows = [
            row
            for row in rows
            if row["token"] not in gone
            and row.get("sensor_token") not in gone
            and row.get("filename", "/").split("/")[1] not in channels
        ]
        path.write_text(json.dumps(rows))
    return root


@pytest.mark.parametrize(
    ("lost", "reference"),
    [
        ((ANCHOR_CAMERA,), "CAM_BACK"),
        ((ANCHOR_CAMERA, "CAM_BACK", "RADAR_FRONT"), "CAM_BACK_RIGHT"),
        (RADARS, ANCHOR_CAMERA),
        (CAMERAS, "RADAR_FRONT"),
        ((*CAMERAS, *RADARS), "LIDAR_TOP"),
    ],
)
def test_any_sensor_may_be_missing_for_good(tmp_path, lost, reference):
    scenes = ("scene-0061",)
    root = handmade.write_version(tmp_path, samples=3, scenes=scenes)
    whole = NuScenes(handmade.write_version(tmp_path / "whole", samples=3, scenes=scenes))
    tables = NuScenes(without(root, *lost))
    frames = NuScenesFrames(tables, "mini_train", lidar_sweeps=2)
    assert tables.anchor("scene-0061") == reference
    for frame in frames:
        record = whole.key_record(frame.token, reference)
        assert frame.stamp_ns == record.stamp_ns
        np.testing.assert_array_equal(frame.global_T_ego, record.global_T_ego)
        assert frame.sensors == {*CAMERAS, *RADARS, "LIDAR_TOP"} - {*lost}
        # The same points, seen from another reference.
        center = geometry.apply(frame.global_T_ego, frame.truth.center)
        np.testing.assert_allclose(center, whole.truth_global(frame.token).center, atol=1e-6)


def test_a_sample_without_any_file_is_named(tmp_path):
    root = handmade.write_version(tmp_path, samples=3, scenes=("scene-0061",))
    path = root / "v1.0-mini" / "sample_data.json"
    token = NuScenes(root).samples_of("mini_train")[1]
    rows = [row for row in json.loads(path.read_text()) if row["sample_token"] != token]
    path.write_text(json.dumps(rows))
    frames = NuScenesFrames(NuScenes(root), "mini_train")
    assert frames[0].camera_present.all()
    with pytest.raises(NuScenesError, match=f"sample {token}: no key-frame record of any known"):
        frames[1]


def test_an_image_of_another_size_than_the_tables_say_is_refused(tmp_path):
    root = handmade.write_version(tmp_path, samples=2, scenes=("scene-0061",))
    frames = NuScenesFrames(NuScenes(root), "mini_train")
    path = frames.tables.key_record(frames.tokens[0], "CAM_BACK").path
    half = cv2.resize(cv2.imread(str(path)), (48, 27))
    cv2.imwrite(str(path), half)
    with pytest.raises(CameraError, match=rf"{path.name}: expected 96 x 54 pixels.* got 48 x 27"):
        frames[0]
    # A table that does not say is believed.
    table = root / "v1.0-mini" / "sample_data.json"
    rows = json.loads(table.read_text())
    for row in rows:
        del row["width"], row["height"]
    table.write_text(json.dumps(rows))
    assert NuScenesFrames(NuScenes(root), "mini_train")[0].images[3].shape == (27, 48, 3)


@pytest.mark.parametrize("listed", [True, False])
def test_key_frames_alone_are_enough_and_what_is_missing_is_said(
    tmp_path, caplog, monkeypatch, listed
):
    """Real downloads of key frames list the sweeps; a folder without them, or with some."""
    if listed:
        monkeypatch.setattr(absent, "_FEW", 1)
    root = handmade.write_version(tmp_path, samples=4, scenes=("scene-0061",))
    tables = NuScenes(root)
    whole = NuScenesFrames(tables, "mini_train", lidar_sweeps=10)[2]
    for name in ("RADAR_FRONT", "LIDAR_TOP"):
        shutil.rmtree(root / "sweeps" / name)
    next((root / "sweeps" / "RADAR_BACK_LEFT").iterdir()).unlink()
    frames = NuScenesFrames(tables, "mini_train", lidar_sweeps=10)
    assert "files that sample_data.json lists are not there: RADAR_FRONT " in caplog.text
    assert "RADAR_BACK_LEFT 1 of " in caplog.text and "LIDAR_TOP " in caplog.text
    frame = frames[2]
    key = tables.key_record(frame.token, "RADAR_FRONT")
    # Key frames that are not later than the reference, if the last is new enough.
    present = whole.radar_present.copy()
    present[0] = key.stamp_ns <= frame.stamp_ns
    np.testing.assert_array_equal(frame.radar_present, present)
    for sensor, name in enumerate(RADARS):
        ages = np.unique(frame.radar[frame.radar[:, 19] == sensor][:, 18])
        before = np.unique(whole.radar[whole.radar[:, 19] == sensor][:, 18])
        assert (len(ages) < len(before)) == (name == "RADAR_FRONT")
        assert name == "RADAR_FRONT" or ages.max() < 0.55
    np.testing.assert_allclose(np.unique(frame.lidar[:, 4]), [0.0, 0.5])
    assert len(pickle.loads(pickle.dumps(frames))[2].radar) == len(frame.radar)
    # A key frame must be there.
    tables.key_record(frame.token, "RADAR_BACK_RIGHT").path.unlink()
    with pytest.raises(RadarError, match=r"RADAR_BACK_RIGHT.*cannot read radar file: No such"):
        NuScenesFrames(tables, "mini_train")[2]


@pytest.mark.parametrize("few", [1, 10**6])
def test_a_link_to_nothing_is_no_file(tmp_path, caplog, monkeypatch, few):
    monkeypatch.setattr(absent, "_FEW", few)
    root = handmade.write_version(tmp_path, samples=4, scenes=("scene-0061",))
    for path in (root / "sweeps" / "RADAR_FRONT").iterdir():
        path.unlink()
        path.symlink_to(tmp_path / "not fetched" / path.name)
    real = next((root / "sweeps" / "RADAR_BACK_LEFT").iterdir())
    shutil.move(real, tmp_path / "elsewhere.pcd")
    real.symlink_to(tmp_path / "elsewhere.pcd")
    frames = NuScenesFrames(NuScenes(root), "mini_train")
    assert "are not there: RADAR_FRONT " in caplog.text and "RADAR_BACK" not in caplog.messages[0]
    assert all(len(frame.radar) for frame in frames)


def test_without_annotations_the_truth_is_unknown(tmp_path):
    root = handmade.write_version(tmp_path, version="v1.0-test", samples=2, scenes=("scene-0077",))
    (root / "v1.0-test" / "sample_annotation.json").write_text("[]")
    tables = NuScenes(root)
    frame = NuScenesFrames(tables, "test")[0]
    assert not tables.annotated and frame.truth is None
    assert len(tables.truth_global(frame.token)) == 0


def test_a_set_without_a_single_box_has_empty_truth(tmp_path):
    root = handmade.write_version(tmp_path, samples=2, scenes=("scene-0061",))
    (root / "v1.0-mini" / "sample_annotation.json").write_text("[]")
    tables = NuScenes(root)
    truth = NuScenesFrames(tables, "mini_train")[0].truth
    assert tables.annotated and truth is not None and len(truth) == 0


def test_a_box_without_extent_is_refused(tmp_path):
    root = handmade.write_version(tmp_path, samples=2, scenes=("scene-0061",))
    path = root / "v1.0-mini" / "sample_annotation.json"
    rows = json.loads(path.read_text())
    rows[1]["size"] = [1.0, -2.0, 3.0]
    path.write_text(json.dumps(rows))
    with pytest.raises(NuScenesError, match=rf"{rows[1]['token']}.*size: expected 3 numbers"):
        NuScenes(root)
