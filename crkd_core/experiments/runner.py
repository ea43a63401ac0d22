"""Carries out the runs of an experiment: several processes of one core each, parents first.

Nothing is remembered but what lies in the folder (folder.py). Whatever was killed is resumed.
"""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from crkd_core.distill.label_checkpoint import LabelCheckpoint
from crkd_core.experiments import commands
from crkd_core.experiments.folder import Folder
from crkd_core.experiments.mixed import check_unmixed
from crkd_core.experiments.plan import RunSpec, label_encoded, labelled_parts
from crkd_core.experiments.process import start, terminable
from crkd_core.experiments.results import put_aside
from crkd_core.experiments.settings import ExperimentError, Settings
from crkd_core.files import holds_files
from crkd_core.progress import Bar
from crkd_core.train.run_folder import LOG, RECORD

#: Seconds between two looks at the processes: often enough, and next to nothing beside them.
_LOOK = 1.0
#: The stage between the training of a teacher and its evaluations, where one asks for it.
_LABELS = "label encoder"
#: Instead of a stage: nothing is left to do.
_DONE = ""
#: Seconds that processes have to end when the experiment ends: a step, and its checkpoint.
_PATIENCE = 60.0


@dataclass(kw_only=True)
class _Job:
    """A process at work on a run."""

    spec: RunSpec
    stage: str
    process: subprocess.Popen[bytes]
    log: TextIO
    task: TaskID


def run_all(
    folder: Folder,
    specs: Sequence[RunSpec],
    settings: Settings,
    *,
    lock: int,
    jobs: int,
    splits: Sequence[str],
    finished: Callable[[RunSpec], object] = lambda _: None,
) -> dict[str, str]:
    """Train and evaluate all runs that are not yet.

    Args:
        folder: of the experiment.
        specs: parents first.
        settings: of the folder.
        lock: the folder's, which every process inherits: while one lives, it is held.
        jobs: processes at once.
        splits: "validation", "test": where every run is evaluated.
        finished: called after every evaluation.

    Returns:
        Name -> why it failed, for the runs that did, and for those that wait for one of them.

    Raises:
        ExperimentError: a run folder that another command line has begun, or unreadable, or see
            ``mixed.check_unmixed``.
        NuScenesError: the data set cannot be used.
    """
    for spec in specs:
        if spec.name not in settings.trained:
            _check_same(folder, spec, settings)
    check_unmixed(folder, specs, settings, splits)
    failed: dict[str, str] = {}
    labelled, encoded = labelled_parts(specs), label_encoded(specs)
    waiting = list(specs)
    running: list[_Job] = []
    with terminable(), _progress() as progress:
        try:
            changed = True
            while waiting or running:
                ended = [job for job in running if job.process.poll() is not None]
                changed = changed or bool(ended)
                for job in ended:
                    running.remove(job)
                    job.log.close()
                    progress.remove_task(job.task)
                    if job.process.returncode or not _is_done(folder, job):
                        failed[job.spec.name] = _why(folder.log(job.spec.name), job.process)
                        text = f"{job.spec.name}: {failed[job.spec.name]}"
                        progress.console.print(text, markup=False, soft_wrap=True)
                    else:
                        progress.console.print(f"{job.spec.name}: {job.stage} done")
                        if job.stage in splits:
                            finished(job.spec)
                        waiting.insert(0, job.spec)  # Its next stage comes before other runs.
                if changed:
                    _drop_lost(folder, waiting, failed)
                    for spec in list(waiting):
                        parts = [*labelled.get(spec.name, ()), *splits]
                        stage = _ready(folder, spec, parts, encoded=spec.name in encoded)
                        if stage == _DONE:
                            waiting.remove(spec)
                        elif stage and len(running) < jobs:
                            waiting.remove(spec)
                            running.append(_start(folder, spec, settings, stage, lock, progress))
                for job in running:
                    if job.stage == "training":
                        done = _step(folder.run(job.spec.name) / LOG)
                        progress.update(job.task, completed=done)
                changed = False
                time.sleep(_LOOK)
        finally:
            if running:
                names = ", ".join(job.spec.name for job in running)
                progress.console.print(f"ending; trainings save their last step: {names}")
            _end(running)
    return failed


def _end(running: Sequence[_Job]) -> None:
    """End the processes; a training first saves the step that it is in."""
    for job in running:
        job.process.terminate()
    until = time.monotonic() + _PATIENCE
    for job in running:
        try:
            job.process.wait(max(0.0, until - time.monotonic()))
        except subprocess.TimeoutExpired:
            job.process.kill()
        job.log.close()


