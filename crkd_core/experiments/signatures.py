"""How a training goes wrong without failing, read from its log and its scores."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from crkd_core.train.gradients import GradientRatios, failures

#: A gradient is unstable where one logged step in so many is above so many times the median.
UNSTABLE, TIMES = 0.02, 10.0
#: Clipping that acts on more than this share of the steps sets the learning rate.
CLIPPED = 0.5


def signatures(
    lines: Sequence[Mapping[str, Any]],
    ratios: GradientRatios,
    *,
    clip_norm: float,
    start: Mapping[str, float],
    end: Mapping[str, float],
) -> list[str]:
    """What is wrong with a run, in words; [] where nothing shows.

    Args:
        lines: of metrics.jsonl.
        ratios: what it says of the gradients of losses, see train/gradients.py.
        clip_norm: of the run.
        start: mAP by split, of the weights it started from; {} = random.
        end: the same of the last ones.
    """
    found = [
        f"ends below its start on {split}: mAP {start[split]:.3f} > {value:.3f}"
        for split, value in end.items()
        if split in start and value < start[split]
    ]
    found += failures(ratios)
    norms = [line["gradient_norm"] for line in lines if "gradient_norm" in line]
    norms = [math.inf if norm is None else norm for norm in norms]
    if norms:
        median = statistics.median(norms)
        wild = sum(not norm <= TIMES * median for norm in norms) / len(norms)
        if wild > UNSTABLE:
            found.append(
                f"unstable gradient: {wild:.0%} of the steps above {TIMES:g} times the median"
            )
        clipped = sum(not norm <= clip_norm for norm in norms) / len(norms)
        if clipped > CLIPPED:
            found.append(f"clipped gradient: {clipped:.0%} of the steps above {clip_norm:g}")
    return found
