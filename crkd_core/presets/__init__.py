"""One function per set-up.

The defaults of config/ are the numbers of ``crkd_r50``; a preset says what differs from them. The
model files hold none.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable

from crkd_core.config import ConfigError, TrainConfig
from crkd_core.presets.crkd import crkd_r50, crkd_swint, lc_r50, lc_swint
from crkd_core.presets.demo import demo_camera, demo_lidar, demo_radar, demo_student, demo_teacher
from crkd_core.presets.imkd import demo_imkd, demo_imkd_segments, imkd_r50, lidar_centerpoint
from crkd_core.presets.vod import vod_lc_r50, vod_r50, vod_student, vod_teacher

__all__ = [
    "PRESETS",
    "crkd_r50",
    "crkd_swint",
    "demo_camera",
    "demo_imkd",
    "demo_imkd_segments",
    "demo_lidar",
    "demo_radar",
    "demo_student",
    "demo_teacher",
    "imkd_r50",
    "lc_r50",
    "lc_swint",
    "lidar_centerpoint",
    "preset",
    "vod_lc_r50",
    "vod_r50",
    "vod_student",
    "vod_teacher",
]

PRESETS: dict[str, Callable[[], TrainConfig]] = {
    f.__name__: f
    for f in (
        *(demo_student, crkd_r50, crkd_swint),
        *(demo_teacher, lc_r50, lc_swint),
        *(demo_lidar, demo_camera, demo_radar),
        *(vod_student, vod_teacher, vod_r50, vod_lc_r50),
        *(demo_imkd, demo_imkd_segments, imkd_r50, lidar_centerpoint),
    )
}


def preset(name: str) -> TrainConfig:
    """The preset of this name.

    Raises:
        ConfigError: no such preset.
    """
    if name not in PRESETS:
        near = difflib.get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"unknown preset {name!r}; {hint}presets: {', '.join(PRESETS)}")
    return PRESETS[name]()
