"""The teacher: a detector that is only ever read.

Shapes: B batch, C channels, X Y cells of the teacher's grid.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from crkd_core.config import DetectorConfig
from crkd_core.data.batch import Batch
from crkd_core.distill.cache import FeatureCache, sample_keys
from crkd_core.model.checkpoint import load_weights
from crkd_core.model.detector import ModelOutput


class TeacherError(RuntimeError):
    """A teacher that cannot be used, or that has changed."""


@dataclass(frozen=True, kw_only=True)
class TeacherFeatures:
    """What the student learns from, constants.

    Attributes:
        fused: [B, C, X, Y] fused features after the ReLU.
        gated_camera: [B, C, X, Y] camera features after the gate.
        tasks: per task the raw maps reg, height, dim, rot, vel and heatmap (logits), [B, c, X, Y].
    """

    fused: Tensor
    gated_camera: Tensor
    tasks: list[dict[str, Tensor]]

    def tensors(self) -> dict[str, Tensor]:
        """All of it under flat names."""
        maps = {f"task{i}.{k}": v for i, task in enumerate(self.tasks) for k, v in task.items()}
        return {"fused": self.fused, "gated_camera": self.gated_camera, **maps}

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> TeacherFeatures:
        """The inverse of ``tensors``."""
        tasks: list[dict[str, Tensor]] = []
        while any(name.startswith(f"task{len(tasks)}.") for name in tensors):
            prefix = f"task{len(tasks)}."
            tasks.append(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        return cls(fused=tensors["fused"], gated_camera=tensors["gated_camera"], tasks=tasks)


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
        precision: torch.dtype = torch.float32,
        cache: FeatureCache | None = None,
    ) -> None:
        """Freeze ``model``.

        Args:
            model: a detector with ``config``.
            precision: number format of its forward pass.
            cache: answers kept on disk.
        """
        self.model = model.eval().requires_grad_(False)
        self.config: DetectorConfig = model.config  # type: ignore[assignment]
        self.precision, self.cache = precision, cache
        self.checksum = checksum(self.model)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> TeacherFeatures:
        """What the teacher says about a batch that was made for it, on the batch's device.

        Raises:
            LidarError: a LiDAR teacher, and no LiDAR in the batch.
            TeacherError: its maps are not of its grid.
        """
        keys = sample_keys(batch, salt=self._salt()) if self.cache is not None else []
        known = self.cache.read(keys, batch.images.device) if self.cache is not None else None
        if known is not None:
            return TeacherFeatures.of(known)
        self.model.to(batch.images.device)
        half = self.precision != torch.float32
        with torch.autocast(batch.images.device.type, self.precision, enabled=half):
            output: ModelOutput = self.model(batch)
        if tuple(output.fused.shape[2:]) != self.config.grid.shape:
            raise TeacherError(
                f"teacher {self.config.name}: its grid is {self.config.grid.shape} cells, its "
                f"features are {tuple(output.fused.shape[2:])}"
            )
        features = TeacherFeatures(
            fused=output.fused, gated_camera=output.gated_camera, tasks=output.tasks
        )
        if self.cache is not None:
            self.cache.write(keys, features.tensors())
        return features

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

    def _salt(self) -> str:
        return f"{self.checksum} {self.precision}"


def load_teacher(
    path: Path, *, precision: torch.dtype = torch.float32, cache: FeatureCache | None = None
) -> Teacher:
    """The teacher of a weights file.

    Raises:
        CheckpointError: no such file, or not a detector.
    """
    return Teacher(load_weights(path), precision=precision, cache=cache)


def checksum(model: nn.Module) -> str:
    """SHA-256, 16 hex digits, over names, shapes and bytes of everything in the state_dict."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
