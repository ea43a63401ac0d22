"""How fast and how large a training is here. Command `crkd bench --training`.

Times whole steps (forward, losses, backward, update) on random Frames of the right shapes, without
reading or augmenting: `data_wait` in a run's metrics.jsonl says what these add.
"""

from __future__ import annotations

import dataclasses
import platform
import resource
import statistics
import time

import numpy as np
import torch

from crkd_core.boxes import Truth
from crkd_core.config import DetectorConfig
from crkd_core.frame import Frame
from crkd_core.infer.bench import processor, random_cloud, random_frame
from crkd_core.model.build import build_detector
from crkd_core.presets import preset
from crkd_core.tables import Table, print_tables
from crkd_core.train.batch import training_batch
from crkd_core.train.loop import parameter_groups
from crkd_core.train.objective import Objective, TrainingLoss

#: Boxes of a Frame, as on nuScenes.
BOXES = 40


def bench_training(
    *, preset_name: str, batch_size: int | None = None, device: str = "cpu", rounds: int = 5
) -> dict[str, float]:
    """Time the training steps of a preset and print a table.

    Args:
        preset_name: which preset, with random weights and its own precision.
        batch_size: samples a step; None = the preset's.
        device: "cpu" or "cuda".
        rounds: timed steps, after one untimed.

    Returns:
        "steps_per_minute" (median), "peak_gigabytes" (of the process on a CPU, of the device's
        allocator on CUDA), "parameters" (millions).
    """
    config = preset(preset_name)
    if batch_size is not None:
        config = dataclasses.replace(config, batch_size=batch_size)
    torch.manual_seed(0)
    model = build_detector(config.detector, pretrained=False).to(device).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    criterion = TrainingLoss(config).to(device).train()
    objective = Objective(model, criterion, precision=config.precision)
    optimiser = torch.optim.AdamW(parameter_groups(objective, config), lr=1e-5)
    frames = [_annotated(config.detector, seed) for seed in range(config.batch_size)]
    batch = training_batch(frames, config).to(device)
    cuda = device.startswith("cuda")
    seconds = []
    for _ in range(rounds + 1):
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        objective(batch)["total"].backward()
        optimiser.step()
        if cuda:
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() if cuda else _peak_bytes()
    found = {
        "steps_per_minute": 60 / statistics.median(seconds[1:]),
        "peak_gigabytes": peak / 1e9,
        "parameters": sum(p.numel() for p in model.parameters()) / 1e6,
    }
    where = torch.cuda.get_device_name() if cuda else processor()
    cells = [
        f"{found['parameters']:.2f}",
        f"{found['steps_per_minute']:.1f}",
        f"{found['peak_gigabytes']:.1f}",
    ]
    print_tables(
        Table(
            title=f"training {preset_name}: batch {config.batch_size}, {config.precision}, median "
            f"of {rounds} steps\n"
            f"{where}, {torch.get_num_threads()} threads, torch {torch.__version__}",
            columns=("parameters M", "steps / minute", "peak GB"),
            rows=[cells],
        )
    )
    return found


def _annotated(config: DetectorConfig, seed: int) -> Frame:
    """A random Frame with boxes, and with LiDAR, all within the grid."""
    rng = np.random.default_rng(seed)
    low, high = np.array(config.grid.low), np.array(config.grid.high)
    lidar = random_cloud(config, rng)
    center = rng.uniform(low * 0.9, high * 0.9, (BOXES, 3))
    truth = Truth(
        center=center,
        size=np.tile([4.5, 1.9, 1.6], (BOXES, 1)),
        yaw=rng.uniform(-np.pi, np.pi, BOXES),
        velocity=rng.normal(0, 3, (BOXES, 2)),
        label=rng.integers(0, len(config.classes), BOXES),
        attribute=np.full(BOXES, -1),
        num_lidar_points=np.ones(BOXES, np.int64),
        num_radar_points=np.ones(BOXES, np.int64),
        classes=config.classes,
    )
    return dataclasses.replace(random_frame(config, seed=seed), truth=truth, lidar=lidar)


def _peak_bytes() -> int:
    unit = 1 if platform.system() == "Darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
