"""Convolutions of an exported network in int8, with ranges that were seen on Frames.

Weights per output channel and symmetric, activations per tensor, as pairs of QuantizeLinear and
DequantizeLinear, which onnxruntime, OpenVINO and TensorRT read alike. The last convolutions, whose
outputs are logits and box parameters, stay as they are: metres do not fit into 256 steps.
"""

from __future__ import annotations

import dataclasses
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from crkd_core.config import DetectorConfig
from crkd_core.data.batch import collate
from crkd_core.files import replacing
from crkd_core.frame import Frame
from crkd_core.infer.engines.files import describe, needs, read_description
from crkd_core.infer.engines.inputs import FixedInputs
from crkd_core.infer.errors import EngineError
from crkd_core.model.checkpoint import ONNX

#: What only hands values on between a last convolution and an output.
_HANDS_ON = ("Split", "Slice", "Identity", "Reshape", "Transpose")


def quantise(source: Path, path: Path, frames: Iterable[Frame]) -> int:
    """Write FILE.onnx with convolutions in int8; replaces ``path`` only when complete.

    Args:
        source: FILE.onnx of ``write_export``, in fp32, of a detector without memory.
        path: where the other goes.
        frames: drives as they will be met, but not those that are scored; each is read once.

    Returns:
        How many convolutions were quantised.

    Raises:
        EngineError: not such a file, no Frame, onnxruntime is missing, or memory.
    """
    needs("onnx", "onnxruntime")
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static

    about = read_description(source)
    if path.suffix != ONNX or about.int8:
        raise EngineError(f"int8: expected {ONNX} in fp32 to {ONNX}, got {source} to {path}")
    refuse_memory(about.config)
    reader = _Reader(frames, about.config, FixedInputs(about.config, about.capacity))
    graph = onnx.load(source).graph
    kept = _last_convolutions(graph)
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)  # It advises a preparation that an exported network has had.
    try:
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, path.name)
            quantize_static(
                str(source),
                str(made),
                reader,
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=sorted(kept),
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
            model = onnx.load(made)
    except ValueError as error:
        if reader.count:
            raise
        raise EngineError("int8: no Frame to calibrate on; give a split that has some") from error
    finally:
        logger.setLevel(level)
    describe(model, dataclasses.replace(about, int8=True))
    with replacing(path) as partial:
        partial.write_bytes(model.SerializeToString())
    return sum(node.op_type == "Conv" for node in graph.node) - len(kept)


def refuse_memory(config: DetectorConfig) -> None:
    """Refuse a network that cannot be calibrated, before it is exported for minutes.

    Raises:
        EngineError: it has memory.
    """
    if config.temporal is not None:
        # Calibration runs Frames apart from each other, and memory would be empty in all of them.
        raise EngineError(
            f"{config.name} has memory, and int8 is calibrated on Frames one by one; leave int8 "
            "out (--int8-data, --int8-split)"
        )


class _Reader:
    """Inputs of one Frame after the other, as onnxruntime asks for them."""

    def __init__(
        self, frames: Iterable[Frame], config: DetectorConfig, inputs: FixedInputs
    ) -> None:
        self._frames: Iterator[Frame] = iter(frames)
        self._config, self._inputs = config, inputs
        self.count = 0

    def get_next(self) -> dict[str, Any] | None:
        """Input arrays by name; None = no more."""
        frame = next(self._frames, None)
        if frame is None:
            return None
        self.count += 1
        batch = collate([dataclasses.replace(frame, past=())], self._config)
        return {name: tensor.numpy() for name, tensor in self._inputs(batch).items()}


def _last_convolutions(graph: Any) -> set[str]:
    """Names of the convolutions from which only handing on leads to an output."""
    made_by = {output: node for node in graph.node for output in node.output}
    waiting = [output.name for output in graph.output]
    found = set()
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None:
            continue
        if node.op_type == "Conv":
            found.add(node.name)
        elif node.op_type in _HANDS_ON:
            waiting.append(node.input[0])
    return found
