"""The synthetic world as the official nuscenes-devkit sees it."""

from __future__ import annotations

import contextlib
import io
import json
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from nuscenes import NuScenes
from nuscenes.eval.common.config import config_factory
from nuscenes.eval.common.data_classes import EvalBoxes
from nuscenes.eval.common.loaders import (
    add_center_dist,
    filter_eval_boxes,
    get_samples_of_custom_split,
    load_gt,
    load_gt_of_sample_tokens,
)
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.detection.evaluate import DetectionEval
from nuscenes.utils.data_classes import Box, LidarPointCloud, RadarPointCloud
from nuscenes.utils.geometry_utils import points_in_box
from pyquaternion import Quaternion

from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.sensors import CAMERAS, RADARS
from crkd_core.world import rig
from crkd_core.world.content.mix import BALANCED
from crkd_core.world.content.scene import Scene


@pytest.fixture(scope="module")
def world(tiny_world: Path) -> NuScenes:
    return NuScenes("v1.0-mini", str(tiny_world), verbose=False)


@pytest.fixture(scope="module")
def drive(tiny_drive: Path) -> NuScenes:
    return NuScenes("v1.0-mini", str(tiny_drive), verbose=False)


def global_points(nusc: NuScenes, data: dict, points: np.ndarray) -> np.ndarray:
    """[3, N] sensor points to global, with the devkit's own tables."""
    for table in ("calibrated_sensor", "ego_pose"):
        row = nusc.get(table, data[f"{table}_token"])
        points = Quaternion(row["rotation"]).rotation_matrix @ points
        points = points + np.array(row["translation"])[:, None]
    return points


def truth_of(nusc: NuScenes, split: str) -> EvalBoxes:
    if split.startswith("mini"):
        return load_gt(nusc, split, DetectionBox)
    tokens = get_samples_of_custom_split(split, nusc)
    return load_gt_of_sample_tokens(nusc, tokens, DetectionBox)


def box_of(annotation: dict) -> Box:
    rotation = Quaternion(annotation["rotation"])
    return Box(annotation["translation"], annotation["size"], rotation)


def test_devkit_loads_and_every_file_exists(world: NuScenes, tiny_world: Path) -> None:
    assert [s["name"] for s in world.scene] == ["scene-0061", "scene-0103"]
    assert len(world.sample) == 8
    for sample in world.sample:
        assert set(sample["data"]) == {*CAMERAS, *RADARS, "LIDAR_TOP"}
    named = {d["filename"] for d in world.sample_data}
    there = {str(p.relative_to(tiny_world)) for p in tiny_world.glob("s*/*/*")}
    assert named == there
    for row in world.map:
        assert (tiny_world / row["filename"]).stat().st_size > 100


def test_all_ten_classes_count_in_the_evaluation(world: NuScenes) -> None:
    config = config_factory("detection_cvpr_2019")
    for split in ("mini_train", "mini_val", "world_all"):
        boxes = truth_of(world, split)
        boxes = filter_eval_boxes(world, add_center_dist(world, boxes), config.class_range)
        seen = Counter(b.detection_name for t in boxes.sample_tokens for b in boxes[t])
        assert set(seen) == set(NUSCENES_CLASSES), (split, seen)


@pytest.mark.parametrize("split", ["mini_val", "world_val"])
def test_truth_as_submission_is_perfect(world: NuScenes, tmp_path: Path, split: str) -> None:
    truth = truth_of(world, split)
    results = {}
    for token in truth.sample_tokens:
        results[token] = [
            {
                "sample_token": token,
                "translation": list(b.translation),
                "size": list(b.size),
                "rotation": list(b.rotation),
                "velocity": np.nan_to_num(b.velocity).tolist(),
                "detection_name": b.detection_name,
                "detection_score": 0.5,
                "attribute_name": b.attribute_name,
            }
            for b in truth[token]
            if b.num_pts > 0
        ]
    meta = dict.fromkeys(
        ("use_camera", "use_lidar", "use_radar", "use_map", "use_external"), False
    )
    path = tmp_path / "results.json"
    path.write_text(json.dumps({"meta": meta, "results": results}))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = DetectionEval(
            world,
            config_factory("detection_cvpr_2019"),
            str(path),
            split,
            str(tmp_path),
            verbose=False,
        )
        metrics, _ = evaluation.evaluate()
    assert metrics.mean_ap == pytest.approx(1.0)
    errors = metrics.tp_errors
    for name in ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"):
        assert errors[name] == pytest.approx(0.0, abs=1e-6), name


