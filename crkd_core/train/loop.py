"""The training trip: files -> Frame -> augment -> Batch -> model -> losses -> checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.data import DataLoader

from crkd_core.config import TrainConfig
from crkd_core.data.batch import Batch
from crkd_core.model.build import build_detector
from crkd_core.model.depth import DepthLoss
from crkd_core.model.detector import CameraRadarDetector, ModelOutput
from crkd_core.model.loss import DetectionLoss
from crkd_core.train.run import Parts, Run
from crkd_core.train.samples import Frames, Positions, Views


class TrainError(RuntimeError):
    """A training that cannot go on."""


def train(
    run: Run,
    frames: Frames,
    *,
    resume: bool = False,
    device: str = "cpu",
    model: CameraRadarDetector | None = None,
    criterion: TrainingLoss | None = None,
    views: Views | None = None,
) -> CameraRadarDetector:
    """Train a detector in the folder ``run``.

    Args:
        run: the run folder; its configuration decides everything.
        frames: the training set, images as recorded.
        resume: go on from the last checkpoint of the folder.
        device: where to train.
        model: the network to start from; None = a new one of the configuration.
        criterion: what to minimise; its own parameters are trained along and stay out of the
            weights file. None = the loss of a plain training.
        views: the stream of samples; None = augmented ``frames``.

    Returns:
        The trained model, in evaluation mode.

    Raises:
        TrainError: an empty set, a distillation without its criterion, or a loss that is not
            finite; the message then names the samples, and the run folder holds the batch.
    """
    config = run.config
    if len(frames) == 0:
        raise TrainError("the training split holds no samples; choose another --split or --data")
    if config.distill is not None and criterion is None:
        raise TrainError(f"{run.path} is a distillation; go on with crkd distill --resume")
    torch.manual_seed(config.seed)
    model = (model or build_detector(config.detector)).to(device).train()
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    criterion = (criterion or TrainingLoss(config)).to(device).train()
    trained = nn.ModuleList([model, criterion])
    optimiser = torch.optim.AdamW(parameter_groups(trained, config), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, learning_rate_curve(config))
    parts = Parts(model=model, criterion=criterion, optimiser=optimiser, schedule=schedule)
    done = run.restore(parts) if resume else 0
    criterion.check()
    last = config.steps
    views = views or Views(frames, config)
    loader = DataLoader(
        views,
        batch_sampler=Positions(first_step=done, steps=last, batch_size=config.batch_size),
        collate_fn=views.collate,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        pin_memory=device.startswith("cuda"),
        worker_init_fn=lambda _: torch.set_num_threads(1),
    )
    with _progress() as progress:
        task = progress.add_task("train", total=last, completed=done, losses="")
        started, since = time.perf_counter(), done
        for step, batch in enumerate(loader, start=done + 1):
            losses = train_step(model, criterion, optimiser, batch.to(device), config=config)
            if not math.isfinite(losses["total"]):
                raise _not_finite(run, step, batch, losses)
            schedule.step()
            progress.update(task, advance=1, losses=_line(losses))
            if step % config.log_steps == 0 or step == last:
                now = time.perf_counter()
                rate = (step - since) / (now - started)
                started, since = now, step
                lr = schedule.get_last_lr()[0]
                run.log({"step": step, "lr": lr, "steps_per_second": rate, **losses})
            if step % config.checkpoint_steps == 0 or step == last:
                criterion.check()
                run.save(parts, step=step)
    return model.eval()


def train_step(
    model: nn.Module,
    criterion: Callable[[ModelOutput, Batch], dict[str, Tensor]],
    optimiser: torch.optim.Optimizer,
    batch: Batch,
    *,
    config: TrainConfig,
) -> dict[str, float]:
    """Forward, backward, clip, update; the loss terms as numbers. Weights stay when not finite.

    With ``precision`` bf16 the network runs under autocast; weights, losses and the update are
    float32, and bfloat16 has the range of float32, so no loss scale is needed.
    """
    with torch.autocast(batch.images.device.type, torch.bfloat16, config.precision == "bf16"):
        output = model(batch)
    losses = criterion(output, batch)
    optimiser.zero_grad(set_to_none=True)
    losses["total"].backward()
    trained = [p for group in optimiser.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, config.clip_norm)
    if torch.isfinite(norm):
        optimiser.step()
    return {name: float(value.detach()) for name, value in losses.items()} | {
        "gradient_norm": float(norm)
    }


class TrainingLoss(nn.Module):
    """The loss of a plain training: detection, and depth where its weight is not 0."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        self.detection = DetectionLoss(config.detector)
        self.depth = DepthLoss(config.detector)
        self.depth_weight = config.depth_weight

    def forward(self, output: ModelOutput, batch: Batch) -> dict[str, Tensor]:
        """Weighted terms; "total" is their sum.

        Raises:
            LossError: a sample without truth.
            DepthLossError: a batch without LiDAR, with a depth weight.
        """
        losses = self.detection(output, batch.truth)
        if self.depth_weight:
            losses["depth"] = self.depth_weight * self.depth(output, batch)
            losses["total"] = losses["total"] + losses["depth"]
        return losses

    def check(self) -> None:
        """Called before the first step and before every checkpoint; raises to stop the run."""


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict]:
    """Weight decay for weights; none for biases, norms and tables of one dimension."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def learning_rate_curve(config: TrainConfig) -> Callable[[int], float]:
    """Factor of learning_rate: warm-up from a third, then a cosine down to ``final_rate``."""

    def factor(step: int) -> float:
        if step < config.warmup_steps:
            return 1 / 3 + 2 / 3 * step / config.warmup_steps
        span = max(1, config.steps - config.warmup_steps)
        share = min(1.0, (step - config.warmup_steps) / span)
        cosine = (1 + math.cos(math.pi * share)) / 2
        return config.final_rate + (1 - config.final_rate) * cosine

    return factor


def _not_finite(run: Run, step: int, batch: Batch, losses: dict[str, float]) -> TrainError:
    dump: Path = run.path / f"not_finite_step{step}.pt"
    torch.save({"losses": losses, "tokens": batch.tokens, "images": batch.images}, dump)
    return TrainError(
        f"the loss is not finite at step {step}: {losses}; samples {', '.join(batch.tokens)}; the "
        f"batch is in {dump}. Lower --learning-rate, or look at these samples"
    )


def _line(losses: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in losses.items())


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
        console=Console(stderr=True),
        refresh_per_second=2,
    )
