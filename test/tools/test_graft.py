"""The command that gives a network of another architecture what fits of a trained one."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from graft import GraftError, graft
from model_tiny import learned

from crkd_core.config import ConfigError


@pytest.fixture(scope="module")
def source():
    return learned()


def test_what_is_not_named_is_taken_over_and_the_rest_begins_anew(source) -> None:
    changed = graft(source, ["detector.radar.channels=[7, 5]"], ["radar", "fuser"], seed=1)
    assert changed.config == dataclasses.replace(
        source.config, radar=dataclasses.replace(source.config.radar, channels=(7, 5))
    )
    given = source.state_dict()
    for name, value in changed.state_dict().items():
        if not name.startswith(("radar.", "fuser.")):
            assert torch.equal(value, given[name]), name
    again = graft(source, ["detector.radar.channels=[7, 5]"], ["radar", "fuser"], seed=1)
    other = graft(source, ["detector.radar.channels=[7, 5]"], ["radar", "fuser"], seed=2)
    first, same, differs = (m.radar.state_dict() for m in (changed, again, other))
    assert all(torch.equal(first[k], same[k]) for k in first)
    assert not all(torch.equal(first[k], differs[k]) for k in first)


def test_a_gate_is_left_out_only_where_it_is_named(source) -> None:
    with pytest.raises(GraftError, match=r"fuser\.gate\.bias.*--anew"):
        graft(source, ["detector.fuser=conv"], [], seed=0)
    plain = graft(source, ["detector.fuser=conv"], ["fuser.gate"], seed=0)
    assert torch.equal(plain.fuser.out[0].weight, source.fuser.out[0].weight)


@pytest.mark.parametrize(
    ("changes", "anew", "error", "said"),
    [
        ([], ["fuse"], GraftError, "no parameter of either network"),
        (["steps=3"], [], GraftError, r"detector\.\* alone"),
        (["detector.fusser=conv"], [], ConfigError, "fusser"),
        (["detector.radar.channels=[7, 5]"], ["radar"], GraftError, r"fuser\."),
    ],
)
def test_what_cannot_be_is_refused(source, changes, anew, error, said) -> None:
    with pytest.raises(error, match=said):
        graft(source, changes, anew, seed=0)
