"""The frame and the grids that released weights work in."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from crkd_core import geometry
from crkd_core.config import CameraConfig, DetectorConfig
from crkd_core.model.camera.lift import cell_pixels
from crkd_core.official.source import OfficialError, Source

#: LIDAR_TOP of a nuScenes vehicle in ego: metres, quaternion w x y z. Calibrations of other drives
#: differ a little; who needs them exact sets DetectorConfig.ego_T_grid.
LIDAR_TOP = (
    (0.943713, 0.0, 1.84023),
    (0.7077955119163518, -0.006492242056004365, 0.010646214713995808, -0.7063073142877817),
)

#: Buffers may have been stored in half precision.
HALF_PRECISION = 1e-3

EGO_T_LIDAR: tuple[tuple[float, ...], ...] = tuple(
    tuple(float(value) for value in row) for row in geometry.pose(*LIDAR_TOP)
)


def check_geometry(
    source: Source, camera: CameraConfig, config: DetectorConfig, prefix: str
) -> None:
    """Drop the geometry buffers of the view transform after a look at what they say.

    Raises:
        OfficialError: they are of another grid, image or depth range than ``camera`` and
            ``config``, the network that it is part of.
    """
    for name, expected in buffers(camera, config).items():
        if prefix + name not in source:
            continue
        found = source.left[prefix + name].double()
        # Zeros were never filled in, so they say nothing.
        if not found.any():
            source.drop(prefix + name)
            continue
        if found.shape != expected.shape or not torch.allclose(
            found, expected, rtol=HALF_PRECISION, atol=HALF_PRECISION
        ):
            raise OfficialError(
                f"{prefix}{name}: these weights were made for another grid, image or depth range; "
                f"expected {_short(expected)}, got {_short(found)}"
            )
        source.drop(prefix + name)


def buffers(camera: CameraConfig, config: DetectorConfig) -> dict[str, Tensor]:
    """Cells of the splat grid: sizes, first centres, counts; and the frustum [D, h, w, 3]."""
    cell = camera.lift_cell or config.grid.cell
    z = camera.z
    size = np.array([cell, cell, z[1] - z[0]])
    low = np.array([*config.grid.low[:2], z[0]])
    high = np.array([*config.grid.high[:2], z[1]])
    first, last, step = camera.depth
    columns, rows = cell_pixels(camera, config.image)
    depths = torch.from_numpy(np.arange(first, last - step / 2, step))
    d, v, u = torch.meshgrid(depths, rows.double(), columns.double(), indexing="ij")
    return {
        "dx": torch.from_numpy(size),
        "bx": torch.from_numpy(low + size / 2),
        "nx": torch.from_numpy(np.round((high - low) / size)),
        "frustum": torch.stack([u, v, d], -1),
    }


def _short(values: Tensor) -> str:
    return str(values.tolist()) if values.numel() <= 3 else f"shape {tuple(values.shape)}"
