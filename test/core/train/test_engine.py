"""Accumulation, norms, averaging, TensorBoard, and what is refused."""

from __future__ import annotations

import dataclasses
import sys

import pytest
import torch
from train_tiny import FRAMES, a_config, logged

from crkd_core.config import ConfigError, PasteConfig
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import load_weights
from crkd_core.presets import demo_teacher
from crkd_core.train.average import Average
from crkd_core.train.log import LogError, Meter
from crkd_core.train.loop import TrainError, train
from crkd_core.train.rate import learning_rate_curve
from crkd_core.train.run_checkpoint import save
from crkd_core.train.run_folder import Run


def test_accumulated_batches_are_one_large_batch(tmp_path):
    large = a_config(norms="frozen", batch_size=4, learning_rate=1e-3, steps=4)
    small = dataclasses.replace(large, batch_size=1, accumulate=4)
    runs = [
        Run.start(tmp_path / str(i), c, data="", split="") for i, c in enumerate((large, small))
    ]
    for run in runs:
        train(run, FRAMES)
    for one, four in zip(*map(logged, runs), strict=True):
        assert one == pytest.approx(four, rel=1e-4, abs=1e-4)


def test_the_log_says_what_batchnorm_sees(tmp_path, capfd):
    run = Run.start(tmp_path / "a", a_config(steps=1, accumulate=3), data="", split="")
    model = train(run, FRAMES)
    assert [line["norm_samples"] for line in logged(run)] == [2]
    assert "6 samples a step; BatchNorm: statistics of 2 samples" in capfd.readouterr().err
    tracked = [b for name, b in model.named_buffers() if name.endswith("num_batches_tracked")]
    assert tracked and all(int(count) == 3 for count in tracked)
    run = Run.start(tmp_path / "b", a_config(steps=2, norms="frozen"), data="", split="")
    torch.manual_seed(run.config.seed)
    fresh = build_detector(run.config.detector).state_dict()
    trained = train(run, FRAMES).state_dict()
    assert "frozen statistics" in capfd.readouterr().err
    for name, value in trained.items():
        if "running" in name or "num_batches" in name:
            assert torch.equal(value, fresh[name]), name


def test_the_average_follows_its_formula_and_is_what_is_kept(tmp_path, monkeypatch):
    run = Run.start(
        tmp_path, a_config(average=0.5, steps=3, checkpoint_steps=1), data="", split=""
    )
    states: list[dict[str, torch.Tensor]] = []

    def watched(run, parts, *, step):
        states.append({k: v.clone() for k, v in parts.model.state_dict().items()})
        save(run, parts, step=step)

    monkeypatch.setattr("crkd_core.train.loop.save", watched)
    torch.manual_seed(run.config.seed)
    expected = build_detector(run.config.detector).state_dict()
    train(run, FRAMES)
    for step, state in enumerate(states, start=1):
        decay = min(0.5, (1 + step) / (10 + step))
        expected = {
            name: decay * own + (1 - decay) * state[name]
            if own.is_floating_point()
            else state[name]
            for name, own in expected.items()
        }
    kept = load_weights(tmp_path / "weights.safetensors").state_dict()
    for name, value in expected.items():
        torch.testing.assert_close(kept[name], value)
    assert not torch.equal(kept["head.shared.0.weight"], states[-1]["head.shared.0.weight"])
    checkpoint = torch.load(tmp_path / "checkpoint.pt")
    assert checkpoint["model"].keys() == checkpoint["average"].keys() == kept.keys()


def test_averages_are_no_part_of_the_gradient():
    model = build_detector(a_config().detector)
    average = Average(model, decay=0.9)
    assert not any(p.requires_grad for p in average.model.parameters())
    assert not average.model.training and model.training


def test_tensorboard_holds_what_the_log_holds(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run = Run.start(tmp_path, a_config(tensorboard=True, steps=2), data="", split="")
    train(run, FRAMES)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    for name in ("total", "lr", "data_wait"):
        assert [e.step for e in events.Scalars(name)] == [1, 2]
    values = [e.value for e in events.Scalars("total")]
    assert values == pytest.approx([line["total"] for line in logged(run)])


def test_the_log_says_the_learning_rate_of_the_step_itself(tmp_path):
    config = a_config(steps=4, warmup_steps=2)
    run = Run.start(tmp_path, config, data="", split="")
    train(run, FRAMES)
    curve = learning_rate_curve(config)
    expected = [config.learning_rate * curve(done) for done in range(4)]
    assert [line["lr"] for line in logged(run)] == pytest.approx(expected)


def test_tensorboard_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    run = Run.start(tmp_path, a_config(tensorboard=True), data="", split="")
    with pytest.raises(LogError, match="pip install tensorboard"):
        train(run, FRAMES)


def test_the_meter_counts_waiting():
    meter = Meter(step=0)
    assert list(meter.timed([1, 2])) == [1, 2]
    rates = meter.read(2)
    assert rates["steps_per_second"] > 0 and 0 <= rates["data_wait"] <= 1
    assert meter.waited == 0


def test_what_cannot_be_is_refused(tmp_path):
    with pytest.raises(TrainError, match="fp16 needs CUDA"):
        train(Run.start(tmp_path, a_config(precision="fp16"), data="", split=""), FRAMES)
    with pytest.raises(ConfigError, match=r"demo_student reads no LiDAR.*camera nor radar"):
        a_config(paste=PasteConfig(counts=(1,) * 10))
    with pytest.raises(ConfigError, match="wrong depths"):
        dataclasses.replace(demo_teacher(), paste=PasteConfig(counts=(1,) * 10))
    with pytest.raises(ConfigError, match="expected 10 numbers"):
        a_config(paste=PasteConfig(counts=(1, 2)))
    with pytest.raises(ConfigError, match=r"average: .*got 1"):
        a_config(average=1.0)
    with pytest.raises(ConfigError, match=r"accumulate: .*got 0"):
        a_config(accumulate=0)
