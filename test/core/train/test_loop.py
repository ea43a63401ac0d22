import dataclasses
import itertools
import json
import warnings

import numpy as np
import pytest
import torch
from train_tiny import FRAMES, Interrupted, StopsAfter, a_config, logged

from crkd_core.losses.depth import DepthLossError
from crkd_core.model.checkpoint import load_weights
from crkd_core.train.log import Skips
from crkd_core.train.loop import TrainError, train
from crkd_core.train.objective import HEATMAP_SHARE
from crkd_core.train.rate import learning_rate_curve
from crkd_core.train.run_folder import Run, RunError
from crkd_core.train.samples import Positions, Views


def test_a_resumed_run_is_the_uninterrupted_run(tmp_path):
    whole = Run.start(tmp_path / "whole", a_config(), data="", split="")
    train(whole, FRAMES)
    broken = Run.start(tmp_path / "broken", a_config(), data="", split="")
    with pytest.raises(Interrupted):
        train(broken, StopsAfter(FRAMES, 7))  # in step 4; the last checkpoint is of step 2
    assert [line["step"] for line in logged(broken)] == [1, 2, 3]
    train(Run.open(tmp_path / "broken"), FRAMES, resume=True)
    assert logged(broken) == logged(whole)
    a, b = (load_weights(r.path / "weights.safetensors").state_dict() for r in (whole, broken))
    for name, value in a.items():
        assert torch.equal(value, b[name]), name


def test_a_resumed_run_needs_no_weights_that_it_started_from(tmp_path):
    first = Run.start(tmp_path / "first", a_config(steps=1), data="", split="")
    train(first, FRAMES)
    start = first.path / "weights.safetensors"
    config = a_config(steps=3, start=str(start))
    whole, broken = (Run.start(tmp_path / n, config, data="", split="") for n in ("a", "b"))
    train(whole, FRAMES)
    with pytest.raises(Interrupted):
        train(broken, StopsAfter(FRAMES, 5))  # In step 3; the checkpoint is of step 2.
    start.unlink()
    train(Run.open(broken.path), FRAMES, resume=True)
    assert logged(broken) == logged(whole)


def test_boxes_are_learned_alone_for_a_while_from_any_start(tmp_path):
    start = None
    for name in ("fresh", "on"):
        config = a_config(boxes_alone=(1 / 3, 2 / 3), start=start)
        run = Run.start(tmp_path / name, config, data="", split="")
        train(run, FRAMES)
        for line in logged(run):
            terms = sum(line[term] for term in ("heatmap", "reg", "height", "dim", "rot", "vel"))
            assert line["total"] == pytest.approx(terms, rel=1e-5)
        heat = {line["step"]: line["heatmap"] for line in logged(run)}
        assert max(heat[3], heat[4]) < 3 * HEATMAP_SHARE * min(heat[2], heat[5])
        start = str(run.path / "weights.safetensors")


def test_a_run_of_before_keeps_what_it_did_not_learn_alone(tmp_path):
    """Up to format 3 a start meant that boxes were never learned alone."""
    for start, after in ((None, (1 / 3, 2 / 3)), ("w.safetensors", (0.0, 0.0))):
        folder = tmp_path / str(start is None)
        Run.start(folder, a_config(boxes_alone=(1 / 3, 2 / 3), start=start), data="", split="")
        record = json.loads((folder / "config.json").read_text())
        assert Run.open(folder).config.boxes_alone == (1 / 3, 2 / 3)
        (folder / "config.json").write_text(json.dumps({**record, "format": 3}))
        assert Run.open(folder).config.boxes_alone == after


@pytest.mark.parametrize(("warmup", "warns"), [(5, False), (6, True), (300, True)])
def test_a_learning_rate_that_only_rises_is_said(tmp_path, warmup, warns):
    run = Run.start(tmp_path, a_config(warmup_steps=warmup), data="", split="")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        train(run, FRAMES)
    assert any("still rises when the 6 steps are over" in str(w.message) for w in said) == warns


def test_bfloat16_and_depth_supervision_train_too(tmp_path):
    run = Run.start(tmp_path, a_config(precision="bf16", depth_weight=1.0), data="", split="")
    train(run, FRAMES)
    assert all(line["depth"] > 0 for line in logged(run))
    assert all(
        p.dtype == torch.float32
        for p in load_weights(tmp_path / "weights.safetensors").parameters()
    )
    blind = [dataclasses.replace(frame, lidar=None) for frame in FRAMES]
    with pytest.raises(DepthLossError, match="needs LiDAR"):
        train(Run.start(tmp_path / "blind", a_config(depth_weight=1.0), data="", split=""), blind)


def test_a_training_starts_from_given_weights(tmp_path):
    """With a rate that moves nothing: what comes out is what went in."""
    first = Run.start(tmp_path / "first", a_config(steps=2), data="", split="")
    train(first, FRAMES)
    file = first.path / "weights.safetensors"
    still = a_config(steps=1, start=str(file), learning_rate=1e-12, norms="frozen", seed=1)
    second = Run.start(tmp_path / "second", still, data="", split="")
    train(second, FRAMES)
    a, b = (load_weights(r.path / "weights.safetensors").state_dict() for r in (first, second))
    for name, value in a.items():
        torch.testing.assert_close(value, b[name], rtol=0, atol=1e-6)


