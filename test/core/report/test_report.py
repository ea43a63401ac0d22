"""The web page about runs: what is chosen for it, that it is whole, and what a browser shows."""

from __future__ import annotations

import dataclasses
import html
import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from distill_tiny import FRAMES, TEACHER, a_config, settled
from handmade import write_version
from model_tiny import TINY
from typer.testing import CliRunner

from crkd_core.boxes import Detections
from crkd_core.cli import app
from crkd_core.config import ConfigError, SegmentsConfig
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.data.vod.layout import Vod
from crkd_core.distill.training import distill
from crkd_core.evaluate.evaluation import evaluate_weights
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import DetectionRules
from crkd_core.evaluate.pictures import draw_bev
from crkd_core.evaluate.scoring import Countable, EvaluateError
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import CheckpointError, load_weights, save_weights
from crkd_core.report.drives import drives_of
from crkd_core.report.frames import chosen, quality
from crkd_core.report.maps import trained_student
from crkd_core.report.player import player
from crkd_core.report.report import report
from crkd_core.report.scores import scores, ticks_of
from crkd_core.report.subjects import Source, Subject, SubjectError, observe, parse, shared_classes
from crkd_core.train.run_folder import Run


def boxes(*rows: tuple[int, float, int, float]) -> ScoredBoxes:
    """Rows of sample, x, label, score."""
    n = len(rows)
    sample, x, label, score = (np.array(column) for column in zip(*rows, strict=True))
    return ScoredBoxes(
        center=np.stack([x, np.zeros(n), np.zeros(n)], 1).astype(float),
        size=np.ones((n, 3)),
        yaw=np.zeros(n),
        velocity=np.zeros((n, 2)),
        label=label,
        sample=sample,
        attribute=np.full(n, -1),
        score=score.astype(float),
        classes=NUSCENES_CLASSES,
    )


def answer(*classes: str) -> Detections:
    """A box of each class, two metres apart."""
    n = len(classes)
    return Detections(
        center=np.stack([2.0 * np.arange(n), np.zeros(n), np.zeros(n)], 1),
        size=np.ones((n, 3)),
        yaw=np.zeros(n),
        velocity=np.zeros((n, 2)),
        label=np.arange(n),
        score=np.ones(n),
        classes=classes,
    )


def test_the_quality_of_a_sample_is_f1_of_what_is_drawn():
    truth = boxes((0, 0.0, 0, 1.0), (0, 9.0, 0, 1.0), (1, 0.0, 5, 1.0), (3, 0.0, 0, 1.0))
    found = boxes(
        *((0, 1.9, 0, 0.9), (0, 9.0, 0, 0.2)),  # right; right but weaker than what is drawn
        *((1, 0.0, 0, 0.9), (2, 0.0, 0, 0.9)),  # another class; a sample without truth
    )
    counted = Countable(
        tokens=("a", "b", "c", "d", "e"),
        ego=np.zeros((5, 2)),
        truth=truth,
        detections=found,
        unscored=(),
        rules=DetectionRules(),
    )
    found_of = quality(counted, NUSCENES_CLASSES)
    assert found_of == {"a": pytest.approx(2 / 3), "b": 0.0, "c": 0.0, "d": 0.0}
    assert quality(counted, (NUSCENES_CLASSES[5],)) == {"b": 0.0}


def subject(name: str, classes: tuple[str, ...]) -> Subject:
    """A network of these classes that finds every car and nothing else."""
    truth = boxes((0, 0.0, 0, 1.0), (0, 9.0, 0, 1.0), (0, 5.0, 5, 1.0)).of_classes(classes)
    counted = Countable(
        tokens=("a",),
        ego=np.zeros((1, 2)),
        truth=truth,
        detections=truth.select(truth.label == classes.index("car")),
        unscored=tuple(name for name in NUSCENES_CLASSES if name not in classes),
        rules=DetectionRules(),
    )
    result = counted.score()
    part = {"group": "range", "name": "near", "boxes": len(truth)}
    return Subject(
        source=Source(name=name, weights=Path(name), run=None),
        detector=dataclasses.replace(TEACHER, name=name),
        answers={},
        counted=counted,
        result=result,
        parts=[{**part, "mean_ap": result.summary["mean_ap"]}],
    )


