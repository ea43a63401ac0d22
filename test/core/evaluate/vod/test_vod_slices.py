"""Parts of a View-of-Delft split: cases worked out by hand, and by leaving objects out."""

from __future__ import annotations

import json

import numpy as np
import pytest
from vod_objects import frame, thing

from crkd_core.evaluate.compare import CompareError, compare, parse
from crkd_core.evaluate.vod.metrics import evaluate, paired
from crkd_core.evaluate.vod.rules import VodRules
from crkd_core.evaluate.vod.slices import parts_table, score_parts
from crkd_core.files import write_json

RULES = VodRules()


def scored(truth, found) -> dict[str, dict]:
    return {part["name"]: part for part in score_parts(paired(truth, found), RULES)}


def test_each_range_is_scored_as_if_there_were_nothing_else():
    rng = np.random.default_rng(3)
    truth, found = [], []
    for _ in range(30):
        # Away from the limits: an answer beside its object is then in the same part.
        places = [(rng.uniform(-3, 3), z) for z in (12.0, 25.0, 40.0) if rng.random() < 0.8]
        turn, noise = rng.uniform(-3, 3), 0.4
        truth.append([thing("Car", x, z, turn=turn) for x, z in places])
        found.append(
            [
                thing("Car", x + rng.normal(0, noise), z, turn=turn, score=rng.random())
                for x, z in places
            ]
            + [thing("Car", 9.0, z, score=rng.random()) for z in (8.0, 24.0, 45.0)]
        )
    parts = scored([frame(*one) for one in truth], [frame(*one) for one in found])
    for name, low, high in (("0-20 m", 0, 20), ("20-30 m", 20, 30), ("30+ m", 30, np.inf)):

        def within(things, low=low, high=high):
            return frame(*(t for t in things if low <= np.hypot(t[1][10], t[1][12]) < high))

        alone = evaluate([within(t) for t in truth], [within(f) for f in found]).summary
        row = alone["entire_area"]["Car"]
        assert 0 < row["3d"] < 95
        # AOS is matched in the image, where things of different ranges overlap.
        mine = parts[name]["classes"]["Car"]
        for key in ("3d", "bev", "objects"):
            assert mine[key] == pytest.approx(row[key])
        assert [*parts[name]["classes"]] == ["Car"]
        assert parts[name]["mean"]["3d"] == pytest.approx(row["3d"])


@pytest.mark.parametrize("x", [-15.0, 15.0])
def test_range_counts_sideways_too(x):
    parts = scored([frame(thing(x=x, z=16.0))], [frame(thing(x=x, z=16.0, score=1))])
    ranges = {name: part["objects"] for name, part in parts.items() if part["group"] == "range"}
    assert ranges == {"0-20 m": 0, "20-30 m": 1, "30+ m": 0}
    assert parts["20-30 m"]["mean"]["3d"] > 0


def test_what_takes_a_more_hidden_object_is_no_false_alarm():
    truth = [frame(thing(), thing(x=8, hidden=1), thing(x=-8, hidden=2))]
    found = [frame(thing(score=0.3), thing(x=8, score=0.9), thing(x=-8, score=0.8))]
    parts = scored(truth, found)
    assert [parts[name]["objects"] for name in parts if "hidden" in name or name == "visible"] == [
        1,
        2,
        3,
    ]
    assert parts["visible"]["mean"]["3d"] == pytest.approx(100 / 11)
    # One that takes nothing is.
    found = [frame(thing(score=0.3), thing(x=16, score=0.9))]
    assert scored(truth, found)["visible"]["mean"]["3d"] == pytest.approx(50 / 11)


def test_a_part_without_objects_has_dashes_and_no_mean():
    parts = score_parts(paired([frame(thing())], [frame(thing(score=1))]), RULES)
    empty = next(part for part in parts if part["name"] == "30+ m")
    assert empty["objects"] == 0 and "mean" not in empty and empty["classes"] == {}
    rows = {row[1]: row for row in parts_table(parts, RULES).rows}
    assert rows["30+ m"][2:] == ["0", *"------"]
    assert rows["0-20 m"][2:] == ["1", "9.09", "9.09", "9.09", "9.09", "-", "-"]


def test_evaluations_are_compared_among_themselves_alone(tmp_path):
    for name, score in (("a", 1.0), ("b", 0.2)):
        truth, found = [frame(thing(), thing(x=8))], [frame(thing(score=score))]
        summary = evaluate(truth, found).summary
        (tmp_path / name).mkdir()
        write_json({"metrics": "View-of-Delft", **summary}, tmp_path / name / "metrics.json")
    one, two = tmp_path / "a", tmp_path / "b"
    table = compare(parse([f"x={one}", f"x={two}", f"y={one}"])[0], tmp_path / "out")
    # One point of eleven, of one of three classes.
    assert table.rows[0][:3] == ["x", "2", "3.03 ± 0.00"]
    assert table.rows[1][:3] == ["y", "1", "3.03"]
    assert (tmp_path / "out" / "compare.png").stat().st_size
    (tmp_path / "n").mkdir()
    errors = dict.fromkeys(("trans_err", "scale_err", "orient_err", "vel_err", "attr_err"), 1.0)
    nuscenes = {"mean_ap": 0.1, "nd_score": 0.1, "tp_errors": errors}
    (tmp_path / "n" / "metrics.json").write_text(json.dumps(nuscenes))
    with pytest.raises(CompareError, match="two benchmarks"):
        compare(parse([f"x={one}", f"z={tmp_path / 'n'}"])[0])
