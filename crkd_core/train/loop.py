"""The training trip: files -> Frame -> augment -> Batch -> model -> losses -> checkpoint."""

from __future__ import annotations

import io
import math
import signal
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from crkd_core.config import TrainConfig
from crkd_core.files import write_bytes
from crkd_core.model.detector import BevDetector
from crkd_core.model.precision import warn_if_emulated
from crkd_core.progress import Bar
from crkd_core.train import distributed
from crkd_core.train.average import Average
from crkd_core.train.batch import TrainingBatch, one_step
from crkd_core.train.distributed import Processes
from crkd_core.train.ending import Ending, end_by
from crkd_core.train.gradients import gradient_ratios
from crkd_core.train.log import Board, Meter, Skips
from crkd_core.train.norms import join_norms, seen_by_norms, set_norms, share_norms
from crkd_core.train.objective import Objective, TrainingLoss
from crkd_core.train.rate import learning_rate_curve, warn_if_never_warm
from crkd_core.train.run_checkpoint import Parts, is_saved, restore, save
from crkd_core.train.run_folder import Run
from crkd_core.train.samples import Frames, Positions, Views, paste_of, start_worker
from crkd_core.train.start import TrainError, check_trainable, initial_network, unread_network

__all__ = ["TrainError", "TrainingLoss", "train", "train_step"]


#: So many steps in a row may be left out while the scale of fp16 falls: from its start it has then
#: come down by 2^40, and no number that is left would be a gradient.
_MOST_SKIPPED = 40


def train(
    run: Run,
    frames: Frames,
    *,
    resume: bool = False,
    device: str = "cpu",
    model: BevDetector | None = None,
    criterion: TrainingLoss | None = None,
    views: Views | None = None,
) -> BevDetector:
    """Train a detector in the folder ``run``; under torchrun, together with other processes.

    Args:
        run: the run folder; its configuration decides everything.
        frames: the training set, images as recorded.
        resume: go on from the last checkpoint of the folder.
        device: where to train; "cuda" is the GPU of this process's local rank.
        model: the network to start from; None = the configuration's; see initial_network.
        criterion: what to minimise; its own parameters are trained along and stay out of the
            weights file. None = the loss of a plain training.
        views: the stream of samples; None = augmented ``frames``.

    Returns:
        The trained model, in evaluation mode; the averaged one where ``average`` is set.

    Raises:
        TrainError: an empty set, a distillation without its criterion, fp16 without CUDA, or a
            loss or a gradient that is not finite; the message then names the samples, and the run
            folder holds the batch. With fp16 a gradient may be so for a while: the scale of the
            loss falls, and these steps are left out.
        KeyboardInterrupt, SystemExit: told to end by SIGINT or SIGTERM; the last step is saved.
        OutputError: another process trains in this folder.
        RunError: it cannot be resumed; see ``restore``.
    """
    config = run.config
    check_trainable(config, frames, device)
    if config.distillations and criterion is None:
        raise TrainError(f"{run.path} is a distillation; go on with crkd distill --resume")
    processes = Processes.of_environment()
    if processes.first:
        warn_if_emulated(config.precision, device)
        warn_if_never_warm(config)
    with run.alone(), distributed.joined(processes, device) as device:
        torch.manual_seed(config.seed)
        if model is None:
            goes_on = resume and is_saved(run)
            model = unread_network(config) if goes_on else initial_network(config)
        model = model.to(device).train()
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        average = Average(model, decay=config.average) if config.average else None
        criterion = (criterion or TrainingLoss(config)).to(device).train()
        set_norms(model, criterion, config, processes)
        objective = Objective(model, criterion, precision=config.precision)
        optimiser = torch.optim.AdamW(parameter_groups(objective, config), lr=config.learning_rate)
        parts = Parts(
            model=model,
            criterion=criterion,
            optimiser=optimiser,
            schedule=torch.optim.lr_scheduler.LambdaLR(optimiser, learning_rate_curve(config)),
            scaler=torch.amp.GradScaler("cuda", enabled=config.precision == "fp16"),
            average=average,
        )
        done = restore(run, parts) if resume else 0
        distributed.agree(done, processes)
        criterion.check()
        if done == config.steps:
            # A run that was killed between its last checkpoint and its weights.
            save(run, parts, step=done)
        views = views or Views(frames, config, paste=paste_of(frames, run, processes))
        wrapped = distributed.parallel(objective, processes)
        _loop(run, wrapped, parts, views, done=done, processes=processes, device=device)
    return (model if average is None else average.model).eval()


