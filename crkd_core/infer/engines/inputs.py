"""What a network of fixed shapes reads: a Batch of one sample, padded, its geometry looked up.

Places are found here and not by the network: engines round in their own ways, and a point that
lands beside its cell is another point. Shapes: S camera slots, H W image, h w feature map, D depth
bins, M radar rows, X Y grid cells, C fused channels, T earlier moments.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from crkd_core.config import DetectorConfig
from crkd_core.data.batch import Batch
from crkd_core.infer.errors import EngineError
from crkd_core.model.camera.lift import Lift, present_matrices
from crkd_core.model.intensity import radar_returns
from crkd_core.model.radar import INPUT_CHANNELS, RadarPillars
from crkd_core.sensors import CAMERAS

#: More points than any radars give; their inputs take 200 MB.
MOST_POINTS = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Capacity:
    """How much a network of fixed shapes holds.

    Attributes:
        cameras: images; a Frame may have fewer.
        radar_points: points within the grid, at most MOST_POINTS; a Frame may have fewer. As many
            as five radars give in six sweeps of 125 returns, and some more.
    """

    cameras: int = len(CAMERAS)
    radar_points: int = 4096

    def __post_init__(self) -> None:
        if not 1 <= self.cameras <= len(CAMERAS):
            raise EngineError(f"cameras: expected 1 to {len(CAMERAS)}, got {self.cameras}")
        if not 1 <= self.radar_points <= MOST_POINTS:
            raise EngineError(
                f"radar_points: expected 1 to {MOST_POINTS}, got {self.radar_points}"
            )


def room(config: DetectorConfig, capacity: Capacity) -> str:
    """In words, how much a network of this configuration holds."""
    held = ["batch 1"]
    if config.camera is not None:
        held.append(f"{capacity.cameras} camera{'s' * (capacity.cameras > 1)}")
    if config.radar is not None:
        held.append(f"{capacity.radar_points} radar points")
    return ", ".join(held)


def refuse(config: DetectorConfig) -> None:
    """Refuse what has no form of fixed shapes.

    Raises:
        EngineError: a LiDAR branch, or a lift that reads radar points.
    """
    if config.lidar is not None:
        raise EngineError(
            f"{config.name} has a LiDAR branch, whose sparse convolutions have no fixed shapes; "
            "export a camera-radar detector, or run this one with engine torch"
        )
    if config.camera is not None and config.camera.radar_view is not None:
        raise EngineError(
            f"{config.name} looks at radar in the image (camera.radar_view), which has no form of "
            "fixed shapes yet; run it with engine torch"
        )


class FixedInputs:
    """Batch -> tensors by name, always of the same shapes.

    images: uint8 [S, H, W, 3]. Cameras that are there come first; other slots are black.
    lift_cell: int64 [S h w D], x Y + y of every frustum point; X Y = outside, or no camera. Or,
        where cells are looked up on a GPU, instead of it:
    grid_T_pixel: float32 [S, 4, 4], identities where there is no camera.
    seen: bool [S], the slots that hold a camera.
    radar: float32 [M, 47], what the point network reads; rows without a point are 0.
    radar_cell: int64 [M], x Y + y of every row; X Y masks those without a point.
    radar_returns: float32 [1, 2, X, Y], where intensity guides the fusion, see
        model.intensity.radar_returns.
    past: float32 [1, X, Y, T C], of a network with memory: earlier moments in the present grid.
    """

    def __init__(self, config: DetectorConfig, capacity: Capacity, *, cells: bool = True) -> None:
        """For a network of this configuration.

        Args:
            config: of the network.
            capacity: how much it holds.
            cells: whether the cells of frustum points are looked up here.

        Raises:
            EngineError: see ``refuse``.
        """
        refuse(config)
        self.config, self.capacity, self._cells = config, capacity, cells
        self.cells = config.grid.shape[0] * config.grid.shape[1]
        # They know geometry; the channels of their layers are not used.
        self._lift = None
        if config.camera is not None:
            self._lift = Lift(1, config.camera, config.image, config.grid).eval()
            stride = config.camera.stride
            self.columns = (config.image.height // stride) * (config.image.width // stride)
        self._radar = None
        if config.radar is not None:
            self._radar = RadarPillars(config.radar, config.grid).eval()

    def blank(self) -> dict[str, Tensor]:
        """Inputs of the right shapes in which nothing is seen."""
        config, capacity = self.config, self.capacity
        found: dict[str, Tensor] = {}
        if self._lift is not None:
            slots, size = capacity.cameras, (config.image.height, config.image.width, 3)
            found["images"] = torch.zeros((slots, *size), dtype=torch.uint8)
            if self._cells:
                points = slots * self.columns * self._lift.bins
                found["lift_cell"] = torch.full((points,), self.cells)
            else:
                found["grid_T_pixel"] = torch.eye(4).repeat(slots, 1, 1)
                found["seen"] = torch.zeros(slots, dtype=torch.bool)
        if self._radar is not None:
            found["radar"] = torch.zeros((capacity.radar_points, INPUT_CHANNELS))
            found["radar_cell"] = torch.full((capacity.radar_points,), self.cells)
        if config.guide is not None and config.guide.intensity != "uniform":
            found["radar_returns"] = torch.zeros((1, 2, *config.grid.shape))
        if config.temporal is not None:
            channels = config.temporal.frames * config.fused_channels
            found["past"] = torch.zeros((1, *config.grid.shape, channels))
        return found

    @torch.no_grad()
    def __call__(self, batch: Batch, past: Tensor | None = None) -> dict[str, Tensor]:
        """The inputs of a Batch of one sample, on the CPU.

        Args:
            batch: of one sample.
            past: of a network with memory [1, T, C, X, Y]; None = nothing is known.

        Raises:
            EngineError: several samples, more cameras or points than there is room for, or values
                that are not finite.
        """
        if len(batch) != 1:
            raise EngineError(f"expected a batch of one sample, got {len(batch)}")
        found: dict[str, Tensor] = {}
        if self._lift is not None:
            found |= self._cameras(batch, self._lift)
        if self._radar is not None:
            found |= self._points(batch, self._radar)
        if self.config.guide is not None and self.config.guide.intensity != "uniform":
            found["radar_returns"] = radar_returns(batch, self.config.grid)
        if self.config.temporal is not None:
            frames, grid = self.config.temporal.frames, self.config.grid
            if past is None:
                past = torch.zeros((1, frames, self.config.fused_channels, *grid.shape))
            found["past"] = past.float().flatten(1, 2).movedim(1, -1).contiguous()
        for name, value in found.items():
            # Engines answer NaN with plausible boxes: of OpenVINO a ReLU makes 0 of it, as int8
            # does. A sum is not finite where a value is not, and takes a tenth of the time.
            if value.is_floating_point() and not math.isfinite(value.sum().item()):
                raise EngineError(
                    f"the network's input {name} is not finite: the Frame holds NaN or infinity; "
                    "look at what its sensors send"
                )
        return found

    def _cameras(self, batch: Batch, lift: Lift) -> dict[str, Tensor]:
        present = batch.camera_present
        # All of them are there nearly always, and picking them copies.
        seen = batch.images[0] if bool(present.all()) else batch.images[present]
        slots = self.capacity.cameras
        if len(seen) > slots:
            raise EngineError(
                f"a Frame has {len(seen)} cameras and there is room for {slots}: give a file of "
                f"crkd export --cameras {len(seen)}"
            )
        images = seen
        if len(seen) < slots:
            images = seen.new_zeros((slots, *seen.shape[1:]))
            images[: len(seen)] = seen
        found = {"images": images.contiguous()}
        if not self._cells:
            matrices = torch.eye(4).repeat(slots, 1, 1)
            matrices[: len(seen)] = present_matrices(batch.grid_T_pixel, present)
            return found | {"grid_T_pixel": matrices, "seen": torch.arange(slots) < len(seen)}
        cell = torch.full((slots * self.columns * lift.bins,), self.cells)
        inside = lift.cells(batch.grid_T_pixel, present)
        cell[: len(inside)] = inside
        return found | {"lift_cell": cell}

    def _points(self, batch: Batch, pillars: RadarPillars) -> dict[str, Tensor]:
        room = self.capacity.radar_points
        inputs, place = pillars.inputs(batch.radar, batch.radar_sample)
        if len(inputs) > room:
            raise EngineError(
                f"a Frame has {len(inputs)} radar points within the grid and there is room for "
                f"{room}: give a file of crkd export --radar-points {len(inputs)}, or more, and "
                "to crkd engines that option itself"
            )
        radar = torch.zeros((room, INPUT_CHANNELS))
        radar[: len(inputs)] = inputs
        cell = torch.full((room,), self.cells)
        cell[: len(place)] = place
        return {"radar": radar, "radar_cell": cell}