def _is_done(folder: Folder, job: _Job) -> bool:
    """Whether a process left what it was started for, whatever its exit status says."""
    name = job.spec.name
    if job.stage == "training":
        return folder.is_trained(name)
    if job.stage == _LABELS:
        return folder.label_encoder(name).exists()
    return folder.is_evaluated(name, job.stage)


def _drop_lost(folder: Folder, waiting: list[RunSpec], failed: dict[str, str]) -> None:
    """Give up the runs that wait for the weights of a failed one, and those that wait for these.

    One whose evaluation failed has its weights.
    """
    for spec in list(waiting):  # Parents first, so one pass is enough.
        if folder.is_trained(spec.name):
            continue
        lost = [
            name
            for name in spec.parents
            if name in failed
            and not (folder.is_trained(name) and (name != spec.teacher or _is_told(folder, spec)))
        ]
        if lost:
            failed[spec.name] = f"waits for {lost[0]}, which failed"
            waiting.remove(spec)


def _ready(folder: Folder, spec: RunSpec, splits: Sequence[str], *, encoded: bool) -> str | None:
    """What can be done next: "training", _LABELS, a part of the drives to evaluate, or _DONE.

    None = it must wait.
    """
    if not folder.is_trained(spec.name):
        there = all(map(folder.is_trained, spec.parents)) and _is_told(folder, spec)
        return "training" if there else None
    if encoded and not folder.label_encoder(spec.name).exists():
        return _LABELS
    return next((s for s in splits if not folder.is_evaluated(spec.name, s)), _DONE)


def _is_told(folder: Folder, spec: RunSpec) -> bool:
    """Whether the label encoder and the boxes of its teacher are there, where a run needs them."""
    if spec.teacher is None:
        return True
    if spec.needs_label_encoder and not folder.label_encoder(spec.teacher).exists():
        return False
    part = spec.unlabelled if spec.learns_pseudo_labels else None
    return part is None or folder.is_evaluated(spec.teacher, part)


def _start(
    folder: Folder, spec: RunSpec, settings: Settings, stage: str, lock: int, progress: Bar
) -> _Job:
    name = spec.name
    steps = max(1, round(spec.steps * settings.scale))
    task = progress.add_task(f"{name}: {stage}", total=steps if stage == "training" else None)
    if stage == "training":
        begun = folder.record(name) is not None
        if not begun and (before := put_aside(folder, name)) is not None:
            text = f"{name}: begun anew; what was found of it before lies in {before}"
            progress.console.print(text, markup=False, soft_wrap=True)
        words = commands.training(spec, settings, resume=begun)
    elif stage == _LABELS:
        begun = LabelCheckpoint.beside(folder.label_encoder(name)).path.exists()
        words = commands.label_encoding(spec, settings, resume=begun)
    else:
        words = commands.evaluation(name, settings, stage)
    folder.log(name).parent.mkdir(parents=True, exist_ok=True)
    log = folder.log(name).open("a")
    log.write(f"$ {commands.shown(words, settings)}\n")
    log.flush()
    process = start(words, cwd=folder.path, log=log, lock=lock)
    return _Job(spec=spec, stage=stage, process=process, log=log, task=task)


def _check_same(folder: Folder, spec: RunSpec, settings: Settings) -> None:
    """Refuse to go on with, or to count, a run that was begun otherwise, or nobody knows how."""
    record = folder.record(spec.name)
    if record is None and holds_files(folder.run(spec.name)):
        raise ExperimentError(
            f"{folder.run(spec.name)} holds files, and no {RECORD} of a training that can be "
            "read; bring that back, or move the folder away to train it anew"
        )
    words = commands.training(spec, settings)
    if record is not None and commands.told(record["command"][1:]) != commands.told(words):
        was = commands.shown(record["command"][1:], settings)
        raise ExperimentError(
            f"{folder.run(spec.name)} was begun as: {was}; the list now says: "
            f"{commands.shown(words, settings)}; remove that folder to train it anew, or choose "
            "another --out"
        )


def _why(log: Path, process: subprocess.Popen[bytes]) -> str:
    """The last thing that a failed process said."""
    texts = [line.strip() for line in log.read_text(errors="replace").splitlines()]
    last = next((text for text in reversed(texts) if text), "")
    return f"failed with status {process.returncode}: {last}; see {log}"


def _step(log: Path) -> int:
    """The last step that a training has logged."""
    try:
        with log.open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - 4096))
            tail = file.read().splitlines()
    except OSError:
        return 0
    for line in reversed(tail):
        head, _, rest = line.partition(b'"step": ')
        number = rest.split(b",")[0]
        if head == b"{" and number.isdigit():
            return int(number)
    return 0


def _progress() -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        unit="step",
        stays=False,
        per_second=1,
    )
