"""Annotated boxes: how many of each class, how many sensor returns lie in them at which range."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.nuscenes.scenes import NuScenes

#: Bands of distance in the ground plane, metres.
BANDS = ((0, 20), (20, 35), (35, 55))


@dataclass(frozen=True, kw_only=True)
class BoxCounts:
    """Boxes of the ten classes with the returns inside, of the key sweeps of all sensors.

    Attributes:
        samples: number of key frames they are from.
        label: [N] index into NUSCENES_CLASSES.
        distance: [N] metres from the vehicle in the ground plane.
        lidar, radar: [N] returns inside.
    """

    samples: int
    label: NDArray[np.int64]
    distance: NDArray[np.float64]
    lidar: NDArray[np.int64]
    radar: NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Hits:
    """Boxes of one class in one band: their number, shares hit and mean returns."""

    boxes: int
    radar_share: float
    radar: float
    lidar_share: float
    lidar: float

    @property
    def figures(self) -> tuple[float, float, float, float]:
        """In the order of nuscenes.json."""
        return self.radar_share, self.radar, self.lidar_share, self.lidar


def read_boxes(data: NuScenes, samples: list[str]) -> BoxCounts:
    """The boxes of key frames; those without any return count too.

    Raises:
        NuScenesError: unknown sample, or one without a key LiDAR record.
    """
    truths = [data.truth_global(token) for token in samples]
    places = [data.ego_translation(token)[:2] for token in samples]
    distances = [np.hypot(*(t.center[:, :2] - p).T) for t, p in zip(truths, places, strict=True)]
    return BoxCounts(
        samples=len(samples),
        label=np.concatenate([t.label for t in truths]),
        distance=np.concatenate(distances),
        lidar=np.concatenate([t.num_lidar_points for t in truths]),
        radar=np.concatenate([t.num_radar_points for t in truths]),
    )


def band_name(band: tuple[int, int]) -> str:
    """``0-20``."""
    return f"{band[0]}-{band[1]}"


def hits(counts: BoxCounts) -> Iterator[tuple[str, str, Hits]]:
    """Class, band and figures of every class and band that has a box."""
    for label, name in enumerate(NUSCENES_CLASSES):
        for band in BANDS:
            mine = counts.label == label
            mine &= (counts.distance >= band[0]) & (counts.distance < band[1])
            if mine.any():
                radar, lidar = counts.radar[mine], counts.lidar[mine]
                yield name, band_name(band), Hits(
                    boxes=int(mine.sum()),
                    radar_share=float((radar > 0).mean()),
                    radar=float(radar.mean()),
                    lidar_share=float((lidar > 0).mean()),
                    lidar=float(lidar.mean()),
                )  # fmt: skip


def sample_figures(counts: BoxCounts) -> dict[str, float]:
    """Boxes a sample and the share that no radar hit, within the last band."""
    near = counts.distance < BANDS[-1][1]
    return {
        "boxes within 55 m, a sample": near.sum() / max(counts.samples, 1),
        "share of boxes without a radar return": (
            float((counts.radar[near] == 0).mean()) if near.any() else float("nan")
        ),
    }


def class_shares(counts: BoxCounts) -> dict[str, float]:
    """Share of each class among all boxes."""
    number = np.bincount(counts.label, minlength=len(NUSCENES_CLASSES))
    return dict(zip(NUSCENES_CLASSES, number / max(number.sum(), 1), strict=True))
