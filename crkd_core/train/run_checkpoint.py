"""What a run saves and goes on from: ``checkpoint.pt``, and the weights that a Detector loads."""

from __future__ import annotations

import contextlib
import io
import warnings
from dataclasses import dataclass

import torch

from crkd_core.files import write_bytes
from crkd_core.model.checkpoint import (
    WEIGHTS,
    CheckpointError,
    check_finite,
    read_metadata,
    read_state,
    save_weights,
)
from crkd_core.model.detector import BevDetector
from crkd_core.train.average import Average
from crkd_core.train.distributed import Processes
from crkd_core.train.objective import TrainingLoss
from crkd_core.train.run_folder import LOG, Run, RunError, read_log, revision, unwritten

#: File of a run: all that resuming needs.
CHECKPOINT = "checkpoint.pt"


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What a run trains with, and what a checkpoint must therefore hold.

    Attributes:
        model: goes into weights.safetensors.
        criterion: its own weights, where it has any, stay in checkpoint.pt.
        optimiser: of both.
        schedule: of the learning rate.
        scaler: of the loss, for fp16; does nothing where it is not enabled.
        average: of the weights; where there is one, it goes into weights.safetensors.
    """

    model: BevDetector
    criterion: TrainingLoss
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    scaler: torch.amp.GradScaler
    average: Average | None = None


def save(run: Run, parts: Parts, *, step: int) -> None:
    """Write checkpoint.pt and weights.safetensors after ``step`` steps.

    Raises:
        CheckpointError: weights or statistics are not finite; the last files stay.
        RunError: they cannot be written, as on a full disk; the last files stay.
    """
    if not run.writes:
        return
    # A checkpoint that is good stays: one that is not finite would be no use to anybody.
    averaged = [] if parts.average is None else [parts.average.model]
    for part in (parts.model, parts.criterion, *averaged):
        check_finite(part.state_dict(), f"{run.path}: not saved at step {step}")
    state = {
        "step": step,
        "model": parts.model.state_dict(),
        "criterion": parts.criterion.state_dict(),
        "optimiser": parts.optimiser.state_dict(),
        "schedule": parts.schedule.state_dict(),
        "scaler": parts.scaler.state_dict(),
        "processes": Processes.of_environment().count,
    }
    if parts.average is not None:
        state["average"] = parts.average.model.state_dict()
    # Not straight into a file: torch says of a full disk that a position is unexpected.
    data = io.BytesIO()
    torch.save(state, data)
    path = run.path / CHECKPOINT
    try:
        write_bytes(data.getbuffer(), path, durable=True)
    except OSError as error:
        raise unwritten(path, error) from error
    extra = {"step": str(step), "revision": revision()}
    kept = parts.model if parts.average is None else parts.average.model
    path = run.path / WEIGHTS
    try:
        save_weights(kept, path, extra=extra)
    except OSError as error:
        raise unwritten(path, error) from error


def is_saved(run: Run) -> bool:
    """Whether ``restore`` finds a network, so that nothing else need be read for one."""
    return (run.path / CHECKPOINT).exists()


def restore(run: Run, parts: Parts) -> int:
    """Load checkpoint.pt into the parts of a run; 0 when the run was stopped before its first.

    Returns:
        The number of steps done. Lines of metrics.jsonl from later steps are dropped. Warns where
        steps were of another number of processes.

    Raises:
        RunError: the checkpoint cannot be read, does not fit the configuration, is older than
            the weights, or is missing although there was one.
    """
    path = run.path / CHECKPOINT
    step = 0
    if is_saved(run):
        try:
            state = read_state(path)
        except CheckpointError as error:
            raise RunError(f"cannot resume: {error}") from error
        try:
            parts.model.load_state_dict(state["model"])
            parts.criterion.load_state_dict(state["criterion"])
            parts.optimiser.load_state_dict(state["optimiser"])
            parts.schedule.load_state_dict(state["schedule"])
            parts.scaler.load_state_dict(state["scaler"])
            if parts.average is not None:
                parts.average.model.load_state_dict(state["average"])
            step, processes = int(state["step"]), int(state.get("processes", 0))
        except Exception as error:
            text = (str(error).splitlines() or [type(error).__name__])[0]
            raise RunError(f"{path}: cannot resume from this checkpoint: {text}") from error
        _warn_of_processes(run, processes)
    _check_step(run, step)
    run.drop_log_after(step)
    return step


def _warn_of_processes(run: Run, before: int) -> None:
    """Say that steps are of another size than before; 0 = a checkpoint that does not tell."""
    now = Processes.of_environment().count
    if run.writes and before not in (0, now):
        own = run.config.batch_size * run.config.accumulate
        warnings.warn(
            f"{run.path}: until now its steps were of {before} processes, {before * own} samples "
            f"each, and go on with {now}, {now * own} samples: it will not be the run that it "
            f"would have been; start {before} processes for that",
            stacklevel=3,
        )


def _check_step(run: Run, step: int) -> None:
    """Refuse to go on at a step behind which there is work that would be overwritten."""
    if step > run.config.steps:
        raise RunError(
            f"{run.path / CHECKPOINT}: is of step {step}, and the run has "
            f"{run.config.steps}; it belongs to another run"
        )
    weights, log = run.path / WEIGHTS, run.path / LOG
    saved = 0
    if weights.exists():
        saved = 1
        with contextlib.suppress(CheckpointError, ValueError):
            saved = int(read_metadata(weights).get("step", saved))
    if step == 0 and log.exists():
        # Until its first checkpoint a run may be killed and begin again.
        first = min(run.config.checkpoint_steps, run.config.steps)
        logged = [line["step"] for line in read_log(run.path)]
        saved = max([saved, *(one for one in logged if one > first)])
    if saved > step:
        what = f"is of step {step}" if step else "is missing"
        raise RunError(
            f"{run.path}: checkpoint.pt {what}, and the run had reached step {saved}: going "
            "on would overwrite its weights and its log; put the last checkpoint.pt back, or "
            f"start a new run, from these weights with --set start={weights}"
        )
