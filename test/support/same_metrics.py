"""Comparing summaries of metrics, ours with the devkit's."""

from __future__ import annotations

import pytest


def assert_same(ours, theirs, where=""):
    """Same keys, same nesting, numbers within 1e-9, NaN where NaN."""
    if isinstance(theirs, dict):
        assert sorted(ours) == sorted(theirs), where
        for key in theirs:
            if key != "eval_time":
                assert_same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, list | str):
        assert ours == theirs, where
    else:
        assert type(ours) is type(theirs), where
        assert ours == pytest.approx(theirs, abs=1e-9, rel=0, nan_ok=True), where
