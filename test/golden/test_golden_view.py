"""The lift of the released student: geometry, rounding either way, pooled sums."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from golden import Vectors, check, needs_golden, tensor, weights
from official_models import grid_T_pixel
from torch import Tensor

from crkd_core.model.camera.lift import Lift
from crkd_core.official.grids import buffers
from crkd_core.official.student import released_student
from crkd_core.official.teacher import released_teacher

pytestmark = needs_golden

DEPTHNET = "encoders.camera.vtransform.depthnet"

#: Where points this near a border fall is open, so a few cells may differ by one of them.
UNCLEAR_SHARE = 5e-4


@pytest.fixture(scope="module")
def vectors() -> Vectors:
    return Vectors("view")


def lift(rounding: str) -> Lift:
    config = released_student()
    camera = dataclasses.replace(config.camera, cell_rounding=rounding)
    module = Lift(512, camera, config.image, config.grid).eval()
    state = weights("r50_student", prefix=DEPTHNET)
    module.depth_context.load_state_dict(
        {key.removeprefix(f"{DEPTHNET}."): value for key, value in state.items()}
    )
    return module


def matrices(vectors: Vectors, view: str) -> Tensor:
    """[1, 6, 4, 4] of the cameras as they are ("plain") or as augmented ("aug")."""
    names = ("camera_intrinsics", "camera2lidar", "img_aug_matrix", "lidar_aug_matrix")
    kept = ("camera_intrinsics", "camera2lidar")
    return grid_T_pixel(
        {n: vectors[f"{'calib' if view == 'plain' or n in kept else 'aug'}.{n}"] for n in names}
    )


@pytest.mark.parametrize("view", ["plain", "aug"])
def test_frustum_points(vectors: Vectors, view: str) -> None:
    module = lift("floor")
    matrix = matrices(vectors, view)[0]
    rays = torch.einsum("pij,kj->pki", matrix[:, :3, :3], module.pixels)
    points = rays[:, None] * module.depths[:, None, None] + matrix[:, None, None, :3, 3]
    shape = vectors.shape(f"lss.{view}.geometry")
    check(points.view(shape), vectors, f"lss.{view}.geometry", tolerance=3e-6)


@pytest.mark.parametrize("network", ["lss", "depthlss"])
def test_frustum_buffer_is_the_released_one(vectors: Vectors, network: str) -> None:
    config = released_student() if network == "lss" else released_teacher()
    expected = buffers(config.camera, config)
    check(expected["frustum"].float(), vectors, f"{network}.frustum", tolerance=1e-6)
    assert expected["nx"].tolist() == ([180, 180, 1] if network == "lss" else [360, 360, 1])


def test_depth_and_context(vectors: Vectors) -> None:
    features = tensor("input/lss/features", (1, 6, 512, 32, 88))[0]
    with torch.no_grad():
        check(lift("floor").depth_context(features), vectors, "lss.depthnet")


@pytest.mark.parametrize("view", ["plain", "aug"])
@pytest.mark.parametrize("rounding", ["trunc", "floor"])
def test_pooled(vectors: Vectors, view: str, rounding: str) -> None:
    module = lift(rounding)
    features = tensor("input/lss/features", (1, 6, 512, 32, 88))[0]
    matrix, present = matrices(vectors, view), torch.ones(1, 6, dtype=torch.bool)
    kept = vectors[f"lss.{view}.points_in_grid"][("trunc", "floor").index(rounding)]
    assert abs(len(module.index(matrix, present).point) - int(kept)) <= 1e-4 * kept
    with torch.no_grad():
        bev, _ = module(features, matrix, present)
    name = f"lss.{view}.{rounding}.bev"
    clear = np.ones((180, 180), bool)
    clear[tuple(vectors[f"lss.{view}.ambiguous_cells"].T)] = False
    found, stored = vectors.pairs(bev, name)
    mask, _ = vectors.pairs(np.broadcast_to(clear, (1, 80, 180, 180)), name)
    peak = np.abs(vectors[f"{name}__stats"][3:]).max()
    error = np.abs(found - stored) / peak
    assert mask.mean() > 0.9
    assert error[mask].max() <= 1e-5
    assert (error > 1e-5).mean() < UNCLEAR_SHARE
    assert np.isclose(float(bev.double().mean()), vectors[f"{name}__stats"][0], atol=1e-5 * peak)


def test_rounding_matters(vectors: Vectors) -> None:
    trunc, floor, below, _ = vectors["lss.plain.points_in_grid"]
    assert trunc - floor > 0.1 * floor
    assert below > 0.9 * (trunc - floor)
