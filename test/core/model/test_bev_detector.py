import dataclasses

import numpy as np
import pytest
import torch
from model_tiny import TINY, batch, frame, roughen
from safetensors.torch import save_file
from torch.utils.flop_counter import FlopCounterMode
from transformers import ResNetBackbone, ResNetConfig

from crkd_core.config import BackboneConfig, ConfigError
from crkd_core.data.batch import collate
from crkd_core.infer.bench import random_frame
from crkd_core.model.build import build_detector
from crkd_core.model.camera.encoder import ImageError
from crkd_core.model.checkpoint import (
    CheckpointError,
    load_weights,
    read_metadata,
    save_weights,
)
from crkd_core.model.head import CenterHead
from crkd_core.presets import preset
from crkd_core.sensors import CAMERAS, RADARS


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return roughen(build_detector(TINY)).eval()


@torch.no_grad()
def test_the_demo_student_fits_two_cores():
    """The budget of the live demo: 4 GFLOP a frame (a multiplication and an addition are two)."""
    config = preset("demo_student").detector
    with FlopCounterMode(display=False) as counter:
        build_detector(config).eval()(collate([random_frame(config, seed=0)], config))
    assert 2e9 < counter.get_total_flops() <= 4e9


def maps(output):
    return torch.cat([torch.cat(list(task.values()), 1) for task in output.tasks], 1)


@torch.no_grad()
def test_shapes(model):
    output = model(batch(0, 1))
    assert [list(task) for task in output.tasks] == [
        ["reg", "height", "dim", "rot", "vel", "heatmap"]
    ] * 6
    assert [task["heatmap"].shape[1] for task in output.tasks] == [1, 2, 2, 1, 2, 2]
    assert maps(output).shape == (2, 70, 24, 16)
    assert output.camera_bev.shape == output.gated_camera.shape == (2, 8, 24, 16)
    assert output.radar_bev.shape == (2, 8, 24, 16)
    assert output.fused.shape == output.decoded.shape == (2, 16, 24, 16)
    assert output.depth_logits.shape == (12, 12, 4, 8)


@torch.no_grad()
def test_what_is_compared_of_the_camera_is_behind_its_gate(model):
    """g1 F1, with the gate's own channels: camera before radar."""
    output = model(batch(0, 1))
    joint = torch.cat([output.camera_bev, output.radar_bev], 1)
    gate = model.fuser.gate(joint).sigmoid()[:, : output.camera_bev.shape[1]]
    torch.testing.assert_close(output.gated_camera, gate * output.camera_bev)
    assert not torch.allclose(output.gated_camera, output.camera_bev)


@torch.no_grad()
def test_a_missing_camera_counts_for_nothing_whatever_its_pixels_hold(model):
    b = batch(0, 1)
    b.camera_present[0, 1] = b.camera_present[1, 5] = False
    before = maps(model(b))
    b.images[0, 1] = 255 - b.images[0, 1]
    b.grid_T_pixel[1, 5] = float("nan")
    torch.testing.assert_close(maps(model(b)), before, rtol=0, atol=0)
    b.images[0, 0] = 255 - b.images[0, 0]
    assert not torch.allclose(maps(model(b)), before)


@torch.no_grad()
def test_camera_only_and_radar_only_are_masks(model):
    whole = frame(0)
    radar_only = model(collate([whole.keeping(RADARS)], TINY))
    camera_only = model(collate([whole.keeping(CAMERAS)], TINY))
    both = model(collate([whole], TINY))
    assert not radar_only.camera_bev.any() and not camera_only.radar_bev.any()
    torch.testing.assert_close(radar_only.radar_bev, both.radar_bev)
    torch.testing.assert_close(camera_only.camera_bev, both.camera_bev)