def test_networks_of_other_classes_are_told_apart_and_ranked_by_the_common_ones(tmp_path):
    every, cars = subject("all", NUSCENES_CLASSES), subject("cars", ("car",))
    text = "".join(scores([every, cars], tmp_path))
    assert "cars: Metrics are means over the detector&#x27;s 1 classes; truck, " in text
    assert "all: Metrics are" not in text
    assert shared_classes([every, cars]) == shared_classes([cars, every]) == ("car",)
    assert shared_classes([every, every]) == NUSCENES_CLASSES
    # Over all classes the first one would seem the worse: it has to find more.
    assert quality(every.counted, ("car",)) == quality(cars.counted, ("car",)) == {"a": 1.0}
    assert quality(every.counted, NUSCENES_CLASSES)["a"] == pytest.approx(4 / 5)


def test_cells_of_a_second_head_are_scored_as_crkd_evaluate_scores_them(tiny_world, tmp_path):
    torch.manual_seed(0)
    model = build_detector(dataclasses.replace(TINY, segments=SegmentsConfig()))
    weights = tmp_path / "ground.safetensors"
    save_weights(model, weights)
    tables = NuScenes(tiny_world, split="world_val")
    one = observe(parse([str(weights)])[0], tables, "world_val")
    evaluate_weights(weights, tiny_world, "world_val", tmp_path / "out")
    scored = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert one.cells is not None and one.cells == scored["segmentation"]
    title = "cells of the ground (intersection over union)"
    assert f"{title}, ground" in "".join(scores([one], tmp_path))
    assert title not in "".join(scores([subject("all", NUSCENES_CLASSES)], tmp_path))


def test_parts_have_counts_where_they_are_those_of_every_network():
    parts = [{"group": "range", "name": "near", "boxes": 3}]
    assert ticks_of([parts, parts], count="boxes") == ([("range", "near\n3")], "; below: boxes")
    fewer = [{**parts[0], "boxes": 2}]
    assert ticks_of([parts, fewer], count="boxes") == ([("range", "near")], "")


def test_best_typical_and_worst_are_different_samples():
    first = {"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.4, "e": 0.6}
    assert chosen(first) == {"best": "b", "typical": "a", "worst": "c"}
    other = {"a": 0.5, "b": 0.9, "c": 0.1, "d": 0.9, "e": 0.1}
    assert chosen(first, other) == {
        **{"best": "b", "typical": "a", "worst": "c"},
        **{"most gained": "e", "most lost": "d"},
    }
    assert chosen({"a": 1.0}) == {"best": "a"} and chosen({}) == {}


def test_arguments_that_name_no_network_are_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    for words, text in (
        ([], "nothing to report on"),
        ([str(tmp_path / "empty")], "expected a folder of crkd train or distill"),
        ([str(tmp_path / "gone.safetensors")], "no such file; expected a weights file"),
    ):
        with pytest.raises(SubjectError, match=text):
            parse(words)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "weights.safetensors").touch()
    for text in ('{"model_type": "bert"}', "[]", "{"):
        (foreign / "config.json").write_text(text)
        with pytest.raises(SubjectError, match="to report on the weights alone"):
            parse([str(foreign)])
    assert parse([str(foreign / "weights.safetensors")])[0].run is None
    (tmp_path / "a.safetensors").touch()
    with pytest.raises(SubjectError, match="a: two have this name"):
        parse([str(tmp_path / "a.safetensors"), f"a={tmp_path / 'a.safetensors'}"])


def test_no_text_of_a_drive_ends_the_players_script():
    frame = dataclasses.replace(FRAMES[0], truth=None)
    classes = ("</script>", "car")
    answers = {"</script>": [Detections.empty(classes)]}
    page = player([frame], answers, classes=classes, title="</script>")
    assert page.count("</script>") == 2
    # To a browser this begins a comment and in it a script, in which "</script>" ends nothing.
    answers = {"<!--<script>": [Detections.empty(classes)]}
    page = player([frame], answers, classes=classes, title="drive")
    assert "<!--" not in page
    data = page.partition('class="player-data">')[2].partition("</script>")[0]
    assert json.loads(data)["networks"] == ["<!--<script>"]


