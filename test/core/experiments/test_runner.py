"""An experiment of handfuls of steps on tiny drives, killed and gone on with."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.commands.training import _from_start
from crkd_core.config import CRKD_LOSSES, IMKD_LOSSES, TRAINING_FORMAT, ConfigError
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.experiments import folder as folder_of_experiments
from crkd_core.experiments import runner
from crkd_core.experiments.arms import FIRST_STEPS, STEPS
from crkd_core.experiments.asked import Asked
from crkd_core.experiments.changes import changes_of, check_changes
from crkd_core.experiments.drives import share_out
from crkd_core.experiments.experiment import experiment, shown, trainings_from
from crkd_core.experiments.folder import Folder
from crkd_core.experiments.lists import LISTS, runs_of
from crkd_core.experiments.plan import PlanError, RunSpec, in_order
from crkd_core.experiments.runner import run_all
from crkd_core.experiments.settings import ExperimentError, Settings
from crkd_core.files import write_json
from crkd_core.model.checkpoint import CheckpointError, load_weights, read_config, save_weights
from crkd_core.model.lidar.encoders import LidarBranchError
from crkd_core.presets import preset
from crkd_core.train.run_folder import Run

#: A network of seconds out of the demo presets.
TINY = (
    *("detector.grid.low=[-12.8, -12.8, -5]", "detector.grid.high=[12.8, 12.8, 3]"),
    *("detector.grid.cell=0.8", "detector.image.height=64", "detector.image.width=96"),
    *("augment.image_zoom=[1.0, 1.3]", "batch_size=1", "precision=fp32"),
    *("log_steps=1", "checkpoint_steps=2", "average=0"),
)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Three drives of two key frames."""
    from crkd_core.world import write_world

    out = tmp_path_factory.mktemp("world") / "world"
    return write_world(
        out, scenes=3, seconds=1.0, seed=23, image_width=64, jobs=1, key_frames_only=True
    )


def spec(arm, steps=2, **more):
    return RunSpec(arm=arm, what=arm, steps=steps, warmup=1, **more)


