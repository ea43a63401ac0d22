"""What a training set lacks is said from its tables, before there is a run folder."""

from __future__ import annotations

import dataclasses
import json
import shutil
import warnings

import numpy as np
import pytest
import vod_tiny
from handmade import write_version
from train_tiny import a_config
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesError, NuScenesFrames
from crkd_core.data.vod.errors import VodError
from crkd_core.data.vod.layout import Vod
from crkd_core.data.vod.reader import VodFrames
from crkd_core.evaluate.predict import detect
from crkd_core.evaluate.truth import SampleTruth
from crkd_core.infer.detector import Detector
from crkd_core.model.build import build_detector
from crkd_core.presets import demo_student, preset
from crkd_core.sensors import CAMERAS, LIDAR, RADARS
from crkd_core.train.balance import classes_held
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Views
from crkd_core.train.start import TrainError
from crkd_core.train.training_set import check_set


def changed(root, table, change, version="v1.0-mini"):
    """Write a table's rows anew: each is given to ``change``; None leaves it out."""
    path = root / version / f"{table}.json"
    rows = [change(row) for row in json.loads(path.read_text())]
    path.write_text(json.dumps([row for row in rows if row is not None]))


def with_returns(lidar, radar):
    return lambda row: {**row, "num_lidar_pts": lidar, "num_radar_pts": radar}


def train_in(root, out, *options):
    words = ["train", "--data", root, "--split", "scene-0061", "--out", out, *options]
    return CliRunner().invoke(app, [*map(str, words)], catch_exceptions=False)


