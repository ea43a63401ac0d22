"""Padded pillar slots and ages as in the released code, against a slow reading of the rule."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_tiny import TINY, roughen

from crkd_core.model.radar import RadarPillars


def pillars(slots: int | None) -> RadarPillars:
    torch.manual_seed(0)
    config = dataclasses.replace(TINY.radar, points_per_pillar=slots)
    module = RadarPillars(config, TINY.grid).eval()
    roughen(module)
    return module


def crowd(count: int, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """Points of two samples, most of them in a few cells."""
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(count, 45)).astype(np.float32)
    points[:, :2] = rng.integers(-3, 3, (count, 2)) * 2 + rng.uniform(0.1, 1.9, (count, 2))
    points[:, 2] = rng.uniform(-1, 1, count)
    return torch.from_numpy(points), torch.from_numpy(np.sort(rng.integers(0, 2, count)))


def slow(module: RadarPillars, points: torch.Tensor, sample: torch.Tensor, slots: int) -> dict:
    """{(sample, ix, iy): feature [C]}, every pillar as a [slots, 47] table."""
    grid, found = module.grid, {}
    tables: dict[tuple[int, int, int], list[torch.Tensor]] = {}
    low, high = torch.tensor(grid.low), torch.tensor(grid.high)
    for point, b in zip(points, sample, strict=True):
        cell = ((point[:2] - low[:2]) / grid.cell).floor().long()
        middle = low[:2] + (cell + 0.5) * grid.cell
        unit = (point[:3] - low) / (high - low)
        row = torch.cat([unit, point[3:], point[:2] - middle])
        table = tables.setdefault((int(b), int(cell[0]), int(cell[1])), [])
        if len(table) < slots:
            table.append(row)
    for place, rows in tables.items():
        table = torch.zeros(slots, 47)
        table[: len(rows)] = torch.stack(rows)
        found[place] = module.layers(table).amax(0)
    return found


@pytest.mark.parametrize("slots", [1, 3, 20])
@torch.no_grad()
def test_padded_slots_equal_the_slow_tables(slots: int) -> None:
    module = pillars(slots)
    points, sample = crowd(120)
    bev = module(points, sample, 2)
    expected = slow(module, points, sample, slots)
    assert len(expected) > 10
    for (b, x, y), feature in expected.items():
        torch.testing.assert_close(bev[b, :, x, y], feature, rtol=1e-5, atol=1e-6)
        bev[b, :, x, y] = 0
    assert not bev.any()


@torch.no_grad()
def test_only_the_first_points_of_a_pillar_count() -> None:
    module = pillars(3)
    points, sample = crowd(120)
    assert not torch.equal(module(points, sample, 2), module(points.flip(0), sample.flip(0), 2))
    free = pillars(None)
    torch.testing.assert_close(free(points, sample, 2), free(points.flip(0), sample.flip(0), 2))


@torch.no_grad()
def test_no_points_at_all() -> None:
    module = pillars(20)
    points, sample = crowd(4)
    assert module(points[:0], sample[:0], 2).abs().sum() == 0
    points[:, 0] += 1000
    assert module(points, sample, 2).abs().sum() == 0


def test_training_mode_has_gradients_and_finite_statistics() -> None:
    module = pillars(20).train()
    points, sample = crowd(50)
    module(points, sample, 2).square().sum().backward()
    for name, parameter in module.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert all(torch.isfinite(b).all() for b in module.buffers())