def processes_in(folder: Path) -> list[int]:
    """Ids of the processes that work in a folder."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if (entry / "cwd").resolve() == folder.resolve():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def wait_for(condition, *, seconds=240):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.1)


def test_what_showing_would_pass_over_is_refused(tmp_path):
    words = ["experiment", "main", "--out", str(tmp_path), "--show", "--seeds", "2"]
    with pytest.raises(ExperimentError, match="leave out --only, --test, or --show itself"):
        CliRunner().invoke(app, [*words, "--only", "A", "--test"], catch_exceptions=False)
    with pytest.raises(ExperimentError, match="holds no experiment"):
        CliRunner().invoke(app, words, catch_exceptions=False)


def test_a_refused_experiment_leaves_no_new_folder(tmp_path):
    out, held = tmp_path / "out", tmp_path / "held"
    held.mkdir()
    (held / "notes.txt").touch()
    for path in (out, held):
        with pytest.raises(ExperimentError, match="holds no experiment yet: say --data"):
            experiment("main", path, Asked())
    assert not out.exists()
    assert (held / "notes.txt").exists()


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_a_killed_experiment_goes_on_where_it_was(data, tmp_path, monkeypatch):
    out = tmp_path / "out"
    code = "from crkd_core.cli import main; main()"
    words = ["experiment", "main", "--out", str(out), "--data", str(data), "--drives", "1,1,1"]
    words += ["--seeds", "1", "--only", "A", "--scale", "0.006"]
    words += [word for change in TINY for word in ("--set", change)]
    started = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.DEVNULL)
    log = out / "runs" / "S0" / "metrics.jsonl"
    wait_for(lambda: log.exists() and log.read_text().count("\n") >= 3)
    assert processes_in(out)
    # Nobody else may work there at the same time; asked for shortly, or S0 ends meanwhile.
    monkeypatch.setattr(folder_of_experiments, "_DYING", 0.2)
    with pytest.raises(ExperimentError, match=f"another .* at work there .process {started.pid}"):
        experiment("main", out, Asked(data=data))
    os.kill(started.pid, signal.SIGKILL)
    started.wait()
    monkeypatch.undo()
    wait_for(lambda: not processes_in(out), seconds=30)
    assert not (out / "results" / "S0.json").exists()
    before = json.loads(log.read_text().splitlines()[0])

    failed = experiment("main", out, Asked(), seeds=1, only=["A"])
    assert failed == {}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, 1 + round(FIRST_STEPS * 0.006)))
    assert lines[0] == before, "it was begun anew"
    stored = json.loads((out / "results" / "A-1.json").read_text())
    assert stored["steps"] == round(STEPS * 0.006) and stored["seconds"] >= 0
    assert stored["start"]["validation"].keys() == stored["validation"]["scores"].keys()
    assert stored["command"].startswith("crkd train --data DATA --split train --out runs/A-1 ")
    assert str(tmp_path) not in json.dumps(stored)
    assert {one["group"] for one in stored["validation"]["slices"]} == {
        *("range", "weather", "light", "speed"),
    }
    assert sorted(path.name for path in (out / "results").iterdir()) == [
        *("A-1.json", "S0.json", "main.md", "main_losses"),
        *("main_validation.png", "main_validation_parts.png"),
    ]

    # All is done: the same again trains nothing, and scores only on what is new.
    checkpoint = (out / "runs" / "A-1" / "checkpoint.pt").stat().st_mtime_ns
    assert experiment("main", out, Asked(), seeds=1, only=["A"], test=True) == {}
    assert (out / "runs" / "A-1" / "checkpoint.pt").stat().st_mtime_ns == checkpoint
    assert "test" in json.loads((out / "results" / "A-1.json").read_text())
    found = shown("main", out, seeds=1)
    # What was not asked for is no empty line of comparisons; that it is missing is said once.
    assert [row[0] for row in found[0].rows] == ["S0", "A"]
    assert {row[0]: row[-1] for row in found[-1].rows}["D-1"] == "missing"
    page = (out / "results" / "main.md").read_text()
    assert page.count("| A ") == 4 and "| D " not in page and page.count("| D-1 ") == 1
    titles = [table.title for table in found]
    assert any("on validation" in title for title in titles)
    assert any("on test" in title for title in titles)
    with pytest.raises(ExperimentError, match=r"set up with scale 0\.006, not 1\.0"):
        experiment("main", out, Asked(scale=1.0))

    # Another experiment takes its start from here instead of training one.
    other, start = tmp_path / "other", out / "runs" / "S0"
    trained = trainings_from([f"S0={start}"])
    asked = Asked(data=data, drives="1,1,1", scale=0.003, changes=TINY, trained=trained)
    assert experiment("main", other, asked, seeds=1, only=["A"]) == {}
    taken = other / "runs" / "S0"
    assert (taken / "weights.safetensors").read_bytes() == (
        start / "weights.safetensors"
    ).read_bytes()
    assert len((other / "runs" / "A-1" / "metrics.jsonl").read_text().splitlines()) == 1
    assert experiment("main", other, Asked(), seeds=1, only=["A"]) == {}, (
        "a later call knows of it"
    )
    # Lost here and there: refused, not trained anew in its place.
    shutil.rmtree(taken)
    start.rename(start.with_name("elsewhere"))
    with pytest.raises(ExperimentError, match="or the folder of an ended training"):
        experiment("main", other, Asked(), seeds=1, only=["A"])
    assert not taken.exists()
    with pytest.raises(PlanError, match="not one of the runs"):
        experiment("main", other, Asked(trained={"teacher": start}), seeds=1, only=["A"])


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks for processes in /proc")
def test_an_experiment_that_is_told_to_end_lets_its_trainings_save(data, tmp_path):
    out = tmp_path / "out"
    code = "from crkd_core.cli import main; main()"
    words = ["experiment", "main", "--out", str(out), "--data", str(data), "--drives", "1,1,1"]
    words += ["--only", "S0", "--only", "radar_only", "--jobs", "2"]
    words += [word for one in (*TINY, "checkpoint_steps=9999") for word in ("--set", one)]
    started = subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE)
    runs = [out / "runs" / name for name in ("S0", "radar_only")]
    logs = [run / "metrics.jsonl" for run in runs]
    wait_for(lambda: all(log.exists() and log.read_text().count("\n") >= 2 for log in logs))
    started.terminate()
    _, said = started.communicate(timeout=100)
    assert started.returncode == 128 + signal.SIGTERM
    assert b"trainings save their last step: S0, radar_only" in said
    assert not processes_in(out)
    for run, log in zip(runs, logs, strict=True):
        step = torch.load(run / "checkpoint.pt", weights_only=True)["step"]
        assert step == json.loads(log.read_text().splitlines()[-1])["step"]
        assert f"ended after step {step}" in (out / "logs" / f"{run.name}.log").read_text()


def test_the_ladder_makes_the_label_encoder_before_who_needs_it(data, tmp_path):
    """IMKD's student with guided fusion, from its plain start, taught by LiDAR and labels."""
    specs = in_order(runs_of("ladder", seeds=1), ["imkd"])
    assert [spec.name for spec in specs] == ["ladder_S0", "lidar", "imkd-1"]
    folder = Folder(tmp_path)
    drives = dict(share_out(NuScenes(data), "1,1,1"))
    settings = Settings(data=str(data), drives=drives, scale=0.002, changes=TINY)
    with folder.locked() as lock:
        with pytest.raises(ExperimentError, match="there are 1: choose 2 or more"):
            run_all(folder, specs, settings, lock=lock, jobs=1, splits=[])
        settings = dataclasses.replace(settings, drives=drives | {"rest": drives["test"]})
        failed = run_all(folder, specs, settings, lock=lock, jobs=1, splits=[])
    assert failed == {}
    assert (folder.run("lidar") / "label_encoder.safetensors").exists()
    line = json.loads((folder.run("imkd-1") / "metrics.jsonl").read_text().splitlines()[0])
    assert {*IMKD_LOSSES} <= line.keys()


