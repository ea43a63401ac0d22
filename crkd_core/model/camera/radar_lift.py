"""The lift assisted by radar: image features go where depth says, and where radars see something.

CRN's radar-assisted view transformation (Kim et al. 2023, 3.2; docs/method.md 1.10): radar points
are seen by every camera as a map over image columns and depths, whose height is unknown; a network
on it gives an occupancy and a context. Image features are lifted twice, by the depth distribution
and by the occupancy of their column, and the radar's context is lifted too. Ours: the frustum
points keep their own rows, so that turned and tilted images need no exception, where CRN sums over
rows first; the convolutions that join the three follow in the bird's-eye view.

Shapes: B batch, N = 6 cameras, P cameras present in the whole batch, h w feature map, D depth
bins, M radar points, C context channels, R radar channels, X Y grid cells.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from crkd_core.config import CameraConfig, GridConfig, ImageConfig, RadarViewConfig
from crkd_core.model.camera.lift import Lift, LiftError, LiftIndex, Points, summed
from crkd_core.model.layers import conv_norm
from crkd_core.model.radar import POINT_CHANNELS, PointNorm

#: Logit of the share of places that a fresh occupancy should claim, 0.01, as in CRN.
OCCUPANCY_BIAS = -4.6


class RadarView(nn.Module):
    """Radar points on a map over image columns and depths, and a network on it.

    Attributes:
        shared: its norms are those of several processes (train/norms.py): each must call them,
            with or without a point.
    """

    #: Place in the image and in its cell, beside all of a point but x, y, z.
    INPUTS = POINT_CHANNELS - 3 + 4

    def __init__(self, view: RadarViewConfig, config: CameraConfig, image: ImageConfig) -> None:
        super().__init__()
        self.shared = False
        self.width, self.columns = image.width, image.width // config.stride
        # Pixels from one feature column to the next, as in ``cell_pixels``.
        self.spacing = float(config.stride)
        if config.align_corners:
            self.spacing = (image.width - 1) / (self.columns - 1)
        self.low, _, self.step = config.depth
        self.bins = round((config.depth[1] - self.low) / self.step)
        widths = (self.INPUTS, *view.channels)
        self.channels = widths[-1]
        self.points = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Linear(a, b, bias=False), PointNorm(b, eps=1e-3), nn.ReLU(inplace=True)
                )
                for a, b in pairwise(widths)
            )
        )
        self.convolutions = nn.Sequential(
            *(conv_norm(widths[-1], widths[-1]) for _ in range(view.blocks))
        )
        self.out = nn.Conv2d(widths[-1], 1 + view.context_channels, 1)
        nn.init.constant_(self.out.bias[:1], OCCUPANCY_BIAS)  # type: ignore[index]

    def forward(
        self, radar: Tensor, sample: Tensor, grid_T_pixel: Tensor, present: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Occupancy logits [P, 1, D, w] and context [P, R, D, w] of the present cameras.

        Args:
            radar: [M, 45] points in grid metres.
            sample: int64 [M].
            grid_T_pixel: [B, N, 4, 4].
            present: bool [B, N].
        """
        owner = present.nonzero()[:, 0]
        pixel_T_grid = torch.linalg.inv(grid_T_pixel[present].float())
        camera, point = (owner[:, None] == sample[None]).nonzero(as_tuple=True)
        ones = torch.ones_like(radar[:, :1])
        places = torch.cat([radar[:, :3], ones], 1)
        # In the half precision of a training points would lie in other columns and bins.
        with torch.autocast(radar.device.type, enabled=False):
            u_d, _, depth = torch.einsum("kij,kj->ik", pixel_T_grid[camera, :3], places[point])
        ahead = depth > self.low / 2
        u = u_d / depth.where(ahead, torch.ones_like(depth))
        column, bin_ = u / self.spacing, (depth - self.low) / self.step
        # Columns and bins are centred on their places, as the lift puts them.
        i, j = bin_.round().long(), column.round().long()
        seen = ahead & (i >= 0) & (i < self.bins) & (j >= 0) & (j < self.columns)
        camera, point, i, j = camera[seen], point[seen], i[seen], j[seen]
        inputs = torch.stack(
            [u[seen] / self.width, depth[seen] / 50, column[seen] - j, bin_[seen] - i], 1
        )
        dtype = self.out.weight.dtype
        inputs = torch.cat([radar[point, 3:], inputs], 1).to(dtype)
        features = inputs.new_zeros((0, self.channels))
        if len(inputs) or self.shared:
            features = self.points(inputs)
        place = (camera * self.bins + i) * self.columns + j
        dense = features.new_zeros((len(owner) * self.bins * self.columns, self.channels))
        # Features are not negative after ReLU, so zeros leave the maximum alone.
        dense = dense.scatter_reduce(0, place[:, None].expand_as(features), features, "amax")
        maps = dense.view(len(owner), self.bins, self.columns, -1).permute(0, 3, 1, 2)
        occupancy, context = self.out(self.convolutions(maps)).tensor_split([1], 1)
        return occupancy, context


class RadarLift(Lift):
    """Lift by depth and by radar occupancy, with the radar's own context, joined on the grid."""

    def __init__(self, inputs: int, config: CameraConfig, image: ImageConfig, grid: GridConfig):
        super().__init__(inputs, config, image, grid)
        assert config.radar_view is not None
        self.view = RadarView(config.radar_view, config, image)
        width = 2 * self.context + config.radar_view.context_channels
        self.join = nn.Sequential(
            conv_norm(width, self.context), conv_norm(self.context, self.context)
        )

    def forward(
        self,
        features: Tensor,
        grid_T_pixel: Tensor,
        present: Tensor,
        lidar: Points | None = None,
        radar: Points | None = None,
    ) -> tuple[Tensor, Tensor]:
        """See Lift.

        Raises:
            LiftError: no radar points, not even none.
        """
        if radar is None:
            raise LiftError("a lift with radar_view needs the radar points of the batch")
        shape = (present.shape[0], *self.grid.shape)
        if not len(features):
            return self._nothing(features, present)
        logits, context = self.depth_context(features).split([self.bins, self.context], 1)
        depth = logits.permute(0, 2, 3, 1).softmax(-1)
        occupancy, beside = self.view(*radar, grid_T_pixel, present)
        # Of every column and depth, the same in all rows: [P, h, w, D].
        held = occupancy.sigmoid()[:, 0].transpose(1, 2)[:, None].expand_as(depth)
        rows = context.permute(0, 2, 3, 1).flatten(0, 2)
        index = self.index(grid_T_pixel, present)
        maps = [
            summed(rows, index.pixel, weights.flatten().index_select(0, index.point), index)
            for weights in (depth, held)
        ]
        plane = beside.permute(0, 3, 2, 1).flatten(0, 2)
        h, w = features.shape[2:]
        place = self._planes(index, h, w)
        share = plane.new_full((len(place),), 1 / h)
        maps.append(summed(plane, place, share, index))
        joined = torch.cat(maps, 1).view(*shape, -1).permute(0, 3, 1, 2)
        # A sample without any camera has nothing to lift.
        seen = present.any(1)[:, None, None, None]
        return self.join(joined) * seen, logits

    def _planes(self, index: LiftIndex, h: int, w: int) -> Tensor:
        """Of every frustum point its row among [P, w, D]."""
        camera = index.pixel // (h * w)
        return (camera * w + index.pixel % w) * self.bins + index.point % self.bins
