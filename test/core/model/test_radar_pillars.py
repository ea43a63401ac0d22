import numpy as np
import pytest
import torch
from model_tiny import TINY, batch, roughen

from crkd_core.config import RadarConfig
from crkd_core.model.radar import RadarBranchError, RadarPillars


@pytest.fixture
def pillars():
    torch.manual_seed(0)
    return roughen(RadarPillars(RadarConfig(channels=(6, 7)), TINY.grid)).eval()


def slow_pillars(model, points, sample, batch_size):
    """One pillar after the other."""
    grid = TINY.grid
    bev = torch.zeros(batch_size, 7, *grid.shape)
    low, high = torch.tensor(grid.low), torch.tensor(grid.high)
    for b in range(batch_size):
        for i in range(grid.shape[0]):
            for j in range(grid.shape[1]):
                corner = low[:2] + grid.cell * torch.tensor([i, j])
                mine = points[sample == b]
                inside = ((mine[:, :2] >= corner) & (mine[:, :2] < corner + grid.cell)).all(1)
                inside &= (mine[:, 2] >= low[2]) & (mine[:, 2] < high[2])
                mine = mine[inside]
                if len(mine):
                    unit = (mine[:, :3] - low) / (high - low)
                    offset = mine[:, :2] - (corner + grid.cell / 2)
                    features = model.layers(torch.cat([unit, mine[:, 3:], offset], 1))
                    bev[b, :, i, j] = features.max(0).values
    return bev


def test_pillars_equal_the_pillar_by_pillar_maximum(pillars):
    b = batch(0, 1)
    with torch.no_grad():
        got = pillars(b.radar, b.radar_sample, 2)
        expected = slow_pillars(pillars, b.radar, b.radar_sample, 2)
    assert (expected > 0).sum() > 100
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=1e-5)


def test_the_order_of_points_does_not_matter(pillars):
    b = batch(0, 1)
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(b.radar)))
    torch.testing.assert_close(
        pillars(b.radar, b.radar_sample, 2),
        pillars(b.radar[order], b.radar_sample[order], 2),
        atol=1e-6,
        rtol=1e-6,
    )


def test_a_sample_without_points_is_zeros_wherever_it_stands(pillars):
    b = batch(0)
    alone = pillars(b.radar, b.radar_sample, 1)
    for place in range(3):
        got = pillars(b.radar, b.radar_sample + place, 3)
        torch.testing.assert_close(got[place], alone[0])
        assert not got[[p for p in range(3) if p != place]].any()


@pytest.mark.parametrize("count", [0, 1, 2])
def test_few_points_train(count):
    pillars = RadarPillars(RadarConfig(channels=(4,)), TINY.grid).train()
    points = torch.zeros(count, 45)
    points[:, 0] = torch.arange(count)
    bev = pillars(points, torch.zeros(count, dtype=torch.int64), 2)
    assert bev.shape == (2, 4, 24, 16)
    assert torch.isfinite(bev).all()


def test_points_on_the_borders_of_the_grid(pillars):
    points = torch.zeros(4, 45)
    points[:, :2] = torch.tensor(
        [
            [-24.0, -16.0],
            [np.nextafter(np.float32(24), np.float32(0)), 15.999999],
            [24, 0],
            [0, 16],
        ]
    )
    with torch.no_grad():
        got = [pillars(p[None], torch.zeros(1, dtype=torch.int64), 1)[0] for p in points]
    assert [bool(g.any()) for g in got] == [True, True, False, False]
    assert got[0][:, 0, 0].any() and got[1][:, -1, -1].any()


def test_other_channels_are_refused(pillars):
    said = r"expected \[M, 45\] encoded points, got \(3, 20\)"
    with pytest.raises(RadarBranchError, match=said):
        pillars(torch.zeros(3, 20), torch.zeros(3, dtype=torch.int64), 1)