def test_boxes_of_every_network_have_the_colour_of_their_class(tmp_path):
    """Also classes that only one network has, and those that nobody chose a colour for."""
    frame = dataclasses.replace(FRAMES[0], truth=None)
    answers = {"first": [answer("car", "kiosk")], "last": [answer("tent", "kiosk", "car")]}
    classes = ("car", "kiosk", "tent")
    text = player([frame], answers, classes=classes, title="")
    data = json.loads(text.split('class="player-data">')[1].split("</script>")[0])
    rows = [row for found in data["frames"][0]["found"].values() for row in found]
    assert [row[7] for row in rows] == ["car", "kiosk", "tent", "kiosk", "car"]
    assert len({data["colors"][row[7]] for row in rows}) == 3
    for name, color in data["colors"].items():
        rgb = [int(one) for one in color[4:-1].split(",")]
        for [found] in answers.values():
            path = tmp_path / "above.png"
            draw_bev(frame, found, path, reach=5.0, classes=classes)
            is_there = (cv2.imread(str(path)) == rgb[::-1]).all(-1).any()
            assert is_there == (name in found.classes)


def test_drives_of_view_of_delft_are_runs_of_frames(tmp_path):
    lidar = tmp_path / "lidar"
    (lidar / "training" / "calib").mkdir(parents=True)
    (lidar / "ImageSets").mkdir()
    names = ["00011", "00003", "00010", "00012", "00005"]
    (lidar / "ImageSets" / "val.txt").write_text("\n".join(names))
    assert drives_of(Vod(tmp_path), "val") == {
        "00003-00003": ["00003"],
        "00005-00005": ["00005"],
        "00010-00012": ["00010", "00011", "00012"],
    }


