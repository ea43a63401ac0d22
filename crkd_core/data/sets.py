"""The data set that lies in a folder, whichever it is, and its Frames."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence

from crkd_core.config import DetectorConfig
from crkd_core.data.nuscenes.reader import NuScenes, NuScenesFrames
from crkd_core.data.vod.errors import VodError
from crkd_core.data.vod.layout import Vod, is_vod
from crkd_core.data.vod.reader import VodFrames

#: What a data set says of itself: root, version, classes, splits.
DataSet = NuScenes | Vod

#: The Frames of one of its splits.
SetFrames = NuScenesFrames | VodFrames


def open_set(
    root: str | os.PathLike[str], *, split: str | None = None, version: str | None = None
) -> DataSet:
    """The data set in a folder: View-of-Delft if it is laid out so, else nuScenes.

    Args:
        root: its root folder.
        split: helps to choose a version of nuScenes, nothing else.
        version: of nuScenes; None = see NuScenes.

    Raises:
        NuScenesError, VodError: it cannot be used.
    """
    if not is_vod(root):
        return NuScenes(root, split=split, version=version)
    if version is not None:
        raise VodError(f"{root} is View-of-Delft, which has no versions; leave --version out")
    return Vod(root)


def frames_of(
    tables: DataSet,
    split: str | Sequence[str],
    *detectors: DetectorConfig,
    sensors: Collection[str] = (),
    lidar_sweeps: int = 0,
    recorded: bool = False,
    remembered: bool = False,
) -> SetFrames:
    """The samples of a split as these networks need them; see NuScenesFrames.for_detectors.

    Raises:
        NuScenesError, VodError: unknown split, or something that the data set does not have.
    """
    kind = VodFrames if isinstance(tables, Vod) else NuScenesFrames
    return kind.for_detectors(  # type: ignore[return-value]
        tables,  # type: ignore[arg-type]
        split,
        *detectors,
        sensors=sensors,
        lidar_sweeps=lidar_sweeps,
        recorded=recorded,
        remembered=remembered,
    )
