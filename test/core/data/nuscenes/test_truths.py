"""Truth of many samples in one, against truth of one after the other."""

from __future__ import annotations

import numpy as np
import pytest

from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.data.nuscenes.tables import NuScenesError


def test_truth_of_many_is_that_of_each(tiny_world):
    tables = NuScenes(tiny_world)
    tokens = tables.samples_of("world_all")[::-1]
    truth, owner = tables.truths_global(tokens)
    assert np.all(np.diff(owner) >= 0)
    for row, token in enumerate(tokens):
        one = tables.truth_global(token)
        for name, array in truth.select(owner == row).arrays().items():
            np.testing.assert_array_equal(array, one.arrays()[name])
    none, owner = tables.truths_global([])
    assert not len(none) and not len(owner)
    with pytest.raises(NuScenesError, match="no sample 'x'"):
        tables.truths_global([tokens[0], "x"])
