"""What the weights of a detector depend on; it travels inside the checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crkd_core.config.blocks import (
    VEHICLE,
    AttentionConfig,
    GuideConfig,
    SegmentsConfig,
    TemporalConfig,
)
from crkd_core.config.branches import (
    CameraConfig,
    GridConfig,
    ImageConfig,
    LidarConfig,
    RadarConfig,
)
from crkd_core.config.checks import (
    MOST_CHANNELS,
    ConfigError,
    check_count,
    check_odd,
    check_range,
    check_rising,
)
from crkd_core.sensors import CAMERAS, LIDAR, RADARS

Branch = Literal["camera", "radar", "lidar"]

#: The sensors that each branch reads.
SENSORS: dict[Branch, tuple[str, ...]] = {"camera": CAMERAS, "radar": RADARS, "lidar": (LIDAR,)}


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """BEV decoder: residual groups and the feature pyramid above them (docs/method.md 1.6)."""

    channels: tuple[int, ...] = (128, 256, 512)
    strides: tuple[int, ...] = (2, 2, 1)
    blocks: int = 2
    out_channels: int = 256

    def __post_init__(self) -> None:
        check_count("decoder.channels", self.channels, 1, 16)
        check_range("decoder.channels", self.channels, 1, MOST_CHANNELS)
        check_count("decoder.strides", self.strides, len(self.channels), len(self.channels))
        check_range("decoder.strides", self.strides, 1, 16)
        check_range("decoder.blocks", self.blocks, 1, 64)
        check_range("decoder.out_channels", self.out_channels, 1, MOST_CHANNELS)


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
        check_range("head.shared_channels", self.shared_channels, 1, MOST_CHANNELS)
        check_range("head.branch_channels", self.branch_channels, 1, MOST_CHANNELS)
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
    #: Fused maps of earlier moments are used too; None = the present alone. Not with LiDAR.
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
        if not self.name.strip():
            raise ConfigError(f"name: expected what the detector is called, got {self.name!r}")
        check_odd("gate_kernel", self.gate_kernel)
        check_range("fused_channels", self.fused_channels, 1, MOST_CHANNELS)
        check_range("norm_momentum", self.norm_momentum, 0, 1)
        check_count("classes", self.classes, 1, 1000)
        _check_pose(self.ego_T_grid)
        _check_classes(self)
        _check_segments(self)
        _check_branches(self)
        _check_lift(self)

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


def _check_classes(config: DetectorConfig) -> None:
    """Every class is in one task of the head, once."""
    tasks = [name for task in config.head.tasks for name in task.classes]
    problems = [f"unknown {name}" for name in tasks if name not in config.classes]
    problems += [f"no task for {name}" for name in config.classes if name not in tasks]
    for names in (tasks, config.classes):
        problems += [f"{name} twice" for name in set(names) if names.count(name) > 1]
    if problems:
        raise ConfigError(
            f"{config.name}: head.tasks must hold each of classes once: {', '.join(problems)}; "
            "set both together"
        )


def _check_segments(config: DetectorConfig) -> None:
    """A second head that tells vehicles apart knows a class of them."""
    if config.segments and VEHICLE in config.segment_classes and not config.vehicles:
        raise ConfigError(
            f"segments: {config.name} knows none of segments.vehicles, "
            f"{', '.join(config.segments.vehicles)}; name those of its classes that are vehicles: "
            f"{', '.join(config.classes)}"
        )


def _check_branches(config: DetectorConfig) -> None:
    """There is a branch, and the blocks beside the branches go with them."""
    if not config.branches:
        raise ConfigError(
            f"detector {config.name}: camera, radar and lidar are all null, and it needs one of "
            "them; for example --set 'detector.radar={}' makes a radar branch of defaults"
        )
    both = config.camera is not None and config.radar is not None
    view = config.camera is not None and config.camera.radar_view is not None
    for name, asked in (("guide", config.guide is not None), ("camera.radar_view", view)):
        if asked and not both:
            raise ConfigError(
                f"{name}: {config.name} needs cameras and radars for it; set it to null, or "
                "give the detector both branches"
            )
    if config.temporal is not None and config.lidar is not None:
        raise ConfigError(
            f"temporal: {config.name} reads LiDAR, and earlier moments of a Frame hold none; "
            "set detector.temporal to null, or take a detector without a LiDAR branch"
        )


def _check_lift(config: DetectorConfig) -> None:
    """The lift reads what is there, and is one lift."""
    camera = config.camera
    if camera is None:
        return
    if camera.lidar_depth and config.lidar is None:
        raise ConfigError(
            "camera.lidar_depth reads LiDAR, and there is no LiDAR branch; set lidar too"
        )
    if camera.lift_cell is not None and not camera.lidar_depth:
        raise ConfigError("camera.lift_cell is for the LiDAR-assisted lift; set lidar_depth too")
    if camera.lidar_depth and camera.radar_view is not None:
        raise ConfigError(
            "camera.lidar_depth and camera.radar_view are two lifts; set one of them to false or "
            "null"
        )


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
