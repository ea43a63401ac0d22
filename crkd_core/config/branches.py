"""The grid, and the branches that bring cameras, radars and LiDAR onto it.

They travel with the weights, like everything of DetectorConfig.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from crkd_core.config.blocks import RadarViewConfig
from crkd_core.config.checks import (
    MOST_CHANNELS,
    ConfigError,
    check_count,
    check_range,
    check_rising,
)
from crkd_core.sensors import MAX_PIXELS

#: Most cells of a grid.
_CELLS = 1 << 22

#: What a stage of a backbone or a map of features can be smaller by.
_STRIDES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The BEV grid, in the grid frame (identity with ego for our own models). Metres.

    Cell (i, j) covers x in low[0] + cell * [i, i + 1), y likewise. BEV tensors are [B, C, X, Y].
    """

    low: tuple[float, float, float] = (-54.0, -54.0, -5.0)
    high: tuple[float, float, float] = (54.0, 54.0, 3.0)
    cell: float = 0.6

    def __post_init__(self) -> None:
        check_range("grid.low", self.low, -1000, 1000)
        check_range("grid.high", self.high, -1000, 1000)
        check_range("grid.cell", self.cell, 0.01, 100)
        for low, high in zip(self.low, self.high, strict=True):
            check_rising("grid.low and grid.high", low, high)
        x, y = self.shape
        check_range("grid: cells", x * y, 1, _CELLS)
        for axis, low, high, cells in zip("xy", self.low, self.high, (x, y), strict=False):
            if not math.isclose(low + cells * self.cell, high, abs_tol=1e-3 * self.cell):
                raise ConfigError(
                    f"grid: expected a whole number of cells of {self.cell:g} m along {axis}, got "
                    f"{(high - low) / self.cell:.2f} from {low:g} to {high:g} m; end it at "
                    f"{low + cells * self.cell:g}"
                )

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along x and y."""
        x, y = (round((self.high[i] - self.low[i]) / self.cell) for i in (0, 1))
        return x, y


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How a recorded image becomes a network input.

    The image is resized so that its width is ``zoom * width``; the crop of height x width keeps
    the middle columns and, unless the horizon lies above them, the bottom rows. ``mean`` and
    ``std`` are of RGB in [0, 1].
    """

    height: int = 256
    width: int = 704
    zoom: float = 768 / 704
    #: "area": area averaging, pixel (u, v) is the centre of its square. "released": as weights
    #: imported from the released code saw images: bicubic with antialiasing, and a zoom s taken to
    #: map u to s u.
    resize: Literal["area", "released"] = "area"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)

    def __post_init__(self) -> None:
        check_range("image.height", self.height, 1, MOST_CHANNELS)
        check_range("image.width", self.width, 1, MOST_CHANNELS)
        check_range("image.zoom", self.zoom, 0.01, 100)
        check_range("image: pixels", self.height * self.width, 1, MAX_PIXELS)
        check_range("image: pixels after zoom", self.zoom * self.width, 1, 4 * MOST_CHANNELS)
        check_range("image.mean", self.mean, -10, 10)
        check_range("image.std", self.std, 1e-6, 10)


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """An image backbone, made from configuration; weights have the names of transformers.

    ``kind`` "resnet": stem ``embedding`` channels, stages ``hidden`` wide and ``depths`` deep.
    ``kind`` "swin": ``embedding`` is the width of the first stage, ``heads`` per stage.
    ``weights`` is a folder of transformers' save_pretrained to start training from; None = random.
    """

    kind: Literal["resnet", "swin"] = "resnet"
    embedding: int = 64
    hidden: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    layer: Literal["basic", "bottleneck"] = "bottleneck"
    heads: tuple[int, ...] = ()
    weights: str | None = None

    def __post_init__(self) -> None:
        name = "camera.backbone"
        check_count(f"{name}.depths", self.depths, 1, 8)
        check_range(f"{name}.depths", self.depths, 1, 200)
        check_range(f"{name}.embedding", self.embedding, 1, MOST_CHANNELS)
        if self.kind == "resnet":
            check_count(f"{name}.hidden", self.hidden, len(self.depths), len(self.depths))
            # A bottleneck has a quarter of the channels inside.
            least = 4 if self.layer == "bottleneck" else 1
            check_range(f"{name}.hidden", self.hidden, least, MOST_CHANNELS)
        else:
            check_count(f"{name}.heads", self.heads, len(self.depths), len(self.depths))
            check_range(f"{name}.heads", self.heads, 1, 1024)
            widths = [self.embedding << stage for stage in range(len(self.depths))]
            if any(width % heads for width, heads in zip(widths, self.heads, strict=True)):
                raise ConfigError(
                    f"{name}.heads: expected divisors of the stages' widths {widths}, got "
                    f"{self.heads}"
                )


