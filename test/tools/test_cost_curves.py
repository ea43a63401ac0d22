"""The command that draws what a frame costs, on a small network."""

from __future__ import annotations

import dataclasses

import pytest
from cost_curves import TITLES, draw, settings, timed
from model_tiny import TINY, with_branches

from crkd_core.config import ImageConfig


def test_every_curve_changes_one_thing(tmp_path) -> None:
    config = dataclasses.replace(TINY, image=ImageConfig(height=32, width=64, zoom=1.0))
    points = settings(config)
    assert {point.what for point in points} == {*TITLES}
    for point in points:
        made = point.detector.config
        assert (made.image == config.image) or point.what == "image"
        assert (made.grid == config.grid) or point.what == "grid"
        cameras = int(point.frame.camera_present.sum())
        assert cameras == (point.value if point.what == "cameras" else 6)
        if point.what == "radar":
            assert len(point.frame.radar) == point.value
    found = timed(points[::5], rounds=1)
    assert all(one["network_ms"] > 0 for one in found)
    draw(found, tmp_path / "curves.png", title="tiny")
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_a_network_without_cameras_has_no_curve_of_them() -> None:
    blind = dataclasses.replace(TINY, camera=None)
    assert {point.what for point in settings(blind)} == {"grid", "radar"}


def test_a_network_with_lidar_has_as_many_voxels_a_cell_on_every_grid(monkeypatch) -> None:
    monkeypatch.setattr("crkd_core.infer.bench.SWEEP_POINTS", 100)
    points = settings(with_branches("lidar"))
    assert {point.what for point in points} == {"grid"}
    for point in points:
        made = point.detector.config
        assert made.grid.cell / made.lidar.voxel[0] == pytest.approx(2)
        assert made.lidar.voxel[2] == 1.0
    assert len({point.value for point in points}) == len(points)
    assert timed(points[:2], rounds=1)[0]["network_ms"] > 0