def test_point_counts_are_those_of_the_files(world: NuScenes, tiny_world: Path) -> None:
    RadarPointCloud.disable_filters()
    checked = 0
    for sample in world.sample[::3]:
        data = {c: world.get("sample_data", t) for c, t in sample["data"].items()}
        path = tiny_world / data["LIDAR_TOP"]["filename"]
        cloud = LidarPointCloud.from_file(str(path)).points[:3]
        lidar = global_points(world, data["LIDAR_TOP"], cloud)
        radar = np.concatenate(
            [
                global_points(
                    world,
                    data[c],
                    RadarPointCloud.from_file(str(tiny_world / data[c]["filename"])).points[:3],
                )
                for c in RADARS
            ],
            1,
        )
        for token in sample["anns"]:
            annotation = world.get("sample_annotation", token)
            box = box_of(annotation)
            # One point on the face itself may fall on either side in float32.
            inside = int(points_in_box(box, lidar).sum())
            assert abs(inside - annotation["num_lidar_pts"]) <= 1
            box.wlh[2] = 100.0
            assert int(points_in_box(box, radar).sum()) == annotation["num_radar_pts"]
            checked += annotation["num_lidar_pts"] > 0 and annotation["num_radar_pts"] > 0
    assert checked > 20


def test_velocities_are_those_of_the_scene(world: NuScenes) -> None:
    fast = 0
    for number, record in enumerate(world.scene):
        scene = Scene(seed=23, number=number, key_frames=4, mix=BALANCED)
        sample = world.get("sample", record["first_sample_token"])
        sample = world.get("sample", sample["next"])
        state = scene.state(0.5)
        turn = scene.global_T_local[:2, :2]
        place = state.position[:, :2] @ turn.T + scene.global_T_local[:2, 3]
        for token in sample["anns"]:
            annotation = world.get("sample_annotation", token)
            velocity = world.box_velocity(token)
            if not annotation["prev"] or not annotation["next"]:
                continue
            row = np.hypot(*(place - annotation["translation"][:2]).T).argmin()
            truth = turn @ state.velocity[row]
            np.testing.assert_allclose(velocity[:2], truth, atol=0.25)
            speed = float(np.hypot(*truth))
            names = [world.get("attribute", a)["name"] for a in annotation["attribute_tokens"]]
            if names in (["vehicle.parked"], ["vehicle.stopped"], ["pedestrian.standing"]):
                assert speed == 0
            if names in (["vehicle.moving"], ["pedestrian.moving"]):
                assert speed > 0.3
            fast += speed > 4
    assert fast > 10


def test_chains_and_links(drive: NuScenes) -> None:
    for instance in drive.instance:
        token, count = instance["first_annotation_token"], 0
        last = ""
        while token:
            annotation = drive.get("sample_annotation", token)
            assert annotation["prev"] == last
            assert annotation["instance_token"] == instance["token"]
            last, token, count = token, annotation["next"], count + 1
        assert last == instance["last_annotation_token"]
        assert count == instance["nbr_annotations"]
    for channel in rig.CHANNELS:
        records = [d for d in drive.sample_data if d["channel"] == channel]
        records.sort(key=lambda d: d["timestamp"])
        assert [d["prev"] for d in records] == ["", *(d["token"] for d in records[:-1])]
        assert [d["next"] for d in records] == [*(d["token"] for d in records[1:]), ""]
        for record, follower in pairwise(records):
            expected = record["sample_token"]
            if not record["is_key_frame"]:
                assert follower["sample_token"] == expected
        assert sum(d["is_key_frame"] for d in records) == len(drive.sample)
        assert records[-1]["is_key_frame"]


