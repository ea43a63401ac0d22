"""Two processes distil as one process with the double batch does."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from distill_tiny import FRAMES, TEACHER, a_config, settled, start
from train_tiny import logged

from crkd_core.distill.training import distill
from crkd_core.model.checkpoint import save_weights

SUPPORT = Path(__file__).resolve().parents[2] / "support"


def test_two_processes_are_one_with_the_double_batch(tmp_path) -> None:
    """All five losses; norms frozen, so that only the losses could tell the difference."""
    file = tmp_path / "teacher.safetensors"
    save_weights(settled(TEACHER), file)
    config = a_config(file, batch_size=1, norms="frozen", steps=3, learning_rate=1e-3)
    two = start(tmp_path / "two", config)
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "torchrun", "--standalone", "--nproc-per-node", "2"),
            *(SUPPORT / "torchrun_distill.py", two.path),
        ],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])]),
        },
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    one = start(tmp_path / "one", dataclasses.replace(config, batch_size=2))
    distill(one, FRAMES)
    assert len(logged(two)) == 3
    for a, b in zip(logged(two), logged(one), strict=True):
        for key in b:
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-4), (b["step"], key)
    a, b = (torch.load(run.path / "checkpoint.pt", weights_only=True) for run in (two, one))
    for name, value in b["criterion"].items():
        torch.testing.assert_close(a["criterion"][name], value, rtol=1e-3, atol=1e-5)
