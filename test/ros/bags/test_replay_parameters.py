"""What the node's parameter file says holds for a replay too, or is named."""

from __future__ import annotations

from pathlib import Path

import command_lines
import numpy as np
import pytest
import rig_bags
import torch
import yaml
from model_tiny import TINY

from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_ros.bags.reader import read_bag
from crkd_ros.convert import arrays


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    place = tmp_path_factory.mktemp("parameters")
    rig_bags.write(place / "bag", seconds=0.4)
    torch.manual_seed(0)
    save_weights(build_detector(TINY), place / "weights.safetensors", extra=None)
    return place


def replayed(place: Path, out: Path, parameters: dict, *options: object):
    params = out.parent / f"{out.name}.yaml"
    params.write_text(yaml.safe_dump({"/**": {"ros__parameters": parameters}}))
    weights = () if "weights" in parameters else ("--weights", place / "weights.safetensors")
    return command_lines.run(
        "replay", place / "bag", "--out", out, "--params", params, *weights, *options
    )


def boxes_of(path: Path):
    found = list(read_bag(path / "detections", topics=["/detector_node/boxes"]))
    messages = [one.message() for one in found]
    return messages, [arrays.boxes_from_cloud(one, NUSCENES_CLASSES) for one in messages]


def test_thresholds_classes_frames_and_sensors_hold(place, tmp_path) -> None:
    weights = str(place / "weights.safetensors")
    done = replayed(place, tmp_path / "all", {"weights": weights, "score_threshold": 0.01})
    assert done.returncode == 0, done.stderr
    _, every = boxes_of(tmp_path / "all")
    scores = np.concatenate([one.score for one in every])
    assert len(scores) > 20
    limit = float(np.median(scores))
    parameters = {
        "sensors": ["CAM_FRONT", "RADAR_FRONT"],
        "score_threshold": limit,
        "output_frame": "map",
        "remap": {"truck": "car", "bus": ""},
        "thresholds": {"pedestrian": [0.999]},
        "health": {"period": 2.0},
        "decode_threads": 4,
    }
    done = replayed(place, tmp_path / "few", parameters)
    assert done.returncode == 0, done.stderr
    messages, few = boxes_of(tmp_path / "few")
    assert {one.header.frame_id for one in messages} == {"map"}
    for one in few:
        assert (one.score > limit - 1e-6).all()
        names = {NUSCENES_CLASSES[label] for label in one.label}
        assert not names & {"truck", "bus", "pedestrian"}
        # In axes of the map, where the vehicle is far from the origin.
        assert (one.center[:, 0] > 400).all()
    assert "cam_back " not in done.stdout and "radar_front " in done.stdout
    for name in ("health.period", "decode_threads"):
        assert f"{name} means nothing to a replay" in done.stderr
    # The command line stands above the file.
    done = replayed(place, tmp_path / "again", parameters, "--score-threshold", 0.9)
    assert done.returncode == 0 and not any(map(len, boxes_of(tmp_path / "again")[1]))


def test_ids_are_given_and_the_base_frame_is_named(place, tmp_path) -> None:
    done = replayed(
        place,
        tmp_path / "ids",
        {"tracking": {"enabled": True, "birth": 1}, "score_threshold": 0.05},
    )
    assert done.returncode == 0, done.stderr
    messages, _ = boxes_of(tmp_path / "ids")
    assert {"id"} <= {field.name for field in messages[-1].fields}


def test_markers_are_as_frequent_as_the_node_would_send_them(place, tmp_path) -> None:
    counts = []
    for rate in (0.0, 6.0):
        out = tmp_path / f"{rate:g}"
        done = replayed(place, out, {"markers": {"rate": rate}})
        assert done.returncode == 0, done.stderr
        topics = ("/detector_node/boxes", "/detector_node/markers")
        counts.append([len(list(read_bag(out / "detections", topics=[one]))) for one in topics])
    (frames, arrays_), (again, fewer) = counts
    # Frames come at 12 Hz.
    assert frames == again == arrays_ and fewer == (frames + 1) // 2


@pytest.mark.parametrize(
    ("parameters", "error"),
    [
        ({"base_frame": "chassis"}, "chassis"),
        ({"output_frame": "world"}, "world"),
        ({"thresholds": {"tram": [0.5]}}, "classes tram: the weights have"),
        ({"remap": {"car": "tram"}}, "remap.car: expected one of"),
        ({"device": "cuda:7"}, "cuda"),
        ({"sensors": ["CAM_FRNT"]}, "sensors: expected some of"),
        ({"score_treshold": 0.5}, "did you mean 'score_threshold'"),
        ({"weights": "/no/such/file"}, "/no/such/file"),
    ],
)
def test_what_cannot_hold_is_refused(place, tmp_path, parameters, error) -> None:
    done = replayed(place, tmp_path / "out", parameters)
    assert done.returncode == 1 and error in done.stderr, done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out" / "detections").exists()


def test_without_weights_it_says_what_to_give(place, tmp_path) -> None:
    done = command_lines.run("replay", place / "bag", "--out", tmp_path / "out")
    assert done.returncode == 1 and "give --weights, or --params" in done.stderr
