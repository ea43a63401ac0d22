"""What a teacher said, kept on disk.

An entry is named by a digest of all that the teacher looked at: its weights, and the sample's
pixels, geometry and points after augmentation. So a hit is right whatever the augmentation, and
nothing has to be declared valid. Without augmentation every epoch after the first is answered from
disk; with augmentation, a second run over the same stream (an ablation with the same seed) is.

Shapes: B batch; tensors [B, c, X, Y] by name.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from crkd_core.data.batch import Batch
from crkd_core.files import write_bytes


class FeatureCache:
    """A folder of one safetensors file per sample, which stops growing at a limit."""

    def __init__(self, folder: Path, *, gigabytes: float) -> None:
        """Open or make ``folder``.

        Raises:
            OSError: the folder cannot be made.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        files = folder.glob("*/*.safetensors")
        self.room = gigabytes * 1e9 - sum(file.stat().st_size for file in files)

    def read(self, keys: list[str], device: torch.device) -> dict[str, Tensor] | None:
        """The tensors of a batch, or None unless every sample of it is known and readable."""
        samples = []
        for key in keys:
            try:
                samples.append(load_file(self._path(key), device=str(device)))
            except (OSError, SafetensorError):
                return None
        return {name: torch.stack([s[name] for s in samples]) for name in samples[0]}

    def write(self, keys: list[str], tensors: dict[str, Tensor]) -> None:
        """Keep the tensors of a batch, where there is room, in the precision they have."""
        for index, key in enumerate(keys):
            path = self._path(key)
            sample = {name: t[index].detach().cpu().contiguous() for name, t in tensors.items()}
            size = sum(t.nbytes for t in sample.values())
            if size > self.room:
                return
            if path.exists():
                continue
            write_bytes(save(sample), path)
            self.room -= size

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.safetensors"


def sample_keys(batch: Batch, *, salt: str) -> list[str]:
    """One digest per sample over everything in it that a teacher could see, and ``salt``."""
    keys = []
    for index in range(len(batch)):
        digest = hashlib.blake2b(salt.encode(), digest_size=20)
        parts = [batch.images[index], batch.camera_present[index], batch.grid_T_pixel[index]]
        parts += [batch.radar[batch.radar_sample == index], batch.radar_present[index]]
        if batch.lidar is not None and batch.lidar_sample is not None:
            parts.append(batch.lidar[batch.lidar_sample == index])
        for part in parts:
            digest.update(str(tuple(part.shape)).encode())
            digest.update(part.cpu().contiguous().numpy().data)
        keys.append(digest.hexdigest())
    return keys
