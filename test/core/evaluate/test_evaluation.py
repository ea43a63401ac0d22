"""Evaluation on a data set: filters, splits, order against the devkit; runs and pictures."""

import dataclasses
import json
import re

import cv2
import numpy as np
import pytest
from handmade import write_version
from same_metrics import assert_same

from crkd_core.boxes import Boxes, Detections
from crkd_core.config import ConfigError
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesError, NuScenesFrames
from crkd_core.data.vod.labels import objects_of
from crkd_core.evaluate.evaluation import evaluate_submission, evaluate_weights
from crkd_core.evaluate.folder import clear
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import evaluate
from crkd_core.evaluate.pictures import (
    NUSCENES_COLORS,
    draw_bev,
    draw_cameras,
    draw_precision_recall,
)
from crkd_core.evaluate.reading import read_submission
from crkd_core.evaluate.report import ReportError, metrics_tables, write_report
from crkd_core.evaluate.scored_data import scored_data
from crkd_core.evaluate.scoring import EvaluateError, score
from crkd_core.evaluate.submission import Submission, SubmissionError, write_submission
from crkd_core.evaluate.vod.results import write_results
from crkd_core.tables import Table
from crkd_core.world import write_world

SPLITS = {"ours": ["scene-0103", "scene-0061"], "one": ["scene-0061"]}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two scenes, racks and bicycles, annotations without points, a shuffled sample table."""
    return write_version(tmp_path_factory.mktemp("data"), splits=SPLITS)


@pytest.fixture(scope="module")
def devkit(data):
    nuscenes = pytest.importorskip("nuscenes")
    return nuscenes.NuScenes("v1.0-mini", str(data), verbose=False)


def devkit_summary(devkit, path, split, out):
    from nuscenes.eval.common.config import config_factory
    from nuscenes.eval.detection.evaluate import DetectionEval

    config = config_factory("detection_cvpr_2019")
    run = DetectionEval(devkit, config, str(path), split, str(out), verbose=False)
    return run.main(plot_examples=0, render_curves=False)


def adversarial(tables, tokens, rng):
    """Truth, moved a little, thrice; boxes on the range limits and in racks; scores that tie."""
    parts = []
    for i, token in enumerate(tokens):
        truth = tables.truth_global(token)
        truth = truth.select(np.repeat(np.arange(len(truth)), 3))
        columns: dict = {f.name: getattr(truth, f.name) for f in dataclasses.fields(Boxes)}
        columns["center"] = columns["center"] + rng.integers(-2, 3, truth.center.shape) / 2
        attribute = truth.attribute
        ego = tables.ego_translation(token)
        limits = [[50, 0], [30, 40], [-40, 0], [0, 30], [-18, -24], [49.999999, 0], [24, 32]]
        racks = tables.bicycle_racks(token)
        places = np.concatenate([ego + np.pad(np.array(limits), ((0, 0), (0, 1))), racks.center])
        extra = np.repeat(places, 10, 0)
        n = len(extra)
        columns["center"] = np.concatenate([columns["center"], extra])
        columns["size"] = np.concatenate([columns["size"], np.ones((n, 3))])
        columns["yaw"] = np.concatenate([columns["yaw"], rng.uniform(-3, 3, n)])
        columns["velocity"] = np.concatenate([columns["velocity"], np.full((n, 2), np.nan)])
        columns["label"] = np.concatenate([columns["label"], np.tile(np.arange(10), n // 10)])
        attribute = np.concatenate([attribute, np.full(n, -1)])
        total = len(attribute)
        parts.append(
            ScoredBoxes(
                **columns,
                sample=np.full(total, i),
                attribute=attribute,
                score=rng.integers(0, 6, total) / 5,
            )
        )
    meta = dict.fromkeys(("use_camera", "use_lidar", "use_radar", "use_map", "use_external"), True)
    return Submission(tokens=tuple(tokens), boxes=ScoredBoxes.joined(parts), meta=meta)


def metrics_of(out):
    """What the devkit writes too of metrics.json; the samples that it names are checked."""
    metrics = json.loads((out / "metrics.json").read_text())
    data = metrics.pop("data")
    assert data.keys() == {"split", "samples", "digest"} and data["samples"] > 0
    return metrics


@pytest.mark.parametrize("split", ["mini_val", "ours", "one"])
@pytest.mark.parametrize("seed", range(3))
def test_a_data_set_scores_as_with_the_devkit(data, devkit, tmp_path, capsys, split, seed):
    rng = np.random.default_rng(seed)
    tables = NuScenes(data)
    tokens = tables.samples_of(split)
    rng.shuffle(tokens)  # the order of the file decides ties, or must not
    path = tmp_path / "results.json"
    write_submission(adversarial(tables, tokens, rng), path)
    ours = evaluate_submission(path, data, split, tmp_path / "ours")
    assert ours.summary["mean_ap"] > 0
    theirs = devkit_summary(devkit, path, split, tmp_path / "theirs")
    assert_same(
        metrics_of(tmp_path / "ours"),
        json.loads(json.dumps(theirs)),
    )
    assert f"{ours.summary['nd_score']:.3f}" in capsys.readouterr().out


def test_the_samples_of_an_evaluation_are_told_from_others_whatever_their_order(data):
    tables = NuScenes(data)
    tokens = tables.samples_of("mini_val")
    told = scored_data(tables, tokens, split="mini_val")["data"]
    assert told["split"] == "mini_val" and told["samples"] == len(tokens)
    assert scored_data(tables, tokens[::-1], split="mini_val")["data"] == told
    fewer = scored_data(tables, tokens[1:], split="mini_val")["data"]
    assert fewer["digest"] != told["digest"] and fewer["samples"] == len(tokens) - 1


def truth_as_detections(tables, tokens):
    """(submission, mask of the boxes that a LiDAR or radar point touched)."""
    parts, seen = [], []
    for i, token in enumerate(tokens):
        truth = tables.truth_global(token)
        parts.append(
            ScoredBoxes(
                **{f.name: getattr(truth, f.name) for f in dataclasses.fields(Boxes)},
                sample=np.full(len(truth), i),
                attribute=truth.attribute,
                score=np.ones(len(truth)),
            )
        )
        seen.append(truth.num_lidar_points + truth.num_radar_points > 0)
    boxes = ScoredBoxes.joined(parts)
    meta = dict.fromkeys(("use_camera", "use_lidar", "use_radar", "use_map", "use_external"), True)
    return Submission(tokens=tuple(tokens), boxes=boxes, meta=meta), np.concatenate(seen)


def test_truth_of_the_world_scores_one(tmp_path):
    # The ceiling: neither the cut at recall 0.1 nor that at precision 0.1 costs anything. All ten
    # classes are there, with attributes and velocities.
    nuscenes = pytest.importorskip("nuscenes")
    data = tmp_path / "data"
    write_world(
        data,
        scenes=1,
        seconds=1,
        seed=6,
        image_width=64,
        key_frames_only=True,
        lidar_sweeps=0,
        mix="balanced",
    )
    tables = NuScenes(data)
    every, seen = truth_as_detections(tables, tables.samples_of("mini_val"))
    # Boxes without points do not count as truth, so whoever reports them is punished.
    assert score(tables, every, "mini_val").summary["mean_ap"] < 1
    perfect = dataclasses.replace(every, boxes=every.boxes.select(seen))
    write_submission(perfect, tmp_path / "results.json")
    ours = evaluate_submission(tmp_path / "results.json", data, "mini_val", tmp_path / "ours")
    assert ours.summary["mean_ap"] == pytest.approx(1, abs=1e-12)
    assert ours.summary["nd_score"] == pytest.approx(1, abs=1e-9)
    devkit = nuscenes.NuScenes("v1.0-mini", str(data), verbose=False)
    theirs = devkit_summary(devkit, tmp_path / "results.json", "mini_val", tmp_path / "theirs")
    written = metrics_of(tmp_path / "ours")
    assert_same(written, json.loads(json.dumps(theirs)))


def test_truth_scores_one_in_the_classes_that_are_there(data):
    tables = NuScenes(data)
    every, seen = truth_as_detections(tables, tables.samples_of("ours"))
    perfect = dataclasses.replace(every, boxes=every.boxes.select(seen))
    aps = score(tables, perfect, "ours").summary["mean_dist_aps"]
    present = {"car", "bus", "pedestrian", "bicycle", "traffic_cone"}
    assert aps == pytest.approx({name: float(name in present) for name in NUSCENES_CLASSES})


def test_a_truth_without_boxes_that_count_is_said(tmp_path, capsys):
    root = write_version(tmp_path / "data", scenes=("scene-0061",), files=False)
    path = root / "v1.0-mini" / "sample_annotation.json"
    rows = [
        {**row, "num_lidar_pts": 0, "num_radar_pts": 0} for row in json.loads(path.read_text())
    ]
    path.write_text(json.dumps(rows))
    every, _ = truth_as_detections(NuScenes(root), NuScenes(root).samples_of("scene-0061"))
    write_submission(every, tmp_path / "results.json")
    evaluate_submission(tmp_path / "results.json", root, "scene-0061", tmp_path / "out")
    said = "No box of the truth counts"
    assert said in capsys.readouterr().out
    assert said in (tmp_path / "out" / "report.html").read_text()


def test_samples_that_do_not_fit_are_named(data):
    tables = NuScenes(data)
    tokens = tables.samples_of("mini_val")
    empty = Submission(tokens=tuple(tokens), boxes=ScoredBoxes.empty(NUSCENES_CLASSES), meta={})
    assert score(tables, empty, "mini_val").summary["nd_score"] == 0
    assert score(tables, empty, tokens).summary["mean_ap"] == 0
    less = dataclasses.replace(empty, tokens=tuple(tokens[1:]))
    with pytest.raises(
        EvaluateError, match=f"1 of 4 samples.*'mini_val' are missing.*{tokens[0]}"
    ):
        score(tables, less, "mini_val")
    other = tables.samples_of("one")[0]
    more = dataclasses.replace(empty, tokens=(*tokens, other))
    with pytest.raises(EvaluateError, match=f"sample {other} is not in split 'mini_val'"):
        score(tables, more, "mini_val")
    with pytest.raises(NuScenesError, match="no sample 'nobody'"):
        score(tables, dataclasses.replace(empty, tokens=(*tokens, "nobody")), "mini_val")
    with pytest.raises(NuScenesError, match="split 'ours-not' is not known"):
        score(tables, empty, "ours-not")


def test_a_version_without_annotations_still_gives_a_submission(weights, tmp_path, capsys):
    data = write_version(tmp_path / "data", version="v1.0-test", samples=2, scenes=("scene-0077",))
    for table in ("sample_annotation", "instance"):
        (data / "v1.0-test" / f"{table}.json").write_text("[]")
    out = tmp_path / "out"
    out.mkdir()
    (out / "metrics.json").write_text("{}")  # Of an evaluation before.
    assert evaluate_weights(weights, data, "test", out, slices=True) is None
    assert len(read_submission(out / "results.json").tokens) == 2
    assert (out / "report.html").is_file() and not (out / "metrics.json").exists()
    assert not (out / "slices.json").exists()
    said = " ".join(capsys.readouterr().out.split())
    assert f"-test has no annotations, so nothing can be scored; send {out}/results.json" in said
    assert "samples by sensor" in said and "mAP" not in said
    with pytest.raises(EvaluateError, match="-test has no annotations, so nothing can be scored"):
        evaluate_submission(out / "results.json", data, "test", tmp_path / "scored")


def test_a_set_without_a_single_box_gives_zeros(weights, tmp_path):
    data = write_version(tmp_path / "data", samples=2, scenes=("scene-0103",))
    for table in ("sample_annotation", "instance"):
        (data / "v1.0-mini" / f"{table}.json").write_text("[]")
    result = evaluate_weights(weights, data, "mini_val", tmp_path / "out")
    assert result is not None
    summary = result.summary
    assert summary["mean_ap"] == summary["nd_score"] == 0
    assert set(summary["tp_errors"].values()) == {1.0}
    again = evaluate_submission(
        tmp_path / "out" / "results.json", data, "mini_val", tmp_path / "again"
    )
    assert again.summary["nd_score"] == 0


def test_boxes_without_points_and_unknown_samples_are_taken_as_the_devkit_takes_them(
    data, devkit, tmp_path
):
    tables = NuScenes(data)
    made = adversarial(tables, tables.samples_of("one"), np.random.default_rng(1))
    write_submission(made, tmp_path / "results.json")
    content = json.loads((tmp_path / "results.json").read_text())
    for index, box in enumerate(b for boxes in content["results"].values() for b in boxes):
        box["num_pts"] = (0, 1, -1, 0.5, 3)[index % 5]
    content["results"]["nobody"] = []
    (tmp_path / "results.json").write_text(json.dumps(content))
    ours = evaluate_submission(tmp_path / "results.json", data, "one", tmp_path / "ours")
    theirs = devkit_summary(devkit, tmp_path / "results.json", "one", tmp_path / "theirs")
    assert 0 < ours.summary["mean_ap"] != score(tables, made, "one").summary["mean_ap"]
    assert_same(
        metrics_of(tmp_path / "ours"),
        json.loads(json.dumps(theirs)),
    )
    for boxes in content["results"].values():
        for box in boxes:
            box["num_pts"] = 0
    (tmp_path / "results.json").write_text(json.dumps(content))
    assert len(read_submission(tmp_path / "results.json").boxes) == 0


def test_samples_outside_a_custom_split_do_not_count(data):
    tables = NuScenes(data)
    rng = np.random.default_rng(0)
    every = adversarial(tables, tables.samples_of("ours"), rng)
    inside = set(tables.samples_of("one"))
    keep = np.array([token in inside for token in every.tokens])
    rows = keep[every.boxes.sample]
    place = np.cumsum(keep) - 1
    boxes = every.boxes.select(rows)
    only = Submission(
        tokens=tuple(t for t in every.tokens if t in inside),
        boxes=dataclasses.replace(boxes, sample=place[boxes.sample]),
        meta={},
    )
    got, expected = score(tables, every, "one").summary, score(tables, only, "one").summary
    assert expected["mean_ap"] > 0
    assert_same(got, expected)


def random_weights(name, path):
    """A file of a preset's network as it begins."""
    import torch

    from crkd_core.model.build import build_detector
    from crkd_core.model.checkpoint import save_weights
    from crkd_core.presets import preset

    torch.manual_seed(0)
    save_weights(build_detector(preset(name).detector), path)
    return path


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    return random_weights("demo_student", tmp_path_factory.mktemp("weights") / "w.safetensors")


