"""Blocks that a detector may have beside branches, fuser, decoder and head (docs/method.md 1.10).

They travel with the weights, like everything of DetectorConfig.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from crkd_core.config.checks import MOST_CHANNELS, ConfigError, check_count, check_range
from crkd_core.config.imkd import Intensity

#: What the second head may tell apart.
VEHICLE, DRIVABLE = "vehicle", "drivable_area"


@dataclass(frozen=True, kw_only=True)
class RadarViewConfig:
    """Radar in the image: a map over columns and depths beside the lift (CRN's RVT)."""

    #: Widths of the point network.
    channels: tuple[int, ...] = (32, 64)
    #: Convolutions on the map.
    blocks: int = 4
    #: Channels of the radar's own context, which is lifted too.
    context_channels: int = 80

    def __post_init__(self) -> None:
        check_count("camera.radar_view.channels", self.channels, 1, 16)
        check_range("camera.radar_view.channels", self.channels, 1, MOST_CHANNELS)
        check_range("camera.radar_view.blocks", self.blocks, 1, 64)
        check_range("camera.radar_view.context_channels", self.context_channels, 1, MOST_CHANNELS)


@dataclass(frozen=True, kw_only=True)
class AttentionConfig:
    """Deformable cross-attention over the branches' maps (CRN's MFA)."""

    layers: int = 6
    heads: int = 4
    #: Places that a head looks at in each map.
    points: int = 4
    #: Channels inside the two-layer network that follows each attention.
    hidden: int = 256

    def __post_init__(self) -> None:
        check_range("attention.layers", self.layers, 1, 64)
        check_range("attention.heads", self.heads, 1, 256)
        check_range("attention.points", self.points, 1, 64)
        check_range("attention.hidden", self.hidden, 1, MOST_CHANNELS)


@dataclass(frozen=True, kw_only=True)
class GuideConfig:
    """Fusion that is guided by intensity (IMKD's third stage)."""

    #: Of the radar map: its activation; "reflectance", the echoes' cross section; "density", the
    #: logarithm of their number; or "uniform", the control. The camera map has its activation, or
    #: the control.
    intensity: Intensity = "activation"


@dataclass(frozen=True, kw_only=True)
class SegmentsConfig:
    """The second head: which cells of the grid are vehicle, and which are drivable area."""

    classes: tuple[Literal["vehicle", "drivable_area"], ...] = ("vehicle", "drivable_area")
    #: Hidden channels.
    channels: int = 64
    #: Detection classes whose boxes are vehicles; unknown ones are ignored.
    vehicles: tuple[str, ...] = (
        *("car", "truck", "bus", "trailer", "construction_vehicle"),
        *("motorcycle", "bicycle"),
    )
    #: Of its loss beside the detection loss, and the focal exponent of that.
    weight: float = 5.0
    gamma: float = 2.0

    def __post_init__(self) -> None:
        check_count("segments.classes", self.classes, 1, 2)
        if len({*self.classes}) < len(self.classes):
            raise ConfigError(f"segments.classes: expected each once, got {self.classes}")
        check_range("segments.channels", self.channels, 1, MOST_CHANNELS)
        check_range("segments.weight", self.weight, 0, 1e6)
        check_range("segments.gamma", self.gamma, 0, 10)


@dataclass(frozen=True, kw_only=True)
class TemporalConfig:
    """Fused maps of earlier moments beside the present one."""

    #: How many earlier moments, and the seconds from one to the next.
    frames: int = 3
    interval: float = 1.0
    #: A moment may be off by this share of the interval; otherwise it is missing.
    tolerance: float = 0.3

    def __post_init__(self) -> None:
        check_range("temporal.frames", self.frames, 1, 16)
        check_range("temporal.interval", self.interval, 0.01, 60)
        if not 0 < self.tolerance < 0.5:
            raise ConfigError(
                f"temporal.tolerance: expected a share between 0 and 0.5, got {self.tolerance}"
            )

    @property
    def horizon(self) -> float:
        """Age in seconds of the oldest moment that can be used."""
        return (self.frames + self.tolerance) * self.interval
