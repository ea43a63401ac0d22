"""The drives of a split, and their Frames as a report shows them, whichever data set it is."""

from __future__ import annotations

from collections.abc import Sequence

from crkd_core.config import DetectorConfig
from crkd_core.data.nuscenes.reader import NuScenesFrames
from crkd_core.data.sets import DataSet, SetFrames
from crkd_core.data.vod.layout import Vod
from crkd_core.data.vod.reader import VodFrames
from crkd_core.sensors import RADARS


def drives_of(tables: DataSet, split: str) -> dict[str, list[str]]:
    """Name of a drive -> its samples in the split, in time order.

    View-of-Delft tells no drives: there it is a run of frames whose numbers follow one another,
    called by its first and last, 00544-01310.

    Raises:
        NuScenesError, VodError: unknown split.
    """
    tokens = tables.samples_of(split)
    if not isinstance(tables, Vod):
        inside = {*tokens}
        return {
            scene: [token for token in tables.samples_of_scene(scene) if token in inside]
            for scene in tables.scenes_of(split)
        }
    runs: list[list[str]] = []
    for token in sorted(tokens, key=int):
        if runs and int(token) == int(runs[-1][-1]) + 1:
            runs[-1].append(token)
        else:
            runs.append([token])
    return {f"{run[0]}-{run[-1]}": run for run in runs}


def recorded(
    tables: DataSet,
    tokens: Sequence[str],
    detectors: Sequence[DetectorConfig],
    *,
    images: bool = True,
) -> SetFrames:
    """Samples with all their cameras and radars, as recorded, for pictures.

    Args:
        tables: the data set.
        tokens: of the samples.
        detectors: whose answers are drawn. View-of-Delft has a folder for each number of radar
            scans, and may be unpacked with that of the detectors alone.
        images: without them only radars are read.
    """
    if not isinstance(tables, Vod):
        return NuScenesFrames(tables, [*tokens], sensors=None if images else RADARS)
    scans = max(config.radar_sweeps for config in detectors)
    sensors = None if images else tables.radars
    return VodFrames(tables, [*tokens], radar_sweeps=scans, sensors=sensors)
