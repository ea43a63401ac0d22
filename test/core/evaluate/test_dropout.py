"""Sensors lost: which ones a sample loses, and the tables over all cases."""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
from handmade import write_version
from model_tiny import ONE_CLASS, TINY, frame, roughen
from typer.testing import CliRunner, Result

from crkd_core.cli import app
from crkd_core.config import TemporalConfig
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.evaluate import dropout
from crkd_core.evaluate.dropout import CASES, Case, evaluate_dropout, lost_sensors, masked
from crkd_core.evaluate.evaluation import evaluate_weights
from crkd_core.evaluate.predict import detect
from crkd_core.evaluate.scoring import EvaluateError
from crkd_core.evaluate.submission import Answer, make_submission
from crkd_core.infer.detector import Detector
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.presets import preset
from crkd_core.sensors import CAMERAS, RADARS

SPLIT = "mini_val"


def test_all_combinations_but_the_empty_one() -> None:
    assert len(CASES) == len(set(CASES)) == 15
    assert CASES[0] == Case(0, 0) and Case(6, 5) not in CASES


def test_what_a_sample_loses_is_fixed_nested_and_evenly_spread() -> None:
    assert lost_sensors("token", Case(1, 1), seed=0) == ("CAM_BACK_LEFT", "RADAR_FRONT_RIGHT")
    counts: Counter[str] = Counter()
    for index in range(2000):
        token = f"sample {index}"
        one, three = (set(lost_sensors(token, Case(n, n), seed=1)) for n in (1, 3))
        assert one < three and len(one) == 2 and len(three) == 6
        assert lost_sensors(token, Case(0, 0), seed=1) == ()
        counts.update(one)
    for sensors in (CAMERAS, RADARS):
        for sensor in sensors:
            assert counts[sensor] == pytest.approx(2000 / len(sensors), rel=0.2)
    different = [lost_sensors("token", Case(3, 3), seed=seed) for seed in range(20)]
    assert len(set(different)) > 15


@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_masked_frame_lacks_just_these(case: Case) -> None:
    whole = frame()
    left = masked(whole, case, seed=0)
    assert left.camera_present.sum() == 6 - case.cameras
    assert left.radar_present.sum() == 5 - case.radars
    gone = set(lost_sensors(whole.token, case, 0))
    names = {name for name, here in zip(RADARS, left.radar_present, strict=True) if not here}
    assert names == gone & set(RADARS)
    assert {RADARS[int(index)] for index in left.radar[:, -1]} <= set(RADARS) - gone


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    place = tmp_path_factory.mktemp("dropout")
    write_version(place / "data", samples=2)
    torch.manual_seed(0)
    save_weights(build_detector(TINY), place / "weights.safetensors")
    return place


def test_tables_figures_and_picture(place, tmp_path, capsys) -> None:
    results = evaluate_dropout(place / "weights.safetensors", place / "data", SPLIT, tmp_path)
    assert tuple(results) == CASES
    whole = evaluate_weights(
        place / "weights.safetensors", place / "data", SPLIT, tmp_path / "whole"
    )
    figures = json.loads((tmp_path / "dropout.json").read_text())
    assert (figures["split"], figures["samples"], figures["seed"]) == (SPLIT, 2, 0)
    assert len(figures["cases"]) == 15
    first = figures["cases"][0]
    assert (first["cameras_lost"], first["radars_lost"]) == (0, 0)
    assert first["nd_score"] == whole.summary["nd_score"]
    assert first["mean_ap"] == whole.summary["mean_ap"]
    # Masks reach the network: cases differ.
    assert len({json.dumps(case["trans_err"]) for case in figures["cases"]}) > 1
    text = (tmp_path / "dropout.md").read_text()
    table = text.split("NDS:\n\n")[1].split("\n\n")[0].splitlines()
    assert len(table) == 6
    assert table[2].split("|")[2].strip() == f"{first['nd_score']:.3f}"
    assert table[5].split("|")[5].strip() == "-"
    picture = cv2.imread(str(tmp_path / "dropout.png"))
    assert picture.shape[1] > 600 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 20
    assert "NDS" in capsys.readouterr().out


