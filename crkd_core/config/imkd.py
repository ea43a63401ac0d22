"""What is learned by IMKD: weights of cells, parts of channels, losses (docs/method.md 1.10).

The authors have released no code; distill/imkd.py says what is theirs and what is our choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from crkd_core.config.checks import ConfigError, check_share
from crkd_core.config.distill import (
    MOST_RESPD_BOX,
    RESPD_CHANNELS,
    DistillConfig,
    RayConfig,
    check_losses,
)

#: The losses of IMKD with their default weights: those of features as in LabelDistill, those of
#: responses as CRKD's were at first (decisions/0032). Configuration, log and command line use
#: these names.
IMKD_LOSSES: Mapping[str, float] = {
    "lidar_radar": 0.3,
    "lidar_fused": 0.3,
    "label_fused": 0.3,
    "response_heatmap": 4.0,
    "response_box": 1.0,
}

#: The encoder of labels lies under this name beside the weights of its teacher.
LABEL_ENCODER = "label_encoder.safetensors"

#: What the intensity of a cell is, in [0, 1] per sample: how strong the teacher's features are
#: there, how brightly its LiDAR points shine, the logarithm of their number, or 1 everywhere, the
#: control.
Intensity = Literal["activation", "reflectance", "density", "uniform"]

#: Cells that count: "all"; "gaussians", by the truth's heatmaps; "support", wherever these are not
#: 0; "rays", ellipses of the objects along the cameras' rays; "bright", where the intensity is
#: above its mean.
Cells = Literal["all", "gaussians", "support", "rays", "bright"]


@dataclass(frozen=True, kw_only=True)
class CellWeightConfig:
    """How much a cell counts in a loss of features: its intensity, where ``cells`` counts it."""

    intensity: Intensity = "activation"
    cells: Cells = "all"


@dataclass(frozen=True, kw_only=True)
class ImkdConfig(DistillConfig):
    """Distillation by IMKD; see distill/imkd.py."""

    losses: dict[str, float] = field(default_factory=lambda: dict(IMKD_LOSSES))
    #: The teacher's map that is taught: "fused" is what enters its decoder, "lidar_bev" what its
    #: LiDAR branch gives.
    lidar_map: Literal["fused", "lidar_bev"] = "fused"
    #: Cells of the three losses of features.
    radar: CellWeightConfig = CellWeightConfig()
    fused: CellWeightConfig = CellWeightConfig(cells="gaussians")
    label: CellWeightConfig = CellWeightConfig(intensity="uniform", cells="support")
    rays: RayConfig = RayConfig()
    #: Least factor of a cell of ``lidar_radar``, where the radars see nothing; 1 = they are not
    #: asked. A radar must not be made to see what it cannot.
    evidence: float = 0.2
    #: Of the student's fused channels "thirds" are for the label, for LiDAR, and free; or the
    #: "whole" map is for both, the control.
    partition: Literal["thirds", "whole"] = "thirds"
    #: The teacher's features: "standard", per channel over the cells that count, or "raw".
    scale: Literal["standard", "raw"] = "standard"
    #: What of a box response_box compares; names of RESPD_CHANNELS.
    response_channels: tuple[str, ...] = tuple(RESPD_CHANNELS)
    #: Weights file of the label encoder of this teacher, and the checksum of its tensors; None =
    #: there is none, and label_fused must be off.
    label_encoder: str | None = None
    label_encoder_checksum: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        check_losses("imkd.losses", self.losses, known=IMKD_LOSSES)
        check_share("imkd.evidence", self.evidence)
        if unknown := [name for name in self.response_channels if name not in RESPD_CHANNELS]:
            raise ConfigError(
                f"imkd.response_channels: unknown {', '.join(unknown)}; known: "
                f"{', '.join(RESPD_CHANNELS)}"
            )
        if "response_box" in self.chosen and not self.response_channels:
            raise ConfigError(
                "imkd.response_channels: expected one or more, got none; --losses response_box=0 "
                "leaves the loss out"
            )
        if self.losses.get("response_box", 0) > MOST_RESPD_BOX:
            raise ConfigError(
                f"imkd.losses: expected at most {MOST_RESPD_BOX:g} for response_box, got "
                f"{self.losses['response_box']:g}: beyond it the loss outweighs the truth"
            )
        if self.label.intensity != "uniform":
            raise ConfigError(
                f"imkd.label.intensity: expected uniform, got {self.label.intensity}: features of "
                "labels know no LiDAR; imkd.label.cells chooses where they count"
            )
        for name in ("radar", "fused", "label"):
            own: CellWeightConfig = getattr(self, name)
            # No cell is above the mean of cells that are all alike: the loss would be 0.
            if own.cells == "bright" and own.intensity == "uniform":
                raise ConfigError(
                    f"imkd.{name}.cells: expected all, gaussians, support or rays beside "
                    f"imkd.{name}.intensity=uniform, got bright: where the intensity is 1 "
                    "everywhere no cell is above its mean, and none would count"
                )
