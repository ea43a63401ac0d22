"""The report on training runs: one HTML file. Command `crkd report`."""

from __future__ import annotations

import html
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2

from crkd_core.data.lidar import LidarError
from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.data.sets import DataSet, frames_of, open_set
from crkd_core.data.vod.errors import VodError
from crkd_core.distill.adapt import AdaptError
from crkd_core.distill.training import DistillError, teacher_configs
from crkd_core.evaluate.pictures import draw_bev, draw_cameras
from crkd_core.evaluate.report import figure, page, paragraphs
from crkd_core.files import write_bytes, write_text
from crkd_core.frame import FrameError
from crkd_core.model.checkpoint import CheckpointError, read_metadata
from crkd_core.report.drives import drives_of, recorded
from crkd_core.report.frames import MIN_SCORE, chosen, quality
from crkd_core.report.maps import draw_maps, loss_maps, trained_student
from crkd_core.report.player import player
from crkd_core.report.scores import scores
from crkd_core.report.subjects import (
    Subject,
    SubjectError,
    classes_of,
    observe,
    parse,
    shared_classes,
)
from crkd_core.tables import Table, number
from crkd_core.train.curves import compare_losses, logged_runs

#: Longer lists of scenes are not spelled out in command lines.
_SCENES = 8
#: Why nobody knows what losses see: of a run, of its teacher, or of data without the teacher's
#: LiDAR, which nothing else of a page reads. The rest of it took long, and is shown.
_UNSEEN = (
    *(AdaptError, CheckpointError, DistillError),
    *(FrameError, LidarError, NuScenesError, VodError),
)
#: Of the pictures of cameras, JPEG.
_QUALITY = 82


def report(
    arguments: Sequence[str],
    out: Path,
    *,
    data: Path,
    split: str,
    drive: str | None = None,
    device: str = "cpu",
    version: str | None = None,
) -> None:
    """Run the networks over a split and write a page about them.

    The first one is what the others are compared with; the pictures are about the last one.

    Args:
        arguments: [NAME=]RUN, folders of crkd train or distill, or weights files.
        out: the page.
        data: root of a nuScenes or View-of-Delft data set with annotations.
        split: of it.
        drive: scene for the player, of View-of-Delft a run of frames as report/drives.py names
            them; None = the one of the typical frame.
        device: "cpu", "cuda", "cuda:N".
        version: version folder of the data set; None = the one that holds the split.

    Raises:
        SubjectError: an argument that names no network, or two of one name.
        EvaluateError, NuScenesError, VodError, CheckpointError, InferError, ConfigError: data,
            weights or device cannot be used.
    """
    sources = parse([*arguments])
    tables = open_set(data, split=split, version=version)
    drives = drives_of(tables, split)
    if drive is not None and drive not in drives:
        raise SubjectError(f"--drive {drive}: not in {split}, which holds {', '.join(drives)}")
    subjects = [observe(source, tables, split, device=device) for source in sources]
    about = subjects[-1]
    shared = shared_classes(subjects)
    # Without a class in common each has an F1 of its own classes, and none is compared.
    qualities = {s.name: quality(s.counted, shared or s.counted.truth.classes) for s in subjects}
    reference = qualities[subjects[0].name] if shared and len(subjects) > 1 else None
    picked = chosen(qualities[about.name], reference)
    with tempfile.TemporaryDirectory() as folder:
        rooms = Path(folder)
        parts = [
            *_section("Scores", scores(subjects, rooms)),
            *_trainings(subjects, rooms),
            *_pictures(subjects, tables, drives, picked, qualities, rooms),
            *_maps(subjects, tables, picked, rooms),
            *_player(subjects, tables, drives, picked, drive),
        ]
        head = paragraphs(
            f"{', '.join(s.name for s in subjects)} on {split} of {tables.version}: "
            f"{len(about.answers)} samples. The pictures are about {about.name}"
            + (f", compared with {subjects[0].name}." if reference is not None else ".")
            + _shared_note(subjects, shared)
        )
        write_text(page("Camera-radar detection: report", [*head, *parts]), out)


def _shared_note(subjects: Sequence[Subject], shared: Sequence[str]) -> str:
    """A sentence on the classes that F1 is about; "" where they are those of every network."""
    if all({*subject.counted.truth.classes} == {*shared} for subject in subjects):
        return ""
    if not shared:
        return " The networks have no class in common, so F1 of each is over its own."
    return f" F1 is over the classes that all of them have: {', '.join(shared)}."


def _section(title: str, parts: Sequence[str]) -> list[str]:
    return [f"<h2>{html.escape(title)}</h2>\n", *parts] if parts else []


