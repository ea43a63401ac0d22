"""What the weights of a detector depend on; it travels inside the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crkd_core.config.blocks import (
    VEHICLE,
    AttentionConfig,
    GuideConfig,
    RadarViewConfig,
    SegmentsConfig,
    TemporalConfig,
)
from crkd_core.config.checks import (
    ConfigError,
    check_count,
    check_odd,
    check_range,
    check_rising,
)
from crkd_core.sensors import CAMERAS, LIDAR, RADARS

#: Most channels of anything, and most pixels of an image and cells of a grid.
_CHANNELS = 8192
_PIXELS = 1 << 25
_CELLS = 1 << 22

Branch = Literal["camera", "radar", "lidar"]

#: What a stage of a backbone or a map of features can be smaller by.
_STRIDES = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512)

#: The sensors that each branch reads.
SENSORS: dict[Branch, tuple[str, ...]] = {"camera": CAMERAS, "radar": RADARS, "lidar": (LIDAR,)}


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The BEV grid, in the grid frame (identity with ego for our own models). Metres.

    Cell (i, j) covers x in low[0] + cell * [i, i + 1), y likewise. BEV tensors are [B, C, X, Y].
    """

    low: tuple[float, float, float] = (-51.2, -51.2, -5.0)
    high: tuple[float, float, float] = (51.2, 51.2, 3.0)
    cell: float = 0.8

    def __post_init__(self) -> None:
        check_range("grid.low", self.low, -1000, 1000)
        check_range("grid.high", self.high, -1000, 1000)
        check_range("grid.cell", self.cell, 0.01, 100)
        for low, high in zip(self.low, self.high, strict=True):
            check_rising("grid.low and grid.high", low, high)
        x, y = self.shape
        check_range("grid: cells", x * y, 1, _CELLS)

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
        check_range("image.height", self.height, 1, _CHANNELS)
        check_range("image.width", self.width, 1, _CHANNELS)
        check_range("image.zoom", self.zoom, 0.01, 100)
        check_range("image: pixels", self.height * self.width, 1, _PIXELS)
        check_range("image: pixels after zoom", self.zoom * self.width, 1, 4 * _CHANNELS)
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
        check_range(f"{name}.embedding", self.embedding, 1, _CHANNELS)
        if self.kind == "resnet":
            check_count(f"{name}.hidden", self.hidden, len(self.depths), len(self.depths))
            # A bottleneck has a quarter of the channels inside.
            least = 4 if self.layer == "bottleneck" else 1
            check_range(f"{name}.hidden", self.hidden, least, _CHANNELS)
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
    #: 1.3).
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
        check_range("camera.neck_channels", self.neck_channels, 1, _CHANNELS)
        check_range("camera.context_channels", self.context_channels, 1, _CHANNELS)
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
        check_range("radar.channels", self.channels, 1, _CHANNELS)
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
        check_range("lidar.channels", self.channels, 1, _CHANNELS)
        check_range("lidar.blocks", self.blocks, 0, 64)


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """BEV decoder: residual groups and the feature pyramid above them (docs/method.md 1.6)."""

    channels: tuple[int, ...] = (128, 256, 512)
    strides: tuple[int, ...] = (2, 2, 1)
    blocks: int = 2
    out_channels: int = 256

    def __post_init__(self) -> None:
        check_count("decoder.channels", self.channels, 1, 16)
        check_range("decoder.channels", self.channels, 1, _CHANNELS)
        check_count("decoder.strides", self.strides, len(self.channels), len(self.channels))
        check_range("decoder.strides", self.strides, 1, 16)
        check_range("decoder.blocks", self.blocks, 1, 64)
        check_range("decoder.out_channels", self.out_channels, 1, _CHANNELS)


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """One group of classes that share a heatmap branch, and its non-maximum suppression."""

    classes: tuple[str, ...]
    nms: Literal["circle", "rotated"] = "rotated"
    #: Circle: distance in metres; rotated: BEV IoU above which the weaker box goes.
    nms_threshold: float = 0.2
    #: Rotated only: enlargement of length and width before the test, per class.
    nms_scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        check_count("head.tasks: classes", self.classes, 1, 1000)
        check_range("head.tasks: nms_threshold", self.nms_threshold, 0, 1000)
        check_range("head.tasks: nms_scale", self.nms_scale, 1e-9, 1e6)
        if self.nms_scale and len(self.nms_scale) != len(self.classes):
            raise ConfigError(
                f"nms_scale: expected a factor for each of {', '.join(self.classes)}, or none at "
                f"all; got {len(self.nms_scale)}"
            )


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """CenterHead: branches, target assignment, loss weights, decode."""

    tasks: tuple[TaskConfig, ...]
    shared_channels: int = 64
    branch_channels: int = 64
    #: Who has hidden channels of its own, ``branch_channels`` of them: every branch, as published;
    #: of every task its heatmap and its five regression branches together; or the whole head.
    hidden: Literal["branch", "task", "head"] = "branch"
    #: Side of the kernels of the hidden and of the output convolutions.
    hidden_kernel: int = 3
    output_kernel: int = 3
    #: Gaussian radius rule of target assignment.
    gaussian_overlap: float = 0.1
    min_radius: int = 2
    #: Loss weights of reg x y, height, log l w h, sin, cos, vx, vy.
    code_weights: tuple[float, ...] = (1.0,) * 10
    box_weight: float = 0.25
    #: Decode: candidates per task, boxes kept per task after NMS.
    candidates: int = 500
    keep: int = 83
    #: Decode: boxes whose centre is farther out in x, y or z (metres, grid frame) go; None = stay.
    center_limit: tuple[float, float, float] | None = None
    #: Decode: sides are kept between these, metres; an untrained network must not overflow.
    size_limits: tuple[float, float] = (0.01, 100.0)

    def __post_init__(self) -> None:
        check_count("head.tasks", self.tasks, 1, 100)
        check_range("head.shared_channels", self.shared_channels, 1, _CHANNELS)
        check_range("head.branch_channels", self.branch_channels, 1, _CHANNELS)
        check_odd("head.hidden_kernel", self.hidden_kernel)
        check_odd("head.output_kernel", self.output_kernel)
        check_range("head.gaussian_overlap", self.gaussian_overlap, 1e-6, 1)
        check_range("head.min_radius", self.min_radius, 0, 100)
        check_count("head.code_weights", self.code_weights, 10, 10)
        check_range("head.code_weights", self.code_weights, 0, 1e6)
        check_range("head.box_weight", self.box_weight, 0, 1e6)
        check_range("head.candidates", self.candidates, 1, 1_000_000)
        check_range("head.keep", self.keep, 1, 1_000_000)
        check_range("head.center_limit", self.center_limit, 0, 10_000)
        # So wide for released weights, which have no limits of their own.
        check_range("head.size_limits", self.size_limits, 1e-30, 1e30)
        check_rising("head.size_limits", *self.size_limits)


