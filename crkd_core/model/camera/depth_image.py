"""LiDAR points to depth images: what a camera would measure along its optical axis.

Shapes: B batch, N = 6 cameras, P cameras present in the whole batch, h w cells of an image, L
LiDAR points of the whole batch.
"""

from __future__ import annotations

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor


@torch.no_grad()
def depth_images(
    points: Tensor,
    sample: Tensor,
    grid_T_pixel: Tensor,
    present: Tensor,
    *,
    size: tuple[int, int],
    near: float,
    first: float = 0.0,
    cell: tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Depth of the nearest point in every cell of every present camera's image; 0 for none.

    Augmentation needs no undoing: the matrices hold it, so points moved with the ground meet the
    pixels that their returns came from.

    Args:
        points: [L, 3 or more], x, y, z first, grid frame, metres.
        sample: int64 [L], ascending, the sample of each point.
        grid_T_pixel: [B, N, 4, 4], takes (u d, v d, d, 1) to grid metres.
        present: bool [B, N].
        size: h and w, cells.
        near: points at this depth or nearer, or behind the camera, are left out; metres.
        first: where the first row and column begin, cells: 0 = as released, which takes
            the centre of a pixel for its edge; -0.5 = cells lie around multiples of ``cell``.
        cell: height and width of a cell, pixels.

    Returns:
        [P, h, w] float32 metres along the optical axis, cameras in the order of ``present``.
    """
    height, width = size
    cells = height * width
    # A GPU is waited for whenever a number is asked for; so it is for all samples at once.
    bounds = torch.arange(len(present) + 1, device=sample.device)
    starts = torch.searchsorted(sample, bounds).tolist()
    views = present.nonzero()
    owner = views[:, 0].tolist()
    pixel_T_grid = torch.linalg.inv(grid_T_pixel[views[:, 0], views[:, 1]].double())
    nearest = points.new_full((len(owner) * cells,), torch.inf, dtype=torch.float32)
    homogeneous = F.pad(points[:, :3].double(), (0, 1), value=1.0)
    found = []
    before = 0
    for index, (start, end) in enumerate(pairwise(starts)):
        own, matrices = homogeneous[start:end], pixel_T_grid[before : before + owner.count(index)]
        # One row of numbers a point, all cameras side by side.
        depth = own @ matrices[:, 2].T
        pixel = (own @ matrices[:, :2].flatten(0, 1).T).unflatten(1, (-1, 2))
        point, camera = (depth > near).nonzero(as_tuple=True)
        found.append((depth[point, camera], pixel[point, camera], before + camera))
        before += len(matrices)
    depth, pixel, camera = map(torch.cat, zip(*found, strict=True))
    # Floor, before the conversion to int, which would take -0.5 into the image.
    per_cell = homogeneous.new_tensor([cell[1], cell[0]])
    place = torch.floor(pixel / depth[:, None] / per_cell - first)
    inside = (place >= 0) & (place < place.new_tensor([width, height]))
    inside = inside.all(1).nonzero()[:, 0]
    column, row = place[inside].long().unbind(1)
    target = camera[inside] * cells + row * width + column
    nearest.scatter_reduce_(0, target, depth[inside].float(), "amin")
    return nearest.where(nearest.isfinite(), 0.0).view(-1, height, width)
