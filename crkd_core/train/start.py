"""What a training begins with: a set, a device and a network that fit."""

from __future__ import annotations

from collections.abc import Sized

from crkd_core.config import DetectorConfig, TrainConfig
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import load_weights
from crkd_core.model.detector import BevDetector

#: Parts of a network that weights to start from may lack: no plain student has them.
FRESH = ("calibration.", "guide.", "temporal.")
#: What they may have and the network not: beside the path it only ever served a loss.
SPARE = "calibration."
#: Where the parameters of a detector's image branch are.
IMAGE = "image."


class TrainError(RuntimeError):
    """A training that cannot begin, or cannot go on."""


class StartError(RuntimeError):
    """Weights that a training cannot start from."""


def check_trainable(config: TrainConfig, frames: Sized, device: str) -> None:
    """Refuse a training that cannot take a step.

    Raises:
        TrainError: an empty set, or fp16 without CUDA.
    """
    if len(frames) == 0:
        raise TrainError("the training split holds no samples; choose another --split or --data")
    if config.precision == "fp16" and not device.startswith("cuda"):
        raise TrainError(f"precision fp16 needs CUDA, and the device is {device}; use bf16")


def unread_network(config: TrainConfig) -> BevDetector:
    """A network whose weights come from the checkpoint of its run; no file is read for it."""
    return build_detector(config.detector, pretrained=False)


def initial_network(config: TrainConfig) -> BevDetector:
    """A new network, with the weights of ``config.start`` or ``start_image`` where one is given.

    Raises:
        StartError: those weights belong to another network. What is in FRESH may be missing; of
            ``start_image`` only the image branch counts. Or their fuser reads calibrated radar
            maps, and the network's would not.
        CheckpointError: the file cannot be read.
    """
    path = config.start or config.start_image
    model = build_detector(config.detector, pretrained=path is None)
    if path is None:
        return model
    found = load_weights(path)
    given = found.state_dict()
    if config.start is None:
        given = {k: v for k, v in given.items() if k.startswith(IMAGE)}
        own = {k: v for k, v in model.state_dict().items() if k.startswith(IMAGE)}
    else:
        own = model.state_dict()
    problems = [f"missing {k}" for k in own.keys() - given.keys() if not k.startswith(FRESH)]
    problems += [f"unknown {k}" for k in given.keys() - own.keys() if not k.startswith(SPARE)]
    problems += [
        f"{k}: expected {tuple(own[k].shape)}, found {tuple(given[k].shape)}"
        for k in own.keys() & given.keys()
        if own[k].shape != given[k].shape
    ]
    if problems:
        part = "" if config.start else "image branch of the "
        fresh = ", ".join(name.rstrip(".") for name in FRESH)
        raise StartError(
            f"{path} does not fit the {part}network {config.detector.name}: "
            f"{sorted(problems)[:8]} ({len(problems)} tensors); start from other weights, or "
            "leave its architecture as it is in --set detector..."
            + (f"; of its blocks only {fresh} may be new" if config.start else "")
        )
    if config.start is not None:
        _check_calibration(path, found.config, config.detector)
    model.load_state_dict({k: v for k, v in given.items() if k in own}, strict=False)
    return model


def _check_calibration(path: str, given: DetectorConfig, own: DetectorConfig) -> None:
    """Refuse to take from under a fuser the calibrated radar maps that it was trained on."""
    if given.radar is None or own.radar is None or given.radar.calibration != "path":
        return
    block, other = given.radar.calibration_block, own.radar.calibration_block
    if own.radar.calibration != "path" or other != block:
        raise StartError(
            f"{path}: its fuser reads radar maps through a {block} calibration block, and that of "
            f"{own.name} would read others (calibration {own.radar.calibration}, "
            f"calibration_block {other}); leave detector.radar.calibration path and "
            f"detector.radar.calibration_block {block}, or start from other weights"
        )
