import json
import math
from pathlib import Path

import pytest
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.evaluate.compare import SCORES, CompareError, compare, parse, read_scores
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import evaluate
from crkd_core.files import write_json
from crkd_core.train import curves
from crkd_core.train.curves import (
    compare_gradient_ratios,
    compare_losses,
    logged_runs,
    read_losses,
)
from crkd_core.train.run_folder import RunError

PNG = b"\x89PNG"


def evaluation(folder, mean_ap, *, data=None, sensors=None, classes=NUSCENES_CLASSES):
    """The metrics.json of an evaluation, with another mAP; as of old without data and sensors."""
    summary = evaluate(ScoredBoxes.empty(classes), ScoredBoxes.empty(classes)).summary
    of = {} if data is None else {"data": data}
    of |= {} if sensors is None else {"sensors": sensors}
    write_json({**summary, "mean_ap": mean_ap, **of}, folder / "metrics.json")
    return folder


def log(folder, *, csrd=7.0):
    """The log of a training run of 30 steps."""
    folder.mkdir()
    line = {"lr": 1e-3, "gradient_norm": 9.0} | ({} if csrd is None else {"csrd": csrd})
    lines = [{"step": step, "total": 100.0 / step, **line} for step in range(1, 31)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_any_name_can_be_drawn(tmp_path, recwarn):
    folders = [evaluation(tmp_path / "0", 0.25), log(tmp_path / "1")]
    groups, runs = parse([f"{name}={path}" for name in ("_a|b", r"$\frac$") for path in folders])
    compare(groups, tmp_path)
    compare_losses(runs, tmp_path)
    assert [str(one.message) for one in recwarn] == []
    assert (tmp_path / "losses.png").is_file() and (tmp_path / "compare.png").is_file()
    assert r"| _a\|b | 1 | 0.250 |" in (tmp_path / "compare.md").read_text()


def test_runs_of_one_name_are_averaged_with_their_sample_deviation(tmp_path):
    folders = [evaluation(tmp_path / str(i), ap) for i, ap in enumerate((0.25, 0.5, 0.75))]
    groups, runs = parse(
        [f"a={folders[0]}", f"b={folders[1]}", f"a={folders[2] / 'metrics.json'}"]
    )
    assert runs == {}
    table = compare(groups, tmp_path / "out")
    first, second = table.rows
    assert first[:3] == ["a", "2", "0.500 ± 0.354"]
    assert second[:3] == ["b", "1", "0.500"]
    assert len(first) == 2 + len(SCORES)
    assert (tmp_path / "out" / "compare.md").read_text().count("\n") == 4
    stored = json.loads((tmp_path / "out" / "compare.json").read_text())
    assert [run["mAP"] for run in stored["a"]] == [0.25, 0.75]
    assert (tmp_path / "out" / "compare.png").read_bytes().startswith(PNG)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "compare.json",
        "compare.md",
        "compare.png",
    ]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "nothing to compare"),
        (["runs/0"], "runs/0: there is nothing"),
        (["=runs/0"], "expected NAME=FOLDER"),
        (["a="], "expected NAME=FOLDER"),
        (["a=x"], "x: there is nothing"),
        (["a=empty"], "it has neither"),
        (["a=run", "a=run"], "a: run is given twice"),
        (["eval", "eval"], "eval: eval is given twice"),
        (["a=eval", "a=eval/metrics.json"], "a: eval/metrics.json is given twice"),
        (["a=eval/metrics.json", "a=same"], "a: same is given twice"),
        (["a=run", "a=empty/../run"], "a: empty/../run is given twice"),
    ],
)
def test_arguments_that_name_nothing_to_compare_are_refused(
    arguments, text, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    evaluation(tmp_path / "eval", 0.5)
    (tmp_path / "same").symlink_to(tmp_path / "eval")
    log(tmp_path / "run")
    with pytest.raises(CompareError, match=text):
        parse(arguments)


VAL = {"split": "val", "samples": 81, "digest": "0f"}


@pytest.mark.parametrize(
    ("other", "kind", "text"),
    [
        ({"data": {**VAL, "split": "test", "digest": "a1"}}, "samples", "test (81 samples, "),
        ({"data": {**VAL, "digest": "a1"}}, "samples", "val (81 samples, digest a1)"),
        ({"data": VAL, "classes": ("car", "bus")}, "classes", "bus, car"),
        ({"classes": ("car", "bus")}, "classes", "bus, car"),
    ],
)
def test_evaluations_of_other_data_are_not_averaged(other, kind, text, tmp_path):
    one = evaluation(tmp_path / "0", 0.25, data=VAL)
    two = evaluation(tmp_path / "1", 0.5, **other)
    with pytest.raises(CompareError, match=f"a: runs of one name .*their {kind} differ") as error:
        compare({"b": [one], "a": [one, two]})
    assert f"{two} has {text}" in str(error.value)
    table = compare({"a": [one], "b": [two], "c": [one]}, tmp_path / "out")
    (note,) = table.title.splitlines()[1:]
    assert note.startswith(f"Not of the same {kind}. a, c: ") and f"; b: {text}" in note
    assert note in (tmp_path / "out" / "compare.md").read_text()


def test_evaluations_of_other_sensors_are_not_averaged_and_may_be_compared(tmp_path):
    all_of_them = evaluation(tmp_path / "0", 0.5)
    radar = evaluation(tmp_path / "1", 0.25, sensors=["RADAR_FRONT"])
    text = f"a: runs of one name are averaged, and their sensors differ: {all_of_them} has all "
    with pytest.raises(CompareError, match=text):
        compare({"a": [all_of_them, radar]})
    assert compare({"all": [all_of_them], "radar": [radar]}).title == "nuScenes detection"


def test_evaluations_of_the_same_data_are_averaged_however_it_was_named(tmp_path):
    one = evaluation(tmp_path / "0", 0.25, data=VAL)
    two = evaluation(tmp_path / "1", 0.5, data={**VAL, "split": "scene-0003,scene-0012"})
    old = evaluation(tmp_path / "2", 0.75, classes=NUSCENES_CLASSES[::-1])
    table = compare({"a": [one, two, old], "b": [old]})
    assert table.title == "nuScenes detection" and table.rows[0][1] == "3"


def test_folders_say_themselves_what_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    evaluation(Path("eval"), 0.5)
    evaluation(Path("lr=1"), 0.5)
    log(Path("run"))
    evaluation(log(Path("both")), 0.5)
    evaluations, runs = parse(["eval", "a=run", "lr=1", "a=both", "run"])
    assert evaluations == {"eval": [Path("eval")], "lr=1": [Path("lr=1")], "a": [Path("both")]}
    assert runs == {"a": [Path("run"), Path("both")], "run": [Path("run")]}


def test_a_folder_without_metrics_is_refused(tmp_path):
    with pytest.raises(CompareError, match="crkd evaluate"):
        read_scores(tmp_path)
    (tmp_path / "metrics.json").write_text('{"mean_ap": 1}')
    with pytest.raises(CompareError, match="no nuScenes detection metrics"):
        read_scores(tmp_path)


def test_an_error_that_no_class_has_is_a_dash(tmp_path):
    path = evaluation(tmp_path / "eval", 0.5) / "metrics.json"
    summary = json.loads(path.read_text())
    summary["tp_errors"]["vel_err"] = math.nan
    path.write_text(json.dumps(summary))
    table = compare({"a": [path]})
    assert dict(zip(table.columns, table.rows[0], strict=True))["mAVE"] == "-"


def test_losses_show_how_each_changed(tmp_path):
    run = log(tmp_path / "run")
    assert list(read_losses(run)) == ["total", "csrd"]
    other = log(tmp_path / "other", csrd=9.0)
    plain = log(tmp_path / "plain", csrd=None)
    groups = {"crkd": [run, other], "plain": [plain]}
    table = compare_losses(groups, tmp_path / "out")
    # (100 + 50 + 100 / 3) / 3, (100 / 28 + 100 / 29 + 100 / 30) / 3
    total = "61.11 > 3.451"
    assert table.columns == ("loss", "crkd", "plain")
    assert table.rows == [["total", total, total], ["csrd", "8 > 8", "-"]]
    assert (tmp_path / "out" / "losses.png").read_bytes().startswith(PNG)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["losses.png"]
    assert compare_losses(groups).rows == table.rows


def test_every_run_is_seen_in_the_pictures_and_named(tmp_path, monkeypatch):
    """Also one without the loss of the first panel, and one that logged a single step."""
    drawn = []
    monkeypatch.setattr(curves, "write_figure", lambda figure, _: drawn.append(figure))
    groups = {}
    for name, loss, steps in (("ours", "csrd", 5), ("theirs", "response_box", 1)):
        lines = [
            {"step": step, "total": 2.0, loss: 1.0, f"share.{loss}": 0.5, f"cosine.{loss}": 0.1}
            for step in range(1, steps + 1)
        ]
        groups[name] = [tmp_path / name]
        (tmp_path / name).mkdir()
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (tmp_path / name / "metrics.jsonl").write_text(text)
    compare_losses(groups, tmp_path)
    compare_gradient_ratios(groups, tmp_path)
    for figure in drawn:
        first = figure.axes[0]
        assert [text.get_text() for text in first.get_legend().get_texts()] == [*groups]
        for axes in figure.axes:
            thick = [line for line in axes.lines if line.get_alpha() is None]
            assert all(len(line.get_xdata()) > 1 or line.get_marker() == "." for line in thick)
    assert len(drawn) == 2


def test_losses_say_when_their_mean_is_not_of_seeds_alone(tmp_path):
    runs = [log(tmp_path / name) for name in "abcd"]
    settings = {"seed": 1, "workers": 0, "steps": 30, "unlabelled": None}
    others = settings | {"seed": 2, "workers": 4}, settings | {"steps": 60}
    more = settings | {"unlabelled": {"share": 0.5}}
    for run, config in zip(runs, (settings, *others, more), strict=True):
        record = {"config": config, "digest": "1f", "split": "mini_train"}
        (run / "config.json").write_text(json.dumps(record))
    assert "differ" not in compare_losses({"a": runs[:2], "b": runs[2:3]}).title
    assert compare_losses({"a": runs[:3]}).title.endswith(
        "\na: a mean of runs that differ in steps (30, 60)"
    )
    title = compare_losses({"b": runs[2:3], "a": [runs[0], runs[3]]}).title
    assert "a: a mean" in title and "unlabelled.share (-, 0.5)" in title
    (runs[0] / "config.json").write_text('{"config": [3]}')
    assert "differ" not in compare_losses({"a": [runs[0], runs[2]]}).title


def test_the_command_compares_both_in_one_go(tmp_path):
    evaluation(tmp_path / "eval", 0.5)
    log(tmp_path / "run")
    words = [f"a={tmp_path / 'eval'}", f"a={tmp_path / 'run'}", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, ["compare", *words])
    assert done.exit_code == 0, done.exception
    assert "NDS" in done.output and "csrd" in done.output and "7 > 7" in done.output
    assert {"compare.md", "compare.png", "losses.png"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }


def test_a_run_that_logged_nothing_does_not_hide_the_others(tmp_path):
    run, empty = log(tmp_path / "run"), tmp_path / "empty"
    empty.mkdir()
    (empty / "metrics.jsonl").write_text('{"step": 1, "tot')
    words = ["compare", f"a={run}", f"b={empty}", f"a={empty}", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.exception
    assert done.output.count(f"warning: {empty}: nothing is logged yet") == 2
    table = compare_losses(logged_runs({"a": [run, empty], "b": [empty]})[0])
    assert table.rows == [["total", "61.11 > 3.451", "-"], ["csrd", "7 > 7", "-"]]
    assert (tmp_path / "out" / "losses.png").read_bytes().startswith(PNG)
    with pytest.raises(RunError, match="nothing is logged yet"):
        CliRunner().invoke(app, ["compare", str(empty)], catch_exceptions=False)
    evaluation(tmp_path / "eval", 0.5)
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "eval"), str(empty)])
    assert done.exit_code == 0 and "NDS" in done.output and "warning" in done.output


def test_curves_of_no_run_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        read_losses(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match="nothing is logged"):
        read_losses(tmp_path)
