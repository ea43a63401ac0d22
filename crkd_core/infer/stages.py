"""Where the time of one frame goes, stage by stage, and how near each is to the limit.

Nothing is left out: the stages add up to the way from JPEGs, of a network that reads cameras,
to boxes; "other" is what lies between the parts of the network. What a node's messages cost on top
says ``crkd overhead``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import platform
import resource
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from crkd_core.data.batch import collate
from crkd_core.data.cameras import decode_jpeg, prepare
from crkd_core.frame import Frame
from crkd_core.infer.detector import Detector
from crkd_core.infer.fused import directly
from crkd_core.infer.memory import Memory
from crkd_core.model.decode import candidates, survivors

#: Parts of the network in the order of a frame's way, and the words for them.
_PARTS = {
    "image.backbone": "backbone",
    "image.neck": "neck",
    "lift": "lift",
    "lidar": "lidar",
    "radar": "radar",
    "calibration": "calibration",
    "guide": "guide",
    "fuser": "fuse",
    "temporal": "memory",
    "decoder": "decoder",
    "head": "head",
    "segments": "segments",
}
_OTHER = "other"
#: How fast the vehicle of a remembered drive is, m/s.
SPEED = 10.0
_JPEG_QUALITY = 90


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a frame.

    Attributes:
        name: of the stage.
        milliseconds: median.
        gflop: of its convolutions and matrix products, a multiply-add counting two.
        megabytes: its layers' inputs, outputs and weights.
    """

    name: str
    milliseconds: float
    gflop: float = 0.0
    megabytes: float = 0.0


def stages(detector: Detector, frame: Frame, *, rounds: int) -> list[Stage]:
    """Time every stage of a frame.

    Args:
        detector: as used.
        frame: with images as recorded; they are replaced by smooth ones of their size, which
            compress like photographs.
        rounds: timed frames, after one untimed.
    """
    jpegs = [
        None
        if image is None
        else simplejpeg.encode_jpeg(_picture(index, image.shape), quality=_JPEG_QUALITY)
        for index, image in enumerate(frame.images)
    ]
    spent: defaultdict[str, list[float]] = defaultdict(list)
    frame, memory = recalling(detector, frame)
    with _hooked(detector._model, detector._now) as parts:
        for turn in range(rounds + 1):
            now = driving(frame, turn)
            for name, seconds in _one_frame(detector, now, memory, jpegs, parts).items():
                if turn:
                    spent[name].append(seconds)
    gflop, megabytes = _work(detector, driving(frame, rounds + 1))
    return [
        Stage(
            name=name,
            milliseconds=1e3 * statistics.median(times),
            gflop=gflop.get(name, 0.0),
            megabytes=megabytes.get(name, 0.0),
        )
        for name, times in spent.items()
    ]


def driving(frame: Frame, turn: int) -> Frame:
    """The same Frame from a vehicle that drives: cameras elsewhere in every turn.

    Cameras look at times of their own, so on a vehicle that drives all but the reference camera
    have another place in every Frame, and points of theirs must be sorted anew.
    """
    ego_T_cam = frame.ego_T_cam.copy()
    ego_T_cam[1:, 0, 3] += 1e-3 * (turn + 1)
    return dataclasses.replace(frame, ego_T_cam=ego_T_cam)


def recalling(detector: Detector, frame: Frame) -> tuple[Frame, Memory | None]:
    """The last Frame of a drive, and all that a detector reads of the earlier ones.

    Args:
        detector: as used.
        frame: what is seen all along.

    Returns:
        The same Frame, of a later time and a known pose; None, and the Frame itself, of a detector
        without memory.
    """
    if detector.config.temporal is None:
        return frame, None
    frames, interval = detector.config.temporal.frames, detector.config.temporal.interval
    memory = None
    for index in range(frames + 1):
        pose = np.eye(4)
        pose[0, 3] = SPEED * interval * index
        stamp_ns = frame.stamp_ns + round(1e9 * interval * index)
        now = dataclasses.replace(frame, stamp_ns=stamp_ns, global_T_ego=pose)
        if index < frames:
            _, memory = detector.step(now, memory)
    return now, memory