def test_the_teachers_boxes_are_there_before_who_learns_them(data, tmp_path):
    specs = in_order(runs_of("few", seeds=1), ["rest_boxes", "rest_own_boxes"])
    names = ["few_S0", "rest_own_boxes-1", "few_teacher", "rest_boxes-1"]
    assert [spec.name for spec in specs][:4] == names
    folder = Folder(tmp_path)
    drives = dict(share_out(NuScenes(data), "1,1,1"))
    # For networks that have learned nothing and are sure of nothing.
    changes = (*TINY, "unlabelled.pseudo_score=0.0")
    drives |= {"rest": drives["test"]}
    settings = Settings(data=str(data), drives=drives, scale=0.002, changes=changes)
    with folder.locked() as lock:
        failed = run_all(folder, specs[:1], settings, lock=lock, jobs=1, splits=[])
        assert not folder.is_evaluated("few_S0", "rest")
        failed = run_all(folder, specs, settings, lock=lock, jobs=2, splits=["validation"])
    assert failed == {}
    for name in ("few_S0", "few_teacher"):
        assert folder.is_evaluated(name, "rest") and folder.is_evaluated(name, "validation")
    for name in ("rest_boxes-1", "rest_own_boxes-1"):
        assert folder.is_trained(name) and not folder.is_evaluated(name, "rest")


def test_a_run_that_fails_stops_those_that_need_it_and_no_others(data, tmp_path):
    weights = dict.fromkeys(CRKD_LOSSES, 0.0) | {"respd_heatmap": 1.0}
    losses = ",".join(f"{name}={weight:g}" for name, weight in weights.items())
    specs = in_order(
        [
            spec("broken", changes=("detector.fuser=glue",)),
            spec("student"),
            spec("lidar", preset="demo_teacher"),
            spec("orphan", start="broken"),
            spec("taught", start="student", teacher="lidar", options=("--losses", losses)),
        ]
    )
    settings = Settings(
        data=str(data), drives=dict(share_out(NuScenes(data), "1,1,1")), changes=TINY
    )
    folder = Folder(tmp_path)
    # Found of trainings whose folders are gone.
    for name in ("broken", "lidar", "orphan"):
        write_json({}, folder.result(name))
        write_json({}, folder.evaluation(name, "validation") / "metrics.json")
    (tmp_path / "before" / "lidar.1").mkdir(parents=True)
    with folder.locked() as lock:
        failed = run_all(folder, specs, settings, lock=lock, jobs=2, splits=[])
    assert set(failed) == {"broken", "orphan"}
    for name, place in (("broken", "broken.1"), ("lidar", "lidar.2")):
        assert not folder.result(name).exists()
        assert not folder.evaluation(name, "validation").exists()
        assert (tmp_path / "before" / place / "result.json").is_file()
        assert (tmp_path / "before" / place / "evaluations/validation/metrics.json").is_file()
    assert folder.result("orphan").exists(), "it was not begun"
    assert "failed with status" in failed["broken"] and "glue" in failed["broken"]
    assert failed["orphan"] == "waits for broken, which failed"
    assert all(folder.is_trained(name) for name in ("lidar", "student", "taught"))
    config = json.loads((folder.run("taught") / "config.json").read_text())["config"]
    assert config["workers"] == 0 and config["crkd"]["teacher"].endswith(
        "runs/lidar/weights.safetensors"
    )

    # What was begun otherwise is neither gone on with nor counted.
    other = in_order([spec("student", steps=3)])
    with folder.locked() as lock, pytest.raises(ExperimentError, match="begun as: crkd train"):
        run_all(folder, other, settings, lock=lock, jobs=1, splits=[])


