"""Files that the tables list and the disk does not hold, as with key frames downloaded alone."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from crkd_core.data.nuscenes.index import Index
from crkd_core.data.nuscenes.tables import NuScenesError
from crkd_core.data.warn import warn_once
from crkd_core.sensors import CHANNELS

# Of fewer files each is asked for; otherwise their folder is listed.
_FEW = 2000


def absent_records(
    root: Path, index: Index, scenes: Iterable[int], channels: Iterable[str]
) -> NDArray[np.int64]:
    """Rows of the records of some scenes and channels whose files are not there, ascending.

    Warns of them, once.

    Args:
        root: of the data set.
        index: its tables.
        scenes: rows of ``index``.
        channels: those that are read in sweeps.
    """
    numbers = [CHANNELS.index(channel) for channel in channels]
    blocks = [scene * len(CHANNELS) + number for scene in scenes for number in numbers]
    bounds = [index.scene_records[block : block + 2] for block in blocks]
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(*bound) for bound in bounds)])
    gone = _gone(root, index, rows)
    if len(gone):
        warn_once(
            f"{root}: files that sample_data.json lists are not there: "
            f"{_told(index, rows, gone)}; clouds hold the sweeps that are"
        )
    return np.sort(gone)


def check_key_frames(
    root: Path, index: Index, samples: NDArray[np.int64], channels: Iterable[str]
) -> None:
    """Refuse samples of which a sensor's key-frame file is not there.

    Args:
        root: of the data set.
        index: its tables.
        samples: rows of ``index``.
        channels: those that are read.

    Raises:
        NuScenesError: counts the files and names one.
    """
    numbers = [CHANNELS.index(channel) for channel in channels]
    rows = index.sample_key[samples][:, numbers].ravel().astype(np.int64)
    rows = rows[rows >= 0]
    gone = _gone(root, index, rows)
    if len(gone):
        raise NuScenesError(
            f"{root}: files of key frames that sample_data.json lists are not there: "
            f"{_told(index, rows, gone)}; download the archives (file blobs) that hold them, or "
            "choose scenes that are whole"
        )


def _gone(root: Path, index: Index, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Those of some records whose files are not there."""
    names = index.record_file[rows].tolist()
    folders = Counter(name.rpartition(b"/")[0] for name in names)
    listed = {
        folder: _listing(root / os.fsdecode(folder))
        for folder, count in folders.items()
        if count >= _FEW
    }

    def is_there(name: bytes) -> bool:
        folder, _, file = name.rpartition(b"/")
        if folder in listed:
            return file in listed[folder]
        return (root / os.fsdecode(name)).exists()

    return rows[np.array([not is_there(name) for name in names], bool)]


def _told(index: Index, rows: NDArray[np.int64], gone: NDArray[np.int64]) -> str:
    """How many of the records of each sensor are gone, and which is the first."""
    channel = index.calib_channel[index.record_calib]
    of = Counter(channel[rows].tolist())
    counts = [
        f"{CHANNELS[number]} {count} of {of[number]}"
        for number, count in sorted(Counter(channel[gone].tolist()).items())
    ]
    return f"{', '.join(counts)}, first {index.record_file[gone[0]].decode()}"


def _listing(folder: Path) -> frozenset[bytes]:
    try:
        with os.scandir(os.fsencode(folder)) as entries:
            # A link may lead to nothing, as those of files that were not fetched do.
            return frozenset(
                entry.name
                for entry in entries
                if not entry.is_symlink() or (folder / os.fsdecode(entry.name)).exists()
            )
    except OSError:
        return frozenset()
