"""Engines against the network that they run, on a tiny one."""

import copy
import dataclasses
import json
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from model_tiny import TINY, batch, frame, learned, lidar_frame, roughen, with_branches
from safetensors.torch import load, save

from crkd_core.config import (
    AttentionConfig,
    GuideConfig,
    RadarViewConfig,
    SegmentsConfig,
    TemporalConfig,
    to_dict,
)
from crkd_core.data.batch import collate
from crkd_core.frame import FrameError
from crkd_core.infer.detector import Detector, InferError
from crkd_core.infer.engines.export import export
from crkd_core.infer.engines.files import (
    Description,
    describe,
    read_description,
    write_export,
)
from crkd_core.infer.engines.fixed import FixedNetwork, as_output
from crkd_core.infer.engines.inputs import Capacity
from crkd_core.infer.engines.int8 import quantise
from crkd_core.infer.errors import EngineError
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import CheckpointError, load_weights, save_weights
from crkd_core.model.decode import DecodeError
from crkd_core.model.head import REGRESSION, stacked

CAPACITY = Capacity(radar_points=100)


def built(config, seed=0):
    torch.manual_seed(seed)
    return roughen(build_detector(config)).eval()


@pytest.fixture(scope="module")
def model():
    return learned()


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory):
    for module in ("onnx", "onnxscript"):
        pytest.importorskip(module)
    path = tmp_path_factory.mktemp("onnx") / "tiny.onnx"
    write_export(FixedNetwork(model, CAPACITY), path)
    return path


