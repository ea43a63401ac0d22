"""The folder of an experiment: what it was set up with, and how far its runs are.

``experiment.json`` the settings; ``runs/RUN`` the folders of crkd train and distill;
``evaluations/RUN/SPLIT`` those of crkd evaluate; ``logs/RUN.log`` what both said; ``results``
what is worth keeping; ``before`` what was found of runs begun anew. How far a run is, is read from
these files alone, so whoever comes after a kill knows as much as who was killed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from crkd_core.config import LABEL_ENCODER, TRAINING_FORMAT, to_dict
from crkd_core.experiments.settings import ExperimentError, Settings
from crkd_core.files import holds_files, write_json
from crkd_core.model.checkpoint import WEIGHTS, CheckpointError, read_config, read_metadata
from crkd_core.presets import preset as find_preset
from crkd_core.train.run_folder import LOG, RECORD, read_log, read_record

#: Settings that may be others in every call.
_OF_A_CALL = ("device", "readers")
#: Seconds in which processes of a killed experiment are gone.
_DYING = 10.0


class Folder:
    """Paths and state of an experiment."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def settings(self) -> Settings | None:
        """Those that it was set up with; None where it was not.

        Raises:
            ExperimentError: they cannot be read.
        """
        try:
            text = (self.path / "experiment.json").read_text()
        except FileNotFoundError:
            return None
        try:
            stored: dict[str, Any] = json.loads(text)
            stored["drives"] = {name: tuple(scenes) for name, scenes in stored["drives"].items()}
            stored["changes"] = tuple(stored["changes"])
            stored["more_drives"] = tuple(stored["more_drives"])
            return Settings(**stored)
        except (ValueError, KeyError, TypeError) as error:
            raise ExperimentError(
                f"{self.path / 'experiment.json'}: cannot be read: {error}; choose another --out"
            ) from error

    def set_up(self, settings: Settings) -> None:
        """Keep the settings.

        Raises:
            ExperimentError: it was set up with others.
        """
        known = self.settings()
        if known is not None:
            # Drives without boxes may be named later, by the first list that needs them.
            free = _OF_A_CALL if known.more else (*_OF_A_CALL, "more", "more_drives")
            for setting in dataclasses.fields(Settings):
                old, new = getattr(known, setting.name), getattr(settings, setting.name)
                if old != new and setting.name not in free:
                    raise ExperimentError(
                        f"{self.path} was set up with {setting.name} {old!r}, not {new!r}; leave "
                        "the option out, or choose another --out"
                    )
        kept = dataclasses.asdict(settings)
        for name in _OF_A_CALL:
            del kept[name]
        write_json(kept, self.path / "experiment.json", indent=1)

    @contextlib.contextmanager
    def locked(self) -> Iterator[int]:
        """Alone in the folder; gives the descriptor of the lock, which children hold too.

        A new folder that nothing came into, because what was asked is refused, is gone afterwards.

        Raises:
            ExperimentError: another experiment is at work there.
        """
        is_new = not self.path.exists()
        self.path.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            until = time.monotonic() + _DYING
            while True:
                try:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > until:
                        who = os.read(lock, 100).decode(errors="replace").strip()
                        raise ExperimentError(
                            f"{self.path}: another experiment is at work there ({who}); wait for "
                            "it, end it, or choose another --out"
                        ) from None
                    time.sleep(0.2)
            os.ftruncate(lock, 0)
            os.pwrite(lock, f"process {os.getpid()}\n".encode(), 0)
            yield lock
        finally:
            if is_new and [one.name for one in self.path.iterdir()] == [".lock"]:
                (self.path / ".lock").unlink()
                self.path.rmdir()
            os.close(lock)

    def run(self, name: str) -> Path:
        """The folder of a training."""
        return self.path / "runs" / name

    def log(self, name: str) -> Path:
        """What the processes of a run said."""
        return self.path / "logs" / f"{name}.log"

    def evaluation(self, name: str, split: str) -> Path:
        """The folder of an evaluation."""
        return self.path / "evaluations" / name / split

    def result(self, name: str) -> Path:
        """What is kept of a run."""
        return self.path / "results" / f"{name}.json"

    def record(self, name: str) -> dict[str, Any] | None:
        """config.json of a training; None where it has not begun."""
        return _record(self.run(name))

    def lines(self, name: str) -> list[dict[str, Any]]:
        """The log of a training, one entry a logged step."""
        try:
            return [*read_log(self.run(name))]
        except OSError:
            return []

    def label_encoder(self, name: str) -> Path:
        """Where the encoder of labels of a teacher's run is, or will be."""
        return self.run(name) / LABEL_ENCODER

    def is_trained(self, name: str) -> bool:
        """Whether its weights are those of its last step."""
        return ended(self.run(name))

    def take(self, name: str, source: Path, preset: str) -> None:
        """Copy a training from elsewhere, or weights alone, to stand for a run.

        Args:
            name: of the run.
            source: folder of the training, as `crkd train` writes it; or a weights file, of which
                nothing says how it was trained.
            preset: has the training settings of those that go on from such a file.

        Raises:
            ExperimentError: no ended training there (any more), or the run has files here.
        """
        check_ended(name, source)
        if holds_files(self.run(name)):
            raise ExperimentError(
                f"--trained {name}={source}: {self.run(name)} holds files; remove it, leave the "
                "option out, or choose another --out"
            )
        new = self.run(name).with_name(f".{name}.new")
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(parents=True)
        if source.is_file():
            shutil.copy(source, new / WEIGHTS)
            write_json(_record_of_file(source, preset), new / RECORD, indent=2)
            (new / LOG).touch()  # No step of it is known.
        else:
            for kept in (RECORD, WEIGHTS, LOG, LABEL_ENCODER):
                if (source / kept).exists():
                    shutil.copy(source / kept, new / kept)
        shutil.rmtree(self.run(name), ignore_errors=True)
        new.rename(self.run(name))

    def is_evaluated(self, name: str, split: str) -> bool:
        """Whether its present weights were scored on a split; the report is written last."""
        try:
            scored = (self.evaluation(name, split) / "report.html").stat().st_mtime_ns
            return scored >= (self.run(name) / WEIGHTS).stat().st_mtime_ns
        except OSError:
            return False