@torch.no_grad()
def test_samples_do_not_see_each_other(model):
    mixed = collate([frame(0), frame(1).keeping(RADARS), frame(2).keeping(CAMERAS)], TINY)
    got = maps(model(mixed))
    for index, alone in enumerate([frame(0), frame(1).keeping(RADARS), frame(2).keeping(CAMERAS)]):
        expected = maps(model(collate([alone], TINY)))[0]
        torch.testing.assert_close(got[index], expected, atol=1e-4, rtol=1e-4)


def test_separate_regression_branches_are_the_published_head():
    head = dataclasses.replace(TINY.head, hidden="branch", branch_channels=4)
    model = build_detector(dataclasses.replace(TINY, head=head)).eval()
    assert len(model.head.outputs) == 36
    with torch.no_grad():
        assert maps(model(batch(0))).shape == (1, 70, 24, 16)


@torch.no_grad()
@pytest.mark.parametrize("hidden", ["branch", "task", "head"])
def test_a_fresh_head_claims_a_tenth_of_all_cells_and_nothing_of_boxes(hidden):
    head = CenterHead(6, dataclasses.replace(TINY.head, hidden=hidden))
    for layer in head.outputs:
        layer.weight.zero_()
    for task in head(torch.randn(1, 6, 4, 4)):
        for name, value in task.items():
            if name == "heatmap":
                assert (value.sigmoid() - 0.1).abs().max() < 1e-3
            else:
                assert value.abs().max() < 1


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_demo_student_is_small():
    assert count(build_detector(preset("demo_student").detector)) < 2.5e6


def test_crkd_r50_has_the_published_sizes_and_runs():
    config = preset("crkd_r50").detector
    model = build_detector(config).eval()
    millions = {
        "backbone": count(model.image.backbone),
        "neck": count(model.image.neck),
        "lift": count(model.lift),
        "radar": count(model.radar),
        "fuser": count(model.fuser),
        "groups": count(model.decoder.groups),
        "pyramid": count(model.decoder) - count(model.decoder.groups),
        "head": count(model.head),
        "total": count(model),
    }
    # The published camera-radar student with ResNet-50.
    assert {name: round(n / 1e6, 2) for name, n in millions.items()} == {
        "backbone": 23.51,
        "neck": 4.92,
        "lift": 0.07,
        "radar": 0.21,
        "fuser": 1.79,
        "groups": 11.26,
        "pyramid": 1.35,
        "head": 1.52,
        "total": 44.63,
    }
    # One camera is enough to go through every layer.
    whole = dataclasses.replace(frame(0), prepared=None).keeping(("CAM_FRONT", *RADARS))
    with torch.inference_mode():
        output = model(collate([whole], config))
    assert maps(output).shape == (1, 70, 180, 180)
    assert output.camera_bev.shape == (1, 80, 180, 180)
    assert output.camera_bev.any() and torch.isfinite(maps(output)).all()


def test_swin_backbone_runs():
    swin = BackboneConfig(kind="swin", embedding=8, depths=(1, 1, 1, 1), heads=(1, 2, 2, 2))
    camera = dataclasses.replace(TINY.camera, backbone=swin, neck_levels=(8, 16, 32))
    model = build_detector(dataclasses.replace(TINY, camera=camera)).eval()
    with torch.no_grad():
        assert maps(model(batch(0))).shape == (1, 70, 24, 16)


def test_backbone_weights_come_from_a_local_folder(tmp_path):
    torch.manual_seed(1)
    trained = build_detector(TINY)
    own = TINY.camera.backbone
    kept = ResNetBackbone(
        ResNetConfig(
            embedding_size=own.embedding,
            hidden_sizes=list(own.hidden),
            depths=list(own.depths),
            layer_type=own.layer,
        )
    )
    kept.load_state_dict(trained.image.backbone.state_dict())
    kept.save_pretrained(tmp_path)
    backbone = dataclasses.replace(TINY.camera.backbone, weights=str(tmp_path))
    config = dataclasses.replace(TINY, camera=dataclasses.replace(TINY.camera, backbone=backbone))
    torch.manual_seed(2)
    for a, b in zip(
        trained.image.backbone.parameters(),
        build_detector(config).image.backbone.parameters(),
        strict=True,
    ):
        assert torch.equal(a, b)


