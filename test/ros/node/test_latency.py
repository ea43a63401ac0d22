"""Stages of a frame: none overlaps, nothing is left out."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crkd_ros.node.latency import PARTS, STAGES, Latency, LatencyError, pipeline, summaries


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


#: What a frame's recipe does: a way of timing a stage, the stage, and how long it lasts; and time
#: that nobody claims.
steps = st.lists(
    st.tuples(
        st.sampled_from(("stage", "until_now", "took", "nothing")),
        st.sampled_from(STAGES),
        st.floats(0.0, 5.0),
    ),
    max_size=20,
)


@given(steps=steps)
@settings(deadline=None)
def test_stages_and_other_are_the_whole_of_every_recipe(steps):
    clock = Clock()
    latency = Latency(clock.now, clock=clock)
    unclaimed = 0.0  # since the last stage ended
    expected = dict.fromkeys((*STAGES, "other"), 0.0)
    for way, name, seconds in steps:
        if way == "stage":
            with latency.stage(name):
                clock.now += seconds
            expected["other"] += unclaimed
        else:
            clock.now += seconds
            if way == "until_now":
                latency.until_now(name)
                seconds += unclaimed
            elif way == "took":
                latency.took({name: seconds})
                expected["other"] += unclaimed
            else:
                unclaimed += seconds
                continue
        expected[name] += seconds
        unclaimed = 0.0
    expected["other"] += unclaimed
    found = latency.finish()
    total = found.pop("total")
    assert total == pytest.approx(sum(expected.values()), abs=1e-9)
    assert sum(found.values()) == pytest.approx(total, abs=1e-9)
    for name, seconds in expected.items():
        assert found.get(name, 0.0) == pytest.approx(seconds, abs=1e-9)
    assert min(found.values(), default=0.0) >= -1e-9


def test_the_real_clock_is_the_one_of_arrivals():
    latency = Latency(time.monotonic() - 0.5)
    latency.until_now("wait")
    with latency.stage("frame"):
        time.sleep(0.01)
    stages = latency.finish()
    assert stages["wait"] >= 0.5
    assert stages["frame"] >= 0.01
    assert stages["total"] >= 0.51


def test_a_stage_inside_another_is_refused_and_the_outer_one_still_counts():
    clock = Clock()
    latency = Latency(clock.now, clock=clock)
    with (
        pytest.raises(LatencyError, match="'decode' begins inside stage 'network'"),
        latency.stage("network"),
    ):
        clock.now += 1.0
        with latency.stage("decode"):
            pass
    with latency.stage("decode"):
        clock.now += 2.0
    assert latency.finish() == {"network": 1.0, "decode": 2.0, "other": 0.0, "total": 3.0}


@given(
    frames=st.lists(
        st.dictionaries(st.sampled_from(STAGES), st.floats(0.0, 1.0)), min_size=1, max_size=50
    )
)
@settings(deadline=None)
def test_means_of_a_window_add_up_too(frames):
    found = summaries(
        [{**one, "other": 0.25, "total": sum(one.values()) + 0.25} for one in frames]
    )
    parts = sum(summary.mean for name, summary in found.items() if name != "total")
    assert parts == pytest.approx(found["total"].mean)
    for summary in found.values():
        assert summary.mean <= summary.max + 1e-12
        assert summary.p95 <= summary.max
    assert summaries([]) == {}


def test_p95_is_exceeded_by_one_in_twenty():
    found = summaries([{"total": float(number)} for number in range(100, 0, -1)])
    assert found["total"].p95 == 95.0


def test_stages_keep_their_order_and_pipeline_is_of_the_frames_that_have_one():
    first = {"publish": 1.0, "wait": 1.0, "other": 0.0, "total": 2.0}
    found = summaries([first, {"wait": 1.0, "other": 0.0, "total": 1.0, "pipeline": 3.0}])
    assert list(found) == [name for name in PARTS if name in found]
    assert found["pipeline"].mean == 3.0
    assert found["publish"].mean == 0.5


@pytest.mark.parametrize(
    ("age", "answer"), [(0.2, 0.2), (0.05, 0.05), (3600.0, None), (-5.0, None)]
)
def test_a_pipeline_needs_stamps_of_the_node_s_clock(age, answer):
    stamp = 1_700_000_000_000_000_000
    found = pipeline(0.1, now_ns=stamp + round(age * 1e9), stamp_ns=stamp)
    assert found == (None if answer is None else pytest.approx(answer))