def check_ended(name: str, source: Path) -> None:
    """That a folder or file can stand for a run. Raises ExperimentError: it cannot."""
    if source.is_file():
        try:
            read_config(source)
        except CheckpointError as error:
            raise ExperimentError(f"--trained {name}={source}: {error}") from error
    elif not ended(source):
        raise ExperimentError(
            f"--trained {name}={source}: expected a weights file, or the folder of an ended "
            f"training, with {RECORD} and {WEIGHTS} of its last step"
        )


def ended(training: Path) -> bool:
    """Whether the weights in the folder of a training are those of its last step."""
    record, weights = _record(training), training / WEIGHTS
    if record is None or not weights.exists():
        return False
    try:
        with safe_open(weights, "np") as file:
            step = (file.metadata() or {}).get("step")
    except (OSError, SafetensorError):
        return False
    # A file from elsewhere may not say its step.
    return (step or "1") == str(record["config"].get("steps"))


def _record_of_file(weights: Path, preset: str) -> dict[str, Any]:
    """config.json for weights that came alone: what is known of them, and a preset's settings."""
    metadata = read_metadata(weights)
    config = dataclasses.replace(
        find_preset(preset),
        detector=read_config(weights),
        steps=int(metadata.get("step", 1)),
    )
    return {
        "format": TRAINING_FORMAT,
        "config": to_dict(config),
        "data": None,
        "split": None,
        "digest": None,
        "command": ["crkd", "(weights", "alone)"],
        "version": None,
        "revision": metadata.get("revision"),
    }


def _record(training: Path) -> dict[str, Any] | None:
    try:
        found = read_record(training)
    except (OSError, ValueError, RecursionError):
        return None
    # Other programs have a file of this name too.
    is_ours = isinstance(found, dict) and isinstance(found.get("config"), dict)
    return found if is_ours else None
