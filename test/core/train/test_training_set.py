"""What a training set lacks is said from its tables, before there is a run folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from handmade import write_version
from train_tiny import a_config
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.evaluate.truth import SampleTruth
from crkd_core.train.balance import classes_held
from crkd_core.train.samples import Views
from crkd_core.train.start import TrainError


def changed(root, table, change, version="v1.0-mini"):
    """Write a table's rows anew: each is given to ``change``; None leaves it out."""
    path = root / version / f"{table}.json"
    rows = [change(row) for row in json.loads(path.read_text())]
    path.write_text(json.dumps([row for row in rows if row is not None]))


def with_returns(lidar, radar):
    return lambda row: {**row, "num_lidar_pts": lidar, "num_radar_pts": radar}


def train_in(root, out, *options):
    words = ["train", "--data", root, "--split", "scene-0061", "--out", out, *options]
    return CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)


def test_a_set_whose_boxes_have_no_return_is_refused_before_there_is_a_folder(tmp_path):
    root = write_version(tmp_path / "data", files=False)
    changed(root, "sample_annotation", with_returns(1, -1))
    with pytest.raises(TrainError, match=r"0 of \d\d boxes .*have a return.*choose another"):
        train_in(root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_learned_is_what_is_scored(tmp_path):
    root = write_version(tmp_path / "data", scenes=("scene-0061",))
    changed(root, "sample_annotation", with_returns(-1, 0))
    frames = NuScenesFrames(NuScenes(root), "scene-0061", radar_sweeps=1)
    truth = frames.tables.truths_global(frames.tokens)[0]
    assert truth.counts.all() and len(truth)
    assert len(SampleTruth.read(frames.tables, frames.tokens).boxes)
    assert classes_held(frames, NUSCENES_CLASSES).any()
    learned = Views(frames, a_config()).recorded(0).truth
    assert np.array_equal(learned.num_lidar_points, np.full(len(learned), -1)) and len(learned)
