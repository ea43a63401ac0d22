import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_tiny import TINY, truth

from crkd_core.boxes import Truth
from crkd_core.config import TaskConfig
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.losses.targets import build_targets
from crkd_core.model.decode import DecodeError, _best, candidates, decode
from crkd_core.model.head import REGRESSION
from crkd_core.model.output import ModelOutput


def output_of(tasks):
    empty = torch.zeros(len(tasks[0]["heatmap"]), 1, *TINY.grid.shape)
    return ModelOutput(
        tasks=tasks,
        camera_bev=empty,
        gated_camera=empty,
        radar_bev=empty,
        fused=empty,
        decoded=empty,
        depth_logits=empty,
    )


def perfect(truths, config=TINY):
    """What a head without any error would answer: sure at the peaks, at most 50 % elsewhere."""
    tasks = []
    for target in build_targets(truths, config):
        shape = (len(truths), -1, *config.grid.shape)
        code = torch.zeros(len(truths), 10, config.grid.shape[0] * config.grid.shape[1])
        code[target.sample, :, target.cell] = target.code
        probability = torch.where(target.heatmap == 1, 0.99, target.heatmap / 2)
        parts = code.view(shape).split(list(REGRESSION.values()), 1)
        maps = dict(zip(REGRESSION, parts, strict=True))
        tasks.append({**maps, "heatmap": torch.logit(probability, 1e-6)})
    return output_of(tasks)


def rows(boxes):
    """Boxes as a sorted table."""
    table = np.concatenate(
        [
            boxes.label[:, None],
            boxes.center,
            boxes.size,
            np.stack([np.sin(boxes.yaw), np.cos(boxes.yaw)], 1),
            boxes.velocity,
        ],
        1,
    )
    return table[np.lexsort(table[:, :4].round(3).T[::-1])]


def apart(rng, count):
    """Boxes with 8 m between centres, so that no suppression rule removes one."""
    boxes = truth(rng, count)
    kept: list[int] = []
    for k, center in enumerate(boxes.center):
        if all(np.hypot(*(center - boxes.center[j])[:2]) > 8 for j in kept):
            kept.append(k)
    boxes = boxes.select(np.array(kept))
    return dataclasses.replace(boxes, size=boxes.size.clip(max=1.5))


def test_decoding_perfect_maps_gives_the_truth_back():
    rng = np.random.default_rng(0)
    truths = [apart(rng, 60), Truth.empty(NUSCENES_CLASSES), apart(rng, 60)]
    found = decode(perfect(truths), TINY, score_threshold=0.6)
    assert len(truths[0]) > 8
    for boxes, detections in zip(truths, found, strict=True):
        np.testing.assert_allclose(rows(detections), rows(boxes), atol=2e-5)
        np.testing.assert_allclose(detections.score, 0.99, atol=1e-5)


def test_best_first_and_above_the_threshold_only():
    rng = np.random.default_rng(1)
    tasks = perfect([apart(rng, 60)]).tasks
    for maps in tasks:
        noise = torch.from_numpy(rng.normal(size=maps["heatmap"].shape)).float()
        maps["heatmap"] = maps["heatmap"] + noise
    found = decode(output_of(tasks), TINY, score_threshold=0.3)[0]
    assert len(found) > 10
    assert (np.diff(found.score) <= 0).all() and found.score.min() > 0.3
    stricter = decode(output_of(tasks), TINY, score_threshold=0.7)[0]
    # Suppression only looks at better boxes, so a higher threshold cuts the list.
    np.testing.assert_array_equal(stricter.score, found.score[found.score > 0.7])


def test_every_score_above_the_threshold_and_none_at_it():
    rng = np.random.default_rng(4)
    tasks = perfect([Truth.empty(NUSCENES_CLASSES)]).tasks
    for maps in tasks:
        steps = rng.integers(-512, 513, maps["heatmap"].shape)
        maps["heatmap"] = torch.from_numpy(steps / 64).float()
    head = dataclasses.replace(TINY.head, candidates=9999)
    config = dataclasses.replace(TINY, head=head)
    # Zero has a score of exactly one half; the others lie between two steps.
    for limit in [-np.inf, 0.0, *(np.array([-500, -130, -1, 0, 77, 300, 505]) + 0.5) / 64]:
        threshold = float(1 / (1 + np.exp(-limit)))
        found = candidates(output_of(tasks), config, score_threshold=threshold)[0]
        for boxes, maps in zip(found, tasks, strict=True):
            logits = maps["heatmap"].double().numpy().flatten()
            expected = np.sort(1 / (1 + np.exp(-logits[logits > limit])))[::-1]
            assert len(boxes) == len(expected), limit
            np.testing.assert_allclose(boxes.score, expected, rtol=1e-5)