def test_a_detector_is_evaluated(data, devkit, weights, tmp_path, capsys):
    out = tmp_path / "run"
    result = evaluate_weights(weights, data, "mini_val", out, sensors=("RADAR_FRONT", "CAM_BACK"))
    theirs = devkit_summary(devkit, out / "results.json", "mini_val", tmp_path / "theirs")
    ours = metrics_of(out)
    assert ours.pop("sensors") == ["CAM_BACK", "RADAR_FRONT"]
    assert_same(ours, json.loads(json.dumps(theirs)))
    assert result.summary["cfg"]["max_boxes_per_sample"] == 500
    results = json.loads((out / "results.json").read_text())
    assert set(results["results"]) == set(NuScenes(data).samples_of("mini_val"))
    assert results["meta"]["use_camera"] and results["meta"]["use_radar"]
    assert any(results["results"].values())
    printed = capsys.readouterr().out
    for word in ("mAP", "NDS", "mAAE", "construction_vehicle", "network"):
        assert word in printed
    assert len(list(out.glob("bev_*.png"))) == len(list(out.glob("cameras_*.png"))) == 3
    page = (out / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 7
    assert not re.search(r'(src|href)="(?!data:)', page)


def test_an_evaluation_counts_missing_key_frames_before_it_begins(weights, tmp_path, capsys):
    root = write_version(tmp_path / "data", samples=3)
    tables = NuScenes(root)
    last = tables.samples_of("mini_val")[-1]
    tables.key_record(last, "CAM_FRONT").path.unlink()
    with pytest.raises(NuScenesError, match="not there: CAM_FRONT 1 of 3, first samples/CAM_FRON"):
        evaluate_weights(weights, root, "mini_val", tmp_path / "out")
    assert not (tmp_path / "out").exists() and "/3" not in capsys.readouterr().err


def test_a_folder_holds_one_evaluation(data, weights, tmp_path):
    out = tmp_path / "run"
    evaluate_weights(weights, data, "mini_val", out, slices=True)
    (out / "notes.txt").write_text("mine")
    (out / "bev_mine.png").write_text("mine")
    (out / "dropout.json").write_text("{}")
    mine = {"notes.txt", "bev_mine.png", "dropout.json"}
    # As of a split of more samples.
    for kind in ("bev", "cameras"):
        (out / f"{kind}_00099.png").write_text("")
    evaluate_weights(weights, data, "one", out)
    evaluate_weights(weights, data, "one", tmp_path / "fresh")
    fresh = {path.name for path in (tmp_path / "fresh").iterdir()}
    assert {path.name for path in out.iterdir()} == fresh | mine
    assert not fresh & {"slices.json", "bev_00099.png"}
    submission = tmp_path / "mine.json"
    submission.write_bytes((out / "results.json").read_bytes())
    evaluate_submission(submission, data, "one", out)
    assert {path.name for path in out.iterdir()} == {
        *("metrics.json", "precision_recall.png", "report.html"),
        *mine,
    }
    # What is scored may lie there itself.
    (out / "results.json").write_bytes(submission.read_bytes())
    evaluate_submission(out / "results.json", data, "one", out)
    assert (out / "results.json").read_bytes() == submission.read_bytes()


def test_files_of_a_frame_each_go_where_they_are_not_scored(tmp_path):
    """Those of View-of-Delft, in a folder of their own."""
    results = tmp_path / "results"
    results.mkdir()
    for name in ("results/00012.txt", "results/00544.txt", "metrics.json", "cameras_00003.png"):
        (tmp_path / name).write_text("")
    clear(tmp_path / "nowhere")
    clear(tmp_path, keep=tmp_path / "other" / ".." / "results")
    assert [path.name for path in tmp_path.iterdir()] == ["results"]
    assert {path.name for path in results.iterdir()} == {"00012.txt", "00544.txt"}
    (results / "notes.txt").write_text("mine")
    clear(tmp_path)
    none = objects_of([], np.zeros((0, 15)))
    write_results(["00013"], [none], results)
    assert {path.name for path in results.iterdir()} == {"00013.txt", "notes.txt"}
    clear(tmp_path)
    assert [path.name for path in results.iterdir()] == ["notes.txt"]
    (results / "notes.txt").unlink()
    clear(tmp_path)
    assert not results.exists()


def test_what_cannot_be_scored_leaves_the_folder_as_it_was(data, weights, tmp_path):
    out = tmp_path / "run"
    evaluate_weights(weights, data, "one", out)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    (tmp_path / "broken.json").write_text("{}")
    with pytest.raises(SubmissionError):
        evaluate_submission(tmp_path / "broken.json", data, "one", out)
    with pytest.raises(EvaluateError):
        evaluate_submission(out / "results.json", data, "mini_val", out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


def weights_of(path, classes):
    """A random detector of these classes, in one task."""
    from crkd_core.config import TaskConfig
    from crkd_core.model.build import build_detector
    from crkd_core.model.checkpoint import save_weights
    from crkd_core.presets import preset

    whole = preset("demo_student").detector
    head = dataclasses.replace(whole.head, tasks=(TaskConfig(classes=classes),))
    save_weights(build_detector(dataclasses.replace(whole, head=head, classes=classes)), path)
    return path


def test_a_detector_of_fewer_classes_is_scored_on_those(data, tmp_path, capsys):
    few = weights_of(tmp_path / "few.safetensors", ("pedestrian", "car"))
    summary = evaluate_weights(few, data, "mini_val", tmp_path / "out").summary
    # In the order of the data set, whatever the detector's is.
    assert list(summary["mean_dist_aps"]) == ["car", "pedestrian"]
    left_out = "truck, bus, trailer, construction_vehicle, motorcycle, bicycle, traffic_cone, "
    told = re.sub(r"\s+", " ", capsys.readouterr().out)
    for text in (told, (tmp_path / "out" / "report.html").read_text()):
        assert f"the detector's 2 classes; {left_out}barrier of the data set are not" in (
            text.replace("&#x27;", "'")
        )
    names = {
        box["detection_name"]
        for boxes in json.loads((tmp_path / "out" / "results.json").read_text())[
            "results"
        ].values()
        for box in boxes
    }
    assert names and names <= {"car", "pedestrian"}


def test_metrics_of_a_class_do_not_depend_on_the_others(data):
    tables = NuScenes(data)
    every = adversarial(tables, tables.samples_of("ours"), np.random.default_rng(4))
    whole = score(tables, every, "ours").summary
    few = dataclasses.replace(every, boxes=every.boxes.of_classes(("bicycle", "car", "barrier")))
    part = score(tables, few, "ours").summary
    assert list(part["mean_dist_aps"]) == ["car", "bicycle", "barrier"]
    for name in part["mean_dist_aps"]:
        for key in ("label_aps", "label_tp_errors"):
            np.testing.assert_equal(part[key][name], whole[key][name])
    assert part["mean_ap"] == np.mean(list(part["mean_dist_aps"].values()))


def test_a_class_that_the_data_set_does_not_know_is_named_before_anything_is_run(data, tmp_path):
    strange = weights_of(tmp_path / "strange.safetensors", ("car", "tram"))
    with pytest.raises(ConfigError, match="the data set does not know: tram; it knows car, truck"):
        evaluate_weights(strange, data, "mini_val", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    tables = NuScenes(data)
    tokens = tuple(tables.samples_of("mini_val"))
    given = Submission(tokens=tokens, boxes=ScoredBoxes.empty(("car", "tram")), meta={})
    with pytest.raises(EvaluateError, match="knows no tram, so they cannot be scored; it knows"):
        score(tables, given, "mini_val")


def test_a_detector_without_its_sensors_is_refused(data, weights, tmp_path):
    with pytest.raises(NuScenesError, match="unknown sensors"):
        evaluate_weights(weights, data, "mini_val", tmp_path, sensors=("CAM_TOP",))


def test_a_report_names_the_sensors_that_were_used(data, tmp_path):
    teacher = random_weights("demo_teacher", tmp_path / "teacher.safetensors")
    out = tmp_path / "out"
    evaluate_weights(teacher, data, "one", out, sensors=("CAM_BACK",), score_threshold=0.5)
    assert " Sensors: CAM_BACK, LIDAR_TOP." in (out / "report.html").read_text()
    with pytest.raises(ConfigError, match=r"RADAR_FRONT: demo_teacher does not.* reads CAM_FRONT"):
        evaluate_weights(teacher, data, "one", out, sensors=("CAM_BACK", "RADAR_FRONT"))


def test_boxes_are_drawn_where_they_are(data, tmp_path):
    frame = NuScenesFrames(NuScenes(data), "mini_val")[0]
    # A box of class car straight ahead of each camera, one behind it, one around it.
    axis = frame.ego_T_cam[:, :3, 2]
    origin = frame.ego_T_cam[:, :3, 3]
    center = np.concatenate([origin + 10 * axis, origin - 10 * axis, origin])
    n = len(center)
    found = Detections(
        center=center,
        size=np.full((n, 3), 2.0),
        yaw=np.zeros(n),
        velocity=np.full((n, 2), np.nan),
        label=np.zeros(n, np.int64),
        score=np.ones(n),
        classes=NUSCENES_CLASSES,
    )
    frame = dataclasses.replace(frame, truth=None)
    nothing = found.select(found.score > 2)
    pictures = []
    for name, boxes in (
        ("with", found.select(np.arange(6))),
        ("without", nothing),
        ("all", found),
    ):
        draw_cameras(frame, boxes, tmp_path / f"{name}.png", tile_width=320)
        pictures.append(cv2.imread(str(tmp_path / f"{name}.png")).astype(int))
    changed = np.abs(pictures[0] - pictures[1]).max(-1) > 40
    height = changed.shape[0] // 2
    assert changed.shape[1] == 960
    for row in (0, 1):
        for column in (0, 1, 2):
            tile = changed[row * height : (row + 1) * height, column * 320 : (column + 1) * 320]
            _, xs = np.nonzero(tile)
            assert len(xs) > 50
            # The principal point of the hand-made cameras, 96 x 54 pixels, scaled to the tile.
            assert (xs.min() + xs.max()) / 2 == pytest.approx(47.2 / 96 * 320, abs=25)
    draw_bev(frame, found, tmp_path / "bev.png", title="a title")
    image = cv2.cvtColor(cv2.imread(str(tmp_path / "bev.png")), cv2.COLOR_BGR2RGB).astype(int)
    assert (np.abs(image - np.array(NUSCENES_COLORS["car"])).max(-1) < 30).sum() > 100


def test_a_missing_camera_and_an_empty_result_are_drawn(data, tmp_path):
    frame = NuScenesFrames(NuScenes(data), "mini_val")[0].without("CAM_FRONT")
    draw_cameras(frame, Detections.empty(NUSCENES_CLASSES), tmp_path / "cameras.png")
    assert cv2.imread(str(tmp_path / "cameras.png")).shape == (2 * 315, 3 * 560, 3)
    # A rig of fewer cameras: their sheet alone, a single one larger.
    nothing = Detections.empty(NUSCENES_CLASSES)
    for cameras, rows, columns, width in (
        (("CAM_FRONT",), 1, 1, 1120),
        (("CAM_FRONT", "CAM_FRONT_LEFT", "CAM_BACK"), 2, 2, 560),
    ):
        draw_cameras(frame, nothing, tmp_path / "few.png", cameras=cameras)
        height = round(width * 9 / 16)
        shape = cv2.imread(str(tmp_path / "few.png")).shape
        assert shape == (rows * height, columns * width, 3)
    draw_bev(frame, Detections.empty(NUSCENES_CLASSES), tmp_path / "bev.png")
    none = evaluate(ScoredBoxes.empty(NUSCENES_CLASSES), ScoredBoxes.empty(NUSCENES_CLASSES))
    draw_precision_recall(none, tmp_path / "curves.png")
    for name in ("cameras", "bev", "curves"):
        assert cv2.imread(str(tmp_path / f"{name}.png")) is not None


def test_report_is_one_page_and_escapes_text(tmp_path):
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((2, 2, 3), np.uint8))
    table = Table(title="a<b", columns=("x", "y"), rows=[["<script>", "1"]])
    write_report(
        tmp_path / "deep" / "r.html",
        title="T & U",
        tables=[table],
        pictures={'say "hi"': tmp_path / "p.png"},
        text="one\n\ntwo",
    )
    page = (tmp_path / "deep" / "r.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and "T &amp; U" in page
    assert page.count("<p>") == 2 and "&quot;hi&quot;" in page
    (tmp_path / "p.jpg").write_bytes(b"no picture")
    with pytest.raises(ReportError, match=r"p\.jpg: expected a PNG"):
        write_report(tmp_path / "r.html", title="t", pictures={"a": tmp_path / "p.jpg"})


def test_tables_show_undefined_errors_as_a_dash():
    overall, by_class = metrics_tables(
        evaluate(ScoredBoxes.empty(NUSCENES_CLASSES), ScoredBoxes.empty(NUSCENES_CLASSES)).summary
    )
    assert overall.rows[0] == ["0.000", "0.000", "1.000", "1.000", "1.000", "1.000", "1.000"]
    cone = next(row for row in by_class.rows if row[0] == "traffic_cone")
    assert cone == ["traffic_cone", "0.000", "1.000", "1.000", "-", "-", "-"]