def test_a_start_whose_evaluation_failed_is_no_reason_to_give_up(tmp_path, monkeypatch):
    """While the teacher is at work, its boxes are not there; that is not the start's fault."""
    learner = spec(
        "boxes", start="student", teacher="lidar", unlabelled="rest", learns_pseudo_labels=True
    )
    monkeypatch.setattr(Folder, "is_trained", lambda _, name: name == "student")
    waiting, failed = [learner], {"student": "its evaluation failed"}
    runner._drop_lost(Folder(tmp_path), waiting, failed)
    assert waiting == [learner] and "boxes" not in failed
    runner._drop_lost(Folder(tmp_path), waiting, failed | {"lidar": "failed"})
    assert not waiting


def test_weights_alone_stand_for_a_run_and_bring_their_network(data, tmp_path):
    weights = Path("weights/demo_imkd.safetensors").resolve()
    assert read_config(weights) != preset("demo_student").detector
    out = tmp_path / "out"
    write_json({"of": "another training"}, out / "results" / "S0.json")
    asked = Asked(
        data=data,
        drives="1,1,1",
        scale=0.003,
        changes=[change for change in TINY if not change.startswith("detector.")],
        trained={"S0": weights},
    )
    failed = experiment("main", out, asked, seeds=1, only=["A"])
    assert failed == {}
    assert "another training" in (out / "before" / "S0.1" / "result.json").read_text()
    assert (out / "runs" / "S0" / "weights.safetensors").read_bytes() == weights.read_bytes()
    config = read_config(out / "runs" / "A-1" / "weights.safetensors")
    assert config == read_config(weights)
    stored = json.loads((out / "results" / "S0.json").read_text())
    assert stored["command"] == "crkd (weights alone)"
    assert stored["steps"] == 400 and stored["seconds"] == 0
    assert json.loads((out / "runs/S0/config.json").read_text())["format"] == TRAINING_FORMAT
    assert str(tmp_path) not in json.dumps(stored)


def test_a_training_from_elsewhere_must_have_ended(data, tmp_path):
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "config.json").write_text('{"config": {"steps": 3}}')
    (tmp_path / "text").write_text("not weights")
    shutil.copytree(tmp_path / "half", tmp_path / "foreign")
    (tmp_path / "foreign" / "config.json").write_text('{"model_type": "bert"}')
    shutil.copy("weights/demo_student.safetensors", tmp_path / "foreign" / "weights.safetensors")
    for source, why in (
        ("foreign", "or the folder of an ended training"),
        ("half", "or the folder of an ended training"),
        ("nowhere", "or the folder of an ended training"),
        ("text", "text: "),
    ):
        with pytest.raises(ExperimentError, match=why):
            asked = Asked(data=data, trained={"S0": tmp_path / source})
            experiment("main", tmp_path / "out", asked)
    assert not (tmp_path / "out" / "experiment.json").exists()
    for words in (["S0"], ["=x"], ["S0=a", "S0=b"]):
        with pytest.raises(ExperimentError, match="expected RUN=FOLDER or RUN=WEIGHTS"):
            trainings_from(words)


def test_a_training_from_elsewhere_must_not_know_the_drives_that_are_scored(data, tmp_path):
    drives = share_out(NuScenes(data), "1,1,1")
    config = dataclasses.replace(preset("demo_student"), steps=1)
    for part in ("validation", "test"):
        run = tmp_path / part
        Run.start(run, config, data=str(data), split=",".join(drives[part]))
        weights = load_weights("weights/demo_student.safetensors")
        save_weights(weights, run / "weights.safetensors", extra={"step": "1"})
        for given in ({"trained": {"S0": run}}, {"start_image": run / "weights.safetensors"}):
            with pytest.raises(ExperimentError, match=f"this experiment's {part} drives are kn"):
                experiment("main", tmp_path / "out", Asked(data=data, drives="1,1,1", **given))
        assert not (tmp_path / "out" / "experiment.json").exists()


