"""How fast a detector is, as ratios taken in one process. Command `crkd bench`.

Every variant runs once per round, in turn, so a busy machine slows all of them alike; the table
gives medians and the ratio to the first variant. Inputs are random Frames of the right shape, of
a vehicle that drives: the time of decoding depends on what is found, so it is listed apart. A
detector with memory has all the earlier moments that it reads.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from crkd_core.config import DetectorConfig, Engine, Precision
from crkd_core.data.batch import collate
from crkd_core.data.nuscenes.classes import NUSCENES_CLASSES
from crkd_core.data.vod.classes import VOD_CLASSES
from crkd_core.data.vod.layout import Vod
from crkd_core.frame import Frame
from crkd_core.infer.detector import Detector, usable_device
from crkd_core.infer.engines.runtimes import PRECISIONS
from crkd_core.infer.plain_layers import rates
from crkd_core.infer.stage_report import stage_table, write_stages
from crkd_core.infer.stages import driving, peak_memory, recalling, stages
from crkd_core.infer.variants import variants
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import load_weights
from crkd_core.model.detector import BevDetector
from crkd_core.model.precision import DTYPES, bf16_is_native
from crkd_core.presets import preset
from crkd_core.sensors import CAMERAS, RADAR_COLUMNS, RADARS
from crkd_core.tables import Table, print_tables

#: LiDAR points of a sweep, as on nuScenes.
SWEEP_POINTS = 25_000

_EGO_T_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 1.5], [0, 0, 0, 1]])


def random_frame(config: DetectorConfig, *, seed: int = 0, radar_points: int = 1500) -> Frame:
    """A Frame of noise with all sensors of the data set that a detector's classes are of.

    Of nuScenes six cameras around the vehicle and five radars, of View-of-Delft one and one.
    Images are as recorded at 1.5 x the input. Radar points lie within the grid, new, of all
    radars; LiDAR points where the network reads them.
    """
    of_vod = {*config.classes} <= {*VOD_CLASSES} and not {*config.classes} <= {*NUSCENES_CLASSES}
    rig = (*Vod.cameras, *Vod.radars) if of_vod else (*CAMERAS, *RADARS)
    rng = np.random.default_rng(seed)
    width = round(config.image.width * 1.5)
    height = round(width * 9 / 16)
    intrinsics = np.array([[0.8 * width, 0, width / 2], [0, 0.8 * width, height / 2], [0, 0, 1]])
    ego_T_cam = np.tile(_EGO_T_OPTICAL, (len(CAMERAS), 1, 1))
    for k, angle in enumerate(np.deg2rad([0, -55, 55, 180, 110, -110])):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        ego_T_cam[k, :2, :3] = turn @ _EGO_T_OPTICAL[:2, :3]
    radar = np.zeros((radar_points, len(RADAR_COLUMNS)), np.float32)
    radar[:, :2] = rng.uniform(config.grid.low[:2], config.grid.high[:2], (radar_points, 2))
    radar[:, 5:10] = rng.normal(0, 5, (radar_points, 5))
    radar[:, -1] = rng.choice([k for k, name in enumerate(RADARS) if name in rig], radar_points)
    frame = Frame(
        stamp_ns=0,
        images=tuple(rng.integers(0, 255, (len(CAMERAS), height, width, 3), np.uint8)),
        intrinsics=np.tile(intrinsics, (len(CAMERAS), 1, 1)),
        ego_T_cam=ego_T_cam,
        radar=radar,
        lidar=random_cloud(config, rng) if "lidar" in config.branches else None,
    )
    return frame.keeping(rig)


def random_cloud(config: DetectorConfig, rng: np.random.Generator) -> NDArray[np.float32]:
    """[N, 5] within the grid, of as many sweeps as are read; nearer to the vehicle it is denser.

    A detector without a LiDAR branch learns depths from one.
    """
    sweeps = 1 if config.lidar is None else config.lidar.sweeps
    count = SWEEP_POINTS * sweeps
    low, high = np.array(config.grid.low), np.array(config.grid.high)
    lidar = np.zeros((count, 5), np.float32)
    lidar[:, :3] = (low + high) / 2 + (high - low) / 2 * rng.uniform(-1, 1, (count, 3)) ** 3
    lidar[:, 3] = rng.uniform(0, 255, count)
    lidar[:, 4] = rng.integers(0, sweeps, count) * 0.05
    return lidar


def bench(
    *,
    preset_name: str = "demo_student",
    weights: Path | None = None,
    device: str = "cpu",
    rounds: int = 20,
    precisions: Sequence[Precision] | None = None,
    engines: Sequence[Engine] = (),
    out: Path | None = None,
) -> dict[str, dict[str, float]]:
    """Time a detector and print tables: by variant, and by stage.

    Args:
        preset_name: which preset, with random weights.
        weights: a detector file; its configuration takes the preset's place.
        device: "cpu", "cuda" or "cuda:N".
        rounds: timed calls of each variant, after two untimed ones.
        precisions: number formats beside fp32, which is always timed; None = those that the
            device has instructions for, and a line says which is left out.
        engines: others than torch, which are timed too, in every precision they have; the stages
            are those of torch.
        out: folder for the figures and a picture of the stages; None: they are only printed.

    Returns:
        variant -> stage -> median milliseconds.
    """
    on = usable_device(device)
    if weights is not None:
        model = load_weights(weights)
    else:
        torch.manual_seed(0)
        model = build_detector(preset(preset_name).detector)
    model.eval()
    frame = random_frame(model.config)
    detectors = {
        name: Detector(model, device=on, precision=name)
        for name in _precisions(precisions, on.type == "cuda")
    }
    beside = variants(model, [(e, p) for e in engines for p in PRECISIONS[e]], device=on)
    timed = detectors | {f"{one.engine} {one.precision}": one for one in beside}
    asked = {name: recalling(detector, frame) for name, detector in timed.items()}
    last, held = asked["fp32"]

    def past() -> Tensor | None:
        return None if held is None else detectors["fp32"]._past(last, held)

    network = model.to(on)

    def plain(turn: int) -> float:
        batch = collate([driving(frame, turn)], model.config).to(on)
        remembered = past()
        with torch.inference_mode():
            return _timed(lambda: network(batch, remembered), on)

    samples: dict[str, dict[str, list[float]]] = {}

    def note(variant: str, timing: dict[str, float]) -> None:
        for stage, seconds in timing.items():
            samples.setdefault(variant, {}).setdefault(stage, []).append(1e3 * seconds)

    for turn in range(rounds + 2):
        plain_seconds = plain(turn)
        for name, detector in timed.items():
            now, remembered = asked[name]
            detector.step(driving(now, turn), remembered)
            if turn >= 2:
                note(name, detector.timing | {"total": sum(detector.timing.values())})
        if turn >= 2:
            note("fp32 not folded", {"network": plain_seconds})
    medians = {
        variant: {stage: statistics.median(values) for stage, values in times.items()}
        for variant, times in samples.items()
    }
    _print(model, medians, device=on, rounds=rounds)
    parts = {name: stages(detector, frame, rounds=rounds) for name, detector in detectors.items()}
    # Before plain layers are measured, which take more than most networks.
    memory = peak_memory(on)
    found = {name: (part, rates(on, DTYPES[name])) for name, part in parts.items()}
    print_tables(*(stage_table(*measured, precision=name) for name, measured in found.items()))
    print(f"most memory in use: {memory:.0f} MB")
    if out is not None:
        facts = {
            "network": model.config.name,
            "processor": machine(on),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "rounds": rounds,
            "peak_memory_mb": memory,
        }
        write_stages(out, found, machine=facts, variants=medians)
        print(f"figures: {out / 'bench.json'}, {out / 'bench.png'}")
    return medians


def _precisions(wanted: Sequence[Precision] | None, cuda: bool) -> list[Precision]:
    """What is timed of torch, fp32 first."""
    found: list[Precision] = ["fp32", *(wanted or ())]
    if wanted is None and cuda:
        found += ["bf16", "fp16"]
    elif wanted is None and bf16_is_native():
        found += ["bf16"]
    elif wanted is None:
        print(
            "bf16 is emulated by this processor and not timed; --precision bf16 times it, which "
            "takes several times as long as fp32"
        )
    return [*dict.fromkeys(found)]


def sizes(model: BevDetector) -> Table:
    """Parameters and floating-point operations of a Frame, by part.

    An operation is an addition or a multiplication, in convolutions and matrix products; looking
    up and summing, as in the lift, is not counted.
    """
    batch = collate([random_frame(model.config)], model.config).to(next(model.parameters()).device)
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), counter:
        model(batch)
    root = type(model).__name__
    counts = {
        name.removeprefix(f"{root}."): sum(ops.values())
        for name, ops in counter.get_flop_counts().items()
    }
    rows = []
    for name, part in model.named_children():
        number = sum(p.numel() for p in part.parameters())
        rows.append([name, f"{number / 1e6:.2f}", f"{counts.get(name, 0) / 1e9:.2f}"])
    total = sum(p.numel() for p in model.parameters())
    rows.append(["all", f"{total / 1e6:.2f}", f"{counter.get_total_flops() / 1e9:.2f}"])
    return Table(
        title=f"{model.config.name}, one Frame",
        columns=("part", "parameters M", "GFLOP"),
        rows=rows,
    )


def _timed(call: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    call()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def _print(
    model: BevDetector, medians: dict[str, dict[str, float]], *, device: torch.device, rounds: int
) -> None:
    count = sum(p.numel() for p in model.parameters())
    where = machine(device)
    stages = ("prepare", "network", "decode", "total")
    reference = medians["fp32"]["network"]
    print_tables(
        sizes(model),
        Table(
            title=f"{model.config.name}: {count / 1e6:.2f} M parameters, batch 1, median of "
            f"{rounds}\n{where}, {torch.get_num_threads()} threads, torch {torch.__version__}",
            columns=("variant", *(f"{stage} ms" for stage in stages), "network / fp32"),
            rows=[
                [
                    variant,
                    *(f"{values[stage]:.1f}" if stage in values else "" for stage in stages),
                    f"{values['network'] / reference:.2f}",
                ]
                for variant, values in medians.items()
            ],
        ),
    )


def machine(device: torch.device) -> str:
    """What a GPU or the processor is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else processor()


def processor() -> str:
    """What the machine says its processor is."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
