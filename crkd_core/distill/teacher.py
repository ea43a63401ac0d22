"""The teacher: a detector that is only ever read.

Shapes: B batch, C channels, X Y cells of the teacher's grid.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Collection
from pathlib import Path

import torch
from torch import Tensor, nn

from crkd_core.config import DetectorConfig
from crkd_core.data.batch import Batch
from crkd_core.distill.cache import FeatureCache, stored
from crkd_core.model.checkpoint import load_weights
from crkd_core.model.intensity import lidar_returns
from crkd_core.model.output import BEV, HEAD, ModelOutput
from crkd_core.train.batch import Taught

#: All that a teacher's answer may hold.
PARTS = BEV | {*HEAD}


class TeacherError(RuntimeError):
    """A teacher that cannot be used, or that has changed."""


class Teacher:
    """A frozen detector in evaluation mode; no module, so nothing trains or stores it by chance.

    The released code let the training loop put its teacher into training mode, where BatchNorm
    used and changed batch statistics, and re-initialised its image backbone; ``verify`` catches
    both.

    Attributes:
        config: the teacher's own.
        checksum: of all parameters and running statistics when it was loaded.
    """

    def __init__(
        self,
        model: nn.Module,
        *,
        keep: Collection[str] = PARTS,
        precision: torch.dtype = torch.float32,
        cache: FeatureCache | None = None,
    ) -> None:
        """Freeze ``model``.

        Args:
            model: a detector with ``config``.
            keep: names of what losses read, features on the grid or of model.output.HEAD; all
                else is dropped from its answers.
            precision: number format of its forward pass.
            cache: answers kept on disk; ``salt_of`` makes its salt.

        Raises:
            TeacherError: ``keep`` names what is no map of the grid.
        """
        if not set(keep) <= PARTS:
            raise TeacherError(
                f"a teacher's answer holds maps of the grid, {', '.join(sorted(PARTS))}; got "
                f"{', '.join(sorted(set(keep) - PARTS))}"
            )
        self.model = model.eval().requires_grad_(False)
        self.config: DetectorConfig = model.config  # type: ignore[assignment]
        self.keep, self.precision, self.cache = tuple(sorted(keep)), precision, cache
        self.checksum = checksum(self.model)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> ModelOutput:
        """What the teacher says about a batch that was made for it, on the batch's device.

        Raises:
            LidarBranchError: a LiDAR teacher, and no LiDAR in the batch.
            TeacherError: its maps are not of its grid.
        """
        self.model.to(batch.images.device)
        half = self.precision != torch.float32
        with torch.autocast(batch.images.device.type, self.precision, enabled=half):
            output: ModelOutput = self.model(batch)
        if tuple(output.fused.shape[2:]) != self.config.grid.shape:
            raise TeacherError(
                f"teacher {self.config.name}: its grid is {self.config.grid.shape} cells, its "
                f"features are {tuple(output.fused.shape[2:])}"
            )
        if "lidar_returns" in self.keep and batch.lidar is not None:
            returns = lidar_returns(batch, self.config.grid)
            output = dataclasses.replace(output, lidar_returns=returns)
        return output.keeping(self.keep)

    def answer(self, seen: Taught) -> ModelOutput:
        """What the teacher says about the samples of a batch; known answers are not asked again.

        Raises:
            LidarBranchError: see ``__call__``.
            TeacherError: see ``__call__``; or an answer, as it is kept, is not finite.
        """
        said: dict[str, Tensor] = {}
        if seen.batch is not None:
            said = self(seen.batch).tensors()
            if self.cache is not None and seen.keys:
                said = stored(said)
            check_answer(self.config.name, said)
            if self.cache is not None and seen.keys:
                self.cache.write(seen.keys, said)
        if not seen.names:
            return ModelOutput.of(said)
        # Those that an earlier version may have kept.
        check_answer(self.config.name, dict(zip(seen.names, seen.answers, strict=True)))
        # Where each sample of the batch is, among the known ones and the others after them.
        flags = torch.tensor(seen.known)
        order = torch.cat([flags.nonzero()[:, 0], (~flags).nonzero()[:, 0]]).argsort()
        joined = {}
        for name, known in zip(seen.names, seen.answers, strict=True):
            whole = torch.cat([known, said[name].to(known)]) if said else known
            joined[name] = whole[order.to(whole.device)]
        return ModelOutput.of(joined)

    def verify(self) -> None:
        """Check that the teacher is what was loaded.

        Raises:
            TeacherError: a weight or statistic has changed, a part is in training mode, or a
                parameter asks for a gradient or has one.
        """
        if any(module.training for module in self.model.modules()):
            raise TeacherError(f"teacher {self.config.name} was put into training mode")
        if any(p.requires_grad or p.grad is not None for p in self.model.parameters()):
            raise TeacherError(f"teacher {self.config.name}: a parameter takes gradients")
        now = checksum(self.model)
        if now != self.checksum:
            raise TeacherError(
                f"teacher {self.config.name} has changed: its checksum was {self.checksum} and is "
                f"{now}. Nothing may write to it; start again from the last checkpoint"
            )


def load_teacher(
    path: Path,
    *,
    keep: Collection[str] = PARTS,
    precision: torch.dtype = torch.float32,
    cache: FeatureCache | None = None,
) -> Teacher:
    """The teacher of a weights file; arguments as of Teacher.

    Raises:
        CheckpointError: no such file, or not a detector.
    """
    return Teacher(load_weights(path), keep=keep, precision=precision, cache=cache)


def check_answer(name: str, said: dict[str, Tensor]) -> None:
    """Refuse an answer that is not finite.

    Losses of features leave out what is not a number, and read 0 of a teacher that has diverged.

    Raises:
        TeacherError: ``said`` by the teacher of this name holds NaN or infinity.
    """
    given = {part: value for part, value in said.items() if value.numel()}
    if not given:
        return
    # A GPU is waited for once. Where there is NaN both ends are NaN.
    ends = torch.stack([torch.stack(value.aminmax()).float() for value in given.values()])
    finite = ends.isfinite().all(1).tolist()
    odd = [part for part, good in zip(given, finite, strict=True) if not good]
    if odd:
        raise TeacherError(
            f"teacher {name}: expected finite numbers, got NaN or infinity in {', '.join(odd)}. "
            "Its weights have diverged (see crkd evaluate), or 16 bits are too few for it: use "
            "--set precision=fp32, and no --cache, which keeps 65504 at most"
        )


def checksum(model: nn.Module) -> str:
    """SHA-256, 16 hex digits, over names, shapes and bytes of everything in the state_dict."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def salt_of(checksum: str, *, keep: Collection[str], precision: torch.dtype) -> str:
    """What tells answers of a teacher from those of another, or of itself in another form."""
    return f"{checksum} {precision} {' '.join(sorted(keep))}"
