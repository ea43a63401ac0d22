"""Training a label encoder through its frozen teacher, and measuring what comes back.

Truth boxes -> encoder -> the teacher's decoder and head -> boxes: an encoder that a student can
learn from gives the boxes back, with an mAP near 1. No sensor is read, so a step costs little.
"""

from __future__ import annotations

import contextlib
import dataclasses
import math
import signal
import sys
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from crkd_core.boxes import SCORED_FROM
from crkd_core.config import AugmentConfig, DetectorConfig, GridConfig, check_classes
from crkd_core.data.augment import ground_matrix
from crkd_core.data.grid import in_grid
from crkd_core.data.nuscenes.reader import NuScenesFrames
from crkd_core.data.sets import DataSet, SetFrames
from crkd_core.data.vod.layout import Vod
from crkd_core.data.vod.reader import VodFrames
from crkd_core.distill.held_out import HeldOut, Scores, summary_of
from crkd_core.distill.label_checkpoint import LabelCheckpoint, LabelTrainingError
from crkd_core.distill.label_encoder import LabelEncoder
from crkd_core.distill.teacher import Teacher
from crkd_core.evaluate.submission import Answer
from crkd_core.frame import Frame
from crkd_core.losses.detection import DetectionLoss
from crkd_core.losses.targets import Targets, targets_of
from crkd_core.model.decode import decode
from crkd_core.model.output import ModelOutput
from crkd_core.progress import counted
from crkd_core.train.distributed import Processes
from crkd_core.train.ending import Ending, end_by
from crkd_core.train.samples import Frames, seen

LEARNING_RATE, WEIGHT_DECAY, CLIP = 1e-3, 1e-7, 35.0


def answered(encoder: LabelEncoder, teacher: Teacher, targets: Targets) -> ModelOutput:
    """What a teacher answers when it is shown labels in the place of its sensors."""
    fused: Tensor = encoder(targets)
    decoded = teacher.model.decoder(fused)  # type: ignore[operator]
    return ModelOutput(tasks=teacher.model.head(decoded), fused=fused)  # type: ignore[operator]


def train_label_encoder(
    teacher: Teacher,
    frames: Frames,
    *,
    steps: int,
    width: int,
    batch_size: int = 4,
    seed: int = 0,
    device: str = "cpu",
    checkpoint: LabelCheckpoint | None = None,
    resume: bool = False,
) -> tuple[LabelEncoder, list[float]]:
    """An encoder for this teacher, and the detection loss of every step.

    Args:
        teacher: stays as it is.
        frames: with truth; no sensor is looked at.
        steps: of the training; the rate falls to 0 along a cosine.
        width: see LabelEncoder.
        batch_size: samples a step.
        seed: of start and order.
        device: where to train.
        checkpoint: where the training is kept on its way; None = nowhere.
        resume: go on from there.

    Raises:
        LabelTrainingError: no Frames, a loss that is not finite, or nothing to go on from.
        KeyboardInterrupt, SystemExit: told to end by SIGINT or SIGTERM; with a checkpoint the last
            step is in it.
        TargetError: Frames without truth.
        TeacherError: the teacher changed.
    """
    if not len(frames):
        raise LabelTrainingError("the training split holds no samples")
    torch.manual_seed(seed)
    encoder = LabelEncoder(teacher.config, width=width).to(device).train()
    teacher.model.to(device)
    criterion = DetectionLoss(teacher.config).to(device)
    optimiser = torch.optim.AdamW(
        encoder.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY
    )
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    losses: list[float] = []
    if resume and checkpoint is not None:
        losses = checkpoint.restore(encoder, optimiser, schedule)
    ending = Ending()
    with contextlib.nullcontext() if checkpoint is None else ending.heard():
        for step in counted(range(len(losses) + 1, steps + 1), "label encoder"):
            # Of seed and step alone, so that resuming is exact.
            rng = np.random.default_rng((seed, step))
            picked = rng.integers(len(frames), size=batch_size)
            shown = [frames[int(i)] for i in picked]
            targets = targets_shown(shown, teacher.config, moved_by=rng).to(device)
            loss = criterion(answered(encoder, teacher, targets), targets)["total"]
            if not torch.isfinite(loss):
                raise LabelTrainingError(
                    f"the loss is not finite at step {step}; give another seed"
                )
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(encoder.parameters(), CLIP)
            optimiser.step()
            schedule.step()
            losses.append(loss.item())
            told = ending.told(Processes(), device)
            if checkpoint is not None and (step % checkpoint.every == 0 or told):
                checkpoint.save(step, encoder, optimiser, schedule, losses)
            if told:
                name = signal.Signals(told).name
                print(f"{name}: ended after step {step}; go on with --resume", file=sys.stderr)
                end_by(told)
    teacher.verify()
    return encoder.cpu().eval(), losses


