"""The recorded network of a GPU: its form on any machine, and itself where there is a GPU."""

import contextlib
import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from model_tiny import TINY, frame, learned, roughen, with_branches

from crkd_core.config import GuideConfig, SegmentsConfig, TemporalConfig
from crkd_core.data.batch import collate
from crkd_core.infer.detector import Detector
from crkd_core.infer.engines.cuda_graph import GraphNetwork
from crkd_core.infer.engines.joined_head import JoinedHead
from crkd_core.infer.engines.pooling import pooled
from crkd_core.infer.errors import EngineError, InferError
from crkd_core.infer.fold import fold_batch_norms
from crkd_core.model.build import build_detector
from crkd_core.model.camera.lift import LiftIndex

ON_GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


def built(config, seed=0):
    torch.manual_seed(seed)
    return roughen(build_detector(config)).eval()


def frames():
    lost = frame(2).keeping(["CAM_BACK", "CAM_FRONT", "RADAR_FRONT"])
    turned = dataclasses.replace(frame(0), ego_T_cam=frame(0).ego_T_cam[::-1].copy())
    return [frame(0), frame(1, points=0), lost, turned, frame(0)]


#: Where it computes in tests of what is the same everywhere.
DEVICES = [
    torch.device("cpu"),
    pytest.param(torch.device("cuda"), marks=ON_GPU),
]


