"""A run folder is gone on with as it was left, by one process, on its own data; or not at all."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import handmade
import pytest
import torch
from train_tiny import FRAMES, a_config, logged
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.files import OutputError, replacing
from crkd_core.model.checkpoint import read_metadata
from crkd_core.train.gradients import read_gradient_ratios
from crkd_core.train.loop import train
from crkd_core.train.run_folder import Run, RunError


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of a run of four steps with a checkpoint every two."""
    path = tmp_path_factory.mktemp("run") / "run"
    train(Run.start(path, a_config(steps=4), data="", split=""), FRAMES)
    return path


@pytest.fixture
def run(trained, tmp_path):
    """A copy of it, to be damaged."""
    return shutil.copytree(trained, tmp_path / "run")


def contents(path):
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_a_run_without_its_checkpoint_does_not_begin_again(run):
    (run / "checkpoint.pt").unlink()
    before = contents(run)
    with pytest.raises(RunError, match=r"checkpoint.pt is missing.*reached step 4.*put the last"):
        train(Run.open(run), FRAMES, resume=True)
    assert contents(run) == before
    # Without the weights the log tells.
    (run / "weights.safetensors").unlink()
    with pytest.raises(RunError, match=r"checkpoint.pt is missing.*reached step 4"):
        train(Run.open(run), FRAMES, resume=True)
    # With damaged weights nobody knows how far it was, but that it was.
    (run / "metrics.jsonl").unlink()
    (run / "weights.safetensors").write_bytes(b"?")
    with pytest.raises(RunError, match=r"checkpoint.pt is missing.*reached step 1"):
        train(Run.open(run), FRAMES, resume=True)


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(run, trained):
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:2]))
    for name in ("checkpoint.pt", "weights.safetensors"):
        (run / name).unlink()
    train(Run.open(run), FRAMES, resume=True)
    assert logged(Run.open(run)) == logged(Run.open(trained))


def test_an_older_or_a_foreign_checkpoint_is_refused(run, trained, tmp_path):
    other = Run.start(tmp_path / "short", a_config(steps=2), data="", split="")
    train(other, FRAMES)
    shutil.copy(other.path / "checkpoint.pt", run)
    with pytest.raises(RunError, match=r"checkpoint.pt is of step 2.*reached step 4"):
        train(Run.open(run), FRAMES, resume=True)
    shutil.copy(trained / "checkpoint.pt", other.path)
    with pytest.raises(RunError, match=r"is of step 4, and the run has 2; it belongs to another"):
        train(Run.open(other.path), FRAMES, resume=True)


def test_steps_of_another_size_than_before_are_said(run, trained):
    """As of a training on two GPUs that goes on with one."""
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    assert state["processes"] == 1
    torch.save(state | {"processes": 2}, run / "checkpoint.pt")
    said = r"of 2 processes, 4 samples each, and go on with 1, 2 samples: .*; start 2 processes"
    with pytest.warns(UserWarning, match=said):
        train(Run.open(run), FRAMES, resume=True)
    del state["processes"]  # Of an earlier version.
    torch.save(state, run / "checkpoint.pt")
    train(Run.open(run), FRAMES, resume=True)
    assert logged(Run.open(run)) == logged(Run.open(trained))


def test_two_do_not_train_in_one_folder(run):
    before = contents(run)
    one, other = Run.open(run), Run.open(run)
    with one.alone(), pytest.raises(OutputError, match="another process is writing into it"):
        train(other, FRAMES, resume=True)
    assert contents(run) == before
    train(other, FRAMES, resume=True)


def test_what_a_killed_start_left_does_not_block(tmp_path):
    room = tmp_path / ".config.json.abcd1234.partial"
    room.mkdir()
    (room / "config.json").write_text("{")
    Run.start(tmp_path, a_config(), data="", split="")
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_a_place_that_others_of_this_training_try_out_is_empty(tmp_path):
    """Of several processes the first may begin while another looks whether it could write."""
    with replacing(tmp_path / "trial") as there:
        there.mkdir()
        Run.start(tmp_path, a_config(), data="", split="")
    assert (tmp_path / "config.json").is_file()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe\x00", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "expected what crkd train or distill writes"),
        (b"7", "expected what crkd train or distill writes"),
        (b"{}", "expected what crkd train or distill writes"),
        (b'{"split": "a"}', "expected what crkd train or distill writes"),
        (b'{"split": "a", "config": []}', "expected what crkd train or distill writes"),
        (b'{"split": "a", "config": {"detector": 3}}', "expected"),
        (b'{"split": "a", "config": {"detector": {}}}', "expected what|missing"),
        (b'{"split": "a", "config": {"steps": "x", "detector": {}}}', "steps: expected int"),
    ],
)
def test_odd_run_folders_are_refused_in_words(tmp_path, text, said):
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(RunError, match=rf"config\.json: .*({said})"):
        Run.open(tmp_path, split="a")


def test_an_odd_log_is_read_as_far_as_it_goes(run, trained):
    log = run / "metrics.jsonl"
    log.write_bytes(b'[1]\n{"total": 2}\n\xff\xfe\n' + log.read_bytes() + b'{"step": 4, "to')
    train(Run.open(run), FRAMES, resume=True)
    assert logged(Run.open(run)) == logged(Run.open(trained))


