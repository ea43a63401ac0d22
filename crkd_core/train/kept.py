"""Samples that were read once, in memory or as files that are mapped.

Reading is most of the work on a sample: thirty radar files, six pictures, ten LiDAR sweeps. Where
a training set is small, or memory or a RAM disk is large, later passes over it need none of that.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from crkd_core.config import ConfigError, TrainConfig
from crkd_core.frame import Frame
from crkd_core.train.frame_file import map_frame, write_frame

#: To be raised whenever reading changes what a Frame holds.
_FORMAT = 3


class Kept:
    """Frames by index, up to a size; of a process, so every loading process has its own.

    Args:
        gigabytes: 0 = nothing is kept. What comes when it is full is not kept.
    """

    def __init__(self, gigabytes: float) -> None:
        self._free = gigabytes * 1e9
        self._frames: dict[int, Frame] = {}

    def get(self, index: int) -> Frame | None:
        """The Frame at ``index``, where it is kept; not to be written to."""
        return self._frames.get(index)

    def add(self, index: int, frame: Frame) -> Frame:
        """Keep ``frame`` where there is room; it must not be written to. Returns it."""
        size = size_of(frame)
        if index not in self._frames and size <= self._free:
            self._frames[index] = frame
            self._free -= size
        return frame


class KeptFiles:
    """The same as files, which all processes and runs of a machine share.

    Args:
        folder: of one set of Frames.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, index: int) -> Frame | None:
        """The Frame at ``index``, where some process has kept it; not to be written to."""
        return map_frame(self._path(index))

    def add(self, index: int, frame: Frame) -> Frame:
        """Keep ``frame``. Returns it.

        Raises:
            OSError: it cannot be written.
        """
        write_frame(frame, self._path(index))
        return frame

    def _path(self, index: int) -> Path:
        return self.folder / f"{index}.safetensors"


@runtime_checkable
class Recognised(Protocol):
    """A set of Frames that says what they are decided by, as data.nuscenes.NuScenesFrames."""

    def identity(self) -> list[Any]:
        """Of recordings, truth, and how they are read; JSON can write it."""
        ...


def kept_of(config: TrainConfig, frames: object) -> Kept | KeptFiles:
    """Where the samples of ``frames`` are kept as ``config`` says.

    Raises:
        ConfigError: files are asked for, and the set does not say what it is.
    """
    if config.keep_folder is None:
        return Kept(config.keep_gigabytes)
    if not isinstance(frames, Recognised):
        raise ConfigError(
            f"keep_folder: {type(frames).__name__} does not say what its Frames are, so files of "
            "them could not be told from others; use keep_gigabytes"
        )
    text = json.dumps([_FORMAT, *frames.identity()], sort_keys=True)
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    folder = Path(config.keep_folder) / name
    folder.mkdir(parents=True, exist_ok=True)
    return KeptFiles(folder)


def size_of(value: Any) -> int:
    """Bytes of the arrays in a Frame."""
    if isinstance(value, np.ndarray):
        return value.nbytes
    if dataclasses.is_dataclass(value):
        return sum(size_of(getattr(value, field.name)) for field in dataclasses.fields(value))
    if isinstance(value, tuple):
        return sum(map(size_of, value))
    return 0
