"""Of a frame on a GPU: each part, beside other ways to do it.

    python tools/gpu_parts.py --out out/gpu [--compile]

Lift and pooling by several ways, the network launched kernel by kernel and recorded, what
torch.compile makes of it, and images resized on the processor and on the GPU. Medians.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import functools
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from torch import Tensor

from crkd_core.command import run_function
from crkd_core.config import ConfigError, Engine, Precision
from crkd_core.data.batch import collate
from crkd_core.data.cameras import prepare, prepare_image
from crkd_core.files import check_output, write_json
from crkd_core.frame import Frame
from crkd_core.infer.bench import random_frame
from crkd_core.infer.detector import Detector, usable_device
from crkd_core.infer.engines.cuda_graph import DeviceNetwork, GraphNetwork, Recording
from crkd_core.infer.engines.gpu_images import GpuImages
from crkd_core.infer.engines.inputs import Capacity, refuse
from crkd_core.infer.engines.pooling import launch, pooled
from crkd_core.model.build import build_detector
from crkd_core.model.camera.lift import summed
from crkd_core.model.detector import BevDetector
from crkd_core.model.precision import converted
from crkd_core.presets import preset
from crkd_core.tables import Table, print_tables

#: Timed runs; of few milliseconds each.
RUNS = 50
#: A camera of nuScenes.
WIDTH, HEIGHT = 1600, 900
#: Random weights score about 0.1 in every cell, which is no trained network's load of decoding.
THRESHOLD = 0.3
WAYS: tuple[tuple[Engine, Precision], ...] = (
    ("torch", "fp32"),
    ("torch", "fp16"),
    ("cuda_graph", "fp32"),
    ("cuda_graph", "bf16"),
    ("cuda_graph", "fp16"),
)


def on_gpu(call: Callable[[], object], runs: int = RUNS) -> float:
    """Median milliseconds by the GPU's own clock, recorded, so that nothing waits for launches."""
    graph = Recording(call, torch.device("cuda"))
    times = []
    for _ in range(runs):
        first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        graph.replay()
        last.record()
        torch.cuda.synchronize()
        times.append(first.elapsed_time(last))
    return statistics.median(times)


def by_clock(call: Callable[[], object], runs: int = RUNS) -> float:
    """Median milliseconds by the clock on the wall."""
    times = []
    for turn in range(runs + 5):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        call()
        torch.cuda.synchronize()
        if turn >= 5:
            times.append(1e3 * (time.perf_counter() - begin))
    return statistics.median(times)


@torch.inference_mode()
def pooling(model: BevDetector, dtype: torch.dtype) -> dict[str, float]:
    """Softmax over depth, and sums over cells."""
    network = converted(DeviceNetwork(model, Capacity()), torch.device("cuda"), dtype)
    lift = network.model.lift
    assert lift is not None and network.model.image is not None
    data = collate([random_frame(model.config)], model.config)
    given = {name: value.cuda() for name, value in network.inputs(data).items()}
    fixed = network.places(given["grid_T_pixel"], given["seen"])
    index = lift.index(data.grid_T_pixel.cuda(), data.camera_present.cuda())
    features = network.model.image.features(given["images"])
    logits, context = lift.depth_context(features).split([lift.bins, lift.context], 1)
    rows = context.permute(0, 2, 3, 1).flatten(0, 2).contiguous()

    def depth() -> Tensor:
        return logits.permute(0, 2, 3, 1).softmax(-1).flatten(0, 2)

    def bag() -> Tensor:
        return summed(rows, index.pixel, depth().flatten().index_select(0, index.point), index)

    cells = lift.grid.shape[0] * lift.grid.shape[1]
    cell = torch.full((fixed.point.numel(),), cells, device="cuda")
    counts = index.offset.diff()
    cell[index.point] = torch.repeat_interleave(torch.arange(cells, device="cuda"), counts)

    def sums(points: int, warps: int) -> Tensor:
        return launch(depth(), rows, fixed, points=points, warps=warps)

    def outer() -> Tensor:
        every = (depth()[:, :, None] * rows[:, None]).flatten(0, 1)
        return rows.new_zeros((cells + 1, lift.context)).index_add_(0, cell, every)

    best, other, plain = pooled(depth(), rows, fixed), bag(), outer()[:-1]
    scale = float(best.float().abs().max())
    inside = int(index.offset[-1])
    print(
        f"pooling, {dtype}: {inside} of {fixed.point.numel()} points lie in the grid; off by "
        f"{float((best - other).abs().max()) / scale:.1e} (embedding bag), "
        f"{float((best - plain).abs().max()) / scale:.1e} (outer product) of the largest sum"
    )
    return {
        "softmax over depth": on_gpu(depth),
        **{
            f"softmax, kernel, {points} points, {warps} warps": on_gpu(
                functools.partial(sums, points, warps)
            )
            for points, warps in ((16, 2), (32, 2), (32, 4), (64, 4), (64, 8), (128, 8))
        },
        "softmax, embedding bag": on_gpu(bag),
        "softmax, outer product, index_add": on_gpu(outer),
        "places anew, as cameras move": on_gpu(
            lambda: network.places(given["grid_T_pixel"], given["seen"])
        ),
    }


