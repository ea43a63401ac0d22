import dataclasses

import numpy as np
import pytest
import torch
from model_tiny import TINY, frame, lidar_frame, roughen, with_branches

from crkd_core.config import ConfigError, LidarConfig, to_dict
from crkd_core.data.batch import collate
from crkd_core.frame import FrameError
from crkd_core.infer.detector import Detector
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import load_weights, save_weights
from crkd_core.model.lidar.encoders import LidarBranchError
from crkd_core.presets import preset
from crkd_core.sensors import CAMERAS, RADARS

#: The published parts at the size of the tests.
SPARSE = dataclasses.replace(
    TINY,
    name="tiny teacher",
    camera=dataclasses.replace(TINY.camera, lidar_depth=True, lift_cell=1.0),
    radar=None,
    lidar=LidarConfig(voxel=(0.5, 0.5, 0.5), channels=(4, 6, 8), blocks=1),
)
PILLARS = with_branches("camera", "lidar")
BOTH = pytest.mark.parametrize("config", [SPARSE, PILLARS], ids=["sparse", "pillars"])


@BOTH
def test_forward_and_backward(config):
    torch.manual_seed(0)
    model = build_detector(config).train()
    output = model(collate([lidar_frame(0), lidar_frame(1)], config))
    assert output.radar_bev is None
    assert output.lidar_bev.shape == (2, model.lidar.channels, *config.grid.shape)
    assert output.fused.shape == (2, config.fused_channels, *config.grid.shape)
    loss = sum((v * torch.randn_like(v)).sum() for maps in output.tasks for v in maps.values())
    loss.backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None]
    # The neck of TINY leaves the last stage of the backbone out.
    assert [name for name in idle if "stages.3" not in name] == []


@BOTH
def test_detector_reads_lidar_and_no_radar(config, tmp_path):
    torch.manual_seed(0)
    model = roughen(build_detector(config)).eval()
    save_weights(model, tmp_path / "teacher.safetensors")
    detector = Detector.load(tmp_path / "teacher.safetensors", score_threshold=0.0)
    assert detector.config == config
    one = lidar_frame()
    found = detector(one)
    assert len(found) > 0
    for changed in (one.without(*RADARS), dataclasses.replace(one, radar=one.radar[:5])):
        np.testing.assert_array_equal(detector(changed).score, found.score)
    fewer = dataclasses.replace(one, lidar=one.lidar[:100])
    assert not np.array_equal(detector(fewer).score[:50], found.score[:50])
    # Blind cameras are fine: LiDAR is a sensor.
    assert len(detector(one.without(*CAMERAS, *RADARS))) > 0


@BOTH
def test_folded_and_bfloat16_agree_with_the_plain_network(config):
    torch.manual_seed(0)
    model = roughen(build_detector(config)).eval()
    batch = collate([lidar_frame()], config)
    with torch.no_grad():
        plain = model(batch)
        folded = Detector(model)._model(batch)
        half = Detector(model, precision="bf16")._model(batch)
    torch.testing.assert_close(folded.decoded, plain.decoded, rtol=1e-4, atol=1e-4)
    assert half.lidar_bev.dtype == torch.bfloat16
    error = (half.decoded.float() - plain.decoded).abs().mean()
    assert error < 0.05 * plain.decoded.abs().mean()


@BOTH
def test_training_step_in_mixed_precision(config):
    torch.manual_seed(0)
    model = build_detector(config).train()
    batch = collate([lidar_frame(0), lidar_frame(1)], config)
    exact = model(batch).lidar_bev
    with torch.autocast("cpu", torch.bfloat16):
        output = model(batch)
    error = (output.lidar_bev.float() - exact).abs().mean()
    assert error < 0.05 * exact.abs().mean()
    loss = sum(v.float().square().sum() for maps in output.tasks for v in maps.values())
    loss.backward()
    for name, parameter in model.lidar.named_parameters():
        assert parameter.grad.isfinite().all() and parameter.grad.abs().sum() > 0, name


@BOTH
def test_frame_without_lidar_is_refused(config):
    detector = Detector(build_detector(config))
    with pytest.raises(FrameError, match=r"has no LiDAR.* 10 LiDAR sweeps"):
        detector(frame())
    with pytest.raises(FrameError, match="frame 1 has no LiDAR"):
        collate([lidar_frame(0), frame(1)], config)
    with pytest.raises(LidarBranchError, match="the batch has none"):
        detector._model(collate([frame()], TINY))


def test_camera_radar_network_is_what_it_was():
    keys = set(build_detector(TINY).state_dict())
    assert {key.partition(".")[0] for key in keys} == {
        "image",
        "lift",
        "radar",
        "fuser",
        "decoder",
        "head",
    }


def test_loaded_weights_give_the_same_numbers(tmp_path):
    torch.manual_seed(0)
    model = roughen(build_detector(SPARSE)).eval()
    save_weights(model, tmp_path / "w.safetensors")
    batch = collate([lidar_frame()], SPARSE)
    with torch.no_grad():
        torch.testing.assert_close(
            load_weights(tmp_path / "w.safetensors")(batch).decoded, model(batch).decoded
        )


def test_lidar_options_without_lidar_are_refused():
    for change in ({"lidar_depth": True}, {"lift_cell": 1.0}):
        camera = dataclasses.replace(TINY.camera, **change)
        with pytest.raises(ConfigError, match=next(iter(change))):
            dataclasses.replace(TINY, camera=camera)


@pytest.mark.parametrize(("name", "millions"), [("lc_r50", 46.19), ("lc_swint", 49.34)])
def test_published_sizes(name, millions):
    config = preset(name).detector
    model = build_detector(config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_how_teachers_are_trained_otherwise_than_students():
    """docs/method.md 1.3, "Training"."""

    def settings(name):
        """Keys of a preset that are not of its detector, but for its head."""
        run = to_dict(preset(name))
        detector = run.pop("detector")
        nested = {"augment": run.pop("augment"), "head": detector["head"]}
        return run | {f"{a}.{b}": v for a, parts in nested.items() for b, v in parts.items()}

    def others(teacher, student):
        a, b = settings(teacher), settings(student)
        assert a.keys() == b.keys()
        return {key: a[key] for key in a if a[key] != b[key]}

    for name in ("lc_r50", "lc_swint"):
        found = others(name, "crkd_r50")
        assert found.keys() == {"augment.bev_rotation", "head.code_weights", "paste"}
        assert found["augment.bev_rotation"] == 45
        assert found["head.code_weights"] == [1] * 8 + [0.2] * 2
    drops = {key: 0.0 for key in settings("demo_teacher") if key.startswith("augment.drop_")}
    assert len(drops) == 4 and others("demo_teacher", "demo_student") == drops


def test_demo_teacher_has_the_shapes_of_the_demo_student():
    teacher, student = preset("demo_teacher").detector, preset("demo_student").detector
    for name in ("grid", "image", "camera", "fused_channels", "decoder", "head", "classes"):
        assert getattr(teacher, name) == getattr(student, name), name
    model = build_detector(teacher)
    assert sum(p.numel() for p in model.parameters()) < 2.5e6