@pytest.fixture(scope="module")
def program_file(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("pt2") / "tiny.pt2"
    write_export(FixedNetwork(model, CAPACITY), path)
    return path


def table(boxes):
    return np.concatenate(
        [boxes.center, boxes.size, boxes.yaw[:, None], boxes.velocity, boxes.score[:, None]], 1
    )


def assert_same_boxes(found, expected, atol=1e-3):
    assert len(expected) > 3
    assert found.label.tolist() == expected.label.tolist()
    np.testing.assert_allclose(table(found), table(expected), atol=atol)


@torch.no_grad()
def assert_same_maps(model, frames, past=None):
    network = FixedNetwork(model, CAPACITY, whole_head=True)
    parted = FixedNetwork(model, CAPACITY)
    assert network.boxes is None and parted.boxes is not None
    every = torch.arange(network.inputs.cells)
    for one in frames:
        data = collate([one], model.config)
        expected = model(data, past).tensors()
        given = network.inputs(data, past).values()
        answers = network.answers(*given)
        assert sum(name.startswith("task") for name in answers) == 36
        for name, found in as_output(answers).tensors().items():
            if name == "fused":
                continue  # Not answered.
            torch.testing.assert_close(found, expected[name], atol=1e-4, rtol=1e-4)
        output = as_output(parted.answers(*given))
        boxes = parted.boxes.at(output.tasks, 0, [every] * 6).split(len(every), 1)
        for index, maps in enumerate(output.tasks):
            assert sorted(maps) == ["heatmap", "shared"]
            heatmap = answers[f"task{index}.heatmap"]
            torch.testing.assert_close(maps["heatmap"], heatmap, atol=1e-4, rtol=1e-4)
            whole = stacked({k: answers[f"task{index}.{k}"] for k in REGRESSION})
            torch.testing.assert_close(boxes[index], whole[0].flatten(1), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("branches", [("camera", "radar"), ("camera",), ("radar",)])
def test_fixed_shapes_change_nothing(branches):
    model = built(with_branches(*branches))
    lost = frame(2).keeping(["CAM_BACK", "CAM_FRONT", "RADAR_FRONT"])
    assert_same_maps(model, [frame(0), frame(1, points=0), lost])


@pytest.mark.parametrize(
    "change",
    [
        {"guide": GuideConfig(intensity="activation")},
        {"guide": GuideConfig(intensity="density")},
        {
            "fuser": "attention",
            "attention": AttentionConfig(heads=2, points=2, layers=1),
            "guide": GuideConfig(),
        },
        {"radar": dataclasses.replace(TINY.radar, points_per_pillar=2)},
        {"radar": dataclasses.replace(TINY.radar, calibration="path")},
        {"radar": dataclasses.replace(TINY.radar, calibration="side")},
    ],
    ids=lambda change: " ".join(change),
)
def test_other_parts_have_fixed_shapes_too(change):
    assert_same_maps(built(dataclasses.replace(TINY, **change)), [frame(0), frame(1, points=0)])


def test_the_second_head_answers_through_an_engine(tmp_path):
    model = built(dataclasses.replace(TINY, segments=SegmentsConfig(channels=8)))
    assert_same_maps(model, [frame(0)])
    path = tmp_path / "cells.pt2"
    write_export(FixedNetwork(model, CAPACITY), path)
    reference, detector = Detector(model), Detector.load(path, engine="export")
    for one in (reference, detector):
        one(frame(0))
    assert detector.segments.classes == reference.segments.classes
    np.testing.assert_allclose(
        detector.segments.probability, reference.segments.probability, atol=1e-5
    )


def test_memory_is_an_input_and_an_output():
    model = built(dataclasses.replace(TINY, temporal=TemporalConfig(frames=2)))
    past = torch.randn((1, 2, TINY.fused_channels, *TINY.grid.shape))
    assert_same_maps(model, [frame(0)], past)
    assert_same_maps(model, [frame(0)])


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino", "export"])
def test_every_engine_finds_the_boxes_of_the_network(engine, model, request):
    if engine != "export":
        pytest.importorskip(engine)
    path = request.getfixturevalue("program_file" if engine == "export" else "onnx_file")
    detector = Detector.load(path, engine=engine)
    reference = Detector(model)
    assert (detector.engine, detector.precision, detector.config) == (engine, "fp32", TINY)
    lost = frame(1).keeping(["CAM_BACK", "CAM_FRONT", "RADAR_FRONT"])
    for one in (frame(0), frame(1), lost, frame(0)):
        assert_same_boxes(detector(one), reference(one))
    for one in (frame(0), lost):
        data = collate([one], TINY)
        with torch.inference_mode():
            expected, found = model(data).tensors(), detector._network(data, None).tensors()
        assert sum(name.endswith("heatmap") for name in found) == len(TINY.head.tasks)
        for name in (name for name in found if name.endswith("heatmap")):
            torch.testing.assert_close(found[name], expected[name], atol=1e-4, rtol=1e-4)
    assert set(detector.timing) == {"prepare", "network", "decode"}


@pytest.mark.filterwarnings("ignore:precision bf16 is emulated")
def test_bfloat16_of_openvino_is_near(model, onnx_file):
    pytest.importorskip("openvino")
    detector = Detector.load(onnx_file, engine="openvino", precision="bf16")
    found, expected = detector(frame(0)), Detector(model)(frame(0))
    assert detector.precision == "bf16"
    distance = np.linalg.norm(found.center[:3, None, :2] - expected.center[None, :, :2], axis=2)
    assert (distance.min(1) < 0.3).all()


#: Engine and precision of whatever computes a network.
EVERY = [
    ("torch", "fp32"),
    ("torch", "bf16"),
    ("export", "fp32"),
    ("onnxruntime", "fp32"),
    ("openvino", "fp32"),
    ("openvino", "bf16"),
    ("onnxruntime", "int8"),
    ("openvino", "int8"),
    pytest.param(
        ("cuda_graph", "fp32"),
        marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    ),
]


@pytest.fixture
def any_detector(variant, model, request):
    """A detector on the network of ``model``."""
    engine, precision = variant
    if engine in ("onnxruntime", "openvino"):
        pytest.importorskip(engine)
    if engine in ("torch", "cuda_graph"):
        device = "cuda" if engine == "cuda_graph" else "cpu"
        return Detector(model, device=device, engine=engine, precision=precision)
    kind = "program_file" if engine == "export" else "onnx_file"
    path = request.getfixturevalue("int8_file" if precision == "int8" else kind)
    return Detector.load(
        path, engine=engine, precision="fp32" if precision == "int8" else precision
    )


@pytest.mark.filterwarnings("ignore:precision bf16 is emulated")
@pytest.mark.parametrize("variant", EVERY)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_nan_is_an_error_with_every_engine(value, any_detector, monkeypatch):
    """OpenVINO, and int8, would make plausible boxes of it. A Frame refuses it as well."""
    sound = frame(0)
    radar = sound.radar.copy()
    inside = np.flatnonzero((np.abs(radar[:, :2]) < 10).all(1))
    radar[inside[0], 5] = value
    with pytest.raises(FrameError, match="rcs: expected finite numbers"):
        dataclasses.replace(sound, radar=radar)
    with monkeypatch.context() as unchecked:
        unchecked.setattr("crkd_core.frame_checks.check_radar", lambda *_: None)
        spoilt = dataclasses.replace(sound, radar=radar)
        with pytest.raises((EngineError, DecodeError), match="not finite"):
            any_detector(spoilt)
    assert len(any_detector(sound)) > 3  # And it goes on.


@pytest.mark.filterwarnings("ignore:precision bf16 is emulated")
@pytest.mark.parametrize("variant", EVERY)
def test_threads_may_share_a_detector(any_detector):
    frames = [frame(seed) for seed in range(3)]
    expected = [any_detector(one) for one in frames]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(any_detector, frames * 4))
    for one, other in zip(found, expected * 4, strict=True):
        np.testing.assert_allclose(np.sort(one.score), np.sort(other.score), atol=1e-4)
        assert len(one) == len(other) > 0


@pytest.mark.parametrize("ending", ["onnx", "pt2"])
def test_weights_that_are_not_finite_are_no_engines(ending, model, tmp_path, request):
    network = FixedNetwork(model, CAPACITY)
    with torch.no_grad():
        next(network.model.decoder.parameters())[0] = float("nan")
    path = tmp_path / f"a.{ending}"
    with pytest.raises(EngineError, match=r"^a\.\w+ is not written: model\.decoder.* not finite"):
        write_export(network, path)
    assert not path.exists()
    about = read_description(request.getfixturevalue("program_file"))
    state = load(about.boxes)
    next(iter(state.values()))[0] = float("inf")
    with pytest.raises(EngineError, match=r"box branches: \w+.* not finite"):
        dataclasses.replace(about, boxes=save(state)).box_branches()
    if ending == "onnx":
        onnx = pytest.importorskip("onnx")
        stored = onnx.load(request.getfixturevalue("onnx_file"))
        weights = next(one for one in stored.graph.initializer if len(one.dims) == 4)
        values = onnx.numpy_helper.to_array(weights).copy()
        values.flat[0] = np.nan
        weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
        onnx.save(stored, path)
        with pytest.raises(EngineError, match=r"a\.onnx: .* not finite"):
            read_description(path)


@pytest.fixture(scope="module")
def int8_file(onnx_file, tmp_path_factory):
    pytest.importorskip("onnxruntime")
    path = tmp_path_factory.mktemp("int8") / "int8.onnx"
    assert quantise(onnx_file, path, [frame(0), frame(1)]) > 20
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_int8_is_calibrated_on_frames(engine, model, int8_file):
    pytest.importorskip(engine)
    detector = Detector.load(int8_file, engine=engine)
    assert detector.precision == "int8"
    with torch.inference_mode():
        expected = model(batch(0)).tensors()
        found = detector._network(batch(0), None).tensors()
    for name in (name for name in found if name.endswith("heatmap")):
        error = (found[name] - expected[name]).norm() / expected[name].norm()
        assert 1e-4 < error < 0.15
    best, boxes = Detector(model)(frame(0)).center[0, :2], detector(frame(0))
    # To a quarter of a cell.
    assert np.linalg.norm(boxes.center[:3, :2] - best, axis=1).min() < 0.5


def test_a_file_says_whether_it_is_int8(onnx_file, int8_file, tmp_path):
    assert read_description(int8_file).int8 and not read_description(onnx_file).int8
    with pytest.raises(EngineError, match="no Frame"):
        quantise(onnx_file, tmp_path / "none.onnx", [])
    assert not (tmp_path / "none.onnx").exists()
    with pytest.raises(EngineError, match="in fp32"):
        quantise(int8_file, tmp_path / "again.onnx", [frame(0)])


def test_a_file_for_other_programs_answers_every_cell(model, onnx_file, tmp_path):
    assert "task0.reg" not in read_description(onnx_file).outputs
    path = tmp_path / "whole.pt2"
    assert "whole head" in export(model, path, capacity=CAPACITY, whole_head=True)
    outputs = read_description(path).outputs
    assert "shared" not in outputs and len(outputs) == 36
    assert_same_boxes(Detector.load(path, engine="export")(frame(0)), Detector(model)(frame(0)))


def test_box_branches_come_back_whole_or_not_at_all(onnx_file):
    about = read_description(onnx_file)
    state = torch.get_rng_state()
    branches = about.box_branches()
    assert torch.equal(state, torch.get_rng_state())
    assert all(not part.is_meta for part in branches.state_dict().values())
    for broken in (about.boxes[:-7], b"no weights", about.boxes[:8]):
        with pytest.raises(EngineError, match="export it again"):
            dataclasses.replace(about, boxes=broken).box_branches()
    other = dataclasses.replace(
        about.config, head=dataclasses.replace(TINY.head, branch_channels=4)
    )
    with pytest.raises(EngineError, match="export it again"):
        dataclasses.replace(about, config=other).box_branches()


def test_weights_are_exported_when_an_engine_is_asked_for(model, tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(model, path)
    detector = Detector.load(path, engine="export")
    assert_same_boxes(detector(frame(0)), Detector(model)(frame(0)))


def test_memory_through_an_engine(tmp_path):
    model = built(dataclasses.replace(TINY, temporal=TemporalConfig(frames=1)))
    path = tmp_path / "memory.pt2"
    write_export(FixedNetwork(model, CAPACITY), path)
    reference, detector = Detector(model), Detector.load(path, engine="export")
    drive = [
        dataclasses.replace(copy.copy(frame(i)), stamp_ns=1 + i * 500_000_000, scene="a",
                            global_T_ego=np.eye(4))
        for i in range(3)
    ]  # fmt: skip
    a = b = None
    for one in drive:
        expected, a = reference.step(one, a)
        found, b = detector.step(one, b)
        # By place: among scores that are nearly equal the order is chance.
        there, here = (
            np.concatenate([boxes.label[:, None], table(boxes)], 1) for boxes in (found, expected)
        )
        there, here = (rows[np.lexsort(rows[:, :3].round(2).T)] for rows in (there, here))
        np.testing.assert_allclose(there, here, atol=1e-3)
    assert len(b.moments) == len(a.moments) > 1


def test_int8_of_a_network_with_memory_is_refused_before_it_is_exported(tmp_path, monkeypatch):
    model = built(dataclasses.replace(TINY, temporal=TemporalConfig(frames=1)))
    monkeypatch.setattr("crkd_core.infer.engines.export.write_export", None)
    with pytest.raises(EngineError, match="has memory, and int8 is calibrated on Frames one by"):
        export(model, tmp_path / "a.onnx", calibration=[frame(0)])


def test_an_older_file_of_a_network_with_memory_is_refused():
    config = dataclasses.replace(TINY, temporal=TemporalConfig(frames=1))
    about = Description(config=config, capacity=CAPACITY, outputs=("task0.heatmap",))
    assert Description.of(about.text(), Path("a.onnx")) == about
    older = json.loads(about.text())
    del older["memory"]
    with pytest.raises(EngineError, match=r"^a.onnx: written by an older version.*export the"):
        Description.of(json.dumps(older), Path("a.onnx"))
    without = {**older, "config": to_dict(TINY)}
    assert Description.of(json.dumps(without), Path("a.onnx")).config == TINY


def test_what_has_no_fixed_shapes_is_refused():
    with pytest.raises(EngineError, match=r"LiDAR branch.*engine torch"):
        FixedNetwork(build_detector(with_branches("camera", "lidar")), CAPACITY)
    camera = dataclasses.replace(TINY.camera, radar_view=RadarViewConfig())
    with pytest.raises(EngineError, match="radar_view"):
        FixedNetwork(build_detector(dataclasses.replace(TINY, camera=camera)), CAPACITY)
    assert lidar_frame(0).lidar is not None


def test_more_than_there_is_room_for_is_refused(model):
    network = FixedNetwork(model, Capacity(radar_points=10, cameras=5))
    with pytest.raises(EngineError, match="--cameras 6"):
        network.inputs(batch(0))
    few = frame(0).keeping(["CAM_BACK", "RADAR_FRONT", "RADAR_BACK_LEFT", "RADAR_BACK_RIGHT"])
    with pytest.raises(EngineError, match=r"room for 10: .* --radar-points \d+, or more"):
        network.inputs(collate([few], TINY))
    with pytest.raises(EngineError, match="one sample"):
        network.inputs(batch(0, 1))
    with pytest.raises(EngineError, match="1 to 6"):
        Capacity(cameras=7)
    for points in (0, 10**11):
        with pytest.raises(EngineError, match="radar_points: expected 1 to 1000000"):
            Capacity(radar_points=points)


def test_an_engine_is_asked_for_what_it_has(model, program_file, tmp_path):
    with pytest.raises(InferError, match=r"expected one of torch, .*got 'tensorrt'"):
        Detector(model, engine="tensorrt")
    with pytest.raises(InferError, match=r"onnxruntime computes in fp32, got 'bf16'"):
        Detector(model, engine="onnxruntime", precision="bf16")
    with pytest.raises(InferError, match=r"engine torch does not run: name"):
        Detector.load(program_file)
    with pytest.raises(InferError, match=r"engine onnxruntime runs files that end in \.onnx"):
        Detector.load(program_file, engine="onnxruntime")
    with pytest.raises(EngineError, match=r"ends in \.onnx or \.pt2"):
        write_export(FixedNetwork(model, CAPACITY), tmp_path / "a.engine")


def test_a_damaged_program_is_one_line(program_file, tmp_path, caplog, capfd):
    data = program_file.read_bytes()
    broken = tmp_path / "broken.pt2"
    middle = bytearray(data)
    middle[len(data) // 3 : len(data) // 3 + 20000] = bytes(20000)
    for content, said in ((b"", "cut off"), (data[: len(data) // 2], "cut off"), (middle, "read")):
        broken.write_bytes(content)
        with caplog.at_level(logging.WARNING), pytest.raises(EngineError, match=said) as caught:
            Detector.load(broken, engine="export")
        assert "\n" not in str(caught.value)
    assert not caplog.records
    assert capfd.readouterr() == ("", "")


def test_a_file_that_an_engine_cannot_run_is_one_line(onnx_file, tmp_path):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    stored = onnx.load(onnx_file)
    stored.ir_version = 99
    path = tmp_path / "later.onnx"
    path.write_bytes(stored.SerializeToString())
    with pytest.raises(EngineError, match=r"later\.onnx: onnxruntime cannot run it:") as caught:
        Detector.load(path, engine="onnxruntime")
    assert "\n" not in str(caught.value)


def test_what_an_engine_says_of_a_frame_is_one_line(onnx_file, tmp_path):
    """Of a file that holds less than it says."""
    onnx = pytest.importorskip("onnx")
    stored = onnx.load(onnx_file)
    about = read_description(onnx_file)
    describe(stored, dataclasses.replace(about, capacity=Capacity(radar_points=200)))
    path = tmp_path / "less.onnx"
    path.write_bytes(stored.SerializeToString())
    for engine in ("onnxruntime", "openvino"):
        pytest.importorskip(engine)
        detector = Detector.load(path, engine=engine)
        with pytest.raises(EngineError, match=f"engine {engine} failed: ") as caught:
            detector(frame(0))
        assert "\n" not in str(caught.value)


def test_an_exported_file_is_known_by_its_ending(program_file, tmp_path):
    other = tmp_path / "A.PT2"
    other.write_bytes(program_file.read_bytes())
    assert len(Detector.load(other, engine="export")(frame(0))) > 3
    for path in (program_file, other):
        with pytest.raises(CheckpointError, match=r"is an exported network.*\.safetensors"):
            load_weights(path)
