"""A LiDAR-camera teacher by command: trained, then evaluated with the LiDAR that it needs."""

import json

import pytest
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.model.checkpoint import load_weights


@pytest.fixture(scope="module")
def run(tiny_world, tmp_path_factory):
    """Two steps of demo_teacher on frames that hold ten sweeps."""
    out = tmp_path_factory.mktemp("teacher") / "run"
    settings = ("batch_size=1", "workers=0", "precision=fp32", "checkpoint_steps=2", "log_steps=1")
    changes = [word for setting in settings for word in ("--set", setting)]
    words = ["train", "--preset", "demo_teacher", "--data", str(tiny_world), "--out", str(out)]
    done = CliRunner().invoke(app, [*words, "--split", "mini_train", "--steps", "2", *changes])
    assert done.exit_code == 0, done.output
    return out


def test_training_reads_ten_sweeps_and_saves_a_teacher(run):
    model = load_weights(run / "weights.safetensors")
    assert model.lidar is not None and model.radar is None
    assert model.config.lidar_sweeps == 10
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert len(lines) == 2
    assert all(line["depth"] > 0 for line in lines)


def test_evaluation_reads_lidar_and_says_so(run, tiny_world, tmp_path):
    weights = str(run / "weights.safetensors")
    words = ["evaluate", "--data", str(tiny_world), "--split", "mini_val", "--weights", weights]
    done = CliRunner().invoke(app, [*words, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    meta = json.loads((tmp_path / "out" / "results.json").read_text())["meta"]
    assert meta["use_lidar"] and meta["use_camera"] and not meta["use_radar"]
