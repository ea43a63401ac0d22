"""Parts of a data set against the same data cut by other means."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from handmade import write_version
from typer.testing import CliRunner

from crkd_core.boxes import Boxes
from crkd_core.cli import app
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import DetectionRules
from crkd_core.evaluate.scoring import Countable, countable
from crkd_core.evaluate.slices import score_slices, slices_of, slices_table
from crkd_core.evaluate.submission import META_KEYS, Submission, write_submission

SCENES = ("scene-0061", "scene-0103", "scene-0553")
TEXTS = ("Terrain, training ground", "Night, Rain, parked cars", "after rainy day, NIGHT")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Three drives: dry by day, and two in the rain by night."""
    splits = {"every": list(SCENES), "wet": list(SCENES[1:]), "dry": [SCENES[0]]}
    root = write_version(tmp_path_factory.mktemp("data"), scenes=SCENES, splits=splits)
    path = root / "v1.0-mini" / "scene.json"
    rows = json.loads(path.read_text())
    for row in rows:
        row["description"] = TEXTS[SCENES.index(row["name"])]
    path.write_text(json.dumps(rows))
    path = root / "v1.0-mini" / "sample_annotation.json"
    rows = json.loads(path.read_text())
    first: dict = {}
    for row in rows:
        place = first.setdefault(row["instance_token"], row["translation"])
        if row["instance_token"] < "8":
            row["translation"] = place  # about half of all stand still
    path.write_text(json.dumps(rows))
    return root


def moved_truth(tables: NuScenes, split: str) -> Submission:
    """Every annotation twice, moved by up to 3 m, some of another speed, scores that tie."""
    rng = np.random.default_rng(5)
    tokens, parts = tables.samples_of(split), []
    for i, token in enumerate(tokens):
        truth = tables.truth_global(token)
        truth = truth.select(np.repeat(np.arange(len(truth)), 2))
        columns = {f.name: getattr(truth, f.name) for f in dataclasses.fields(Boxes)}
        n = len(truth)
        columns["center"] = truth.center + np.pad(rng.uniform(-2, 2, (n, 2)), ((0, 0), (0, 1)))
        columns["velocity"] = np.nan_to_num(truth.velocity) * rng.uniform(0, 2, (n, 1))
        score = rng.integers(0, 6, n) / 5
        more = {"sample": np.full(n, i), "attribute": truth.attribute, "score": score}
        parts.append(ScoredBoxes(**columns, **more))
    meta = dict.fromkeys(META_KEYS, False)
    return Submission(tokens=tuple(tokens), boxes=ScoredBoxes.joined(parts), meta=meta)


def part(scored, group, name):
    return next(one for one in scored if (one["group"], one["name"]) == (group, name))


@pytest.fixture(scope="module")
def every(data):
    tables = NuScenes(data)
    counted = countable(tables, moved_truth(tables, "every"), "every")
    return tables, counted, score_slices(tables, counted)


def assert_is(one, whole) -> None:
    """A part has the metrics of an evaluation, over the classes that have truth there."""
    held = one["mean_dist_aps"]
    assert held == {name: whole["mean_dist_aps"][name] for name in held}
    assert one["mean_ap"] == pytest.approx(np.mean(list(held.values())))
    assert one["mean_ap"] > 0


def test_weather_and_light_are_those_of_the_description(every):
    tables, _, scored = every
    for split, names in (("wet", ("rain", "night")), ("dry", ("dry", "day"))):
        # Samples of a submission that are not in a split of splits.json are passed over.
        alone = countable(tables, moved_truth(tables, "every"), split)
        for group, name in zip(("weather", "light"), names, strict=True):
            one = part(scored, group, name)
            assert one["boxes"] == len(alone.truth)
            assert_is(one, alone.score().summary)


def test_the_nearest_range_is_the_benchmark_with_a_shorter_range(every):
    tables, _, scored = every
    rules = DetectionRules(class_range=dict.fromkeys(DetectionRules().class_range, 20.0))
    near = countable(tables, moved_truth(tables, "every"), "every", rules=rules)
    one = part(scored, "range", "0-20 m")
    assert one["boxes"] == len(near.truth)
    assert_is(one, near.score().summary)


