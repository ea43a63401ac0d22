"""Intersection over union by hand-made cases."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from model_tiny import TINY
from train_tiny import FRAMES

from crkd_core.area import Area
from crkd_core.config import DRIVABLE, VEHICLE, SegmentsConfig
from crkd_core.data.grid import in_grid
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.data.vod.layout import Vod
from crkd_core.data.vod.reader import VodFrames
from crkd_core.evaluate.evaluation import evaluate_weights
from crkd_core.evaluate.segmentation import SegmentScore, segments_table
from crkd_core.evaluate.vod.evaluation import evaluate_weights as evaluate_on_vod
from crkd_core.losses.segments import UNKNOWN, segment_truth
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.presets import preset
from crkd_core.segments import Segments
from crkd_core.world import write_world
from crkd_core.world.vod_files import CHANNELS, write_vod

CONFIG = dataclasses.replace(TINY, segments=SegmentsConfig())
SHAPE = CONFIG.grid.shape


def planes(*values: float) -> np.ndarray:
    return np.stack([np.full(SHAPE, value) for value in values])


def test_by_hand():
    target = planes(0, 0).astype(np.uint8)
    target[0, :2, :2] = 1
    target[1, :4] = 1
    said = planes(0.1, 0.1).astype(np.float32)
    said[0, 1:3, :2] = 0.9  # 2 of 4, and 2 beside: 2 of 6.
    said[1, :4] = 0.4  # All of it, but only where the threshold is lower.
    score = SegmentScore(CONFIG)
    score.count(said, target)
    found = score.summary()["classes"]
    assert found[VEHICLE]["iou"] == found[VEHICLE]["best_iou"] == pytest.approx(2 / 6)
    assert (found[DRIVABLE]["iou"], found[DRIVABLE]["best_iou"]) == (0, 1)
    assert found[DRIVABLE]["best_threshold"] == 0.35
    assert score.summary()["mean_iou"] == pytest.approx(1 / 6)


def test_cells_of_all_samples_count_together():
    """Not a mean of shares: a sample with one cell weighs as one cell."""
    score = SegmentScore(CONFIG)
    large, small = planes(0, 0).astype(np.uint8), planes(0, 0).astype(np.uint8)
    large[:, :3, :3], small[:, 0, 0] = 1, 1
    score.count(large.astype(np.float32), large)
    score.count(np.zeros((2, *SHAPE), np.float32), small)
    assert score.summary()["mean_iou"] == pytest.approx(9 / 10)
    assert score.summary()["samples"] == 2


def test_what_nobody_knows_does_not_count():
    target = planes(UNKNOWN, 0).astype(np.uint8)
    target[0, 0, :4] = 1
    score = SegmentScore(CONFIG)
    score.count(planes(1, 0).astype(np.float32), target)
    summary = score.summary()
    assert summary["classes"][VEHICLE]["iou"] == 1
    assert summary["classes"][DRIVABLE] == dict.fromkeys(
        ("iou", "best_iou", "best_threshold"), None
    )
    assert summary["mean_iou"] == 1
    table = segments_table(summary)
    assert [row[0] for row in table.rows] == [VEHICLE, DRIVABLE, "mean"]
    assert table.rows[1][1] == "-"


def test_a_class_that_is_nowhere_and_called_somewhere_has_nothing_in_common():
    score, said = SegmentScore(CONFIG), planes(0, 0).astype(np.float32)
    said[0, 0, 0], said[1, 0, 0] = 0.4, 0.3  # Above the lowest threshold, and below it.
    score.count(said, planes(0, 0).astype(np.uint8))
    found = score.summary()["classes"]
    assert (found[VEHICLE]["iou"], found[VEHICLE]["best_iou"]) == (0, 0)
    assert found[DRIVABLE]["iou"] is None


def test_the_truth_itself_is_perfect_in_any_grid():
    area = Area(polygons=((np.array([[-5.0, -4], [9, -4], [9, 20], [-5, 2]]),),))
    frame = dataclasses.replace(FRAMES[0], drivable=area)
    turned = dataclasses.replace(
        CONFIG, ego_T_grid=((0.0, 1, 0, 0), (-1, 0, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    )
    for config in (CONFIG, turned):
        pose = np.array(config.ego_T_grid)
        moved = frame.moved(np.linalg.inv(pose))
        truth = segment_truth(moved.truth, moved.drivable, config)
        assert truth.any((1, 2)).all()
        said = Segments(
            classes=config.segment_classes,
            probability=truth.astype(np.float32),
            grid=config.grid,
            ego_T_grid=pose,
        )
        score = SegmentScore(config)
        score.add(frame, said)
        assert score.summary()["mean_iou"] == 1
        score.add(frame, None)
        assert score.summary()["mean_iou"] == 0.5


def test_evaluate_scores_the_cells_of_a_data_set(tiny_world, tmp_path, capsys):
    torch.manual_seed(0)
    model = build_detector(CONFIG)
    # Everything is said to be both: what is asked of IoU is then the share of cells that are.
    with torch.no_grad():
        model.segments.output.weight.zero_()
        model.segments.output.bias.fill_(9.0)
    weights = tmp_path / "w.safetensors"
    save_weights(model, weights)
    evaluate_weights(weights, tiny_world, "world_val", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["segmentation"]
    tables = NuScenes(tiny_world, split="world_val")
    frames = NuScenesFrames.for_detectors(tables, "world_val", CONFIG)
    truth = np.stack([segment_truth(one.truth, one.drivable, CONFIG) for one in frames])
    for row, name in enumerate(CONFIG.segment_classes):
        known = truth[:, row] != UNKNOWN
        share = (truth[:, row] == 1)[known].mean()
        assert found["classes"][name]["iou"] == pytest.approx(share, abs=1e-6)
        assert 0 < share < 1
    assert "drivable_area" in capsys.readouterr().out


def test_evaluate_scores_vehicles_on_view_of_delft(tmp_path, capsys):
    drives = write_world(
        tmp_path / "drives",
        scenes=2,
        seconds=1.0,
        seed=4,
        image_width=160,
        key_frames_only=True,
        lidar_sweeps=0,
        radar_sweeps=5,
        mix="balanced",
        channels=CHANNELS,
    )
    root = tmp_path / "vod"
    write_vod(NuScenes(drives), root, splits={"train": "world_train", "val": "world_val"})
    small = preset("vod_student").detector
    seen = SegmentsConfig(classes=(VEHICLE,), vehicles=("Car", "Cyclist"))
    config = dataclasses.replace(small, segments=seen)
    torch.manual_seed(0)
    model = build_detector(config)
    with torch.no_grad():
        model.segments.output.weight.zero_()
        model.segments.output.bias.fill_(9.0)
    save_weights(model, tmp_path / "w.safetensors")
    evaluate_on_vod(tmp_path / "w.safetensors", root, "val", tmp_path / "out", score_threshold=0.5)
    found = json.loads((tmp_path / "out" / "metrics.json").read_text())["segmentation"]
    frames = VodFrames.for_detectors(Vod(root), "val", config)
    truth = np.stack(
        [segment_truth(in_grid(one, config).truth, None, config)[0] for one in frames]
    )
    assert found["samples"] == len(frames)
    assert found["classes"][VEHICLE]["iou"] == pytest.approx((truth == 1).mean(), abs=1e-6)
    assert 0 < (truth == 1).mean() < 1
    assert "cells of the ground" in capsys.readouterr().out
