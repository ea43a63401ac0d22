"""The teacher: a detector that is only ever read.

Shapes: B batch, C channels, X Y cells of the teacher's grid.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from crkd_core.config import DetectorConfig, ImageConfig
from crkd_core.data.batch import Batch
from crkd_core.distill.cache import FeatureCache, sample_keys
from crkd_core.frame import CAMERAS, RADARS
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
        sensors: tuple[str, ...] = (),
        bfloat16: bool = False,
        cache: FeatureCache | None = None,
    ) -> None:
        """Freeze ``model``.

        Args:
            model: a detector with ``config``.
            sensors: cameras and radars that it may see; () = all. LiDAR is always seen.
            bfloat16: run under autocast, as the student does.
            cache: answers kept on disk.

        Raises:
            TeacherError: an unknown sensor, or some but not all radars.
        """
        radars = set(sensors) & set(RADARS)
        unknown = set(sensors) - set(CAMERAS) - set(RADARS)
        if unknown or (radars and len(radars) < len(RADARS)):
            raise TeacherError(
                f"teacher sensors: expected some of {', '.join(CAMERAS)}, and all or none of "
                f"{', '.join(RADARS)}; got {', '.join(sensors)}"
            )
        self.model = model.eval().requires_grad_(False)
        self.config: DetectorConfig = model.config  # type: ignore[assignment]
        self.sensors, self.bfloat16, self.cache = sensors, bfloat16, cache
        self.checksum = checksum(self.model)

    @torch.no_grad()
    def __call__(self, batch: Batch) -> TeacherFeatures:
        """What the teacher says about a batch that was made for the student.

        Raises:
            TeacherError: the batch lacks the LiDAR that the teacher needs, or its images cannot be
                resized for the teacher.
        """
        if self.config.lidar is not None and batch.lidar is None:
            raise TeacherError(
                f"teacher {self.config.name} needs LiDAR, and the batch has none; read Frames "
                f"with lidar_sweeps={self.config.lidar.sweeps}"
            )
        keys = sample_keys(batch, salt=self._salt()) if self.cache is not None else []
        known = self.cache.read(keys, batch.images.device) if self.cache is not None else None
        if known is not None:
            return TeacherFeatures.of(known)
        seen = _resized(_restricted(batch, self.sensors), self.config.image)
        with torch.autocast(batch.images.device.type, torch.bfloat16, self.bfloat16):
            output: ModelOutput = self.model(seen)
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

    def to(self, device: str | torch.device) -> Teacher:
        """The same teacher, moved."""
        self.model.to(device)
        return self

    def _salt(self) -> str:
        return f"{self.checksum} {sorted(self.sensors)} {self.bfloat16}"


def load_teacher(
    path: Path,
    *,
    sensors: tuple[str, ...] = (),
    bfloat16: bool = False,
    cache: FeatureCache | None = None,
) -> Teacher:
    """The teacher of a weights file.

    Raises:
        CheckpointError: no such file, or not a detector.
        TeacherError: see Teacher.
    """
    return Teacher(load_weights(path), sensors=sensors, bfloat16=bfloat16, cache=cache)


def checksum(model: nn.Module) -> str:
    """SHA-256, 16 hex digits, over names, shapes and bytes of everything in the state_dict."""
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]


def _restricted(batch: Batch, sensors: Iterable[str]) -> Batch:
    """The batch with every camera and radar masked but these; () = as it is."""
    sensors = set(sensors)
    if not sensors:
        return batch
    cameras = torch.tensor([name in sensors for name in CAMERAS], device=batch.images.device)
    keep = slice(None) if sensors & set(RADARS) else slice(0)
    radars = torch.tensor([name in sensors for name in RADARS], device=batch.images.device)
    return dataclasses.replace(
        batch,
        camera_present=batch.camera_present & cameras,
        radar=batch.radar[keep],
        radar_sample=batch.radar_sample[keep],
        radar_present=batch.radar_present & radars,
    )


def _resized(batch: Batch, image: ImageConfig) -> Batch:
    """The batch with images of the teacher's size; the view of each camera stays the same."""
    height, width = batch.images.shape[2:4]
    if (height, width) == (image.height, image.width):
        return batch
    if height * image.width != width * image.height:
        raise TeacherError(
            f"the teacher looks at {image.height} x {image.width} images and the student at "
            f"{height} x {width}; only sizes of the same shape can be resized"
        )
    flat = batch.images.flatten(0, 1).permute(0, 3, 1, 2).float()
    size = (image.height, image.width)
    resized = F.interpolate(flat, size, mode="bilinear", antialias=True).round().byte()
    # Pixel (u, v) is the centre of its square: u_student + 0.5 = ratio (u_teacher + 0.5).
    ratio = width / image.width
    change = torch.eye(4, device=flat.device)
    change[[0, 1], [0, 1]] = ratio
    change[[0, 1], [2, 2]] = (ratio - 1) / 2
    return dataclasses.replace(
        batch,
        images=resized.permute(0, 2, 3, 1).unflatten(0, batch.images.shape[:2]),
        ego_T_pixel=batch.ego_T_pixel @ change,
    )