def test_a_run_folder_is_not_overwritten_and_not_invented(tmp_path):
    Run.start(tmp_path, a_config(), data="", split="")
    with pytest.raises(RunError, match="already holds a run; pass --resume"):
        Run.start(tmp_path, a_config(), data="", split="")
    with pytest.raises(RunError, match="holds no run"):
        Run.open(tmp_path / "nothing")
    with pytest.raises(RunError, match="pass --split day"):
        Run.open(Run.start(tmp_path / "day", a_config(), data="", split="day").path, split="night")
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "thesis.tex").write_text("")
    with pytest.raises(RunError, match="holds other files"):
        Run.start(tmp_path / "others", a_config(), data="", split="")
    (tmp_path / "checkpoint.pt").write_bytes(b"not a checkpoint")
    with pytest.raises(RunError, match="cannot resume"):
        train(Run.open(tmp_path), FRAMES, resume=True)


def test_an_empty_set_and_a_nan_are_named(tmp_path):
    with pytest.raises(TrainError, match="holds no samples"):
        train(Run.start(tmp_path / "empty", a_config(), data="", split=""), [])
    radar = FRAMES[0].radar.copy()
    radar[:, 5] = 3e38  # Too large to sum up.
    bad = [dataclasses.replace(FRAMES[0], radar=radar, token="broken-sample")]
    run = Run.start(tmp_path / "bad", a_config(), data="", split="")
    with pytest.raises(TrainError, match=r"not finite at step 1.*broken-sample"):
        train(run, bad)
    assert list(run.path.glob("not_finite_step1.pt"))
    # What is wrong is said, though the batch cannot be kept.
    run = Run.start(tmp_path / "full", a_config(), data="", split="")
    (run.path / "not_finite_step1.pt" / "other").mkdir(parents=True)
    with pytest.raises(TrainError, match=r"not finite.*broken-sample; the batch is not kept"):
        train(run, bad)


def test_a_gradient_that_is_not_finite_ends_the_run(tmp_path):
    """Steps that are left out one after the other would end in the weights of the start."""
    run = Run.start(tmp_path, a_config(depth_weight=1e30), data="", split="")
    with pytest.raises(
        TrainError, match=r"the gradient is not finite at step 1: .*samples sample"
    ):
        train(run, FRAMES)
    assert list(run.path.glob("not_finite_step1.pt"))
    assert not (run.path / "weights.safetensors").exists()


def test_with_a_loss_scale_steps_are_left_out_but_not_for_ever(tmp_path, monkeypatch):
    """The scale of fp16, which is for CUDA, around float32."""
    scaler = torch.amp.GradScaler
    monkeypatch.setattr(torch.amp, "GradScaler", lambda *_, **__: scaler("cpu"))
    monkeypatch.setattr("crkd_core.train.loop._MOST_SKIPPED", 3)
    well = Run.start(tmp_path / "well", a_config(steps=2), data="", split="")
    train(well, FRAMES)
    assert [line["skipped_steps"] for line in logged(well)] == [0, 0]
    ill = Run.start(tmp_path / "ill", a_config(depth_weight=1e36), data="", split="")
    with pytest.raises(TrainError, match="the gradient is not finite at step 3: "):
        train(ill, FRAMES)
    lines = logged(ill)
    assert [(line["skipped_steps"], line["gradient_norm"]) for line in lines] == [(1, None)] * 2


def test_skipped_steps_are_counted_until_they_are_read():
    skips = Skips()
    for skipped in (True, False, True, True):
        skips.take(skipped=skipped)
    assert (skips.row, skips.read(), skips.read()) == (2, 3, 0)
    skips.take(skipped=False)
    assert (skips.row, skips.read()) == (0, 0)


def test_every_sample_comes_once_an_epoch_and_views_repeat():
    config = a_config(augment=None)
    views = Views(FRAMES, config)
    for epoch in range(3):
        tokens = [views[epoch * 5 + place].token for place in range(5)]
        assert sorted(tokens) == sorted(f.token for f in FRAMES)
    assert list(Positions(a_config(steps=3), first_step=1)) == [[2, 3], [4, 5]]
    views = Views(FRAMES, a_config())
    np.testing.assert_array_equal(views[3].ego_T_cam, views[3].ego_T_cam)
    assert not np.array_equal(views[3].ego_T_cam, views[8].ego_T_cam)
    radar_only = Views(FRAMES, a_config(sensors=("RADAR_FRONT",)))[0]
    assert not radar_only.camera_present.any()
    assert radar_only.radar_present.tolist() == [True, False, False, False, False]


def test_learning_rate_curve():
    config = a_config(steps=100, warmup_steps=10, final_rate=0.01)
    factor = learning_rate_curve(config)
    assert factor(0) == pytest.approx(1 / 3)
    assert factor(5) == pytest.approx(2 / 3)
    assert factor(10) == pytest.approx(1)
    # A third of the way down the cosine is a half.
    assert factor(40) == pytest.approx(0.01 + 0.99 * 0.75)
    assert factor(100) == pytest.approx(0.01)
    values = [factor(step) for step in range(10, 101)]
    assert all(a > b for a, b in itertools.pairwise(values))
