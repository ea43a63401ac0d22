"""Every module of the released teachers, with the weights of the golden rule."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from golden import Vectors, check, needs_golden, tensor
from official_models import grid_T_pixel, imported
from torch import Tensor

from crkd_core.model.camera.depth_lift import DepthLift
from crkd_core.model.camera.lift import Points
from crkd_core.model.detector import BevDetector
from crkd_core.model.lidar.sites import Sites
from crkd_core.model.lidar.sparse_map import SparseMap
from crkd_core.model.lidar.voxels import Voxels, voxelise

pytestmark = [needs_golden, pytest.mark.usefixtures("no_grad")]


@pytest.fixture(scope="module")
def r50() -> BevDetector:
    return imported("r50_teacher")


@pytest.fixture(scope="module")
def view() -> Vectors:
    return Vectors("view")


def voxels(points: Tensor, model: BevDetector) -> Voxels:
    config, grid = model.config.lidar, model.config.grid
    assert config is not None
    return voxelise(
        points,
        torch.zeros(len(points), dtype=torch.int64),
        low=grid.low,
        high=grid.high,
        voxel=config.voxel,
        max_points=config.max_points,
        max_voxels=config.max_voxels[1],
    )


def test_parameters_of_the_paper(r50: BevDetector) -> None:
    assert sum(p.numel() for p in r50.parameters()) == pytest.approx(46.19e6, abs=5e3)


def test_voxels(r50: BevDetector) -> None:
    vectors = Vectors("module_lidar_encoder")
    found = voxels(torch.from_numpy(vectors["points"]), r50)
    np.testing.assert_array_equal(found.coords, vectors["voxel_coords"])
    check(found.features, vectors, "voxel_features", tolerance=1e-6)


def test_sparse_encoder(r50: BevDetector) -> None:
    vectors = Vectors("module_lidar_encoder")
    points = torch.from_numpy(vectors["points"])
    cells, features, _ = voxels(points, r50)
    sites, order = Sites.of(cells, batch=1, shape=r50.lidar.shape)
    encoder = r50.lidar.encoder
    maps = list(encoder.maps(SparseMap(features[order], sites)))
    assert len(maps) == 4
    for stage, found in enumerate(maps, 1):
        active = [len(found.sites), *found.sites.shape]
        assert active == vectors[f"stage{stage}.active"].tolist()
        # Sites are sorted by sample, x, y, z, as the vectors are.
        check(found.features, vectors, f"stage{stage}.features_sorted")
    bev = r50.lidar(points, torch.zeros(len(points), dtype=torch.int64), 1)
    check(bev, vectors, "bev")
    x, y = vectors["bev_cells"].T.astype(int)
    check(bev[0, :, x, y].T, vectors, "bev_cell_features")
    active = bev[0].any(0).nonzero().numpy()
    np.testing.assert_array_equal(active, vectors["bev_active_cells"])


def test_second_fpn(r50: BevDetector) -> None:
    maps = tuple(
        tensor(f"input/neck/r50/level{i}", (1, width, 64 >> i, 48 >> i))
        for i, width in enumerate((256, 512, 1024, 2048))
    )
    check(r50.image.neck(maps), Vectors("modules_r50_teacher"), "secondfpn256.out")


def lift_of(model: BevDetector, rounding: str) -> DepthLift:
    """The lift of the model with the other rounding."""
    camera = dataclasses.replace(model.config.camera, cell_rounding=rounding)
    lift = DepthLift(model.image.channels, camera, model.config.image, model.config.grid).eval()
    lift.load_state_dict(model.lift.state_dict())
    return lift


def scene(view: Vectors, name: str) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """grid_T_pixel, present, points and their samples, as they are or as augmented."""
    names = ("camera_intrinsics", "camera2lidar", "img_aug_matrix", "lidar_aug_matrix")
    kept = ("camera_intrinsics", "camera2lidar")
    calibration = {
        n: view[f"{'calib' if name == 'plain' or n in kept else 'aug'}.{n}"] for n in names
    }
    points = torch.from_numpy(view["depthlss.points"])
    move = torch.from_numpy(calibration["lidar_aug_matrix"])
    points[:, :3] = points[:, :3] @ move[:3, :3].T + move[:3, 3]
    return (
        grid_T_pixel(calibration),
        torch.ones(1, 6, dtype=torch.bool),
        points,
        torch.zeros(len(points), dtype=torch.int64),
    )


def test_depth_map_and_branch(r50: BevDetector, view: Vectors) -> None:
    matrix, present, points, sample = scene(view, "plain")
    depth = r50.lift.project(points, sample, matrix, present)
    camera, row, column = depth[:, 0].nonzero().T
    found = torch.stack([camera, row, column], 1).numpy()
    stored = view["depthlss.plain.depth_index"]
    order = np.lexsort(stored.T[::-1])
    np.testing.assert_array_equal(found, stored[order])
    values = view["depthlss.plain.depth_value"][order]
    np.testing.assert_allclose(depth[camera, 0, row, column], values, rtol=1e-5)
    check(r50.lift.depth_map(depth), view, "depthlss.plain.dtransform")


def test_depth_and_context(r50: BevDetector, view: Vectors) -> None:
    matrix, present, points, sample = scene(view, "plain")
    depth = r50.lift.project(points, sample, matrix, present)
    features = tensor("input/depthlss/features", (1, 6, 256, 32, 88))[0]
    both = torch.cat([r50.lift.depth_map(depth), features], 1)
    check(r50.lift.depth_context(both), view, "depthlss.depthnet")


@pytest.mark.parametrize("name", ["plain", "aug"])
@pytest.mark.parametrize("rounding", ["trunc", "floor"])
def test_pooled(r50: BevDetector, view: Vectors, name: str, rounding: str) -> None:
    lift = lift_of(r50, rounding)
    matrix, present, points, sample = scene(view, name)
    kept = view[f"depthlss.{name}.points_in_grid"][("trunc", "floor").index(rounding)]
    assert abs(len(lift.index(matrix, present).point) - int(kept)) <= 1e-4 * kept
    features = tensor("input/depthlss/features", (1, 6, 256, 32, 88))[0]
    seen: list[Tensor] = []
    lift.compress.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    bev, _ = lift(features, matrix, present, Points(points, sample))
    key = f"depthlss.{name}.{rounding}.pooled"
    clear = np.ones((360, 360), bool)
    clear[tuple(view[f"depthlss.{name}.ambiguous_cells"].T)] = False
    found, stored = view.pairs(seen[0], key)
    mask, _ = view.pairs(np.broadcast_to(clear, (1, 80, 360, 360)), key)
    peak = np.abs(view[f"{key}__stats"][3:]).max()
    error = np.abs(found - stored) / peak
    assert mask.mean() > 0.9
    assert error[mask].max() <= 1e-5
    assert (error > 1e-5).mean() < 5e-4
    # A cell that differs by one point spreads over the kernels of three convolutions.
    found, stored = view.pairs(bev, f"depthlss.{name}.{rounding}.bev")
    error = (
        np.abs(found - stored) / np.abs(view[f"depthlss.{name}.{rounding}.bev__stats"][3:]).max()
    )
    assert (error > 1e-5).mean() < 2e-2
    assert np.median(error) < 1e-6


def test_pyramid_neck_and_size_of_swint() -> None:
    swint = imported("swint_teacher")
    assert sum(p.numel() for p in swint.parameters()) == pytest.approx(49.34e6, abs=5e3)
    vectors = Vectors("modules_swint_teacher")
    maps = tuple(
        tensor(f"input/neck/swint/level{i}", (1, width, 32 >> i, 24 >> i))
        for i, width in enumerate((192, 384, 768))
    )
    for index, found in enumerate(swint.image.neck.levels(maps)):
        check(found, vectors, f"lssfpn256.out{index}")
