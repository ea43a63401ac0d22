"""Evaluation runs on a hand-made frame of View-of-Delft."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
import vod_tiny
from vod_objects import frame, thing

from crkd_core.config import ConfigError
from crkd_core.evaluate.scoring import EvaluateError
from crkd_core.evaluate.vod.evaluation import evaluate_results, evaluate_weights
from crkd_core.evaluate.vod.results import write_results
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.presets import preset
from crkd_core.report.report import report


def test_only_sensors_that_the_detector_reads_are_chosen(tmp_path, capsys) -> None:
    label = vod_tiny.label("Car", (15.0, 0.0, -1.0), (4.0, 2.0, 1.5), 0.2)
    data = vod_tiny.write(tmp_path / "vod", labels=(label,))
    torch.manual_seed(0)
    weights, out = tmp_path / "w.safetensors", tmp_path / "out"
    cameras = dataclasses.replace(preset("vod_student").detector, radar=None)
    save_weights(build_detector(cameras), weights)
    with pytest.raises(
        ConfigError, match=r"RADAR_FRONT: \w+ does not read it; .* reads CAM_FRONT"
    ):
        evaluate_weights(weights, data, "train", out, sensors=("RADAR_FRONT",))
    evaluate_weights(weights, data, "train", out, sensors=("CAM_FRONT",), score_threshold=0.5)
    metrics = json.loads((out / "metrics.json").read_text())
    assert metrics["data"]["split"] == "train" and len(metrics["data"]["digest"]) == 16
    assert "samples_without_input" not in metrics
    assert "had no sensor that the detector could" not in capsys.readouterr().out


def test_frames_of_the_test_set_are_answered_and_not_scored(tmp_path, capsys) -> None:
    label = vod_tiny.label("Car", (15.0, 0.0, -1.0), (4.0, 2.0, 1.5), 0.2)
    data = vod_tiny.write(tmp_path / "vod", labels=(label,))
    torch.manual_seed(0)
    weights, out = tmp_path / "w.safetensors", tmp_path / "out"
    save_weights(build_detector(preset("vod_student").detector), weights)
    assert evaluate_weights(weights, data, "test", out, slices=True) is None
    assert (out / "results" / "00099.txt").is_file() and (out / "report.html").is_file()
    assert not {"metrics.json", "slices.json"} & {path.name for path in out.iterdir()}
    said = " ".join(capsys.readouterr().out.split())
    assert f"has no labels, so nothing can be scored; send {out}/results to the" in said
    with pytest.raises(EvaluateError, match="has no labels, so nothing can be scored"):
        evaluate_results(out / "results", data, "test", tmp_path / "scored")


def test_scored_classes_that_a_detector_lacks_are_named(tmp_path, capsys) -> None:
    label = vod_tiny.label("Car", (15.0, 0.0, -1.0), (4.0, 2.0, 1.5), 0.2)
    data = vod_tiny.write(tmp_path / "vod", labels=(label,))
    student = preset("vod_student").detector
    head = dataclasses.replace(student.head, tasks=student.head.tasks[:1])
    cars = dataclasses.replace(student, head=head, classes=student.classes[:1])
    for config, expected in ((cars, True), (student, False)):
        torch.manual_seed(0)
        weights = tmp_path / f"{'cars' if expected else 'all'}.safetensors"
        save_weights(build_detector(config), weights)
        evaluate_weights(
            weights,
            data,
            "train",
            tmp_path / f"{expected}",
            score_threshold=0.5,
        )
        said = " ".join(capsys.readouterr().out.split())
        note = "knows no Pedestrian, Cyclist: AP is 0 there, and the mean counts it"
        assert (note in said) == expected
        assert (
            note in " ".join((tmp_path / f"{expected}/report.html").read_text().split())
        ) == expected
    # The page on both says it of the one that lacks them.
    page = tmp_path / "page.html"
    report(
        [f"cars={tmp_path / 'cars.safetensors'}", f"all={tmp_path / 'all.safetensors'}"],
        page,
        data=data,
        split="train",
    )
    text = " ".join(page.read_text().split())
    assert f"{cars.name} {note}" in text and text.count(note) == 1


def test_lines_of_result_files_that_can_count_for_nothing_are_told(tmp_path, capsys) -> None:
    label = vod_tiny.label("Car", (15.0, 0.0, -1.0), (4.0, 2.0, 1.5), 0.2)
    data = vod_tiny.write(tmp_path / "vod", labels=(label,))
    found = [thing("bicyclist", score=0.5), thing("car", score=0.5), thing(box=(0, 0, 0, 0))]
    for things, expected in ((found, True), (found[1:2], False)):
        results, out = tmp_path / f"results{expected}", tmp_path / f"out{expected}"
        write_results(["00012"], [frame(*things)], results)
        evaluate_results(results, data, "train", out)
        said = " ".join(capsys.readouterr().out.split())
        page = " ".join((out / "report.html").read_text().split())
        for note in (
            "1 of 3 detections are of bicyclist, which is no class of View-of-Delft",
            "1 of 3 detections have a 2D box without area and count neither way",
        ):
            assert (note in said) == (note in page) == expected