@torch.inference_mode()
def network(model: BevDetector, dtype: torch.dtype, compiled: bool) -> dict[str, float]:
    """All of it from inputs on the GPU to maps on the GPU."""
    module = converted(DeviceNetwork(model, Capacity()), torch.device("cuda"), dtype)
    data = collate([random_frame(model.config)], model.config)
    given = {name: value.cuda() for name, value in module.inputs(data).items()}
    module.index = module.places(given.pop("grid_T_pixel"), given.pop("seen"))
    read = list(given.values())
    image = module.model.image
    assert image is not None
    shape = (1, model.config.fused_channels, *model.config.grid.shape)
    fused = torch.randn(shape, device="cuda", dtype=dtype).to(memory_format=torch.channels_last)
    found = {
        "network, launched": by_clock(lambda: module.answers(*read)),
        "network, recorded": on_gpu(lambda: module.answers(*read)),
        "of it images to features": on_gpu(lambda: image.features(given["images"])),
        "of it decoder and head": on_gpu(lambda: module.model.head(module.model.decoder(fused))),
    }
    if compiled:
        parts = [module.model.fuser, module.model.decoder, module.model.head]
        for part in (*parts, image.backbone, image.neck):
            part.compile(dynamic=False)
        begin = time.perf_counter()
        found["network, compiled and recorded"] = on_gpu(lambda: module.answers(*read))
        found["of it images to features, compiled"] = on_gpu(
            lambda: image.features(given["images"])
        )
        found["compiling took"] = 1e3 * (time.perf_counter() - begin)
    return found


def frame(model: BevDetector) -> dict[str, float]:
    """The Detector, from prepared and from recorded images."""
    rng = np.random.default_rng(0)
    images = tuple(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8) for _ in range(6))
    recorded = dataclasses.replace(random_frame(model.config), images=images)
    prepared = prepare(recorded, model.config.image)
    found = {}
    for engine, precision in WAYS:
        detector = Detector(
            model, device="cuda", engine=engine, precision=precision, score_threshold=THRESHOLD
        )
        name = f"{engine} {precision}"
        whole = by_clock(functools.partial(detector, recorded), 20)
        found[f"{name}, images of nuScenes to boxes"] = whole
        found[f"{name}, prepared images to boxes"] = by_clock(
            functools.partial(detector, prepared), 20
        )
        for part, seconds in detector.timing.items():
            found[f"{name}, of it {part}"] = 1e3 * seconds
    graph = GraphNetwork(model, torch.device("cuda"), "fp16")
    data = collate([prepared], model.config)
    found["cuda_graph fp16, inputs"] = by_clock(lambda: graph._inputs(data))
    with torch.inference_mode():
        found["cuda_graph fp16, graph"] = by_clock(graph._run.replay)
        found["cuda_graph fp16, download"] = by_clock(
            lambda: graph._maps.copy_(graph._pack.answers)
        )
    return found


@torch.inference_mode()
def images(model: BevDetector) -> dict[str, float]:
    """Six images of nuScenes to the network's size."""
    config = model.config.image
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 255, (18, 32, 3), np.uint8) for _ in range(6)]
    given: list[NDArray[np.uint8]] = [
        np.asarray(cv2.resize(one, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC), np.uint8)
        for one in coarse
    ]
    intrinsics = np.array([[1200.0, 0, 800], [0, 1200, 450], [0, 0, 1]])

    def one(image: np.ndarray) -> np.ndarray:
        return prepare_image(image, intrinsics, config)[0]

    found = {}
    for threads in (1, cv2.getNumberOfCPUs()):
        cv2.setNumThreads(threads)
        found[f"OpenCV, {threads} threads"] = by_clock(lambda: [*map(one, given)])
    cv2.setNumThreads(1)
    with concurrent.futures.ThreadPoolExecutor(6) as pool:
        found["OpenCV, a thread an image"] = by_clock(lambda: [*pool.map(one, given)])
    recorded = dataclasses.replace(random_frame(model.config), images=tuple(given))
    on_device = GpuImages(torch.device("cuda"))
    mine, other = on_device(recorded, config), prepare(recorded, config)
    off = np.abs(_stacked(mine) - _stacked(other))
    print(f"images on the GPU: off by at most {off.max()}, {np.mean(off > 0):.3%} of values")
    found["GPU"] = by_clock(lambda: on_device(recorded, config))
    return found


def _stacked(frame: Frame) -> NDArray[np.int64]:
    return np.stack([image for image in frame.images if image is not None]).astype(np.int64)


def main(
    out: Annotated[Path, typer.Option(help="Folder for NAME.json.")],
    name: Annotated[str, typer.Option("--preset", help="Of the network.")] = "crkd_r50",
    compiled: Annotated[
        bool, typer.Option("--compile", help="See what torch.compile adds; takes a minute.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace NAME.json.")] = False,
) -> None:
    """Time each part of a frame on a GPU, beside other ways to do it."""
    config = preset(name).detector
    if config.camera is None:
        raise ConfigError(f"{name}: images and lift are measured; expected one with cameras")
    refuse(config)
    check_output(out, results=(f"{name}.json",), overwrite=overwrite)
    usable_device("cuda")
    torch.manual_seed(0)
    model = build_detector(config).eval()
    measurements = {
        "a frame": functools.partial(frame, model),
        "lift and pooling, fp16": functools.partial(pooling, model, torch.float16),
        "lift and pooling, fp32": functools.partial(pooling, model, torch.float32),
        "images": functools.partial(images, model),
        "network, fp16": functools.partial(network, model, torch.float16, compiled),
    }
    where = f"{name}, {torch.cuda.get_device_name()}, torch {torch.__version__}"
    found = {}
    for what, measure in measurements.items():
        found[what] = measure()
        rows = [[part, f"{ms:.3f}"] for part, ms in found[what].items()]
        print_tables(Table(title=f"{what}: {where}", columns=("part", "ms"), rows=rows))
        # After each: time on a GPU may end before all is measured.
        write_json({"where": where, "milliseconds": found}, out / f"{name}.json", indent=1)


if __name__ == "__main__":
    run_function(main)
