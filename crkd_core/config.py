"""Configuration: nested, frozen dataclasses. A field name is the YAML key and the ROS parameter.

Facts tied to weights (DetectorConfig) travel inside the checkpoint; how a run was trained
(TrainConfig) is written beside it; what a user may turn (thresholds, device, precision) is in
neither. Presets are functions in presets.py.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import json
import math
import types
import typing
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from crkd_core.boxes import CLASS_NAMES

T = TypeVar("T")


class ConfigError(ValueError):
    """A key or a value that the configuration does not know."""


def _check_least(name: str, value: float, least: float) -> None:
    if not least <= value < math.inf:
        raise ConfigError(f"{name}: expected {least:g} or more, got {value}")


def _check_share(name: str, value: float) -> None:
    if not 0 <= value <= 1:
        raise ConfigError(f"{name}: expected 0 to 1, got {value}")


def _check_sensors(name: str, sensors: tuple[str, ...]) -> None:
    # frame.py needs ImageConfig.
    from crkd_core.frame import CAMERAS, RADARS

    unknown = [sensor for sensor in sensors if sensor not in CAMERAS + RADARS]
    if unknown:
        known = ", ".join(CAMERAS + RADARS)
        raise ConfigError(f"{name}: unknown {', '.join(unknown)}; known: {known}")


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """The BEV grid, in the grid frame (identity with ego for our own models). Metres.

    Cell (i, j) covers x in low[0] + cell * [i, i + 1), y likewise. BEV tensors are [B, C, X, Y].
    """

    low: tuple[float, float, float] = (-51.2, -51.2, -5.0)
    high: tuple[float, float, float] = (51.2, 51.2, 3.0)
    cell: float = 0.8

    @property
    def shape(self) -> tuple[int, int]:
        """Cells along x and y."""
        x, y = (round((self.high[i] - self.low[i]) / self.cell) for i in (0, 1))
        return x, y


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """How a recorded image becomes a network input.

    The image is resized so that its width is ``zoom * width``; the crop of height x width keeps
    the bottom rows and the middle columns. ``mean`` and ``std`` are of RGB in [0, 1].
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


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """An image backbone of transformers, made from configuration.

    ``kind`` "resnet": stem ``embedding`` channels, stages ``hidden`` wide and ``depths`` deep.
    ``kind`` "swin": ``embedding`` is the width of the first stage, ``heads`` per stage.
    ``weights`` is a local folder to start training from; None = random.
    """

    kind: Literal["resnet", "swin"] = "resnet"
    embedding: int = 64
    hidden: tuple[int, ...] = (256, 512, 1024, 2048)
    depths: tuple[int, ...] = (3, 4, 6, 3)
    layer: Literal["basic", "bottleneck"] = "bottleneck"
    heads: tuple[int, ...] = ()
    weights: str | None = None


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


@dataclass(frozen=True, kw_only=True)
class LidarConfig:
    """LiDAR branch of a teacher, in the place of the radar branch (docs/method.md 1.3).

    ``kind`` "sparse": sparse 3D convolutions on small voxels; ``channels`` are the stages'
    widths. ``kind`` "pillars": a point network and a maximum per BEV cell; ``channels`` are its
    layers' widths.
    """

    kind: Literal["sparse", "pillars"] = "sparse"
    #: The key sweep and those before it.
    sweeps: int = 10
    #: Voxel edges, metres. Pillars: points are first averaged per voxel; it divides the BEV cell.
    voxel: tuple[float, float, float] = (0.075, 0.075, 0.2)
    #: Points averaged per voxel, and voxels kept per sample in training and in evaluation; the
    #: first ones in the order of the cloud.
    max_points: int = 10
    max_voxels: tuple[int, int] = (120_000, 160_000)
    channels: tuple[int, ...] = (16, 32, 64, 128)
    #: Sparse: residual blocks per stage.
    blocks: int = 2


@dataclass(frozen=True, kw_only=True)
class DecoderConfig:
    """BEV decoder: residual groups and the feature pyramid above them (docs/method.md 1.6)."""

    channels: tuple[int, ...] = (128, 256, 512)
    strides: tuple[int, ...] = (2, 2, 1)
    blocks: int = 2
    out_channels: int = 256


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
        unknown = set(self.classes) - set(CLASS_NAMES)
        if unknown:
            raise ConfigError(
                f"unknown classes {sorted(unknown)}; known: {', '.join(CLASS_NAMES)}"
            )


