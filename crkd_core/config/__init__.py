"""Configuration: nested, frozen dataclasses. A field name is the YAML key and the ROS parameter.

Facts tied to weights (DetectorConfig) travel inside the checkpoint; how a run was trained
(TrainConfig) is written beside it; what a user may turn (thresholds, device, precision) is in
neither. The defaults of a detector are the numbers of ``crkd_r50``, and of ``lc_r50`` or
``imkd_r50`` for parts that it does not have; presets/ are functions, which say what differs.
"""

from crkd_core.config.blocks import (
    DRIVABLE,
    VEHICLE,
    AttentionConfig,
    GuideConfig,
    RadarViewConfig,
    SegmentsConfig,
    TemporalConfig,
)
from crkd_core.config.branches import (
    BackboneConfig,
    CameraConfig,
    GridConfig,
    ImageConfig,
    LidarConfig,
    RadarConfig,
)
from crkd_core.config.checks import ConfigError, check_classes, check_per_class
from crkd_core.config.detector import (
    IDENTITY,
    SENSORS,
    Branch,
    DecoderConfig,
    DetectorConfig,
    HeadConfig,
    TaskConfig,
)
from crkd_core.config.distill import (
    CRKD_LOSSES,
    PUBLISHED,
    PUBLISHED_LOSSES,
    RESPD_CHANNELS,
    CrkdConfig,
    DistillConfig,
    EnlargeConfig,
    RayConfig,
    loss_weights,
)
from crkd_core.config.imkd import (
    IMKD_LOSSES,
    LABEL_ENCODER,
    CellWeightConfig,
    ImkdConfig,
    Intensity,
)
from crkd_core.config.plain import from_dict, to_dict
from crkd_core.config.stored import FORMAT, TRAINING_FORMAT, upgraded, upgraded_training
from crkd_core.config.training import (
    AugmentConfig,
    Engine,
    PasteConfig,
    Precision,
    TrainConfig,
    UnlabelledConfig,
)

__all__ = [
    "CRKD_LOSSES",
    "DRIVABLE",
    "FORMAT",
    "IDENTITY",
    "IMKD_LOSSES",
    "LABEL_ENCODER",
    "PUBLISHED",
    "PUBLISHED_LOSSES",
    "RESPD_CHANNELS",
    "SENSORS",
    "TRAINING_FORMAT",
    "VEHICLE",
    "AttentionConfig",
    "AugmentConfig",
    "BackboneConfig",
    "Branch",
    "CameraConfig",
    "CellWeightConfig",
    "ConfigError",
    "CrkdConfig",
    "DecoderConfig",
    "DetectorConfig",
    "DistillConfig",
    "Engine",
    "EnlargeConfig",
    "GridConfig",
    "GuideConfig",
    "HeadConfig",
    "ImageConfig",
    "ImkdConfig",
    "Intensity",
    "LidarConfig",
    "PasteConfig",
    "Precision",
    "RadarConfig",
    "RadarViewConfig",
    "RayConfig",
    "SegmentsConfig",
    "TaskConfig",
    "TemporalConfig",
    "TrainConfig",
    "UnlabelledConfig",
    "check_classes",
    "check_per_class",
    "from_dict",
    "loss_weights",
    "to_dict",
    "upgraded",
    "upgraded_training",
]
