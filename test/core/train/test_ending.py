"""A training that is told to end: nothing of what it did is lost, and it goes on exactly."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from train_tiny import FRAMES, Told, a_config, logged

from crkd_core.model.checkpoint import load_weights
from crkd_core.train.loop import train
from crkd_core.train.run_folder import Run

SUPPORT = Path(__file__).resolve().parents[2] / "support"
#: Longer than any test lets it go on.
ENDLESS = """
import sys
from pathlib import Path
from train_tiny import FRAMES, a_config
from crkd_core.train.loop import train
from crkd_core.train.run_folder import Run
config = a_config(steps=10_000, checkpoint_steps=10_000, workers=1)
train(Run.start(Path(sys.argv[1]), config, data="", split=""), FRAMES)
"""


@pytest.fixture(autouse=True)
def interruptible():
    """What a shell starts in the background ignores interrupts, and so would these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def whole(tmp_path) -> Run:
    run = Run.start(tmp_path / "whole", a_config(average=0.9), data="", split="")
    train(run, FRAMES)
    return run


@pytest.mark.parametrize(
    ("numbers", "left_by"),
    [
        ([signal.SIGTERM, signal.SIGTERM], SystemExit),
        ([signal.SIGINT, signal.SIGTERM], KeyboardInterrupt),
    ],
)
def test_it_ends_after_its_step_and_goes_on_exactly(tmp_path, whole, numbers, left_by):
    config = a_config(average=0.9, checkpoint_steps=100)
    run = Run.start(tmp_path / "told", config, data="", split="")
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    with pytest.raises(left_by) as left:
        train(run, Told(FRAMES, numbers, at=5))  # The first sample of step 3.
    assert left_by is not SystemExit or left.value.code == 143
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
    assert torch.load(run.path / "checkpoint.pt", weights_only=True)["step"] == 3
    train(Run.open(run.path), FRAMES, resume=True)
    assert logged(run) == logged(whole)
    ours, theirs = (load_weights(r.path / "weights.safetensors") for r in (run, whole))
    for name, value in ours.state_dict().items():
        assert torch.equal(value, theirs.state_dict()[name]), name


def test_by_a_second_interrupt_it_ends_at_once(tmp_path):
    run = Run.start(tmp_path / "run", a_config(checkpoint_steps=100), data="", split="")
    with pytest.raises(KeyboardInterrupt):
        train(run, Told(FRAMES, [signal.SIGINT, signal.SIGINT], at=5))
    assert not (run.path / "checkpoint.pt").exists()


def test_beside_the_main_thread_signals_are_left_alone(tmp_path):
    run = Run.start(tmp_path / "run", a_config(steps=1), data="", split="")
    thread = threading.Thread(target=train, args=(run, FRAMES))
    thread.start()
    thread.join()
    assert (run.path / "weights.safetensors").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_what_a_terminal_sends_to_all_does_not_take_its_readers_away(tmp_path, number):
    out = tmp_path / "run"
    process = subprocess.Popen(
        [sys.executable, "-c", ENDLESS, str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(
            [str(SUPPORT), str(SUPPORT.parents[1])]
        )},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )  # fmt: skip
    log = out / "metrics.jsonl"
    try:
        while process.poll() is None and not (log.exists() and log.read_text().count("\n") >= 3):
            time.sleep(0.01)
        os.killpg(process.pid, number)
        _, errors = process.communicate(timeout=60)
    finally:
        process.kill()  # Where it has not ended, it never would.
    # As no command of crkd, Python makes of an interrupt the signal itself.
    assert process.returncode == (143 if number == signal.SIGTERM else -signal.SIGINT), errors
    assert f"{number.name}: ended after step" in errors
    step = torch.load(out / "checkpoint.pt", weights_only=True)["step"]
    assert step == logged(Run.open(out))[-1]["step"] >= 3