def test_every_box_is_in_one_range_one_weather_and_one_light(every):
    tables, counted, _ = every
    for group in ("range", "weather", "light"):
        parts = [one for one in slices_of(tables, counted) if one.group == group]
        assert (np.sum([one.truth for one in parts], 0) == 1).all()
        assert (np.sum([one.detections for one in parts], 0) == 1).all()


def test_a_detection_has_the_speed_of_what_it_detects(every):
    tables, counted, _ = every
    standing, moving = (one for one in slices_of(tables, counted) if one.group == "speed")
    truth, found = counted.truth, counted.detections
    speeds = np.linalg.norm(truth.velocity, axis=1)
    np.testing.assert_array_equal(standing.truth, speeds < 0.5)
    np.testing.assert_array_equal(moving.truth, speeds >= 0.5)
    taken = 0
    for i in range(len(found)):
        speed, nearest = np.linalg.norm(found.velocity[i]), 4.0
        for k in range(len(truth)):
            away = np.hypot(*(found.center[i] - truth.center[k])[:2])
            same = truth.sample[k] == found.sample[i] and truth.label[k] == found.label[i]
            if same and away < nearest:
                speed, nearest = speeds[k], away
        taken += nearest < 4
        assert standing.detections[i] == (speed < 0.5)
        assert moving.detections[i] == (speed >= 0.5)
    assert taken > 0
    assert standing.truth.any() and moving.truth.any()


def test_a_detection_near_nothing_that_says_no_speed_stands(every):
    tables, counted, _ = every
    found = counted.detections
    silent = dataclasses.replace(found, velocity=np.full_like(found.velocity, np.nan))
    standing, moving = (
        one
        for one in slices_of(tables, dataclasses.replace(counted, detections=silent))
        if one.group == "speed"
    )
    far = dataclasses.replace(silent, center=found.center + np.array([500.0, 0, 0]))
    apart = dataclasses.replace(counted, detections=far)
    alone, nothing = (one for one in slices_of(tables, apart) if one.group == "speed")
    assert alone.detections.all() and not nothing.detections.any()
    # Near an object that moves it is of that, whatever it says itself.
    assert moving.detections.any() and standing.detections.any()
    assert not (moving.detections & standing.detections).any()


def test_the_order_of_boxes_says_nothing(every):
    tables, counted, _ = every
    rng = np.random.default_rng(2)
    order, others = (rng.permutation(len(b)) for b in (counted.detections, counted.truth))
    mixed: Countable = dataclasses.replace(
        counted, detections=counted.detections.select(order), truth=counted.truth.select(others)
    )
    for one, same in zip(slices_of(tables, mixed), slices_of(tables, counted), strict=True):
        np.testing.assert_array_equal(one.detections, same.detections[order])
        np.testing.assert_array_equal(one.truth, same.truth[others])


def test_a_part_without_truth_is_there_and_has_no_metrics(every):
    tables, counted, _ = every
    nothing = np.zeros(0, np.int64)
    bare: Countable = dataclasses.replace(counted, truth=counted.truth.select(nothing))
    scored = score_slices(tables, bare)
    assert [set(one) for one in scored] == [{"group", "name", "boxes"}] * 9
    assert slices_table(scored).rows[0] == ["range", "0-20 m", "0", *["-"] * 7]


def test_the_command_writes_and_prints_them(data, tmp_path):
    write_submission(moved_truth(NuScenes(data), "wet"), tmp_path / "results.json")
    words = ["evaluate", "--submission", str(tmp_path / "results.json"), "--data", str(data)]
    words += ["--split", "wet", "--out", str(tmp_path / "out"), "--slices"]
    done = CliRunner().invoke(app, words, catch_exceptions=False)
    assert done.exit_code == 0 and "parts of the data" in done.output
    scored = json.loads((tmp_path / "out" / "slices.json").read_text())
    assert part(scored, "weather", "dry") == {"group": "weather", "name": "dry", "boxes": 0}
    assert part(scored, "speed", "moving")["nd_score"] is None
    assert "parts of the data" in (tmp_path / "out" / "report.html").read_text()