def test_a_log_holds_no_number_that_json_does_not_know(run):
    (run / "metrics.jsonl").write_text('{"step": 1, "gradient_norm": Infinity}\n')
    train(Run.open(run), FRAMES, resume=True)
    record = {"step": 5, "share.depth": math.inf, "cosine.depth": math.nan, "total": 1.0}
    Run.open(run).log(record)
    text = (run / "metrics.jsonl").read_text()
    assert text.splitlines()[0] == '{"step": 1, "gradient_norm": null}'
    assert json.loads(text.splitlines()[-1]) == {
        "step": 5, "share.depth": None, "cosine.depth": None, "total": 1.0,
    }  # fmt: skip
    assert "Infinity" not in text and "NaN" not in text
    assert read_gradient_ratios(run) == {}


def test_a_training_set_that_changed_is_noticed(tmp_path, monkeypatch):
    """The command, but for the training itself."""
    root = handmade.write_version(tmp_path / "data", samples=2)
    monkeypatch.setattr("crkd_core.train.loop.train", lambda *_, **__: None)
    out = tmp_path / "run"

    def command(data, *options):
        words = ["train", "--data", data, "--split", "mini_val", "--out", out, *options]
        CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)

    command(root)
    moved = root.rename(tmp_path / "moved")
    command(moved, "--resume")
    path = moved / "v1.0-mini" / "sample_annotation.json"
    rows = json.loads(path.read_text())
    for row in rows:
        row["size"][0] += 1
    path.write_text(json.dumps(rows))
    with pytest.raises(RunError, match="training set is not the one that the run began with"):
        command(moved, "--resume")
    # A run of an earlier version does not know.
    record = json.loads((out / "config.json").read_text())
    del record["digest"]
    (out / "config.json").write_text(json.dumps(record))
    command(moved, "--resume")


def test_an_option_that_a_resumed_run_would_pass_over_is_refused(run, tmp_path):
    """Before the data set, which is not there, is looked at."""
    words = ["train", "--data", tmp_path / "none", "--split", "", "--out", run, "--resume"]

    def told(kind, match, *options):
        with pytest.raises(kind, match=match):
            CliRunner().invoke(app, [*map(str, (*words, *options))], catch_exceptions=False)

    told(RunError, "Leave --start out", "--start", run)
    told(RunError, "Leave --preset, --set out", "--set", "seed=1", "--preset", "crkd_r50")
    told(RunError, "Leave --steps out", "--steps", "5")
    told(NuScenesError, "none", "--steps", "4", "--preset", "demo_student", "--device", "cpu")
    words[0] = "distill"
    told(RunError, "Leave --teacher, --student, --cache out", "--teacher", run,
         "--student", run, "--cache", run)  # fmt: skip
    told(RunError, "Leave --preset, --calibration, --held-out-data, --measured out",
         "--preset", "demo_student", "--calibration", "none", "--held-out-data", run,
         "--measured", run)  # fmt: skip
    told(RunError, "Leave --inherit out", "--inherit")
    told(NuScenesError, "none", "--steps", "4")


def test_where_nothing_can_be_kept_a_run_does_not_begin(trained, tmp_path):
    """Before the data set, which is not there, is looked at."""
    file = tmp_path / "file"
    file.write_text("mine")

    def told(match, *options):
        words = [*map(str, (*options, "--data", tmp_path / "none", "--split", "s"))]
        with pytest.raises(
            OutputError, match=f"cannot write to {file}: .*; choose another {match}$"
        ):
            CliRunner().invoke(
                app, [*words, "--out", str(tmp_path / "new")], catch_exceptions=False
            )

    told("keep_folder", "train", "--set", f"keep_folder={file}")
    distill = ["distill", "--teacher", trained, "--student", trained, "--allow-weak-teacher"]
    told("--cache", *distill, "--cache", file)
    told("--measured", *distill, "--held-out", "s", "--measured", file)
    assert [*tmp_path.iterdir()] == [file]


LIMITED = """
import resource, signal, sys
sys.path[:0] = [sys.argv[2]]
from pathlib import Path
from train_tiny import FRAMES, a_config
from crkd_core.train import loop
from crkd_core.train.run_checkpoint import save
from crkd_core.train.run_folder import Run, RunError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
run = Run.start(Path(sys.argv[1]), a_config(steps=4), data="", split="")
def limited(run, parts, *, step):
    if step == 4:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    save(run, parts, step=step)
loop.save = limited
try:
    loop.train(run, FRAMES)
except RunError as error:
    print(error)
"""


def test_a_full_disk_is_said_and_the_run_goes_on_later(tmp_path, trained):
    path = tmp_path / "run"
    support = Path(__file__).parents[2] / "support"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, path, support], capture_output=True, text=True, check=False
    )
    assert f"{path / 'checkpoint.pt'}: cannot be written: File too large" in done.stdout, (
        done.stderr[-2000:]
    )
    assert "make room and go on with --resume" in done.stdout
    assert sorted(file.name for file in path.iterdir()) == sorted(contents(trained))
    assert read_metadata(path / "weights.safetensors")["step"] == "2"
    train(Run.open(path), FRAMES, resume=True)
    assert logged(Run.open(path)) == logged(Run.open(trained))


def test_the_weights_say_their_step(trained):
    assert read_metadata(trained / "weights.safetensors")["step"] == "4"