#: A pose that changes nothing.
IDENTITY = (
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0, 0.0),
    (0.0, 0.0, 0.0, 1.0),
)


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """A detector: everything that its weights depend on.

    It has the branches that are not None, in any combination, and reads the sensors of these
    alone: a branch that is not there has no weights and costs nothing. CRKD's student has camera
    and radar, its teacher camera and LiDAR.
    """

    name: str
    grid: GridConfig = GridConfig()
    image: ImageConfig = ImageConfig()
    camera: CameraConfig | None = CameraConfig()
    radar: RadarConfig | None = RadarConfig()
    lidar: LidarConfig | None = None
    #: "gated" as in CRKD, "conv": one convolution, the non-gated baseline (docs/method.md 1.5), or
    #: "attention" as in CRN (1.10). A single branch has no other to be weighed against, and always
    #: has the one convolution.
    fuser: Literal["gated", "conv", "attention"] = "gated"
    #: Side of the gates' kernel.
    gate_kernel: int = 3
    attention: AttentionConfig = AttentionConfig()
    #: Camera and radar maps are weighed by intensity before they are fused; None = they are not.
    guide: GuideConfig | None = None
    #: Fused maps of earlier moments are used too; None = the present alone.
    temporal: TemporalConfig | None = None
    fused_channels: int = 256
    decoder: DecoderConfig = DecoderConfig()
    head: HeadConfig
    #: A second head that tells cells of the ground apart; None = boxes alone.
    segments: SegmentsConfig | None = None
    #: Pose [4, 4] of the grid frame in ego. Identity for our own models; imported weights work in
    #: the nuScenes LIDAR_TOP frame. Batches hold the grid frame, decode answers in ego.
    ego_T_grid: tuple[tuple[float, ...], ...] = IDENTITY
    #: Share of a new batch in the running statistics of every BatchNorm.
    norm_momentum: float = 0.1
    #: What it tells apart; labels of its boxes index this list. Each is in one task of the head.
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        check_odd("gate_kernel", self.gate_kernel)
        check_range("fused_channels", self.fused_channels, 1, _CHANNELS)
        check_range("norm_momentum", self.norm_momentum, 0, 1)
        check_count("classes", self.classes, 1, 1000)
        _check_pose(self.ego_T_grid)
        tasks = [name for task in self.head.tasks for name in task.classes]
        problems = [f"unknown {name}" for name in tasks if name not in self.classes]
        problems += [f"no task for {name}" for name in self.classes if name not in tasks]
        for names in (tasks, self.classes):
            problems += [f"{name} twice" for name in set(names) if names.count(name) > 1]
        if problems:
            raise ConfigError(
                f"{self.name}: head.tasks must hold each of classes once: {', '.join(problems)}; "
                "set both together"
            )
        if VEHICLE in self.segment_classes and not self.vehicles:
            raise ConfigError(
                f"segments: {self.name} knows none of segments.vehicles, "
                f"{', '.join(self.segments.vehicles) if self.segments else ''}; name those of its "
                f"classes that are vehicles: {', '.join(self.classes)}"
            )
        if not self.branches:
            raise ConfigError(
                f"detector {self.name}: camera, radar and lidar are all null, and it needs one of "
                "them; for example --set 'detector.lidar={}' makes a LiDAR branch of defaults"
            )
        both = self.camera is not None and self.radar is not None
        view = self.camera is not None and self.camera.radar_view is not None
        for name, asked in (("guide", self.guide is not None), ("camera.radar_view", view)):
            if asked and not both:
                raise ConfigError(
                    f"{name}: {self.name} needs cameras and radars for it; set it to null, or "
                    "give the detector both branches"
                )

    @property
    def branches(self) -> tuple[Branch, ...]:
        """What it has, in the order in which maps enter the fuser."""
        given: dict[Branch, object] = {
            "camera": self.camera,
            "radar": self.radar,
            "lidar": self.lidar,
        }
        return tuple(name for name, config in given.items() if config is not None)

    @property
    def vehicles(self) -> tuple[str, ...]:
        """Those of its classes whose boxes are the second head's vehicles; () = no such head."""
        named = () if self.segments is None else self.segments.vehicles
        return tuple(name for name in self.classes if name in named)

    @property
    def segment_classes(self) -> tuple[str, ...]:
        """What its second head tells apart; () = it has none."""
        return () if self.segments is None else self.segments.classes

    @property
    def sensors(self) -> tuple[str, ...]:
        """Names of the sensors that it can read."""
        return tuple(sensor for branch in self.branches for sensor in SENSORS[branch])

    @property
    def radar_sweeps(self) -> int:
        """Sweeps per radar that its Frames need; 0 = no radar."""
        return 0 if self.radar is None else self.radar.sweeps

    @property
    def lidar_sweeps(self) -> int:
        """LiDAR sweeps that its Frames need; 0 = no LiDAR."""
        return 0 if self.lidar is None else self.lidar.sweeps


def _check_pose(pose: tuple[tuple[float, ...], ...]) -> None:
    """Refuse what does not turn and move the grid, and nothing else."""
    check_count("ego_T_grid", pose, 4, 4)
    for row in pose:
        check_count("ego_T_grid: row", row, 4, 4)
    check_range("ego_T_grid", pose, -10_000, 10_000)
    turn = [row[:3] for row in pose[:3]]
    for i, one in enumerate(turn):
        for j, other in enumerate(turn):
            product = sum(a * b for a, b in zip(one, other, strict=True))
            if abs(product - (i == j)) > 1e-3:
                raise ConfigError(f"ego_T_grid: expected a rotation and a shift, got {pose}")
    if pose[3] != (0.0, 0.0, 0.0, 1.0):
        raise ConfigError(f"ego_T_grid: expected a last row of 0, 0, 0, 1, got {pose[3]}")
