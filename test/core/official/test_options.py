"""Options that released models need, on small networks: shapes, gradients, folding, files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from model_tiny import TINY, batch, frame, roughen

from crkd_core.config import BackboneConfig, DetectorConfig
from crkd_core.infer.fold import fold_batch_norms
from crkd_core.model.build import build_detector
from crkd_core.model.camera.encoder import ImageError, PyramidNeck
from crkd_core.model.camera.lift import Lift
from crkd_core.model.checkpoint import load_weights, save_weights
from crkd_core.model.output import ModelOutput


def variant(
    *, calibration: str = "none", fuser: str = "gated", slots: int | None = None
) -> DetectorConfig:
    radar = dataclasses.replace(TINY.radar, calibration=calibration, points_per_pillar=slots)
    return dataclasses.replace(TINY, radar=radar, fuser=fuser)


def swin() -> DetectorConfig:
    """A small Swin with the pyramid neck, and every other option of a distilled student."""
    backbone = BackboneConfig(
        kind="swin", embedding=8, depths=(1, 2, 1, 1), heads=(1, 2, 2, 4), hidden=()
    )
    camera = dataclasses.replace(
        TINY.camera,
        backbone=backbone,
        neck="lss_fpn",
        neck_levels=(8, 16, 32),
        neck_channels=12,
        cell_rounding="trunc",
    )
    return dataclasses.replace(variant(calibration="path", slots=20), camera=camera)


def heads(output: ModelOutput) -> torch.Tensor:
    return torch.cat([maps for task in output.tasks for maps in task.values()], 1)


@pytest.mark.parametrize("place", ["none", "path", "side"])
def test_place_of_the_calibration_block(place: str) -> None:
    torch.manual_seed(0)
    model = roughen(build_detector(variant(calibration=place)))
    keys = {key.partition(".")[0] for key in model.state_dict()}
    assert ("calibration" in keys) == (place != "none")
    trained = model.train()(batch())
    answered = model.eval()(batch())
    if place == "none":
        assert trained.radar_activation is None
        assert answered.radar_activation is None
        return
    activation = trained.radar_activation
    assert activation is not None
    assert activation.shape == (2, 1, *TINY.grid.shape)
    assert (activation >= 0).all()
    assert (answered.radar_activation is None) == (place == "side")
    # Gradients of the answer reach the block where it is in the path.
    parameters = list(model.calibration.blocks.parameters())
    reached = torch.autograd.grad(heads(trained).square().sum(), parameters, allow_unused=True)
    assert all((gradient is not None) == (place == "path") for gradient in reached)


def test_side_branch_leaves_the_answer_alone() -> None:
    torch.manual_seed(0)
    plain = roughen(build_detector(variant())).eval()
    side = build_detector(variant(calibration="side"))
    missing = side.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert all(key.startswith("calibration.") for key in missing)
    assert torch.equal(heads(plain(batch())), heads(side.eval()(batch())))


def test_plain_fuser_passes_the_camera_on() -> None:
    torch.manual_seed(0)
    model = build_detector(variant(fuser="conv")).eval()
    output = model(batch())
    assert torch.equal(output.gated_camera, output.camera_bev)
    assert not any("gate" in key for key in model.state_dict())


@torch.no_grad()
def test_everything_at_once_folds_and_survives_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = roughen(build_detector(swin())).eval()
    expected = heads(model(batch()))
    torch.testing.assert_close(
        heads(fold_batch_norms(model)(batch())), expected, rtol=1e-4, atol=1e-4
    )
    save_weights(model, tmp_path / "x.safetensors")
    loaded = load_weights(tmp_path / "x.safetensors")
    assert loaded.config == swin()
    assert torch.equal(heads(loaded(batch())), expected)


def test_pyramid_neck_by_hand() -> None:
    torch.manual_seed(0)
    neck = PyramidNeck([3, 4, 5], channels=6).eval()
    fine, middle, coarse = torch.rand(1, 3, 8, 12), torch.rand(1, 4, 4, 6), torch.rand(1, 5, 2, 3)

    def up(x: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.interpolate(x, scale_factor=2, mode="bilinear")

    inner = neck.smooth[1](neck.lateral[1](torch.cat([middle, up(coarse)], 1)))
    outer = neck.smooth[0](neck.lateral[0](torch.cat([fine, up(inner)], 1)))
    found = neck((fine, middle, coarse))
    assert found.shape == (1, 6, 8, 12)
    torch.testing.assert_close(found, outer)


def test_pyramid_neck_needs_the_lifted_stride_first() -> None:
    camera = dataclasses.replace(swin().camera, neck_levels=(16, 32))
    with pytest.raises(ImageError, match="the first of them the stride 8"):
        build_detector(dataclasses.replace(swin(), camera=camera))


@pytest.mark.parametrize("rounding", ["floor", "trunc"])
def test_rounding_of_the_lift_point_by_point(rounding: str) -> None:
    camera = dataclasses.replace(TINY.camera, cell_rounding=rounding)
    module = Lift(4, camera, TINY.image, TINY.grid)
    views = batch(3)
    index = module.index(views.grid_T_pixel, views.camera_present)
    low, cell, (size_x, size_y) = TINY.grid.low, TINY.grid.cell, TINY.grid.shape
    z_low, z_high = camera.z
    round_ = np.trunc if rounding == "trunc" else np.floor
    cells = []
    for matrix in views.grid_T_pixel[0].double().numpy():
        for pixel in module.pixels.double().numpy():
            for depth in module.depths.double().numpy():
                x, y, z = matrix[:3, :3] @ (pixel * depth) + matrix[:3, 3]
                i, j = round_((x - low[0]) / cell), round_((y - low[1]) / cell)
                k = round_((z - z_low) / (z_high - z_low))
                if 0 <= i < size_x and 0 <= j < size_y and k == 0:
                    cells.append(int(i) * size_y + int(j))
    counts = np.bincount(cells, minlength=size_x * size_y)
    found = np.diff(index.offset.numpy())
    assert len(found) == len(counts)
    # A point on a border may fall either way in float32.
    assert np.abs(found - counts).sum() <= 4
    assert counts.sum() > 500


def test_frame_without_points_through_padded_pillars() -> None:
    torch.manual_seed(0)
    model = roughen(build_detector(variant(slots=20))).eval()
    empty = batch(1, 2)
    none = dataclasses.replace(empty, radar=empty.radar[:0], radar_sample=empty.radar_sample[:0])
    output = model(none)
    assert not output.radar_bev.any()
    assert torch.isfinite(heads(output)).all()
    assert len(frame(1).radar) > 0
