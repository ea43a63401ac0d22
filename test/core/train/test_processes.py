"""Real processes: torchrun against one process, and kill -9 against an uninterrupted run."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from torchrun_cases import CASES, norm_inputs, segment_loss
from train_tiny import FRAMES, a_config, logged

from crkd_core.model.checkpoint import load_weights
from crkd_core.train.distributed import DistributedError, Processes
from crkd_core.train.loop import train
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Positions

SUPPORT = Path(__file__).resolve().parents[2] / "support"
BIN = Path(sys.executable).parent


def environment() -> dict[str, str]:
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])]),
    }


@pytest.fixture(scope="module")
def curves(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("curves")
    done = subprocess.run(
        [
            BIN / "torchrun",
            "--standalone",
            "--nproc-per-node",
            "2",
            SUPPORT / "torchrun_curves.py",
            out,
        ],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out


@pytest.mark.parametrize("name", ["frozen", "synchronised"])
def test_two_processes_are_one_with_the_double_batch(curves, tmp_path, name):
    config = dataclasses.replace(CASES[name], batch_size=2 * CASES[name].batch_size)
    whole = Run.start(tmp_path, config, data="", split="")
    train(whole, FRAMES)
    two, one = logged(Run.open(curves / name)), logged(whole)
    assert len(two) == len(one) == config.steps
    for a, b in zip(two, one, strict=True):
        assert a.keys() == b.keys() and a["norm_samples"] == (0 if name == "frozen" else 4)
        for key in a:
            # Sums in another order differ by rounding, which every update magnifies.
            rel = 3e-5 if a["step"] == 1 else 3e-4
            rel = 5e-3 if key == "gradient_norm" else rel
            assert a[key] == pytest.approx(b[key], rel=rel, abs=1e-4), (a["step"], key)
    a, b = (
        load_weights(p / "weights.safetensors").state_dict() for p in (curves / name, tmp_path)
    )
    for key, value in a.items():
        if "running" in key:
            torch.testing.assert_close(value, b[key], rtol=1e-3, atol=1e-4)


def test_synchronised_norms_are_batchnorm_of_all_samples(curves):
    values, weights = norm_inputs()
    norm = torch.nn.BatchNorm2d(3, momentum=0.3)
    values.requires_grad_()
    answer = norm(values)
    (answer * weights).sum().backward()
    parts = [torch.load(curves / f"norm{rank}.pt") for rank in range(2)]
    # Unequal shares, and two uses: the second process has nothing the second time.
    torch.testing.assert_close(torch.cat([p["answer"] for p in parts]), answer.detach())
    torch.testing.assert_close(torch.cat([p["gradient"] for p in parts]), values.grad)
    torch.testing.assert_close(sum(p["weight"] for p in parts), norm.weight.grad)
    norm(values[:3])
    for part in parts:
        torch.testing.assert_close(part["mean"], norm.running_mean)
        torch.testing.assert_close(part["variance"], norm.running_var)


def test_norms_that_were_alone_for_a_batch_agree_again(curves):
    values, _ = norm_inputs()
    norm, alone = (torch.nn.BatchNorm2d(3, momentum=0.3) for _ in range(2))
    for _ in range(3):
        alone.load_state_dict(norm.state_dict())
        alone(values[:3])
        # One of two processes has new statistics, the other has the old ones.
        for name in ("running_mean", "running_var"):
            getattr(norm, name).lerp_(getattr(alone, name), 0.5)
        answer = norm(values)
    parts = [torch.load(curves / f"alone{rank}.pt") for rank in range(2)]
    torch.testing.assert_close(torch.cat([p["answer"] for p in parts]), answer.detach())
    for part in parts:
        torch.testing.assert_close(part["mean"], norm.running_mean)
        torch.testing.assert_close(part["variance"], norm.running_var)


@pytest.mark.parametrize("name", ["synchronised", "blind", "radar_view"])
def test_all_processes_have_one_network(curves, name):
    ours, theirs = (torch.load(curves / f"{name}{rank}.pt") for rank in range(2))
    for key, value in ours.items():
        if not key.endswith("num_batches_tracked"):  # Read by nothing: the momentum is given.
            assert torch.equal(value, theirs[key]), key


def test_the_second_heads_loss_is_that_of_all_cells_of_all_processes(curves):
    whole = segment_loss(slice(0, 2))
    parts = [torch.load(curves / f"segments{rank}.pt") for rank in range(2)]
    assert float(sum(parts) / 2) == pytest.approx(float(whole), rel=1e-6)
    assert float(whole) != pytest.approx(
        float(sum(segment_loss(slice(i, i + 1)) for i in (0, 1)) / 2)
    )


@pytest.mark.parametrize("name", ["blind", "radar_view"])
def test_a_process_without_cameras_or_radars_holds_nobody_up(curves, name):
    lines = logged(Run.open(curves / name))
    assert [line["step"] for line in lines] == list(range(1, CASES[name].steps + 1))
    assert all(np.isfinite(line["total"]) for line in lines)


def test_processes_share_the_stream_out():
    config = a_config(steps=4, batch_size=2, accumulate=3)
    ranks = [
        list(Positions(config, first_step=1, processes=Processes(rank=rank, count=2)))
        for rank in range(2)
    ]
    whole = list(Positions(dataclasses.replace(config, batch_size=4), first_step=1))
    assert [a + b for a, b in zip(*ranks, strict=True)] == whole
    assert len(whole) == len(Positions(config, first_step=1)) == 9


def test_a_broken_environment_is_refused(monkeypatch):
    monkeypatch.setenv("RANK", "one")
    with pytest.raises(DistributedError, match="expected numbers in RANK"):
        Processes.of_environment()


@pytest.mark.parametrize("said", [{"RANK": "1"}, {"RANK": "2", "WORLD_SIZE": "2"}, {"RANK": "-1"}])
def test_a_place_among_no_others_is_refused(monkeypatch, tmp_path, said):
    """RANK alone, as other launchers leave it: the run would be trained and written nowhere."""
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(DistributedError, match="expected a RANK from 0 to below WORLD_SIZE"):
        Run.start(tmp_path / "run", a_config(), data="", split="")


def test_a_killed_training_goes_on_as_if_nothing_had_happened(tiny_world, tmp_path):
    config = a_config(steps=24, checkpoint_steps=4, workers=1, average=0.9)
    settings = [
        f"{key}={json.dumps(value)}"
        for key, value in dataclasses.asdict(config).items()
        if key not in ("detector", "paste", "distill", "tensorboard", "sensors")
    ]
    grid = {"low": [-12.8, -12.8, -5.0], "high": [12.8, 12.8, 3.0]}
    settings += [f"detector.grid.{key}={value}" for key, value in grid.items()]
    settings += ["detector.image.height=64", "detector.image.width=96"]
    entry = "from crkd_core.cli import main; main()"
    command = [sys.executable, "-c", entry, "train"]
    command += ["--data", str(tiny_world), "--split", "mini_train"]
    log = tmp_path / "killed" / "metrics.jsonl"

    options = [part for setting in settings for part in ("--set", setting)]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path / "killed"), *options],
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 7):
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    # Its loading process holds the other end of this pipe: it must be gone too.
    _, errors = process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL, errors
    before = len(logged(Run(tmp_path / "killed", config)))
    assert 7 <= before < 24

    done = subprocess.run(
        [*command, "--out", str(tmp_path / "killed"), "--resume"],
        env=environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr

    from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames

    killed = Run.open(tmp_path / "killed")
    whole = Run.start(tmp_path / "whole", killed.config, data="", split="")
    train(whole, NuScenesFrames(NuScenes(tiny_world), "mini_train"))
    assert logged(killed) == logged(whole)
    a, b = (load_weights(r.path / "weights.safetensors").state_dict() for r in (killed, whole))
    for name, value in a.items():
        assert torch.equal(value, b[name]), name