def test_classes_that_are_not_scored_are_named(place, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(dropout, "CASES", CASES[:1])
    save_weights(build_detector(ONE_CLASS), tmp_path / "car.safetensors")
    evaluate_dropout(tmp_path / "car.safetensors", place / "data", SPLIT, tmp_path)
    note = "Metrics are means over the detector's 1 classes; truck, bus, "
    assert note in capsys.readouterr().out.replace("\n", " ")
    assert note in (tmp_path / "dropout.md").read_text()
    assert "barrier" in json.loads((tmp_path / "dropout.json").read_text())["unscored"]


def test_sensors_that_no_sample_has_are_named(tmp_path, capsys, monkeypatch) -> None:
    """With them among the lost, a car of one camera seems hardly to need it."""
    monkeypatch.setattr(dropout, "CASES", (Case(0, 0), Case(1, 0)))
    data = write_version(tmp_path / "data", samples=2)
    path = data / "v1.0-mini" / "sample_data.json"
    rows = json.loads(path.read_text())
    path.write_text(json.dumps([row for row in rows if "/CAM_BACK/" not in row["filename"]]))
    torch.manual_seed(0)
    save_weights(build_detector(TINY), tmp_path / "w.safetensors")
    evaluate_dropout(tmp_path / "w.safetensors", data, SPLIT, tmp_path / "out")
    note = "No sample has CAM_BACK: they are drawn among the lost"
    assert note in capsys.readouterr().out.replace("\n", " ")
    assert note in (tmp_path / "out" / "dropout.md").read_text()


def test_a_detector_with_memory_remembers_what_the_same_case_saw(tmp_path, monkeypatch) -> None:
    data = write_version(tmp_path / "data", samples=2, scenes=("scene-0103",))
    config = dataclasses.replace(TINY, temporal=TemporalConfig(frames=1, interval=0.5))
    torch.manual_seed(0)
    save_weights(roughen(build_detector(config)).eval(), tmp_path / "w.safetensors")
    cases = (Case(0, 0), Case(6, 1))
    kept: list[list[Answer]] = []

    def keep(answers, **more):
        kept.append(list(answers))
        return make_submission(answers, **more)

    monkeypatch.setattr(dropout, "CASES", cases)
    monkeypatch.setattr(dropout, "make_submission", keep)
    weights, sure = tmp_path / "w.safetensors", 0.05
    evaluate_dropout(weights, data, SPLIT, tmp_path / "out", score_threshold=sure)
    detector = Detector.load(weights, score_threshold=sure)
    frames = NuScenesFrames.for_detectors(NuScenes(data), SPLIT, config)
    for case, answers in zip(cases, kept, strict=True):
        seen = [masked(frame, case, 0) for frame in frames]
        expected = [found for _, found in detect(detector, seen, "as a plain evaluation")]
        for answer, found in zip(answers, expected, strict=True):
            np.testing.assert_array_equal(answer.detections.score, found.score)
        # The memory tells.
        alone = detector(seen[-1])
        assert len(alone) and not np.array_equal(alone.score, expected[-1].score)


def test_a_sample_that_sees_nothing_has_an_empty_answer_and_is_counted(tmp_path, capsys) -> None:
    """As the first samples of real scenes: radar records later than the reference image."""
    data = write_version(tmp_path / "data", samples=2, scenes=("scene-0103",))
    path = data / "v1.0-mini" / "sample_data.json"
    first = NuScenes(data).samples_of(SPLIT)[0]
    rows = json.loads(path.read_text())
    rows = [
        row
        for row in rows
        if "RADAR_FRONT/" not in row["filename"] or row["sample_token"] != first
    ]
    path.write_text(json.dumps(rows))
    torch.manual_seed(0)
    save_weights(build_detector(TINY), tmp_path / "w.safetensors")
    words = ["evaluate", "--data", str(data), "--split", SPLIT]
    words += ["--weights", str(tmp_path / "w.safetensors")]
    out = tmp_path / "out"
    done = CliRunner().invoke(app, [*words, "--out", str(out), "--sensor", "RADAR_FRONT"])
    assert done.exit_code == 0, done.exception
    text = f"1 of 2 samples had no sensor that the detector could use .* first {first}"
    assert re.search(text, done.output) and re.search(text, (out / "report.html").read_text())
    assert json.loads((out / "metrics.json").read_text())["samples_without_input"] == 1
    assert json.loads((out / "results.json").read_text())["results"][first] == []
    assert re.search(r"RADAR_FRONT\W+1\W+1\W", done.output)
    done = CliRunner().invoke(app, [*words, "--out", str(out), "--dropout"])
    assert done.exit_code == 0, done.exception
    cases = json.loads((out / "dropout.json").read_text())["cases"]
    assert cases[0]["samples_without_input"] == 0
    # Where nobody sees anything, nothing is found.
    rows = [row for row in rows if "RADAR_FRONT/" not in row["filename"]]
    path.write_text(json.dumps(rows))
    more = ["--out", str(tmp_path / "none"), "--sensor", "RADAR_FRONT"]
    done = CliRunner().invoke(app, [*words, *more])
    assert done.exit_code == 0, done.exception
    assert "2 of 2 samples had no sensor that the detector could use" in done.output
    metrics = json.loads((tmp_path / "none" / "metrics.json").read_text())
    assert (metrics["samples_without_input"], metrics["nd_score"]) == (2, 0)


def test_results_are_not_replaced_unasked(place, tmp_path) -> None:
    words = ["evaluate", "--data", str(place / "data"), "--split", SPLIT, "--out", str(tmp_path)]
    words += ["--weights", str(place / "weights.safetensors")]
    (tmp_path / "metrics.json").write_text("mine")
    (tmp_path / "config.json").write_text("a run may be there")
    done = CliRunner().invoke(app, words)
    assert "already holds metrics.json; pass --overwrite to replace it, or" in str(done.exception)
    assert (tmp_path / "metrics.json").read_text() == "mine"
    done = CliRunner().invoke(app, [*words, "--overwrite"])
    assert done.exit_code == 0, done.exception
    assert "mean_ap" in (tmp_path / "metrics.json").read_text()


def test_the_option_of_the_command(place, tmp_path) -> None:
    words = ["--data", str(place / "data"), "--split", SPLIT, "--out", str(tmp_path / "out")]
    weights = ["--weights", str(place / "weights.safetensors")]

    def command(*more: str) -> Result:
        return CliRunner().invoke(app, ["evaluate", *words, *more])

    for wrong, text in (
        ([*weights, "--dropout", "--sensor", "CAM_FRONT"], "give --weights, no --sensor"),
        (["--submission", "results.json", "--dropout"], "give --weights, no --sensor"),
        ([*weights, "--seed", "1"], "--seed belongs to --dropout"),
        (["--dropout"], "give either --weights or --submission"),
    ):
        assert text in str(command(*wrong).exception)
    assert not (tmp_path / "out").exists()
    done = command(*weights, "--dropout", "--seed", "3")
    assert done.exit_code == 0, done.exception
    figures = json.loads((tmp_path / "out" / "dropout.json").read_text())
    assert figures["seed"] == 3 and len(figures["cases"]) == len(CASES)


def test_wrong_requests(place, tmp_path) -> None:
    data = write_version(
        tmp_path / "data", version="v1.0-test", samples=2, scenes=("scene-0077",), files=False
    )
    for table in ("sample_annotation", "instance"):
        (data / "v1.0-test" / f"{table}.json").write_text("[]")
    weights = place / "weights.safetensors"
    with pytest.raises(EvaluateError, match="has no annotations, so nothing can be scored"):
        evaluate_dropout(weights, data, "test", tmp_path / "out")
    teacher = build_detector(preset("demo_teacher").detector)
    save_weights(teacher, tmp_path / "lidar.safetensors")
    with pytest.raises(EvaluateError, match="take a camera-radar detector"):
        evaluate_dropout(tmp_path / "lidar.safetensors", place / "data", SPLIT, tmp_path / "out")
    assert not (tmp_path / "out").exists()
