"""A real first sample of a scene, where it is at hand: other stamps and other files than ours."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from model_tiny import TINY

from crkd_core.data.nuscenes.reader import NuScenes, NuScenesError, NuScenesFrames
from crkd_core.evaluate.dropout import evaluate_dropout
from crkd_core.evaluate.evaluation import evaluate_weights
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.sensors import CAMERAS

SPLIT = "mini_train"


@pytest.fixture
def data(shared_real, tmp_path):
    # An index is made beside the tables.
    return shutil.copytree(shared_real / "nuscenes_frame", tmp_path / "data")


def test_a_real_sample_is_read(data):
    (frame,) = NuScenesFrames(NuScenes(data), SPLIT, lidar_sweeps=1)
    assert [image.shape for image in frame.images] == [(900, 1600, 3)] * 6
    # Three radar key frames are later than the reference, and there is none before.
    assert frame.sensors == {*CAMERAS, "LIDAR_TOP", "RADAR_FRONT_RIGHT", "RADAR_BACK_RIGHT"}
    assert len(frame.radar) == 250 and np.isfinite(frame.radar).all()
    assert len(frame.truth) > 40 and len(frame.lidar) > 30_000


def test_a_real_sample_is_scored_and_one_that_sees_nothing_is_told(data, tmp_path, capsys):
    torch.manual_seed(0)
    weights = tmp_path / "w.safetensors"
    save_weights(build_detector(TINY), weights)
    evaluate_weights(weights, data, SPLIT, tmp_path / "out")
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["mean_ap"] >= 0
    assert "samples by sensor" in capsys.readouterr().out
    evaluate_weights(weights, data, SPLIT, tmp_path / "no", sensors=("RADAR_FRONT",))
    assert "1 of 1 samples had no sensor that the detector could use" in capsys.readouterr().out
    metrics = json.loads((tmp_path / "no" / "metrics.json").read_text())
    assert metrics["samples_without_input"] == 1 and metrics["mean_ap"] == 0
    evaluate_dropout(weights, data, SPLIT, tmp_path / "dropout")
    cases = json.loads((tmp_path / "dropout" / "dropout.json").read_text())["cases"]
    blind = {(c["cameras_lost"], c["radars_lost"]): c["samples_without_input"] for c in cases}
    assert blind[0, 0] == 0 and set(blind.values()) <= {0, 1}


def test_tables_of_somebody_else_are_refused_in_one_line(shared_real, tmp_path):
    shutil.copytree(shared_real / "foreign_tables", tmp_path / "data" / "v1.0-own")
    for table in ("category", "attribute", "instance", "sample_annotation"):
        (tmp_path / "data" / "v1.0-own" / f"{table}.json").write_text("[]")
    with pytest.raises(NuScenesError, match=r"\.json: row 0 .*: \w+: expected") as caught:
        NuScenes(tmp_path / "data")
    assert "\n" not in str(caught.value)