def test_configurations_that_cannot_be_are_refused(tmp_path):
    camera, image = TINY.camera, TINY.image
    wrong = {
        "expected some of the strides": dataclasses.replace(camera, neck_levels=(2, 8)),
        "holds no config.json": dataclasses.replace(
            camera, backbone=dataclasses.replace(camera.backbone, weights=str(tmp_path))
        ),
    }
    for message, bad in wrong.items():
        with pytest.raises(ImageError, match=message):
            build_detector(dataclasses.replace(TINY, camera=bad))
    with pytest.raises(ImageError, match="multiples of the coarsest stride 16"):
        build_detector(dataclasses.replace(TINY, image=dataclasses.replace(image, width=72)))


def test_a_swin_needs_heads_at_every_stage():
    with pytest.raises(ConfigError, match=r"backbone\.heads: expected 4 entries, got 0"):
        dataclasses.replace(TINY.camera, backbone=BackboneConfig(kind="swin"))


def test_images_of_another_size_are_refused(model):
    b = batch(0)
    with pytest.raises(ImageError, match="expected 32 x 64 pixels as configured, got 16 x 64"):
        model(dataclasses.replace(b, images=b.images[:, :, :16]))


def test_checkpoint_round_trip(model, tmp_path):
    path = tmp_path / "student.safetensors"
    save_weights(model, path, extra={"step": "12"})
    loaded = load_weights(path)
    assert not loaded.training
    assert loaded.config == TINY
    assert read_metadata(path)["step"] == "12"
    with torch.no_grad():
        assert torch.equal(maps(loaded(batch(0))), maps(model(batch(0))))
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_a_checkpoint_does_not_need_the_folder_its_backbone_started_from(model, tmp_path):
    backbone = dataclasses.replace(TINY.camera.backbone, weights=str(tmp_path / "gone"))
    config = dataclasses.replace(TINY, camera=dataclasses.replace(TINY.camera, backbone=backbone))
    model = build_detector(config, pretrained=False)
    save_weights(model, tmp_path / "a.safetensors")
    assert load_weights(tmp_path / "a.safetensors").config == config


def test_files_that_hold_no_detector_are_refused(model, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(CheckpointError, match="there is no such file"):
        load_weights(path)
    path.write_bytes(b"not a checkpoint at all")
    with pytest.raises(CheckpointError, match=r"cannot be read as safetensors.*copy it again"):
        load_weights(path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="no 'config' in the metadata"):
        load_weights(path)
    save_file({"a": torch.zeros(1)}, path, metadata={"config": '{"name": "x", "gird": {}}'})
    with pytest.raises(CheckpointError, match="did you mean 'grid'"):
        load_weights(path)
    with pytest.raises(CheckpointError, match="configuration's own"):
        save_weights(model, path, extra={"config": "{}"})


def test_tensors_that_do_not_fit_are_all_listed(model, tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(model, path)
    tensors = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
    del tensors["fuser.gate.bias"]
    tensors["more"] = torch.zeros(1)
    tensors["fuser.gate.weight"] = torch.zeros(2, 2)
    save_file(tensors, path, metadata=read_metadata(path))
    with pytest.raises(CheckpointError) as error:
        load_weights(path)
    for text in (
        "missing fuser.gate.bias",
        "unknown more",
        "expected (16, 16, 3, 3), found (2, 2)",
    ):
        assert text in str(error.value)


def test_one_seed_one_network():
    first, second = (np.concatenate([p.detach().ravel() for p in m.parameters()]) for m in twins())
    np.testing.assert_array_equal(first, second)


def twins():
    for _ in range(2):
        torch.manual_seed(5)
        yield build_detector(TINY)
