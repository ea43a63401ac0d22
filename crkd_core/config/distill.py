"""What is learned from a teacher: what every method of distillation has, and what each adds.

CRKD's losses have two forms (decisions/0024): as published, and balanced, which are the defaults.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from crkd_core.config.checks import (
    ConfigError,
    check_count,
    check_least,
    check_ordered,
    check_range,
    check_sensors,
)

if TYPE_CHECKING:
    # Launch files read parameter files with these modules, where ROS 2 has it not.
    from typing_extensions import Self

#: The losses of CRKD with the default weights of their balanced forms; configuration, log and
#: command line use these names.
CRKD_LOSSES: Mapping[str, float] = {
    "csrd": 1.0,
    "msfd_fused": 1.0,
    "msfd_camera": 1.0,
    "reld": 2.5,
    "respd_heatmap": 1.0,
    "respd_box": 1.0,
}
#: The weights of their published forms. Those of MSFD and RelD are batch-independent: 2.5 is the
#: published 10 at two samples per GPU on half the squared error. RelD with ``raw`` affinities is
#: as published with 0.125.
PUBLISHED_LOSSES: Mapping[str, float] = {
    "csrd": 100.0,
    "msfd_fused": 2.5,
    "msfd_camera": 2.5,
    "reld": 1.0,
    "respd_heatmap": 1.0,
    "respd_box": 40.0,
}
#: What RespD may compare of a box, and the head's branch of each (model.head.REGRESSION).
RESPD_CHANNELS: Mapping[str, str] = {
    "place": "reg",
    "height": "height",
    "size": "dim",
    "rotation": "rot",
    "velocity": "vel",
}
#: Largest weight of respd_box in its balanced form: beyond it the loss outweighs the truth.
MOST_RESPD_BOX = 2.0
#: Largest map of RelD: of n cells a side it compares n^4 pairs.
MOST_RELD_SCALE = 64


@dataclass(frozen=True, kw_only=True)
class DistillConfig:
    """What every method of distillation has: a teacher, and losses with weights."""

    #: Weights file of the teacher, the checksum of its tensors, and the sensors that it may see
    #: (cameras and radars; () = all, LiDAR always).
    teacher: str
    teacher_checksum: str
    teacher_sensors: tuple[str, ...] = ()
    #: Weight of every loss; one that is not named, or has 0, is off.
    losses: dict[str, float] = field(default_factory=dict)
    #: Folder for what the teacher said, and how large it may grow; None = always ask the teacher.
    cache: str | None = None
    cache_gigabytes: float = 20.0
    #: Steps over which the weights of all losses rise linearly from 0; 0 = full from the start.
    ramp_steps: int = 100
    #: Factor of a teacher's responses in samples without boxes. There nobody else speaks, and at 1
    #: they pull with a tenth to a third of the force that boxes have elsewhere, at 8 with as much.
    alone: float = 8.0
    #: Parts of the network that the student starts with from the teacher's weights.
    inherit: tuple[Literal["decoder", "head"], ...] = ()

    def __post_init__(self) -> None:
        check_least("ramp_steps", self.ramp_steps, 0)
        check_least("cache_gigabytes", self.cache_gigabytes, 0)
        if not 0 < self.alone < math.inf:
            raise ConfigError(f"alone: expected a factor above 0, got {self.alone}")
        check_sensors("teacher_sensors", self.teacher_sensors)

    @property
    def chosen(self) -> frozenset[str]:
        """Names of the losses that are on."""
        return frozenset(name for name, weight in self.losses.items() if weight)

    def ramp(self, step: int) -> float:
        """Factor of all weights at a step, counted from 1."""
        return min(1.0, step / self.ramp_steps) if self.ramp_steps else 1.0


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

    def __post_init__(self) -> None:
        for name, most in (("range", 1000), ("speed", 1000), ("share", 10), ("growth", 100)):
            check_range(f"enlarge.{name}", getattr(self, name), 0, most)
        for name in ("range", "speed", "growth"):
            check_ordered(f"enlarge.{name}", *getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class RayConfig:
    """How an ellipse along the ray is drawn for every box (docs/method.md 1.7).

    Its half axes are half the box's extents along and across the ray from the vehicle, enlarged by
    these shares of the box's distance: cameras err in depth, radars in azimuth.
    """

    along: float = 0.04
    across: float = 0.02

    def __post_init__(self) -> None:
        check_range("rays.along", self.along, 0, 1)
        check_range("rays.across", self.across, 0, 1)


@dataclass(frozen=True, kw_only=True)
class CrkdConfig(DistillConfig):
    """Distillation by CRKD: the forms of its losses; see distill/crkd.py.

    The defaults are the balanced forms; ``published`` has the others.
    """

    losses: dict[str, float] = field(default_factory=lambda: dict(CRKD_LOSSES))
    #: "focal": quality focal loss on logits, of a residual calibration block. "l1": as published,
    #: on the ReLU of a released one.
    csrd_form: Literal["focal", "l1"] = "focal"
    #: What the activation should be, of the teacher's probabilities: their "maximum" over classes,
    #: "paper": their mean, "code": sigmoid of the mean logit of each task.
    csrd_target: Literal["maximum", "paper", "code"] = "maximum"
    #: A 1x1 convolution on the student's features "always", or where it is "needed": where channel
    #: counts differ, as published. Equal counts do not make equal bases.
    msfd_adapter: Literal["always", "needed"] = "always"
    #: The teacher's features: "standard", per channel over the foreground, or "raw", as published.
    msfd_scale: Literal["standard", "raw"] = "standard"
    #: The foreground: enlarged "boxes", as published, or ellipses along the "rays".
    msfd_mask: Literal["boxes", "rays"] = "boxes"
    enlarge: EnlargeConfig = EnlargeConfig()
    rays: RayConfig = RayConfig()
    reld_affinity: Literal["cosine", "raw"] = "cosine"
    #: Cells along a side of the maps whose affinities are compared; a cell alone has no relation.
    reld_scales: tuple[int, ...] = (32, 16, 8, 4)
    reld_adapter: bool = True
    #: Weight of every class in RespD, in the order of detector.classes. () = as published: 1 for
    #: barriers, pedestrians and cones, 2 for all others. The paper's rule is 2 for all that moves.
    respd_class_weights: tuple[float, ...] = ()
    #: Boxes are compared at the "objects" own cells, or, as published, wherever the "teacher" sees
    #: anything: mostly cells where its boxes were never trained.
    respd_cells: Literal["objects", "teacher"] = "objects"
    #: What of a box is compared; names of RESPD_CHANNELS.
    respd_channels: tuple[str, ...] = tuple(RESPD_CHANNELS)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_losses("crkd.losses", self.losses, known=CRKD_LOSSES)
        if "reld" in self.chosen:
            check_count("crkd.reld_scales", self.reld_scales, 1, 16)
        check_range("crkd.reld_scales", self.reld_scales, 2, MOST_RELD_SCALE)
        for weight in self.respd_class_weights:
            check_least("crkd.respd_class_weights", weight, 0)
        unknown = [name for name in self.respd_channels if name not in RESPD_CHANNELS]
        if unknown:
            raise ConfigError(
                f"crkd.respd_channels: unknown {', '.join(unknown)}; known: "
                f"{', '.join(RESPD_CHANNELS)}"
            )
        if "respd_box" in self.chosen and not self.respd_channels:
            raise ConfigError(
                "crkd.respd_channels: expected one of "
                f"{', '.join(RESPD_CHANNELS)} or more, got none; --losses respd_box=0 leaves the "
                "loss out"
            )
        if self.respd_cells == "objects" and self.losses.get("respd_box", 0) > MOST_RESPD_BOX:
            raise ConfigError(
                f"crkd.losses: expected at most {MOST_RESPD_BOX:g} for respd_box in its balanced "
                f"form, got {self.losses['respd_box']:g}; the published form has its own weight, "
                "--form published"
            )

    @classmethod
    def published(cls, **changes: Any) -> Self:
        """The losses in the forms and with the weights of the paper, but for ``changes``."""
        return cls(**{**PUBLISHED, **changes})


#: The keys that make the losses what was published.
PUBLISHED: Mapping[str, Any] = {
    "losses": dict(PUBLISHED_LOSSES),
    "ramp_steps": 0,
    "csrd_form": "l1",
    "csrd_target": "paper",
    "msfd_adapter": "needed",
    "msfd_scale": "raw",
    "msfd_mask": "boxes",
    "respd_cells": "teacher",
    "respd_channels": tuple(RESPD_CHANNELS),
}


def check_losses(name: str, losses: Mapping[str, float], *, known: Mapping[str, float]) -> None:
    """Refuse an unknown loss or an invalid weight."""
    for loss, weight in losses.items():
        if loss not in known:
            near = difflib.get_close_matches(loss, known, n=1)
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise ConfigError(f"{name}: unknown loss {loss!r}; {hint}known: {', '.join(known)}")
        if not 0 <= weight < math.inf:
            raise ConfigError(f"{name}: expected a weight of 0 or more for {loss}, got {weight}")


def loss_weights(text: str | None, *, defaults: Mapping[str, float]) -> dict[str, float]:
    """Weights of a method's losses from "csrd=100,reld=0", the rest as in ``defaults``.

    None, no text at all, changes nothing.

    Raises:
        ConfigError: a part that is not NAME=WEIGHT, a name that ``defaults`` does not have or that
            comes twice, or an invalid weight.
    """
    found: dict[str, float] = {}
    for part in () if text is None else text.split(","):
        loss, equals, number = (word.strip() for word in part.partition("="))
        try:
            weight = float(number)
        except ValueError:
            weight = math.nan
        if not equals or math.isnan(weight):
            raise ConfigError(
                f"--losses {part!r}: expected NAME=WEIGHT, 0 = off, such as csrd=100,reld=0; "
                f"losses: {', '.join(defaults)}"
            )
        if loss in found:
            raise ConfigError(f"--losses: {loss} comes twice; give it one weight")
        found[loss] = weight
    check_losses("--losses", found, known=defaults)
    return {**defaults, **found}
