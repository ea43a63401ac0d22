"""The second head: off by default, its truth against polygons, its loss, its training."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from model_tiny import TINY, frame
from train_tiny import FRAMES, a_config

from crkd_core.area import Area
from crkd_core.boxes import Truth
from crkd_core.config import DRIVABLE, VEHICLE, ConfigError, SegmentsConfig, from_dict, to_dict
from crkd_core.config.detector import DetectorConfig
from crkd_core.data.augment import augment
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.infer.detector import Detector
from crkd_core.losses.segments import UNKNOWN, SegmentLoss, segment_targets, segment_truth
from crkd_core.losses.targets import TargetError
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import load_weights, save_weights
from crkd_core.model.decode import DecodeError
from crkd_core.model.output import ModelOutput
from crkd_core.train.batch import training_batch
from crkd_core.train.loop import train
from crkd_core.train.objective import TrainingLoss
from crkd_core.train.run_folder import Run

SEGMENTED = dataclasses.replace(TINY, segments=SegmentsConfig(channels=8))
#: Everything to the left of the vehicle.
LEFT = Area(polygons=((np.array([[-90.0, 0], [90, 0], [90, 90], [-90, 90]]),),))


def mapped(frame):
    return dataclasses.replace(frame, drivable=LEFT)


def a_truth(**changes) -> Truth:
    values = {
        "center": np.array([[4.0, 4, 0], [-5, -3, 0], [9, -9, 0]]),
        "size": np.array([[4.0, 4, 2]] * 3),
        "yaw": np.zeros(3),
        "velocity": np.zeros((3, 2)),
        "label": np.array([NUSCENES_CLASSES.index(n) for n in ("car", "pedestrian", "bus")]),
        "attribute": np.zeros(3, int),
        "num_lidar_points": np.array([4, 4, 0]),
        "num_radar_points": np.array([0, 1, 0]),
        "classes": NUSCENES_CLASSES,
    }
    return Truth(**(values | changes))


def test_a_second_head_adds_itself_and_changes_nothing_else():
    torch.manual_seed(0)
    plain = build_detector(TINY).state_dict()
    torch.manual_seed(0)
    both = build_detector(SEGMENTED).state_dict()
    assert {name.split(".")[0] for name in both.keys() - plain.keys()} == {"segments"}
    assert all(torch.equal(both[name], value) for name, value in plain.items())


def test_configurations_from_before_have_no_second_head():
    data = to_dict(TINY)
    assert data.pop("segments") is None
    assert from_dict(DetectorConfig, data) == TINY
    assert from_dict(DetectorConfig, to_dict(SEGMENTED)) == SEGMENTED


def test_what_the_head_cannot_tell_apart_is_refused():
    with pytest.raises(ConfigError, match="expected each once"):
        SegmentsConfig(classes=(VEHICLE, VEHICLE))
    with pytest.raises(ConfigError, match=r"knows none of segments\.vehicles, van; name those"):
        dataclasses.replace(TINY, segments=SegmentsConfig(vehicles=("van",)))
    with pytest.raises(ConfigError, match="expected one of 'vehicle', 'drivable_area'"):
        from_dict(SegmentsConfig, {"classes": ["walkway"]})


def test_truth_is_of_seen_vehicles_and_of_the_map():
    vehicle, drivable = segment_truth(a_truth(), LEFT, SEGMENTED)
    # The car covers 2 to 6 m in x and y; cells of 2 m, x from -24, y from -16.
    expected = np.zeros(SEGMENTED.grid.shape, np.uint8)
    expected[13:15, 9:11] = 1
    np.testing.assert_array_equal(vehicle, expected)
    np.testing.assert_array_equal(drivable, np.arange(16)[None].repeat(24, 0) >= 8)


def test_what_nobody_knows_is_marked():
    maps = segment_targets([None, a_truth()], [None, LEFT], SEGMENTED)
    assert maps.dtype == torch.uint8 and maps.shape == (2, 2, *SEGMENTED.grid.shape)
    assert (maps[0] == UNKNOWN).all() and (maps[1] != UNKNOWN).all()
    with pytest.raises(TargetError, match="sample 1 of the batch says nothing of the drivable"):
        segment_targets([a_truth(), a_truth()], [LEFT, None], SEGMENTED)
    alone = dataclasses.replace(TINY, segments=SegmentsConfig(classes=(VEHICLE,)))
    assert segment_targets([a_truth()], (), alone).shape[1] == 1


def test_the_map_turns_with_the_augmented_ground():
    """A vehicle's place before and after: drivable where it was drivable."""
    config = a_config()
    frame = mapped(FRAMES[0])
    for seed in range(4):
        rng = np.random.default_rng(seed)
        view = augment(frame, augment=config.augment, image=config.detector.image, rng=rng)
        for before, after in zip(frame.truth.center, view.truth.center, strict=True):
            side = np.sign(before[1])
            edge, far = view.drivable.polygons[0][0][:2], view.drivable.polygons[0][0][3]
            along = edge[1] - edge[0]
            across = np.array([-along[1], along[0]])
            same = np.sign(across @ (after[:2] - edge[0])) == np.sign(across @ (far - edge[0]))
            assert same == (side > 0)


