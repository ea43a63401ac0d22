"""Runs and scores that must not stand in one table."""

from __future__ import annotations

import shutil
from pathlib import Path

import orjson
import pytest

from crkd_core.data.nuscenes.reader import NuScenesFrames
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.evaluate.scored_data import scored_data
from crkd_core.experiments.folder import Folder
from crkd_core.experiments.mixed import check_unmixed
from crkd_core.experiments.plan import RunSpec, in_order
from crkd_core.experiments.runner import run_all
from crkd_core.experiments.settings import ExperimentError, Settings
from crkd_core.files import write_json, write_text

SPECS = in_order(
    [
        RunSpec(arm="S0", what="start", steps=2, warmup=1),
        RunSpec(arm="teacher", what="LiDAR", steps=2, warmup=1),
        RunSpec(arm="A", what="alone", steps=2, warmup=1, start="S0"),
        RunSpec(arm="D", what="taught", steps=2, warmup=1, start="S0", teacher="teacher"),
    ]
)


@pytest.fixture
def settings(tiny_world: Path, tmp_path: Path) -> Settings:
    """Of a world whose tables may be changed; every part of the drives is all of them."""
    shutil.copytree(tiny_world / "v1.0-mini", tmp_path / "world" / "v1.0-mini")
    names = tuple(NuScenes(tmp_path / "world").scenes)
    parts = ("train", "few", "rest", "validation", "test")
    return Settings(data=str(tmp_path / "world"), drives=dict.fromkeys(parts, names))


def begun(folder: Folder, name: str, *words: str, digest: str | None = None) -> None:
    record = {"config": {"steps": 2}, "command": ["crkd", "train", *words], "digest": digest}
    write_json(record, folder.run(name) / "config.json")


def check(folder: Folder, settings: Settings, specs=SPECS) -> None:
    check_unmixed(folder, specs, settings, ["validation"])


def test_a_start_is_not_trained_anew_under_runs_that_began_from_it(settings, tmp_path):
    folder = Folder(tmp_path / "out")
    check(folder, settings)  # Nothing has begun.
    begun(folder, "S0")
    begun(folder, "teacher")
    begun(folder, "A", "--preset", "demo_student", "--start", "runs/S0")
    begun(folder, "D", "--teacher", "runs/teacher", "--student", "runs/S0")
    # Of a list that is not called now.
    begun(folder, "other-2", "--teacher", "runs/teacher", "--student", "runs/B-2")
    check(folder, settings)
    shutil.rmtree(folder.run("S0"))
    with pytest.raises(ExperimentError, match=r"runs/S0 is to be trained, and A, D began from"):
        check(folder, settings)
    check(folder, settings, SPECS[1:2])  # Who does not train it mixes nothing.
    begun(folder, "S0")
    shutil.rmtree(folder.run("teacher"))
    with pytest.raises(ExperimentError, match=r"remove under .*/runs those of D, other-2 too"):
        check(folder, settings)
    begun_from = pytest.raises(ExperimentError, match="D, other-2 began from")
    with folder.locked() as lock, begun_from:  # Before anything is trained.
        run_all(folder, SPECS[1:2], settings, lock=lock, jobs=1, splits=[])
    for name in ("D", "other-2"):
        shutil.rmtree(folder.run(name))
    check(folder, settings)


def test_files_that_no_record_tells_of_are_not_removed_for_a_run(settings, tmp_path):
    """A record that a disk or an editor has spoiled: the steps of its run are still there."""
    folder = Folder(tmp_path / "out")
    write_text("", folder.run("S0") / "config.json")
    write_text("hours", folder.run("S0") / "checkpoint.pt")
    refused = pytest.raises(ExperimentError, match=r"runs/S0 holds files, and no config\.json")
    with folder.locked() as lock, refused:
        run_all(folder, SPECS[:1], settings, lock=lock, jobs=1, splits=[])
    write_text("weights", folder.run("A") / "mine.safetensors")
    weights = Path(__file__).parents[3] / "weights" / "demo_plain.safetensors"
    with pytest.raises(ExperimentError, match="runs/A holds files; remove it"):
        folder.take("A", weights, "demo_student")
    assert (folder.run("S0") / "checkpoint.pt").read_text() == "hours"
    assert (folder.run("A") / "mine.safetensors").exists()


def test_a_training_from_elsewhere_began_from_other_weights(settings, tmp_path):
    folder = Folder(tmp_path / "out")
    begun(folder, "A", "--start", "runs/S0")
    taken = Settings(data=settings.data, drives=settings.drives, trained={"A": "elsewhere"})
    check(folder, taken)
    with pytest.raises(ExperimentError, match="A began from"):
        check(folder, settings)


def test_runs_of_other_data_are_not_counted(settings, tmp_path):
    folder, root = Folder(tmp_path / "out"), Path(settings.data)
    tables = NuScenes(root)
    tokens = tables.samples_of(",".join(settings.drives["train"]))
    frames = NuScenesFrames(tables, tokens, radar_sweeps=0, sensors=())
    begun(folder, "S0", digest=frames.digest())
    begun(folder, "teacher")  # Of an earlier version, which said no digest.
    scored = folder.evaluation("teacher", "validation")
    write_json(scored_data(tables, tokens, split="x"), scored / "metrics.json")
    write_text("weights", folder.run("teacher") / "weights.safetensors")
    write_text("page", scored / "report.html")
    check(folder, settings)

    table = root / "v1.0-mini" / "sample_annotation.json"
    rows = orjson.loads(table.read_bytes())
    rows[0]["num_lidar_pts"] += 1
    table.write_bytes(orjson.dumps(rows))
    with pytest.raises(ExperimentError, match=r"S0/config.json is of other train drives than"):
        check(folder, settings)
    with pytest.raises(ExperimentError, match=r"metrics.json is of other validation drives.*now"):
        check(folder, settings, SPECS[1:2])
    # What was scored before the weights were made is scored again.
    write_text("newer weights", folder.run("teacher") / "weights.safetensors")
    check(folder, settings, SPECS[1:2])
