"""Bag -> detections: equal to the offline ones, deterministic, scored, explained."""

from __future__ import annotations

import itertools
import json
import subprocess
from pathlib import Path

import command_lines
import numpy as np
import pytest
import rig_bags
import torch
from fleet import at_once
from handmade import write_version
from model_tiny import TINY
from rig_bags import START
from watched import Watched

from crkd_core.config import DetectorConfig
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.evaluate.evaluation import evaluate_submission
from crkd_core.files import OutputError
from crkd_core.infer.detector import Detector
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.presets import demo_student, preset
from crkd_core.sensors import CAMERAS, RADARS
from crkd_ros.bags.detections import OUTPUTS, Publishing
from crkd_ros.bags.message_types import BagError, make
from crkd_ros.bags.nuscenes import write_bag
from crkd_ros.bags.reader import read_bag, topics_of
from crkd_ros.bags.replay import replay
from crkd_ros.bags.samples import find_samples, key_frames
from crkd_ros.bags.writer import BagWriter
from crkd_ros.convert import arrays
from crkd_ros.parameters.framing import FramingConfig, MotionConfig
from crkd_ros.parameters.knobs import ParameterError

SCENE = "scene-0103"
SPLIT = "mini_val"
SECOND = 1_000_000_000
#: Of the cameras of rig_bags.
PERIOD = SECOND // 12


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A data set of one scene, its bag and a detector that was never trained."""
    place = tmp_path_factory.mktemp("replay")
    write_version(place / "data", samples=3, scenes=(SCENE, "scene-0061"))
    write_bag(NuScenes(place / "data"), SCENE, place / "bag", with_lidar=False, progress=False)
    torch.manual_seed(0)
    config: DetectorConfig = demo_student().detector
    save_weights(build_detector(config), place / "weights.safetensors", extra=None)
    return place


@pytest.fixture(scope="module")
def detector(place: Path) -> Detector:
    # Untrained scores lie around the bias of the heatmaps: a low threshold gives boxes to compare.
    return Detector.load(place / "weights.safetensors", score_threshold=0.02)


def boxes_of(path: Path) -> dict[int, arrays.Detections]:
    return {
        record.stamp_ns: arrays.boxes_from_cloud(record.message(), NUSCENES_CLASSES)
        for record in read_bag(path, topics=["/detector_node/boxes"])
    }


def test_replay_gives_the_offline_detections(place, detector, tmp_path) -> None:
    report = replay(
        place / "bag", detector, tmp_path, data=place / "data", split=SPLIT, key_frames_only=True
    )
    frames = NuScenesFrames.for_detectors(NuScenes(place / "data"), SPLIT, detector.config)
    found = boxes_of(tmp_path / "detections")
    assert report.frames == report.key_frames == len(frames) == len(found) == 3
    for frame in frames:
        ours, theirs = found[frame.stamp_ns], detector(frame)
        assert len(ours) == len(theirs) > 20
        for name in ("center", "size", "yaw", "velocity", "score"):
            np.testing.assert_allclose(
                getattr(ours, name), getattr(theirs, name), atol=1e-4, err_msg=name
            )
        np.testing.assert_array_equal(ours.label, theirs.label)
    # The files that replay wrote are those that the offline command would accept and score alike.
    evaluate_submission(tmp_path / "results.json", place / "data", SPLIT, tmp_path / "offline")
    mine = json.loads((tmp_path / "metrics.json").read_text())
    theirs = json.loads((tmp_path / "offline" / "metrics.json").read_text())
    for key in ("mean_ap", "nd_score", "tp_errors", "label_aps", "mean_dist_aps", "data"):
        assert json.dumps(mine[key]) == json.dumps(theirs[key]), key


@pytest.mark.parametrize("name", ["demo_camera", "demo_radar"])
def test_a_detector_of_one_kind_of_sensor_replays(name, place, tmp_path) -> None:
    torch.manual_seed(0)
    alone = Watched(build_detector(preset(name).detector), score_threshold=0.02)
    report = replay(
        place / "bag",
        alone,
        tmp_path,
        data=place / "data",
        split=SPLIT,
        key_frames_only=True,
    )
    assert report.frames == len(alone.seen) > 0
    assert frozenset().union(*(frame.sensors for frame in alone.seen)) == {
        *(CAMERAS if name == "demo_camera" else RADARS)
    }
    # Radars give frames at their own stamps; those of cameras are the data set's.
    if name == "demo_camera":
        found = boxes_of(tmp_path / "detections")
        for frame in NuScenesFrames.for_detectors(NuScenes(place / "data"), SPLIT, alone.config):
            np.testing.assert_allclose(found[frame.stamp_ns].score, alone(frame).score, atol=1e-5)


def test_a_detector_that_reads_lidar_is_refused_before_the_first_frame(place, tmp_path) -> None:
    teacher = Detector(build_detector(preset("demo_teacher").detector))
    with pytest.raises(ParameterError, match=r"demo_teacher reads LiDAR.*without a LiDAR"):
        replay(place / "bag", teacher, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_two_runs_write_the_same_bytes(place, detector, tmp_path) -> None:
    for name in ("a", "b"):
        replay(
            place / "bag",
            detector,
            tmp_path / name,
            data=place / "data",
            split=SPLIT,
            key_frames_only=True,
        )
    first, second = (
        sorted(p.relative_to(tmp_path / name) for p in (tmp_path / name).rglob("*") if p.is_file())
        for name in ("a", "b")
    )
    assert first == second and len(first) == 4
    for name in first:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name


def test_the_output_bag_opens_alone(place, detector, tmp_path) -> None:
    replay(place / "bag", detector, tmp_path)
    topics = topics_of(tmp_path / "detections")
    source = topics_of(place / "bag")
    anchors = source["/cam_back_left/image_rect_compressed"].count
    assert {name: topics[name].count for name in OUTPUTS} == dict.fromkeys(OUTPUTS, anchors)
    for name in ("/tf", "/tf_static", "/markers/annotations"):
        assert topics[name].count == source[name].count > 0
    known: set[int] = set()
    last = 0
    for record in read_bag(tmp_path / "detections"):
        assert record.stamp_ns >= last
        last = record.stamp_ns
        if record.topic == "/tf":
            known.add(record.stamp_ns)
        if record.topic == "/detector_node/boxes":
            header = record.message().header
            assert header.frame_id == "base_link"
            assert arrays.stamp_ns(header.stamp) == record.stamp_ns in known
    assert not (tmp_path / "metrics.json").exists()


def test_results_are_replaced_together_and_only_by_whole_ones(place, detector, tmp_path) -> None:
    class Broken(Detector):
        def step(self, frame, memory):
            raise RuntimeError("in the middle")

    def contents(folder: Path) -> dict[str, bytes]:
        return {
            str(path.relative_to(folder)): path.read_bytes()
            for path in folder.rglob("*")
            if path.is_file()
        }

    data = {"data": place / "data", "split": SPLIT, "key_frames_only": True}
    replay(place / "bag", detector, tmp_path, **data)
    (tmp_path / "mine.txt").write_text("kept")
    before = contents(tmp_path)
    with pytest.raises(OutputError, match=r"holds detections, results\.json, metrics\.json"):
        replay(place / "bag", detector, tmp_path)

    broken = Broken.load(place / "weights.safetensors")
    with pytest.raises(RuntimeError, match="in the middle"):
        replay(place / "bag", broken, tmp_path, overwrite=True)
    assert contents(tmp_path) == before and len(before) == 5
    replay(place / "bag", detector, tmp_path, overwrite=True)
    after = contents(tmp_path)
    assert {name.split("/")[0] for name in after} == {"detections", "mine.txt"}
    (bag,) = (name for name in after if name.endswith(".mcap"))
    assert after[bag] != before[bag]
    (tmp_path / "metrics.json").write_text("{}")
    with pytest.raises(OutputError, match=r"holds detections, metrics\.json"):
        replay(place / "bag", detector, tmp_path)


def test_the_answers_are_recorded_with_their_images(place, detector, tmp_path) -> None:
    """Headers in a simulator's time, which begins at 0; the recorder wrote that of the wall."""
    first = next(iter(read_bag(place / "bag"))).stamp_ns - SECOND

    with BagWriter(tmp_path / "bag") as bag:
        for record in read_bag(place / "bag"):
            message = record.message()
            parts = (getattr(message, name, ()) for name in ("transforms", "markers"))
            for one in (message, *itertools.chain(*parts)):
                if hasattr(one, "header"):
                    stamp = max(arrays.stamp_ns(one.header.stamp) - first, 0)
                    one.header.stamp = make(
                        "builtin_interfaces/msg/Time", **arrays.stamp_fields(stamp)
                    )
            bag.write(record.topic, message, record.stamp_ns)
    replay(place / "bag", detector, tmp_path / "wall")
    replay(tmp_path / "bag", detector, tmp_path / "simulated")
    wall, simulated = (
        [(r.topic, r.stamp_ns) for r in read_bag(tmp_path / name / "detections")]
        for name in ("wall", "simulated")
    )
    assert simulated == wall


