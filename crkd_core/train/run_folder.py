"""The folder of a training run, and everything that is written into it.

``config.json`` the resolved configuration, the command and the revision; ``metrics.jsonl`` one
line per logged step; ``checkpoint.pt`` everything that resuming needs; ``weights.safetensors``
what a Detector loads. Files appear when they are whole, so a killed run leaves the last complete
ones. One process at a time trains in a folder; of several that train together, the first holds it.
"""

from __future__ import annotations

import contextlib
import json
import math
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

import crkd_core
from crkd_core.config import (
    TRAINING_FORMAT,
    ConfigError,
    TrainConfig,
    from_dict,
    to_dict,
    upgraded_training,
)
from crkd_core.files import alone_in, holds_files, read_file, sweep, write_text
from crkd_core.train.distributed import Processes

#: Files of a run: how it was begun, and what it logged.
RECORD, LOG = "config.json", "metrics.jsonl"


class RunError(RuntimeError):
    """A run folder that cannot be started, resumed or read."""


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
            if (path / RECORD).exists():
                raise RunError(
                    f"{path} already holds a run; pass --resume to go on with it, or choose "
                    "another --out"
                )
            # What is being tried out there, as by the other processes of this training, will go.
            if holds_files(path):
                raise RunError(
                    f"{path} holds other files; choose a new or an empty folder as --out"
                )
            record = {
                "format": TRAINING_FORMAT,
                "config": to_dict(config),
                "data": data,
                "split": split,
                "digest": digest,
                "command": sys.argv,
                "version": crkd_core.__version__,
                "revision": revision(),
                "torch": torch.__version__,
            }
            write_text(json.dumps(record, indent=2) + "\n", path / RECORD)
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
        file = path / RECORD
        try:
            record = read_record(path)
        except FileNotFoundError as error:
            raise RunError(f"{path} holds no run (no {RECORD}); leave --resume out") from error
        except (ValueError, RecursionError) as error:
            raise RunError(f"{file}: not JSON: {error}") from error
        try:
            if split not in (None, record["split"]):
                raise RunError(
                    f"{path} was started on split {record['split']!r}, not on {split!r}; "
                    f"pass --split {record['split']}, or start a new run"
                )
            config = from_dict(
                TrainConfig, upgraded_training(record["config"], format=record.get("format"))
            )
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
                f"{digest}, then {self.digest}): tables, split or the sweeps that are there have "
                "changed; bring them back, or start a new run from these weights: crkd train "
                f"--start {self.path}, or crkd distill --student {self.path}"
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
        path = self.path / LOG
        try:
            with path.open("a") as file:
                file.write(_line(record))
        except OSError as error:
            raise unwritten(path, error) from error

    def drop_log_after(self, step: int) -> None:
        """Drop the lines of metrics.jsonl from steps after ``step``."""
        log = self.path / LOG
        if self.writes and log.exists():
            kept = [_line(record) for record in read_log(self.path) if record["step"] <= step]
            write_text("".join(kept), log)


def _line(record: dict[str, Any]) -> str:
    """A record as a line of metrics.jsonl. JSON knows no NaN and no infinity."""
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(plain) + "\n"


def unwritten(path: Path, error: OSError) -> RunError:
    """What to say where a file of a run cannot be written."""
    return RunError(
        f"{path}: cannot be written: {error.strerror or error}; what was saved before is whole: "
        "make room and go on with --resume"
    )


def read_record(run: Path) -> Any:
    """What ``config.json`` of a run folder holds, whatever it is.

    Raises:
        OSError: there is none, or it cannot be read.
        ValueError, RecursionError: it is not JSON.
    """
    return json.loads(read_file(run / RECORD))


def read_log(run: Path) -> Iterator[dict[str, Any]]:
    """The lines of ``metrics.jsonl`` of a run folder, each with its "step".

    What a killed process left of a line is passed over, and so is what no training wrote.

    Raises:
        OSError: there is none, or it cannot be read.
    """
    for line in read_file(run / LOG).splitlines():
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
