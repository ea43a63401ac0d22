"""Exported networks on disk: ONNX for engines of others, ``torch.export`` for PyTorch's own.

A file says of itself which configuration it belongs to and how much it holds; the configuration is
the one of the weights file. FILE.onnx has batch 1 and no dynamic shape, as TensorRT wants it.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import io
import json
import logging
import os
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from crkd_core import extras
from crkd_core.config import FORMAT, DetectorConfig, from_dict, to_dict, upgraded
from crkd_core.files import open_file, write_bytes
from crkd_core.infer.engines.fixed import FixedNetwork
from crkd_core.infer.engines.inputs import Capacity
from crkd_core.infer.errors import EngineError, one_line
from crkd_core.infer.fold import fold_batch_norms
from crkd_core.infer.peaks import BoxBranches
from crkd_core.model.checkpoint import ONNX, TORCH, CheckpointError, check_finite, read_config
from crkd_core.model.head import CenterHead

#: Operators as of this version: the first whose ScatterElements has sums and maxima.
OPSET = 18
#: The key of the metadata, whose value is JSON.
KEY = "crkd"
#: How maps of a memory lie in inputs and outputs; older files had channels first and do not say.
MEMORY = "cells first"


@dataclass(frozen=True, kw_only=True)
class Description:
    """What an exported file says of itself.

    Attributes:
        config: of its network.
        capacity: how much it holds.
        outputs: names in the order of its outputs.
        int8: whether convolutions were quantised.
        boxes: weights of the box branches as safetensors, where the network answers heatmaps and
            shared features alone; b"" = it answers everything.
    """

    config: DetectorConfig
    capacity: Capacity
    outputs: tuple[str, ...]
    int8: bool = False
    boxes: bytes = b""

    def text(self) -> str:
        """As JSON."""
        fields = {
            "config": to_dict(self.config),
            "format": FORMAT,
            "capacity": dataclasses.asdict(self.capacity),
            "outputs": self.outputs,
            "int8": self.int8,
            "boxes": base64.b64encode(self.boxes).decode("ascii"),
            "memory": MEMORY,
        }
        return json.dumps(fields)

    @classmethod
    def of(cls, text: str | None, path: Path) -> Description:
        """The inverse of ``text``.

        Raises:
            EngineError: no such metadata, or of another version.
        """
        if text is None:
            raise EngineError(f"{path}: not written by crkd export: it has no metadata {KEY!r}")
        try:
            data = json.loads(text)
            config = from_dict(DetectorConfig, upgraded(data["config"], format=data["format"]))
            if config.temporal is not None and data.get("memory") != MEMORY:
                raise EngineError(
                    f"{path}: written by an older version, in which the order of a memory's maps "
                    "was another; export the weights again"
                )
            return cls(
                config=config,
                capacity=Capacity(**data["capacity"]),
                outputs=tuple(data["outputs"]),
                int8=bool(data["int8"]),
                boxes=base64.b64decode(data.get("boxes", "")),
            )
        except (ValueError, KeyError, TypeError) as error:
            raise EngineError(f"{path}: metadata {KEY!r} cannot be read: {error}") from error

    def box_branches(self) -> BoxBranches | None:
        """What computes box parameters at peaks; None: the network does.

        Raises:
            EngineError: weights of the box branches that do not fit this configuration, or not
                finite.
        """
        if not self.boxes:
            return None
        with torch.device("meta"):  # Its own weights would only be drawn to be replaced.
            head = CenterHead(self.config.decoder.out_channels, self.config.head).eval()
            branches = BoxBranches(fold_batch_norms(head)).requires_grad_(False)
        try:
            state = load(self.boxes)
            _refuse_nan(state, "the exported file's box branches")
            branches.load_state_dict(state, assign=True)
        except (SafetensorError, RuntimeError) as error:
            raise EngineError(
                f"the exported file's box branches cannot be read, export it again: {error}"
            ) from error
        return branches.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def is_export(path: str | Path) -> bool:
    """Whether a file's name is that of an exported network."""
    return Path(path).suffix.lower() in (ONNX, TORCH)


