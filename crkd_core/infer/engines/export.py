"""Weights to a file for engines. Command `crkd export`."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path

from crkd_core.frame import Frame
from crkd_core.infer.engines.files import write_export
from crkd_core.infer.engines.fixed import FixedNetwork
from crkd_core.infer.engines.inputs import Capacity, room
from crkd_core.infer.engines.int8 import quantise, refuse_memory
from crkd_core.infer.errors import EngineError
from crkd_core.model.checkpoint import ONNX, TORCH, load_weights
from crkd_core.model.detector import BevDetector


def check_ending(path: Path, *, int8: bool) -> None:
    """Refuse a name before long work is begun for it.

    Raises:
        EngineError: it does not say what is to be written.
    """
    if path.suffix not in (ONNX, TORCH):
        raise EngineError(f"{path}: expected a name that ends in {ONNX} or {TORCH}")
    if int8 and path.suffix != ONNX:
        raise EngineError(f"{path}: int8 is written as {ONNX} only")


def export(
    weights: Path | BevDetector,
    out: Path,
    *,
    capacity: Capacity | None = None,
    calibration: Iterable[Frame] | None = None,
    whole_head: bool = False,
) -> str:
    """Write a network for engines; replaces ``out`` only when complete.

    Args:
        weights: file of ``save_weights``, or the network.
        out: FILE.onnx or FILE.pt2.
        capacity: how many cameras and radar points it holds; None = Capacity().
        calibration: Frames that show ranges; then convolutions are int8, of FILE.onnx only.
        whole_head: for programs other than this one: box parameters of every cell are answered,
            also where the Detector would compute them at peaks alone.

    Returns:
        What was written, in a sentence.

    Raises:
        CheckpointError: the file holds no detector.
        EngineError: it has no form of fixed shapes; another ending; no Frame to calibrate on, or a
            memory, which calibration does not know.
    """
    check_ending(out, int8=calibration is not None)
    model = weights if isinstance(weights, BevDetector) else load_weights(weights)
    if calibration is not None:
        refuse_memory(model.config)
    network = FixedNetwork(model, capacity or Capacity(), whole_head=whole_head)
    head = "boxes at peaks" if network.boxes is not None else "whole head"
    said = f"{model.config.name}, {room(model.config, network.inputs.capacity)}, {head}"
    if calibration is None:
        write_export(network, out)
        return f"{said}, fp32"
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder, f"fp32{ONNX}")
        write_export(network, plain)
        count = quantise(plain, out, calibration)
    return f"{said}, {count} convolutions in int8"
