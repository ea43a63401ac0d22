"""Of which sweeps the clouds of a sample are made: the live node's rule, over what is on disk.

Of the sweeps that are there and not later than the reference the newest count, up to an age.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from crkd_core.data import lidar, radar
from crkd_core.data.nuscenes.index import Index
from crkd_core.sensors import CHANNELS, LIDAR, RADARS, REFERENCES

# Of fewer samples nobody needs to be told: lost sweeps, and what begins late, are ordinary.
_NOTICEABLE = 0.05

_REFERENCES = [CHANNELS.index(name) for name in (*REFERENCES, LIDAR)]


@dataclass(frozen=True)
class SweepRule:
    """Limits of a cloud.

    Attributes:
        count: most sweeps.
        timeout: without a sweep that is at most so old there is no cloud, seconds.
        oldest: older sweeps are not used, seconds.
    """

    count: int
    timeout: float
    oldest: float

    @classmethod
    def of(cls, channel: str, count: int) -> SweepRule:
        """That of a radar or the LiDAR."""
        if channel == LIDAR:
            return cls(count, np.inf, lidar.oldest_age(count))
        return cls(count, radar.TIMEOUT, radar.OLDEST)

    def chosen(
        self, stamps: NDArray[np.int64], references: NDArray[np.int64]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Which of a sensor's sweeps are used at some times.

        Args:
            stamps: [N] of the sweeps, ascending, nanoseconds.
            references: [S] times, nanoseconds.

        Returns:
            [S] first sweep that is used and the one behind the last, equal where none is; [S]
            whether there is a sweep before that is too old.
        """
        end = np.searchsorted(stamps, references, side="right")
        young = np.searchsorted(stamps, references - round(self.oldest * 1e9))
        first = np.maximum(end - self.count, 0)
        cut = first < np.minimum(young, end)
        first = np.minimum(np.maximum(first, young), end)
        if np.isfinite(self.timeout):
            alive = np.searchsorted(stamps, references - round(self.timeout * 1e9)) < end
            first = np.where(alive, first, end)
        return first, end, cut


def sweeps_until(
    index: Index,
    absent: NDArray[np.int64],
    sample: int,
    channel: str,
    stamp_ns: int,
    rule: SweepRule,
) -> list[int]:
    """Rows of the records that a sample's cloud is made of, newest first.

    Args:
        index: the tables.
        absent: rows of records whose files are not there, ascending. The key frame of the sample
            is taken nevertheless: whoever reads it names the file.
        sample: row of the sample.
        channel: a radar or the LiDAR.
        stamp_ns: no record is later.
        rule: of this channel.
    """
    number = CHANNELS.index(channel)
    key = int(index.sample_key[sample, number])
    rows = _there(index, absent, int(index.sample_scene[sample]), number, key)
    first, end, _ = rule.chosen(index.record_stamp[rows], np.array([stamp_ns]))
    return rows[int(first[0]) : int(end[0])][::-1].tolist()


def lacks(
    index: Index,
    absent: NDArray[np.int64],
    samples: NDArray[np.int64],
    rules: Mapping[str, SweepRule],
    cameras: Iterable[str],
) -> list[str]:
    """What is to be said of sensors that are missing, or lack sweeps, in a good part of samples.

    Args:
        index: the tables.
        absent: rows of records whose files are not there, ascending.
        samples: rows of the samples.
        rules: of the radars and the LiDAR that are read.
        cameras: those that are read.
    """
    recorded = np.diff(index.scene_records).reshape(-1, len(CHANNELS)).sum(0)
    read = sorted({*cameras, *rules}, key=CHANNELS.index)
    lacking = [channel for channel in read if not recorded[CHANNELS.index(channel)]]
    keyless, silent, thin = [], [], []
    for channel in read:
        missing = (index.sample_key[samples, CHANNELS.index(channel)] < 0).sum()
        if channel not in (*RADARS, *lacking) and missing > _NOTICEABLE * len(samples):
            keyless.append(f"{channel} in {missing} of {len(samples)} samples")
    for channel, rule in rules.items():
        if channel in lacking:
            continue
        none, begun, less = _lack(index, absent, samples, channel, rule)
        if channel != LIDAR and (none & begun).sum() > _NOTICEABLE * len(samples):
            silent.append(
                f"{channel} has no usable sweep in {none.sum()} of {len(samples)} samples"
            )
        if less.sum() > _NOTICEABLE * len(samples):
            thin.append(
                f"{channel} has fewer than {rule.count} sweeps of at most {rule.oldest:g} s in "
                f"{less.sum()} of {len(samples)} samples"
            )
    texts = [f"the data set has no {', '.join(lacking)}"] if lacking else []
    if keyless:
        texts.append(f"no key frame of {', '.join(keyless)}: it is missing there")
    if silent:
        texts.append(
            f"{', '.join(silent)}: none at most {radar.TIMEOUT:g} s before the reference, so it "
            "is missing there, as it would be live"
        )
    if thin:
        texts.append(f"{', '.join(thin)}: clouds hold those, and no older ones")
    return texts


def present(
    index: Index,
    absent: NDArray[np.int64],
    samples: NDArray[np.int64],
    channel: str,
    rule: SweepRule | None,
) -> NDArray[np.bool_]:
    """[S] which samples have a sensor: of a radar a sweep that is used, of others the key frame.

    Args:
        index: the tables.
        absent: rows of records whose files are not there, ascending.
        samples: rows of the samples.
        channel: any sensor.
        rule: of a radar; None = it is not read.
    """
    if channel not in RADARS:
        return index.sample_key[samples, CHANNELS.index(channel)] >= 0
    if rule is None:
        return np.zeros(len(samples), bool)
    return ~_lack(index, absent, samples, channel, rule)[0]


def _lack(
    index: Index,
    absent: NDArray[np.int64],
    samples: NDArray[np.int64],
    channel: str,
    rule: SweepRule,
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
    """[S] each: no sweep is used; some was there before, or none ever is; fewer than asked for."""
    scene, keys = index.sample_scene[samples], index.sample_key[samples]
    known = keys[:, _REFERENCES] >= 0
    reference = keys[np.arange(len(keys)), np.array(_REFERENCES)[known.argmax(1)]]
    number = CHANNELS.index(channel)
    rows = keys[:, number] if channel == LIDAR else np.where(known.any(1), reference, -1)
    none, (begun, less) = rows < 0, np.zeros((2, len(samples)), bool)
    for one in np.unique(scene[rows >= 0]):
        here = np.flatnonzero((scene == one) & (rows >= 0))
        there = _there(index, absent, int(one), number, -1)
        stamps = index.record_stamp[there]
        first, end, cut = rule.chosen(stamps, index.record_stamp[rows[here]])
        none[here] = first == end
        # At the start of a drive nothing is lost.
        begun[here] = (end > 0) | (len(there) == 0)
        less[here] = cut & (first < end)
    return none, begun, less


def _there(
    index: Index, absent: NDArray[np.int64], scene: int, number: int, key: int
) -> NDArray[np.int64]:
    """Rows of a sensor's records in a scene, by time, without those that are absent."""
    block = scene * len(CHANNELS) + number
    low, high = index.scene_records[block : block + 2].tolist()
    gone = absent[slice(*np.searchsorted(absent, [low, high]))]
    return np.delete(np.arange(low, high), gone[gone != key] - low)
