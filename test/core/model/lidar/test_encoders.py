import dataclasses
import json

import numpy as np
import pytest
import torch
from model_tiny import TINY

from crkd_core.config import GridConfig, LidarConfig
from crkd_core.model.lidar.encoders import LidarBranchError, LidarPillars, SparseLidar, build_lidar

GRID = TINY.grid
PILLARS = LidarConfig(
    kind="pillars", voxel=(1.0, 0.5, 2.0), max_points=5, max_voxels=(300, 300), channels=(6, 8)
)
#: BEV cells of 2 m are 4 voxels: two halvings.
SPARSE = LidarConfig(voxel=(0.5, 0.5, 0.5), channels=(4, 6, 8), blocks=1)


def cloud(seed=0, count=400, samples=2):
    rng = np.random.default_rng(seed)
    points = rng.uniform((-26, -18, -6, 0, 0), (26, 18, 4, 255, 0.5), (count, 5))
    sample = np.sort(rng.integers(0, samples, count))
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(sample)


@pytest.mark.parametrize("config", [PILLARS, SPARSE], ids=["pillars", "sparse"])
def test_samples_stand_alone_and_one_without_points_is_zero(config):
    torch.manual_seed(0)
    branch = build_lidar(config, GRID).eval()
    points, sample = cloud()
    bev = branch(points, sample * 2, 4)
    assert bev.shape == (4, branch.channels, *GRID.shape)
    assert not bev[1].any() and not bev[3].any()
    for index in (0, 1):
        mine = sample == index
        alone = branch(points[mine], torch.zeros_like(sample[mine]), 1)
        torch.testing.assert_close(alone[0], bev[2 * index], rtol=1e-5, atol=1e-6)
        assert alone.abs().max() > 0.1


@pytest.mark.parametrize("config", [PILLARS, SPARSE], ids=["pillars", "sparse"])
def test_empty_cloud_is_zero_also_in_training(config):
    branch = build_lidar(config, GRID).train()
    points, sample = cloud(count=3)
    assert not branch(points[:0], sample[:0], 2).any()
    outside = points + torch.tensor([100.0, 0, 0, 0, 0])
    assert not branch(outside, sample, 2).any()


@pytest.mark.parametrize("config", [PILLARS, SPARSE], ids=["pillars", "sparse"])
def test_every_weight_learns(config):
    torch.manual_seed(0)
    branch = build_lidar(config, GRID).train()
    bev = branch(*cloud(count=1500), 2)
    (bev * torch.randn_like(bev)).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in branch.parameters())


@pytest.mark.parametrize("config", [PILLARS, SPARSE], ids=["pillars", "sparse"])
def test_points_land_in_their_cell(config):
    torch.manual_seed(0)
    branch = build_lidar(config, GRID).eval()
    # 3.1 m ahead, 4.9 m to the right: cell (13, 5) of a grid that begins at -24, -16.
    points = torch.tensor([[3.1, -4.9, 0.2, 100.0, 0.0]])
    bev = branch(points, torch.zeros(1, dtype=torch.int64), 1)
    hit = bev[0].abs().sum(0)
    assert hit[13, 5] > 0
    if config.kind == "pillars":
        assert (hit > 0).sum() == 1
    else:  # Strided kernels reach over the rim of a cell.
        assert (hit > 0).sum() <= 9


def test_pillars_equal_a_loop_over_voxels():
    torch.manual_seed(0)
    branch = LidarPillars(PILLARS, GRID).eval()
    points, sample = cloud(4, 200)
    expected = torch.zeros(2, 8, *GRID.shape)
    voxels = {}
    for point, owner in zip(points, sample.tolist(), strict=True):
        cell = torch.floor((point[:3] - torch.tensor(GRID.low)) / torch.tensor(PILLARS.voxel))
        if ((cell >= 0) & (cell < torch.tensor([48, 64, 4]))).all():
            voxels.setdefault((owner, *cell.int().tolist()), []).append(point)
    for (owner, x, y, _), inside in voxels.items():
        mean = torch.stack(inside[: PILLARS.max_points]).mean(0)
        i, j = x // 2, y // 4
        center = torch.tensor(GRID.low[:2]) + GRID.cell * (torch.tensor([i, j]) + 0.5)
        unit = (mean[:3] - torch.tensor(GRID.low)) / torch.tensor([48.0, 32, 8])
        count = torch.tensor([float(min(len(inside), PILLARS.max_points))]).log()
        offset = (mean[:2] - center) / GRID.cell
        row = torch.cat([unit, offset, mean[3:4] / 255, mean[4:], count])
        features = branch.layers(row[None])[0]
        expected[owner, :, i, j] = torch.maximum(expected[owner, :, i, j], features)
    torch.testing.assert_close(branch(points, sample, 2), expected, rtol=1e-4, atol=1e-5)


def test_pillars_with_age_steps_see_which_way_things_move():
    """The same two points, in the other order of time: equal means, another motion."""
    points = torch.tensor([[0.1, 0.1, 0.5, 9, 0.0], [0.3, 0.1, 0.5, 9, 0.4]])
    back = points.clone()
    back[:, 0] = points[:, 0].flip(0)
    sample = torch.zeros(2, dtype=torch.int64)
    for step, differs in ((None, False), (0.15, True)):
        torch.manual_seed(0)
        branch = LidarPillars(dataclasses.replace(PILLARS, age_step=step), GRID).eval()
        a, b = (branch(cloud, sample, 1) for cloud in (points, back))
        assert torch.allclose(a, b, atol=1e-6) != differs


def test_evaluation_keeps_more_voxels_than_training():
    config = dataclasses.replace(PILLARS, max_voxels=(5, 300))
    branch = LidarPillars(config, GRID)
    points, sample = cloud(count=300, samples=1)
    hit = {}
    for mode in (True, False):
        bev = branch.train(mode)(points, sample, 1)
        hit[mode] = int((bev.abs().sum(1) > 0).sum())
    assert hit[True] <= 5 < hit[False]


def test_voxels_that_do_not_fit_the_grid_are_refused():
    """And what the refusal names fits, whatever it was about."""
    for some, change, text in (
        (SPARSE, {"channels": (4, 4, 4, 4)}, "Let the BEV cell be 8 voxels"),
        (SPARSE, {"voxel": (0.5, 0.5, 4.0)}, "and 0 in height; expected .* and 1 or more"),
        (SPARSE, {"voxel": (0.3, 0.5, 4.0)}, "Let the BEV cell be 4 voxels"),
        (PILLARS, {"voxel": (0.3, 0.5, 1.0)}, r"divide the BEV cell of 2\.0 m"),
    ):
        config = dataclasses.replace(some, **change)
        with pytest.raises(LidarBranchError, match=text) as refused:
            build_lidar(config, GRID)
        _, _, voxel = str(refused.value).partition("detector.lidar.voxel=")
        build_lidar(dataclasses.replace(config, voxel=tuple(json.loads(voxel))), GRID)


def test_points_of_another_width_are_refused():
    branch = build_lidar(PILLARS, GRID)
    with pytest.raises(LidarBranchError, match=r"expected \[L, 5\]"):
        branch(torch.zeros(3, 4), torch.zeros(3, dtype=torch.int64), 1)


def test_published_grid_gives_256_channels_on_180_cells():
    grid = GridConfig(low=(-54.0, -54.0, -5.0), high=(54.0, 54.0, 3.0), cell=0.6)
    branch = SparseLidar(LidarConfig(), grid)
    assert branch.shape == (1440, 1440, 41)
    assert branch.channels == 256
    assert sum(p.numel() for p in branch.parameters()) == pytest.approx(2.69e6, abs=5e3)
