"""What a submission is compared with, and which boxes count.

docs/nuscenes.md, "Detection task".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Self

from crkd_core.boxes import Boxes
from crkd_core.data.nuscenes.reader import NuScenes
from crkd_core.evaluate.matching import ScoredBoxes
from crkd_core.evaluate.metrics import DetectionRules

#: Classes that stand in bicycle racks.
_CYCLES = ("bicycle", "motorcycle")


@dataclass(frozen=True, kw_only=True)
class SampleTruth:
    """The annotations of some samples, global axes.

    Attributes:
        tokens: S sample tokens; ``ScoredBoxes.sample`` indexes them.
        boxes: annotated boxes that count, of the data set's classes.
        ego: [S, 2] position of the vehicle from which range is measured, metres.
        racks: sample index -> bicycle racks there, only where there are any.
        rules: the benchmark's numbers.
    """

    tokens: tuple[str, ...]
    boxes: ScoredBoxes
    ego: NDArray[np.float64]
    racks: dict[int, Boxes]
    rules: DetectionRules

    @classmethod
    def read(
        cls, tables: NuScenes, tokens: Sequence[str], *, rules: DetectionRules | None = None
    ) -> Self:
        """The annotations of these samples.

        Raises:
            NuScenesError: unknown sample, or one without a key LiDAR record.
        """
        rules = rules or DetectionRules()
        truth, sample = tables.truths_global(tokens)
        # Nobody can be asked to find what no sensor touched.
        truth, sample = truth.select(truth.counts), sample[truth.counts]
        every = ScoredBoxes(
            center=truth.center,
            size=truth.size,
            yaw=truth.yaw,
            velocity=truth.velocity,
            label=truth.label,
            sample=sample,
            attribute=truth.attribute,
            score=np.ones(len(truth)),
            classes=truth.classes,
        )
        racks = {}
        ego = np.zeros((len(tokens), 2))
        for i, token in enumerate(tokens):
            if len(rack := tables.bicycle_racks(token)):
                racks[i] = rack
            ego[i] = tables.ego_translation(token)[:2]
        whole = cls(tokens=tuple(tokens), boxes=every, ego=ego, racks=racks, rules=rules)
        return cls(
            tokens=whole.tokens, boxes=whole.countable(every), ego=ego, racks=racks, rules=rules
        )

    def countable(self, boxes: ScoredBoxes) -> ScoredBoxes:
        """The boxes in the range of their class and, bicycles and motorcycles, not in a rack."""
        offset = boxes.center[:, :2] - self.ego[boxes.sample]
        # Written as the devkit computes it, to the last bit: the limit is strict.
        distance = np.sqrt(offset[:, 0] ** 2 + offset[:, 1] ** 2)
        counts = distance < self.rules.reach(boxes)
        labels = [label for label, name in enumerate(boxes.classes) if name in _CYCLES]
        cycles = np.isin(boxes.label, labels)
        for sample, racks in self.racks.items():
            rows = np.flatnonzero(cycles & (boxes.sample == sample))
            if len(rows):
                counts[rows] &= ~racks.contains(boxes.center[rows]).any(0)
        return boxes.select(counts)
