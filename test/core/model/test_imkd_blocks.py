"""Blocks of IMKD's student: radar in the image, guided fusion, attention, memory."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from model_tiny import TINY, batch, frame, roughen, with_branches

from crkd_core.config import (
    AttentionConfig,
    ConfigError,
    GridConfig,
    GuideConfig,
    RadarViewConfig,
    TemporalConfig,
    TrainConfig,
)
from crkd_core.data.batch import collate
from crkd_core.frame import PastFrame
from crkd_core.infer.detector import Detector
from crkd_core.model.attention_fuse import AttentionFuser
from crkd_core.model.build import build_detector
from crkd_core.model.camera.radar_lift import RadarLift
from crkd_core.model.checkpoint import load_weights, save_weights
from crkd_core.model.intensity import RCS
from crkd_core.model.intensity_guide import IntensityGuide
from crkd_core.model.temporal import moved_map
from crkd_core.train.start import initial_network

VIEW = RadarViewConfig(channels=(8,), blocks=1, context_channels=4)
SEES = dataclasses.replace(TINY, camera=dataclasses.replace(TINY.camera, radar_view=VIEW))
ALL = dataclasses.replace(
    SEES,
    name="tiny_imkd",
    guide=GuideConfig(),
    fuser="attention",
    attention=AttentionConfig(layers=2, heads=2, points=2, hidden=8),
    temporal=TemporalConfig(frames=2),
)


def test_fresh_guide_and_memory_change_nothing(tmp_path) -> None:
    """So a trained student goes on as it was, whatever intensity is."""
    torch.manual_seed(0)
    plain = roughen(build_detector(TINY)).eval()
    save_weights(plain, tmp_path / "plain.safetensors")
    for intensity in ("activation", "reflectance", "density", "uniform"):
        config = dataclasses.replace(
            TINY, guide=GuideConfig(intensity=intensity), temporal=TemporalConfig(frames=2)
        )
        start = str(tmp_path / "plain.safetensors")
        more = initial_network(TrainConfig(detector=config, start=start)).eval()
        with torch.no_grad():
            ours, theirs = more(batch(0, 1)), plain(batch(0, 1))
        torch.testing.assert_close(ours.fused, theirs.fused)
        assert ours.instant is not None and theirs.instant is None


@pytest.mark.parametrize("intensity", ["activation", "reflectance", "density", "uniform"])
def test_a_guide_reads_both_maps_and_where_echoes_are(intensity) -> None:
    """Each of its signals by itself: echoes of -10 and 10 dBsm in a cell, 35 and -10 in others."""
    guide = IntensityGuide(GuideConfig(intensity=intensity), TINY.grid)
    sample = batch(0)
    x, y = (n // 2 for n in TINY.grid.shape)
    low, cell = np.array(TINY.grid.low[:2]), TINY.grid.cell
    places = [((x, y), -10.0), ((x, y), 10.0), ((1, 2), 35.0), ((2, 1), -10.0)]
    echoes = torch.zeros((len(places), sample.radar.shape[1]))
    for row, (place, rcs) in enumerate(places):
        echoes[row, :2] = torch.tensor(low + (np.array(place) + 0.5) * cell)
        echoes[row, RCS] = rcs
    seen = dataclasses.replace(
        sample, radar=echoes, radar_sample=torch.zeros(len(places), dtype=torch.int64)
    )
    generator = torch.Generator().manual_seed(0)
    camera, radar = (torch.randn((1, 4, *TINY.grid.shape), generator=generator) for _ in "ab")
    camera_strength, radar_strength = (
        (m - m.min()) / (m.max() - m.min()) for m in (f[0].abs().mean(0) for f in (camera, radar))
    )
    there, cross, count = (torch.zeros(TINY.grid.shape) for _ in range(3))
    there[x, y] = there[1, 2] = there[2, 1] = 1  # The last one, too weak to be strong at all.
    cross[x, y], cross[1, 2] = 0.25, 1.0
    count[x, y], count[1, 2], count[2, 1] = 1.0, *[np.log(2) / np.log(3)] * 2
    own = {"activation": radar_strength, "reflectance": cross, "density": count}
    flat = torch.ones(TINY.grid.shape)
    signals = (flat, flat, flat)
    if intensity != "uniform":
        signals = (camera_strength, own[intensity], there)
    for index, signal in enumerate(signals):
        guide.factors.weight.data.zero_()
        guide.factors.weight.data[:, index, 1, 1] = torch.tensor([1.0, -2.0])
        with torch.no_grad():
            found = guide(camera, radar, seen)
        for factor, sign in zip(found, (1.0, -2.0), strict=True):
            torch.testing.assert_close(factor[0, 0], 2 * torch.sigmoid(sign * signal))


@pytest.mark.parametrize("fuser", ["gated", "conv", "attention"])
def test_a_guide_weighs_the_maps_of_every_fuser(fuser) -> None:
    """Camera once and a half, radar by half: as if what first reads the maps were so scaled.

    The norms of attention make a map and its multiple one, so a factor in front of them says
    nothing.
    """
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, guide=GuideConfig(), fuser=fuser, attention=ALL.attention)
    model = roughen(build_detector(config)).eval()
    with torch.no_grad():
        model.guide.factors.weight.zero_()
        plain = model(batch(0)).fused
        model.guide.factors.bias.copy_(torch.tensor([3.0, 1 / 3]).log())
        guided = model(batch(0)).fused
        model.guide = None
        camera = TINY.camera.context_channels
        share = torch.tensor([1.5] * camera + [0.5] * TINY.radar.channels[-1])[:, None, None]
        if fuser == "attention":
            for norm, factor in zip(model.fuser.norms, (1.5, 0.5), strict=True):
                norm.weight.mul_(factor)
                norm.bias.mul_(factor)
        else:
            model.fuser.out[0].weight.mul_(share)
        if fuser == "gated":
            model.fuser.gate.weight.mul_(share)
        expected = model(batch(0)).fused
    torch.testing.assert_close(guided, expected, rtol=1e-3, atol=1e-4)
    assert (guided - plain).std() > 0.02 * plain.std()


def test_everything_is_trained_and_kept(tmp_path) -> None:
    torch.manual_seed(0)
    model = build_detector(ALL)
    output = model(batch(0, 1), torch.randn(2, 2, 16, *TINY.grid.shape))
    total = sum(value.square().sum() for task in output.tasks for value in task.values())
    (total + output.depth_logits.square().sum()).backward()
    # No level of the neck reads the backbone's last stage.
    still = [n for n, p in model.named_parameters() if p.grad is None and "stages.3" not in n]
    assert not still
    model.eval()
    save_weights(model, tmp_path / "all.safetensors")
    again = load_weights(tmp_path / "all.safetensors")
    assert again.config == ALL
    with torch.no_grad():
        assert torch.equal(again(batch(0)).fused, model(batch(0)).fused)


def test_folded_it_answers_the_same() -> None:
    torch.manual_seed(0)
    model = roughen(build_detector(ALL)).eval()
    with torch.no_grad():
        plain = model(batch(0))
        folded = Detector(model)._model(batch(0), torch.zeros(1, 2, 16, *TINY.grid.shape))
    torch.testing.assert_close(folded.fused, plain.fused, rtol=1e-3, atol=1e-4)


def test_radar_is_seen_in_its_column_at_its_depth() -> None:
    """The slow way: every point through every camera."""
    torch.manual_seed(0)
    lift = build_detector(SEES).eval().lift
    assert isinstance(lift, RadarLift)
    view = lift.view
    view.convolutions = torch.nn.Identity()
    seen = batch(0)
    read = []
    view.out.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
    with torch.no_grad():
        view(seen.radar, seen.radar_sample, seen.grid_T_pixel, seen.camera_present)
    (plane,) = read
    expected = torch.zeros((6, view.bins, view.columns), dtype=torch.bool)
    for camera, matrix in enumerate(seen.grid_T_pixel[0].double()):
        for point in seen.radar[:, :3].double():
            u_d, _, depth, _ = torch.linalg.solve(matrix, torch.cat([point, torch.ones(1)]))
            if depth <= 0.5:
                continue
            i = round(float((depth - 1) / 2))
            j = round(float(u_d / depth / (63 / 7)))
            if 0 <= i < view.bins and 0 <= j < view.columns:
                expected[camera, i, j] = True
    assert expected.any()
    occupied = (plane != 0).any(1)
    assert not (occupied & ~expected).any()
    assert (occupied & expected).sum() > 0.8 * expected.sum()  # ReLU may hide a point.


def test_half_precision_leaves_radar_points_in_their_columns() -> None:
    torch.manual_seed(0)
    lift = build_detector(SEES).eval().lift
    assert isinstance(lift, RadarLift)
    lift.view.convolutions = torch.nn.Identity()
    seen, read = batch(0, 1), []
    lift.view.out.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0] != 0))
    for half in (False, True):
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=half):
            lift.view(seen.radar, seen.radar_sample, seen.grid_T_pixel, seen.camera_present)
    whole, halved = (occupied.any(1) for occupied in read)
    assert torch.equal(whole, halved)


def test_what_is_missing_adds_nothing() -> None:
    model = roughen(build_detector(SEES)).eval()
    blind = frame(0).without(*(f"CAM_{n}" for n in ("FRONT", "FRONT_LEFT", "FRONT_RIGHT", "BACK",
                                                    "BACK_LEFT", "BACK_RIGHT")))  # fmt: skip
    with torch.no_grad():
        both = model(collate([blind, frame(1)], SEES))
        alone = model(collate([frame(1)], SEES))
        deaf = model(collate([frame(1, points=0)], SEES))
    assert (both.camera_bev[0] == 0).all()
    torch.testing.assert_close(both.camera_bev[1:], alone.camera_bev)
    assert deaf.camera_bev.isfinite().all()


def test_attention_looks_where_its_offsets_point() -> None:
    """With one point straight ahead and the identity for values it copies the next cell."""
    torch.manual_seed(0)
    config = AttentionConfig(layers=1, heads=1, points=1, hidden=4)
    fuser = AttentionFuser([4], 4, config, TINY.grid)
    layer = fuser.layers[0]
    layer.offsets.bias.data = torch.tensor([1.0, 0.0])
    for linear in (layer.projections[0], layer.out):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    value = torch.randn((2, *TINY.grid.shape, 4))
    found = layer._attended(torch.randn_like(value), [value])
    torch.testing.assert_close(found[:, :-1], value[:, 1:])
    assert (found[:, -1] == 0).all()
    with pytest.raises(ConfigError, match=r"attention.heads: expected a divisor .* 16, got 3"):
        AttentionFuser([4], 16, AttentionConfig(heads=3), TINY.grid)


def test_a_head_shares_itself_out_over_the_places_of_all_maps() -> None:
    """Where all places are the own cell, a head is a mean of the maps by its softmax."""
    torch.manual_seed(0)
    maps, heads, points = 2, 2, 3
    config = AttentionConfig(layers=1, heads=heads, points=points, hidden=4)
    layer = AttentionFuser([4, 4], 4, config, TINY.grid).layers[0]
    layer.offsets.bias.data.zero_()
    layer.weights.bias.data = torch.randn(maps * heads * points)
    for linear in (*layer.projections, layer.out):
        torch.nn.init.eye_(linear.weight)
        torch.nn.init.zeros_(linear.bias)
    values = [torch.randn((2, *TINY.grid.shape, 4)) for _ in range(maps)]
    logits = layer.weights.bias.detach().view(maps, heads, points)
    shares = torch.stack([logits[:, h].flatten().softmax(0).view(maps, points) for h in (0, 1)])
    expected = torch.cat(
        [
            sum(shares[h, m].sum() * values[m][..., 2 * h : 2 * h + 2] for m in range(maps))
            for h in range(heads)
        ],
        -1,
    )
    found = layer._attended(torch.randn_like(values[0]), values)
    torch.testing.assert_close(found, expected)


def test_a_map_moves_with_the_vehicle() -> None:
    """Two cells forward and a quarter turn: what was ahead lies where the turn has put it."""
    x, y = TINY.grid.shape
    features = torch.zeros((1, 1, x, y))
    features[0, 0, 15, 9] = 1.0  # centre at (7, 3) m
    ahead = np.eye(4)
    ahead[0, 3] = -4.0  # The vehicle has driven 4 m.
    found = moved_map(features, torch.from_numpy(ahead)[None], TINY.grid)
    assert found[0, 0, 13, 9] == pytest.approx(1)
    turn = np.eye(4)
    turn[:2, :2] = [[0, 1], [-1, 0]]  # It has turned left: x is now -y.
    found = moved_map(features, torch.from_numpy(turn)[None], TINY.grid)
    # (7, 3) lies at (3, -7).
    assert found[0, 0, 13, 4] == pytest.approx(1)
    assert found.sum() == pytest.approx(1)


@settings(deadline=None)
@given(
    st.floats(-3.2, 3.2),
    st.tuples(*[st.floats(-30, 30)] * 2),
    st.sampled_from([TINY.grid, GridConfig(low=(-4, -12, -5), high=(16, 12, 3), cell=2.0)]),
)
def test_moving_a_map_is_sampling_it_between_cells(turn, shift, grid) -> None:
    """Beside grid_sample: the places of the present cells in the past, from -1 to 1."""
    pose = np.eye(4)
    pose[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    pose[:2, 3] = shift
    poses = torch.from_numpy(np.stack([pose, np.eye(4)]))
    features = torch.randn((2, 3, *grid.shape))
    centers = [
        low + (torch.arange(count, dtype=torch.float64) + 0.5) * grid.cell
        for low, count in zip(grid.low[:2], grid.shape, strict=True)
    ]
    x, y = torch.meshgrid(*centers, indexing="ij")
    here = torch.stack([x, y, torch.zeros_like(x), torch.ones_like(x)], -1)
    there = torch.einsum("bij,xyj->bxyi", torch.linalg.inv(poses), here)[..., :2]
    low, high = torch.tensor(grid.low[:2]), torch.tensor(grid.high[:2])
    unit = (2 * (there - low) / (high - low) - 1).flip(-1)
    expected = F.grid_sample(features.double(), unit, align_corners=False)
    found = moved_map(features, poses, grid)
    torch.testing.assert_close(found.double(), expected, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(found[1], features[1])


def past_of(seed: int, forward: float) -> PastFrame:
    pose = np.eye(4)
    pose[0, 3] = -forward
    return PastFrame(frame=frame(seed), now_T_past=pose)


def test_the_past_of_a_batch_is_what_was_seen_then() -> None:
    torch.manual_seed(0)
    model = roughen(build_detector(ALL)).eval()
    one = dataclasses.replace(frame(0), past=(past_of(1, 4.0), None))
    two = frame(2)
    seen = collate([one, two], ALL)
    with torch.no_grad():
        then = model.look(collate([frame(1)], ALL))["fused"]
        found = model.looked_back(seen, model.look(seen)["fused"])
    assert found.shape == (2, 2, 16, *TINY.grid.shape)
    torch.testing.assert_close(found[0, 0, :, :-2], then[0, :, 2:], rtol=1e-3, atol=1e-4)
    assert (found[0, 1] == 0).all() and (found[1] == 0).all()


def test_looking_back_has_no_gradient_and_leaves_the_modes() -> None:
    model = build_detector(ALL).train()
    model.image.eval()
    seen = collate([dataclasses.replace(frame(0), past=(past_of(1, 0.0), None))] * 2, ALL)
    statistics = model.decoder.out[1].running_mean.clone()
    found = model.looked_back(seen, model.look(seen)["fused"])
    assert not found.requires_grad
    assert model.training and model.lift.training and not model.image.training
    assert torch.equal(model.decoder.out[1].running_mean, statistics)


def test_frames_move_with_their_past() -> None:
    """Turned and mirrored, a past point lies where the present one lies."""
    one = dataclasses.replace(frame(0), past=(past_of(1, 4.0), None))
    turn = np.diag([1.0, -1.0, 1.0, 1.0])
    turn[:2, :2] = turn[:2, :2] @ [[0.6, -0.8], [0.8, 0.6]]
    moved = one.moved(turn)
    point = np.array([3.0, 2.0, 0.5, 1.0])
    now = turn @ (one.past[0].now_T_past @ point)
    np.testing.assert_allclose(moved.past[0].now_T_past @ (turn @ point), now, atol=1e-12)
    assert moved.past[1] is None
    assert not one.keeping(()).past[0].frame.sensors


def test_blocks_that_need_both_branches() -> None:
    with pytest.raises(ConfigError, match=r"guide: tiny needs cameras and radars"):
        dataclasses.replace(TINY, radar=None, guide=GuideConfig())
    with pytest.raises(ConfigError, match=r"camera\.radar_view: tiny needs cameras and radars"):
        dataclasses.replace(SEES, radar=None)
    with pytest.raises(ConfigError, match=r"temporal\.tolerance"):
        TemporalConfig(tolerance=0.5)


@pytest.mark.parametrize("beside", [(), ("camera",), ("camera", "radar")])
def test_memory_of_lidar_is_refused(beside) -> None:
    with pytest.raises(ConfigError, match=r"reads LiDAR, .*set detector\.temporal to null"):
        dataclasses.replace(with_branches(*beside, "lidar"), temporal=TemporalConfig())
