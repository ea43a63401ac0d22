"""`crkd label-encoder`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from crkd_core.commands.options import Data, Device, Split, Version
from crkd_core.config import LABEL_ENCODER
from crkd_core.files import ITSELF, OutputError, check_output


def label_encoder(
    data: Data,
    split: Split,
    teacher: Annotated[Path, typer.Option(help="A run folder or weights file.")],
    out: Annotated[
        Path | None, typer.Option(help="File to write; default: beside the teacher's weights.")
    ] = None,
    held_out: Annotated[
        str | None, typer.Option(help="Measure what comes back on this split.")
    ] = None,
    steps: Annotated[int, typer.Option(min=1, help="Length of the training.")] = 2000,
    width: Annotated[int, typer.Option(min=1, help="Channels; 256 as in LabelDistill.")] = 64,
    batch_size: Annotated[int, typer.Option(min=1, help="Samples a step.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Of order and start.")] = 0,
    device: Device = "cpu",
    version: Version = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with a training that was killed.")
    ] = False,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite", help="Replace an encoder that is there, or a training that was killed."
        ),
    ] = False,
) -> None:
    """Train an encoder of labels for a teacher, for IMKD's label_fused."""
    from crkd_core.distill.held_out import HeldOut, check_apart
    from crkd_core.distill.label_checkpoint import LabelCheckpoint
    from crkd_core.distill.label_teacher import save_label_encoder
    from crkd_core.distill.label_training import (
        labels_of_split,
        reconstruction,
        train_label_encoder,
    )
    from crkd_core.distill.origins import check_origins
    from crkd_core.distill.teacher import load_teacher
    from crkd_core.infer.detector import usable_device
    from crkd_core.model.checkpoint import weights_file

    weights = weights_file(teacher)
    path = out or weights.with_name(LABEL_ENCODER)
    check_output(path, results=ITSELF, overwrite=overwrite, read=[weights])
    usable_device(device)
    begun = LabelCheckpoint.beside(path).path
    if begun.exists() and not (resume or overwrite):
        raise OutputError(
            f"{begun} is of a training that was killed; pass --resume to go on with it, or "
            "--overwrite to begin anew"
        )
    trained = HeldOut(data=data, split=split, version=version)
    loaded = load_teacher(weights, keep=())
    frames = labels_of_split(trained.tables(), split, loaded.config)
    drives = None
    if held_out is not None:
        drives = HeldOut(data=data, split=held_out, version=version)
        check_apart(drives, trained)
        for note in check_origins(drives, [teacher])[1]:
            print(note)
        # What cannot be measured is refused before hours of training.
        labels_of_split(drives.tables(), held_out, loaded.config)
    checkpoint = LabelCheckpoint.beside(
        path,
        teacher=loaded.checksum,
        data=frames.digest(),
        steps=steps,
        width=width,
        batch_size=batch_size,
        seed=seed,
    )
    encoder, losses = train_label_encoder(
        loaded,
        frames,
        steps=steps,
        width=width,
        batch_size=batch_size,
        seed=seed,
        device=device,
        checkpoint=checkpoint,
        resume=resume,
    )
    print(f"loss: {losses[0]:.2f} at first, {losses[-1]:.2f} at the end")
    save_label_encoder(encoder, path, teacher_checksum=loaded.checksum, measured=None)
    checkpoint.remove()
    print(f"label encoder: {path}")
    if drives is not None:
        measured = reconstruction(encoder, loaded, drives, device=device)
        print(
            f"truth through the encoder and the teacher's head on {held_out}: mAP "
            f"{measured['mean_ap']:.3f}, NDS {measured['nd_score']:.3f}"
        )
        save_label_encoder(encoder, path, teacher_checksum=loaded.checksum, measured=measured)