def _trainings(subjects: Sequence[Subject], rooms: Path) -> list[str]:
    """How they were trained: settings, and losses over steps."""
    rows, groups = [], {}
    for subject in subjects:
        config, run = subject.source.config, subject.source.run
        if config is None or run is None:
            continue
        command = " ".join(["crkd", *map(_shortened, subject.source.command)])
        rows.append([subject.name, _steps(subject, config.steps), str(config.seed), command])
        groups[subject.name] = [run]
    parts = []
    if rows:
        columns = ("network", "steps", "seed", "command")
        parts.append(Table(title="runs", columns=columns, rows=rows, texts=("command",)).html())
    found, missing = logged_runs(groups)
    logged = {name: runs for name, runs in found.items() if runs}
    if logged:
        parts.append(compare_losses(logged, rooms / "losses").html())
        parts.append(figure("losses over steps, weighted", rooms / "losses" / "losses.png"))
    parts += [text for one in missing for text in paragraphs(one)]
    return _section("Training", parts)


def _steps(subject: Subject, last: int) -> str:
    """The step that the weights are of, as far as they say; and that of the whole schedule."""
    step = read_metadata(subject.source.weights).get("step", str(last))
    return step if step == str(last) else f"{step} of {last}"


def _shortened(word: str) -> str:
    """A word of a command line; of a long list of scenes only how many there are."""
    count = word.count(",") + 1
    return f"({count} scenes)" if count > _SCENES and "=" not in word else word


def _pictures(
    subjects: Sequence[Subject],
    tables: DataSet,
    drives: Mapping[str, Sequence[str]],
    picked: Mapping[str, str],
    qualities: Mapping[str, Mapping[str, float]],
    rooms: Path,
) -> list[str]:
    """Chosen samples from above and in the cameras, with the boxes of every network."""
    parts = []
    detectors = [subject.detector for subject in subjects]
    classes = classes_of(subjects)
    for name, token in picked.items():
        frame = recorded(tables, [token], detectors)[0]
        parts.append(f"<h3>{html.escape(f'{name}: {_drive_of(token, drives)}, {token}')}</h3>\n")
        for index, subject in enumerate(subjects):
            found = subject.answers[token]
            f1 = qualities[subject.name].get(token, math.nan)
            caption = f"{subject.name}: F1 {number(f1, 2)} (boxes from score {MIN_SCORE:g} on)"
            path = rooms / f"{index}_{token}.png"
            shown: dict[str, Any] = {"min_score": MIN_SCORE, "classes": classes}
            draw_bev(frame, found, path, title=subject.name, **shown)
            parts.append(figure(f"{caption}, from above", path))
            draw_cameras(frame, found, path, cameras=tables.cameras, **shown)
            photo = path.with_suffix(".jpg")
            drawn = cv2.imread(str(path))
            if drawn is None:
                raise OSError(f"{path}: written just now, and cannot be read back")
            _, coded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
            write_bytes(coded.tobytes(), photo)
            parts.append(figure(f"{caption}, in the cameras", photo))
    return _section("Frames", parts)


def _maps(
    subjects: Sequence[Subject], tables: DataSet, picked: Mapping[str, str], rooms: Path
) -> list[str]:
    """What the losses of the distilled ones see of the chosen samples."""
    parts = []
    for index, subject in enumerate(subjects):
        config, run = subject.source.config, subject.source.run
        if config is None or run is None or not config.distillations:
            continue
        try:
            model = trained_student(run, config)
            if model is None:
                parts += paragraphs(
                    f"{subject.name}: no checkpoint.pt, so its losses see nothing."
                )
                continue
            teachers = teacher_configs(config)
            for name, token in picked.items():
                frame = frames_of(
                    tables, [token], config.detector, *teachers, recorded=True, remembered=True
                )[0]
                maps, grid = loss_maps(model, config, frame)
                path = rooms / f"maps{index}_{token}.png"
                draw_maps(maps, grid, path, title=f"{subject.name}, {name}")
                parts.append(figure(f"{subject.name}: what its losses see, {name}", path))
        except _UNSEEN as error:
            parts += paragraphs(f"{subject.name}: what its losses see is not known: {error}")
    return _section("What the losses see", parts)


def _player(
    subjects: Sequence[Subject],
    tables: DataSet,
    drives: Mapping[str, Sequence[str]],
    picked: Mapping[str, str],
    drive: str | None,
) -> list[str]:
    if drive is None:
        token = picked.get("typical", next(iter(picked.values()), None))
        drive = next(iter(drives)) if token is None else _drive_of(token, drives)
    tokens = drives[drive]
    frames = [*recorded(tables, tokens, [s.detector for s in subjects], images=False)]
    answers = {s.name: [s.answers[token] for token in tokens] for s in subjects}
    part = player(frames, answers, classes=classes_of(subjects), title=drive)
    return _section("A drive from above", [part])


def _drive_of(token: str, drives: Mapping[str, Sequence[str]]) -> str:
    return next(name for name, tokens in drives.items() if token in tokens)
