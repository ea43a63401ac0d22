"""How a training goes wrong without failing, read from its log and its scores."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from crkd_core.model.head import REGRESSION
from crkd_core.train.curves import is_loss

#: A loss above this share of the total, in the middle of all logged steps, dominates.
DOMINATES = 0.5
#: A loss that is below this share of where it began has died: it teaches nothing any more.
DIES = 1e-3
#: A gradient is unstable where one logged step in so many is above so many times the median.
UNSTABLE, TIMES = 0.02, 10.0
#: Clipping that acts on more than this share of the steps sets the learning rate.
CLIPPED = 0.5

#: Losses of the truth, which may be all there is, and their sum with the others.
_TRUTH = {"total", "heatmap", *REGRESSION, "depth"}


def signatures(
    lines: Sequence[Mapping[str, Any]],
    *,
    clip_norm: float,
    start: Mapping[str, float],
    end: Mapping[str, float],
) -> list[str]:
    """What is wrong with a run, in words; [] where nothing shows.

    Args:
        lines: of metrics.jsonl. Losses are weighted there, and "total" is their sum.
        clip_norm: of the run.
        start: mAP by split, of the weights it started from; {} = random.
        end: the same of the last ones.
    """
    found = [
        f"ends below its start on {split}: mAP {start[split]:.3f} > {value:.3f}"
        for split, value in end.items()
        if split in start and value < start[split]
    ]
    names = dict.fromkeys(name for line in lines for name in line if is_loss(name))
    for name in names:
        having = [line for line in lines if isinstance(line.get(name), int | float)]
        values = [line[name] for line in having]
        if name in _TRUTH or not values:
            continue
        shares = [abs(v) / abs(s["total"]) for v, s in zip(values, having, strict=True)]
        share = statistics.median(shares)
        if share > DOMINATES:
            found.append(f"{name} dominates: {share:.0%} of the total loss")
        tenth = max(1, len(values) // 10)
        first, last = (statistics.fmean(part) for part in (values[:tenth], values[-tenth:]))
        # The first steps may lie in a ramp, so it is held against its largest tenth.
        most = max(
            first, *(statistics.fmean(values[i : i + tenth]) for i in range(0, len(values), tenth))
        )
        if abs(last) < DIES * abs(most) or (most == 0 and last == 0):
            found.append(f"{name} dies: {most:.3g} > {last:.3g}")
    norms = [line["gradient_norm"] for line in lines if "gradient_norm" in line]
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