@dataclass(frozen=True, kw_only=True)
class CameraConfig:
    """Camera branch: backbone, neck, LSS lift (docs/method.md 1.4)."""

    backbone: BackboneConfig = BackboneConfig()
    #: Strides of the backbone stages that enter the neck, and the neck's channels per stage.
    neck_levels: tuple[int, ...] = (4, 8, 16, 32)
    #: "second_fpn": every level to one stride, concatenated (``neck_channels`` per level).
    #: "lss_fpn": top-down pyramid, the finest map of ``neck_channels`` is used (docs/method.md
    #: 1.4).
    neck: Literal["second_fpn", "lss_fpn"] = "second_fpn"
    neck_channels: int = 128
    #: Stride of the feature map that is lifted.
    stride: int = 8
    #: True: feature cells span the image's first to last pixel, as published. False: column j sits
    #: at pixel stride * j, which is where a ResNet looks.
    align_corners: bool = True
    depth: tuple[float, float, float] = (1.0, 60.0, 1.0)
    context_channels: int = 80
    #: Height range of lifted points that are pooled, metres.
    z: tuple[float, float] = (-10.0, 10.0)
    #: Teachers: the depth network also reads a depth map of the LiDAR points, and convolutions
    #: follow the splat.
    lidar_depth: bool = False
    #: With ``lidar_depth``: cell of the grid that is splatted to, metres; the BEV cell divided by
    #: a whole number. None = the BEV cell.
    lift_cell: float | None = None
    #: "floor": points below a lower bound are left out. "trunc": rounded towards zero, as in the
    #: released code: one cell below each lower bound counts too, in z a whole bin of 20 m.
    cell_rounding: Literal["floor", "trunc"] = "floor"
    #: Radar points help to lift; None = they do not.
    radar_view: RadarViewConfig | None = None

    def __post_init__(self) -> None:
        low, high, step = self.depth
        check_range("camera.depth", (low, high), 0, 1000)
        check_range("camera.depth: step", step, 0.01, 1000)
        check_rising("camera.depth", low, high)
        check_range("camera.depth: bins", round((high - low) / step), 1, 4096)
        check_range("camera.neck_channels", self.neck_channels, 1, MOST_CHANNELS)
        check_range("camera.context_channels", self.context_channels, 1, MOST_CHANNELS)
        check_count("camera.neck_levels", self.neck_levels, 1, 8)
        for name, strides in (("neck_levels", self.neck_levels), ("stride", (self.stride,))):
            if any(stride not in _STRIDES for stride in strides):
                raise ConfigError(
                    f"camera.{name}: expected strides out of {_STRIDES}, got {strides}"
                )
        if list(self.neck_levels) != sorted({*self.neck_levels}):
            raise ConfigError(
                f"camera.neck_levels: expected rising strides, got {self.neck_levels}"
            )
        check_range("camera.z", self.z, -1000, 1000)
        check_rising("camera.z", *self.z)
        check_range("camera.lift_cell", self.lift_cell, 0.01, 100)


@dataclass(frozen=True, kw_only=True)
class RadarConfig:
    """Radar pillar branch (docs/method.md 1.4)."""

    sweeps: int = 6
    channels: tuple[int, ...] = (256, 256, 256, 256)
    #: None: every point of a pillar counts. A number: only the first so many, and a pillar with
    #: fewer also sees an empty slot, a row of zeros through the layers, as in the released code.
    points_per_pillar: int | None = None
    #: "reference": age counts from the Frame's reference time. "newest": from the newest return of
    #: the same radar, as in the released code.
    age: Literal["reference", "newest"] = "reference"
    #: Whether returns have nuScenes' state codes. Without, the network sees none, whatever a Frame
    #: says: weights of columns that were 0 in training mean nothing.
    codes: bool = True
    #: Three dilated convolutions on the radar map and the activation that CSRD reads
    #: (docs/method.md 1.7). "path": what they make enters the fuser, as released. "side": only the
    #: loss sees it.
    calibration: Literal["none", "path", "side"] = "none"
    #: "released": ReLU after the last convolution and on the activation, as published. "residual":
    #: added to the radar map, of which it changes nothing until trained, and the activation is a
    #: logit.
    calibration_block: Literal["released", "residual"] = "released"

    def __post_init__(self) -> None:
        check_range("radar.sweeps", self.sweeps, 1, 100)
        check_count("radar.channels", self.channels, 1, 16)
        check_range("radar.channels", self.channels, 1, MOST_CHANNELS)
        check_range("radar.points_per_pillar", self.points_per_pillar, 1, 100_000)


@dataclass(frozen=True, kw_only=True)
class LidarConfig:
    """LiDAR branch (docs/method.md 1.3).

    ``kind`` "sparse": sparse 3D convolutions on small voxels; ``channels`` are the stages'
    widths. ``kind`` "pillars": a point network and a maximum per BEV cell; ``channels`` are its
    layers' widths.
    """

    kind: Literal["sparse", "pillars"] = "sparse"
    #: The key sweep and those before it.
    sweeps: int = 10
    #: Voxel edges, metres. Pillars: points are first averaged per voxel; it divides the BEV cell.
    voxel: tuple[float, float, float] = (0.075, 0.075, 0.2)
    #: Pillars: points are averaged only with those whose ages lie within the same step, seconds:
    #: what has moved between sweeps stays apart, and is how this network sees speed. None = all.
    age_step: float | None = None
    #: Points averaged per voxel, and voxels kept per sample in training and in evaluation; the
    #: first ones in the order of the cloud.
    max_points: int = 10
    max_voxels: tuple[int, int] = (120_000, 160_000)
    channels: tuple[int, ...] = (16, 32, 64, 128)
    #: Sparse: residual blocks per stage.
    blocks: int = 2

    def __post_init__(self) -> None:
        check_range("lidar.sweeps", self.sweeps, 1, 100)
        check_range("lidar.voxel", self.voxel, 0.001, 100)
        check_range("lidar.age_step", self.age_step, 1e-3, 100)
        check_range("lidar.max_points", self.max_points, 1, 100_000)
        check_range("lidar.max_voxels", self.max_voxels, 1, 10_000_000)
        check_count("lidar.channels", self.channels, 1, 16)
        check_range("lidar.channels", self.channels, 1, MOST_CHANNELS)
        check_range("lidar.blocks", self.blocks, 0, 64)
