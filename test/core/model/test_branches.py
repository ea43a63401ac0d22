"""One detector with the branches that its configuration has, and nothing of the others."""

import dataclasses
import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from model_tiny import LIDAR, TINY, frame, lidar_frame, roughen, with_branches
from safetensors.torch import load_file, save_file

from crkd_core.config import ConfigError, DetectorConfig, from_dict, to_dict, upgraded
from crkd_core.config.override import override
from crkd_core.data.batch import collate
from crkd_core.frame import FrameError
from crkd_core.infer.detector import Detector, InferError
from crkd_core.model.build import build_detector, check_detector
from crkd_core.model.checkpoint import CheckpointError, load_weights, read_metadata, save_weights
from crkd_core.model.fuse import ConvFuser, GatedFuser
from crkd_core.model.lidar.encoders import LidarBranchError
from crkd_core.presets import PRESETS, preset
from crkd_core.sensors import CAMERAS, RADARS

ALL = ("camera", "radar", "lidar")
EVERY = [some for n in (1, 2, 3) for some in itertools.combinations(ALL, n)]
SETS = pytest.mark.parametrize("branches", EVERY, ids=["-".join(some) for some in EVERY])

#: Where the weights of a branch are, and what only it gives.
PARTS = {"camera": {"image", "lift"}, "radar": {"radar"}, "lidar": {"lidar"}}
GIVES = {
    "camera": {"camera_bev", "gated_camera", "depth_logits"},
    "radar": {"radar_bev"},
    "lidar": {"lidar_bev"},
}


def network(branches, seed=0):
    torch.manual_seed(seed)
    return roughen(build_detector(with_branches(*branches))).eval()


@SETS
def test_a_branch_is_there_or_nothing_of_it_is(branches) -> None:
    model = network(branches).train()
    config = model.config
    assert config.branches == branches
    parts = {key.partition(".")[0] for key in model.state_dict()}
    assert parts == {"fuser", "decoder", "head"}.union(*(PARTS[branch] for branch in branches))
    data = collate([lidar_frame(0), lidar_frame(1)], config)
    assert (data.images.numel() > 0) == data.camera_present.any() == ("camera" in branches)
    assert (data.radar.numel() > 0) == data.radar_present.any() == ("radar" in branches)
    output = model(data)
    optional = set().union(*GIVES.values())
    given = {name for name in optional if getattr(output, name) is not None}
    assert given == set().union(*(GIVES[branch] for branch in branches))
    assert output.fused.shape == (2, config.fused_channels, *config.grid.shape)
    loss = sum((v * torch.randn_like(v)).sum() for maps in output.tasks for v in maps.values())
    loss.backward()
    idle = [n for n, p in model.named_parameters() if p.grad is None]
    # The neck of TINY leaves the last stage of the backbone out.
    assert [name for name in idle if "stages.3" not in name] == []


@torch.no_grad()
def test_gates_by_hand() -> None:
    """g_i = sigmoid(conv([F_1, F_2])), a gate for every channel; F is made of what passes."""
    torch.manual_seed(0)
    fuser = roughen(GatedFuser([3, 5], 4, gate_kernel=3)).eval()
    maps = [torch.randn(2, width, 6, 7) for width in (3, 5)]
    (ours, theirs), fused = fuser(maps)
    conv, norm = fuser.out[0], fuser.out[1]
    logits = torch.nn.functional.conv2d(
        torch.cat(maps, 1), fuser.gate.weight, fuser.gate.bias, padding=1
    )
    passed = torch.cat(maps, 1) / (1 + (-logits).exp())
    torch.testing.assert_close(torch.cat([ours, theirs], 1), passed)
    assert ours.shape[1] == 3
    mixed = torch.nn.functional.conv2d(passed, conv.weight, padding=1)
    torch.testing.assert_close(fused, norm(mixed).clamp(min=0))


@SETS
def test_a_single_branch_is_not_gated(branches) -> None:
    model = network(branches)
    assert model.config.fuser == "gated"
    assert type(model.fuser) is (ConvFuser if len(branches) == 1 else GatedFuser)
    inputs = model.fuser.out[0].weight.shape[1]
    assert inputs == 8 * len(branches)


@SETS
def test_only_its_own_sensors_count(branches, tmp_path) -> None:
    """A detector of a file: others' pixels and points change nothing, its own change the boxes."""
    save_weights(network(branches), tmp_path / "w.safetensors")
    detector = Detector.load(tmp_path / "w.safetensors", score_threshold=0.0)
    whole = lidar_frame(0)
    found = detector(whole)
    assert len(found) > 0
    other = lidar_frame(1)
    changes = {
        "camera": {"images": other.images},
        "radar": {"radar": other.radar},
        "lidar": {"lidar": other.lidar},
    }
    for name, change in changes.items():
        again = detector(dataclasses.replace(whole, **change))
        same = len(again) == len(found) and np.array_equal(again.score, found.score)
        assert same == (name not in branches), name