def _loop(
    run: Run,
    objective: nn.Module,
    parts: Parts,
    views: Views,
    *,
    done: int,
    processes: Processes,
    device: str,
) -> None:
    config, last = run.config, run.config.steps
    loader = DataLoader(
        views,
        batch_sampler=Positions(config, first_step=done, processes=processes),
        collate_fn=views.collate,
        num_workers=config.workers,
        prefetch_factor=4 if config.workers else None,
        pin_memory=device.startswith("cuda"),
        worker_init_fn=start_worker,
    )
    seen, of = seen_by_norms(config, processes)
    board = Board(
        run.path / "tensorboard", enabled=config.tensorboard and processes.first, done=done
    )
    ending = Ending()
    with ending.heard(), _progress(shown=processes.first) as progress:
        progress.console.print(
            f"{of} samples a step; BatchNorm: "
            + (f"statistics of {seen} samples" if seen else "frozen statistics")
        )
        task = progress.add_task("train", total=last, completed=done, losses="")
        meter, skips = Meter(step=done), Skips()
        batches = meter.timed(loader)
        for step in range(done + 1, last + 1):
            torch.manual_seed(_seed(config, step, processes))
            parts.criterion.begin(step)
            one = [batch.to(device) for batch in islice(batches, config.accumulate)]
            measured = config.gradient_steps and step % config.gradient_steps == 0
            losses = train_step(objective, parts, one, config=config, measured=bool(measured))
            if not math.isfinite(losses["total"]):
                raise _not_finite("loss", run, step, one, losses, processes)
            skips.take(skipped=not math.isfinite(losses["gradient_norm"]))
            if skips.row >= (_MOST_SKIPPED if parts.scaler.is_enabled() else 1):
                raise _not_finite("gradient", run, step, one, losses, processes)
            lr = parts.schedule.get_last_lr()[0]  # Of this step; then comes that of the next.
            parts.schedule.step()
            if parts.average is not None:
                parts.average.update(parts.model, step=step)
            progress.update(task, advance=1, losses=_line(losses))
            if step % config.log_steps == 0 or step == last or measured:
                record = {"step": step, "lr": lr, "norm_samples": seen, **meter.read(step)}
                if parts.scaler.is_enabled():
                    record["skipped_steps"] = skips.read()
                run.log(record | losses)
                board.log(record | losses)
            told = ending.told(processes, device)
            if step % config.checkpoint_steps == 0 or step == last or told:
                parts.criterion.check()
                save(run, parts, step=step)
            if told:
                name = signal.Signals(told).name
                text = f"{name}: ended after step {step}; go on with --resume"
                progress.console.print(text)
                end_by(told)
    board.close()


def train_step(
    objective: nn.Module,
    parts: Parts,
    batches: Sequence[TrainingBatch],
    *,
    config: TrainConfig,
    measured: bool = False,
) -> dict[str, float]:
    """Forward, backward, clip, update; the loss terms as numbers. Weights stay when not finite.

    Args:
        objective: an Objective, or DistributedDataParallel of one.
        parts: model, criterion and optimiser of this objective.
        batches: their gradients are averaged.
        config: of the run.
        measured: also give the gradient ratios of each further loss; see train.gradients.
    """
    found: dict[str, float] = {}
    terms: list[dict[str, torch.Tensor]] = []
    parts.optimiser.zero_grad(set_to_none=True)
    for index, batch in enumerate(one_step(batches)):
        share_norms(parts.model, batch.inputs)
        with _together(objective, index + 1 == len(batches)):
            losses = objective(batch)
            if measured and index + 1 == len(batches):
                scaled = {name: parts.scaler.scale(value) for name, value in losses.items()}
                found = gradient_ratios(scaled, parts.model, parts.criterion)
            parts.scaler.scale(losses["total"] / len(batches)).backward()
        join_norms(parts.model)
        terms.append({name: value.detach() for name, value in losses.items()})
    parts.scaler.unscale_(parts.optimiser)
    trained = [p for group in parts.optimiser.param_groups for p in group["params"]]
    norm = nn.utils.clip_grad_norm_(trained, config.clip_norm)
    if torch.isfinite(norm) or parts.scaler.is_enabled():
        # A scaler leaves the step out by itself where a gradient is not finite, and scales less.
        parts.scaler.step(parts.optimiser)
    parts.scaler.update()
    joint = {name: torch.stack([t[name] for t in terms]).mean() for name in terms[0]}
    return distributed.mean(joint) | {"gradient_norm": float(norm)} | found


def _together(objective: nn.Module, last: bool) -> AbstractContextManager[None]:
    """Gradients travel between processes once a step, with its last batch."""
    if isinstance(objective, DistributedDataParallel) and not last:
        return objective.no_sync()
    return nullcontext()


def parameter_groups(model: nn.Module, config: TrainConfig) -> list[dict[str, Any]]:
    """Weight decay for weights; none for biases, norms and tables of one dimension."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim <= 1]
    return [
        {"params": decayed, "weight_decay": config.weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]


def _seed(config: TrainConfig, step: int, processes: Processes) -> int:
    """Of what chance is left inside the network: a function of the step, so resuming is exact."""
    entropy = (config.seed, 3, step, processes.rank)
    return int(np.random.SeedSequence(entropy).generate_state(1)[0])


def _not_finite(
    what: str,
    run: Run,
    step: int,
    batches: Sequence[TrainingBatch],
    losses: dict[str, float],
    processes: Processes,
) -> TrainError:
    rank = f"_rank{processes.rank}" if processes.count > 1 else ""
    dump: Path = run.path / f"not_finite_step{step}{rank}.pt"
    tokens = [token for batch in batches for token in batch.inputs.tokens]
    images = torch.cat([batch.inputs.images for batch in batches])
    # Not straight into a file: on a full disk torch ends the process.
    data = io.BytesIO()
    torch.save({"losses": losses, "tokens": tokens, "images": images}, data)
    kept = f"the batch is in {dump}"
    try:
        write_bytes(data.getbuffer(), dump)
    except OSError as error:
        kept = f"the batch is not kept: {dump}: {error.strerror or error}"
    return TrainError(
        f"the {what} is not finite at step {step}: {losses}; samples {', '.join(tokens)}; "
        f"{kept}. Lower it by --set learning_rate=, or look at these samples"
    )


def _line(losses: dict[str, float]) -> str:
    shown = {name: value for name, value in losses.items() if "." not in name}
    return " ".join(f"{name} {value:.3f}" for name, value in shown.items())


def _progress(*, shown: bool) -> Bar:
    return Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[losses]}"),
        unit="step",
        shown=shown,
        per_second=2,
    )
