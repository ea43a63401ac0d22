"""The plain way gives the boxes of the Detector, or the ratio would compare two networks."""

import dataclasses

import numpy as np
import pytest
import reference_path
import torch
from model_tiny import TINY, frame, roughen

from crkd_core.config import ConfigError, TemporalConfig
from crkd_core.data.batch import collate
from crkd_core.infer.detector import Detector
from crkd_core.model.build import build_detector


def placed(boxes):
    """Label, centre and score, by place: among equal scores the order is chance."""
    rows = np.concatenate([boxes.label[:, None], boxes.center, boxes.score[:, None]], 1)
    return rows[np.lexsort(rows[:, :3].round(2).T)]


@pytest.mark.parametrize("slots", [None, 3])
def test_both_ways_find_the_same_boxes(slots):
    torch.manual_seed(0)
    radar = dataclasses.replace(TINY.radar, points_per_pillar=slots)
    model = roughen(build_detector(dataclasses.replace(TINY, radar=radar))).eval()
    for one in (frame(0), frame(1), frame(2, points=0)):
        expected = Detector(model)(one)
        found = reference_path.plain(model, collate([one], model.config))
        assert len(found) == len(expected) > 3
        np.testing.assert_allclose(placed(found), placed(expected), atol=1e-3)


def test_other_networks_are_refused():
    model = build_detector(dataclasses.replace(TINY, temporal=TemporalConfig(frames=1)))
    with pytest.raises(ConfigError, match="without lidar, guide, temporal"):
        reference_path.refuse_others(model)