def test_sizes_stay_within_their_limits():
    head = dataclasses.replace(TINY.head, tasks=TINY.head.tasks[:1], size_limits=(0.2, 30.0))
    config = dataclasses.replace(TINY, head=head, classes=("car",))
    maps = {name: torch.zeros(1, n, *TINY.grid.shape) for name, n in REGRESSION.items()}
    maps["heatmap"] = torch.full((1, 1, *TINY.grid.shape), 1.0)
    maps["dim"] += torch.tensor([-50.0, 0.5, 50.0])[:, None, None]
    found = decode(output_of([maps]), config)[0]
    assert len(found)
    np.testing.assert_allclose(found.size, [[0.2, np.exp(0.5), 30]] * len(found), rtol=1e-6)


def test_candidates_and_kept_boxes_are_limited():
    task = TaskConfig(classes=("car",), nms="circle", nms_threshold=0.1)
    head = dataclasses.replace(TINY.head, tasks=(task,), candidates=20, keep=7)
    config = dataclasses.replace(TINY, head=head, classes=("car",))
    maps = {name: torch.zeros(1, n, *TINY.grid.shape) for name, n in REGRESSION.items()}
    maps["heatmap"] = torch.linspace(0, 1, 24 * 16).view(1, 1, 24, 16)
    found = decode(output_of([maps]), config)[0]
    assert len(found) == 7
    best = torch.linspace(0, 1, 24 * 16).sigmoid().flip(0)[:7]
    np.testing.assert_allclose(found.score, best, rtol=1e-6)


def test_cones_are_enlarged_before_suppression():
    # Two cones of 0.4 m, 1 m apart: without enlargement (factor 4) both would stay.
    boxes = truth(np.random.default_rng(2), 2)
    boxes = dataclasses.replace(
        boxes,
        center=np.array([[0.5, 1.5, 0.0], [0.5, 2.5, 0.0]]),
        size=np.full((2, 3), 0.4),
        yaw=np.zeros(2),
        label=np.full(2, NUSCENES_CLASSES.index("traffic_cone")),
    )
    assert len(decode(perfect([boxes]), TINY, score_threshold=0.6)[0]) == 1
    cones = dataclasses.replace(TINY.head.tasks[5], nms_scale=())
    head = dataclasses.replace(TINY.head, tasks=(*TINY.head.tasks[:5], cones))
    config = dataclasses.replace(TINY, head=head)
    assert len(decode(perfect([boxes], config), config, score_threshold=0.6)[0]) == 2


@pytest.mark.parametrize("name", ["heatmap", "vel"])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("task", [0, 4])
def test_maps_that_are_not_finite_are_refused(name, value, task):
    rng = np.random.default_rng(3)
    output = perfect([apart(rng, 60)])
    maps = output.tasks[task]
    peaks = maps["heatmap"].sigmoid().amax(1, keepdim=True) > 0.6
    assert peaks.any()
    maps[name] = torch.where(peaks, value, maps[name])
    classes = ", ".join(TINY.head.tasks[task].classes)
    with pytest.raises(DecodeError, match=f"task {classes} are not finite"):
        decode(output, TINY, score_threshold=0.6)


@given(
    scores=st.lists(st.integers(0, 6), max_size=40),
    first=st.integers(0, 5),
    most=st.integers(1, 12),
)
def test_the_best_are_those_of_a_stable_sort(scores, first, most):
    score = np.array(scores, np.float32) / 7
    part = slice(min(first, len(score)), len(score))
    expected = part.start + np.argsort(-score[part], kind="stable")[:most]
    np.testing.assert_array_equal(_best(score, part, most), expected)
