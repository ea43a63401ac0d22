"""What is made of finished runs: intervals, signatures, tables, pictures."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from crkd_core.evaluate.compare import SCORES
from crkd_core.experiments.folder import Folder
from crkd_core.experiments.lists import runs_of
from crkd_core.experiments.plan import in_order
from crkd_core.experiments.plots import draw_arms, draw_parts
from crkd_core.experiments.results import published
from crkd_core.experiments.signatures import signatures
from crkd_core.experiments.statistics import interval, paired
from crkd_core.experiments.table import tables
from crkd_core.files import write_json

RUNS = in_order(runs_of("main", seeds=3))


def result(spec, value, **more):
    scores = dict.fromkeys(SCORES, value)
    slices = [
        {"group": "range", "name": "0-20 m", "boxes": 5, "mean_ap": value / 2},
        {"group": "weather", "name": "rain", "boxes": 0},
    ]
    one = {"scores": scores, "classes": {"car": value}, "slices": slices}
    start = {"validation": dict.fromkeys(SCORES, 0.3)}
    whole = {"steps": 10, "seconds": 90, "start": start, "validation": one, "signatures": []}
    return {"arm": spec.arm, **whole, **more}


@pytest.fixture
def results():
    """All but B of seed 2, all D and the camera: D is missing whole."""
    levels = {"A": 0.40, "B": 0.42, "C": 0.45}
    noise = {0: 0.0, 1: 0.01, 2: -0.01, 3: 0.005}
    return {
        spec.name: result(spec, levels.get(spec.arm, 0.3) + noise[spec.seed] * (spec.arm != "C"))
        for spec in RUNS
        if spec.arm not in ("D", "camera_only") and spec.name != "B-2"
    }


def test_an_interval_is_students():
    values = np.random.default_rng(0).normal(0.02, 0.01, 5)
    found = interval(list(values))
    low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert found.mean - found.half == pytest.approx(low)
    assert found.mean + found.half == pytest.approx(high)
    assert found.excludes_zero() == (low > 0 or high < 0)
    assert math.isnan(interval([0.1, math.nan]).half)
    assert not interval([0.1]).excludes_zero() and interval([0.1]).text() == "+0.100 (1)"
    assert interval([math.nan]) is None
    two = interval([0.1, 0.1, math.nan])
    assert two.text(of=2) == "+0.100 ± 0.000 *" and two.text(of=3) == "+0.100 ± 0.000 * (2)"
    assert paired({1: 0.5, 2: 0.4}, {2: 0.3, 3: 9.0}).text(1) == "+0.1 (1)"


def rows(table):
    return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}


def test_what_is_missing_is_shown_as_missing(results):
    scores, changes, parts, part_changes, runs = tables(
        RUNS, results, "validation", {"D-1": "failed with status 1: out of memory"}
    )
    assert [row[0] for row in scores.rows] == [
        *("S0", "teacher", "radar_only", "camera_only", "A", "B", "C", "D"),
    ]
    assert rows(scores)["B"]["runs"] == "2/3" and rows(scores)["B"]["mAP"] == "0.427"
    assert rows(scores)["D"]["runs"] == "0/3" and rows(scores)["D"]["mAP"] == "missing"
    assert rows(changes)["B - A"]["seeds"] == "2"
    assert rows(changes)["B - A"]["mAP"] == "+0.020 ± 0.000 *"
    assert rows(changes)["C - A"]["seeds"] == "3"
    assert "*" in rows(changes)["C - A"]["mAP"] and rows(changes)["D - B"]["mAP"] == "missing"
    # A part of the data without truth is no column.
    assert parts.columns == ("arm", "0-20 m")
    assert rows(parts)["C"]["0-20 m"] == "0.225"
    assert rows(part_changes)["D - A"]["0-20 m"] == "missing"
    assert [rows(part_changes)[name]["seeds"] for name in ("B - A", "C - A", "D - A")] == [
        *("2", "3", "0"),
    ]
    assert rows(runs)["B-2"]["state"] == "missing"
    assert rows(runs)["D-1"]["state"] == "failed with status 1: out of memory"
    assert rows(runs)["A-1"]["state"] == "sound" and rows(runs)["A-1"]["mAP start"] == "0.300"


def test_a_run_that_failed_says_so_beside_what_it_has(results):
    results["A-1"]["signatures"] = ["unstable gradient"]
    failed = dict.fromkeys(("A-1", "A-2"), "failed with status 1: out of memory")
    runs = rows(tables(RUNS, results, "validation", failed)[-1])
    assert runs["A-1"]["state"] == "failed with status 1: out of memory; unstable gradient"
    assert runs["A-2"]["state"] == "failed with status 1: out of memory"
    assert runs["A-2"]["validation"] == "0.390"


def test_a_score_of_fewer_pairs_says_how_many(results):
    results["C-3"]["validation"]["scores"]["mAVE"] = math.nan
    del results["C-1"]["validation"]["slices"][0]
    _, changes, _, part_changes, _ = tables(RUNS, results, "validation", {})
    line = rows(changes)["C - A"]
    assert line["seeds"] == "3" and line["mAVE"].endswith(" (2)")
    assert not line["mAP"].endswith(")")
    assert rows(part_changes)["C - A"]["seeds"] == "2"


def test_tables_are_of_all_seeds_that_have_results(results, tmp_path):
    """However few a later call asks for."""
    folder = Folder(tmp_path)
    (tmp_path / "results").mkdir()
    for name, one in results.items():
        write_json(one, folder.result(name))
    write_json({}, tmp_path / "results" / "other-99.json")
    found = published(folder, "main", seeds=1)
    assert {spec.name for spec in found} == {*results, "camera_only", "D-1"}
    assert [spec.name for spec in published(folder, "main", seeds=3)] == [s.name for s in RUNS]


def test_pictures_of_a_part_of_the_runs(results, tmp_path, recwarn):
    draw_arms(RUNS[:1], results, "validation", tmp_path / "one.png")  # Nothing to subtract.
    for draw in (draw_arms, draw_parts):
        for some in (results, {}):
            draw(RUNS, some, "validation", tmp_path / "a.png")
            assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
    assert [str(one.message) for one in recwarn] == []


def log(norm=lambda step: 5.0):
    """Fifty logged steps."""
    return [{"step": step, "gradient_norm": norm(step)} for step in range(10, 510, 10)]


def signs(lines=(), *, start=0.3, end=0.4, **ratios):
    return signatures(
        lines or log(),
        {name: [(step, *value) for step in (100, 200)] for name, value in ratios.items()},
        clip_norm=35.0,
        start={"validation": start},
        end={"validation": end},
    )


def test_signatures_of_failure():
    assert signs(csrd=(0.3, 0.1)) == []
    assert signs(end=0.29) == ["ends below its start on validation: mAP 0.300 > 0.290"]
    (found,) = signs(csrd=(3.0, 0.1))
    assert found.startswith("csrd dominates")
    (found,) = signs(reld=(0.0, 0.0))
    assert found.startswith("reld has died")
    wild = log(lambda step: 1e3 if step % 100 == 0 else 5.0)
    assert signs(wild) == ["unstable gradient: 10% of the steps above 10 times the median"]
    assert signs(log(lambda step: 50.0)) == ["clipped gradient: 100% of the steps above 35"]
    assert len(signs(log(lambda step: math.nan))) == 2


def test_signatures_begin_where_they_say():
    def wild(norm, every):
        return log(lambda step: norm if step % every == 0 else 5.0)

    assert signs(wild(49.0, 100)) == [] == signs(wild(51.0, 500))
    (found,) = signs(wild(51.0, 250))
    assert found == "unstable gradient: 4% of the steps above 10 times the median"
    half, more = (log(lambda step, n=n: 36.0 if step <= n else 34.0) for n in (250, 260))
    assert signs(half) == []
    assert signs(more) == ["clipped gradient: 52% of the steps above 35"]
