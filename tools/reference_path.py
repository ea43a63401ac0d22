"""The plain way through a network, and how much faster ours is: `python tools/reference_path.py`.

The plain way is that of the code that CRKD was released with: every module as it was trained,
nothing folded; depth times context as one outer product, added up cell by cell; radar in pillars
padded to one length; the whole head. Both ways decode the same maps with the same code, so its
time is in both. They take turns, and their boxes are counted. The plain way runs twice: in
a process of its own, as it would without this package, and in one that keeps freed memory, as the
commands that detect do.
"""

from __future__ import annotations

import functools
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from crkd_core.boxes import Detections
from crkd_core.command import run_function
from crkd_core.config import ConfigError, Precision
from crkd_core.data.batch import Batch, collate
from crkd_core.frame import Frame
from crkd_core.infer.allocator import keep_freed_memory
from crkd_core.infer.bench import processor, random_frame
from crkd_core.infer.detector import Detector
from crkd_core.infer.engines.export import export
from crkd_core.infer.engines.inputs import Capacity
from crkd_core.infer.stages import driving
from crkd_core.model.build import build_detector
from crkd_core.model.camera.lift import Lift
from crkd_core.model.checkpoint import load_weights
from crkd_core.model.decode import decode
from crkd_core.model.detector import BevDetector
from crkd_core.model.output import ModelOutput
from crkd_core.model.precision import bf16_is_native
from crkd_core.model.radar import RadarPillars
from crkd_core.presets import preset
from crkd_core.tables import Table, print_tables

PLAIN = "plain"
#: Slots of a pillar, as the released code pads to.
SLOTS = 20


def plain_lift(lift: Lift, features: Tensor, batch: Batch) -> Tensor:
    """[P, c, h, w] -> [1, C, X, Y]: the outer product in full, then one addition a point."""
    logits, context = lift.depth_context(features).split([lift.bins, lift.context], 1)
    depth = logits.softmax(1)
    frustum = (depth[:, None] * context[:, :, None]).permute(0, 3, 4, 2, 1)  # [P, h, w, D, C]
    index = lift.index(batch.grid_T_pixel, batch.camera_present)
    x, y = lift.grid.shape
    cell = torch.repeat_interleave(torch.arange(x * y), index.offset.diff())
    cells = frustum.new_zeros((x * y, lift.context))
    cells.index_add_(0, cell, frustum.reshape(-1, lift.context)[index.point])
    return cells.view(1, x, y, -1).permute(0, 3, 1, 2)


def plain_pillars(radar: RadarPillars, batch: Batch) -> Tensor:
    """[1, C, X, Y]: points in pillars padded with rows of zeros, the network over all of them."""
    inputs, place = radar.inputs(batch.radar, batch.radar_sample)
    occupied, pillar, count = torch.unique(place, return_inverse=True, return_counts=True)
    slots = max(SLOTS, int(count.max())) if len(count) else SLOTS
    order = pillar.sort(stable=True).indices
    rank = torch.empty_like(pillar)
    rank[order] = torch.arange(len(order)) - (count.cumsum(0) - count)[pillar[order]]
    padded = inputs.new_zeros((len(occupied), slots, inputs.shape[1]))
    padded[pillar, rank] = inputs
    features = radar.layers(padded.flatten(0, 1)).view(len(occupied), slots, radar.channels)
    if radar.points_per_pillar is None:
        # The demo's networks were trained without empty slots, so these must not win.
        features = features * (torch.arange(slots) < count[:, None])[..., None]
    x, y = radar.grid.shape
    dense = features.new_zeros((x * y, radar.channels))
    dense[occupied] = features.amax(1) if len(occupied) else features.new_zeros((0, 1))
    return dense.view(1, x, y, -1).permute(0, 3, 1, 2)


@torch.inference_mode()
def plain(model: BevDetector, batch: Batch) -> Detections:
    """The boxes of one sample by the plain way. Score threshold as the Detector's default."""
    maps = []
    if model.image is not None and model.lift is not None:
        features = model.image(batch.images, batch.camera_present)
        maps.append(plain_lift(model.lift, features, batch))
    if model.radar is not None:
        view = plain_pillars(model.radar, batch)
        maps.append(view if model.calibration is None else model.calibration(view)[0])
    _, fused = model.fuser(maps)
    return decode(ModelOutput(tasks=model.head(model.decoder(fused)), fused=fused), model.config)[
        0
    ]