def test_weak_detections_are_scored_but_not_drawn(place, detector, tmp_path) -> None:
    arguments = {"data": place / "data", "split": SPLIT, "key_frames_only": True}
    replay(place / "bag", detector, tmp_path / "all", **arguments)
    every = boxes_of(tmp_path / "all" / "detections")
    limit = float(np.median(np.concatenate([boxes.score for boxes in every.values()])))
    replay(
        place / "bag",
        detector,
        tmp_path / "few",
        publishing=lambda _: Publishing(threshold=limit),
        **arguments,
    )
    for stamp, boxes in boxes_of(tmp_path / "few" / "detections").items():
        assert 0 < len(boxes) < len(every[stamp])
        assert boxes.score.min() >= limit - 1e-6
    results = [(tmp_path / name / "results.json").read_bytes() for name in ("all", "few")]
    assert results[0] == results[1]


def test_wrong_requests_are_explained(place, detector, tmp_path) -> None:
    with pytest.raises(BagError, match="--data and --split together"):
        replay(place / "bag", detector, tmp_path, data=place / "data")
    with pytest.raises(BagError, match="a bag does not name samples"):
        replay(place / "bag", detector, tmp_path, key_frames_only=True)
    with pytest.raises(BagError, match=r"none of the 3 samples of split 'mini_train'"):
        replay(place / "bag", detector, tmp_path, data=place / "data", split="mini_train")
    assert list(tmp_path.iterdir()) == []


