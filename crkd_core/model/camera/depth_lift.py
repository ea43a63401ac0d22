"""The teacher's lift: depth is predicted from image features and a LiDAR depth map.

docs/method.md 1.3. BEVFusion (Liu et al. 2022) and CRKD call it depth-assisted LSS. The lifted map
is finer than the BEV grid; three convolutions bring it there.

Shapes: B batch, N = 6 cameras, P cameras present in the whole batch, H W image, h w feature map,
D depth bins, C context channels, L LiDAR points of the whole batch, X Y grid cells.
"""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from crkd_core.config import CameraConfig, GridConfig, ImageConfig
from crkd_core.model.camera.depth_image import depth_images
from crkd_core.model.camera.lift import Lift, LiftError, Points
from crkd_core.model.layers import conv_norm

#: Channels of the three convolutions that read the depth map, and their strides.
DEPTH_CHANNELS = (8, 32, 64)
DEPTH_STRIDES = (1, 4, 2)

#: Points nearer to the camera plane, or behind it, are not projected; metres.
NEAR = 1e-3


class DepthLift(Lift):
    """Lift whose depth network also reads where the LiDAR points are in the image.

    The depth map is metric depth along the optical axis at every pixel that a point falls on, 0
    elsewhere. Where points share a pixel the nearest one counts; the released code takes the last,
    which is left to chance there.
    """

    def __init__(
        self, inputs: int, config: CameraConfig, image: ImageConfig, grid: GridConfig
    ) -> None:
        cell = config.lift_cell or grid.cell
        ratio = round(grid.cell / cell)
        if ratio < 1 or abs(ratio * cell - grid.cell) > 1e-6:
            raise LiftError(
                f"camera.lift_cell: expected the BEV cell of {grid.cell} m divided by a whole "
                f"number, got {cell}"
            )
        total = DEPTH_STRIDES[0] * DEPTH_STRIDES[1] * DEPTH_STRIDES[2]
        if config.stride != total:
            raise LiftError(
                f"camera.lidar_depth: the depth map is read at stride {total}, so camera.stride "
                f"must be {total}, got {config.stride}"
            )
        super().__init__(inputs, config, image, dataclasses.replace(grid, cell=cell))
        self.size = (image.height, image.width)
        first, second, third = DEPTH_CHANNELS
        self.depth_map = nn.Sequential(
            *_conv(1, first, kernel=1, stride=DEPTH_STRIDES[0]),
            *_conv(first, second, kernel=5, stride=DEPTH_STRIDES[1]),
            *_conv(second, third, kernel=5, stride=DEPTH_STRIDES[2]),
        )
        self.depth_context = nn.Sequential(
            *_conv(third + inputs, inputs, kernel=3),
            *_conv(inputs, inputs, kernel=3),
            nn.Conv2d(inputs, self.bins + self.context, 1),
        )
        self.compress = nn.Sequential(
            conv_norm(self.context, self.context),
            conv_norm(self.context, self.context, stride=ratio),
            conv_norm(self.context, self.context),
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
            LiftError: no LiDAR.
        """
        if lidar is None:
            raise LiftError("the LiDAR-assisted lift needs LiDAR points, and got none")
        depth = self.project(*lidar, grid_T_pixel, present).to(features.dtype)
        if len(features):
            features = torch.cat([self.depth_map(depth), features], 1)
        pooled, logits = super().forward(features, grid_T_pixel, present)
        return self.compress(pooled), logits

    def project(
        self, points: Tensor, sample: Tensor, grid_T_pixel: Tensor, present: Tensor
    ) -> Tensor:
        """The depth map of every present camera, [P, 1, H, W] metres.

        Args:
            points: [L, 3 or more] and
            sample: [L], see Points.
            grid_T_pixel: [B, N, 4, 4].
            present: bool [B, N].
        """
        maps = depth_images(points, sample, grid_T_pixel, present, size=self.size, near=NEAR)
        return maps[:, None]


def _conv(inputs: int, outputs: int, *, kernel: int, stride: int = 1) -> list[nn.Module]:
    """Convolution with bias, as published, BatchNorm and ReLU."""
    return [
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    ]
