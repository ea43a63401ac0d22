"""A detector with memory: the same boxes live and offline, and no ghost of what is forgotten."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from model_tiny import TINY, frame, roughen

from crkd_core.config import IDENTITY, TemporalConfig
from crkd_core.data.batch import collate
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.data.past import picked_moments
from crkd_core.evaluate.predict import detect
from crkd_core.frame import PastFrame
from crkd_core.infer.detector import Detector
from crkd_core.infer.memory import Memory
from crkd_core.model.build import build_detector
from crkd_core.model.decode import decode

CONFIG = dataclasses.replace(TINY, temporal=TemporalConfig(frames=2))


@pytest.fixture(scope="module")
def detector() -> Detector:
    torch.manual_seed(0)
    return Detector(roughen(build_detector(CONFIG)).eval(), score_threshold=0.05)


def at(seed: int, seconds: float, *, x: float | None = None):
    """A Frame at a time, of a vehicle that drives at 4 m/s."""
    pose = np.eye(4)
    pose[0, 3] = 4 * seconds if x is None else x
    stamp = round(1e18 + seconds * 1e9)
    return dataclasses.replace(frame(seed), stamp_ns=stamp, global_T_ego=pose)


def run(detector, frames):
    memory, found = None, []
    for one in frames:
        boxes, memory = detector.step(one, memory)
        found.append(boxes)
    return found, memory


def same(a, b) -> bool:
    return len(a) == len(b) and all(
        np.array_equal(getattr(a, n), getattr(b, n)) for n in ("center", "size", "yaw", "score")
    )


def test_the_nearest_moment_of_each_age() -> None:
    config = TemporalConfig(frames=3)
    stamps = [round(s * 1e9) for s in (7.0, 7.5, 8.1, 8.5, 9.05, 9.5)]
    assert picked_moments(stamps, 10**10, config) == [4, 2, 0]
    assert picked_moments(stamps[5:], 10**10, config) == [None, None, None]
    assert picked_moments([*stamps, 10**10, 11 * 10**9], 10**10, config) == [4, 2, 0]
    assert picked_moments([], 10**10, config) == [None, None, None]
    # 0.3 of half a second is 0.15 s.
    often = TemporalConfig(frames=3, interval=0.5)
    stamps = [round(s * 1e9) for s in (8.3, 8.64, 9.16, 9.36)]
    assert picked_moments(stamps, 10**10, often) == [3, None, 1]


#: x right, y forward, one metre ahead of ego: as released networks have it.
TURNED = ((0.0, 1.0, 0.0, 1.0), (-1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 1.0, 1.5), (0.0, 0.0, 0.0, 1.0))


def on_a_bend(seed: int, seconds: float):
    """``at``, of a vehicle that turns left."""
    one = at(seed, seconds)
    cos, sin = np.cos(0.3 * seconds), np.sin(0.3 * seconds)
    pose = one.global_T_ego.copy()
    pose[:2, :2] = [[cos, -sin], [sin, cos]]
    return dataclasses.replace(one, global_T_ego=pose)


@pytest.mark.parametrize("grid", [IDENTITY, TURNED])
def test_step_by_step_is_what_a_batch_with_its_past_is(grid) -> None:
    """The same network as in training: features kept and moved, or seen again."""
    config = dataclasses.replace(CONFIG, ego_T_grid=grid)
    torch.manual_seed(0)
    detector = Detector(roughen(build_detector(config)).eval(), score_threshold=0.05)
    frames = [on_a_bend(seed, 0.5 * seed) for seed in range(6)]
    found, _ = run(detector, frames)
    now = frames[5]
    past = []
    for index in (3, 1):
        then = frames[index]
        pose = np.linalg.inv(now.global_T_ego) @ then.global_T_ego
        past.append(PastFrame(frame=then, now_T_past=pose))
    seen = collate([dataclasses.replace(now, past=tuple(past))], config)
    with torch.inference_mode():
        (expected,) = decode(
            detector._model(seen), config, score_threshold=0.05, regress=detector.regress
        )
    assert len(expected) and len(found[5]) == len(expected)
    np.testing.assert_allclose(found[5].center, expected.center, atol=1e-3)
    assert not same(detector(now), found[5])


def test_what_was_seen_lies_where_it_is_now() -> None:
    """By hand: a thing at (10, 5) in the world, and a vehicle that drives and turns left."""
    config = dataclasses.replace(
        CONFIG, ego_T_grid=TURNED, temporal=TemporalConfig(frames=3, interval=0.5)
    )
    then, now = at(0, 0.0, x=0.0), at(1, 1.0, x=7.0)
    turned = now.global_T_ego.copy()
    turned[:2] = [[0, -1, 0, 7], [1, 0, 0, 1]]
    now = dataclasses.replace(now, global_T_ego=turned)
    blank = torch.zeros((1, 1, *config.grid.shape))
    # Left of the grid's origin by 5 m and ahead by 9; in the end on its right by 3, ahead by 3.
    before, after = blank.clone(), blank.clone()
    before[0, 0, (-5 + 24) // 2, (9 + 16) // 2] = 1
    after[0, 0, (3 + 24) // 2, (3 + 16) // 2] = 1
    memory = Memory().after(then, config, before)
    found = memory.before(now, config).maps(now, config, blank)
    assert found.shape == (1, 3, 1, *config.grid.shape)
    torch.testing.assert_close(found[:, 1], after, atol=1e-5, rtol=0)
    # Of half a second and of a second and a half ago nothing is known.
    assert not found[:, 0].any() and not found[:, 2].any()


def test_the_first_frame_has_no_past(detector) -> None:
    found, memory = run(detector, [at(0, 0.0)])
    assert same(found[0], detector(at(0, 0.0)))
    assert len(memory.moments) == 1


def test_skipped_frames_leave_what_the_others_need(detector) -> None:
    """Frames between the moments that are used may come or not."""
    every = [at(seed, seed / 4) for seed in range(9)]
    found, _ = run(detector, every)
    few, _ = run(detector, [every[0], every[4], every[8]])
    assert same(found[8], few[2])
    lost, _ = run(detector, [every[0], every[8]])
    assert not same(found[8], lost[1])
    # Of two seconds ago it is still known, and only that.
    _, memory = run(detector, every[:1])
    assert len(memory.before(every[8], CONFIG).moments) == 1


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"stamp_ns": 10**18 - 10**9}, "time did not go on"),
        ({"stamp_ns": 10**18 + 2 * 10**9}, "time did not go on"),
        # Differences of unsigned numbers never fall below 0.
        ({"stamp_ns": np.uint64(10**18 - 10**9)}, "time did not go on"),
        ({"global_T_ego": None}, "the pose is not known"),
        ({"scene": "another"}, "another drive"),
        ({"global_T_ego": at(0, 0, x=float("nan")).global_T_ego}, "the pose is not known"),
        ({"global_T_ego": at(0, 0, x=900.0).global_T_ego}, "ego motion jumped"),
    ],
)
def test_no_ghost_of_what_is_forgotten(change, why, detector) -> None:
    frames = [at(seed, 0.5 * seed) for seed in range(5)]
    odd = dataclasses.replace(at(7, 2.5), **change)
    found, memory = run(detector, [*frames, odd])
    assert memory.forgot == why
    assert same(found[-1], detector(odd))
    # And after it everything begins anew.
    assert len(memory.moments) == (0 if why == "the pose is not known" else 1)


@pytest.mark.parametrize(
    ("metres", "seconds", "kept"),
    [(1.5, 0.1, True), (7.0, 0.1, True), (8.0, 0.1, False), (35.0, 0.5, True), (36.0, 0.5, False)],
)
def test_a_map_jumps_where_no_vehicle_gets_to(metres, seconds, kept, detector) -> None:
    """By the rule of those who keep poses (crkd_core/reach.py)."""
    _, memory = run(detector, [at(0, 0.0, x=0.0)])
    left = memory.before(at(1, seconds, x=metres), CONFIG)
    assert (left.moments == memory.moments, left.forgot == "") == (kept, kept)


def test_another_drive_is_remembered_from_its_first_frame(detector) -> None:
    frames = [at(seed, 0.5 * seed) for seed in range(3)]
    other = [dataclasses.replace(at(seed, 0.5 * seed), scene="another") for seed in range(3, 7)]
    expected, _ = run(detector, other)
    found, memory = run(detector, [*frames, *other])
    assert same(found[-1], expected[-1])
    assert (len(memory.moments), memory.forgot) == (4, "")


def test_a_jump_is_one_since_the_newest_moment(detector) -> None:
    """In two seconds a vehicle gets 140 m far, and not in half of one."""
    frames = [at(seed, 0.5 * seed, x=0.0) for seed in range(4)]
    _, memory = run(detector, frames)
    assert memory.before(at(4, 2.0, x=100.0), CONFIG).forgot == "ego motion jumped"
    _, memory = run(detector, [at(seed, 0.5 * seed, x=30.0 * seed) for seed in range(4)])
    assert memory.before(at(4, 2.0, x=120.0), CONFIG).forgot == ""


def test_a_first_pose_that_is_not_finite_is_not_remembered(detector) -> None:
    odd = at(0, 0.0, x=float("inf"))
    found, memory = run(detector, [odd])
    assert same(found[0], detector(odd)) and not memory.moments
    frames = [at(seed, 0.5 * seed) for seed in range(1, 4)]
    expected, _ = run(detector, frames)
    found, memory = run(detector, [odd, *frames])
    assert same(found[-1], expected[-1]) and len(memory.moments) == 3


def test_a_loop_and_a_pause_begin_anew(detector) -> None:
    frames = [at(seed, 0.5 * seed) for seed in range(5)]
    once, _ = run(detector, frames)
    twice, _ = run(detector, [*frames, *frames])
    assert all(same(a, b) for a, b in zip(once, twice[5:], strict=True))
    late = at(3, 60.0)
    found, memory = run(detector, [*frames, late])
    assert same(found[-1], detector(late))
    assert len(memory.moments) == 1


def test_memory_does_not_grow(detector) -> None:
    _, memory = run(detector, [at(seed % 3, 0.5 * seed) for seed in range(12)])
    assert len(memory.moments) == 5  # 2.3 s at two a second, the present among them
    assert not any(moment.features.requires_grad for moment in memory.moments)


def test_a_detector_without_memory_ignores_it() -> None:
    plain = Detector(build_detector(TINY).eval(), score_threshold=0.05)
    found, memory = plain.step(at(0, 0), None)
    assert memory == Memory()
    assert same(found, plain(at(0, 0)))


def test_reader_and_evaluation_remember_the_same(tiny_world, detector) -> None:
    """What a training sees of a sample's past is what an evaluation remembers; scenes apart."""
    tables = NuScenes(tiny_world, split="mini_train")
    image = dataclasses.replace(CONFIG.image, zoom=0.5)
    config = dataclasses.replace(CONFIG, image=image)
    samples = [*tables.samples_of("mini_train"), *tables.samples_of("mini_val")]
    frames = NuScenesFrames.for_detectors(tables, samples, config, remembered=True)
    assert [[m is not None for m in f.past] for f in frames] == 2 * [
        [False, False], [False, False], [True, False], [True, False]
    ]  # fmt: skip
    third = frames[2]
    np.testing.assert_allclose(
        third.past[0].now_T_past,
        np.linalg.inv(third.global_T_ego) @ frames[0].global_T_ego,
        atol=1e-9,
    )
    assert third.past[0].frame.truth is None
    model = Detector(roughen(build_detector(config)).eval(), score_threshold=0.05)
    plain = NuScenesFrames.for_detectors(tables, samples, config)
    found = [boxes for _, boxes in detect(model, plain, "")]
    for one, boxes in zip(frames, found, strict=True):
        with torch.inference_mode():
            (expected,) = decode(
                model._model(collate([one], config)),
                config,
                regress=model.regress,
                score_threshold=0.05,
            )
        assert len(boxes) == len(expected)
        np.testing.assert_allclose(boxes.center, expected.center, atol=1e-2)
