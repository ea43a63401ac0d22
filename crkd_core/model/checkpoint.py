"""Weights on disk: one safetensors file that also holds the configuration they belong to."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from crkd_core.config import (
    FORMAT,
    ConfigError,
    DetectorConfig,
    RadarConfig,
    from_dict,
    to_dict,
    upgraded,
)
from crkd_core.files import write_bytes
from crkd_core.model.build import build_detector
from crkd_core.model.detector import BevDetector

#: Metadata keys of the DetectorConfig as JSON, and of its format (config/stored.py).
CONFIG_KEY, FORMAT_KEY = "config", "format"
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
        extra: further metadata, for example revision and step; not the keys "config" and
            "format".

    Raises:
        CheckpointError: ``extra`` holds one of these.
        OSError: the folder cannot be written.
    """
    path = Path(path)
    for key in (CONFIG_KEY, FORMAT_KEY):
        if key in (extra or {}):
            raise CheckpointError(f"extra: the key {key!r} is the configuration's own")
    config = model.config
    tensors = {k: v.detach().cpu().contiguous() for k, v in model.state_dict().items()}
    if config.radar is not None and config.radar.calibration == "side":
        block = RadarConfig().calibration_block
        radar = dataclasses.replace(config.radar, calibration="none", calibration_block=block)
        config = dataclasses.replace(config, radar=radar)
        tensors = {k: v for k, v in tensors.items() if not k.startswith("calibration.")}
    own = {CONFIG_KEY: json.dumps(to_dict(config)), FORMAT_KEY: str(FORMAT)}
    # Not save_file, which makes files that only their owner may read.
    write_bytes(save(tensors, metadata={**(extra or {}), **own}), path, durable=True)


def read_metadata(path: str | Path) -> dict[str, str]:
    """The metadata that save_weights wrote: "config", "format" and ``extra``.

    Raises:
        CheckpointError: no such file, or not safetensors.
    """
    if Path(path).is_dir():
        raise CheckpointError(f"{path}: a folder; expected a file, e.g. its weights.safetensors")
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (OSError, SafetensorError) as error:
        hint = (
            "; crkd import-official reads released .pth files" if str(path)[-4:] == ".pth" else ""
        )
        raise CheckpointError(f"{path}: cannot be read as safetensors: {error}{hint}") from error


def read_config(path: str | Path) -> DetectorConfig:
    """The configuration of a weights file, whichever version wrote it; tensors are not read.

    Raises:
        CheckpointError: no such file, not safetensors, no or an unknown configuration.
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
    except (ConfigError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{path}: configuration in the metadata: {error}") from error


def load_weights(path: str | Path) -> BevDetector:
    """The network that save_weights wrote, in evaluation mode, on the CPU.

    Raises:
        CheckpointError: no such file, not safetensors, no or an unknown configuration, or tensors
            that are missing, unknown or of another shape; names the first ones.
    """
    model = build_detector(read_config(path), pretrained=False)
    with safe_open(path, "pt") as file:
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 not a dict
    expected = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    found = {key: tuple(value.shape) for key, value in tensors.items()}
    if expected != found:
        problems = [f"missing {key}" for key in expected.keys() - found.keys()]
        problems += [f"unknown {key}" for key in found.keys() - expected.keys()]
        problems += [
            f"{key}: expected {expected[key]}, found {found[key]}"
            for key in expected.keys() & found.keys()
            if expected[key] != found[key]
        ]
        listed = ", ".join(sorted(problems)[:_LISTED])
        more = f" and {len(problems) - _LISTED} more" if len(problems) > _LISTED else ""
        raise CheckpointError(f"{path}: tensors do not fit the configuration: {listed}{more}")
    model.load_state_dict(tensors)
    return model.eval()
