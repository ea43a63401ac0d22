"""An exported network in the place of BevDetector: a Batch in, ModelOutput out."""

from __future__ import annotations

import tempfile
from pathlib import Path

import torch
from torch import Tensor

from crkd_core.config import DetectorConfig, Engine, Precision
from crkd_core.data.batch import Batch
from crkd_core.infer.engines.files import write_export
from crkd_core.infer.engines.fixed import FixedNetwork, as_output
from crkd_core.infer.engines.inputs import Capacity, FixedInputs
from crkd_core.infer.engines.runtimes import ENDINGS, start
from crkd_core.infer.errors import EngineError, one_line
from crkd_core.model.detector import BevDetector
from crkd_core.model.output import ModelOutput
from crkd_core.model.precision import bf16_is_native


class EngineNetwork:
    """An exported network and the engine that runs it, on the CPU.

    Attributes:
        config: of its detector.
        engine: what runs it.
        precision: number format of its convolutions, "int8" among them.
        boxes: computes box parameters, at peaks alone; None: its maps hold them.
    """

    def __init__(self, path: Path, engine: Engine, precision: Precision = "fp32") -> None:
        """Load FILE.onnx or FILE.pt2.

        Raises:
            EngineError: see ``runtimes.start``.
        """
        self._run, about = start(path, engine, precision)
        self.config: DetectorConfig = about.config
        self.engine: Engine = engine
        self.precision: str = "int8" if about.int8 else precision
        self.boxes = about.box_branches()
        if self.boxes is not None and precision == "bf16" and bf16_is_native():
            self.boxes.to(torch.bfloat16)
        self._inputs = FixedInputs(about.config, about.capacity)

    @classmethod
    def of(
        cls, model: BevDetector, engine: Engine, precision: Precision = "fp32"
    ) -> EngineNetwork:
        """Export a network for this process alone; seconds, or some ten of them for a large one.

        Raises:
            EngineError: it has no form of fixed shapes, its weights are not finite, or see
                ``runtimes.start``.
        """
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, f"network{ENDINGS[engine]}")
            write_export(FixedNetwork(model, Capacity()), path)
            return cls(path, engine, precision)

    def __call__(self, batch: Batch, past: Tensor | None = None) -> ModelOutput:
        """As BevDetector, of one sample; features other than ``instant`` are not there.

        Raises:
            EngineError: more cameras or radar points than the file has room for, values that are
                not finite, or whatever the engine says.
        """
        given = self._inputs(batch, past)
        try:
            answers = self._run(given)
        except Exception as error:  # whatever engines raise: onnxruntime's are no RuntimeError
            raise EngineError(f"engine {self.engine} failed: {one_line(error)}") from error
        return as_output(answers)
