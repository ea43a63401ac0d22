"""Two networks of different shape: what can be compared, and how a teacher's maps are resampled.

Where channel counts differ, a method puts a 1x1 convolution on the student's side. Where grids
have the same extent and other cells, the teacher's maps move to the student's grid here.
Everything else is refused.

Shapes: B batch, C channels, X Y cells of the student's grid.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from crkd_core.config import DetectorConfig, GridConfig
from crkd_core.model.output import ModelOutput
from crkd_core.sensors import LIDAR


class AdaptError(ValueError):
    """A student and a teacher that cannot be compared."""


def check_fit(*, student: DetectorConfig, teacher: DetectorConfig) -> None:
    """Refuse what no method of distillation can bridge; each adds what its own losses need.

    Raises:
        AdaptError: with what differs, and what to change.
    """
    names = f"teacher {teacher.name} and student {student.name}"
    extents = [(grid.low[:2], grid.high[:2]) for grid in (student.grid, teacher.grid)]
    if extents[0] != extents[1]:
        raise AdaptError(
            f"{names} see different ground: {_extent(teacher.grid)} and {_extent(student.grid)}; "
            "maps are resampled between cells of different size, not between ranges. Give the "
            "student the teacher's detector.grid.low and detector.grid.high"
        )
    if student.ego_T_grid != teacher.ego_T_grid:
        raise AdaptError(
            f"{names} have their grids in different frames, {teacher.ego_T_grid} and "
            f"{student.ego_T_grid} in ego; give the student the teacher's detector.ego_T_grid"
        )
    if teacher.temporal is not None and teacher.temporal != student.temporal:
        raise AdaptError(
            f"{names} remember other moments, {_memory(teacher)} and {_memory(student)}; a Frame "
            "holds the student's. Give the student the teacher's detector.temporal, or take a "
            "teacher without memory"
        )
    for kind, theirs, ours in _other_sweeps(teacher, student):
        raise AdaptError(
            f"{names} read {theirs} and {ours} {kind} sweeps; a Frame holds one number of "
            f"them. Give the student the teacher's detector.{kind}.sweeps"
        )


def check_tasks(
    *, student: DetectorConfig, teacher: DetectorConfig, compared: Sequence[str]
) -> None:
    """Refuse losses that compare task by task where the tasks are not the same.

    Args:
        student: the student's configuration.
        teacher: the teacher's.
        compared: the chosen losses of this kind.

    Raises:
        AdaptError: with the tasks of both, and how to leave these losses out.
    """
    ours, theirs = ([task.classes for task in c.head.tasks] for c in (student, teacher))
    if compared and ours != theirs:
        raise AdaptError(
            f"teacher {teacher.name} and student {student.name} group their classes into "
            f"different tasks, {theirs} and {ours}; {', '.join(compared)} compare task by task. "
            f"Use the same tasks, or --losses {','.join(f'{name}=0' for name in compared)}"
        )


def check_sweeps(teachers: Sequence[DetectorConfig]) -> None:
    """Refuse teachers of one student that do not read the same cloud.

    Raises:
        AdaptError: two read LiDAR, or radar, of another number of sweeps.
    """
    for a, b in combinations(teachers, 2):
        for kind, first, second in _other_sweeps(a, b):
            raise AdaptError(
                f"teachers {a.name} and {b.name} read {first} and {second} {kind} sweeps; a "
                "Frame holds one number of them. Take two teachers that were trained on the "
                "same number, or one teacher for both methods"
            )


def check_teacher_sensors(
    teacher: DetectorConfig, sensors: Collection[str], *, rig: Collection[str]
) -> None:
    """Refuse sensors that a teacher may see, where it would see nothing or a data set has not.

    Args:
        teacher: the teacher's configuration.
        sensors: cameras and radars that it may see; () = all. Its LiDAR it always sees.
        rig: cameras and radars of the data set.

    Raises:
        AdaptError: with what there is, and what to change.
    """
    absent = [name for name in sensors if name not in rig]
    if absent:
        raise AdaptError(
            f"teacher {teacher.name} is to see {', '.join(absent)}, and the data set has "
            f"{', '.join(rig)}; name sensors of these by --teacher-sensor"
        )
    if not {*teacher.sensors} & {LIDAR, *(sensors or rig)}:
        raise AdaptError(
            f"teacher {teacher.name} reads none of {', '.join(sensors or rig)}, all that it may "
            f"see; it has branches for {', '.join(teacher.branches)}. Name sensors of these by "
            "--teacher-sensor"
        )


def _other_sweeps(a: DetectorConfig, b: DetectorConfig) -> Iterator[tuple[str, int, int]]:
    """Of which sensors both read other numbers of sweeps, and how many each reads."""
    for kind, first, second in (
        ("radar", a.radar_sweeps, b.radar_sweeps),
        ("lidar", a.lidar_sweeps, b.lidar_sweeps),
    ):
        if first and second and first != second:
            yield kind, first, second


def fitted(features: ModelOutput, *, of: GridConfig, to: GridConfig) -> ModelOutput:
    """The teacher's maps on a grid of the same extent with other cells.

    Features and logits are interpolated between cell centres; where the new cells are larger, a
    heatmap's cell takes the highest logit in it, so that no peak is lost. Box channels are those
    of the nearest cell; where the new cells are larger, of the one in it with the highest logit of
    the task, as boxes are learned at the objects' own cells alone. The offset ``reg`` is rewritten
    so that the box stays where it is.
    """
    if of.shape == to.shape:
        return features
    return features.with_maps(
        on_feature=lambda maps: _interpolated(maps, to.shape),
        on_task=lambda maps: _fitted_task(maps, of=of, to=to),
    )


def _fitted_task(maps: dict[str, Tensor], *, of: GridConfig, to: GridConfig) -> dict[str, Tensor]:
    ratio = to.cell / of.cell
    device = next(iter(maps.values())).device
    ours = [torch.arange(count, device=device) for count in to.shape]
    picked: dict[str, Tensor] = {}
    # Which cell of the teacher, counted through its rows, every cell of the student takes.
    if ratio > 1 and "heatmap" in maps:
        heatmap = maps["heatmap"].float()
        picked["heatmap"] = F.adaptive_max_pool2d(heatmap, to.shape)
        best = heatmap.amax(1, keepdim=True)
        _, cell = F.adaptive_max_pool2d(best, to.shape, return_indices=True)
    else:
        if "heatmap" in maps:
            picked["heatmap"] = _interpolated(maps["heatmap"], to.shape)
        i, j = (
            ((index + 0.5) * ratio).long().clamp(max=count - 1)
            for index, count in zip(ours, of.shape, strict=True)
        )
        cell = (i[:, None] * of.shape[1] + j)[None, None]
    for name, value in maps.items():
        if name != "heatmap":
            index = cell.flatten(2).expand(*value.shape[:2], -1)
            picked[name] = value.flatten(2).gather(2, index).unflatten(2, to.shape)
    if "reg" in picked:
        place = torch.cat([cell // of.shape[1], cell % of.shape[1]], 1)
        own = torch.stack(torch.meshgrid(*ours, indexing="ij"))
        picked["reg"] = (picked["reg"].float() + place) / ratio - own
    return picked


def _interpolated(maps: Tensor, shape: tuple[int, int]) -> Tensor:
    if not maps.shape[1]:
        # A feature that no loss reads; see ModelOutput.keeping.
        return maps.new_zeros((len(maps), 0, *shape))
    return F.interpolate(maps.float(), shape, mode="bilinear")


def _memory(config: DetectorConfig) -> str:
    memory = config.temporal
    if memory is None:
        return "none"
    return f"{memory.frames} every {memory.interval:g} s (tolerance {memory.tolerance:g})"


def _extent(grid: GridConfig) -> str:
    return f"x {grid.low[0]}..{grid.high[0]}, y {grid.low[1]}..{grid.high[1]} m"
