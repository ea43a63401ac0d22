"""The report on training runs: one HTML file. Command `crkd report`."""

from __future__ import annotations

import html
import math
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.figure import Figure

from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.distill.adapt import AdaptError
from crkd_core.distill.training import DistillError, teacher_configs
from crkd_core.evaluate.metrics import ERROR_NAMES
from crkd_core.evaluate.pictures import draw_bev, draw_cameras, draw_precision_recall
from crkd_core.evaluate.report import MEAN_NAMES, figure, page, paragraphs
from crkd_core.evaluate.slices import slices_table
from crkd_core.files import write_bytes, write_text
from crkd_core.model.checkpoint import CheckpointError
from crkd_core.png import write_figure
from crkd_core.report.frames import MIN_SCORE, chosen, quality
from crkd_core.report.maps import draw_maps, loss_maps, trained_student
from crkd_core.report.player import player
from crkd_core.report.subjects import Subject, SubjectError, observe, parse
from crkd_core.sensors import RADARS
from crkd_core.tables import Table, number
from crkd_core.train.curves import compare_losses

#: Longer lists of scenes are not spelled out in command lines.
_SCENES = 8
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
        data: root of a nuScenes data set with annotations.
        split: of it.
        drive: scene for the player; None = the one of the typical frame.
        device: "cpu", "cuda", "cuda:N".
        version: version folder of the data set; None = the one that holds the split.

    Raises:
        SubjectError: an argument that names no network, or two of one name.
        EvaluateError, NuScenesError, CheckpointError, InferError, ConfigError: data, weights or
            device cannot be used.
    """
    sources = parse([*arguments])
    tables = NuScenes(data, split=split, version=version)
    if drive is not None and drive not in tables.scenes_of(split):
        raise SubjectError(
            f"--drive {drive}: not in {split}, which holds {', '.join(tables.scenes_of(split))}"
        )
    subjects = [observe(source, tables, split, device=device) for source in sources]
    about = subjects[-1]
    qualities = {subject.name: quality(subject.counted) for subject in subjects}
    reference = qualities[subjects[0].name] if len(subjects) > 1 else None
    picked = chosen(qualities[about.name], reference)
    with tempfile.TemporaryDirectory() as folder:
        rooms = Path(folder)
        parts = [
            *_scores(subjects, rooms),
            *_trainings(subjects, rooms),
            *_pictures(subjects, tables, split, picked, qualities, rooms),
            *_maps(subjects, tables, picked, rooms),
            *_player(subjects, tables, split, picked, drive),
        ]
        head = paragraphs(
            f"{', '.join(s.name for s in subjects)} on {split} of {tables.version}: "
            f"{len(about.answers)} samples. The pictures are about {about.name}"
            + (f", compared with {subjects[0].name}." if reference is not None else ".")
        )
        write_text(page("Camera-radar detection: report", [*head, *parts]), out)


def _section(title: str, parts: Sequence[str]) -> list[str]:
    return [f"<h2>{html.escape(title)}</h2>\n", *parts] if parts else []


def _scores(subjects: Sequence[Subject], rooms: Path) -> list[str]:
    """Tables, precision over recall, parts of the data."""
    columns = ("mAP", "NDS", *MEAN_NAMES.values())
    rows = []
    for subject in subjects:
        summary = subject.result.summary
        values = [summary["mean_ap"], summary["nd_score"]]
        values += [summary["tp_errors"][error] for error in ERROR_NAMES]
        rows.append([subject.name, *map(number, values)])
    classes = dict.fromkeys(c for s in subjects for c in s.result.summary["mean_dist_aps"])
    by_class = [
        [
            name,
            *(number(s.result.summary["mean_dist_aps"].get(name, math.nan)) for s in subjects),
        ]
        for name in classes
    ]
    shown = [
        Table(title="nuScenes detection", columns=("network", *columns), rows=rows),
        Table(title="AP by class", columns=("class", *(s.name for s in subjects)), rows=by_class),
        *(_titled(slices_table(s.parts), f"parts of the data, {s.name}") for s in subjects),
    ]
    path = rooms / "parts.png"
    _draw_parts(subjects, path)
    parts = [table.html() + "<br>\n" for table in shown]
    parts.append(figure("mAP of parts of the data", path))
    for index, subject in enumerate(subjects):
        path = rooms / f"curves{index}.png"
        draw_precision_recall(subject.result, path)
        parts.append(figure(f"{subject.name}: precision over recall", path))
    return _section("Scores", parts)


def _titled(table: Table, title: str) -> Table:
    return Table(title=title, columns=table.columns, rows=table.rows, texts=table.texts)


def _draw_parts(subjects: Sequence[Subject], path: Path) -> None:
    """mAP by range, weather, light and speed, one bar a network."""
    groups = dict.fromkeys(part["group"] for part in subjects[0].parts)
    drawn = Figure(figsize=(12, 3.6), layout="constrained")
    panels = drawn.subplots(1, len(groups), sharey=True, width_ratios=(3, 2, 2, 2))
    width = 0.8 / len(subjects)
    for axes, group in zip(panels, groups, strict=True):
        for index, subject in enumerate(subjects):
            parts = [part for part in subject.parts if part["group"] == group]
            places = np.arange(len(parts)) + (index - (len(subjects) - 1) / 2) * width
            values = [part.get("mean_ap", 0.0) for part in parts]
            axes.bar(places, values, width, label=subject.name)
            axes.set_xticks(range(len(parts)), [f"{p['name']}\n{p['boxes']}" for p in parts])
        axes.set_title(group, fontsize=10)
        axes.tick_params(labelsize=8)
        axes.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("mAP; below: boxes")
    panels[0].legend(fontsize=8)
    write_figure(drawn, path)


def _trainings(subjects: Sequence[Subject], rooms: Path) -> list[str]:
    """How they were trained: settings, and losses over steps."""
    rows, logged = [], {}
    for subject in subjects:
        record = subject.source.record
        if not record or subject.source.run is None:
            continue
        config = record["config"]
        command = " ".join(["crkd", *map(_shortened, record["command"][1:])])
        rows.append([subject.name, str(config["steps"]), str(config["seed"]), command])
        if (subject.source.run / "metrics.jsonl").exists():
            logged[subject.name] = [subject.source.run]
    parts = []
    if rows:
        columns = ("network", "steps", "seed", "command")
        parts.append(Table(title="runs", columns=columns, rows=rows, texts=("command",)).html())
    if logged:
        parts.append(compare_losses(logged, rooms / "losses").html())
        parts.append(figure("losses over steps, weighted", rooms / "losses" / "losses.png"))
    return _section("Training", parts)


def _shortened(word: str) -> str:
    """A word of a command line; of a long list of scenes only how many there are."""
    count = word.count(",") + 1
    return f"({count} scenes)" if count > _SCENES and "=" not in word else word


def _pictures(
    subjects: Sequence[Subject],
    tables: NuScenes,
    split: str,
    picked: Mapping[str, str],
    qualities: Mapping[str, Mapping[str, float]],
    rooms: Path,
) -> list[str]:
    """Chosen samples from above and in the cameras, with the boxes of every network."""
    tokens = tables.samples_of(split)
    parts = []
    for name, token in picked.items():
        frame = NuScenesFrames(tables, [token])[0]
        parts.append(f"<h3>{html.escape(f'{name}: {tables.scene_of(token)}, {token}')}</h3>\n")
        for index, subject in enumerate(subjects):
            found = subject.answers[tokens.index(token)]
            f1 = qualities[subject.name].get(token, math.nan)
            caption = f"{subject.name}: F1 {number(f1, 2)} (boxes from score {MIN_SCORE:g} on)"
            path = rooms / f"{index}_{token}.png"
            draw_bev(frame, found, path, min_score=MIN_SCORE, title=subject.name)
            parts.append(figure(f"{caption}, from above", path))
            draw_cameras(frame, found, path, min_score=MIN_SCORE)
            photo = path.with_suffix(".jpg")
            drawn = cv2.imread(str(path))
            if drawn is None:
                raise OSError(f"{path}: written just now, and cannot be read back")
            _, coded = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
            write_bytes(coded.tobytes(), photo)
            parts.append(figure(f"{caption}, in the cameras", photo))
    return _section("Frames", parts)


def _maps(
    subjects: Sequence[Subject], tables: NuScenes, picked: Mapping[str, str], rooms: Path
) -> list[str]:
    """What the losses of the distilled ones see of the chosen samples."""
    parts = []
    for index, subject in enumerate(subjects):
        config, run = subject.source.config, subject.source.run
        if config is None or run is None or not config.distillations:
            continue
        model = trained_student(run, config)
        if model is None:
            parts += paragraphs(f"{subject.name}: no checkpoint.pt, so its losses see nothing.")
            continue
        try:
            teachers = teacher_configs(config)
            for name, token in picked.items():
                frame = NuScenesFrames.for_detectors(
                    tables, [token], config.detector, *teachers, recorded=True
                )[0]
                maps, grid = loss_maps(model, config, frame)
                path = rooms / f"maps{index}_{token}.png"
                draw_maps(maps, grid, path, title=f"{subject.name}, {name}")
                parts.append(figure(f"{subject.name}: what its losses see, {name}", path))
        except (AdaptError, DistillError, CheckpointError) as error:
            parts += paragraphs(f"{subject.name}: what its losses see is not known: {error}")
    return _section("What the losses see", parts)


def _player(
    subjects: Sequence[Subject],
    tables: NuScenes,
    split: str,
    picked: Mapping[str, str],
    drive: str | None,
) -> list[str]:
    tokens = tables.samples_of(split)
    if drive is None:
        drive = tables.scene_of(picked.get("typical", next(iter(picked.values()), tokens[0])))
    wanted = [token for token in tables.samples_of_scene(drive) if token in tokens]
    places = [tokens.index(token) for token in wanted]
    # No pictures are shown there, so none is read.
    frames = [*NuScenesFrames(tables, wanted, sensors=RADARS)]
    answers = {s.name: [s.answers[place] for place in places] for s in subjects}
    return _section("A drive from above", [player(frames, answers, title=drive)])
