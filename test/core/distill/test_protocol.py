"""Who may teach whom: both networks on held-out drives, before and after."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import pytest
from distill_tiny import settled
from model_tiny import TINY
from typer.testing import CliRunner

from crkd_core.cli import app
from crkd_core.config import RESPD_CHANNELS, CrkdConfig, TrainConfig, UnlabelledConfig
from crkd_core.distill.held_out import HeldOut, ProtocolError, check_apart, measure, measured
from crkd_core.distill.origins import check_origins
from crkd_core.distill.protocol import Protocol, judge
from crkd_core.evaluate.metrics import ERROR_NAMES
from crkd_core.model.checkpoint import load_weights, save_weights
from crkd_core.train.run_folder import Run

DRIVES = HeldOut(data=Path("data"), split="val")


def scores(mean_ap: float, *, aps: dict[str, float] | None = None, **errors: float) -> dict:
    return {
        "mean_ap": mean_ap,
        "nd_score": mean_ap / 2,
        "tp_errors": dict.fromkeys(ERROR_NAMES, 0.5) | errors,
        "mean_dist_aps": aps or {},
    }


def a_run(form=CrkdConfig, **changes) -> TrainConfig:
    crkd = form(teacher="t", teacher_checksum="0", **changes)
    return TrainConfig(detector=TINY, crkd=crkd)


def test_a_teacher_that_is_hardly_better_is_refused_with_the_numbers() -> None:
    teacher, student = scores(0.54, trans_err=0.1), scores(0.40)
    message = (
        r"teacher's mAP on val is 0\.540 and the student's 0\.400 .* got 0\.140.*--allow-weak"
    )
    with pytest.raises(ProtocolError, match=message):
        judge(a_run(), DRIVES, teacher=teacher, student=student)
    _, found = judge(a_run(), DRIVES, teacher=teacher, student=student, allow_weak=True)
    assert any("expected 0.15 more, got 0.140" in note for note in found.notes)
    _, found = judge(a_run(), DRIVES, teacher=scores(0.55), student=student)
    assert not any("expected" in note for note in found.notes)


def test_what_the_teacher_knows_no_better_is_left_out_of_the_boxes() -> None:
    teacher = scores(0.8, trans_err=0.3, scale_err=0.2, orient_err=0.5, vel_err=0.81)
    student = scores(0.5, trans_err=0.4, scale_err=0.3, orient_err=0.5, vel_err=0.54)
    config, found = judge(a_run(), DRIVES, teacher=teacher, student=student)
    assert config.crkd is not None
    assert config.crkd.respd_channels == ("place", "height", "size")
    assert found.left_out == {"rotation": (0.5, 0.5), "velocity": (0.81, 0.54)}
    assert "velocity (0.810, student 0.540): respd_box leaves that out" in found.notes[-1]
    config, found = judge(
        a_run(respd_channels=("velocity",)), DRIVES, teacher=teacher, student=student
    )
    assert config.crkd is not None
    assert "respd_box" not in config.crkd.chosen
    config, found = judge(
        a_run(losses={"respd_heatmap": 4.0}), DRIVES, teacher=teacher, student=student
    )
    assert config == a_run(losses={"respd_heatmap": 4.0})
    assert not found.left_out


def test_classes_that_the_teacher_knows_no_better_do_not_teach() -> None:
    good = {"trans_err": 0.1, "scale_err": 0.1, "orient_err": 0.1, "vel_err": 0.1}
    teacher = scores(0.8, aps={"car": 0.9, "bicycle": 0.0, "bus": 0.0, "barrier": 0.2}, **good)
    student = scores(0.5, aps={"car": 0.5, "bicycle": 0.1, "bus": 0.0, "barrier": 0.2})
    config, found = judge(a_run(), DRIVES, teacher=teacher, student=student)
    assert config.crkd is not None
    weights = dict(zip(TINY.classes, config.crkd.respd_class_weights, strict=True))
    assert found.left_out_classes == {"bicycle": (0.0, 0.1), "barrier": (0.2, 0.2)}
    assert weights["bicycle"] == weights["barrier"] == 0
    # As published for all others; that nobody finds a bus decides nothing.
    assert weights["bus"] == weights["car"] == 2 and weights["pedestrian"] == 1
    assert "bicycle (AP 0.000, student 0.100)" in found.notes[0]
    assert "RespD leaves these classes out" in found.notes[0]
    published = a_run(CrkdConfig.published)
    config, found = judge(published, DRIVES, teacher=teacher, student=student)
    assert config == published and not found.left_out_classes
    assert "as published, it teaches them" in found.notes[0]
    silent = a_run(losses={"reld": 1.0})
    config, found = judge(silent, DRIVES, teacher=teacher, student=student)
    assert config == silent and not found.left_out_classes


def test_the_published_form_stays_what_was_published() -> None:
    run = a_run(CrkdConfig.published)
    teacher, student = scores(0.8, vel_err=0.9), scores(0.5, vel_err=0.4)
    config, found = judge(run, DRIVES, teacher=teacher, student=student)
    assert config == run
    assert not found.left_out
    assert "as published, respd_box teaches it still" in found.notes[-1]


def test_an_unknown_error_decides_nothing() -> None:
    nan = float("nan")
    teacher = scores(0.8, trans_err=nan, scale_err=0.4, orient_err=0.4, vel_err=0.4)
    config, found = judge(a_run(), DRIVES, teacher=teacher, student=scores(0.5))
    assert config.crkd is not None
    assert config.crkd.respd_channels == tuple(RESPD_CHANNELS)
    assert not found.notes


def test_a_random_start_is_compared_with_nothing_and_says_so() -> None:
    config, found = judge(a_run(), DRIVES, teacher=scores(0.6), student=None)
    assert config == a_run()
    assert "starts at random" in found.notes[0]
    with pytest.raises(ProtocolError, match=r"0\.100 and the student's 0\.000"):
        judge(a_run(), DRIVES, teacher=scores(0.1), student=None)


def test_a_protocol_survives_its_file(tmp_path) -> None:
    full = Protocol(
        held_out=DRIVES,
        teacher=scores(0.8),
        start=scores(0.5),
        end=scores(0.6),
        left_out={"velocity": (0.8, 0.5)},
        left_out_classes={"bicycle": (0.0, 0.1)},
        notes=("one", "two"),
        is_unseen=True,
    )
    assert Protocol.read(tmp_path) is None
    full.write(tmp_path)
    place = dataclasses.replace(DRIVES, data=DRIVES.data.resolve())  # Told from any folder.
    assert Protocol.read(tmp_path) == dataclasses.replace(full, held_out=place)
    assert [row[:2] for row in full.table().rows] == [
        ["teacher", "0.800"],
        ["student, step 0", "0.500"],
        ["student, end", "0.600"],
    ]
    (tmp_path / "protocol.json").write_text("{}")
    with pytest.raises(ProtocolError, match=r"protocol\.json: cannot be read"):
        Protocol.read(tmp_path)


def test_samples_that_are_trained_on_are_not_held_out(tiny_world) -> None:
    trained = HeldOut(data=tiny_world, split="mini_train")
    with pytest.raises(ProtocolError, match=r"4 of 4 samples of mini_train are trained on"):
        check_apart(trained, trained)
    check_apart(HeldOut(data=tiny_world, split="mini_val"), trained)


def a_run_folder(path, data, split, **config) -> Path:
    """What a training leaves, as far as it tells of its drives."""
    changed = dataclasses.replace(TrainConfig(detector=TINY), **config)
    Run.start(path, changed, data=str(data), split=split)
    save_weights(settled(TINY), path / "weights.safetensors")
    return path


def test_networks_that_were_trained_on_held_out_drives_are_refused(tiny_world, tmp_path) -> None:
    held_out = HeldOut(data=tiny_world, split="mini_val")
    apart = a_run_folder(tmp_path / "apart", tiny_world, "mini_train")
    assert check_origins(held_out, [apart, apart / "weights.safetensors"]) == (True, [])
    seen = a_run_folder(tmp_path / "seen", tiny_world, "scene-0103")
    later = a_run_folder(
        tmp_path / "later", tiny_world, "mini_train", start=str(seen / "weights.safetensors")
    )
    for network in (seen, seen / "weights.safetensors", later):
        with pytest.raises(ProtocolError, match=r"was trained on .*4 of 4 samples of mini_val"):
            check_origins(held_out, [apart, network])
    gone = a_run_folder(tmp_path / "gone", tmp_path / "nowhere", "train")
    known, notes = check_origins(held_out, [gone])
    assert not known and "mini_val is not known: train of" in notes[0]
    alone = (seen / "weights.safetensors").rename(tmp_path / "alone.safetensors")
    assert check_origins(held_out, [alone]) == (False, [])
    both = tmp_path / "both"
    for version in ("v1.0-mini", "own"):
        shutil.copytree(tiny_world / "v1.0-mini", both / version)
    of_own = a_run_folder(tmp_path / "of_own", both / "own", "scene-0103")
    with pytest.raises(ProtocolError, match=r"was trained on .*own: 4 of 4 samples of mini_val"):
        check_origins(held_out, [of_own])
    # The command asks before anything is measured.
    words = ["distill", "--data", str(tiny_world), "--split", "mini_train", "--held-out"]
    words += ["mini_val", "--teacher", str(later), "--student", str(alone), "--out"]
    words += [str(tmp_path / "out"), "--preset", "demo_student", "--losses", "respd_heatmap=1"]
    save_weights(settled(TINY), seen / "weights.safetensors")
    with pytest.raises(ProtocolError, match=f"{seen}.* was trained on|{later}.* was trained on"):
        CliRunner().invoke(app, words, catch_exceptions=False)
    assert not (tmp_path / "out").exists()


def test_what_a_network_has_learned_from_is_followed(tiny_world, tmp_path) -> None:
    held_out = HeldOut(data=tiny_world, split="mini_val")

    def taught_by(name: str, teacher: Path, **config) -> Path:
        crkd = CrkdConfig(teacher=str(teacher), teacher_checksum="0")
        return a_run_folder(tmp_path / name, tiny_world, "mini_train", crkd=crkd, **config)

    seen = a_run_folder(tmp_path / "seen", tiny_world, "mini_val") / "weights.safetensors"
    apart = a_run_folder(tmp_path / "apart", tiny_world, "mini_train") / "weights.safetensors"
    student = taught_by("student", seen)
    later = taught_by("later", apart, start=str(student / "weights.safetensors"))
    for network in (student, later):
        with pytest.raises(ProtocolError, match=rf"{network} has learned from {seen.parent}, whi"):
            check_origins(held_out, [network])
    assert check_origins(held_out, [taught_by("good", apart, start=str(apart))]) == (True, [])
    # Nobody can tell who taught it, or who drew its boxes; what it was trained on itself counts.
    alone = tmp_path / "alone.safetensors"
    assert check_origins(held_out, [taught_by("untold", alone)]) == (False, [])
    own = a_run_folder(tmp_path / "own", tiny_world, "mini_val", start=str(alone))
    with pytest.raises(ProtocolError, match=f"{own} was trained on"):
        check_origins(held_out, [own])
    drives = UnlabelledConfig(data=str(tiny_world), split="mini_train", pseudo_labels="found.json")
    drawn = a_run_folder(tmp_path / "drawn", tiny_world, "mini_train", unlabelled=drives)
    assert check_origins(held_out, [drawn]) == (False, [])
    # Its teacher lay where its own folder was moved to: that one is gone.
    moved = taught_by("moved", tmp_path / "moved" / "weights.safetensors")
    assert check_origins(held_out, [moved]) == (False, [])


def test_a_title_claims_no_more_than_is_known() -> None:
    found = Protocol(held_out=DRIVES, teacher=scores(0.8), start=None)
    assert found.table().title == "on val, which this run does not train on"
    known = dataclasses.replace(found, is_unseen=True)
    assert known.table().title == "on val, which nothing was trained on"


def test_a_student_teaches_itself_and_is_measured(tiny_world, tmp_path, monkeypatch) -> None:
    """The control without LiDAR: its own checkpoint as teacher, heatmaps only, averaged."""
    file = tmp_path / "student.safetensors"
    save_weights(settled(TINY), file)
    out = tmp_path / "run"
    monkeypatch.chdir(tiny_world)
    arguments = ["distill", "--data", ".", "--split", "mini_train", "--out", str(out)]
    options = ["--teacher", str(file), "--student", str(file), "--preset", "demo_student"]
    options += ["--steps", "2", "--held-out", "mini_val", "--losses"]
    options += ["csrd=0,msfd_fused=0,msfd_camera=0,reld=0,respd_box=0"]
    changes = ["batch_size=1", "workers=0", "precision=fp32", "log_steps=1", "average=0.9"]
    changes += ["gradient_steps=1", "crkd.ramp_steps=0"]
    options += [word for change in changes for word in ("--set", change)]
    with pytest.raises(ProtocolError, match=r"before it is taught: expected 0\.15 more"):
        CliRunner().invoke(app, [*arguments, *options], catch_exceptions=False)
    assert not out.exists()
    done = CliRunner().invoke(
        app, [*arguments, *options, "--allow-weak-teacher"], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert "student, end" in done.output
    data = json.loads((out / "protocol.json").read_text())
    assert data["held_out"]["split"] == "mini_val"
    assert data["start"].keys() == data["end"].keys() == data["teacher"].keys()
    # It is its own teacher: the same scores, to the last digit.
    assert data["start"]["mean_ap"] == data["teacher"]["mean_ap"]
    run = Run.open(out)
    assert run.config.crkd is not None
    assert run.config.crkd.chosen == {"respd_heatmap"}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert all(line["share.respd_heatmap"] >= 0 for line in lines)
    assert load_weights(out / "weights.safetensors").config.name == "tiny"
    assert json.loads((out / "config.json").read_text())["data"] == str(tiny_world / "v1.0-mini")
    # Who goes on stands elsewhere.
    monkeypatch.chdir(tmp_path)
    arguments[2] = str(tiny_world)
    again = CliRunner().invoke(app, [*arguments, "--resume"], catch_exceptions=False)
    assert again.exit_code == 0
    assert dataclasses.asdict(Protocol.read(out)) == dataclasses.asdict(
        Protocol(
            held_out=HeldOut(data=tiny_world, split="mini_val"),
            teacher=data["teacher"],
            start=data["start"],
            end=data["end"],
            notes=tuple(data["notes"]),
        )
    )


def test_what_was_measured_once_is_not_measured_again(tiny_world, tmp_path) -> None:
    model, kept = settled(TINY), tmp_path / "measured"
    drives = HeldOut(data=tiny_world, split="mini_val")
    first = measured(model, drives, kept=kept)
    assert first == measure(model, drives)
    (file,) = kept.glob("*.json")
    # Whoever asks the same next is told what is written there.
    file.write_text(json.dumps({**first, "mean_ap": 0.75}))
    assert measured(settled(TINY), drives, kept=kept)["mean_ap"] == 0.75
    # Other sensors and other weights are other questions, and half a file is no answer.
    assert measured(model, drives, kept=kept, sensors=("CAM_FRONT",))["mean_ap"] != 0.75
    other = settled(TINY)
    next(iter(other.parameters())).data += 0.1
    assert measured(other, drives, kept=kept)["mean_ap"] != 0.75
    assert len([*kept.glob("*.json")]) == 3
    file.write_text("{")
    assert measured(model, drives, kept=kept) == first
