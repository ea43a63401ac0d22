"""LiDAR, cameras or radars alone, by command: trained and evaluated where nothing else exists."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.config import TrainConfig
from crkd_core.config.override import override
from crkd_core.model.checkpoint import load_weights
from crkd_core.presets import preset
from crkd_core.train.run_folder import Run

QUICK = (
    *("batch_size=1", "workers=0", "precision=fp32"),
    *("checkpoint_steps=2", "log_steps=1", "detector.grid.cell=1.6"),
)

#: What a detector of one branch is made of, and the folders of files that it reads.
ALONE = {
    "lidar": ("demo_lidar", (), "LIDAR"),
    "lidar of the teacher": (
        "demo_teacher",
        ("detector.camera=null", "depth_weight=0", "detector.lidar.sweeps=2"),
        "LIDAR",
    ),
    # Depth is learned from LiDAR, so without LiDAR files there is none to learn.
    "camera": ("demo_student", ("detector.radar=null", "depth_weight=0"), "CAM"),
    "radar": ("demo_radar", (), "RADAR"),
}


def command(*words: object) -> str:
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", ALONE)
def test_one_kind_of_sensor_trains_and_is_evaluated(name: str, tiny_world, tmp_path: Path) -> None:
    start, changes, prefix = ALONE[name]
    data = tmp_path / "data"
    others = [kind for kind in ("CAM", "RADAR", "LIDAR") if kind != prefix]
    shutil.copytree(
        tiny_world, data, ignore=shutil.ignore_patterns(*(f"{kind}_*" for kind in others))
    )
    sets = [word for change in (*changes, *QUICK) for word in ("--set", change)]
    run = tmp_path / "run"
    where = ("--data", data, "--preset", start, "--split", "mini_train")
    command("train", *where, "--out", run, "--steps", 2, *sets)
    assert len((run / "metrics.jsonl").read_text().splitlines()) == 2
    weights = run / "weights.safetensors"
    branch = prefix.lower().replace("cam", "camera")
    model = load_weights(weights)
    assert model.config.branches == (branch,)
    own = {"camera": {"image", "lift"}, "radar": {"radar"}, "lidar": {"lidar"}}[branch]
    parts = {key.partition(".")[0] for key in model.state_dict()}
    assert parts == own | {"fuser", "decoder", "head"}
    found = ("--data", data, "--weights", weights, "--split", "mini_val")
    command("evaluate", *found, "--out", tmp_path / "out")
    meta = json.loads((tmp_path / "out" / "results.json").read_text())["meta"]
    used = {kind for kind in ("camera", "radar", "lidar") if meta[f"use_{kind}"]}
    assert used == {branch}


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (("--set", "detector.lidar={}"), "Let the BEV cell be 8 voxels, detector.lidar.voxel="),
        (("--set", "detector.image.width=350"), "multiples of the coarsest stride"),
        (("--set", "precision=fp16"), "fp16 needs CUDA"),
        (
            ("--set", "start=weights/demo_student.safetensors", "--set", "detector.gate_kernel=5"),
            "start from other weights",
        ),
    ],
)
def test_what_cannot_begin_leaves_no_folder(words, text, tiny_world, tmp_path: Path) -> None:
    where = ("--data", tiny_world, "--split", "mini_train", "--out", tmp_path / "run")
    done = CliRunner().invoke(app, [str(word) for word in ("train", *where, *words)])
    assert done.exit_code == 1 and text in str(done.exception), done.output
    assert not (tmp_path / "run").exists()


def test_a_run_of_format_1_goes_on_as_what_it_was(tmp_path: Path) -> None:
    """Its radar entry said nothing: LiDAR had taken the place of radar."""
    config = preset("demo_teacher")
    Run.start(tmp_path, config, data="", split="mini_train")
    file = tmp_path / "config.json"
    record = json.loads(file.read_text())
    assert record.pop("format") == 4
    assert record["config"]["detector"]["radar"] is None
    record["config"]["detector"]["radar"] = {"sweeps": 6}
    file.write_text(json.dumps(record))
    assert Run.open(tmp_path).config == config


def test_single_branches_are_presets_and_overrides_alike() -> None:
    def made(start: str, *changes: str) -> TrainConfig:
        return override(preset(start), list(changes))

    blind = ("detector.camera=null", "depth_weight=0")
    assert made("demo_teacher", *blind, "detector.name=demo_lidar") == preset("demo_lidar")
    assert made("demo_student", *blind, "detector.name=demo_radar") == preset("demo_radar")
    radar = made("demo_student", "detector.radar=null", "detector.name=demo_camera")
    assert radar == preset("demo_camera")
