"""The rate of playing follows what the machine reaches."""

from __future__ import annotations

import pytest

from crkd_core.model.precision import bf16_is_native
from crkd_ros.streaming_eval.demo import bf16_is_faster
from crkd_ros.streaming_eval.pace import (
    CAMERA_HZ,
    SLOWEST,
    frames_per_second,
    rate_for,
    slower,
)


def test_a_slow_first_frame_does_not_count():
    assert frames_per_second([9.0, 0.1, 0.1, 0.2]) == pytest.approx(10.0)
    assert frames_per_second([0.5]) == pytest.approx(2.0)


def test_the_rate_leaves_room_and_is_never_faster_than_real_time():
    assert rate_for(1e6) == 1.0
    assert rate_for(0.0) == SLOWEST
    assert rate_for(3.0) < rate_for(6.0) < 0.5
    # Frames come slower than they are answered.
    for held in (1.0, 4.0, 10.0):
        assert rate_for(held) * CAMERA_HZ < held


def test_each_try_is_slower_until_the_slowest():
    rate, seen = 1.0, []
    while rate is not None:
        seen.append(rate)
        rate = slower(rate)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == SLOWEST
    assert len(seen) < 10


def test_bf16_is_recommended_where_processor_and_engine_have_it():
    for engine, takes in (("torch", True), ("openvino", True), ("onnxruntime", False)):
        assert bf16_is_faster("cpu", engine, "fp32") == (takes and bf16_is_native())
    assert not bf16_is_faster("cpu", "torch", "bf16")
    assert not bf16_is_faster("cuda", "cuda_graph", "fp32")
