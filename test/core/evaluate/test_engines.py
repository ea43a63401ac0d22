"""`crkd export` and `crkd engines` on a small data set."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from handmade import write_version
from model_tiny import ONE_CLASS, TINY, frame, with_branches
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.config import TemporalConfig
from crkd_core.evaluate import engines
from crkd_core.evaluate.engines import seen_note, spread
from crkd_core.infer.detector import Detector
from crkd_core.infer.engines.files import read_description
from crkd_core.infer.errors import EngineError
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights

SPLIT = "mini_val"


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    for module in ("onnx", "onnxscript", "onnxruntime", "openvino"):
        pytest.importorskip(module)
    place = tmp_path_factory.mktemp("engines")
    write_version(place / "data", samples=2)
    torch.manual_seed(0)
    save_weights(build_detector(TINY), place / "weights.safetensors")
    return place


def run(*words):
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.mark.filterwarnings("ignore:precision bf16 is emulated")
def test_engines_side_by_side(place, tmp_path):
    words = ["engines", place / "weights.safetensors", "--data", place / "data", "--split", SPLIT]
    done = run(*words, "--int8-split", SPLIT, "--int8-frames", 2, "--out", tmp_path)
    assert done.exit_code == 0, done.exception
    figures = json.loads((tmp_path / "engines.json").read_text())
    rows = {(row["engine"], row["precision"]): row for row in figures["engines"]}
    assert next(iter(rows)) == ("torch", "fp32") and len(rows) == 8
    assert {("onnxruntime", "int8"), ("openvino", "int8"), ("openvino", "bf16")} <= set(rows)
    for engine in ("export", "onnxruntime", "openvino"):
        for key in ("mean_ap", "nd_score"):
            assert rows[engine, "fp32"][key] == pytest.approx(rows["torch", "fp32"][key], abs=1e-3)
    assert all(row["milliseconds"]["network"] > 0 for row in rows.values())
    text = (tmp_path / "engines.md").read_text()
    assert "times as fast" in text and text.count("openvino") == 3
    assert "times as fast" in done.output
    # It was calibrated on what is scored, and says so.
    note = "int8 saw its ranges on 2 of the 2 samples that are scored"
    assert note in text and note in done.output.replace("\n", " ")
    assert run(*words, "--out", tmp_path).exit_code == 1  # Results are there already.


def test_a_frame_with_more_radar_points_than_there_is_room_for(place, tmp_path, monkeypatch):
    monkeypatch.setitem(engines.VARIANTS, "cpu", (("export", "fp32"),))
    words = ["engines", place / "weights.safetensors", "--data", place / "data", "--split", SPLIT]
    words += ["--out", tmp_path]
    done = run(*words, "--radar-points", 1)
    assert re.search(
        r"--radar-points \d+, or more, and to crkd engines that option", str(done.exception)
    )
    done = run(*words, "--radar-points", 300)
    assert done.exit_code == 0, done.exception


def test_classes_that_are_not_scored_are_named(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(engines.VARIANTS, "cpu", (("torch", "fp32"),))
    save_weights(build_detector(ONE_CLASS), tmp_path / "car.safetensors")
    engines.compare_engines(tmp_path / "car.safetensors", place / "data", SPLIT, tmp_path)
    note = "Metrics are means over the detector's 1 classes; truck, bus, "
    assert note in capsys.readouterr().out.replace("\n", " ")
    assert note in (tmp_path / "engines.md").read_text()
    assert "barrier" in json.loads((tmp_path / "engines.json").read_text())["unscored"]


def test_int8_of_memory_is_refused_before_networks_are_exported(place, tmp_path, monkeypatch):
    config = dataclasses.replace(TINY, temporal=TemporalConfig(frames=1))
    save_weights(build_detector(config), tmp_path / "memory.safetensors")
    monkeypatch.setattr(engines, "variants", None)
    with pytest.raises(EngineError, match="has memory, and int8"):
        engines.compare_engines(
            tmp_path / "memory.safetensors", place / "data", SPLIT, tmp_path, int8_split=SPLIT
        )


def test_export_writes_what_a_detector_loads(place, tmp_path):
    path = tmp_path / "tiny.onnx"
    words = ["export", place / "weights.safetensors", "--out", path, "--radar-points", 300]
    done = run(*words, "--cameras", 6)
    assert done.exit_code == 0, done.exception
    assert "batch 1, 6 cameras, 300 radar points, boxes at peaks, fp32" in done.output
    about = read_description(path)
    assert about.config == TINY and about.capacity.radar_points == 300
    import onnx

    given = onnx.load(path).graph.input
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in given}
    assert shapes["radar"] == [300, 47] and shapes["images"] == [6, 32, 64, 3]
    assert all(size > 0 for shape in shapes.values() for size in shape)
    reference = Detector.load(place / "weights.safetensors", score_threshold=0.02)
    found = Detector.load(path, engine="onnxruntime", score_threshold=0.02)(frame(0))
    expected = reference(frame(0))
    np.testing.assert_allclose(np.sort(found.score), np.sort(expected.score), atol=1e-4)
    assert run(*words).exit_code == 1  # It is there already.


LIMITED = """
import resource, signal, sys
from crkd_core.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
main()
"""


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_a_full_disk_is_said_and_leaves_nothing(place, tmp_path, ending):
    out = tmp_path / f"tiny.{ending}"
    words = ["export", place / "weights.safetensors", "--out", out]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr[-2000:]
    assert done.stderr.startswith("error: ") and f"{out}: File too large" in done.stderr
    assert not list(tmp_path.iterdir())


def test_room_for_sensors_that_a_network_does_not_read_is_neither_taken_nor_told(tmp_path):
    for branch, option, own in (
        ("radar", "--cameras", "batch 1, 4096 radar points, boxes"),
        ("camera", "--radar-points", "batch 1, 6 cameras, boxes"),
    ):
        weights = tmp_path / f"{branch}.safetensors"
        save_weights(build_detector(with_branches(branch)), weights)
        words = ["export", weights, "--out", tmp_path / f"{branch}.pt2"]
        assert f"{option}: tiny {branch} reads no" in str(run(*words, option, 3).exception)
        done = run(*words)
        assert done.exit_code == 0, done.exception
        assert own in done.output


def test_wrong_words_are_refused_before_anything_is_done(place, tmp_path):
    weights, data = place / "weights.safetensors", place / "data"
    done = run("export", weights, "--out", tmp_path / "a.engine")
    assert "ends in .onnx or .pt2" in str(done.exception)
    done = run("export", weights, "--out", tmp_path / "a.onnx", "--int8-data", data)
    assert "belong together" in str(done.exception)
    words = ["--int8-data", data, "--int8-split", SPLIT]
    done = run("export", weights, "--out", tmp_path / "a.pt2", *words)
    assert "int8 is written as .onnx only" in str(done.exception)
    assert not list(tmp_path.iterdir())


def test_int8_says_what_of_the_scored_it_has_seen():
    assert seen_note({"a", "b"}, ["c", "d"]) == ""
    assert "on 1 of the 3 samples" in seen_note({"a", "b"}, ["b", "c", "d"])


def test_scores_of_a_memory_that_samples_leave_empty_say_so(place, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(engines.VARIANTS, "cpu", (("torch", "fp32"),))
    config = dataclasses.replace(TINY, temporal=TemporalConfig(frames=1))
    save_weights(build_detector(config), tmp_path / "memory.safetensors")
    note = "tiny has memory, and 1 of 2 samples lie apart"
    for samples, said in ((1, True), (None, False), (2, False)):
        engines.compare_engines(
            tmp_path / "memory.safetensors", place / "data", SPLIT, tmp_path, samples=samples
        )
        assert (note in capsys.readouterr().out.replace("\n", " ")) == said
        assert (note in (tmp_path / "engines.md").read_text()) == said


def test_frames_are_spread_evenly():
    assert list(spread(list(range(10)), 3)) == [0, 3, 6]
    assert list(spread(list(range(2)), 5)) == [0, 1]
