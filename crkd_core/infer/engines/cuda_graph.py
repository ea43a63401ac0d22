"""The network of one frame as a CUDA graph: recorded once, started with a single call.

Launching hundreds of kernels from Python takes longer than a GPU needs to compute them. Shapes
are fixed as for exported files (inputs.py); the whole head is computed, since where its peaks are
cannot be asked in between; its maps come to the host in one copy (docs/decisions/0040).

Shapes: C channels of all maps of the head, X Y grid cells, S camera slots.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

import torch
from torch import Tensor

from crkd_core.config import DetectorConfig, Precision
from crkd_core.data.batch import Batch
from crkd_core.infer.engines.fixed import FixedNetwork, as_output
from crkd_core.infer.engines.gpu_images import GpuImages
from crkd_core.infer.engines.inputs import Capacity, FixedInputs
from crkd_core.infer.engines.joined_head import JoinedHead
from crkd_core.infer.engines.pooling import check_triton, pooled
from crkd_core.model.camera.lift import LiftIndex
from crkd_core.model.detector import BevDetector
from crkd_core.model.output import ModelOutput
from crkd_core.model.precision import DTYPES, converted

#: Runs before one is recorded: libraries choose their ways and take their memory in these.
_WARM_UP = 3
#: Inputs that say where cameras look. They come with every frame, and seldom change on a rig whose
#: cameras fire together.
_PLACES = ("grid_T_pixel", "seen")

T = TypeVar("T")


class DeviceNetwork(FixedNetwork):
    """A network of fixed shapes that computes on a GPU, in its own number format.

    Attributes:
        index: where frustum points go, of ``places``; to be set before it is called.
    """

    index: LiftIndex

    def __init__(self, model: BevDetector, capacity: Capacity) -> None:
        """See FixedNetwork."""
        super().__init__(model, capacity, whole_head=True)
        self.model.head = JoinedHead(self.model.head)  # type: ignore[assignment]
        self.inputs = FixedInputs(model.config, capacity, cells=False)

    def places(self, grid_T_pixel: Tensor, seen: Tensor) -> LiftIndex:
        """Where the frustum points of matrices [S, 4, 4] go; ``seen`` [S]: there is a camera."""
        assert self.model.lift is not None
        return self.model.lift.fixed_index(grid_T_pixel, seen)

    def _lifted(self, features: Tensor, given: list[Tensor]) -> Tensor:
        lift = self.model.lift
        assert lift is not None
        logits, context = lift.depth_context(features).split([lift.bins, lift.context], 1)
        depth = logits.permute(0, 2, 3, 1).softmax(-1).flatten(0, 2)
        rows = context.permute(0, 2, 3, 1).flatten(0, 2)
        cells = pooled(depth, rows, self.index)
        return cells.view(1, *lift.grid.shape, lift.context).permute(0, 3, 1, 2)


class Recording(Generic[T]):
    """A computation that is recorded where it runs on a GPU, and done anew elsewhere.

    Attributes:
        answers: what the last ``replay`` computed; of a GPU always the same tensors.
    """

    def __init__(self, compute: Callable[[], T], device: torch.device) -> None:
        """Record it, which also computes it once."""
        self._compute, self._graph = compute, None
        if device.type != "cuda":
            self.answers = compute()
            return
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        # Which algorithm is fastest is tried while warming up, and recorded.
        with torch.backends.cudnn.flags(enabled=True, benchmark=True):
            with torch.cuda.stream(stream):
                for _ in range(_WARM_UP):
                    compute()
            torch.cuda.current_stream().wait_stream(stream)
            self._graph = torch.cuda.CUDAGraph()
            # Other threads, of a node say, may go on using the GPU.
            with torch.cuda.graph(self._graph, capture_error_mode="thread_local"):
                self.answers = compute()
        self._graph.replay()

    def replay(self) -> T:
        """Compute anew from what the inputs hold now; nothing is waited for."""
        if self._graph is None:
            self.answers = self._compute()
        else:
            self._graph.replay()
        return self.answers


class GraphNetwork:
    """In the place of BevDetector: a Batch on the CPU in, ModelOutput out.

    Attributes:
        config: of the detector.
        prepare: what makes the network's images of recorded ones, on the GPU.
    """

    def __init__(self, model: BevDetector, device: torch.device, precision: Precision) -> None:
        """Record the graphs, which takes seconds.

        Args:
            model: in either mode.
            device: a GPU; on a CPU it computes the same, unrecorded.
            precision: "fp32", "bf16" or "fp16".

        Raises:
            EngineError: the network has no form of fixed shapes, or Triton is not there.
        """
        if device.type == "cuda":
            check_triton()
        self.config: DetectorConfig = model.config
        self.prepare = GpuImages(device)
        self._model, self._device, self._dtype = model, device, DTYPES[precision]
        self._record(Capacity())

    def _record(self, capacity: Capacity) -> None:
        """Record with room for so much."""
        network = converted(DeviceNetwork(self._model, capacity), self._device, self._dtype)
        # A graph knows addresses: its weights and inputs must stay.
        self._network, self._inputs = network, network.inputs
        blank = self._inputs.blank()
        #: What a memory gives is on the GPU already.
        self._host = {n: self._page_locked(value) for n, value in blank.items() if n != "past"}
        self._given = {name: value.to(self._device) for name, value in blank.items()}
        read = [value for name, value in self._given.items() if name not in _PLACES]
        with self._on_device():
            self._places = None
            if network.model.lift is not None:
                places = [self._given[name] for name in _PLACES]
                self._places = Recording(lambda: network.places(*places), self._device)
                network.index = self._places.answers
            self._run = Recording(lambda: network.answers(*read), self._device)
            self._pack = Recording(lambda: _packed(self._run.answers), self._device)
            self._maps = self._page_locked(self._pack.answers.cpu())

    def __call__(self, batch: Batch, past: Tensor | None = None) -> ModelOutput:
        """As BevDetector, of one sample; features other than ``instant`` are not there.

        The maps of the head are on the CPU and valid until the next call.

        Raises:
            EngineError: values that are not finite.
        """
        if len(batch.radar) > self._inputs.capacity.radar_points:
            # A power of two, so that a few points more do not need it again.
            room = 1 << len(batch.radar).bit_length()
            warnings.warn(
                f"a Frame has {len(batch.radar)} radar points: the network is recorded anew, with "
                f"room for {room}, which takes seconds",
                stacklevel=2,
            )
            self._record(Capacity(radar_points=room))
        inputs = self._inputs(batch, past)
        moved = any(not torch.equal(self._host[n], inputs[n]) for n in _PLACES if n in inputs)
        with self._on_device():
            for name, value in inputs.items():
                staged = self._host[name].copy_(value) if name in self._host else value
                self._given[name].copy_(staged, non_blocking=True)
            if self._places is not None and moved:
                self._network.index = self._places.replay()
            answers = self._run.replay()
            self._maps.copy_(self._pack.replay(), non_blocking=True)
            maps = {name: value for name, value in answers.items() if _of_head(name)}
            beside = {n: value.clone() for n, value in answers.items() if n not in maps}
            if self._device.type == "cuda":
                torch.cuda.current_stream().synchronize()
            sizes = [value.shape[1] for value in maps.values()]
            parts = self._maps[None].split(sizes, 1)
            return as_output(dict(zip(maps, parts, strict=True)) | beside)

    @contextlib.contextmanager
    def _on_device(self) -> Iterator[None]:
        gpu = self._device.type == "cuda"
        chosen = torch.cuda.device(self._device) if gpu else contextlib.nullcontext()
        with chosen, torch.inference_mode():
            yield

    def _page_locked(self, value: Tensor) -> Tensor:
        """Where a GPU can be copied to and from without waiting."""
        return value.pin_memory() if self._device.type == "cuda" else value.clone()


def _of_head(name: str) -> bool:
    return name.startswith("task")


def _packed(answers: dict[str, Tensor]) -> Tensor:
    """The head's maps of one sample, one after the other, [C, X, Y], as they are read."""
    return torch.cat([v[0] for name, v in answers.items() if _of_head(name)]).contiguous()
