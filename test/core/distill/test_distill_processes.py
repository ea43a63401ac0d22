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
from model_tiny import TINY
from train_tiny import logged

from crkd_core.config import AugmentConfig, ImkdConfig
from crkd_core.distill.label_encoder import LabelEncoder
from crkd_core.distill.label_teacher import load_label_encoder, save_label_encoder
from crkd_core.distill.teacher import checksum
from crkd_core.distill.training import distill
from crkd_core.model.checkpoint import load_weights, save_weights
from crkd_core.train.run_folder import Run

SUPPORT = Path(__file__).resolve().parents[2] / "support"


#: Trained by two processes with these, and by one with the double batch.
CASES = {
    # Norms frozen, so that only the losses could tell the difference.
    "crkd": {"norms": "frozen", "learning_rate": 1e-3},
    # Adapters have norms of their own; see torchrun_cases.CASES of the rate.
    "imkd": {"norms": "synchronised", "learning_rate": 1e-5, "gradient_steps": 2},
    # One process often lacks all radars, through which a loss reaches the network, and measures
    # that loss's gradient nevertheless: nothing may wait for it.
    "blind": {
        "norms": "synchronised",
        "steps": 6,
        "gradient_steps": 1,
        "augment": AugmentConfig(image_zoom=(1.0, 1.3), drop_all_radars=0.5),
    },
}


def imkd_of(file: Path) -> ImkdConfig:
    """All five losses, of a teacher's file and a label encoder written beside it."""
    teacher, encoder = checksum(load_weights(file)), file.with_name("label_encoder.safetensors")
    torch.manual_seed(1)
    save_label_encoder(
        LabelEncoder(TEACHER, width=8), encoder, teacher_checksum=teacher, measured=None
    )
    return ImkdConfig(
        teacher=str(file),
        teacher_checksum=teacher,
        ramp_steps=0,
        label_encoder=str(encoder),
        label_encoder_checksum=load_label_encoder(encoder).checksum,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Run]:
    """The cases as two processes have run them."""
    out = tmp_path_factory.mktemp("distillations")
    file = out / "teacher.safetensors"
    save_weights(settled(TEACHER), file)
    imkd, found = imkd_of(file), {}
    for name, case in CASES.items():
        method = {} if name == "crkd" else {"crkd": None, "imkd": imkd, "detector": TINY}
        config = a_config(file, **({"batch_size": 1, "steps": 3} | method | case))
        found[name] = start(out / name, config)
    done = subprocess.run(
        [
            *(Path(sys.executable).parent / "torchrun", "--standalone", "--nproc-per-node", "2"),
            *(SUPPORT / "torchrun_distill.py", *(run.path for run in found.values())),
        ],
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(SUPPORT), str(SUPPORT.parents[1])]),
        },
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return found


@pytest.mark.parametrize("name", ["crkd", "imkd"])
def test_two_processes_are_one_with_the_double_batch(name, runs, tmp_path) -> None:
    """All losses of the method, and what is trained along."""
    two = runs[name]
    one = start(tmp_path / "one", dataclasses.replace(two.config, batch_size=2))
    distill(one, FRAMES)
    assert len(logged(two)) == 3
    for a, b in zip(logged(two), logged(one), strict=True):
        for key in b:
            if key.startswith(("share.", "cosine.")):
                continue  # Of the first process's own loss.
            assert a[key] == pytest.approx(b[key], rel=1e-4, abs=1e-4), (b["step"], key)
    a, b = (torch.load(run.path / "checkpoint.pt", weights_only=True) for run in (two, one))
    assert b["criterion"]
    for key, value in b["criterion"].items():
        torch.testing.assert_close(a["criterion"][key], value, rtol=1e-3, atol=1e-5)


def test_a_process_without_radars_holds_nobody_up(runs) -> None:
    lines = logged(runs["blind"])
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6]
    shares = [line["share.lidar_radar"] for line in lines]
    # The first process saw radars at some steps and none at others.
    assert 0 == min(shares) < max(shares)
