"""The network that a training begins with."""

from __future__ import annotations

from crkd_core.config import TrainConfig
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import load_weights
from crkd_core.model.detector import BevDetector

#: Parts of a network that weights to start from may lack: a plain student has no calibration.
FRESH = "calibration."


class StartError(RuntimeError):
    """Weights that a training cannot start from."""


def initial_network(config: TrainConfig) -> BevDetector:
    """A new network, with the weights of ``config.start`` where that is given.

    Raises:
        StartError: those weights belong to another network. A calibration block may be missing.
        CheckpointError: the file cannot be read.
    """
    path = config.start
    model = build_detector(config.detector, pretrained=path is None)
    if path is None:
        return model
    given = load_weights(path).state_dict()
    own = model.state_dict()
    problems = [f"missing {k}" for k in own.keys() - given.keys() if not k.startswith(FRESH)]
    problems += [f"unknown {k}" for k in given.keys() - own.keys() if not k.startswith(FRESH)]
    problems += [
        f"{k}: expected {tuple(own[k].shape)}, found {tuple(given[k].shape)}"
        for k in own.keys() & given.keys()
        if own[k].shape != given[k].shape
    ]
    if problems:
        raise StartError(
            f"{path} does not fit the network {config.detector.name}: {sorted(problems)[:8]} "
            f"({len(problems)} tensors); start from other weights, or leave its architecture as "
            "it is in --set detector..."
        )
    model.load_state_dict({k: v for k, v in given.items() if k in own}, strict=False)
    return model
