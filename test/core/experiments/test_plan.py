"""Lists of runs: what they hold, their order, their command lines."""

from __future__ import annotations

import dataclasses

import pytest
import typer
from handmade import write_version

from crkd_core.cli import app
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.experiments import commands
from crkd_core.experiments.arms import S0, STEPS, WARMUP, A, B, C
from crkd_core.experiments.drives import DrivesError, share_out
from crkd_core.experiments.lists import LISTS, runs_of
from crkd_core.experiments.plan import PlanError, RunSpec, in_order, label_encoded
from crkd_core.experiments.settings import ExperimentError, Settings

SETTINGS = Settings(
    data="/somewhere/world",
    drives={"train": ("a", "b"), "few": ("a",), "rest": ("b",), "validation": ("c",)},
    scale=0.1,
    changes=("batch_size=1",),
    more="/somewhere/more",
    more_drives=("m",),
)


@pytest.mark.parametrize("name", LISTS)
def test_every_list_is_whole_and_parents_come_first(name):
    runs = in_order(runs_of(name, seeds=2))
    before: set[str] = set()
    for run in runs:
        assert {*run.parents} <= before
        before.add(run.name)
    arms = {run.arm for run in runs}
    for run in runs:
        assert {arm for arm in (run.plain, run.self_taught) if arm} <= arms
        # Arms that are compared go on for as long, over the same drives.
        for other in runs:
            if run.plain == other.arm:
                assert (run.steps, run.warmup, run.drives) == (
                    *(other.steps, other.warmup, other.drives),
                )
                assert run.start == other.start


def test_runs_that_two_lists_share_are_the_same():
    known: dict[str, RunSpec] = {}
    for name in LISTS:
        for run in runs_of(name, seeds=1):
            assert known.setdefault(run.name, run) == run


def test_the_main_list_pairs_seed_by_seed():
    names = [run.name for run in in_order(runs_of("main"))]
    assert names[:4] == ["S0", "teacher", "radar_only", "camera_only"]
    assert names[4:9] == ["A-1", "B-1", "C-1", "D-1", "A-2"] and len(names) == 24


def test_what_learns_from_labels_waits_for_their_encoder():
    runs = runs_of("ladder", seeds=1)
    waiting = {run.arm for run in runs if run.needs_label_encoder}
    assert label_encoded(runs) == {"lidar"} == label_encoded(in_order(runs, ["label"]))
    # Nobody waits hours for an encoder that none of the runs reads.
    assert not label_encoded(in_order(runs, ["response", "ladder_boxes"]))
    assert {"label", "imkd", "ladder_both"} <= waiting
    assert not {"response", "ladder_A", "ladder_crkd"} & waiting


def test_pseudo_labels_are_learned_in_a_plain_training():
    runs = {run.arm: run for run in runs_of("few", seeds=1)}
    run = runs["rest_boxes"]
    assert run.parents == ("few_S0", "few_teacher") and run.self_taught == "rest_own_boxes"
    assert runs["rest_own_boxes"].parents == ("few_S0",)
    words, plain = (commands.training(one, SETTINGS) for one in (run, runs["few_A"]))
    assert words[0] == "train"
    more = words[words.index("--unlabelled") :][:6]
    assert more == [
        *("--unlabelled", "/somewhere/world", "--unlabelled-split", "b"),
        *("--pseudo-labels", "evaluations/few_teacher/rest/results.json"),
    ]
    # Nothing else tells it from the training without a teacher.
    place = words.index("--unlabelled")
    rest = words[:place] + words[place + 6 :]
    assert [word.replace("rest_boxes", "few_A") for word in rest] == plain
    made = commands.evaluation("few_teacher", SETTINGS, "rest")
    assert made[made.index("--split") + 1] == "b"
    assert made[made.index("--out") + 1] == "evaluations/few_teacher/rest"
    with pytest.raises(PlanError, match="pseudo-labels need drives without boxes"):
        dataclasses.replace(run, unlabelled=None)


def test_only_takes_what_it_needs_along():
    runs = runs_of("main", seeds=2)
    assert [run.name for run in in_order(runs, ["C-2", "A"])] == [
        *("S0", "A-1", "A-2", "teacher", "C-2"),
    ]
    with pytest.raises(PlanError, match="no run G in this list; it has S0, teacher"):
        in_order(runs, ["G"])


def test_plans_that_cannot_be_carried_out_are_refused():
    with pytest.raises(PlanError, match="no experiment 'mian'; there are main"):
        runs_of("mian")
    with pytest.raises(PlanError, match="A needs S0, which is not in the list"):
        in_order([A])
    with pytest.raises(PlanError, match="S0 needs A needs S0: a circle"):
        in_order([dataclasses.replace(S0, start="A"), A])
    with pytest.raises(PlanError, match="S0: two different runs"):
        in_order([S0, dataclasses.replace(S0, steps=1)])
    with pytest.raises(PlanError, match="needs a run to start from"):
        dataclasses.replace(C, start=None)
    with pytest.raises(PlanError, match="need a teacher"):
        dataclasses.replace(A, unlabelled="rest")


