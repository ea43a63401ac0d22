"""What an evaluation was made of, for metrics.json; `crkd compare` looks at it."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from crkd_core.data.nuscenes.reader import NuScenesFrames
from crkd_core.data.sets import DataSet
from crkd_core.data.vod.layout import Vod
from crkd_core.data.vod.reader import VodFrames

#: Keys of metrics.json: the samples; the sensors that a detector saw, if not all of its own.
DATA = "data"
SENSORS = "sensors"


def scored_data(tables: DataSet, tokens: Collection[str], *, split: str) -> dict[str, Any]:
    """What identifies the samples that were scored, whatever their order.

    Args:
        tables: the data set.
        tokens: of the samples.
        split: as it was asked for.

    Returns:
        DATA -> split, samples (how many), digest (see the Frames' ``digest``: it changes with the
        samples and with what the data set says of them).

    Raises:
        NuScenesError, VodError: unknown sample, or none; a file is missing.
    """
    order = sorted(tokens)
    if isinstance(tables, Vod):
        digest = VodFrames(tables, order, sensors=()).digest()
    else:
        digest = NuScenesFrames(tables, order, radar_sweeps=0, sensors=()).digest()
    return {DATA: {"split": split, "samples": len(order), "digest": digest}}
