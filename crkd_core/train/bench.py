"""How fast and how large a training is here, part by part. Command `crkd bench --training`.

Times whole steps on random Frames of the right shapes, with the earlier moments and the map that a
network learns from. Reading and augmenting are left out, which workers do beside them: `data_wait`
in a run's metrics.jsonl says what these add. On a CPU it is timed on one thread and on all, in
turn: where two threads are hardly faster than one, two runs of one thread each, or two processes
of one run, use the machine better.
"""

from __future__ import annotations

import dataclasses
import statistics
import time

import numpy as np
import torch
from torch import Tensor

from crkd_core.area import Area
from crkd_core.boxes import Truth
from crkd_core.config import DRIVABLE, DetectorConfig, TrainConfig
from crkd_core.frame import Frame, PastFrame
from crkd_core.infer.bench import machine, random_cloud, random_frame
from crkd_core.infer.detector import usable_device
from crkd_core.infer.stages import SPEED, peak_memory
from crkd_core.model.build import build_detector
from crkd_core.presets import preset
from crkd_core.tables import Table, print_tables
from crkd_core.train.batch import training_batch
from crkd_core.train.loop import parameter_groups
from crkd_core.train.objective import Objective, TrainingLoss

#: Boxes of a Frame, as on nuScenes.
BOXES = 40
#: Parts of a step, in their order.
PARTS = ("batch", "network", "losses", "backward", "update")


def bench_training(
    *, preset_name: str, batch_size: int | None = None, device: str = "cpu", rounds: int = 5
) -> dict[str, float]:
    """Time the training steps of a preset and print a table.

    Args:
        preset_name: which preset, with random weights and its own precision.
        batch_size: samples a step; None = the preset's.
        device: "cpu", "cuda" or "cuda:N".
        rounds: timed steps, after one untimed.

    Raises:
        ConfigError: no such preset.
        InferError: no such device here.

    Returns:
        "steps_per_minute" (median, of as many threads as torch has), "peak_gigabytes" (of the
        process on a CPU, of the device's allocator on CUDA), "parameters" (millions), and the
        median seconds of each of PARTS.
    """
    config, on = preset(preset_name), usable_device(device)
    if batch_size is not None:
        config = dataclasses.replace(config, batch_size=batch_size)
    step = _Step(config, on)
    threads = torch.get_num_threads()
    counts = [threads] if on.type == "cuda" or threads == 1 else [1, threads]
    timed: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    try:
        for turn in range(rounds + 1):
            for count in counts:
                torch.set_num_threads(count)
                spent = step.run()
                if turn:
                    timed[count].append(spent)
    finally:
        torch.set_num_threads(threads)
    medians = {
        count: {part: statistics.median(one[part] for one in steps) for part in PARTS}
        for count, steps in timed.items()
    }
    rates = {
        count: 60 / statistics.median(sum(one.values()) for one in steps)
        for count, steps in timed.items()
    }
    found = {
        "steps_per_minute": rates[threads],
        "peak_gigabytes": peak_memory(on) / 1e3,
        "parameters": sum(p.numel() for p in step.objective.model.parameters()) / 1e6,
    }
    rows = [
        [str(count), *(f"{1e3 * medians[count][part]:.0f}" for part in PARTS), f"{rate:.1f}"]
        for count, rate in rates.items()
    ]
    print_tables(
        Table(
            title=f"training {preset_name}: {found['parameters']:.2f} M parameters, batch "
            f"{config.batch_size}, {config.precision}, median of {rounds} steps, "
            f"{found['peak_gigabytes']:.1f} GB at most\n{machine(on)}, "
            f"torch {torch.__version__}",
            columns=("threads", *(f"{part} ms" for part in PARTS), "steps / minute"),
            rows=rows,
        )
    )
    return found | medians[threads]


class _Step:
    """One training step on the same samples, again and again."""

    def __init__(self, config: TrainConfig, device: torch.device) -> None:
        torch.manual_seed(0)
        model = build_detector(config.detector, pretrained=False).to(device).train()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        criterion = TrainingLoss(config).to(device).train()
        self.objective = Objective(model, criterion, precision=config.precision)
        self._optimiser = torch.optim.AdamW(parameter_groups(self.objective, config), lr=1e-5)
        self._frames = [_annotated(config.detector, seed) for seed in range(config.batch_size)]
        self._config, self._device = config, device
        self._marks: dict[str, float] = {}
        model.register_forward_pre_hook(lambda *_: self._mark("batch"))
        model.register_forward_hook(lambda *_: self._mark("network"))

    def run(self) -> dict[str, float]:
        """Seconds of each of PARTS."""
        self._marks.clear()
        start = self._now()
        self._optimiser.zero_grad(set_to_none=True)
        losses = self.objective(training_batch(self._frames, self._config).to(self._device))
        total: Tensor = losses["total"]
        self._mark("losses")
        total.backward()
        self._mark("backward")
        self._optimiser.step()
        self._mark("update")
        ends = [start, *(self._marks[part] for part in PARTS)]
        return {part: ends[i + 1] - ends[i] for i, part in enumerate(PARTS)}

    def _mark(self, part: str) -> None:
        self._marks[part] = self._now()

    def _now(self) -> float:
        # CUDA runs behind; without waiting its time would be counted in a later part.
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def _annotated(config: DetectorConfig, seed: int) -> Frame:
    """A random Frame with boxes, LiDAR, and all else that this network learns from."""
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
    # Half of the ground, from behind the vehicle to ahead of it.
    (low_x, low_y, _), (high_x, _, _) = low, high
    road = np.array([[low_x, low_y], [high_x, low_y], [high_x, 0.0], [low_x, 0.0]])
    return dataclasses.replace(
        random_frame(config, seed=seed),
        truth=truth,
        lidar=lidar,
        drivable=Area(polygons=((road,),)) if DRIVABLE in config.segment_classes else None,
        past=_past(config, seed),
    )


def _past(config: DetectorConfig, seed: int) -> tuple[PastFrame, ...]:
    """The earlier moments that a network with memory looks back at."""
    if config.temporal is None:
        return ()
    found = []
    for count in range(1, config.temporal.frames + 1):
        now_T_past = np.eye(4)
        now_T_past[0, 3] = -SPEED * config.temporal.interval * count
        seen = random_frame(config, seed=seed + 1000 * count)
        found.append(PastFrame(frame=seen, now_T_past=now_T_past))
    return tuple(found)
