"""What a training step eats; made in the loader's workers."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from crkd_core.config import TrainConfig
from crkd_core.data.batch import Batch, collate
from crkd_core.data.tensors import Tensors
from crkd_core.frame import Frame
from crkd_core.losses.depth import fresh_returns
from crkd_core.losses.segments import segment_targets
from crkd_core.losses.targets import Targets, counted_together, targets_of


@dataclass(frozen=True, kw_only=True)
class Taught(Tensors):
    """The B samples of a batch for a teacher: to be looked at, or with what it said before.

    Attributes:
        batch: those that it must look at, in their order; None = not one.
        keys: of these, the names under which its answers can be kept; () = they are not kept.
        names: of the parts of an answer that is known; () where none is.
        answers: per name, those parts of all samples that are known, [K, c, X, Y].
        known: B flags, which samples are known.
    """

    batch: Batch | None
    keys: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    answers: tuple[Tensor, ...] = ()
    known: tuple[bool, ...] = ()


@dataclass(frozen=True, kw_only=True)
class TrainingBatch(Tensors):
    """Samples, and all that losses compare the network's answer with.

    Attributes:
        inputs: what the network sees.
        targets: of the same samples.
        taught: for every method of distillation, the same samples for its teacher.
    """

    inputs: Batch
    targets: Targets
    taught: tuple[Taught, ...] = ()


def training_batch(frames: Sequence[Frame], config: TrainConfig) -> TrainingBatch:
    """Frames to the batch of a plain training.

    Raises:
        TargetError: a Frame without truth, and no ``unlabelled`` in the configuration, with
            impossible truth, or without the map that a second head learns.
        DepthLossError: Frames without LiDAR, with a weight of the depth loss.
        FrameError: see data.batch.collate.
    """
    inputs = collate(frames, config.detector)
    targets = targets_of(
        inputs.truth,
        config.detector,
        partly=config.unlabelled is not None,
        tokens=inputs.tokens,
    )
    if config.detector.segments is not None:
        segments = segment_targets(inputs.truth, inputs.drivable, config.detector)
        targets = dataclasses.replace(targets, segments=segments)
        inputs = dataclasses.replace(inputs, drivable=())
    if "lidar" not in config.detector.branches:
        # From here on nobody looks at the rest, and it is large.
        inputs = (
            fresh_returns(inputs)
            if config.depth_weight
            else dataclasses.replace(inputs, lidar=None, lidar_sample=None)
        )
    return TrainingBatch(inputs=inputs, targets=targets)


def one_step(batches: Sequence[TrainingBatch]) -> list[TrainingBatch]:
    """The batches of a step, each counting what the losses of the whole step are divided by.

    So the detection loss of a step is that of one large batch, whichever way it is cut into
    accumulated batches and processes. Every process must call.
    """
    device = batches[0].inputs.images.device
    counted = counted_together([batch.targets for batch in batches], device=device)
    return [
        dataclasses.replace(batch, targets=targets)
        for batch, targets in zip(batches, counted, strict=True)
    ]
