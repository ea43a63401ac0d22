"""What a training step eats: made of Frames alone, so in the loader's workers too."""

from __future__ import annotations

import dataclasses
import pickle

import pytest
import torch
from train_tiny import FRAMES, a_config

from crkd_core.data.batch import collate
from crkd_core.losses.depth import DepthLossError, depth_truth
from crkd_core.losses.targets import TargetError, targets_of
from crkd_core.train.batch import one_step, training_batch


def test_a_batch_brings_its_targets_along() -> None:
    config = a_config(depth_weight=0.5)
    made = training_batch(FRAMES[:2], config)
    expected = targets_of([frame.truth for frame in FRAMES[:2]], config.detector)
    assert torch.equal(made.targets.heatmap, expected.heatmap)
    assert made.targets.divisors == expected.divisors
    # The network reads cameras and radars; depth is learned from fresh returns alone.
    assert training_batch(FRAMES[:2], a_config()).inputs.lidar is None
    again = pickle.loads(pickle.dumps(made))
    torch.testing.assert_close(
        again.targets.code, made.targets.code, rtol=0, atol=0, equal_nan=True
    )


def test_depth_targets_are_those_of_the_batch_itself() -> None:
    config = a_config(depth_weight=0.5)
    seen = collate(FRAMES[:1], config.detector)
    made = training_batch(FRAMES[:1], config)
    depth = depth_truth(made.inputs, config.detector)
    assert depth.shape[0] == int(made.inputs.camera_present.sum())
    assert depth.any()
    assert torch.equal(depth, depth_truth(seen, config.detector))


def test_depth_is_not_learned_without_lidar() -> None:
    blind = dataclasses.replace(FRAMES[0], lidar=None)
    with pytest.raises(DepthLossError, match="lidar_sweeps of 1"):
        training_batch([blind], a_config(depth_weight=0.5))


def test_frames_without_truth_are_refused() -> None:
    blind = dataclasses.replace(FRAMES[0], truth=None)
    with pytest.raises(TargetError, match=r"samples \[1\] of the batch have no truth"):
        training_batch([FRAMES[1], blind], a_config())


def test_a_batch_alone_is_its_own_step() -> None:
    made = training_batch(FRAMES[:2], a_config())
    (step,) = one_step([made])
    assert step.targets.divisors == made.targets.divisors
    first, second = one_step([made, made])
    assert first.targets.divisors == second.targets.divisors
    for (peaks, boxes), own in zip(first.targets.divisors, made.targets.divisors, strict=True):
        # Twice the boxes in two parts; the small number that keeps boxes off 0 is added once.
        assert boxes == pytest.approx(own[1], abs=1e-4)
        assert peaks in (own[0], 0.5)