#: The six tasks of CRKD and BEVFusion with CenterHead (docs/method.md 1.6).
SIX_TASKS = (
    TaskConfig(classes=("car",), nms="circle", nms_threshold=2.0),
    TaskConfig(classes=("truck", "construction_vehicle")),
    TaskConfig(classes=("bus", "trailer")),
    TaskConfig(classes=("barrier",), nms="circle", nms_threshold=1.0),
    TaskConfig(classes=("motorcycle", "bicycle")),
    TaskConfig(classes=("pedestrian", "traffic_cone"), nms_scale=(2.5, 4.0)),
)


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """CenterHead: branches, target assignment, loss weights, decode."""

    tasks: tuple[TaskConfig, ...] = SIX_TASKS
    shared_channels: int = 64
    branch_channels: int = 64
    #: One hidden convolution per task for its five regression branches, not one per branch.
    joint_regression: bool = False
    #: Side of the output convolutions' kernels.
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


#: A pose that changes nothing.
IDENTITY = (
    (1.0, 0.0, 0.0, 0.0),
    (0.0, 1.0, 0.0, 0.0),
    (0.0, 0.0, 1.0, 0.0),
    (0.0, 0.0, 0.0, 1.0),
)


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """A camera-radar or LiDAR-camera detector: everything that its weights depend on."""

    name: str
    grid: GridConfig = GridConfig()
    image: ImageConfig = ImageConfig()
    camera: CameraConfig = CameraConfig()
    radar: RadarConfig = RadarConfig()
    #: A LiDAR-camera teacher; None = camera and radar.
    lidar: LidarConfig | None = None
    #: "gated" as in CRKD, or "conv": one convolution, the non-gated baseline (docs/method.md 1.5).
    fuser: Literal["gated", "conv"] = "gated"
    fused_channels: int = 256
    decoder: DecoderConfig = DecoderConfig()
    head: HeadConfig = HeadConfig()
    #: Pose [4, 4] of the grid frame in ego. Identity for our own models; imported weights work in
    #: the nuScenes LIDAR_TOP frame. Batches hold the grid frame, decode answers in ego.
    ego_T_grid: tuple[tuple[float, ...], ...] = IDENTITY
    #: Share of a new batch in the running statistics of every BatchNorm.
    norm_momentum: float = 0.1
    classes: tuple[str, ...] = CLASS_NAMES

    @property
    def lidar_sweeps(self) -> int:
        """LiDAR sweeps that its Frames need; 0 = no LiDAR."""
        return 0 if self.lidar is None else self.lidar.sweeps


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Training augmentation; see data/augment.py. Angles in degrees, distances in metres."""

    image_zoom: tuple[float, float] = (0.38 * 1600 / 704, 0.55 * 1600 / 704)
    image_flip: float = 0.5
    image_rotation: float = 5.4
    bev_scale: tuple[float, float] = (0.9, 1.1)
    bev_rotation: float = 0.0
    bev_flip: float = 0.5
    #: Probability that a camera, a radar, all cameras or all radars are masked in a sample.
    drop_camera: float = 0.0
    drop_radar: float = 0.0
    drop_all_cameras: float = 0.0
    drop_all_radars: float = 0.0

    def __post_init__(self) -> None:
        for name in ("image_flip", "bev_flip"):
            _check_share(f"augment.{name}", getattr(self, name))
        for name in ("drop_camera", "drop_radar", "drop_all_cameras", "drop_all_radars"):
            _check_share(f"augment.{name}", getattr(self, name))
        for name in ("image_zoom", "bev_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ConfigError(
                    f"augment.{name}: expected 0 < low <= high, got {low} and {high}"
                )
        _check_least("augment.image_rotation", self.image_rotation, 0)
        _check_least("augment.bev_rotation", self.bev_rotation, 0)


#: The distillation losses of CRKD, by the names that configuration, log and command line use.
CRKD_LOSSES = ("csrd", "msfd_fused", "msfd_camera", "reld", "respd")


@dataclass(frozen=True, kw_only=True)
class EnlargeConfig:
    """How MSFD enlarges boxes before it makes its foreground mask (docs/method.md 1.7).

    A side grows by its share of ``share`` for range and again for speed along that side: the first
    share between the two thresholds, the second from the upper one on. The growth of a side, in
    metres, is then kept within ``growth``.
    """

    range: tuple[float, float] = (20.0, 30.0)
    speed: tuple[float, float] = (0.3, 0.8)
    share: tuple[float, float] = (0.25, 0.5)
    growth: tuple[float, float] = (0.5, 4.0)


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """Distillation by CRKD: which losses, their weights and forms; see distill/crkd.py.

    The weights of MSFD and RelD are batch-independent: 2.5 is the published 10 at two samples per
    GPU on half the squared error. RelD with ``raw`` affinities is as published at 0.125.
    """

    #: Weights file of the teacher, the checksum of its tensors, and the sensors that it may see
    #: (cameras and radars; () = all, LiDAR always).
    teacher: str
    teacher_checksum: str
    teacher_sensors: tuple[str, ...] = ()
    #: Weights file that the student starts from; None = random.
    student: str | None = None
    losses: tuple[str, ...] = CRKD_LOSSES
    csrd_weight: float = 100.0
    msfd_fused_weight: float = 2.5
    msfd_camera_weight: float = 2.5
    reld_weight: float = 1.0
    respd_weight: float = 1.0
    #: "paper": mean over classes of probabilities; "code": sigmoid of the mean logit of each task.
    csrd_target: Literal["paper", "code"] = "paper"
    enlarge: EnlargeConfig = EnlargeConfig()
    reld_affinity: Literal["cosine", "raw"] = "cosine"
    reld_scales: tuple[int, ...] = (32, 16, 8, 4)
    reld_adapter: bool = True
    #: Weight of every class in RespD, in the order of CLASS_NAMES. Published: 1 for the tasks of
    #: barriers and of pedestrians with cones, else 2. The paper's rule is 2 for all that moves.
    respd_class_weights: tuple[float, ...] = (2.0, 2.0, 2.0, 2.0, 2.0, 1.0, 2.0, 2.0, 1.0, 1.0)
    #: Folder for what the teacher said, and how large it may grow; None = always ask the teacher.
    cache: str | None = None
    cache_gigabytes: float = 20.0

    def __post_init__(self) -> None:
        _check_sensors("distill.teacher_sensors", self.teacher_sensors)
        unknown = sorted(set(self.losses) - set(CRKD_LOSSES))
        if unknown:
            raise ConfigError(
                f"distill.losses: unknown {', '.join(unknown)}; known: {', '.join(CRKD_LOSSES)}"
            )
        if len(self.respd_class_weights) != len(CLASS_NAMES):
            raise ConfigError(
                f"distill.respd_class_weights: expected {len(CLASS_NAMES)} values "
                f"({', '.join(CLASS_NAMES)}), got {len(self.respd_class_weights)}"
            )


@dataclass(frozen=True, kw_only=True)
class PasteConfig:
    """Truth boxes of other frames in a teacher's LiDAR; data/paste.py, docs/method.md 1.8."""

    #: Boxes per frame that a class is filled up to, in the order of CLASS_NAMES, as published.
    counts: tuple[int, ...] = (2, 3, 4, 6, 7, 2, 6, 6, 2, 2)
    #: Boxes with fewer LiDAR points are not pasted.
    min_points: int = 5
    #: From this step on nothing is pasted; None = to the end. Published: three quarters.
    stop_step: int | None = None

    def __post_init__(self) -> None:
        if len(self.counts) != len(CLASS_NAMES):
            raise ConfigError(
                f"paste.counts: expected {len(CLASS_NAMES)} numbers ({', '.join(CLASS_NAMES)}), "
                f"got {len(self.counts)}"
            )


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """One training run."""

    detector: DetectorConfig
    augment: AugmentConfig | None = AugmentConfig()
    steps: int = 10_000
    batch_size: int = 2
    learning_rate: float = 2e-4
    weight_decay: float = 0.01
    warmup_steps: int = 500
    #: Learning rate at the end of the cosine, as a share of learning_rate.
    final_rate: float = 1e-3
    clip_norm: float = 35.0
    #: Weight of the depth loss from LiDAR returns; 0 = none, as published.
    depth_weight: float = 0.0
    #: Of the network's forward pass; "fp16" is for CUDA.
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    #: A step adds up the gradients of so many batches of ``batch_size`` samples per process.
    accumulate: int = 1
    #: What BatchNorm sees in training. "batch": the samples that one process computes at once.
    #: "synchronised": those of all processes. "frozen": none, the running statistics stay.
    norms: Literal["batch", "synchronised", "frozen"] = "batch"
    #: Decay per step of the averaged weights, which are then what is kept; 0 = no average.
    average: float = 0.0
    #: Frames are repeated so that every class comes equally often (CBGS).
    balanced: bool = False
    #: Truth boxes of other frames in the LiDAR; None = none.
    paste: PasteConfig | None = None
    seed: int = 0
    workers: int = 1
    checkpoint_steps: int = 500
    log_steps: int = 10
    #: Sensors that the run may see; () = all. Camera-only and radar-only students are set here.
    sensors: tuple[str, ...] = field(default=())
    #: What is learned from a teacher beside the truth; None = a plain training.
    distill: DistillConfig | None = None
    #: Write the log for TensorBoard too.
    tensorboard: bool = False

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "checkpoint_steps", "log_steps"):
            _check_least(name, getattr(self, name), 1)
        for name in ("warmup_steps", "workers", "seed", "weight_decay", "depth_weight"):
            _check_least(name, getattr(self, name), 0)
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name}: expected a number above 0, got {value}")
        _check_share("final_rate", self.final_rate)
        _check_sensors("sensors", self.sensors)
        if not 0 <= self.average < 1:
            raise ConfigError(f"average: expected a decay in [0, 1), got {self.average}")
        if self.paste is not None and self.detector.lidar is None:
            raise ConfigError(
                f"paste: {self.detector.name} reads no LiDAR, and a pasted box would have neither "
                "camera nor radar evidence; leave paste out, or train a LiDAR-camera teacher"
            )
        if self.paste is not None and self.depth_weight:
            raise ConfigError(
                "paste: pasted LiDAR points would be wrong depths for the cameras; set "
                "depth_weight to 0, or leave paste out"
            )


