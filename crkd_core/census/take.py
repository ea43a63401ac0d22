"""Reads what is to be counted of a data set, and what nuScenes counts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from crkd_core.census.boxes import BoxCounts, read_boxes
from crkd_core.data.lidar import LidarError, read_bin
from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.data.radar import RadarError
from crkd_core.data.radar_file import read_pcd
from crkd_core.sensors import LIDAR, RADARS


@dataclass(frozen=True, kw_only=True)
class Census:
    """What was counted.

    Attributes:
        name: of the data set.
        boxes: annotated boxes of the samples with a LiDAR record, from which range is measured;
            None where there are none.
        radar: key sweeps of all radars, [N, 18] each.
        lidar: key sweeps, [N, 5] each.
        scenes: description of each scene.
        missing: files that are named in the tables but cannot be read.
    """

    name: str
    boxes: BoxCounts | None
    radar: list[NDArray[np.float32]]
    lidar: list[NDArray[np.float32]]
    scenes: list[str]
    missing: int


def real() -> dict[str, Any]:
    """The counts of nuScenes, and where they come from."""
    text = resources.files("crkd_core.census").joinpath("nuscenes.json").read_text("utf-8")
    return json.loads(text)


def take_census(data: NuScenes, *, split: str | None = None, most: int = 400) -> Census:
    """Count the boxes of a data set and the sweeps of at most ``most`` of its key frames.

    Args:
        data: any nuScenes-format set.
        split: only this split; None = every scene.
        most: sweeps are read of this many key frames, evenly spread.

    Raises:
        NuScenesError: unknown split, or one without samples.
    """
    scenes = data.scenes if split is None else data.scenes_of(split)
    samples = [token for scene in scenes for token in data.samples_of_scene(scene)]
    if not samples:
        raise NuScenesError(
            f"{data.root}: expected at least one sample in {split or 'its scenes'}, got none"
        )
    ranged = [token for token in samples if data.key_record(token, LIDAR) is not None]
    chosen = [samples[i] for i in np.unique(np.linspace(0, len(samples) - 1, most).astype(int))]
    radar, lidar, missing = [], [], 0
    for token in chosen:
        for channel in (*RADARS, LIDAR):
            record = data.key_record(token, channel)
            if record is None:
                continue
            try:
                if channel == LIDAR:
                    lidar.append(read_bin(record.path))
                else:
                    radar.append(read_pcd(record.path))
            except (RadarError, LidarError):
                missing += 1
    boxes = read_boxes(data, ranged) if ranged else None
    return Census(
        name=f"{data.root.name}, {split or 'all scenes'}",
        boxes=boxes if boxes is not None and len(boxes.label) else None,
        radar=radar,
        lidar=lidar,
        scenes=[data.description_of(scene) for scene in scenes],
        missing=missing,
    )