def test_without_ego_motion_the_data_set_says_where_the_vehicle_is(
    place, detector, tmp_path
) -> None:
    still = FramingConfig(motion=MotionConfig(source="none"))
    data = place / "data"
    found = replay(place / "bag", detector, tmp_path, data=data, split=SPLIT, framing=still)
    results = json.loads((tmp_path / "results.json").read_text())["results"]
    assert found.evaluation is not None and found.key_frames == len(results) > 1
    tables = NuScenes(data, split=SPLIT)
    for token, boxes in results.items():
        vehicle = tables.reference(token).global_T_ego[:2, 3]
        centers = np.array([box["translation"][:2] for box in boxes])
        assert len(boxes) and np.linalg.norm(centers - vehicle, axis=1).max() < 80


def copy_bag(source: Path, out: Path, change) -> Path:
    with BagWriter(out) as bag:
        for record in read_bag(source):
            data = change(record)
            if data is not None:
                bag.write_raw(record.topic, record.type_name, data, record.stamp_ns)
    return out


def test_a_bag_without_poses_is_refused_and_leaves_nothing(place, detector, tmp_path) -> None:
    bag = copy_bag(
        place / "bag",
        tmp_path / "bag",
        lambda record: None if record.topic in ("/tf", "/odom") else record.data,
    )
    with pytest.raises(BagError, match=r"not one frame could be formed; first problem:.*ego pose"):
        replay(bag, detector, tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_messages_without_a_byte_are_problems_not_the_end(place, detector, tmp_path) -> None:
    seen: set[str] = set()

    def first_is_empty(record) -> bytes:
        first = record.topic not in seen and record.topic.startswith(("/cam", "/radar"))
        seen.add(record.topic)
        return b"" if first else record.data

    bag = copy_bag(place / "bag", tmp_path / "bag", first_is_empty)
    report = replay(
        bag, detector, tmp_path / "out", data=place / "data", split=SPLIT, key_frames_only=True
    )
    assert 0 < report.key_frames < 3
    assert any("0 bytes are no sensor_msgs" in problem.reason for problem in report.problems)


def test_of_a_frame_in_which_nothing_was_seen_nothing_is_said(tmp_path) -> None:
    """An empty array would say that the detector has looked and found nothing."""
    broken = START + 4 * PERIOD

    def fifth_is_cut(topic, message, number):
        if "image" in topic and number == 4:
            message.data = message.data[:50]
        yield topic, message

    bag = rig_bags.write(tmp_path / "bag", fifth_is_cut)
    torch.manual_seed(0)
    detector = Detector(build_detector(TINY))
    framing = FramingConfig(sensors=("CAM_FRONT",))
    report = replay(bag, detector, tmp_path / "out", framing=framing)
    stamps = sorted(boxes_of(tmp_path / "out" / "detections"))
    assert report.frames == len(stamps) == report.account.frames - 1
    assert not any(abs(stamp - broken) < PERIOD / 2 for stamp in stamps)
    assert report.account.dropped == 1
    assert [p.reason.partition(":")[0] for p in report.problems] == ["CAM_FRONT", "frame dropped"]


def test_a_bag_with_the_anchor_camera_dead_or_a_key_image_lost_is_scored(
    place, detector, tmp_path
) -> None:
    keys = sorted(key_frames(NuScenes(place / "data"), [SCENE]))

    def without_anchor(record) -> bytes | None:
        return None if record.topic.startswith("/cam_back_left") else record.data

    def without_second_key(record) -> bytes | None:
        anchor = record.topic == "/cam_back_left/image_rect_compressed"
        return None if anchor and record.stamp_ns == keys[1] else record.data

    for change in (without_anchor, without_second_key):
        bag = copy_bag(place / "bag", tmp_path / f"bag_{change.__name__}", change)
        out = tmp_path / change.__name__
        report = replay(
            bag,
            detector,
            out,
            data=place / "data",
            split=SPLIT,
            key_frames_only=True,
        )
        assert report.frames == report.key_frames == 3
        stamps = sorted(boxes_of(out / "detections"))
        stood_in = [stamp not in keys for stamp in stamps]
        assert stood_in == ([True] * 3 if change is without_anchor else [False, True, False])
        assert all(0 <= key - stamp < 42e6 for key, stamp in zip(keys, stamps, strict=True))
        results = json.loads((out / "results.json").read_text())["results"]
        assert len(results) == 3 and all(results.values())


def test_samples_are_those_of_the_nearest_frames(place, tmp_path) -> None:
    tables = NuScenes(place / "data")
    keys = sorted(key_frames(tables, [SCENE]))
    near = [keys[0] - 9_000_000, keys[0] + 74_000_000, keys[2] - 100_000_000, keys[2] + 1]
    steady = [keys[0] + step * 83_000_000 for step in range(1, 5)]
    found = find_samples(tmp_path, sorted([*near[:1], *steady, *near[2:]]), tables, SPLIT)
    assert list(found.tokens) == [near[0], near[3]]
    assert found.missed == tuple(t for s, t in key_frames(tables, [SCENE]).items() if s == keys[1])
    with pytest.raises(BagError, match="none of the 3 samples"):
        find_samples(tmp_path, [], tables, SPLIT)
    with pytest.raises(BagError, match="none of the 3 samples"):
        find_samples(tmp_path, [keys[0] + 200_000_000, keys[0] + 283_000_000], tables, SPLIT)
    with pytest.raises(BagError, match=f"two at 2 stamps, first {steady[1]} ns.*cut the bag"):
        find_samples(tmp_path, [*steady, *steady[1:3]], tables, SPLIT)


def test_samples_are_those_of_the_vehicle_whose_bag_it_is(tmp_path) -> None:
    scenes = (SCENE, "scene-0061")
    write_version(tmp_path / "data", samples=3, scenes=scenes, splits={"fleet": [*scenes]})
    fleet = at_once(tmp_path / "data", *scenes)
    for scene in scenes:
        keys = key_frames(fleet, [scene])
        first = min(keys)
        between = [first + step * 83_333_333 for step in range(14) if step % 6]
        found = find_samples(tmp_path, sorted([*keys, *between]), fleet, "fleet")
        assert found.tokens == keys and found.missed == ()


def test_a_bag_of_another_place_is_not_scored(place, detector, tmp_path) -> None:
    write_version(tmp_path / "data", samples=3, scenes=(SCENE, "scene-0061"))
    path = tmp_path / "data" / "v1.0-mini" / "ego_pose.json"
    rows = json.loads(path.read_text())
    for row in rows:
        row["translation"][0] += 100.0
    path.write_text(json.dumps(rows))
    with pytest.raises(BagError, match=r"the vehicle is 100\.0 m from where"):
        replay(
            place / "bag",
            detector,
            tmp_path / "out",
            data=tmp_path / "data",
            split=SPLIT,
            key_frames_only=True,
        )


def test_the_command(place, tmp_path) -> None:
    def run(*arguments: object) -> subprocess.CompletedProcess:
        return command_lines.run("replay", *arguments)

    weights = ("--weights", place / "weights.safetensors")
    data = ("--data", place / "data", "--split", SPLIT, "--key-frames-only")
    done = run(place / "bag", *weights, "--out", tmp_path, *data)
    assert done.returncode == 0, done.stderr
    assert "3 frames, 3 of them samples" in done.stdout and "NDS" in done.stdout
    again = run(place / "bag", *weights, "--out", tmp_path)
    assert (
        again.returncode == 1
        and "already holds detections, results.json, metrics.json" in again.stderr
    )
    assert "Traceback" not in again.stderr
    assert (tmp_path / "metrics.json").exists()
    replaced = run(place / "bag", *weights, "--out", tmp_path, "--overwrite")
    assert replaced.returncode == 0, replaced.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["detections"]
    missing = run(tmp_path / "no", *weights, "--out", tmp_path / "x")
    assert missing.returncode == 1 and "no such bag" in missing.stderr
    assert not (tmp_path / "x" / "detections").exists()
