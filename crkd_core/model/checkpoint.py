"""Weights on disk: one safetensors file that also holds the configuration they belong to."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from crkd_core.config import (
    FORMAT,
    ConfigError,
    DetectorConfig,
    RadarConfig,
    from_dict,
    to_dict,
    upgraded,
)
from crkd_core.files import open_file, write_bytes
from crkd_core.model.build import build_detector
from crkd_core.model.camera.encoder import ImageError
from crkd_core.model.camera.lift import LiftError
from crkd_core.model.detector import BevDetector
from crkd_core.model.lidar.encoders import LidarBranchError

#: Metadata keys of the DetectorConfig as JSON, of its format (config/stored.py), and of the
#: checksum of configuration and tensors, which older files have not.
CONFIG_KEY, FORMAT_KEY, SUM_KEY = "config", "format", "sha256"
#: What the weights of a training are called in its run folder.
WEIGHTS = "weights.safetensors"
#: Endings of the two kinds of file of `crkd export`.
ONNX, TORCH = ".onnx", ".pt2"
#: So many tensors that do not fit are named in an error.
_LISTED = 10


class CheckpointError(RuntimeError):
    """A file that holds no detector."""


def save_weights(
    model: BevDetector, path: str | Path, *, extra: dict[str, str] | None = None
) -> None:
    """Write weights, running statistics and configuration; replaces ``path`` only when complete.

    A calibration block beside the path only serves a loss: the network is written without it.

    Args:
        model: any device, any precision.
        path: ends in .safetensors by custom.
        extra: further metadata, for example revision and step; not the keys "config", "format"
            and "sha256".

    Raises:
        CheckpointError: ``extra`` holds one of these, or a tensor is not finite.
        OSError: the folder cannot be written.
    """
    path = Path(path)
    for key in (CONFIG_KEY, FORMAT_KEY, SUM_KEY):
        if key in (extra or {}):
            raise CheckpointError(f"extra: the key {key!r} is the configuration's own")
    config = model.config
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if config.radar is not None and config.radar.calibration == "side":
        block = RadarConfig().calibration_block
        radar = dataclasses.replace(config.radar, calibration="none", calibration_block=block)
        config = dataclasses.replace(config, radar=radar)
        tensors = {k: v for k, v in tensors.items() if not k.startswith("calibration.")}
    check_finite(tensors, f"{path.name} is not written")
    text = json.dumps(to_dict(config))
    own = {CONFIG_KEY: text, FORMAT_KEY: str(FORMAT), SUM_KEY: _checksum(tensors, text)}
    # Not save_file, which makes files that only their owner may read.
    write_bytes(file_of(tensors, {**(extra or {}), **own}), path, durable=True)


def file_of(tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> bytes:
    """A safetensors file: the same bytes for the same content.

    safetensors itself writes metadata in an order of chance.

    Args:
        tensors: contiguous, on the CPU.
        metadata: of the file.
    """
    data = memoryview(save(dict(tensors), metadata=dict(metadata)))
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(bytes(data[8:end]))
    header["__metadata__"] = dict(sorted(metadata.items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)  # Tensors begin at a multiple of eight.
    return b"".join((len(text).to_bytes(8, "little"), text, data[end:]))


def weights_file(path: str | Path) -> Path:
    """The weights of a run folder; of a file the path as it is.

    Every function here that reads weights takes either.

    Raises:
        CheckpointError: there is nothing, or a folder without weights.
    """
    path = Path(path)
    if not path.exists():
        raise CheckpointError(
            f"{path}: there is no such file; expected a weights file (.safetensors), or a folder "
            "of crkd train or distill"
        )
    if not path.is_dir():
        return path
    if not (path / WEIGHTS).is_file():
        raise CheckpointError(
            f"{path}: a folder without {WEIGHTS}; expected a folder of crkd train or distill, or "
            "a weights file"
        )
    return path / WEIGHTS


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata that save_weights wrote: "config", "format", "sha256" and ``extra``.

    Raises:
        CheckpointError: no such file, or not safetensors.
    """
    with _opened(path) as file:
        return dict(file.metadata() or {})


