"""What the losses of a distillation see of one sample, as maps of the grid."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from crkd_core.config import GridConfig, TrainConfig
from crkd_core.distill.adapt import fitted
from crkd_core.distill.responses import objectness
from crkd_core.distill.teacher import PARTS
from crkd_core.distill.training import methods_of
from crkd_core.distill.views import TaughtViews
from crkd_core.frame import Frame
from crkd_core.model.build import build_detector
from crkd_core.model.checkpoint import CheckpointError, read_state
from crkd_core.model.detector import BevDetector
from crkd_core.model.output import ModelOutput
from crkd_core.png import plain, write_figure
from crkd_core.train.run_checkpoint import CHECKPOINT

#: Title -> map [X, Y].
Maps = dict[str, NDArray[np.float32]]


def trained_student(run: Path, config: TrainConfig) -> BevDetector | None:
    """The student of a run with the parts that only its losses use; None without a checkpoint.

    The weights file lacks a calibration block beside the path.

    Raises:
        CheckpointError: it cannot be read, or holds another network.
    """
    path = run / CHECKPOINT
    if not path.exists():
        return None
    state = read_state(path)
    model = build_detector(config.detector, pretrained=False)
    try:
        model.load_state_dict(state.get("average") or state["model"])
    except (KeyError, RuntimeError, TypeError) as error:
        text = str(error).splitlines()[0]
        raise CheckpointError(f"{path}: does not hold the network of the run: {text}") from error
    return model.eval()


def loss_maps(model: BevDetector, config: TrainConfig, frame: Frame) -> tuple[Maps, GridConfig]:
    """What teacher and student say about a sample, not augmented.

    Args:
        model: the student.
        config: of its run, a distillation.
        frame: as recorded, with truth and all that the teacher reads.

    Returns:
        By title: the teacher's and the student's highest class probability, their difference, the
        activation that CSRD compares (as a probability where it is a logit), the mask of MSFD, and
        the length of the difference of the fused features where both have as many channels. Then
        the grid.

    Raises:
        AdaptError, DistillError, CheckpointError: teacher and student cannot be compared, or the
            teacher's file is gone.
    """
    # The first method's; of two, the other one has the same student.
    if config.crkd is not None:
        crkd = dataclasses.replace(config.crkd, cache=None)
        config = dataclasses.replace(config, crkd=crkd, imkd=None)
    elif config.imkd is not None:
        imkd = dataclasses.replace(config.imkd, cache=None)
        config = dataclasses.replace(config, imkd=imkd)
    config = dataclasses.replace(config, augment=None, depth_weight=0.0, unlabelled=None)
    # A single Frame is no set to be balanced, nor one whose files another run would know.
    config = dataclasses.replace(config, balanced=False, keep_folder=None)
    method = methods_of(config)[0]
    # All that it says, not only what the chosen losses read.
    method.teacher.keep = tuple(sorted(PARTS))
    views = TaughtViews([frame], config, [method.teacher])
    batch = views.collate([views[0]])
    with torch.no_grad():
        student: ModelOutput = model(batch.inputs)
        activation = student.radar_activation
        if activation is None and model.calibration is not None and student.radar_bev is not None:
            activation = model.calibration(student.radar_bev)[1]
        teacher = fitted(
            method.teacher.answer(batch.taught[0]),
            of=method.teacher.config.grid,
            to=config.detector.grid,
        )
    ours, theirs = (
        objectness([maps["heatmap"] for maps in output.tasks], form="maximum")
        for output in (student, teacher)
    )
    maps = {"teacher, highest class": theirs, "student, highest class": ours}
    maps["teacher - student"] = theirs - ours
    if activation is not None:
        block = config.detector.radar and config.detector.radar.calibration_block
        title = "radar activation (CSRD)"
        maps[title] = activation.sigmoid() if block == "residual" else activation
    if batch.targets.foreground is not None:
        maps["mask (MSFD)"] = batch.targets.foreground[:, None]
    if student.fused.shape == teacher.fused.shape:
        maps["difference of fused features"] = (student.fused - teacher.fused).norm(
            dim=1, keepdim=True
        )
    arrays = {name: one[0, 0].float().numpy() for name, one in maps.items()}
    return arrays, config.detector.grid


def draw_maps(maps: Maps, grid: GridConfig, path: Path, *, title: str) -> None:
    """One panel a map, x forward pointing up, metres."""
    columns = min(3, len(maps))
    rows = -(-len(maps) // columns)
    figure = Figure(figsize=(4.2 * columns, 4.2 * rows + 0.4), layout="constrained", dpi=90)
    figure.suptitle(plain(title), fontsize=10)
    panels = figure.subplots(rows, columns, squeeze=False).ravel()
    for axes, (name, values) in zip(panels, maps.items(), strict=False):
        signed = bool((values < 0).any())
        top = float(np.abs(values).max()) or 1.0
        # Rows run forward and columns to the left: turned so that forward is up, left is left.
        image = axes.imshow(
            values[::-1, ::-1],
            extent=(grid.high[1], grid.low[1], grid.low[0], grid.high[0]),
            cmap="RdBu_r" if signed else "magma",
            vmin=-top if signed else 0.0,
            vmax=top,
            interpolation="nearest",
        )
        axes.set_title(name, fontsize=9)
        axes.tick_params(labelsize=7)
        figure.colorbar(image, ax=axes, shrink=0.8).ax.tick_params(labelsize=7)
    for axes in panels[len(maps) :]:
        axes.set_axis_off()
    write_figure(figure, path)
