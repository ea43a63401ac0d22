"""The stages of `crkd bench`: all of a frame's way, with the work that the network really does."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from model_tiny import TINY, with_branches
from torch.utils.flop_counter import FlopCounterMode

from crkd_core.config import GuideConfig, TemporalConfig
from crkd_core.data.batch import collate
from crkd_core.infer.bench import random_frame
from crkd_core.infer.detector import Detector
from crkd_core.infer.fused import directly
from crkd_core.infer.plain_layers import Rates, rates
from crkd_core.infer.stage_report import RESULTS, stage_table, write_stages
from crkd_core.infer.stages import driving, recalling, stages
from crkd_core.model.build import build_detector
from crkd_core.presets import preset

REMEMBERING = dataclasses.replace(
    TINY, guide=GuideConfig(intensity="activation"), temporal=TemporalConfig(frames=2)
)


@pytest.fixture(scope="module", params=[TINY, REMEMBERING], ids=["plain", "memory"])
def detector(request):
    torch.manual_seed(0)
    return Detector(build_detector(request.param))


@pytest.fixture(scope="module")
def found(detector):
    return stages(detector, random_frame(detector.config), rounds=2)


def test_every_stage_is_there_once_in_the_order_of_the_way(detector, found):
    names = [stage.name for stage in found]
    assert len(set(names)) == len(names)
    assert names[:3] == ["JPEG", "resize", "batch, upload"]
    assert names[-3:] == ["other", "decode", "NMS"]
    assert {"backbone", "neck", "lift", "radar", "fuse", "decoder", "head"} <= set(names)
    beside = ["moved maps", "guide", "memory"]
    assert [name for name in names if name in beside] == (
        [] if detector.config.temporal is None else beside
    )
    # What no clock can tell apart is zero, never less.
    assert all(stage.milliseconds > -0.1 for stage in found)


def test_a_network_without_cameras_pays_for_no_images():
    detector = Detector(build_detector(with_branches("radar")))
    names = [stage.name for stage in stages(detector, random_frame(detector.config), rounds=1)]
    assert names[:2] == ["batch, upload", "radar"]


@pytest.mark.parametrize("name", ["vod_student", "vod_teacher"])
def test_a_detector_of_view_of_delft_is_timed_with_its_one_camera_and_one_radar(name):
    config = preset(name).detector
    frame = random_frame(config)
    batch = collate([frame], config)
    assert batch.camera_present[0].tolist() == [True] + 5 * [False]
    assert {*frame.radar[:, -1]} == {0} and frame.radar_present.tolist() == [True] + 4 * [False]
    assert config.lidar is None or {*frame.lidar[:, 4]} == {0}
    detector = Detector(build_detector(config))
    found = {stage.name: stage for stage in stages(detector, frame, rounds=1)}
    assert found["backbone"].gflop == pytest.approx(_of_one_image(detector, "backbone"), rel=0.1)


def _of_one_image(detector, part):
    """GFLOP of a part of the image branch for a single image."""
    size = detector.config.image
    with FlopCounterMode(display=False) as counter, directly(detector._model):
        getattr(detector._model.image, part)(torch.zeros(1, 3, size.height, size.width))
    return counter.get_total_flops() / 1e9


def test_a_detector_of_nuscenes_is_timed_with_six_cameras_and_five_radars():
    frame = random_frame(preset("demo_teacher").detector)
    assert all(image is not None for image in frame.images) and frame.radar_present.all()
    assert len(np.unique(frame.lidar[:, 4])) == 10


def test_the_work_of_the_stages_is_that_of_a_frame(detector, found):
    with FlopCounterMode(display=False) as counter, directly(detector._model):
        # From another place, so that where its cameras look is new again.
        detector(driving(random_frame(detector.config), 99))
    assert sum(stage.gflop for stage in found) == pytest.approx(counter.get_total_flops() / 1e9)
    assert all(stage.megabytes > 0 for stage in found if stage.gflop)
    # Boxes of this head are computed at its peaks, when they are decoded.
    assert detector.regress is not None
    assert next(stage for stage in found if stage.name == "decode").gflop > 0


def test_a_drive_is_remembered_whole(detector):
    frame = random_frame(detector.config)
    now, memory = recalling(detector, frame)
    if detector.config.temporal is None:
        assert now is frame and memory is None
        return
    assert detector.step(now, memory)[1].forgot == ""
    maps = detector._past(now, memory.before(now, detector.config))
    assert maps.shape[1] == 2 and maps.abs().amax((0, 2, 3, 4)).gt(0).all()


def test_the_detector_answers_as_before(detector, found):
    for module in detector._model.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


def test_figures_and_picture(found, tmp_path):
    reached = Rates(convolution=100.0, matmul=200.0, copy=3.0)
    table = stage_table(found, reached, precision="fp32")
    assert [row[0] for row in table.rows] == [*(stage.name for stage in found), "all"]
    write_stages(tmp_path, {"fp32": (found, reached)}, machine={"threads": 1}, variants={})
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(RESULTS)
    saved = json.loads((tmp_path / "bench.json").read_text())["stages"]["fp32"]
    assert saved["rates_gflops"] == {"convolution": 100.0, "matmul": 200.0}
    assert saved["copy_gb_s"] == 3.0
    assert "3.0 GB/s" in table.title
    assert [stage["name"] for stage in saved["stages"]] == [stage.name for stage in found]


def test_plain_layers_have_a_rate():
    measured = rates(torch.device("cpu"), torch.float32)
    assert measured.convolution > 0
    assert measured.matmul > 0
    assert measured.copy > 0
