"""A released checkpoint file to one of ours."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from crkd_core.files import ITSELF, check_output, open_file
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import save_weights
from crkd_core.model.detector import BevDetector
from crkd_core.official.networks import Part, convert
from crkd_core.official.source import OfficialError


def import_official(
    path: str | Path, out: str | Path, *, part: Part = "auto", overwrite: bool = False
) -> None:
    """Read a released .pth and write weights with their configuration.

    Args:
        path: a checkpoint of mmcv (with a "state_dict" inside) or a bare state dict.
        out: a .safetensors file; appears only when it is complete.
        part: which half of a distilled file, see ``convert``.
        overwrite: whether ``out`` is replaced where it exists.

    Raises:
        OfficialError: the file cannot be read, or holds another network.
        OutputError: ``out`` exists, is ``path``, or cannot be written.
        OSError: the folder cannot be written.
    """
    path, out = Path(path), Path(out)
    check_output(out, results=ITSELF, overwrite=overwrite, read=[path])
    model = read_official(path, part=part)
    extra = {"imported_from": path.name, "imported_sha256": _sha256(path)}
    check_output(out, results=ITSELF, overwrite=overwrite)
    save_weights(model, out, extra=extra)


def read_official(path: str | Path, *, part: Part = "auto") -> BevDetector:
    """The network of a released .pth, in evaluation mode, on the CPU; code in it never runs.

    Raises:
        OfficialError: the file cannot be read, or holds another network.
    """
    state = read_state_dict(path)
    try:
        config, tensors = convert(state, part=part)
    except OfficialError as error:
        raise OfficialError(f"{path}: {error}") from error
    model = build_detector(config, pretrained=False)
    model.load_state_dict(tensors)
    return model.eval()


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a .pth file by their names.

    Raises:
        OfficialError: no such file, damaged, no state dict, or it holds more than plain data.
    """
    try:
        open_file(path).close()
        data: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise OfficialError(f"{path}: cannot be read: {error.strerror or error}") from error
    except pickle.UnpicklingError as error:
        first = str(error).strip().splitlines()[0]
        raise OfficialError(
            f"{path}: not a checkpoint of tensors and plain data, which is all that is read "
            f"({first}); where you trust the file, load it with PyTorch and save its 'state_dict' "
            "alone"
        ) from error
    # What PyTorch raises for bytes that are no checkpoint is anything.
    except Exception as error:
        raise OfficialError(
            f"{path}: not a PyTorch checkpoint, or cut short ({type(error).__name__}: {error}); "
            "download it again"
        ) from error
    if isinstance(data, Mapping) and isinstance(data.get("state_dict"), Mapping):
        data = data["state_dict"]
    if not isinstance(data, Mapping):
        raise OfficialError(
            f"{path}: expected a state dict or a checkpoint with one, got {type(data).__name__}"
        )
    odd = [key for key, value in data.items() if not isinstance(key, str)]
    odd += [key for key, value in data.items() if not isinstance(value, Tensor)]
    if odd:
        raise OfficialError(
            f"{path}: expected a state dict, names to tensors; {odd[0]!r} is none of these"
        )
    return dict(data)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
