"""What a teacher said, kept on disk.

An entry is named by a digest of all that decides what the teacher sees: its weights and
configuration, the data set and the sample, and the draws of chance of its view, which are a
function of seed and stream position. So the name is known before a file is read, and a known
sample is not prepared for the teacher at all. Without augmentation every epoch after the first is
answered from disk; with augmentation, a second run over the same stream (another arm with the same
seed) is.

Shapes: B batch; tensors [B, c, X, Y] by name.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from crkd_core.files import write_bytes

#: To be raised whenever reading, augmentation, preparation or networks change what a teacher says.
_FORMAT = 2


class CacheError(ValueError):
    """A set of Frames that a cache cannot tell from another one."""


@runtime_checkable
class Identified(Protocol):
    """A set of Frames that says which recordings it holds, as data.nuscenes.NuScenesFrames.

    Attributes:
        digest: changes when the recordings do.
        tokens: of the samples, by index; each once.
    """

    def digest(self) -> str:
        """See the class."""
        ...

    @property
    def tokens(self) -> Sequence[str]:
        """See the class."""
        ...


class FeatureCache:
    """A folder of one safetensors file per sample, which stops growing at a limit.

    Attributes:
        salt: what all entries have in common.
    """

    def __init__(self, folder: Path, *, gigabytes: float, salt: str = "") -> None:
        """Open or make ``folder``.

        Raises:
            OSError: the folder cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.salt = folder, salt
        files = folder.glob("*/*.safetensors")
        self.room = gigabytes * 1e9 - sum(file.stat().st_size for file in files)

    def key(self, *facts: object) -> str:
        """The name of an entry about ``facts``, which JSON can write."""
        text = json.dumps([_FORMAT, self.salt, *facts], sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=20).hexdigest()

    def read(self, key: str) -> dict[str, Tensor] | None:
        """The tensors of a sample, without B; None unless it is known and readable."""
        try:
            return load_file(self._path(key))
        except (OSError, SafetensorError):
            return None

    def write(self, keys: Sequence[str], tensors: dict[str, Tensor]) -> None:
        """Keep the tensors of a batch, where there is room, in the precision they have."""
        for index, key in enumerate(keys):
            path = self._path(key)
            sample = {name: t[index].detach().cpu().contiguous() for name, t in tensors.items()}
            size = sum(t.nbytes for t in sample.values())
            if size > self.room:
                return
            write_bytes(save(sample), path)
            self.room -= size

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


def stored(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Answers as they are kept: two bytes a number, channel by channel.

    Whoever keeps an answer also learns from it as it is kept, so that the run that fills a cache
    and the one that reads it learn from the same numbers, and sum them up in the same order.
    """
    return {
        name: (t.half() if t.dtype == torch.float32 else t).contiguous()
        for name, t in tensors.items()
    }
