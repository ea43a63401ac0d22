"""The engines: what runs an exported network, each in its own way, behind one call."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch
from torch import Tensor

from crkd_core.config import Engine, Precision
from crkd_core.infer.engines.files import Description, load_program, needs, read_description
from crkd_core.infer.errors import EngineError, one_line
from crkd_core.model.checkpoint import ONNX, TORCH

ENGINES: tuple[Engine, ...] = get_args(Engine)
#: The file that each of them runs; torch and cuda_graph run weights.
ENDINGS: dict[Engine, str] = {"export": TORCH, "onnxruntime": ONNX, "openvino": ONNX}
#: Number formats that each has. int8 is in the file, and the rest of its layers have one of these.
PRECISIONS: dict[Engine, tuple[Precision, ...]] = {
    "cuda_graph": ("fp32", "bf16", "fp16"),
    "export": ("fp32",),
    "onnxruntime": ("fp32",),
    "openvino": ("fp32", "bf16"),
}

#: Inputs in their order, by name -> outputs by name, float32 on the CPU. Threads may share one.
Runtime = Callable[[dict[str, Tensor]], dict[str, Tensor]]


def check_engine(engine: str, precision: str, device: torch.device) -> None:
    """Refuse an unknown engine, or one that lacks this device or precision.

    Raises:
        EngineError: says what it has.
    """
    if engine not in ENGINES:
        raise EngineError(f"engine: expected one of {', '.join(ENGINES)}, got {engine!r}")
    if engine == "torch":
        return
    if engine == "cuda_graph" and device.type != "cuda":
        raise EngineError(f"engine cuda_graph needs a GPU, got device {device}; use device cuda")
    if engine != "cuda_graph" and device.type != "cpu":
        raise EngineError(
            f"engine {engine} runs on the CPU here; use device cpu, or engine cuda_graph or torch"
        )
    if precision not in PRECISIONS[engine]:
        raise EngineError(
            f"engine {engine} computes in {' or '.join(PRECISIONS[engine])}, got {precision!r}; "
            "int8 is made by crkd export --int8-data"
        )


def start(path: Path, engine: Engine, precision: Precision) -> tuple[Runtime, Description]:
    """What runs an exported file.

    It uses as many threads as torch does (torch.get_num_threads).

    Args:
        path: FILE.onnx or FILE.pt2.
        engine: not "torch".
        precision: one of PRECISIONS.

    Raises:
        EngineError: a file of another engine or of no use, weights that are not finite, or an
            engine that is not installed.
    """
    if path.suffix.lower() != ENDINGS[engine]:
        raise EngineError(
            f"{path}: engine {engine} runs files that end in {ENDINGS[engine]}; "
            f"{ONNX} is for onnxruntime and openvino, {TORCH} for export"
        )
    if engine == "export":
        return _torch_export(path)
    about = read_description(path)
    needs(engine)
    make = _onnxruntime if engine == "onnxruntime" else _openvino
    try:
        return make(path, about, precision), about
    except Exception as error:  # whatever engines raise: onnxruntime's are no RuntimeError
        raise EngineError(f"{path}: {engine} cannot run it: {one_line(error)}") from error


def _torch_export(path: Path) -> tuple[Runtime, Description]:
    program, about = load_program(path)
    module = program.module()

    def run(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(zip(about.outputs, module(*inputs.values()), strict=True))

    return run, about


def _onnxruntime(path: Path, about: Description, precision: Precision) -> Runtime:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    # Threads that spin between frames take the cores from whoever decodes images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        path.read_bytes(), options, providers=["CPUExecutionProvider"]
    )

    def run(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        arrays = {name: tensor.numpy() for name, tensor in inputs.items()}
        found = session.run(list(about.outputs), arrays)
        return {k: torch.from_numpy(v) for k, v in zip(about.outputs, found, strict=True)}

    return run


def _openvino(path: Path, about: Description, precision: Precision) -> Runtime:
    import openvino

    settings = {
        "INFERENCE_PRECISION_HINT": {"fp32": "f32", "bf16": "bf16"}[precision],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    core = openvino.Core()
    request = core.compile_model(core.read_model(path), "CPU", settings).create_infer_request()
    turn = threading.Lock()  # A request is of one thread at a time, until its outputs are copied.

    def run(inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        with turn:
            found = request.infer({name: tensor.numpy() for name, tensor in inputs.items()})
            # Copies: the next call writes there, and a memory may be kept for seconds.
            return {name: torch.tensor(found[name]).float() for name in about.outputs}

    return run