def write_export(network: FixedNetwork, path: Path) -> Description:
    """Write a network as FILE.onnx or FILE.pt2; replaces ``path`` only when complete.

    Raises:
        EngineError: another ending, weights that are not finite, or what is needed for ONNX is
            not installed.
        OSError: it cannot be written.
    """
    _refuse_nan(network.state_dict(), f"{path.name} is not written")
    given = network.inputs.blank()
    with torch.inference_mode(False), torch.no_grad():
        outputs = tuple(network.answers(*given.values()))
    boxes = b""
    if network.boxes is not None:
        boxes = save({k: v.contiguous() for k, v in network.boxes.state_dict().items()})
    about = Description(
        config=network.inputs.config,
        capacity=network.inputs.capacity,
        outputs=outputs,
        boxes=boxes,
    )
    if path.suffix == TORCH:
        program = _program(network)
        # Not straight into a file: on a full disk torch ends the process.
        data = io.BytesIO()
        with _quiet():
            torch.export.save(program, data, extra_files={KEY: about.text()})
        write_bytes(data.getbuffer(), path)
    elif path.suffix == ONNX:
        needs("onnx", "onnxscript")
        program = _program(network)
        with _quiet():
            written = torch.onnx.export(
                program,
                (),
                input_names=list(given),
                output_names=list(outputs),
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
        assert written is not None
        model = written.model_proto
        describe(model, about)
        write_bytes(model.SerializeToString(), path)
    else:
        raise EngineError(f"{path}: expected a name that ends in {ONNX} or {TORCH}")
    return about


def _program(network: FixedNetwork) -> torch.export.ExportedProgram:
    with _quiet(), torch.inference_mode(False), torch.no_grad():
        return torch.export.export(network, tuple(network.inputs.blank().values()))


def describe(model: Any, about: Description) -> None:
    """Put a Description into the metadata of an ONNX model (ModelProto)."""
    kept = [entry for entry in model.metadata_props if entry.key != KEY]
    del model.metadata_props[:]
    model.metadata_props.extend(kept)
    model.metadata_props.add(key=KEY, value=about.text())


def detector_config(path: Path) -> DetectorConfig:
    """What the weights, or the exported network, of a file were trained for.

    Raises:
        CheckpointError, EngineError: no detector in that file.
    """
    return read_description(path).config if is_export(path) else read_config(path)


def read_description(path: Path) -> Description:
    """What an exported file says of itself.

    Raises:
        EngineError: no such file, not written by ``write_export``, or weights that are not finite.
    """
    try:
        open_file(path).close()
    except OSError as error:
        raise EngineError(f"{path}: cannot be read: {error.strerror or error}") from error
    if path.suffix.lower() == TORCH:
        return load_program(path)[1]
    needs("onnx")
    import onnx
    from onnx import numpy_helper

    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # whatever protobuf raises of a file that is none of its own
        raise EngineError(f"{path}: cannot be read as ONNX: {one_line(error)}") from error
    found = {entry.key: entry.value for entry in model.metadata_props}
    about = Description.of(found.get(KEY), path)
    arrays = {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}
    floats = {k: torch.tensor(v) for k, v in arrays.items() if v.dtype.kind == "f"}
    _refuse_nan(floats, str(path))
    return about


def load_program(path: Path) -> tuple[torch.export.ExportedProgram, Description]:
    """A program of ``torch.export``.

    Raises:
        EngineError: not written by ``write_export``, or weights that are not finite.
    """
    found = {KEY: ""}
    try:
        data = io.BytesIO(path.read_bytes())
        if not zipfile.is_zipfile(data):
            raise EngineError(f"{path}: cut off, or not of torch.export; export the weights again")
        data.seek(0)
        with _quiet():
            program = torch.export.load(data, extra_files=found)
    except EngineError:
        raise
    except Exception as error:  # whatever a damaged archive raises
        raise EngineError(f"{path}: cannot be read as torch.export: {one_line(error)}") from error
    _refuse_nan(program.state_dict, str(path))
    return program, Description.of(found[KEY] or None, path)


def _refuse_nan(tensors: Mapping[str, Tensor], where: str) -> None:
    """Refuse weights of which an engine may make boxes that mean nothing."""
    try:
        check_finite(tensors, where)
    except CheckpointError as error:
        raise EngineError(str(error)) from error


def needs(*modules: str) -> None:
    """Say what is to be installed.

    Raises:
        EngineError: a module that is not there.
    """
    absent = [name for name in extras.lacking("engines") if name in modules]
    if absent:
        raise EngineError(f"{', '.join(absent)} not installed: {extras.remedy('engines')}")


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch's lines: packages that nobody needs, traces of what is raised anyway."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    with warnings.catch_warnings(), open(os.devnull, "w") as nowhere:  # noqa: PTH123
        warnings.simplefilter("ignore")
        try:
            with contextlib.redirect_stdout(nowhere):
                yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