@torch.no_grad()
def reconstruction(
    encoder: LabelEncoder, teacher: Teacher, held_out: HeldOut, *, device: str = "cpu"
) -> Scores:
    """nuScenes metrics of a teacher that is shown the truth of held-out drives.

    Raises:
        ConfigError, LabelTrainingError: see ``labels_of_split``.
        NuScenesError, VodError: the data cannot be used.
    """
    config = teacher.config
    frames = labels_of_split(held_out.tables(), held_out.split, config)
    encoder, teacher.model = encoder.to(device).eval(), teacher.model.to(device)
    answers = []
    for frame in counted(frames, "reconstruction"):
        targets = targets_shown([frame], config).to(device)
        output = answered(encoder, teacher, targets)
        found = decode(output, config, score_threshold=SCORED_FROM)[0]
        answers.append(Answer.to(frame, found))
    summary = summary_of(answers, frames, held_out, classes=config.classes)
    return {name: summary[name] for name in ("mean_ap", "nd_score", "tp_errors")}


def labels_of_split(tables: DataSet, split: str, teacher: DetectorConfig) -> SetFrames:
    """The samples of a split with their truth, in which a teacher's classes are, and no sensor.

    Raises:
        ConfigError: the teacher has a class that the data set does not know.
        LabelTrainingError: the split has no labels, or not all of it.
        NuScenesError, VodError: the split is not there.
    """
    check_classes(teacher.name, teacher.classes, tables.classes)
    frames: SetFrames
    if isinstance(tables, Vod):
        frames = VodFrames(tables, split, radar_sweeps=0, lidar_sweeps=0, sensors=())
        bare = next((name for name in frames.tokens if tables.labels(name) is None), None)
        lacking = bare and f"frame {bare} of {split} is of the test set and"
    else:
        frames = NuScenesFrames(tables, split, radar_sweeps=0, lidar_sweeps=0, sensors=())
        lacking = None if tables.annotated else tables.version
    if lacking:
        raise LabelTrainingError(
            f"{tables.root}: {lacking} has no labels, and an encoder of labels is trained and "
            "measured on nothing else; name a split of annotated drives"
        )
    return frames


def movements(grid: GridConfig) -> AugmentConfig:
    """How the ground plane is moved: as widely as any student's, and boxes stay on the grid.

    An axis is mirrored only if the grid reaches as far on both sides. A grid that shows only what
    lies ahead has no back that could become its front, so it is turned a little (presets/vod.py).
    """
    even_x, even_y = (math.isclose(grid.low[axis], -grid.high[axis]) for axis in (0, 1))
    if even_x and even_y:
        return AugmentConfig(bev_rotation=45.0)
    return AugmentConfig(bev_rotation=10.0, bev_mirror="y", bev_flip=0.5 if even_y else 0.0)


def targets_shown(
    frames: Sequence[Frame],
    teacher: DetectorConfig,
    *,
    moved_by: np.random.Generator | None = None,
) -> Targets:
    """What a teacher should answer, of the boxes that a sensor of the data set saw.

    Args:
        frames: samples, in ego axes.
        teacher: its configuration.
        moved_by: chance that moves the ground plane of each; None = as recorded.

    Raises:
        BoxError: the teacher has a class that the truth does not know.
    """
    truths = []
    for frame in frames:
        if frame.truth is not None:
            truth = seen(frame).truth
            assert truth is not None
            frame = dataclasses.replace(frame, truth=truth.of_classes(teacher.classes))
        frame = in_grid(frame, teacher)
        if moved_by is not None:
            frame = frame.moved(ground_matrix(augment=movements(teacher.grid), rng=moved_by))
        truths.append(frame.truth)
    return targets_of(truths, teacher)
