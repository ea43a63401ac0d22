"""The folder of a training run, and everything that is written into it.

``config.json`` the resolved configuration, the command and the revision; ``metrics.jsonl`` one
line per logged step; ``checkpoint.pt`` everything that resuming needs; ``weights.safetensors``
what a Detector loads. Files appear when they are whole, so a killed run leaves the last complete
ones. One process at a time trains in a folder; of several that train together, the first holds it.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

import crkd_core
from crkd_core.config import (
    FORMAT,
    PUBLISHED,
    ConfigError,
    TrainConfig,
    from_dict,
    to_dict,
    upgraded,
)
from crkd_core.files import alone_in, read_file, sweep, write_bytes, write_text
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


class RunError(RuntimeError):
    """A run folder that cannot be started, resumed or read."""


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


class Run:
    """One run folder. Of several processes the first one writes; the others only read.

    Attributes:
        path: the folder.
        config: the resolved configuration of the run.
        digest: of the training set that it began with; None = not known.
    """

    def __init__(self, path: Path, config: TrainConfig, *, digest: str | None = None) -> None:
        self.path, self.config, self.digest = path, config, digest
        self.writes = Processes.of_environment().first

    @classmethod
    def start(
        cls, path: Path, config: TrainConfig, *, data: str, split: str, digest: str | None = None
    ) -> Run:
        """A new run folder.

        Args:
            path: a new or an empty folder.
            config: of the run.
            data: root of the training set, in words.
            split: its name.
            digest: of it, see ``NuScenesFrames.digest``; None = not known, never compared.

        Raises:
            RunError: the folder already holds a run, or anything else.
            OutputError: another process has just begun there.
        """
        run = cls(path, config, digest=digest)
        if not run.writes:
            return run
        path.mkdir(parents=True, exist_ok=True)
        with alone_in(path):
            sweep(path)
            if (path / "config.json").exists():
                raise RunError(
                    f"{path} already holds a run; pass --resume to go on with it, or choose "
                    "another --out"
                )
            if any(path.iterdir()):
                raise RunError(
                    f"{path} holds other files; choose a new or an empty folder as --out"
                )
            record = {
                "format": FORMAT,
                "config": to_dict(config),
                "data": data,
                "split": split,
                "digest": digest,
                "command": sys.argv,
                "version": crkd_core.__version__,
                "revision": revision(),
                "torch": torch.__version__,
            }
            write_text(json.dumps(record, indent=2) + "\n", path / "config.json")
        return run

    @classmethod
    def open(cls, path: Path, *, split: str | None = None) -> Run:
        """An existing run folder.

        Args:
            path: the folder.
            split: what the run is to go on with; None = not asked.

        Raises:
            RunError: there is no run, its configuration cannot be read, or it was started on
                another split.
        """
        file = path / "config.json"
        try:
            record = json.loads(read_file(file))
        except FileNotFoundError as error:
            raise RunError(f"{path} holds no run (no config.json); leave --resume out") from error
        except (ValueError, RecursionError) as error:
            raise RunError(f"{file}: not JSON: {error}") from error
        try:
            if split not in (None, record["split"]):
                raise RunError(
                    f"{path} was started on split {record['split']!r}, not on {split!r}; "
                    f"pass --split {record['split']}, or start a new run"
                )
            data = _readable(record["config"], path)
            data = {**data, "detector": upgraded(data["detector"], format=record.get("format"))}
            config = from_dict(TrainConfig, data)
        except ConfigError as error:
            raise RunError(f"{file}: cannot be read: {error}") from error
        except (KeyError, TypeError, AttributeError) as error:
            raise RunError(
                f"{file}: expected what crkd train or distill writes, with config and split; "
                f"found something else ({type(error).__name__}: {error})"
            ) from error
        return cls(path, config, digest=record.get("digest"))

    def check_data(self, digest: str) -> None:
        """Refuse to go on with another training set than the run began with.

        Args:
            digest: of the one that is there now.

        Raises:
            RunError: it is another one.
        """
        if self.digest not in (None, digest):
            raise RunError(
                f"{self.path}: the training set is not the one that the run began with (digest "
                f"{digest}, then {self.digest}): tables or split have changed; bring them back, "
                f"or start a new run, from these weights with --set start="
                f"{self.path / 'weights.safetensors'}"
            )

    def alone(self) -> AbstractContextManager[None]:
        """Hold the folder while training in it.

        Raises:
            OutputError: another process trains there.
        """
        return alone_in(self.path) if self.writes else nullcontext()

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl; a number that is not finite becomes null.

        Raises:
            RunError: it cannot be written.
        """
        if not self.writes:
            return
        path = self.path / "metrics.jsonl"
        try:
            with path.open("a") as file:
                file.write(_line(record))
        except OSError as error:
            raise _unwritten(path, error) from error

    def save(self, parts: Parts, *, step: int) -> None:
        """Write checkpoint.pt and weights.safetensors after ``step`` steps.

        Raises:
            CheckpointError: weights or statistics are not finite; the last files stay.
            RunError: they cannot be written, as on a full disk; the last files stay.
        """
        if not self.writes:
            return
        # A checkpoint that is good stays: one that is not finite would be no use to anybody.
        averaged = [] if parts.average is None else [parts.average.model]
        for part in (parts.model, parts.criterion, *averaged):
            check_finite(part.state_dict(), f"{self.path}: not saved at step {step}")
        state = {
            "step": step,
            "model": parts.model.state_dict(),
            "criterion": parts.criterion.state_dict(),
            "optimiser": parts.optimiser.state_dict(),
            "schedule": parts.schedule.state_dict(),
            "scaler": parts.scaler.state_dict(),
        }
        if parts.average is not None:
            state["average"] = parts.average.model.state_dict()
        # Not straight into a file: torch says of a full disk that a position is unexpected.
        data = io.BytesIO()
        torch.save(state, data)
        path = self.path / "checkpoint.pt"
        try:
            write_bytes(data.getbuffer(), path, durable=True)
        except OSError as error:
            raise _unwritten(path, error) from error
        extra = {"step": str(step), "revision": revision()}
        kept = parts.model if parts.average is None else parts.average.model
        path = self.path / WEIGHTS
        try:
            save_weights(kept, path, extra=extra)
        except OSError as error:
            raise _unwritten(path, error) from error

    def restore(self, parts: Parts) -> int:
        """Load checkpoint.pt into the parts of a run; 0 when the run was stopped before its first.

        Returns:
            The number of steps done. Lines of metrics.jsonl from later steps are dropped.

        Raises:
            RunError: the checkpoint cannot be read, does not fit the configuration, is older than
                the weights, or is missing although there was one.
        """
        path = self.path / "checkpoint.pt"
        log = self.path / "metrics.jsonl"
        step = 0
        if path.exists():
            try:
                state = read_state(path)
            except CheckpointError as error:
                raise RunError(f"cannot resume: {error}") from error
            try:
                parts.model.load_state_dict(state["model"])
                # A checkpoint from before there were criteria with weights has no such entry.
                parts.criterion.load_state_dict(state.get("criterion", {}))
                parts.optimiser.load_state_dict(state["optimiser"])
                parts.schedule.load_state_dict(state["schedule"])
                parts.scaler.load_state_dict(state.get("scaler", {}))
                if parts.average is not None:
                    parts.average.model.load_state_dict(state["average"])
                step = int(state["step"])
            except Exception as error:
                text = (str(error).splitlines() or [type(error).__name__])[0]
                raise RunError(f"{path}: cannot resume from this checkpoint: {text}") from error
        self._check_step(step)
        if self.writes and log.exists():
            kept = [_line(record) for record in read_log(log) if record["step"] <= step]
            write_text("".join(kept), log)
        return step

    def _check_step(self, step: int) -> None:
        """Refuse to go on at a step behind which there is work that would be overwritten."""
        if step > self.config.steps:
            raise RunError(
                f"{self.path / 'checkpoint.pt'}: is of step {step}, and the run has "
                f"{self.config.steps}; it belongs to another run"
            )
        weights, log = self.path / WEIGHTS, self.path / "metrics.jsonl"
        saved = 0
        if weights.exists():
            saved = 1
            with contextlib.suppress(CheckpointError, ValueError):
                saved = int(read_metadata(weights).get("step", saved))
        if step == 0 and log.exists():
            # Until its first checkpoint a run may be killed and begin again.
            first = min(self.config.checkpoint_steps, self.config.steps)
            saved = max([saved, *(line["step"] for line in read_log(log) if line["step"] > first)])
        if saved > step:
            what = f"is of step {step}" if step else "is missing"
            raise RunError(
                f"{self.path}: checkpoint.pt {what}, and the run had reached step {saved}: going "
                "on would overwrite its weights and its log; put the last checkpoint.pt back, or "
                f"start a new run, from these weights with --set start={weights}"
            )


