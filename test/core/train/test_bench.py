"""A step's parts are all of it, on one thread and on all."""

from __future__ import annotations

import pytest
import torch

from crkd_core.config import DRIVABLE
from crkd_core.infer.errors import InferError
from crkd_core.presets import preset
from crkd_core.train.batch import training_batch
from crkd_core.train.bench import PARTS, _annotated, bench_training


def test_the_parts_of_a_step_and_the_threads_are_told(capsys):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        found = bench_training(preset_name="demo_student", batch_size=1, rounds=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    whole = 60 / found["steps_per_minute"]
    assert abs(sum(found[part] for part in PARTS) - whole) < 1e-6
    assert all(found[part] > 0 for part in PARTS)
    # The network and what goes back through it are most of it, or a part was measured elsewhere.
    assert found["network"] + found["backward"] > whole / 2
    printed = capsys.readouterr().out
    assert all(f"{part} ms" in printed.replace("\n", " ") for part in ("batch", "backward"))


def test_a_network_with_memory_and_a_second_head_has_all_that_it_learns_from(capsys):
    config = preset("demo_imkd_segments")
    assert config.detector.temporal is not None
    batch = training_batch([_annotated(config.detector, 0)], config)
    assert len(batch.inputs.past) == config.detector.temporal.frames
    for past in batch.inputs.past:
        assert past.known.all() and past.batch.camera_present.all() and len(past.batch.radar)
    segments = batch.targets.segments
    assert segments is not None
    drivable = config.detector.segment_classes.index(DRIVABLE)
    assert 0.4 < float(segments[:, drivable].float().mean()) < 0.6
    assert bench_training(preset_name="demo_imkd_segments", batch_size=1, rounds=1)["network"] > 0
    assert "training demo_imkd_segments" in capsys.readouterr().out


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_is_not_there_is_told_as_of_a_detector(device):
    with pytest.raises(InferError, match="device"):
        bench_training(preset_name="demo_radar", device=device, rounds=1)