def assert_same_maps(found, expected, atol):
    maps = [name for name in expected if name.startswith("task")]
    assert len(maps) == 36
    for name in maps:
        torch.testing.assert_close(found[name].float(), expected[name], atol=atol, rtol=atol)


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("branches", [("camera", "radar"), ("camera",), ("radar",)])
@pytest.mark.parametrize("change", [{}, {"guide": GuideConfig(intensity="density")}])
def test_its_form_changes_nothing(device, branches, change):
    if change and branches != ("camera", "radar"):
        pytest.skip("a guide reads both")
    model = built(dataclasses.replace(with_branches(*branches), **change))
    network = GraphNetwork(model, device, "fp32")
    # Cameras that come, go and move, one frame after the other.
    for one in frames():
        data = collate([one], model.config)
        expected = model(data).tensors()
        found = network(data).tensors()
        assert_same_maps(found, expected, 1e-4 if device.type == "cpu" else 1e-2)


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
def test_room_for_radar_points_grows(device):
    model = built(TINY)
    network = GraphNetwork(model, device, "fp32")
    crowd = frame(0)
    crowd = dataclasses.replace(crowd, radar=np.tile(crowd.radar, (6000 // len(crowd.radar), 1)))
    for one in (frame(0), crowd, frame(1)):
        data = collate([one], model.config)
        told = pytest.warns(UserWarning, match="recorded anew, with room for 8192")
        with told if one is crowd else contextlib.nullcontext():
            found = network(data).tensors()
        expected = model(data).tensors()
        assert_same_maps(found, expected, 1e-4 if device.type == "cpu" else 1e-2)
    assert network._inputs.capacity.radar_points == 8192


@torch.no_grad()
@pytest.mark.parametrize("device", DEVICES)
def test_what_is_remembered_is_not_overwritten(device):
    config = dataclasses.replace(
        TINY, temporal=TemporalConfig(frames=2), segments=SegmentsConfig()
    )
    model = built(config)
    network = GraphNetwork(model, device, "fp32")
    size = (1, 2, config.fused_channels, *config.grid.shape)
    first, limit = None, 1e-4 if device.type == "cpu" else 1e-2
    for i, past in enumerate((None, torch.rand(size), torch.rand(size))):
        data = collate([frame(i)], config)
        expected = model(data, past).tensors()
        found = network(data, None if past is None else past.to(device)).tensors()
        assert_same_maps(found, expected, limit)
        for name in ("instant", "segments"):
            torch.testing.assert_close(found[name].cpu(), expected[name], atol=limit, rtol=limit)
        first = first or (found["instant"], expected["instant"])
    torch.testing.assert_close(first[0].cpu(), first[1], atol=limit, rtol=limit)


@torch.no_grad()
@pytest.mark.parametrize("hidden", ["branch", "task", "head"])
@pytest.mark.parametrize("kernel", [1, 3])
def test_a_joined_head_answers_the_same(hidden, kernel):
    head = dataclasses.replace(TINY.head, hidden=hidden, output_kernel=kernel)
    model = fold_batch_norms(built(dataclasses.replace(TINY, head=head)))
    decoded = torch.randn(1, model.head.shared[0].in_channels, *TINY.grid.shape)
    expected, found = model.head(decoded), JoinedHead(model.head)(decoded)
    for mine, other in zip(found, expected, strict=True):
        assert sorted(mine) == sorted(other)
        for name, maps in other.items():
            torch.testing.assert_close(mine[name], maps, atol=1e-5, rtol=1e-4)


def some_points(seed, *, pixels, bins, cells, outside):
    """Depths, rows, and a fixed index of all points; some cells get none and some many."""
    torch.manual_seed(seed)
    depth = torch.rand(pixels, bins)
    cell = (cells * torch.rand(pixels * bins) ** 3).int()
    cell[torch.rand(pixels * bins) < outside] = cells
    ordered, point = cell.sort(stable=True)
    offset = torch.searchsorted(ordered, torch.arange(cells + 1, dtype=torch.int32))
    return depth, cell, LiftIndex(point, point // bins, offset)


@pytest.mark.parametrize("outside", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("channels", [1, 5, 80])
def test_pooling_sums_what_lies_in_each_cell(outside, channels):
    depth, cell, index = some_points(0, pixels=40, bins=7, cells=30, outside=outside)
    rows = torch.rand(40, channels)
    every = (depth[:, :, None] * rows[:, None]).flatten(0, 1)
    expected = torch.zeros(31, channels).index_add(0, cell, every)[:-1]
    torch.testing.assert_close(pooled(depth, rows, index), expected)


#: The kernel by Triton's interpreter, which must be asked for before Triton is imported.
INTERPRETED = """
import torch
from test_cuda_graph import some_points
from crkd_core.infer.engines.pooling import launch, pooled
for outside, channels in ((0.0, 5), (0.4, 80), (1.0, 3)):
    depth, _, index = some_points(1, pixels=40, bins=7, cells=30, outside=outside)
    rows = torch.rand(40, channels)
    torch.testing.assert_close(launch(depth, rows, index), pooled(depth, rows, index))
"""


def test_the_kernel_by_the_interpreter():
    pytest.importorskip("triton")
    here = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", INTERPRETED],
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": here},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_without_a_gpu_it_is_refused():
    with pytest.raises(EngineError, match=r"cuda_graph needs a GPU, got device cpu"):
        Detector(learned(), engine="cuda_graph")
    if not torch.cuda.is_available():
        with pytest.raises(InferError, match="sees no CUDA device"):
            Detector(learned(), engine="cuda_graph", device="cuda")


def table(boxes):
    """Rows of the boxes by place: among scores that are nearly equal the order is chance."""
    rows = np.concatenate(
        [boxes.label[:, None], boxes.center, boxes.size, boxes.velocity, boxes.score[:, None]], 1
    )
    return rows[np.lexsort(rows[:, :3].round(1).T)]


@ON_GPU
def test_boxes_are_those_of_the_cpu():
    model = learned()
    reference = Detector(model)
    recorded = Detector(model, engine="cuda_graph", device="cuda")
    for one in frames():
        np.testing.assert_allclose(table(recorded(one)), table(reference(one)), atol=2e-2)


@ON_GPU
@pytest.mark.parametrize("precision", ["fp32", "fp16", "bf16"])
def test_maps_are_those_of_torch(precision):
    model = built(TINY)
    plain = Detector(model, device="cuda", precision=precision)
    recorded = Detector(model, device="cuda", precision=precision, engine="cuda_graph")
    limit = {"fp32": 5e-3, "fp16": 2e-2, "bf16": 1e-1}[precision]
    for one in frames():
        data = collate([one], model.config)
        with torch.inference_mode():
            expected = plain._model(data.to("cuda")).tensors()
            found = recorded._network(data).tensors()
        for name in (f"task{i}.heatmap" for i in range(len(model.config.head.tasks))):
            off = (found[name].float() - expected[name].float().cpu()).abs().max()
            assert off < limit * expected[name].abs().max(), name


@ON_GPU
def test_the_same_frame_gives_the_same_boxes():
    recorded = Detector(learned(), engine="cuda_graph", device="cuda", precision="fp16")
    first = [table(recorded(one)) for one in frames()]
    again = [table(recorded(one)) for one in frames()]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)


@ON_GPU
def test_memory_and_segments_stay_where_they_are():
    config = dataclasses.replace(
        TINY, temporal=TemporalConfig(frames=2), segments=SegmentsConfig()
    )
    model = built(config)
    reference = Detector(model, device="cuda")
    recorded = Detector(model, device="cuda", engine="cuda_graph")
    a = b = None
    for i in range(4):
        one = dataclasses.replace(
            frame(i), stamp_ns=1 + i * 500_000_000, scene="a", global_T_ego=np.eye(4)
        )
        _, a = reference.step(one, a)
        _, b = recorded.step(one, b)
        for mine, other in zip(b.moments, a.moments, strict=True):
            torch.testing.assert_close(mine.features, other.features, atol=1e-2, rtol=1e-2)
        np.testing.assert_allclose(
            recorded.segments.probability, reference.segments.probability, atol=2e-2
        )
    assert len(b.moments) > 1


@ON_GPU
def test_another_thread_may_record_while_one_computes():
    model, wrong = learned(), []
    running = Detector(model, engine="cuda_graph", device="cuda")
    expected = table(running(frame(0)))
    stop = threading.Event()

    def compute():
        try:
            while not stop.is_set():
                np.testing.assert_array_equal(table(running(frame(0))), expected)
        except BaseException as error:
            wrong.append(error)

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        other = Detector(model, engine="cuda_graph", device="cuda")
    finally:
        stop.set()
        thread.join()
    assert not wrong
    np.testing.assert_array_equal(table(other(frame(0))), expected)