def loss_of(logits, target):
    segments = torch.as_tensor(logits, dtype=torch.float32)
    output = ModelOutput(tasks=[], fused=segments, segments=segments)

    class Given:
        def need(self, name):
            assert name == "segments"
            return torch.as_tensor(target, dtype=torch.uint8)

    return float(SegmentLoss(SEGMENTED)(output, Given()))


def test_loss_by_hand():
    weight = SEGMENTED.segments.weight
    # One cell each: sure and right, undecided, sure and wrong, unknown.
    logits = [[[[20.0, 0.0, 20.0, -7.0]]]]
    target = [[[[1, 0, 0, UNKNOWN]]]]
    assert loss_of(logits, target) == pytest.approx(weight * (math.log(2) / 4 + 20.0) / 3)
    assert loss_of(logits, [[[[UNKNOWN] * 4]]]) == 0


def segmented_run(**changes):
    config = a_config(**changes)
    detector = dataclasses.replace(config.detector, segments=SegmentsConfig(channels=8))
    return dataclasses.replace(config, detector=detector)


def test_a_batch_carries_its_segments_and_no_polygons():
    config = segmented_run(augment=None)
    frame = mapped(FRAMES[0])
    batch = training_batch([frame], config)
    assert batch.inputs.drivable == ()
    expected = segment_truth(frame.truth, LEFT, config.detector)
    np.testing.assert_array_equal(batch.targets.segments[0].numpy(), expected)
    output = build_detector(config.detector)(batch.inputs)
    losses = TrainingLoss(config)(output, batch)
    others = sum(value for name, value in losses.items() if name != "total")
    assert losses["total"].item() == pytest.approx(others.item(), rel=1e-5)
    losses["segments"].backward()


def test_trained_saved_loaded_and_asked(tmp_path):
    config = segmented_run(steps=2, checkpoint_steps=2, warmup_steps=1)
    (tmp_path / "run").mkdir()
    run = Run(tmp_path / "run", config)
    model = train(run, [mapped(frame) for frame in FRAMES])
    save_weights(model, tmp_path / "w.safetensors")
    loaded = load_weights(tmp_path / "w.safetensors")
    assert loaded.config == config.detector
    detector = Detector(loaded)
    assert detector.segments is None
    detector(FRAMES[0])
    said = detector.segments
    assert said is not None and said.classes == (VEHICLE, DRIVABLE)
    assert said.probability.shape == (2, *config.detector.grid.shape)
    assert (said.probability >= 0).all() and (said.probability <= 1).all()
    np.testing.assert_array_equal(said.of(DRIVABLE), said.probability[1])
    plain = Detector(build_detector(TINY))
    plain(FRAMES[0])
    assert plain.segments is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_cells_that_mean_nothing_are_an_error_and_no_free_ground(value):
    detector = Detector(build_detector(SEGMENTED))
    detector(frame(0))
    with torch.no_grad():
        detector._model.segments.output.bias[1] = value
    with pytest.raises(DecodeError, match=r"^cells of vehicle, drivable_area are not finite"):
        detector(frame(0))
