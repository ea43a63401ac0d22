"""A real sample of nuScenes, where it is at hand: into a bag, and replayed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch
from model_tiny import TINY

from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.evaluate.evaluation import evaluate_weights
from crkd_core.infer.detector import Detector
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_ros.bags.nuscenes import write_bag
from crkd_ros.bags.replay import replay

SPLIT = "mini_train"


@pytest.fixture
def data(shared_real, tmp_path):
    # An index is made beside the tables.
    return shutil.copytree(shared_real / "nuscenes_frame", tmp_path / "data")


def test_replay_finds_the_boxes_of_the_files(data, tmp_path):
    torch.manual_seed(0)
    weights = tmp_path / "w.safetensors"
    save_weights(build_detector(TINY), weights)
    evaluate_weights(weights, data, SPLIT, tmp_path / "files")
    tables = NuScenes(data)
    (scene,) = tables.scenes_of(SPLIT)
    write_bag(tables, scene, tmp_path / "bag", progress=False)
    report = replay(
        tmp_path / "bag",
        Detector.load(weights, score_threshold=0.02),
        tmp_path / "replayed",
        data=data,
        split=SPLIT,
        key_frames_only=True,
    )
    assert report.frames == report.key_frames == 1 and not report.problems
    answers = [
        json.loads((tmp_path / place / "results.json").read_text())["results"]
        for place in ("files", "replayed")
    ]
    (expected,), (found,) = (answer.values() for answer in answers)
    assert len(found) == len(expected) > 0
    for one, other in zip(expected, found, strict=True):
        np.testing.assert_allclose(other["translation"], one["translation"], atol=1e-3)
        assert other["detection_name"] == one["detection_name"]
