"""What is learned from a teacher: what every method of distillation has, and what each adds."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from crkd_core.config.checks import ConfigError, check_sensors

#: The losses of CRKD with their default weights; configuration, log and command line use these
#: names. The weights of MSFD and RelD are batch-independent: 2.5 is the published 10 at two
#: samples per GPU on half the squared error. RelD with ``raw`` affinities is as published with
#: 0.125.
CRKD_LOSSES: Mapping[str, float] = {
    "csrd": 100.0,
    "msfd_fused": 2.5,
    "msfd_camera": 2.5,
    "reld": 1.0,
    "respd_heatmap": 1.0,
    "respd_box": 40.0,
}


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

    def __post_init__(self) -> None:
        check_sensors("teacher_sensors", self.teacher_sensors)

    @property
    def chosen(self) -> frozenset[str]:
        """Names of the losses that are on."""
        return frozenset(name for name, weight in self.losses.items() if weight)


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
class CrkdConfig(DistillConfig):
    """Distillation by CRKD: the forms of its losses; see distill/crkd.py."""

    losses: dict[str, float] = field(default_factory=lambda: dict(CRKD_LOSSES))
    #: "paper": mean over classes of probabilities; "code": sigmoid of the mean logit of each task.
    csrd_target: Literal["paper", "code"] = "paper"
    enlarge: EnlargeConfig = EnlargeConfig()
    reld_affinity: Literal["cosine", "raw"] = "cosine"
    reld_scales: tuple[int, ...] = (32, 16, 8, 4)
    reld_adapter: bool = True
    #: Weight of every class in RespD, in the order of detector.classes. () = as published: 1 for
    #: barriers, pedestrians and cones, 2 for all others. The paper's rule is 2 for all that moves.
    respd_class_weights: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        check_losses("crkd.losses", self.losses, known=CRKD_LOSSES)


def check_losses(name: str, losses: Mapping[str, float], *, known: Mapping[str, float]) -> None:
    """Refuse a loss that a method does not have, and a weight that is none."""
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
            comes twice, or a weight that is none.
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
