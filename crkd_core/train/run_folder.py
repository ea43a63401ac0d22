"""The folder of a training run, and everything that is written into it.

``config.json`` the resolved configuration, the command and the revision; ``metrics.jsonl`` one
line per logged step; ``checkpoint.pt`` everything that resuming needs; ``weights.safetensors``
what a Detector loads. Files appear when they are whole, so a killed run leaves the last complete
ones.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator
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
from crkd_core.files import replacing, write_text
from crkd_core.model.checkpoint import save_weights
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
    """

    def __init__(self, path: Path, config: TrainConfig) -> None:
        self.path, self.config = path, config
        self.writes = Processes.of_environment().first

    @classmethod
    def start(cls, path: Path, config: TrainConfig, *, data: str, split: str) -> Run:
        """A new run folder.

        Raises:
            RunError: the folder already holds a run, or anything else.
        """
        run = cls(path, config)
        if not run.writes:
            return run
        if (path / "config.json").exists():
            raise RunError(
                f"{path} already holds a run; pass --resume to go on with it, or choose another "
                "--out"
            )
        if path.is_dir() and any(path.iterdir()):
            raise RunError(f"{path} holds other files; choose a new or an empty folder as --out")
        path.mkdir(parents=True, exist_ok=True)
        record = {
            "format": FORMAT,
            "config": to_dict(config),
            "data": data,
            "split": split,
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
        try:
            record = json.loads((path / "config.json").read_text())
        except FileNotFoundError as error:
            raise RunError(f"{path} holds no run (no config.json); leave --resume out") from error
        except json.JSONDecodeError as error:
            raise RunError(f"{path / 'config.json'}: not JSON: {error}") from error
        if split not in (None, record["split"]):
            raise RunError(
                f"{path} was started on split {record['split']!r}, not on {split!r}; "
                f"pass --split {record['split']}, or start a new run"
            )
        try:
            data = _readable(record["config"], path)
            data = {**data, "detector": upgraded(data["detector"], format=record.get("format"))}
            return cls(path, from_dict(TrainConfig, data))
        except (ConfigError, KeyError) as error:
            raise RunError(f"{path / 'config.json'}: cannot be read: {error}") from error

    def log(self, record: dict[str, Any]) -> None:
        """Append one line to metrics.jsonl."""
        if not self.writes:
            return
        with (self.path / "metrics.jsonl").open("a") as file:
            file.write(json.dumps(record) + "\n")

    def save(self, parts: Parts, *, step: int) -> None:
        """Write checkpoint.pt and weights.safetensors after ``step`` steps."""
        if not self.writes:
            return
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
        with replacing(self.path / "checkpoint.pt", durable=True) as partial:
            torch.save(state, partial)
        extra = {"step": str(step), "revision": revision()}
        kept = parts.model if parts.average is None else parts.average.model
        save_weights(kept, self.path / "weights.safetensors", extra=extra)

    def restore(self, parts: Parts) -> int:
        """Load checkpoint.pt into the parts of a run; 0 when the run was stopped before its first.

        Returns:
            The number of steps done. Lines of metrics.jsonl from later steps are dropped.

        Raises:
            RunError: the checkpoint cannot be read or does not fit the configuration.
        """
        path = self.path / "checkpoint.pt"
        step = 0
        if path.exists():
            try:
                state = torch.load(path, map_location="cpu", weights_only=True)
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
                raise RunError(f"{path}: cannot resume from this checkpoint: {error}") from error
        log = self.path / "metrics.jsonl"
        if self.writes and log.exists():
            lines = list(_records(log.read_text()))
            kept = [json.dumps(line) for line in lines if line["step"] <= step]
            write_text("".join(line + "\n" for line in kept), log)
        return step


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


def _records(text: str) -> Iterator[dict[str, Any]]:
    """The records of metrics.jsonl; what a killed process left of a line is passed over."""
    for line in text.splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            yield json.loads(line)


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