def test_a_set_whose_boxes_have_no_return_is_refused_before_there_is_a_folder(tmp_path):
    root = write_version(tmp_path / "data", files=False)
    changed(root, "sample_annotation", with_returns(1, -1))
    with pytest.raises(TrainError, match=r"0 of \d\d boxes .*have a return.*choose another"):
        train_in(root, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_what_is_learned_is_what_is_scored(tmp_path):
    root = write_version(tmp_path / "data", scenes=("scene-0061",))
    changed(root, "sample_annotation", with_returns(-1, 0))
    frames = NuScenesFrames(NuScenes(root), "scene-0061", radar_sweeps=1)
    truth = frames.tables.truths_global(frames.tokens)[0]
    assert truth.counts.all() and len(truth)
    assert len(SampleTruth.read(frames.tables, frames.tokens).boxes)
    assert classes_held(frames, NUSCENES_CLASSES).any()
    learned = Views(frames, a_config()).recorded(0).truth
    assert np.array_equal(learned.num_lidar_points, np.full(len(learned), -1)) and len(learned)


def without(root, *channels):
    changed(
        root,
        "sample_data",
        lambda row: None if any(f"/{c}/" in row["filename"] for c in channels) else row,
    )


@pytest.mark.parametrize(
    ("channels", "options", "text"),
    [
        ([LIDAR], [], r"has no LiDAR, which depth_weight reads; --set depth_weight=0"),
        (
            [LIDAR],
            ["--preset", "demo_teacher"],
            "LiDAR, which demo_teacher reads; take a detector",
        ),
        (
            CAMERAS,
            ["--preset", "demo_camera"],
            "no sample has a sensor that demo_camera may see, which are CAM_FRONT, ",
        ),
        (
            [*CAMERAS, RADARS[0]],
            ["--set", "depth_weight=0", "--set", f"sensors=[{RADARS[0]}]"],
            "demo_student may see, which are RADAR_FRONT",
        ),
    ],
)
def test_a_set_without_what_is_read_is_refused(channels, options, text, tmp_path):
    root = write_version(tmp_path / "data", files=False)
    without(root, *channels)
    with pytest.raises(TrainError, match=text):
        train_in(root, tmp_path / "run", *options)
    assert not (tmp_path / "run").exists()


def test_key_frames_that_were_not_downloaded_are_counted_before_there_is_a_folder(tmp_path):
    root = write_version(tmp_path / "data", samples=3)
    tables = NuScenes(root)
    lost = [
        tables.key_record(tables.samples_of_scene("scene-0061")[1], name).path
        for name in ("CAM_BACK", RADARS[0], LIDAR)
    ]
    for path in lost:
        path.unlink()
    text = f"CAM_BACK 1 of 3, {RADARS[0]} 1 of 3, {LIDAR} 1 of 3, first .*{lost[0].name}; download"
    with pytest.raises(NuScenesError, match=text):
        train_in(root, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    # Lost since a run began: said before it goes on, not when their turn comes.
    Run.start(tmp_path / "run", demo_student(), data="", split="scene-0061")
    with pytest.raises(NuScenesError, match=text):
        train_in(root, tmp_path / "run", "--resume")
    # What is not read need not be there, and neither do other scenes.
    NuScenesFrames(tables, "scene-0061", radar_sweeps=0, sensors=("CAM_FRONT",)).check_files()
    NuScenesFrames(tables, "scene-0103", lidar_sweeps=2).check_files()


def test_files_of_view_of_delft_that_are_gone_are_counted_before_there_is_a_folder(tmp_path):
    car = vod_tiny.label("Car", (12, 1, -1.0), (4.0, 1.8, 1.6), 0.4)
    root, out = vod_tiny.write(tmp_path / "data", labels=(car,)), tmp_path / "run"
    words = ["train", "--preset", "vod_student", "--data", root, "--split", "train", "--out", out]
    words = [str(word) for word in (*words, "--set", "depth_weight=0")]
    lidar, scans = root / "lidar" / "training", root / "radar_5_scans"
    for path in (lidar / "image_2", lidar / "pose", scans / "training" / "velodyne"):
        next(path.iterdir()).unlink()
    text = (
        r"lidar/training/pose 1 of 1, lidar/training/image_2 1 of 1, "
        r"radar_5_scans/training/velodyne 1 of 1, first 00012.json; unpack"
    )
    with pytest.raises(VodError, match=text):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert not out.exists()
    # Lost since a run began: said before it goes on, and before a detector has seen the others.
    Run.start(out, preset("vod_student"), data="", split="train")
    goes_on = ["train", *words[3:9], "--resume"]
    with pytest.raises(VodError, match=text):
        CliRunner().invoke(app, goes_on, catch_exceptions=False)
    frames = VodFrames(Vod(root), "train")
    with pytest.raises(VodError, match=text):
        next(detect(Detector(build_detector(demo_student().detector)), frames, ""))
    # What is not read need not be there; a whole folder that is not unpacked is named.
    (lidar / "pose" / "00012.json").write_text("")
    VodFrames(
        Vod(root), "train", radar_sweeps=3, lidar_sweeps=1, sensors=("RADAR_FRONT",)
    ).check_files()
    shutil.rmtree(scans)
    with pytest.raises(VodError, match="no folder radar_5frames or radar_5_scans"):
        frames.check_files()


def test_frames_of_view_of_delft_without_an_object_are_refused(tmp_path):
    """Files of labels are there, and empty, or of objects that are no class of the detector."""
    far = vod_tiny.label("DontCare", (12, 1, -1.0), (4.0, 1.8, 1.6), 0.4)
    for number, labels in enumerate([(), (far,)]):
        root, out = vod_tiny.write(tmp_path / str(number), labels=labels), tmp_path / "run"
        words = ["train", "--preset", "vod_student", "--data", str(root), "--split", "train"]
        with pytest.raises(TrainError, match="1 frames to train on hold no object of Car, Ped"):
            CliRunner().invoke(app, [*words, "--out", str(out)], catch_exceptions=False)
        assert not out.exists()


def test_a_set_without_annotations_is_refused(tmp_path):
    root = write_version(
        tmp_path / "data", version="v1.0-test", scenes=("scene-0077",), files=False
    )
    for table in ("sample_annotation", "instance"):
        (root / "v1.0-test" / f"{table}.json").write_text("[]")
    words = ["train", "--data", str(root), "--split", "test", "--out", str(tmp_path / "run")]
    with pytest.raises(TrainError, match=r"v1.0-test has no annotations to learn from; choose"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert not (tmp_path / "run").exists()


def test_few_samples_without_anything_to_see_are_warned_of_and_lidar_is_counted(tmp_path):
    root = write_version(tmp_path / "data", scenes=("scene-0061",), files=False)
    first = NuScenes(root).samples_of("scene-0061")[0]
    cut = (*CAMERAS, LIDAR)

    def first_alone(row):
        there = any(f"/{c}/" in row["filename"] for c in cut) and row["sample_token"] == first
        return None if there else row

    changed(root, "sample_data", first_alone)
    frames = NuScenesFrames(NuScenes(root), "scene-0061", lidar_sweeps=1)
    assert not frames.present(LIDAR)[0] and frames.present(LIDAR)[1:].all()
    camera = dataclasses.replace(preset("demo_camera"), depth_weight=0.0)
    with pytest.warns(
        UserWarning, match=f"1 of {len(frames)} samples have no sensor that demo_ca"
    ):
        check_set(camera, frames)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # One sample is no batch of two.
        two = dataclasses.replace(preset("demo_student"), batch_size=2, depth_weight=1.0)
        check_set(two, frames)
    with (
        pytest.warns(UserWarning),
        pytest.raises(
            TrainError, match=r"1 of \d samples have no LiDAR, which the teacher demo_t"
        ),
    ):
        check_set(preset("demo_student"), frames, [preset("demo_teacher").detector])