def to_dict(config: Any) -> dict[str, Any]:
    """A configuration as plain JSON-able data."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def from_dict(cls: type[T], data: dict[str, Any], *, where: str = "") -> T:
    """The dataclass ``cls`` from plain data; absent keys take their defaults.

    Raises:
        ConfigError: an unknown key (with the nearest known one), a missing key, or a value whose
            type does not fit, each with its dotted path.
    """
    if not isinstance(data, dict):
        name = where.rstrip(".") or cls.__name__
        raise ConfigError(f"{name}: expected a mapping, got {data!r}")
    hints = typing.get_type_hints(cls)
    known = [f.name for f in dataclasses.fields(cls)]  # type: ignore[arg-type]
    for key in data:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(f"unknown key {where + str(key)!r}; {hint}")
    values = {key: _convert(hints[key], value, where + key) for key, value in data.items()}
    try:
        return cls(**values)
    except TypeError as error:
        raise ConfigError(f"{where.rstrip('.') or cls.__name__}: {error}") from error


def _convert(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where=where + ".")  # type: ignore
    if origin is Literal:
        if value not in args:
            raise ConfigError(
                f"{where}: expected one of {', '.join(map(repr, args))}, got {value!r}"
            )
        return value
    if origin in (types.UnionType, typing.Union):
        if value is None and type(None) in args:
            return None
        return _convert(next(a for a in args if a is not type(None)), value, where)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise ConfigError(f"{where}: expected a list, got {value!r}")
        inner = [args[0]] * len(value) if args[-1] is Ellipsis else list(args)
        if len(inner) != len(value):
            raise ConfigError(f"{where}: expected {len(inner)} values, got {len(value)}")
        return tuple(
            _convert(h, v, f"{where}[{i}]")
            for i, (h, v) in enumerate(zip(inner, value, strict=True))
        )
    if hint is float and isinstance(value, str):
        # YAML reads 1e-3 as a text: it wants 1.0e-3.
        with contextlib.suppress(ValueError):
            return float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and (
        not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool)
    ):
        raise ConfigError(f"{where}: expected {hint.__name__}, got {value!r}")
    return value
