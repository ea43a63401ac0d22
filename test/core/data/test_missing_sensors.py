"""Data sets with holes: lost and damaged files, sensors without records, no annotations."""

import json

import handmade
import pytest

from crkd_core.data.cameras import CameraError
from crkd_core.data.lidar import LidarError
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
    with pytest.raises(NuScenesError, match="no key-frame record of LIDAR_TOP"):
        frames.tables.ego_translation(frame.token)
    path.write_text(json.dumps([r for r in rows if ANCHOR_CAMERA not in r["filename"]]))
    with pytest.raises(NuScenesError, match=f"no key-frame record of {ANCHOR_CAMERA}"):
        NuScenesFrames(NuScenes(root), "mini_train")[1]


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
    with pytest.raises(NuScenesError, match=rf"{rows[1]['token']}.*size: expected three numbers"):
        NuScenes(root)