def test_drives_of_nuscenes_hold_the_samples_of_the_split(tiny_world):
    tables = NuScenes(tiny_world)
    drives = drives_of(tables, "mini_val")
    assert [*drives] == tables.scenes_of("mini_val")
    assert sorted(token for drive in drives.values() for token in drive) == sorted(
        tables.samples_of("mini_val")
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A distilled run of two steps, its teacher's weights, and weights without a run."""
    folder = tmp_path_factory.mktemp("runs")
    save_weights(settled(TEACHER), folder / "teacher.safetensors")
    config = a_config(folder / "teacher.safetensors", steps=2)
    run = Run.start(folder / "taught", config, data="", split="")
    distill(run, FRAMES)
    shutil.copy(folder / "taught" / "weights.safetensors", folder / "plain.safetensors")
    return folder


@pytest.fixture(scope="module")
def page(runs, tiny_world, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("page") / "report.html"
    words = ["report", str(runs / "plain.safetensors"), f"CRKD={runs / 'taught'}"]
    words += ["--data", str(tiny_world), "--split", "mini_val", "--out", str(out)]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return out


def test_a_page_that_is_no_page_by_its_name_is_refused(runs, tmp_path):
    words = ["report", str(runs / "taught"), "--data", str(tmp_path), "--split", "val", "--out"]
    with pytest.raises(ConfigError, match=r"--out: expected FILE.html, got .*scores.pdf"):
        CliRunner().invoke(app, [*words, str(tmp_path / "scores.pdf")], catch_exceptions=False)


def test_the_page_is_one_file_with_every_section(page):
    text = page.read_text()
    titles = re.findall(r"<h2>(.*?)</h2>", text)
    assert titles == [
        *("Scores", "Training", "Frames", "What the losses see", "A drive from above"),
    ]
    outside = re.sub(r"base64,[A-Za-z0-9+/=]*", "", text)
    assert not re.findall(r"(?:src|href)=\"(?!data:)|https?://|@import|url\(", outside)
    assert "crkd_core" not in outside
    for caption in ("CRKD: precision over recall", "mAP of parts", "plain: F1", "losses see"):
        assert caption in outside
    assert sorted(path.name for path in page.parent.iterdir()) == ["report.html"]


def test_a_run_without_a_logged_step_has_no_curves_but_a_page(runs, tiny_world, tmp_path):
    taken = tmp_path / "taken"
    shutil.copytree(runs / "taught", taken)
    (taken / "metrics.jsonl").write_text("")
    (taken / "checkpoint.pt").unlink()
    weights = taken / "weights.safetensors"
    save_weights(load_weights(weights), weights, extra={"step": "1"})
    out = tmp_path / "report.html"
    report([str(taken)], out, data=tiny_world, split="mini_val")
    text = out.read_text()
    assert "nothing is logged yet, so there is no curve of it" in text
    assert "losses over steps" not in text and "runs</caption>" in text
    assert "<td>1 of 2</td>" in text, "the weights are not those of the end of the schedule"


def test_what_losses_see_is_left_out_where_it_cannot_be_known(runs, tiny_world, tmp_path):
    """Of a checkpoint that is damaged or another's, and of drives without the teacher's LiDAR."""
    torn = tmp_path / "torn"
    shutil.copytree(runs / "taught", torn)
    torch.save({"model": {}}, torn / "checkpoint.pt")
    with pytest.raises(CheckpointError, match=r"checkpoint\.pt: does not hold the network of"):
        trained_student(torn, Run.open(torn).config)
    (torn / "checkpoint.pt").write_bytes(b"torn")
    bare = tmp_path / "bare"
    shutil.copytree(tiny_world, bare)
    for file in (bare / "samples" / "LIDAR_TOP").iterdir():
        file.unlink()
    out = tmp_path / "report.html"
    report([str(torn), str(runs / "taught")], out, data=bare, split="mini_val")
    text = html.unescape(out.read_text())
    assert f"torn: what its losses see is not known: {torn / 'checkpoint.pt'}: damaged" in text
    assert "taught: what its losses see is not known: " in text and "LIDAR_TOP" in text
    assert "player-data" in text


def test_a_drive_that_is_not_there_is_refused_before_anything_is_computed(runs, tiny_world):
    with pytest.raises(SubjectError, match="--drive scene-9999: not in mini_val, which holds"):
        report(
            [str(runs / "plain.safetensors")],
            Path("unused.html"),
            data=tiny_world,
            split="mini_val",
            drive="scene-9999",
        )
    assert NuScenes(tiny_world).scenes_of("mini_val")


def test_drives_without_truth_are_refused_before_anything_is_computed(runs, tmp_path):
    data = write_version(
        tmp_path / "data", version="v1.0-test", samples=2, scenes=("scene-0077",), files=False
    )
    for table in ("sample_annotation", "instance"):
        (data / "v1.0-test" / f"{table}.json").write_text("[]")
    # There are no images, so to compute anything would fail otherwise.
    with pytest.raises(EvaluateError, match="has no annotations, so nothing can be scored"):
        report([str(runs / "plain.safetensors")], tmp_path / "r.html", data=data, split="test")


def test_a_browser_shows_it_without_an_error(page, tmp_path):
    """Needs playwright and a Chromium: CRKD_CHROMIUM, one of the PATH, or playwright's own."""
    browsers = pytest.importorskip("playwright.sync_api")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = os.environ.get("CRKD_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    said: list[str] = []
    with browsers.sync_playwright() as started:
        try:
            browser = started.chromium.launch(
                executable_path=path,
                args=["--no-sandbox", "--no-zygote", "--single-process", "--disable-gpu"],
            )
        except browsers.Error as error:
            pytest.skip(f"no Chromium: {str(error).splitlines()[0]}")
        shown = browser.new_page(viewport={"width": 1200, "height": 1000})
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.on("console", lambda message: said.append(message.text))
        shown.on("request", lambda asked: said.append(asked.url[:60]))
        shown.goto(page.as_uri())
        loaded = "[...document.images].every(i => i.complete && i.naturalWidth > 0)"
        assert shown.evaluate(loaded)
        assert [one for one in said if not one.startswith("data:")] == [page.as_uri()[:60]]
        canvas = shown.locator(".player canvas")
        canvas.screenshot(path=tmp_path / "first.png")
        shown.locator(".player button").click()
        moved = "document.querySelector('.player input').value > 0"
        shown.wait_for_function(moved)
        shown.locator(".player button").click()
        canvas.screenshot(path=tmp_path / "later.png")
        assert shown.evaluate("document.body.scrollWidth <= innerWidth")
        browser.close()
    first, later = (cv2.imread(str(tmp_path / name)) for name in ("first.png", "later.png"))
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 5
    assert (first != later).any()
