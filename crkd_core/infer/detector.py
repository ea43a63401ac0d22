"""Detector: a Frame in, boxes out. The one door to a trained network."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from crkd_core.boxes import SCORE_THRESHOLD, Detections
from crkd_core.config import DetectorConfig, Engine, ImageConfig, Precision
from crkd_core.data.batch import Batch, collate
from crkd_core.data.cameras import prepare
from crkd_core.frame import Frame
from crkd_core.infer.engines.cuda_graph import GraphNetwork
from crkd_core.infer.engines.files import is_export
from crkd_core.infer.engines.network import EngineNetwork
from crkd_core.infer.engines.runtimes import ENDINGS, check_engine
from crkd_core.infer.errors import InferError as InferError  # part of this module's face
from crkd_core.infer.fold import fold_batch_norms
from crkd_core.infer.fused import is_fusable, with_fused
from crkd_core.infer.memory import Memory
from crkd_core.infer.peaks import BoxBranches, PeakHead
from crkd_core.infer.pixels import fold_pixels
from crkd_core.infer.winograd import with_winograd
from crkd_core.model.checkpoint import load_weights
from crkd_core.model.decode import Regress, decode
from crkd_core.model.detector import BevDetector
from crkd_core.model.output import ModelOutput
from crkd_core.model.precision import DTYPES, converted, warn_if_emulated
from crkd_core.segments import Segments
from crkd_core.sensors import LIDAR


class Detector:
    """Frame -> prepare -> batch -> network -> decode -> Detections.

    The result depends on the Frame and the weights alone, and with ``step`` on the memory that is
    given: not on Frames seen before, nor on whether images were prepared by the caller or here.

    Threads may share one and call it at the same time; with engine openvino they take turns in the
    network, with cuda_graph for the whole call. ``timing`` and ``segments`` are then of whichever
    call ended last, so a thread that reads them has a Detector of its own.

    Processes are begun by "spawn": in one that is forked after a call the threads of OpenMP are
    gone and the next call waits for them. Engine torch can be pickled, others are loaded anew.

    Attributes:
        config: what the weights were trained for.
        engine: what computes the network.
        precision: its number format; "int8" of a file that was quantised.
        score_threshold: boxes must score higher; may be changed between calls, in [0, 1), else
            InferError.
        timing: seconds that the last call spent in "prepare" (images, radar encoding, copies to
            the device), "network" (with its copies, of an engine) and "decode".
        segments: what the second head said of the last Frame; None without one.
    """

    def __init__(
        self,
        model: BevDetector | EngineNetwork,
        *,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        engine: Engine = "torch",
        score_threshold: float = SCORE_THRESHOLD,
    ):
        """Take a copy of ``model``, folded and cast; the original is left alone.

        Args:
            model: as built or loaded, in either mode; or as exported, with its engine.
            device: "cpu", "cuda" or "cuda:N".
            precision: "fp32", "bf16", or "fp16" on CUDA only.
            engine: what computes the network. "cuda_graph" records it, which takes seconds.
                Those of a CPU have it exported first, which takes some ten seconds; ``load`` of a
                file of ``crkd export`` does not. A network as exported has its own, whatever is
                said here.
            score_threshold: in [0, 1).

        Raises:
            InferError: no network, a device or an engine that is not there, or a precision that it
                has not.
        """
        self.score_threshold = score_threshold
        if not isinstance(model, BevDetector | EngineNetwork):
            raise InferError(
                f"expected a network, got {type(model).__name__}; Detector.load reads a file"
            )
        if isinstance(model, EngineNetwork):
            engine = model.engine
        self.device = usable_device(device)
        check_precision(precision, self.device)
        check_engine(engine, precision, self.device)
        warn_if_emulated(precision, self.device)
        self.config: DetectorConfig = model.config
        self.engine: Engine = engine
        #: A recorded network reads and answers in memory of its own.
        self._turn: contextlib.AbstractContextManager[object] = (
            threading.Lock() if engine == "cuda_graph" else contextlib.nullcontext()
        )
        self.timing: dict[str, float] = {}
        self._logits: Tensor | None = None
        #: Computes box parameters at peaks alone, where the head can be parted so.
        self._boxes: BoxBranches | None = None
        # What memory holds: of an engine on the CPU what it answers, float32.
        self._dtype = DTYPES[precision] if engine in ("torch", "cuda_graph") else torch.float32
        #: Where the network wants its batches; an engine brings them further by itself.
        self._reads_on = self.device if engine == "torch" else torch.device("cpu")
        self._prepare_images: Callable[[Frame, ImageConfig], Frame] = prepare
        self._network: Callable[[Batch, Tensor | None], ModelOutput]
        self.precision: str = precision
        if isinstance(model, BevDetector) and engine == "torch":
            self._model = self._prepared(model, DTYPES[precision])
            self._network = self._model
        elif isinstance(model, BevDetector) and engine == "cuda_graph":
            graph = GraphNetwork(model, self.device, precision)
            self._network, self._prepare_images = graph, graph.prepare
        else:
            if isinstance(model, BevDetector):
                model = EngineNetwork.of(model, engine, precision)
            self._network, self._boxes = model, model.boxes
            self.precision = model.precision

    def _prepared(self, model: BevDetector, dtype: torch.dtype) -> BevDetector:
        """A copy as it runs here, folded and cast; its head is parted where it can be."""
        training = model.training
        folded = fold_batch_norms(model.eval())
        model.train(training)
        peaks = PeakHead.of(folded.head)
        if peaks is not None:
            folded.head = peaks  # type: ignore[assignment]
            self._boxes = peaks.boxes
        if folded.image is not None and self.device.type == "cpu":
            fold_pixels(folded.image)
        folded = converted(folded.requires_grad_(False), self.device, dtype)
        if self.device.type == "cpu" and dtype == torch.float32:
            with_winograd(folded)
        if self.device.type == "cpu" and is_fusable(dtype):
            with_fused(folded)
        return folded

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: str | torch.device = "cpu",
        precision: Precision = "fp32",
        engine: Engine = "torch",
        score_threshold: float = SCORE_THRESHOLD,
    ) -> Detector:
        """A detector from a file written by ``save_weights``, or by ``crkd export``.

        Raises:
            CheckpointError: the file holds no detector.
            InferError: see the constructor; or an exported file for another engine.
        """
        model: BevDetector | EngineNetwork
        if is_export(path):
            if engine not in ENDINGS:
                raise InferError(
                    f"{path} is an exported network, which engine {engine} does not run: name "
                    "what does, engine onnxruntime or openvino for .onnx and export for .pt2; or "
                    "give the .safetensors weights"
                )
            check_engine(engine, precision, usable_device(device))
            model = EngineNetwork(Path(path), engine, precision)
        else:
            model = load_weights(path)
        return cls(
            model,
            device=device,
            precision=precision,
            engine=engine,
            score_threshold=score_threshold,
        )

    def can_use(self, frame: Frame) -> bool:
        """Whether a Frame has a sensor that it reads; LiDAR, where it has a branch for that."""
        read = frame.sensors & {*self.config.sensors}
        return bool(read) and ("lidar" not in self.config.branches or LIDAR in read)

    def __call__(self, frame: Frame) -> Detections:
        """The boxes in one Frame, in its ego axes, best first, as if there had been no other.

        Missing cameras and radars are fine as long as one sensor is left that it reads. A detector
        with a LiDAR branch needs LiDAR.

        Raises:
            InferError: the Frame has no sensor at all of those that it reads; or it is no Frame.
            FrameError: its images were prepared for another configuration, or it has no LiDAR and
                this detector needs it.
            EngineError: an engine other than torch, and NaN or infinity in the Frame, or more
                points than it has room for.
            DecodeError: the network answered NaN or infinity.
        """
        return self.step(frame, None)[0]

    def step(self, frame: Frame, memory: Memory | None) -> tuple[Detections, Memory]:
        """The boxes in one Frame, with what is remembered, and what then is.

        Args:
            frame: see ``__call__``, which also says what is raised.
            memory: what the last ``step`` gave; None at first, and to forget. A detector without
                memory does not look at it.
        """
        with self._turn:
            return self._step(frame, memory)

    def _step(self, frame: Frame, memory: Memory | None) -> tuple[Detections, Memory]:
        memory = memory or Memory()
        if not isinstance(frame, Frame):
            raise InferError(
                f"expected one Frame, got {type(frame).__name__}; call it for each Frame"
            )
        if not frame.sensors & {*self.config.sensors}:
            raise InferError(
                f"Frame at {frame.stamp_ns} ns has no {' and no '.join(self.config.branches)}: "
                "there is nothing to see; drop it and count it as failed"
            )
        start = time.perf_counter()
        if "camera" in self.config.branches:
            frame = self._prepare_images(frame, self.config.image)
        batch = collate([dataclasses.replace(frame, past=())], self.config).to(self._reads_on)
        prepared = self._now()
        with torch.inference_mode():
            past = None
            if self.config.temporal is not None:
                memory = memory.before(frame, self.config)
                past = self._past(frame, memory)
            output = self._network(batch, past)
            computed = self._now()
            detections = decode(
                output,
                self.config,
                score_threshold=self.score_threshold,
                regress=self.regress,
            )[0]
        self._logits = output.segments
        if output.instant is not None:
            memory = memory.after(frame, self.config, output.instant)
        end = time.perf_counter()
        self.timing = {
            "prepare": prepared - start,
            "network": computed - prepared,
            "decode": end - computed,
        }
        return detections, memory

    def _past(self, frame: Frame, memory: Memory) -> Tensor:
        """What is remembered, as the network reads it."""
        size = (1, self.config.fused_channels, *self.config.grid.shape)
        blank = torch.zeros(size, dtype=self._dtype, device=self.device)
        return memory.maps(frame, self.config, blank)

    @property
    def score_threshold(self) -> float:
        """See the class."""
        return self._score_threshold

    @score_threshold.setter
    def score_threshold(self, value: float) -> None:
        if not 0 <= value < 1:
            raise InferError(f"score_threshold: expected a number in [0, 1), got {value}")
        self._score_threshold = value

    @property
    def segments(self) -> Segments | None:
        """See the class. Copied from the device when asked for."""
        if self._logits is None:
            return None
        return Segments(
            classes=self.config.segment_classes,
            probability=self._logits[0].float().sigmoid().cpu().numpy(),
            grid=self.config.grid,
            ego_T_grid=np.array(self.config.ego_T_grid, np.float64),
        )

    @property
    def regress(self) -> Regress | None:
        """How ``decode`` gets box parameters that the maps do not hold."""
        return None if self._boxes is None else self._boxes.at

    def _now(self) -> float:
        # CUDA runs behind; without waiting its time would be counted in a later stage.
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def usable_device(name: str | torch.device) -> torch.device:
    """The device of this name. Raises InferError: no such device here."""
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise InferError(f"device: expected cpu, cuda or cuda:N, got {name!r}") from error
    if device.type not in ("cpu", "cuda"):
        raise InferError(f"device: expected cpu, cuda or cuda:N, got {name!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise InferError(
            f"device {name!r}: this PyTorch ({torch.__version__}) sees no CUDA device; use 'cpu', "
            "or install a CUDA build of PyTorch and a driver"
        )
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InferError(f"device {name!r}: there are {torch.cuda.device_count()} CUDA devices")
    return device


def check_precision(precision: str, device: torch.device) -> None:
    """Refuse an unknown number format, or one that this device lacks. Raises InferError."""
    if precision not in DTYPES:
        raise InferError(f"precision: expected one of {', '.join(DTYPES)}, got {precision!r}")
    if precision == "fp16" and device.type == "cpu":
        raise InferError("precision 'fp16' needs a CUDA device; on a CPU use 'bf16' or 'fp32'")
    if precision == "bf16" and device.type == "cuda" and not torch.cuda.is_bf16_supported():
        raise InferError(f"precision 'bf16': {device} does not support it; use 'fp16' or 'fp32'")