def read_config(path: str | Path) -> DetectorConfig:
    """The configuration of a weights file, whichever version wrote it; tensors are not read.

    Raises:
        CheckpointError: no such file, not safetensors, no or an unknown configuration, or one with
            a value outside its range.
    """
    metadata = read_metadata(path)
    if CONFIG_KEY not in metadata:
        raise CheckpointError(
            f"{path}: no {CONFIG_KEY!r} in the metadata; expected a file written by crkd train, "
            "crkd distill or crkd import-official"
        )
    try:
        data = upgraded(json.loads(metadata[CONFIG_KEY]), format=metadata.get(FORMAT_KEY))
        return from_dict(DetectorConfig, data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: configuration in the metadata: {error}") from error


def load_weights(path: str | Path) -> BevDetector:
    """The network that save_weights wrote, in evaluation mode, on the CPU.

    Nothing of the size that the configuration asks for is allocated before the tensors of the file
    have been found to have it.

    Raises:
        CheckpointError: no such file, not safetensors, no or an unknown configuration, one of
            which no network can be made, tensors that are missing, unknown, of another shape or
            type or not finite (names the first ones), or another checksum than the file's own.
    """
    config = read_config(path)
    try:
        with torch.device("meta"):
            expected = {k: tuple(v.shape) for k, v in _build(config).state_dict().items()}
        with _opened(path) as file:
            # Of the header alone.
            slices = {key: file.get_slice(key) for key in file.keys()}  # noqa: SIM118 not a dict
            found = {key: tuple(one.get_shape()) for key, one in slices.items()}
            if expected != found:
                raise CheckpointError(_misfits(path, expected, found))
            tensors = {key: file.get_tensor(key) for key in expected}
            metadata = dict(file.metadata() or {})
    except (ConfigError, ImageError, LidarBranchError, LiftError) as error:
        raise CheckpointError(
            f"{path}: no network can be made of its configuration: {error}"
        ) from error
    check_finite(tensors, str(path))
    if metadata.get(SUM_KEY, "") not in ("", _checksum(tensors, metadata[CONFIG_KEY])):
        raise CheckpointError(
            f"{path}: tensors or configuration are not those that were written (checksum); the "
            "file is damaged, copy it again"
        )
    model = _build(config)
    model.load_state_dict(tensors)
    return model.eval()


def read_state(path: str | Path) -> dict[str, Any]:
    """What a training has kept in a checkpoint, on the CPU; plain data and tensors alone.

    Raises:
        CheckpointError: no such file, or one that is damaged or holds something else.
    """
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:
        # torch's own text advises to run whatever code the file holds.
        raise CheckpointError(f"{path}: damaged, or no checkpoint of a training") from error
    if not isinstance(state, dict):
        raise CheckpointError(f"{path}: damaged, or no checkpoint of a training")
    return state


def check_finite(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse NaN and infinity.

    Raises:
        CheckpointError: a tensor holds some; names it.
    """
    for name, value in tensors.items():
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise CheckpointError(f"{where}: {name} holds values that are not finite")


@contextmanager
def _opened(path: str | Path) -> Iterator[Any]:
    path = weights_file(path)
    try:
        # safetensors maps whatever it is given: a device has no end.
        open_file(path).close()
        opened = safe_open(path, "pt")
    except (OSError, SafetensorError) as error:
        if path.suffix.lower() in (ONNX, TORCH):
            raise CheckpointError(
                f"{path} is an exported network, which engines run; expected the .safetensors "
                "weights or the run folder that it was made of"
            ) from error
        hint = ""
        if path.suffix == ".pth":
            hint = "; crkd import-official reads released .pth files"
        elif isinstance(error, SafetensorError):
            hint = "; it is damaged, cut short perhaps, or of another kind: copy it again"
        why = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise CheckpointError(f"{path}: cannot be read as safetensors: {why}{hint}") from error
    with opened as file:
        yield file


def _build(config: DetectorConfig) -> BevDetector:
    return build_detector(config, pretrained=False)


def _misfits(
    path: str | Path, expected: Mapping[str, tuple[int, ...]], found: Mapping[str, tuple[int, ...]]
) -> str:
    """In words, which tensors are not as expected."""
    problems = [f"missing {key}" for key in expected.keys() - found.keys()]
    problems += [f"unknown {key}" for key in found.keys() - expected.keys()]
    problems += [
        f"{key}: expected {expected[key]}, found {found[key]}"
        for key in expected.keys() & found.keys()
        if expected[key] != found[key]
    ]
    listed = ", ".join(sorted(problems)[:_LISTED])
    more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
    return f"{path}: tensors do not fit the configuration: {listed}{more}"


def _checksum(tensors: Mapping[str, Tensor], config: str) -> str:
    """SHA-256 of the configuration and of all tensors with their names, types and shapes."""
    sha = hashlib.sha256(config.encode())
    for name, value in sorted(tensors.items()):
        sha.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        sha.update(value.reshape(-1).contiguous().view(torch.uint8).numpy().data)
    return sha.hexdigest()
