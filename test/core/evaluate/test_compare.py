import json

import pytest

from crkd_core.evaluate.compare import SCORES, CompareError, compare, parse, read_scores
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import evaluate
from crkd_core.files import write_json
from crkd_core.train.curves import draw_curves, read_losses
from crkd_core.train.run_folder import RunError

PNG = b"\x89PNG"


def evaluation(folder, mean_ap):
    """The metrics.json of an evaluation, with another mAP."""
    summary = evaluate(ScoredBoxes.empty(), ScoredBoxes.empty()).summary
    write_json({**summary, "mean_ap": mean_ap}, folder / "metrics.json")
    return folder


def test_runs_of_one_name_are_averaged_with_their_sample_deviation(tmp_path):
    folders = [evaluation(tmp_path / str(i), ap) for i, ap in enumerate((0.25, 0.5, 0.75))]
    groups = parse([f"a={folders[0]}", f"b={folders[1]}", f"a={folders[2] / 'metrics.json'}"])
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
        (["runs/0"], "expected NAME=EVALUATION"),
        (["=runs/0"], "expected NAME=EVALUATION"),
        (["a=x", "a=x"], "given twice"),
    ],
)
def test_arguments_that_name_no_evaluation_are_refused(arguments, text):
    with pytest.raises(CompareError, match=text):
        parse(arguments)


def test_a_folder_without_metrics_is_refused(tmp_path):
    with pytest.raises(CompareError, match="crkd evaluate"):
        read_scores(tmp_path)
    (tmp_path / "metrics.json").write_text('{"mean_ap": 1}')
    with pytest.raises(CompareError, match="no nuScenes detection metrics"):
        read_scores(tmp_path)


def test_curves_show_how_each_loss_changed(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    lines = [
        {"step": step, "lr": 1e-3, "gradient_norm": 9.0, "total": 100.0 / step, "csrd": 7.0}
        for step in range(1, 31)
    ]
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(read_losses(run)) == ["total", "csrd"]
    ends = draw_curves([run], tmp_path / "curves.png")
    assert ends["csrd"] == (7.0, 7.0)
    assert ends["total"] == pytest.approx(
        ((100 + 50 + 100 / 3) / 3, (100 / 28 + 100 / 29 + 100 / 30) / 3)
    )
    assert (tmp_path / "curves.png").read_bytes().startswith(PNG)


def test_curves_of_no_run_are_refused(tmp_path):
    with pytest.raises(RunError, match=r"metrics\.jsonl"):
        read_losses(tmp_path)
    (tmp_path / "metrics.jsonl").write_text("")
    with pytest.raises(RunError, match="nothing is logged"):
        read_losses(tmp_path)