def refuse_others(model: BevDetector) -> None:
    """Refuse networks that the released code does not have.

    Raises:
        ConfigError: LiDAR, guided or temporal fusion, a lift that looks at points.
    """
    config = model.config
    told = config.camera is not None and config.camera.radar_view is not None
    if config.lidar or config.guide or config.temporal or told:
        raise ConfigError(
            f"{config.name}: the plain way is of camera-radar networks as released; "
            "expected one without lidar, guide, temporal and camera.radar_view"
        )


def load(preset_name: str, weights: Path | None) -> BevDetector:
    """The same network in every process."""
    torch.manual_seed(0)
    if weights is not None:
        return load_weights(weights).eval()
    return build_detector(preset(preset_name).detector).eval()


def serve(pipe: Connection, preset_name: str, weights: Path | None, threads: int) -> None:
    """Run the plain way, once for each turn that comes, in a process with memory as it comes.

    Answers seconds and boxes.
    """
    torch.set_num_threads(threads)
    model = load(preset_name, weights)
    frame = random_frame(model.config)
    while (turn := pipe.recv()) is not None:
        now = driving(frame, turn)
        start = time.perf_counter()
        found = plain(model, collate([now], model.config))
        pipe.send((time.perf_counter() - start, len(found)))


def int8_detector(model: BevDetector) -> Detector:
    """OpenVINO with convolutions in int8, the others in bf16 where that is native.

    Ranges are those of random images: good for times, not for boxes.
    """
    frames = [random_frame(model.config)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "int8.onnx")
        export(model, path, capacity=Capacity(), calibration=frames)
        precision: Precision = "bf16" if bf16_is_native() else "fp32"
        return Detector.load(path, engine="openvino", precision=precision)


def main(
    preset_name: Annotated[
        str, typer.Option("--preset", help="With random weights.")
    ] = "crkd_r50",
    weights: Annotated[Path | None, typer.Option(help="A .safetensors detector instead.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed turns, after one untimed.")] = 5,
    int8: Annotated[bool, typer.Option(help="OpenVINO in int8 too.")] = False,
) -> None:
    """Compare boxes of the plain way and of the Detector, then their times, turn by turn."""
    keep_freed_memory()  # As the commands that detect do.
    model = load(preset_name, weights)
    refuse_others(model)
    frame = random_frame(model.config)
    ours = {"fp32": Detector(model)}
    # Where it is emulated it is slower than anything else here, and tells nothing.
    if bf16_is_native():
        ours["bf16"] = Detector(model, precision="bf16")
    if int8:
        ours["int8, OpenVINO"] = int8_detector(model)
    first = driving(frame, 0)
    expected, found = plain(model, collate([first], model.config)), ours["fp32"](first)
    if len(expected) != len(found):
        raise ConfigError(f"the plain way finds {len(expected)} boxes, the Detector {len(found)}")
    spawned = multiprocessing.get_context("spawn")
    here, there = spawned.Pipe()
    server = spawned.Process(
        target=serve, args=(there, preset_name, weights, torch.get_num_threads()), daemon=True
    )
    server.start()

    def elsewhere(turn: int) -> float:
        here.send(turn)
        seconds, boxes = here.recv()
        expected = len(kept(driving(frame, turn)))
        if boxes != expected:
            raise ConfigError(f"the plain way finds {expected} boxes, elsewhere {boxes}")
        return float(seconds)

    def timed(way: Callable[[Frame], object], turn: int) -> float:
        now = driving(frame, turn)
        start = time.perf_counter()
        way(now)
        return time.perf_counter() - start

    def kept(now: Frame) -> Detections:
        return plain(model, collate([now], model.config))

    ways: dict[str, Callable[[int], float]] = {
        PLAIN: elsewhere,
        "the same, freed memory kept": functools.partial(timed, kept),
    }
    for name, detector in ours.items():
        ways[name] = functools.partial(timed, detector)
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            seconds = way(turn)
            if turn:
                times[name].append(seconds)
    here.send(None)
    server.join()
    medians = {name: statistics.median(found) for name, found in times.items()}
    rows = [
        [name, f"{1e3 * median:.0f}", f"{medians[PLAIN] / median:.2f}"]
        for name, median in medians.items()
    ]
    threads = torch.get_num_threads()
    title = f"{model.config.name}: a Frame to {len(found)} boxes, median of {rounds}"
    columns = ("way", "ms", "times as fast as plain")
    print_tables(
        Table(title=f"{title}\n{processor()}, {threads} threads", columns=columns, rows=rows)
    )


if __name__ == "__main__":
    run_function(main)
