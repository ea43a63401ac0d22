from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from train_tiny import FRAMES, a_config

from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.train.balance import BalancedOrder, BalanceError, Order, classes_held
from crkd_core.train.samples import Views


@settings(deadline=None, max_examples=40)
@given(
    holds=arrays(bool, st.tuples(st.integers(1, 12), st.just(4))).filter(np.any),
    seed=st.integers(0, 9),
    epoch=st.integers(0, 3),
)
def test_classes_have_equal_shares(holds, seed, epoch):
    order = BalancedOrder(holds, seed=seed)
    present = [np.flatnonzero(column) for column in holds.T if column.any()]
    assert len(order) == sum(map(len, present)) // len(present) * len(present)
    drawn = [order[epoch * len(order) + place] for place in range(len(order))]
    again = BalancedOrder(holds, seed=seed)
    assert drawn == [again[epoch * len(order) + place] for place in range(len(order))]
    counts = np.bincount(drawn, minlength=len(holds))
    assert (counts[~holds.any(1)] == 0).all()
    # Of a class alone in its frames, every frame comes equally often, give or take one.
    share = len(order) // len(present)
    for frames in present:
        assert counts[frames].sum() >= share
        alone = frames[holds[frames].sum(1) == 1]
        if len(alone) == len(frames):
            assert counts[frames].sum() == share and np.ptp(counts[frames]) <= 1


def test_a_rare_class_comes_as_often_as_a_common_one():
    holds = np.zeros((100, 2), bool)
    holds[:95, 0] = holds[95:, 1] = True
    order = BalancedOrder(holds, seed=0)
    drawn = np.array([order[place] for place in range(len(order))])
    assert len(order) == 100 and (drawn >= 95).sum() == 50
    other = np.array([order[100 + place] for place in range(100)])
    assert (drawn != other).any()


def test_another_seed_stream_or_epoch_is_another_order():
    drawn = [
        tuple(Order(20, seed=seed, stream=stream)[20 * epoch + place] for place in range(20))
        for seed in (0, 1)
        for stream in (0, 1)
        for epoch in (0, 1)
    ]
    assert len(set(drawn)) == len(drawn)


def test_a_shuffled_order_has_every_frame_once():
    order = Order(7, seed=3)
    assert sorted(order[14 + place] for place in range(7)) == list(range(7))


def test_presence_comes_from_the_tables_alone(tiny_world, monkeypatch):
    frames = NuScenesFrames(NuScenes(tiny_world), "mini_train")
    slow = np.zeros((len(frames), 10), bool)
    for index, frame in enumerate(frames):
        points = frame.truth.num_lidar_points + frame.truth.num_radar_points
        slow[index, frame.truth.label[points > 0]] = True
    monkeypatch.setattr(NuScenesFrames, "__getitem__", None)
    np.testing.assert_array_equal(classes_held(frames, NUSCENES_CLASSES), slow)
    assert slow.any()
    assert len(Views(frames, a_config(balanced=True)).order) >= slow.any(0).sum()


def test_what_cannot_be_balanced_is_refused():
    with pytest.raises(BalanceError, match="list has no truth"):
        Views(FRAMES, a_config(balanced=True))
    with pytest.raises(BalanceError, match="no frame holds a box"):
        BalancedOrder(np.zeros((3, 10), bool), seed=0)