def _line(record: dict[str, Any]) -> str:
    """A record as a line of metrics.jsonl. JSON knows no NaN and no infinity."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(plain) + "\n"


def _unwritten(path: Path, error: OSError) -> RunError:
    return RunError(
        f"{path}: cannot be written: {error.strerror or error}; what was saved before is whole: "
        "make room and go on with --resume"
    )


def _readable(config: dict[str, Any], path: Path) -> dict[str, Any]:
    """The configuration of a run of any version.

    Raises:
        RunError: a distillation from before losses had their weights in one dictionary.
    """
    if config.get("distill") is not None:
        raise RunError(
            f"{path} was distilled by an older version, which set losses and weights by other "
            f"keys; it cannot be resumed or read as a run. Its network can be used: give the file "
            f"{path / 'weights.safetensors'} in the place of the folder"
        )
    if config.get("crkd") is not None:
        # Before its losses had two forms, they had the published one and no keys for it.
        config = {**config, "crkd": {**PUBLISHED, **config["crkd"]}}
    # Plain runs of that time say so by a key that there is no longer.
    return {key: value for key, value in config.items() if key != "distill"}


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The records of a metrics.jsonl, each with its "step".

    What a killed process left of a line is passed over, and so is what no training wrote.
    """
    for line in read_file(path).splitlines():
        with contextlib.suppress(ValueError, RecursionError):
            record = json.loads(line)
            if isinstance(record, dict) and isinstance(record.get("step"), int):
                yield record


def revision() -> str:
    """The git revision of the source, with "-dirty" when changed; "" outside a checkout."""
    here = Path(__file__).resolve().parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else ""