def test_command_lines_follow_from_run_and_settings():
    plain = commands.training(dataclasses.replace(A, seed=3), SETTINGS)
    assert plain[:7] == [
        "train",
        "--data",
        "/somewhere/world",
        "--split",
        "a,b",
        "--out",
        "runs/A-3",
    ]
    assert plain[7:11] == ["--preset", "demo_student", "--start", "runs/S0"]
    assert plain[11:13] == ["--steps", str(STEPS // 10)]
    changes = plain[14::2]
    assert plain[13::2] == ["--set"] * len(changes)
    assert changes[0] == f"warmup_steps={WARMUP // 10}"
    assert changes[-3:] == ["batch_size=1", "seed=3", "workers=0"]
    taught = commands.training(B, SETTINGS)
    assert taught[0] == "distill" and "--preset" not in taught
    assert taught[7:11] == ["--teacher", "runs/S0", "--student", "runs/S0"]
    more = dataclasses.replace(B, drives="few", unlabelled="rest", is_measured=True)
    words = commands.training(more, SETTINGS)
    place = words.index("--unlabelled")
    assert words[place : place + 4] == [
        *("--unlabelled", "/somewhere/world", "--unlabelled-split", "b"),
    ]
    assert words[place + 4 : place + 6] == ["--held-out", "c"]
    assert words[words.index("--split") + 1] == "a"
    words = commands.training(dataclasses.replace(B, unlabelled="more"), SETTINGS)
    place = words.index("--unlabelled")
    assert words[place + 1 : place + 4] == ["/somewhere/more", "--unlabelled-split", "m"]
    with pytest.raises(ExperimentError, match="say with --more where they are"):
        commands.training(
            dataclasses.replace(B, unlabelled="more"), dataclasses.replace(SETTINGS, more=None)
        )
    resumed = commands.training(B, SETTINGS, resume=True)
    assert resumed == [*taught[:7], "--resume"]
    text = commands.shown(commands.evaluation("B", SETTINGS, "validation"), SETTINGS)
    assert text == (
        "crkd evaluate --weights runs/B/weights.safetensors --data DATA --split validation "
        "--out evaluations/B/validation --slices --overwrite"
    )


def test_where_a_run_computes_does_not_tell_it_from_others():
    elsewhere = dataclasses.replace(SETTINGS, device="cuda", readers=3)
    for run in (S0, A, B):
        here, there = (commands.training(run, settings) for settings in (SETTINGS, elsewhere))
        assert here != there and commands.told(here) == commands.told(there)
        assert there[there.index("--device") + 1] == "cuda"
    assert "workers=3" in commands.training(S0, elsewhere)
    assert "workers=0" in commands.training(A, elsewhere)


def test_first_trainings_with_cameras_start_from_an_image_branch():
    settings = dataclasses.replace(SETTINGS, start_image="/somewhere/image.safetensors")
    words = commands.training(S0, settings)
    assert words[-1] == "start_image=/somewhere/image.safetensors"
    assert commands.shown(words, settings).endswith("--set start_image=image.safetensors")
    radar = next(run for run in runs_of("main") if run.arm == "radar_only")
    for run in (radar, A, B):
        assert not any("start_image" in word for word in commands.training(run, settings))


@pytest.mark.parametrize("name", LISTS)
def test_every_command_line_is_one_that_crkd_knows(name):
    verbs = typer.main.get_command(app)
    for run in runs_of(name, seeds=1):
        for resume in (False, True):
            verb, *words = commands.training(run, SETTINGS, resume=resume)
            verbs.get_command(None, verb).make_context(verb, words)
    verb, *words = commands.evaluation("A", SETTINGS, "validation")
    verbs.get_command(None, verb).make_context(verb, words)


def test_drives_are_shared_out_by_numbers_and_by_splits(tmp_path):
    scenes = tuple(f"scene-{n}" for n in range(6))
    splits = {"one": list(scenes[:2]), "two": list(scenes[4:])}
    tables = NuScenes(
        write_version(tmp_path, scenes=scenes, samples=2, files=False, splits=splits)
    )
    shared = share_out(tables)
    assert shared["train"] == scenes[:3] and shared["validation"] == scenes[3:4]
    assert shared["test"] == scenes[4:]
    assert shared["few"] == scenes[:1] and shared["rest"] == scenes[1:3]
    assert share_out(tables, "1,1,1")["test"] == scenes[2:3]
    named = share_out(tables, "one, two,two")
    assert named["train"] == scenes[:2] and named["validation"] == named["test"] == scenes[4:]
    # What is shared out is a split of every command.
    assert len(tables.samples_of(",".join(shared["train"]))) == 6
    for wish, text in (
        ("1,2", "expected numbers"),
        ("5,1,1", "at most 6"),
        ("0,1,1", "at least 1"),
        ("one,two,one", "2 training drives would be scored"),
    ):
        with pytest.raises(DrivesError, match=text):
            share_out(tables, wish)
    one = NuScenes(write_version(tmp_path / "one", scenes=("alone",), samples=2, files=False))
    with pytest.raises(DrivesError, match="expected 3 drives or more, to train, tune and test"):
        share_out(one)


def test_settings_of_a_method_are_for_the_runs_that_it_teaches():
    changes = ("crkd.alone=1", "imkd.ramp_steps=3", "average=0.9")
    settings = dataclasses.replace(SETTINGS, changes=changes)
    for name in LISTS:
        for spec in runs_of(name, seeds=1):
            words = commands.training(spec, settings)
            method = words[words.index("--method") + 1] if "--method" in words else "crkd"
            taught = method.split("+") if words[0] == "distill" else []
            ours = [change for change in changes if change.split(".")[0] in taught]
            assert [word for word in words if word in changes] == [*ours, "average=0.9"], name
