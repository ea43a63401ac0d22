"""What a network gives: the head's maps, and the features that losses read on the way there.

Shapes: B batch, P cameras present in the whole batch, C channels, D depth bins, h w feature map,
X Y grid cells.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass

from torch import Tensor
from typing_extensions import Self


class MissingFeatureError(ValueError):
    """A loss reads a feature that this network does not have."""


@dataclass(frozen=True, kw_only=True)
class ModelOutput:
    """Everything that a loss may look at; of student and teacher alike.

    What a configuration has no branch for is None, and so is what nobody wanted to keep.

    Attributes:
        tasks: per task the raw maps reg, height, dim, rot, vel and heatmap (logits), [B, c, X, Y].
        fused: [B, C, X, Y] what enters the decoder.
        decoded: [B, C, X, Y] what the head reads.
        camera_bev: [B, C, X, Y] lifted camera features; zeros where every camera is missing.
        gated_camera: [B, C, X, Y] camera features after the gate.
        depth_logits: [P, D, h, w] depth distribution of every present camera, before the softmax.
        radar_bev: [B, C, X, Y] what the radar branch gives the fuser: pillars, zeros where every
            radar is missing, or calibrated pillars.
        lidar_bev: [B, C, X, Y] what the LiDAR branch gives the fuser.
        radar_activation: [B, 1, X, Y] what CSRD compares with the teacher's objectness; None
            without a calibration block, and outside training where that is a side branch.
        lidar_returns: [B, 2, X, Y] intensity and number of the LiDAR points of every cell, see
            model.intensity.lidar_returns; of teachers, where a loss asks for it.
        instant: [B, C, X, Y] what a network with memory remembers of this moment: ``fused``
            without what came before; None without memory.
        segments: [B, S, X, Y] logits of the second head; None without one.
    """

    tasks: list[dict[str, Tensor]]
    fused: Tensor
    decoded: Tensor | None = None
    camera_bev: Tensor | None = None
    gated_camera: Tensor | None = None
    depth_logits: Tensor | None = None
    radar_bev: Tensor | None = None
    lidar_bev: Tensor | None = None
    radar_activation: Tensor | None = None
    lidar_returns: Tensor | None = None
    instant: Tensor | None = None
    segments: Tensor | None = None

    def need(self, name: str) -> Tensor:
        """The feature of this name, for a loss that cannot do without.

        Raises:
            MissingFeatureError: the network has no such feature.
        """
        value = getattr(self, name)
        if value is None:
            raise MissingFeatureError(
                f"a loss reads {name}, which this network does not give: its configuration has no "
                "branch for it. Leave the loss out, or take a network with that branch"
            )
        return value

    def keeping(self, names: Collection[str]) -> Self:
        """These features and parts of the head's answer alone.

        Of the others, features are None, ``fused`` has no channel, and the tasks lack their maps.

        Args:
            names: of features, and of ``HEAD``.
        """
        gone = {name: None for name in OPTIONAL if name not in names}
        return dataclasses.replace(
            self,
            tasks=[
                {k: v for k, v in task.items() if ("boxes", "heatmap")[k == "heatmap"] in names}
                for task in self.tasks
            ],
            fused=self.fused if "fused" in names else self.fused[:, :0],
            **gone,  # type: ignore[arg-type]
        )

    def with_maps(
        self,
        on_feature: Callable[[Tensor], Tensor],
        on_task: Callable[[dict[str, Tensor]], dict[str, Tensor]],
    ) -> Self:
        """The same with every bird's-eye view changed: features by one rule, tasks by another."""
        given = {name: getattr(self, name) for name in ("fused", *OPTIONAL) if name in BEV}
        changed = {name: on_feature(value) for name, value in given.items() if value is not None}
        return dataclasses.replace(self, tasks=[on_task(t) for t in self.tasks], **changed)

    def tensors(self) -> dict[str, Tensor]:
        """All of it under flat names: features as they are called, maps as ``task0.reg``."""
        features = {name: getattr(self, name) for name in ("fused", *OPTIONAL)}
        maps = {f"task{i}.{k}": v for i, task in enumerate(self.tasks) for k, v in task.items()}
        return {k: v for k, v in features.items() if v is not None} | maps

    @classmethod
    def of(cls, tensors: dict[str, Tensor]) -> Self:
        """The inverse of ``tensors``."""
        tasks: list[dict[str, Tensor]] = []
        while any(name.startswith(f"task{len(tasks)}.") for name in tensors):
            prefix = f"task{len(tasks)}."
            tasks.append(
                {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
            )
        return cls(tasks=tasks, **{k: v for k, v in tensors.items() if k in ("fused", *OPTIONAL)})


#: Features that a configuration may lack, or nobody may want to keep.
OPTIONAL = tuple(
    field.name for field in dataclasses.fields(ModelOutput) if field.name not in ("tasks", "fused")
)
#: Parts of the head's answer: heatmap logits, and the maps of head.REGRESSION.
HEAD = ("heatmap", "boxes")
#: Features on the cells of the grid, [B, C, X, Y].
BEV = frozenset(("fused", *OPTIONAL)) - {"depth_logits"}
