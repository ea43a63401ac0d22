"""Which rows and columns of a recorded image the network sees.

As a rule the bottom rows, as the released code keeps them of nuScenes' images, where the horizon
then lies a fifth of the crop from its top. Cameras of another shape, or mounted in another way,
may have the horizon above those rows, and with it the far half of the road: of these the crop is
put where its horizon is that of nuScenes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from crkd_core.config import ImageConfig

#: Where the horizon is in the crop, as a share of its height from its top: in nuScenes' images
#: (0.20 to 0.24 by the calibration of scene-0061), and the least with which the bottom rows are
#: kept. The cars of nuScenes and of the synthetic world differ by less than these two do.
HORIZON, LEAST = 0.22, 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Placement:
    """Where an image goes: resized to (width, height), then cropped at (left, top) of the result.

    A negative left or top means black padding of that many pixels. ``half`` is where the middle of
    a pixel sits in it: 0.5, or 0 in the released code, which lets a zoom s map u to s u.
    """

    width: int
    height: int
    left: int
    top: int
    half: float = 0.5

    @classmethod
    def of(
        cls,
        image_width: int,
        image_height: int,
        config: ImageConfig,
        *,
        horizon: float | None = None,
    ) -> Placement:
        """The placement of an image of this size.

        Args:
            image_width: pixels of the recorded image.
            image_height: the same.
            config: target size and zoom.
            horizon: row of the horizon in the recorded image, see ``horizon_row``; may lie
                outside. None = not known: the bottom rows are kept.
        """
        width = max(1, round(config.zoom * config.width))
        height = max(1, round(image_height * width / image_width))
        top = height - config.height
        if horizon is not None:
            row = (horizon + 0.5) * height / image_height
            if row - top < LEAST * config.height:
                # Never above the image while there are rows below.
                top = min(top, max(0, round(row - HORIZON * config.height)))
        return cls(
            width=width,
            height=height,
            left=(width - config.width) // 2,
            top=top,
            half=0.5 if config.resize == "area" else 0.0,
        )

    def matrix(self, image_width: int, image_height: int) -> NDArray[np.float64]:
        """[3, 3] map of homogeneous pixels of the recorded image to pixels of the prepared one."""
        sx, sy = self.width / image_width, self.height / image_height
        return np.array(
            [
                [sx, 0.0, self.half * (sx - 1) - self.left],
                [0.0, sy, self.half * (sy - 1) - self.top],
                [0.0, 0.0, 1.0],
            ]
        )


def horizon_row(
    intrinsics: NDArray[np.floating], up: NDArray[np.floating], image_width: int
) -> float | None:
    """The row in which the horizon crosses the middle column of an image.

    Args:
        intrinsics: [3, 3] of the image.
        up: [3] the vehicle's upward direction in the camera's optical axes (z forward, y down).
        image_width: pixels.

    Returns:
        Possibly far outside the image; None for a camera that is upside down, on its side, or has
        no intrinsics: it has no rows of sky above rows of road.
    """
    return horizon_rows(np.asarray(intrinsics)[None], np.asarray(up)[None], [image_width])[0]


def horizon_rows(
    intrinsics: NDArray[np.floating], up: NDArray[np.floating], image_widths: Sequence[int]
) -> list[float | None]:
    """``horizon_row`` of several cameras, which takes hardly longer than of one.

    Args:
        intrinsics: [N, 3, 3].
        up: [N, 3].
        image_widths: N.
    """
    finite = np.isfinite(intrinsics).all((1, 2))
    known = finite & (-up[:, 1] > np.abs(up[:, 0]))
    known[known] = np.abs(np.linalg.det(intrinsics[known])) > 1e-9
    # Rays to infinitely far points of the ground are those across ``up``.
    rays = np.swapaxes(np.asarray(intrinsics[known], np.float64), 1, 2)
    found: list[float | None] = [None] * len(image_widths)
    lines = np.linalg.solve(rays, np.asarray(up[known], np.float64)[..., None])[..., 0]
    for index, line in zip(np.flatnonzero(known).tolist(), lines.tolist(), strict=True):
        if line[1] < -1e-12:
            found[index] = -(line[0] * (image_widths[index] - 1) / 2 + line[2]) / line[1]
    return found