@SETS
def test_a_frame_without_its_sensors_is_refused(branches) -> None:
    detector = Detector(network(branches))
    blind = lidar_frame()
    if "camera" in branches:
        blind = blind.without(*CAMERAS)
    if "radar" in branches:
        blind = blind.without(*RADARS)
    if "lidar" in branches:
        blind = dataclasses.replace(blind, lidar=None)
    with pytest.raises(InferError, match=f"has no {' and no '.join(branches)}: there is nothing"):
        detector(blind)
    if "lidar" in branches and len(branches) > 1:
        with pytest.raises(FrameError, match="has no LiDAR"):
            detector(frame())
    # Images of a Frame that nobody looks at may be of any kind.
    if "camera" not in branches:
        odd = dataclasses.replace(TINY.image, zoom=3.0)
        detector(dataclasses.replace(lidar_frame(), prepared=odd))


def test_a_detector_without_any_branch_is_refused() -> None:
    with pytest.raises(ConfigError, match="all null, and it needs one of them"):
        with_branches()


def as_written_before(config: DetectorConfig) -> dict:
    """The plain data of format 1: always a radar entry, also where LiDAR is in its place."""
    data = to_dict(config) | {"radar": to_dict(TINY.radar)}
    return data | {"head": old_head(data["head"])}


def old_head(head: dict) -> dict:
    """The head's data until format 2."""
    return {k: v for k, v in head.items() if k != "hidden"} | {
        "joint_regression": head["hidden"] == "task"
    }


@pytest.mark.parametrize("branches", [("camera", "radar"), ("camera", "lidar")])
def test_weights_of_format_1_mean_what_they_meant(branches, tmp_path) -> None:
    """LiDAR took the place of radar, whatever the file said of radar."""
    model = network(branches)
    path, old = tmp_path / "new.safetensors", tmp_path / "old.safetensors"
    save_weights(model, path, extra={"step": "12"})
    assert read_metadata(path)["format"] == "3"
    data = as_written_before(model.config)
    save_file(load_file(path), old, metadata={"config": json.dumps(data), "step": "12"})
    loaded = load_weights(old)
    assert loaded.config == model.config
    batch = collate([lidar_frame()], model.config)
    with torch.no_grad():
        assert torch.equal(loaded(batch).decoded, model(batch).decoded)


def test_the_oldest_weights_have_no_lidar_entry() -> None:
    data = to_dict(TINY)
    del data["lidar"], data["camera"]["lidar_depth"], data["camera"]["lift_cell"]
    assert from_dict(DetectorConfig, upgraded(data, format=None)) == TINY


def test_format_2_is_taken_at_its_word() -> None:
    for branches in EVERY:
        data = to_dict(with_branches(*branches))
        data["head"] = old_head(data["head"])
        assert from_dict(DetectorConfig, upgraded(data, format="2")) == with_branches(*branches)


def test_heads_of_format_2_keep_their_hidden_channels() -> None:
    for joint, hidden in ((True, "task"), (False, "branch")):
        data = to_dict(with_branches("radar"))
        data["head"] = old_head(data["head"]) | {"joint_regression": joint}
        assert from_dict(DetectorConfig, upgraded(data, format="2")).head.hidden == hidden


def test_weights_of_a_later_version_are_refused(tmp_path) -> None:
    path, later = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    save_weights(network(("radar",)), path)
    save_file(load_file(path), later, metadata=read_metadata(path) | {"format": "4"})
    with pytest.raises(CheckpointError, match=r"expected one of 1, 2, 3, got '4'.*later version"):
        load_weights(later)
    with pytest.raises(CheckpointError, match="'format' is the configuration's own"):
        save_weights(network(("radar",)), path, extra={"format": "2"})


def test_lidar_of_the_batch_stays_for_losses_that_read_it() -> None:
    data = collate([lidar_frame()], with_branches("camera", "radar"))
    assert data.lidar is not None and len(data.lidar) == 500
    assert with_branches("lidar").lidar == LIDAR


#: Changes of the network that the documents name for any preset, each with what it needs.
NAMED = (
    ["detector.radar={}"],
    ["detector.camera={}"],
    ["detector.camera={}", "detector.radar={}", "detector.guide={}"],
    ["detector.fuser=conv"],
    ["detector.temporal={frames: 2}"],
    ["detector.temporal=null"],
    ["detector.segments=null"],
)


@pytest.mark.parametrize("name", [name for name in PRESETS if "swint" not in name])
def test_what_documents_change_of_a_preset_can_be_built(name) -> None:
    """And of the LiDAR branch of defaults, what its refusal names."""
    start = preset(name)
    for changes in NAMED:
        if "detector.temporal={frames: 2}" in changes and start.detector.lidar is not None:
            continue  # A memory goes with no LiDAR.
        check_detector(override(start, changes).detector)
    for kind in ("sparse", "pillars"):
        changes = ["detector.temporal=null", f"detector.lidar={{kind: {kind}}}"]
        try:
            check_detector(override(start, changes).detector)
        except LidarBranchError as error:
            _, _, voxel = str(error).partition("detector.lidar.voxel=")
            check_detector(override(start, [*changes, f"detector.lidar.voxel={voxel}"]).detector)
            assert start.detector.grid.cell != 0.6


@pytest.mark.parametrize(
    "name", [name for name in PRESETS if preset(name).detector.grid.cell == 0.8]
)
def test_the_small_lidar_branch_of_the_documents_fits_the_demo(name) -> None:
    text = Path("docs/method.md").read_text()
    (change,) = re.findall(r"--set '(detector\.lidar={kind.*?})'", text)
    check_detector(override(preset(name), ["detector.temporal=null", change]).detector)
