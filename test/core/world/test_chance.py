"""Random numbers that belong to something: pure, well spread, smooth in time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from crkd_core.world import chance

keys = st.integers(-(2**62), 2**62)


@given(keys, keys, st.integers(0, 7))
def test_numbers_belong_to_their_keys(a: int, b: int, order: int) -> None:
    many = chance.uniform(a, np.arange(8), b)
    assert chance.uniform(a, order, b) == many[order]
    assert len(np.unique(many)) == 8
    assert (many > 0).all() and (many < 1).all()


def test_numbers_are_spread_and_independent() -> None:
    n = 20_000
    u = chance.uniform(5, np.arange(n))
    counts = np.histogram(u, 20, (0, 1))[0]
    # 1000 each, standard deviation 31.
    assert np.abs(counts - n / 20).max() < 150
    z = chance.normal(np.arange(n), 3)
    for other in (chance.normal(np.arange(n), 4), chance.normal(np.arange(1, n + 1), 3)):
        assert abs(np.corrcoef(z, other)[0, 1]) < 0.03
    assert abs(z.mean()) < 0.03 and abs(z.std() - 1) < 0.03


def test_wandering_lasts_for_its_period_and_not_longer() -> None:
    who = np.arange(5000)
    numbers = chance.Wandering(2.0, who)
    now = numbers.at(10.0)
    assert abs(now.std() - 1) < 0.05

    def likeness(dt: float) -> float:
        return float(np.corrcoef(now, numbers.at(10.0 + dt))[0, 1])

    assert likeness(0.077) > 0.97
    assert 0.2 < likeness(1.0) < 0.9
    assert abs(likeness(5.0)) < 0.06


def test_wandering_does_not_depend_on_who_asked_before() -> None:
    """Processes ask for different times of one drive."""
    some = chance.Wandering(0.7, 3, np.arange(6)[:, None], np.arange(2))
    other = chance.Wandering(0.7, 3, np.arange(6)[:, None], np.arange(2))
    for t in np.linspace(-1, 12, 40):
        some.at(float(t))
    np.testing.assert_array_equal(some.at(4.2), other.at(4.2))
    assert some.at(4.2).shape == (6, 2)
