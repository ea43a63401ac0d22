"""Blocks of IMKD's student beside plain loops over what docs/method.md 1.10 says of them."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model_tiny import TINY, batch, roughen

from crkd_core.config import AttentionConfig, GridConfig, RadarViewConfig, TemporalConfig
from crkd_core.model.attention_fuse import AttentionFuser
from crkd_core.model.camera.lift import Points, cell_pixels
from crkd_core.model.camera.radar_lift import OCCUPANCY_BIAS, RadarLift
from crkd_core.model.temporal import TemporalFusion

SMALL = GridConfig(low=(-5, -4, -5), high=(5, 4, 3), cell=2.0)


def normed(values: np.ndarray, norm: torch.nn.LayerNorm) -> np.ndarray:
    """LayerNorm over the last axis."""
    mean, variance = values.mean(-1, keepdims=True), values.var(-1, keepdims=True)
    weight, bias = (p.detach().double().numpy() for p in (norm.weight, norm.bias))
    return (values - mean) / np.sqrt(variance + norm.eps) * weight + bias


def linear(values: np.ndarray, layer: torch.nn.Linear) -> np.ndarray:
    weight, bias = (p.detach().double().numpy() for p in (layer.weight, layer.bias))
    return values @ weight.T + bias


def between(values: np.ndarray, x: float, y: float) -> np.ndarray:
    """[X, Y, c] at a place between four cells; zeros outside."""
    total = np.zeros(values.shape[-1])
    for i in (math.floor(x), math.floor(x) + 1):
        for j in (math.floor(y), math.floor(y) + 1):
            if 0 <= i < values.shape[0] and 0 <= j < values.shape[1]:
                total += (1 - abs(x - i)) * (1 - abs(y - j)) * values[i, j]
    return total


def attended(layer, query: np.ndarray, values: list[np.ndarray]) -> np.ndarray:
    """One cell, head, map and point after the other."""
    maps, heads, points = layer.maps, layer.heads, layer.points
    size_x, size_y, channels = query.shape
    width = channels // heads
    given = [linear(v, project) for v, project in zip(values, layer.projections, strict=True)]
    joined = np.zeros_like(query)
    for x, y in np.ndindex(size_x, size_y):
        offsets = linear(query[x, y], layer.offsets).reshape(maps, heads, points, 2)
        weights = np.exp(linear(query[x, y], layer.weights).reshape(maps, heads, points))
        for h in range(heads):
            own = slice(h * width, (h + 1) * width)
            for m, p in np.ndindex(maps, points):
                place = np.array([x, y]) + offsets[m, h, p]
                share = weights[m, h, p] / weights[:, h].sum()
                joined[x, y, own] += share * between(given[m][..., own], *place)
    return linear(joined, layer.out)


def test_attention_is_what_loops_find() -> None:
    """Every query in its own places of every map; residuals and norms as in CRN."""
    torch.manual_seed(0)
    config = AttentionConfig(layers=2, heads=2, points=3, hidden=6)
    fuser = AttentionFuser([3, 5], 4, config, SMALL)
    for parameter in fuser.parameters():
        torch.nn.init.normal_(parameter, std=0.7)
    maps = [torch.randn((2, channels, *SMALL.shape)) for channels in (3, 5)]
    with torch.no_grad():
        weighed, found = fuser(maps)
    assert all(torch.equal(a, b) for a, b in zip(weighed, maps, strict=True))
    for b in range(2):
        seen = [one[b].permute(1, 2, 0).double().numpy() for one in maps]
        seen = [normed(one, norm) for one, norm in zip(seen, fuser.norms, strict=True)]
        position = fuser.position[0].detach().double().numpy()
        query = linear(np.concatenate(seen, -1), fuser.query) + position
        values = [linear(one, value) for one, value in zip(seen, fuser.values, strict=True)]
        for layer in fuser.layers:
            query = normed(query + attended(layer, query, values), layer.first)
            hidden = np.maximum(linear(query, layer.network[0]), 0)
            query = normed(query + linear(hidden, layer.network[2]), layer.second)
        np.testing.assert_allclose(found[b].permute(1, 2, 0), query, rtol=1e-3, atol=1e-3)


def test_fresh_heads_look_each_its_own_way_and_farther_and_farther() -> None:
    config = AttentionConfig(layers=1, heads=4, points=3, hidden=4)
    (layer,) = AttentionFuser([4, 4], 4, config, SMALL).layers
    assert not layer.offsets.weight.any() and not layer.weights.weight.any()
    offsets = layer.offsets.bias.detach().view(2, 4, 3, 2)
    ways = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    expected = [[(p * x, p * y) for p in (1, 2, 3)] for x, y in ways]
    for one in offsets:
        torch.testing.assert_close(one, torch.tensor(expected).float(), atol=1e-6, rtol=0)


def test_memory_is_added_by_two_convolutions_of_the_present_and_then_the_past() -> None:
    torch.manual_seed(0)
    fusion = roughen(TemporalFusion(3, TemporalConfig(frames=2))).eval()
    fused, past = torch.randn((2, 3, 5, 4)), torch.randn((2, 2, 3, 5, 4))
    with torch.no_grad():
        found = fusion(fused, past)
        join, norm = fusion.join[:2]
        # The present first, then the newest of the past.
        parts = zip(join.weight.split(3, 1), (fused, past[:, 0], past[:, 1]), strict=True)
        joined = norm(sum(F.conv2d(one, weight) for weight, one in parts)).relu()
        expected = fused + fusion.out[1](fusion.out[0](joined))
    torch.testing.assert_close(found, expected)
    assert (found - fused).abs().max() > 0.1


def seen_points(given, corners: bool) -> dict[tuple[int, int, int], list]:
    """By camera, bin and column what the point network reads of each point."""
    spacing = 63 / 7 if corners else 8.0
    found: dict[tuple[int, int, int], list] = {}
    for camera, (sample, slot) in enumerate(given.camera_present.nonzero().tolist()):
        pixel_T_grid = torch.linalg.inv(given.grid_T_pixel[sample, slot].double()).numpy()
        for row, own in zip(given.radar, given.radar_sample.tolist(), strict=True):
            if own != sample:
                continue
            u_d, _, depth, _ = pixel_T_grid @ [*row[:3].double().tolist(), 1]
            if depth <= 0.5:
                continue
            u = u_d / depth
            i, j = round((depth - 1) / 2), round(u / spacing)
            if 0 <= i < 12 and 0 <= j < 8:
                own_cell = (u / 64, depth / 50, u / spacing - j, (depth - 1) / 2 - i)
                inputs = torch.cat([row[3:].double(), torch.tensor(own_cell)])
                found.setdefault((camera, i, j), []).append(inputs)
    return found


@pytest.mark.parametrize("corners", [True, False])
def test_radar_in_the_image_is_what_loops_find(corners) -> None:
    """Two samples, one camera missing: point by point, then frustum point by frustum point."""
    torch.manual_seed(0)
    config = dataclasses.replace(
        TINY.camera,
        align_corners=corners,
        z=(-3.2, 3.1),
        radar_view=RadarViewConfig(channels=(5, 7), blocks=1, context_channels=3),
    )
    lift = roughen(RadarLift(6, config, TINY.image, TINY.grid)).eval()
    view, joined = lift.view, []
    torch.testing.assert_close(view.out.bias[:1], torch.tensor([OCCUPANCY_BIAS]))
    # An occupancy that is not nearly 0 everywhere.
    torch.nn.init.normal_(view.out.weight, std=1.0)
    torch.nn.init.zeros_(view.out.bias)
    lift.join.register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    given = batch(0, 1)
    given.camera_present[0, 2] = False
    count = int(given.camera_present.sum())
    features = torch.randn((count, 6, 4, 8))
    radar = Points(given.radar, given.radar_sample)
    with torch.no_grad():
        bev, logits = lift(features, given.grid_T_pixel, given.camera_present, radar=radar)
        plane = torch.zeros((count, 7, 12, 8))
        for (camera, i, j), inputs in seen_points(given, corners).items():
            best = view.points(torch.stack(inputs).float()).amax(0)
            plane[camera, :, i, j] = best
        assert (plane != 0).any((1, 2, 3)).sum() > 5
        answer = view.out(view.convolutions(plane))
        occupancy, beside = answer[:, 0].sigmoid(), answer[:, 1:]
        both = lift.depth_context(features)
        depth, context = both[:, :12].softmax(1), both[:, 12:]
    torch.testing.assert_close(logits, both[:, :12])
    columns, rows = cell_pixels(config, TINY.image)
    (size_x, size_y), low = TINY.grid.shape, TINY.grid.low
    expected = torch.zeros((2, 2 * 8 + 3, size_x, size_y), dtype=torch.float64)
    for camera, (sample, slot) in enumerate(given.camera_present.nonzero().tolist()):
        matrix = given.grid_T_pixel[sample, slot].numpy()
        for row, column, bin_ in np.ndindex(4, 8, 12):
            d = np.float32(1 + 2 * bin_)
            u, v = columns[column].numpy(), rows[row].numpy()
            x, y, z = (matrix @ np.array([u * d, v * d, d, 1], np.float32))[:3]
            i, j = math.floor((x - low[0]) / 2), math.floor((y - low[1]) / 2)
            if not (0 <= i < size_x and 0 <= j < size_y and -3.2 <= z < 3.1):
                continue
            own = context[camera, :, row, column].double()
            shares = depth[camera, bin_, row, column], occupancy[camera, bin_, column]
            told = beside[camera, :, bin_, column].double() / 4
            expected[sample, :, i, j] += torch.cat([*(share * own for share in shares), told])
    (found,) = joined
    torch.testing.assert_close(found.double(), expected, rtol=1e-3, atol=1e-3)
    assert (expected != 0).any(1).sum() > 100
    torch.testing.assert_close(bev, lift.join(found))