def _one_frame(
    detector: Detector,
    frame: Frame,
    memory: Memory | None,
    jpegs: list[bytes | None],
    parts: dict[str, float],
) -> dict[str, float]:
    """Seconds of the stages of one frame."""
    found: dict[str, float] = {}
    marks = [detector._now()]

    def until_now(name: str) -> None:
        marks.append(detector._now())
        found[name] = marks[-1] - marks[-2]

    if "camera" in detector.config.branches:
        images = tuple(
            None if data is None else decode_jpeg(data, source="bench") for data in jpegs
        )
        until_now("JPEG")
        frame = prepare(dataclasses.replace(frame, images=images), detector.config.image)
        until_now("resize")
    with torch.inference_mode():
        batch = collate([frame], detector.config).to(detector.device)
        until_now("batch, upload")
        past = None
        if memory is not None:
            past = detector._past(frame, memory.before(frame, detector.config))
            until_now("moved maps")
        parts.clear()
        output = detector._model(batch, past)
        until_now(_OTHER)
        found[_OTHER] -= sum(parts.values())
        found |= {word: parts[name] for name, word in _PARTS.items() if name in parts}
        found[_OTHER] = found.pop(_OTHER)  # Behind the parts.
        config, threshold = detector.config, detector.score_threshold
        chosen = candidates(output, config, score_threshold=threshold, regress=detector.regress)[0]
    until_now("decode")
    survivors(chosen, config)
    until_now("NMS")
    return found


def _picture(seed: int, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """An image of coarse shapes and a little noise."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (18, 32, 3), np.uint8)
    image = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    noise = rng.normal(0, 4, (*shape[:2], 1))
    return np.clip(image + noise, 0, 255).astype(np.uint8)


@contextlib.contextmanager
def _hooked(model: nn.Module, now: Callable[[], float]) -> Iterator[dict[str, float]]:
    """Seconds by part of the forward passes inside the block."""
    begun: dict[str, float] = {}
    spent: dict[str, float] = {}

    def before(name: str) -> Callable[..., None]:
        return lambda *_: begun.__setitem__(name, now())

    def after(name: str) -> Callable[..., None]:
        return lambda *_: spent.__setitem__(name, now() - begun[name])

    handles = []
    for name in _PARTS:
        part = _part(model, name)
        if part is not None:
            handles += [
                part.register_forward_pre_hook(before(name)),
                part.register_forward_hook(after(name)),
            ]
    try:
        yield spent
    finally:
        for handle in handles:
            handle.remove()


def _part(model: nn.Module, name: str) -> nn.Module | None:
    part: Any = model
    for word in name.split("."):
        part = getattr(part, word, None)
        if part is None:
            return None
    return part  # type: ignore[no-any-return]


def _work(detector: Detector, frame: Frame) -> tuple[dict[str, float], dict[str, float]]:
    """GFLOP and MB by stage of one frame: of the network, and of boxes computed at its peaks."""
    gflop: dict[str, float] = {}
    megabytes: defaultdict[str, float] = defaultdict(float)
    handles = []
    with FlopCounterMode(display=False) as counter:

        def before(word: str) -> Callable[..., None]:
            return lambda *_: gflop.__setitem__(word, -counter.get_total_flops() / 1e9)

        def after(word: str) -> Callable[..., None]:
            return lambda *_: gflop.__setitem__(
                word, gflop[word] + counter.get_total_flops() / 1e9
            )

        def layer(word: str) -> Callable[..., None]:
            def note(module: nn.Module, inputs: Any, output: Any) -> None:
                tensors = [*_tensors(inputs), *_tensors(output), *module.parameters()]
                megabytes[word] += sum(t.numel() * t.element_size() for t in tensors) / 1e6

            return note

        for name, word in _PARTS.items():
            part = _part(detector._model, name)
            if part is None:
                continue
            handles += [
                part.register_forward_pre_hook(before(word)),
                part.register_forward_hook(after(word)),
            ]
            # What folding and fusing have left moves nothing.
            leaves = [
                module
                for module in part.modules()
                if not list(module.children()) and not isinstance(module, nn.Identity)
            ]
            handles += [leaf.register_forward_hook(layer(word)) for leaf in leaves]
        try:
            # What the network asks for, not what a faster way to the same numbers takes.
            with torch.inference_mode(), directly(detector._model):
                output = detector._model(collate([frame], detector.config).to(detector.device))
                before("decode")()
                with _Convolutions() as at_peaks:
                    candidates(
                        output,
                        detector.config,
                        score_threshold=detector.score_threshold,
                        regress=detector.regress,
                    )
                after("decode")()
                megabytes["decode"] = at_peaks.megabytes
        finally:
            for handle in handles:
                handle.remove()
    return gflop, dict(megabytes)


class _Convolutions(TorchDispatchMode):
    """MB of the convolutions inside the block, which are no modules: inputs, outputs, weights."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.megabytes = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        # In inference mode what is called is seen, outside it what that is made of.
        if func.overloadpacket in (torch.ops.aten.conv2d, torch.ops.aten.convolution):
            tensors = [*_tensors(args), found]
            self.megabytes += sum(t.numel() * t.element_size() for t in tensors) / 1e6
        return found


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, tuple | list):
        return [tensor for one in value for tensor in _tensors(one)]
    return []


def peak_memory(device: torch.device) -> float:
    """The most memory that was in use so far, MB: of the device, or of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e6
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6
