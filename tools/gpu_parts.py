"""Of a frame on a GPU: each part, beside other ways to do it.

    python tools/gpu_parts.py --out out/gpu [--compile]

Lift and pooling by several ways, the network launched kernel by kernel and recorded, what
torch.compile makes of it, and images resized on the processor and on the GPU. Medians.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import functools
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor

from crkd_core.config import Engine, Precision
from crkd_core.data.batch import collate
from crkd_core.data.cameras import prepare, prepare_image
from crkd_core.data.crop import Placement
from crkd_core.infer.bench import random_frame
from crkd_core.infer.detector import Detector
from crkd_core.infer.engines.cuda_graph import DeviceNetwork, _recorded
from crkd_core.infer.engines.inputs import Capacity
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
#: So many boxes as a trained network answers; random weights find one in every cell below it.
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
    graph, _ = _recorded(call)
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
    found = {
        "network, launched": by_clock(lambda: module.answers(*read)),
        "network, recorded": on_gpu(lambda: module.answers(*read)),
        "of it images to features": on_gpu(lambda: image.features(given["images"])),
    }
    if compiled:
        for name, part in (("features", image.features), ("decoder", module.model.decoder)):
            argument = given["images"]
            if name == "decoder":
                argument = torch.randn(
                    1, model.config.fused_channels, *model.config.grid.shape,
                    device="cuda", dtype=dtype,
                ).to(memory_format=torch.channels_last)  # fmt: skip
            quick = torch.compile(part, dynamic=False)
            found[f"{name}, recorded"] = on_gpu(functools.partial(part, argument))
            found[f"{name}, compiled and recorded"] = on_gpu(functools.partial(quick, argument))
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
    return found


def area_weights(before: int, after: int) -> Tensor:
    """[after, before] shares of pixels in averages over ``before / after`` of them."""
    edges = np.arange(after + 1) * before / after
    low = np.maximum(edges[:-1, None], np.arange(before))
    high = np.minimum(edges[1:, None], np.arange(before) + 1)
    return torch.from_numpy(np.clip(high - low, 0, None) * after / before)


@torch.inference_mode()
def images(model: BevDetector) -> dict[str, float]:
    """Six images of nuScenes to the network's size."""
    config = model.config.image
    rng = np.random.default_rng(0)
    coarse = [rng.integers(0, 255, (18, 32, 3), np.uint8) for _ in range(6)]
    given = [cv2.resize(one, (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC) for one in coarse]
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
        place = Placement.of(WIDTH, HEIGHT, config)
        across = area_weights(WIDTH, place.width)[place.left : place.left + config.width]
        down = area_weights(HEIGHT, place.height)[place.top : place.top + config.height]
        across, down = across.cuda().half(), down.cuda().half()
        pinned = torch.empty((6, HEIGHT, WIDTH, 3), dtype=torch.uint8, pin_memory=True)
        staged = pinned.numpy()
        on_device = torch.empty_like(pinned, device="cuda")

        def resize() -> Tensor:
            pixels = on_device.half().permute(0, 3, 1, 2) / 256  # [6, 3, H, W]; fp16 ends at 65504
            smaller = (down @ pixels @ across.T) * 256
            return smaller.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()

        def stage() -> None:
            [*pool.map(lambda i: np.copyto(staged[i], given[i]), range(6))]

        def whole() -> None:
            stage()
            on_device.copy_(pinned, non_blocking=True)
            resize()

        whole()
        expected = np.stack([one(image) for image in given]).astype(int)
        off = np.abs(resize().cpu().numpy().astype(int) - expected)
        print(
            f"images on the GPU: off by at most {off.max()}, {np.mean(off > 0):.1%} of the values"
        )
        found["GPU: copy to pinned memory, six threads"] = by_clock(stage)
        found["GPU: upload"] = on_gpu(lambda: on_device.copy_(pinned, non_blocking=True))
        found["GPU: two matrix products"] = on_gpu(resize)
        found["GPU: all three"] = by_clock(whole)
    return found


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="crkd_r50")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    torch.manual_seed(0)
    model = build_detector(preset(given.preset).detector).eval()
    found = {
        "a frame": frame(model),
        "lift and pooling, fp16": pooling(model, torch.float16),
        "lift and pooling, fp32": pooling(model, torch.float32),
        "images": images(model),
        "network, fp16": network(model, torch.float16, given.compile),
    }
    where = f"{given.preset}, {torch.cuda.get_device_name()}, torch {torch.__version__}"
    print_tables(
        *(
            Table(title=f"{name}: {where}", columns=("part", "ms"),
                  rows=[[part, f"{ms:.3f}"] for part, ms in parts.items()])
            for name, parts in found.items()
        )
    )  # fmt: skip
    given.out.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"where": where, "milliseconds": found}, indent=1)
    Path(given.out, f"{given.preset}.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