def test_rates_and_phases(drive: NuScenes) -> None:
    stamps = {
        c: np.sort([d["timestamp"] for d in drive.sample_data if d["channel"] == c])
        for c in rig.CHANNELS
    }
    lidar = stamps["LIDAR_TOP"]
    assert set(np.diff(lidar)) == {50_000}
    start = min(s["timestamp"] for s in drive.sample)
    assert lidar[0] == start - 450_000
    for channel in CAMERAS:
        assert set(np.diff(stamps[channel])) == {50_000, 100_000}
        assert len(stamps[channel]) / len(lidar) == pytest.approx(0.6, abs=0.04)
    for a, b in zip(stamps["CAM_FRONT_LEFT"], stamps["CAM_BACK_LEFT"], strict=True):
        assert b - a == 42_000
        assert b + 1000 in lidar
    phases = set()
    for channel in RADARS:
        assert np.abs(np.diff(stamps[channel]) - 1e6 / 13).max() <= 1
        assert start - stamps[channel][0] > 5 / 13 * 1e6
        phases.add(int(stamps[channel][0]))
    assert len(phases) == 5
    for sample in drive.sample:
        for channel, token in sample["data"].items():
            stamp = drive.get("sample_data", token)["timestamp"]
            if channel in RADARS:
                gaps = np.abs(stamps[channel] - sample["timestamp"])
                assert abs(stamp - sample["timestamp"]) == gaps.min()
            elif channel == "LIDAR_TOP":
                assert stamp == sample["timestamp"]
            else:
                assert 1000 <= sample["timestamp"] - stamp <= 43_000
    for data in drive.sample_data:
        assert drive.get("ego_pose", data["ego_pose_token"])["timestamp"] == data["timestamp"]


def test_key_frames_only_leaves_out_camera_sweeps_alone(world: NuScenes, drive: NuScenes) -> None:
    for nusc, images in ((world, 0), (drive, 1)):
        sweeps = Counter(d["channel"] for d in nusc.sample_data if not d["is_key_frame"])
        assert all((sweeps[c] > 0) == bool(images) for c in CAMERAS)
        assert all(sweeps[c] >= 9 * len(nusc.sample) for c in ["LIDAR_TOP"])
        assert all(sweeps[c] >= 5 * len(nusc.sample) for c in RADARS)


def test_ego_moves_and_the_car_stays_on_the_ground(drive: NuScenes) -> None:
    poses = sorted(drive.ego_pose, key=lambda p: p["timestamp"])
    path = np.array([p["translation"] for p in poses])
    rise = np.diff(path[:, 2]) / np.maximum(np.hypot(*np.diff(path[:, :2], axis=0).T), 1e-9)
    assert np.abs(rise).max() < 0.05
    seconds = (poses[-1]["timestamp"] - poses[0]["timestamp"]) / 1e6
    speed = np.hypot(*(path[-1] - path[0])[:2]) / seconds
    assert 1 < speed < 16
    forward = Quaternion(poses[0]["rotation"]).rotation_matrix[:2, 0]
    along = (path[-1] - path[0])[:2] / np.hypot(*(path[-1] - path[0])[:2])
    assert forward @ along > 0.97


def test_visibility_levels_are_used(world: NuScenes) -> None:
    levels = Counter(a["visibility_token"] for a in world.sample_annotation)
    assert set(levels) == {"1", "2", "3", "4"}
    unseen = [a for a in world.sample_annotation if a["num_lidar_pts"] > 60]
    assert np.mean([a["visibility_token"] in "34" for a in unseen]) > 0.7
