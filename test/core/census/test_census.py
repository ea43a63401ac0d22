"""Counting a data set: figures by hand, tables beside nuScenes, sets that lack things."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from crkd_core.census import boxes, sweeps
from crkd_core.census.boxes import BoxCounts
from crkd_core.census.report import world_report
from crkd_core.census.take import real, take_census
from crkd_core.cli import app
from crkd_core.config import ConfigError
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.sensors import RADAR_COLUMN, RADARS

REAL = Path(__file__).resolve().parents[4] / "shared" / "real" / "nuscenes_frame"


def counts() -> BoxCounts:
    """Two cars near, one far, one pedestrian in the middle, two samples."""
    return BoxCounts(
        samples=2,
        label=np.array([0, 0, 0, 5]),
        distance=np.array([5.0, 19.9, 60.0, 20.0]),
        lidar=np.array([100, 0, 3, 7]),
        radar=np.array([3, 1, 9, 0]),
    )


def test_hits_by_hand() -> None:
    found = {(label, band): hit for label, band, hit in boxes.hits(counts())}
    assert set(found) == {("car", "0-20"), ("pedestrian", "20-35")}
    assert found["car", "0-20"].figures == (1.0, 2.0, 0.5, 50.0)
    assert found["pedestrian", "20-35"].figures == (0.0, 0.0, 1.0, 7.0)
    assert boxes.sample_figures(counts()) == {
        "boxes within 55 m, a sample": 1.5,
        "share of boxes without a radar return": pytest.approx(1 / 3),
    }
    assert boxes.class_shares(counts())["car"] == 0.75


def test_radar_figures_by_hand() -> None:
    points = np.zeros((4, 18), np.float32)
    points[:, 0] = (3, 30, 0, 100)
    points[:, 1] = (4, 30, 10, 0)
    column = RADAR_COLUMN
    points[:, column["dyn_prop"]] = (0, 1, 1, 4)
    points[:, column["ambig_state"]] = (3, 3, 3, 0)
    points[:, column["invalid_state"]] = (0, 0, 4, 7)
    points[:, column["pdh0"]] = (1, 1, 3, 6)
    points[:, column["vx_comp"]] = (0.9, 0.2, 5.0, 5.0)
    points[:, column["vy_comp"]] = (0.9, 0.0, 0.0, 0.0)
    figures = sweeps.radar_figures([points, points[:0]])
    assert figures["returns"] == 2.0
    assert figures["returns left by the devkit's default filter"] == 1.0
    assert figures["returns above 1 m/s over ground, after the filter"] == 0.5
    assert figures["share with invalid_state other than 0"] == 0.5
    assert figures["share with ambig_state other than 3"] == 0.25
    assert figures["share with pdh0 above 1"] == 0.5
    assert figures["share with dyn_prop 1"] == 0.5
    assert figures["range, most, m"] == 100.0
    assert figures["azimuth, median, degrees"] == pytest.approx((45 + 53.13) / 2, abs=0.01)


def test_nothing_has_no_shares() -> None:
    for nothing in ([], [np.zeros((0, 18))]):
        figures = sweeps.radar_figures(nothing)
        assert figures["returns"] == 0 and np.isnan(figures["range, median, m"])


def test_lidar_bands() -> None:
    points = np.zeros((5, 5))
    points[:, 0] = (1, 3, 9.9, 10, 80)
    figures = list(sweeps.lidar_figures([points, points]).values())
    assert figures == [2, 1, 0, 0, 0, 0, 1]


def test_the_table_of_nuscenes_is_whole() -> None:
    known = real()
    assert set(known["classes"]) == set(NUSCENES_CLASSES)
    assert set(known["radar"]) == set(sweeps.radar_figures([]))
    assert set(known["lidar"]) == set(sweeps.lidar_figures([]))
    assert set(known["samples"]) == set(boxes.sample_figures(counts()))
    bands = {boxes.band_name(band) for band in boxes.BANDS}
    for label, found in known["boxes"].items():
        assert label in NUSCENES_CLASSES and set(found) <= bands
        assert all(len(figures) == 4 for figures in found.values())
    assert "scene-0103" in known["source"]


def test_every_sweep_and_box_of_a_world_is_counted(tiny_world: Path) -> None:
    data = NuScenes(tiny_world)
    census = take_census(data)
    assert len(census.radar) == 8 * len(RADARS) and len(census.lidar) == 8
    assert census.missing == 0 and len(census.scenes) == 2
    assert census.boxes is not None
    total = sum(len(data.truth_global(token).label) for s in data.scenes
                for token in data.samples_of_scene(s))  # fmt: skip
    assert len(census.boxes.label) == total and census.boxes.samples == 8
    few = take_census(data, split="world_val", most=2)
    assert len(few.lidar) == 2 and few.boxes is not None and few.boxes.samples == 4
    with pytest.raises(NuScenesError, match="split 'nowhere' is not known"):
        take_census(data, split="nowhere")


def test_the_command_prints_and_draws(tiny_world: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "census.png"
    arguments = ["world-report", str(tiny_world), "--samples", "2", "--out", str(out)]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    for text in ("radar returns inside", "dyn_prop 4", "LiDAR sweep", "nuScenes v1.0"):
        assert text in done.output
    assert out.read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ConfigError, match=r"--out: expected FILE.png, got counts.jpg"):
        CliRunner().invoke(app, [*arguments[:-1], "counts.jpg"], catch_exceptions=False)


def test_a_set_without_boxes_has_no_tables_of_them(tiny_world: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_world / "v1.0-mini", tmp_path / "v1.0-test")
    for name in ("samples", "sweeps"):
        (tmp_path / name).symlink_to(tiny_world / name)
    (tmp_path / "v1.0-test" / "sample_annotation.json").write_text("[]")
    tables = world_report(tmp_path, most=1, out=tmp_path / "census.png")
    titles = [table.title for table in tables]
    assert [title for title in titles if title.startswith("Boxes")] == ["Boxes left out"]
    assert "A radar sweep (5 read)" in titles and (tmp_path / "census.png").exists()


def test_a_scene_without_samples_is_refused(tiny_world: Path, tmp_path: Path) -> None:
    folder = tmp_path / "v1.0-mini"
    shutil.copytree(tiny_world / "v1.0-mini", folder)
    rows = json.loads((folder / "scene.json").read_text())
    rows.append({**rows[0], "token": "empty", "name": "scene-9999"})
    (folder / "scene.json").write_text(json.dumps(rows))
    with pytest.raises(NuScenesError, match="at least one sample in scene-9999, got none"):
        world_report(tmp_path, split="scene-9999", out=tmp_path / "census.png")


def test_a_train_and_a_terrain_are_no_rain(tiny_world: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_world / "v1.0-mini", tmp_path / "v1.0-mini")
    path = tmp_path / "v1.0-mini" / "scene.json"
    rows = json.loads(path.read_text())
    for row, text in zip(rows, ("Train, rough terrain, fortnight", "NIGHT, rainy"), strict=True):
        row["description"] = text
    path.write_text(json.dumps(rows))
    (table,) = (one for one in world_report(tmp_path, most=1) if one.title.startswith("Scenes"))
    assert table.rows == [["all", "2"], ["night", "1"], ["rain", "1"]]


def test_what_is_not_on_disk_is_said(tiny_world: Path, tmp_path: Path) -> None:
    """Tables without a single sensor file: a subset as people keep it."""
    shutil.copytree(tiny_world / "v1.0-mini", tmp_path / "v1.0-mini")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # As of a logarithm of nothing.
        told = world_report(tmp_path, most=3, out=tmp_path / "census.png")
    tables = {table.title: table.rows for table in told}
    assert tables["Sweeps left out"] == [["named in the tables, not readable", "18"]]
    assert any(title.startswith("Boxes and radar") for title in tables)


@pytest.mark.skipif(not REAL.exists(), reason="no real recording here")
def test_a_real_key_frame_counts(tmp_path: Path) -> None:
    tables = {table.title: table for table in world_report(REAL, out=tmp_path / "real.png")}
    rows = {row[0]: row[1:] for row in tables["A radar sweep (5 read)"].rows}
    assert rows["returns"][0] == "115"
    assert {row[0] for row in tables["Boxes of 1 samples"].rows} >= set(NUSCENES_CLASSES)
