import copy
import dataclasses
import warnings

import numpy as np
import pytest
import torch
from model_tiny import TINY, batch, frame, learned, roughen
from torch import nn

from crkd_core.frame import FrameError
from crkd_core.infer.detector import Detector, InferError
from crkd_core.infer.fold import FoldError, fold_batch_norms
from crkd_core.model.checkpoint import save_weights
from crkd_core.model.decode import DecodeError
from crkd_core.sensors import RADARS


@pytest.fixture(scope="module")
def model():
    return learned()


def maps(output):
    return torch.cat([torch.cat(list(task.values()), 1) for task in output.tasks], 1)


def table(boxes):
    return np.concatenate(
        [boxes.center, boxes.size, boxes.yaw[:, None], boxes.velocity, boxes.score[:, None]], 1
    )


@torch.no_grad()
def test_folding_changes_nothing_but_the_number_of_layers(model):
    rough = roughen(copy.deepcopy(model))
    folded = fold_batch_norms(rough)
    norms = [m for m in folded.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert not norms
    expected = maps(rough(batch(0, 1)))
    assert not torch.allclose(expected, maps(model(batch(0, 1))))
    torch.testing.assert_close(maps(folded(batch(0, 1))), expected, atol=1e-3, rtol=1e-3)


def test_folding_needs_evaluation_mode(model):
    with pytest.raises(FoldError, match="evaluation mode"):
        fold_batch_norms(copy.deepcopy(model).train())


def test_detector_gives_what_the_network_saw(model, tmp_path):
    path = tmp_path / "a.safetensors"
    save_weights(model, path)
    detector = Detector.load(path, score_threshold=0.2)
    found = detector(frame(0))
    assert detector.config == TINY
    assert 3 < len(found) < 500
    assert (found.score > 0.2).all()
    # Trained on this Frame: the best box is one of its own.
    distance = np.linalg.norm(frame(0).truth.center[:, :2] - found.center[0, :2], axis=1)
    assert distance.min() < 1.5
    assert set(detector.timing) == {"prepare", "network", "decode"}
    assert all(seconds > 0 for seconds in detector.timing.values())


def test_the_answer_does_not_depend_on_what_came_before(model):
    detector = Detector(model)
    first = detector(frame(0))
    detector(frame(1))
    detector(frame(2).keeping(RADARS))
    again = detector(frame(0))
    np.testing.assert_array_equal(table(first), table(again))


def test_images_may_be_prepared_by_the_caller_or_here(model):
    detector = Detector(model)
    raw = dataclasses.replace(frame(0), prepared=None)
    np.testing.assert_array_equal(table(detector(raw)), table(detector(frame(0))))
    other = dataclasses.replace(TINY.image, zoom=1.5)
    with pytest.raises(FrameError):
        detector(dataclasses.replace(frame(0), prepared=other))


def test_the_given_network_is_left_alone(model):
    trained = copy.deepcopy(model).train()
    before = {k: v.clone() for k, v in trained.state_dict().items()}
    Detector(trained, precision="bf16")(frame(0))
    assert trained.training
    assert all(torch.equal(v, before[k]) for k, v in trained.state_dict().items())
    assert all(p.requires_grad for p in trained.parameters())


def test_threads_are_left_alone(model):
    threads = torch.get_num_threads()
    Detector(model)(frame(0))
    assert torch.get_num_threads() == threads


@torch.no_grad()
def test_bf16_is_close_and_keeps_geometry_in_float32(model):
    full, half = Detector(model), Detector(model, precision="bf16")
    a, b = (maps(d._model(batch(0))).float() for d in (full, half))
    assert half._model.lift.pixels.dtype == torch.float32
    assert half._model.radar.low.dtype == torch.float32
    assert next(half._model.parameters()).dtype == torch.bfloat16
    error = (a - b).norm() / a.norm()
    assert 0 < error < 0.03
    scores_a, scores_b = (d(frame(0)).score for d in (full, half))
    sure_a, sure_b = (int((scores > 0.2).sum()) for scores in (scores_a, scores_b))
    assert sure_a > 0 and abs(sure_a - sure_b) <= 2
    np.testing.assert_allclose(scores_a[:5], scores_b[:5], atol=0.01)


def test_an_emulated_precision_is_told_and_no_other(model):
    native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        Detector(model, precision="fp32")
        assert not seen
        Detector(model, precision="bf16")
    assert ["emulated" in str(one.message) for one in seen] == ([] if native else [True])


def test_a_frame_without_any_sensor_is_refused(model):
    detector = Detector(model)
    with pytest.raises(InferError, match="no camera and no radar"):
        detector(frame(0).keeping([]))
    detector(frame(0).keeping(["RADAR_FRONT"]))
    detector(frame(0).keeping(["CAM_BACK"]))
    detector(dataclasses.replace(frame(0), radar=frame(0).radar[:0]).keeping(RADARS))


def test_what_is_no_network_or_no_frame_is_refused_by_its_type(model, tmp_path):
    with pytest.raises(InferError, match=r"expected a network, got \w*Path; Detector\.load"):
        Detector(tmp_path / "a.safetensors")
    with pytest.raises(InferError, match="expected one Frame, got list; call it for each Frame"):
        Detector(model)([frame(0)])


def test_a_broken_network_is_an_error_not_an_empty_answer(model):
    broken = copy.deepcopy(model)
    with torch.no_grad():
        broken.fuser.gate.bias.fill_(float("nan"))
    with pytest.raises(DecodeError, match="not finite"):
        Detector(broken)(frame(0))


def test_devices_and_precisions_that_are_not_there_are_refused(model):
    with pytest.raises(InferError, match="expected cpu, cuda or cuda:N"):
        Detector(model, device="tpu9")
    with pytest.raises(InferError, match="needs a CUDA device; on a CPU use 'bf16'"):
        Detector(model, precision="fp16")
    with pytest.raises(InferError, match="expected one of fp32, bf16, fp16"):
        Detector(model, precision="int8")  # type: ignore[arg-type]
    if not torch.cuda.is_available():
        with pytest.raises(InferError, match="sees no CUDA device"):
            Detector(model, device="cuda")


def test_a_threshold_is_checked_whenever_it_is_set(model):
    detector = Detector(model, score_threshold=0.3)
    for value in (1.0, -0.1, float("nan")):
        with pytest.raises(InferError, match=r"score_threshold: expected a number in \[0, 1\)"):
            Detector(model, score_threshold=value)
        with pytest.raises(InferError, match=r"score_threshold: expected a number in \[0, 1\)"):
            detector.score_threshold = value
    assert detector.score_threshold == 0.3
    detector.score_threshold = 0.0
    every = len(detector(frame(0)))
    detector.score_threshold = 0.2
    assert every > len(detector(frame(0))) > 3


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_cuda_agrees_with_the_cpu(model, precision):
    cpu = Detector(model)
    cuda = Detector(model, device="cuda", precision=precision)
    with torch.no_grad():
        a = maps(cpu._model(batch(0)))
        b = maps(cuda._model(batch(0).to("cuda"))).float().cpu()
    assert (a - b).norm() / a.norm() < (2e-3 if precision == "fp32" else 0.03)
    assert len(cuda(frame(0))) > 0
