"""A label encoder as a teacher: its file, and its frozen network that is only ever read."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from crkd_core.config import DetectorConfig, from_dict, to_dict
from crkd_core.distill.label_encoder import LabelEncoder
from crkd_core.distill.teacher import TeacherError, check_answer, checksum
from crkd_core.files import write_bytes
from crkd_core.losses.targets import Targets
from crkd_core.model.checkpoint import CheckpointError, check_finite, file_of


class LabelTeacher:
    """A frozen label encoder in evaluation mode; no module, so nothing trains or stores it.

    Attributes:
        encoder: the network.
        teacher_checksum: of the teacher that it was made for.
        checksum: of its own tensors when it was loaded.
    """

    def __init__(self, encoder: LabelEncoder, *, teacher_checksum: str) -> None:
        self.encoder = encoder.eval().requires_grad_(False)
        self.teacher_checksum = teacher_checksum
        self.checksum = checksum(encoder)

    @torch.no_grad()
    def __call__(self, targets: Targets, classes: Sequence[str] = ()) -> Tensor:
        """The features of the truth of B samples, [B, C, X, Y], on the targets' device.

        ``classes`` as of LabelEncoder.forward.

        Raises:
            TeacherError: they are not finite.
        """
        self.encoder.to(targets.heatmap.device)
        features: Tensor = self.encoder(targets, classes)
        check_answer(f"{self.encoder.config.name}'s label encoder", {"features": features})
        return features

    def verify(self) -> None:
        """Check that the encoder is what was loaded.

        Raises:
            TeacherError: it is in training mode, or a tensor has changed.
        """
        if self.encoder.training or checksum(self.encoder) != self.checksum:
            raise TeacherError(
                f"the label encoder of {self.encoder.config.name} has changed; nothing may write "
                "to it. Start again from the last checkpoint"
            )


def save_label_encoder(
    encoder: LabelEncoder, path: Path, *, teacher_checksum: str, measured: dict[str, Any] | None
) -> None:
    """Write an encoder with the checksum of its teacher and what was measured of it.

    Raises:
        CheckpointError: a tensor is not finite.
        OSError: the folder cannot be written.
    """
    tensors = {k: v.detach().cpu().contiguous() for k, v in encoder.state_dict().items()}
    check_finite(tensors, f"{path.name} is not written")
    metadata = {
        "label_encoder": json.dumps({"width": encoder.width, "detector": to_dict(encoder.config)}),
        "teacher": teacher_checksum,
        "measured": json.dumps(measured),
    }
    write_bytes(file_of(tensors, metadata), path, durable=True)


def load_label_encoder(path: str | Path) -> LabelTeacher:
    """The encoder of a file that ``save_label_encoder`` wrote.

    Raises:
        CheckpointError: no such file, or it holds no label encoder.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = dict(file.metadata() or {})
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        made = json.loads(metadata["label_encoder"])
        config = from_dict(DetectorConfig, made["detector"])
        # Its random weights, soon overwritten, must not change those of others.
        with torch.random.fork_rng(devices=[]):
            encoder = LabelEncoder(config, width=int(made["width"]))
        encoder.load_state_dict(tensors)
        check_finite(tensors, str(path))
    except (OSError, SafetensorError, KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, CheckpointError):
            raise
        text = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path}: expected a label encoder as crkd label-encoder writes it: {text}"
        ) from error
    return LabelTeacher(encoder, teacher_checksum=metadata.get("teacher", ""))
