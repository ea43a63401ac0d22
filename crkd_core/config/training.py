"""How a detector is trained; written beside the weights of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from crkd_core.config.checks import (
    ConfigError,
    check_least,
    check_per_class,
    check_range,
    check_sensors,
    check_share,
)
from crkd_core.config.detector import DetectorConfig
from crkd_core.config.distill import CrkdConfig, DistillConfig
from crkd_core.config.imkd import ImkdConfig
from crkd_core.sensors import CAMERAS, RADARS

#: Number format of a network.
Precision = Literal["fp32", "bf16", "fp16"]

#: The largest seed that PyTorch takes.
_SEEDS = 2**64 - 1

#: What computes a detector's network: PyTorch, PyTorch's kernels recorded on a GPU, a program of
#: torch.export, or a reader of ONNX.
Engine = Literal["torch", "cuda_graph", "export", "onnxruntime", "openvino"]


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """Training augmentation; see data/augment.py. Angles in degrees, distances in metres."""

    image_zoom: tuple[float, float] = (0.38 * 1600 / 704, 0.55 * 1600 / 704)
    image_flip: float = 0.5
    image_rotation: float = 5.4
    bev_scale: tuple[float, float] = (0.9, 1.1)
    bev_rotation: float = 0.0
    bev_flip: float = 0.5
    #: Which axes are mirrored, each by itself; "y" for a grid that shows only what lies ahead.
    bev_mirror: Literal["xy", "y"] = "xy"
    #: Probability that a camera, a radar, all cameras or all radars are masked in a sample.
    drop_camera: float = 0.0
    drop_radar: float = 0.0
    drop_all_cameras: float = 0.0
    drop_all_radars: float = 0.0

    def __post_init__(self) -> None:
        for name in ("image_flip", "bev_flip"):
            check_share(f"augment.{name}", getattr(self, name))
        for name in ("drop_camera", "drop_radar", "drop_all_cameras", "drop_all_radars"):
            check_share(f"augment.{name}", getattr(self, name))
        both = self.drop_all_cameras + self.drop_all_radars
        if both > 1 + 1e-9:
            # A sample keeps one of both kinds.
            raise ConfigError(
                "augment.drop_all_cameras and augment.drop_all_radars: expected a sum of at most "
                f"1, got {both:g}"
            )
        for name in ("image_zoom", "bev_scale"):
            low, high = getattr(self, name)
            if not 0 < low <= high < math.inf:
                raise ConfigError(
                    f"augment.{name}: expected 0 < low <= high, got {low} and {high}"
                )
        # Beyond, an image has hardly a pixel, or more than memory holds.
        check_range("augment.image_zoom", self.image_zoom, 0.05, 20)
        check_range("augment.image_rotation", self.image_rotation, 0, 180)
        check_range("augment.bev_rotation", self.bev_rotation, 0, 180)


@dataclass(frozen=True, kw_only=True)
class PasteConfig:
    """Truth boxes of other frames in a teacher's LiDAR; data/paste.py, docs/method.md 1.8."""

    #: Boxes per frame that a class is filled up to, in the order of detector.classes.
    counts: tuple[int, ...]
    #: Boxes with fewer LiDAR points are not pasted.
    min_points: int = 5
    #: From this step on nothing is pasted; None = to the end. Published: three quarters.
    stop_step: int | None = None

    def __post_init__(self) -> None:
        check_range("paste.counts", self.counts, 0, 1000)
        check_range("paste.min_points", self.min_points, 1, 1_000_000)
        check_range("paste.stop_step", self.stop_step, 0, 10**12)


