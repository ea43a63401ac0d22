"""Recorded images to those of the network on a GPU, as ``cameras.prepare`` does on a processor.

An average over pixels is a product with a matrix of their shares, for rows and for columns. Values
are those of the processor but for rounding, by one level where they lie halfway.

Shapes: H W recorded image, h w image of the network.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from crkd_core.config import ImageConfig
from crkd_core.data.cameras import CameraError, placed, prepare
from crkd_core.data.crop import Placement
from crkd_core.frame import Frame
from crkd_core.frame_checks import check_recorded
from crkd_core.sensors import CAMERAS

#: Matrices kept: of all cameras of a rig, whose horizons may lie in different rows.
_KEPT = 32


class GpuImages:
    """Prepares Frames on one GPU."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._staged: dict[tuple[int, ...], Tensor] = {}
        self._shares = functools.lru_cache(_KEPT)(self._computed_shares)

    def __call__(self, frame: Frame, config: ImageConfig) -> Frame:
        """As ``cameras.prepare``, which also does what is no average (enlarging, "released").

        Raises:
            FrameError, CameraError: see ``cameras.prepare``.
        """
        if frame.prepared is not None or config.resize != "area":
            return prepare(frame, config)
        check_recorded(frame.images, frame.intrinsics, frame.ego_T_cam)
        found: list[Tensor | None] = []
        intrinsics = np.array(frame.intrinsics, np.float64)
        for index, image in enumerate(frame.images):
            if image is None:
                found.append(None)
                continue
            up = frame.ego_T_cam[index, 2, :3]
            try:
                place, intrinsics[index] = placed(image, intrinsics[index], config, up=up)
            except CameraError as error:
                raise CameraError(f"{CAMERAS[index]}: {error}") from error
            if place.width >= image.shape[1] or place.height >= image.shape[0]:
                return prepare(frame, config)
            found.append(self._averaged(index, image, place, config))
        here = [None if one is None else one.cpu().numpy() for one in found]
        return dataclasses.replace(
            frame, images=tuple(here), intrinsics=intrinsics, prepared=config
        )

    @torch.inference_mode()
    def _averaged(
        self, camera: int, image: NDArray[np.uint8], place: Placement, config: ImageConfig
    ) -> Tensor:
        """Uint8 [H, W, 3] -> [h, w, 3] on the device; nothing is waited for."""
        key = (camera, *image.shape)
        if key not in self._staged:
            pinned = self._device.type == "cuda"
            self._staged[key] = torch.empty(image.shape, dtype=torch.uint8, pin_memory=pinned)
        given = torch.from_numpy(np.ascontiguousarray(image))
        pixels = self._staged[key].copy_(given).to(self._device, non_blocking=True)
        rows = self._shares(image.shape[0], place.height, place.top, config.height)
        columns = self._shares(image.shape[1], place.width, place.left, config.width)
        planes = rows @ pixels.permute(2, 0, 1).float() @ columns.T
        return planes.round().clamp(0, 255).to(torch.uint8).permute(1, 2, 0).contiguous()

    def _computed_shares(self, before: int, after: int, first: int, count: int) -> Tensor:
        return shares(before, after)[_rows(after, first, count)].to(self._device)


def _rows(after: int, first: int, count: int) -> Tensor:
    """Indices of ``count`` rows from ``first`` on; those outside are the row behind the last."""
    row = torch.arange(first, first + count)
    return torch.where((row >= 0) & (row < after), row, after)


def shares(before: int, after: int) -> Tensor:
    """Float32 [after + 1, before], what each of ``before`` pixels adds to averages over them.

    The last row is zero: beyond the image it is black.
    """
    edges = np.arange(after + 1) * (before / after)
    low = np.maximum(edges[:-1, None], np.arange(before))
    high = np.minimum(edges[1:, None], np.arange(before) + 1)
    found = np.zeros((after + 1, before))
    found[:-1] = np.clip(high - low, 0, None) * (after / before)
    return torch.from_numpy(found).float()