def test_a_list_without_the_drives_that_it_needs_leaves_no_settings_behind(data, tmp_path):
    """They would hold for the next call, which mends what was wrong with them."""
    for name, why in (("more", "say with --more where they are"), ("few", "choose 2 or more")):
        with pytest.raises(ExperimentError, match=why):
            experiment(name, tmp_path / name, Asked(data=data, drives="1,1,1"), seeds=1)
        assert not (tmp_path / name).exists()


def test_drives_without_boxes_must_not_be_scored(data, tmp_path):
    """They would be learned from what the teacher says, and are to tell how good that is."""
    asked = Asked(data=data, drives="1,1,1", scale=0.001, more=data)
    with pytest.raises(ExperimentError, match=r"--more .*: holds validation drives"):
        experiment("more", tmp_path / "out", asked, seeds=1)
    assert Folder(tmp_path / "out").settings() is None


def test_changes_that_no_training_takes_are_not_kept(data, tmp_path):
    for change, error, why in (
        ("batchsize=1", ConfigError, "batchsize"),
        ("detector.image.height=high", ConfigError, "height"),
        ("imkd.ramp_steps=3", ExperimentError, "no run of this call reads imkd"),
        ("detector.lidar={}", LidarBranchError, r"detector\.lidar\.voxel="),
        ("seed=7", ExperimentError, "--seeds says how many"),
        ("workers=4", ExperimentError, "--readers says how many"),
        ("start_image=x", ExperimentError, "--start-image gives it"),
    ):
        with pytest.raises(error, match=why):
            asked = Asked(data=data, drives="1,1,1", changes=[*TINY, change])
            experiment("main", tmp_path, asked)
        assert not (tmp_path / "experiment.json").exists()


def test_the_least_score_of_boxes_is_for_who_learns_them():
    change = "unlabelled.pseudo_score=0.2"
    specs = in_order(runs_of("few", seeds=1))
    taking = {spec.arm for spec in specs if changes_of(spec, [change])}
    assert taking == {"rest_own_boxes", "rest_boxes"}
    check_changes([change], specs, {})
    with pytest.raises(ExperimentError, match=r"pseudo_score=0\.2: no run of this call reads"):
        check_changes([change], in_order(specs, ["rest_C"]), {})


def test_changes_are_checked_in_the_kind_of_training_that_each_run_is():
    for name in LISTS:
        check_changes(TINY, in_order(runs_of(name)), {})
    weights = Path("weights/demo_student.safetensors").resolve()
    taught = in_order(runs_of("main", seeds=1), ["D"])
    trained = dict.fromkeys(("S0", "teacher"), weights)
    check_changes(["crkd.alone=1"], taught, trained)
    with pytest.raises(ConfigError, match="alon"):
        check_changes(["crkd.alon=1"], taught, trained)
    both = ["crkd.alone=1", "imkd.ramp_steps=3"]
    check_changes(both, in_order(runs_of("ladder", seeds=1)), {})


def test_an_image_branch_that_is_not_there_is_not_kept(data, tmp_path):
    with pytest.raises(ExperimentError, match="--start-image: there is no file"):
        asked = Asked(data=data, start_image=tmp_path / "none.safetensors")
        experiment("main", tmp_path, asked)
    assert not (tmp_path / "experiment.json").exists()


@pytest.mark.parametrize("scale", [float("inf"), float("nan"), -1.0])
def test_a_scale_that_no_training_has_is_not_kept(scale, data, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ExperimentError, match=r"--scale .*: expected a factor of all"):
        experiment("main", out, Asked(data=data, drives="1,1,1", scale=scale))
    assert not (out / "experiment.json").exists()


def test_a_folder_without_an_experiment_says_what_to_do(tmp_path):
    with pytest.raises(ExperimentError, match="say --data"):
        experiment("main", tmp_path, Asked())
    with pytest.raises(ExperimentError, match="begin one with --data"):
        shown("main", tmp_path)


def test_a_training_that_goes_on_has_the_network_of_its_start(tmp_path):
    weights = Path("weights/demo_student.safetensors").resolve()
    config = _from_start(weights, None, None)
    assert config.detector == read_config(weights)
    assert config.start == str(weights) and config.crkd is config.imkd is None
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors: there is no such file"):
        _from_start(Path("nowhere.safetensors"), None, None)
    cut = tmp_path / "cut.safetensors"
    cut.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: cannot be read"):
        _from_start(cut, None, None)