@dataclass(frozen=True, kw_only=True)
class UnlabelledConfig:
    """Drives whose boxes nobody drew (docs/method.md 1.7).

    The losses of the teachers speak about them, or a detector's boxes do, or both.
    """

    #: Root of a nuScenes or View-of-Delft data set and a split; its boxes are not read.
    data: str
    split: str
    #: Of all samples, how many are of these drives.
    share: float = 0.5
    #: A nuScenes results JSON with a detector's boxes for these drives, which are learned like
    #: drawn ones where they have this score at least; None = there are none. Of a teacher with
    #: LiDAR 0.35 made the best of precision and recall together.
    pseudo_labels: str | None = None
    pseudo_score: float = 0.35

    def __post_init__(self) -> None:
        check_share("unlabelled.pseudo_score", self.pseudo_score)
        if self.pseudo_labels is None and self.pseudo_score != UnlabelledConfig.pseudo_score:
            raise ConfigError("unlabelled.pseudo_score: give --pseudo-labels too, or leave it out")
        if not 0 < self.share < 1:
            raise ConfigError(
                f"unlabelled.share: expected a share between 0 and 1, got {self.share}; leave "
                "unlabelled out to train on labelled drives alone"
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
    #: Between these shares of its steps a network learns boxes and depths, and hardly any
    #: heatmaps, whose gradient drowns that of speeds and headings (decisions/0038). Equal: never.
    boxes_alone: tuple[float, float] = (0.0, 0.0)
    #: Of the network's forward pass; "fp16" is for CUDA.
    precision: Precision = "fp32"
    #: A step adds up the gradients of so many batches of ``batch_size`` samples per process.
    accumulate: int = 1
    #: What BatchNorm sees in training. "batch": the samples that one process computes at once.
    #: "synchronised": those of all processes. "frozen": none, the running statistics stay; but
    #: what is trained along and thrown away, which starts from nothing, then sees its "batch".
    norms: Literal["batch", "synchronised", "frozen"] = "batch"
    #: Decay per step of the averaged weights, which are then what is kept; 0 = no average.
    average: float = 0.0
    #: Frames are repeated so that every class comes equally often (CBGS).
    balanced: bool = False
    #: Truth boxes of other frames in the LiDAR; None = none.
    paste: PasteConfig | None = None
    seed: int = 0
    #: Processes that read samples beside the one that computes; 0 = that one reads too.
    workers: int = 1
    #: So much of the samples as recorded stays in the memory of each process that reads; 0 = they
    #: are read anew each time they come.
    keep_gigabytes: float = 0.0
    #: Or they are kept in this folder, as files that all processes and runs of a machine map: in
    #: memory once, if it is a RAM disk. Remove it when the sensors' files change. None = not.
    keep_folder: str | None = None
    checkpoint_steps: int = 500
    log_steps: int = 10
    #: Every so many steps the gradient of each further loss is compared with that of the detection
    #: loss, which costs a backward pass a loss; 0 = never.
    gradient_steps: int = 200
    #: Cameras and radars that the run may see; () = all that the detector has branches for. A
    #: sensor that is not seen is a mask: its branch stays, and sees nothing.
    sensors: tuple[str, ...] = field(default=())
    #: Weights file that the network starts from; None = random, or the backbone's own.
    start: str | None = None
    #: Weights file of any detector with cameras, whose image branch (backbone and neck) this one
    #: starts from; the rest is as without it.
    start_image: str | None = None
    #: What is learned from a teacher beside the truth, by CRKD, by IMKD, or by both; None =
    #: nothing.
    crkd: CrkdConfig | None = None
    imkd: ImkdConfig | None = None
    #: Drives without boxes, for the losses of the teachers or with a detector's; None = none.
    unlabelled: UnlabelledConfig | None = None
    #: Write the log for TensorBoard too.
    tensorboard: bool = False

    @property
    def distillations(self) -> tuple[DistillConfig, ...]:
        """The methods of distillation that are on; () = a plain training."""
        return tuple(method for method in (self.crkd, self.imkd) if method is not None)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "accumulate", "checkpoint_steps", "log_steps"):
            check_least(name, getattr(self, name), 1)
        for name in ("warmup_steps", "workers", "weight_decay", "depth_weight"):
            check_least(name, getattr(self, name), 0)
        check_range("seed", self.seed, 0, _SEEDS)
        for name in ("gradient_steps", "keep_gigabytes"):
            check_least(name, getattr(self, name), 0)
        for name in ("learning_rate", "clip_norm"):
            value = getattr(self, name)
            if not 0 < value < math.inf:
                raise ConfigError(f"{name}: expected a number above 0, got {value}")
        check_share("final_rate", self.final_rate)
        check_range("boxes_alone", self.boxes_alone, 0, 1)
        if self.boxes_alone[0] > self.boxes_alone[1]:
            raise ConfigError(
                f"boxes_alone: expected a share and a later one, got {self.boxes_alone}"
            )
        if not 0 <= self.average < 1:
            raise ConfigError(f"average: expected a decay in [0, 1), got {self.average}")
        _check_classes(self)
        _check_sensors(self)
        _check_depths(self)
        _check_start(self)
        _check_paste(self)
        _check_samples(self)

    @property
    def seen(self) -> tuple[str, ...]:
        """Names of the sensors that the detector reads and the run may see."""
        masked = {*CAMERAS, *RADARS} - {*self.sensors} if self.sensors else ()
        return tuple(name for name in self.detector.sensors if name not in masked)


def _check_classes(config: TrainConfig) -> None:
    """Numbers per class are as many as the detector's classes."""
    classes = config.detector.classes
    if config.paste is not None:
        check_per_class("paste.counts", config.paste.counts, classes)
    if config.crkd is not None and config.crkd.respd_class_weights:
        check_per_class("crkd.respd_class_weights", config.crkd.respd_class_weights, classes)


def _check_sensors(config: TrainConfig) -> None:
    """The run sees a sensor that the detector reads."""
    check_sensors("sensors", config.sensors)
    if not config.seen:
        raise ConfigError(
            f"sensors: {config.detector.name} reads none of {', '.join(config.sensors)}; it has "
            f"branches for {', '.join(config.detector.branches)}"
        )


def _check_depths(config: TrainConfig) -> None:
    """Depths are those of cameras."""
    if config.depth_weight and config.detector.camera is None:
        raise ConfigError(
            f"depth_weight: {config.detector.name} has no cameras whose depth it could learn; "
            "set depth_weight to 0"
        )


def _check_start(config: TrainConfig) -> None:
    """An image branch starts from one file."""
    if config.start_image is None:
        return
    camera = config.detector.camera
    if camera is None:
        raise ConfigError(
            f"start_image: {config.detector.name} has no cameras; leave start_image out"
        )
    if camera.backbone.weights:
        raise ConfigError(
            "start_image: detector.camera.backbone.weights already says what the image branch "
            "starts from; give only one"
        )
    if config.start is not None:
        raise ConfigError("start_image: start already brings an image branch; give one of both")


def _check_paste(config: TrainConfig) -> None:
    """Boxes are pasted into LiDAR that is read, from which no depths are learned, untaught."""
    if config.paste is None:
        return
    if config.detector.lidar is None:
        raise ConfigError(
            f"paste: {config.detector.name} reads no LiDAR, and a pasted box would have neither "
            "camera nor radar evidence; leave paste out, or train a detector with LiDAR"
        )
    if config.distillations:
        raise ConfigError(
            "paste: a distilled student and its teachers see recorded drives alone; leave paste "
            "out"
        )
    if config.depth_weight:
        raise ConfigError(
            "paste: pasted LiDAR points would be wrong depths for the cameras; set "
            "depth_weight to 0, or leave paste out"
        )


def _check_samples(config: TrainConfig) -> None:
    """Samples are kept in one way, and something is learned from each."""
    if config.keep_folder is not None and config.keep_gigabytes:
        raise ConfigError("keep_folder: keep_gigabytes keeps samples too; give one of both")
    drives = config.unlabelled
    if drives is not None and drives.pseudo_labels is None and not config.distillations:
        raise ConfigError(
            "unlabelled: a plain training learns nothing from drives without boxes; distil, "
            "give them the boxes of a detector by --pseudo-labels, or leave unlabelled out"
        )
