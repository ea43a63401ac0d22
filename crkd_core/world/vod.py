"""The world's drives as a View-of-Delft data set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from crkd_core.data.nuscenes.scenes import NuScenes
from crkd_core.data.vod.layout import RADAR_FOLDERS
from crkd_core.files import replacing
from crkd_core.world.content.weather import SHARES
from crkd_core.world.rig import KEY_US
from crkd_core.world.vod_files import CHANNELS, check_names, write_vod
from crkd_core.world.writer import check_new, key_frames_of, write_world


def write_vod_world(
    out: str | Path,
    *,
    scenes: int,
    seconds: float = 20.0,
    seed: int = 0,
    image_width: int = 1600,
    jobs: int = 1,
    mix: str = "real",
    weather: Mapping[str, float] = SHARES,
) -> Path:
    """Make drives of a car with one camera, one radar and a LiDAR; arguments as of write_world.

    The lists ``train`` and ``val`` hold what ``world_train`` and ``world_val`` hold of a nuScenes
    world, two frames a second. Narrower images than 1600 leave few objects to score: those lower
    than 40 pixels count for nothing.

    Raises:
        WeatherError, WorldError: see write_world.
        VodError: more frames than there are names for; nothing was made.
    """
    out = Path(out)
    check_new(out)
    check_names(scenes, (key_frames_of(seconds) - 1) * KEY_US * 1e-6)
    with replacing(out) as part:
        drives = write_world(
            part.parent / "drives",
            scenes=scenes,
            seconds=seconds,
            seed=seed,
            image_width=image_width,
            jobs=jobs,
            key_frames_only=True,
            lidar_sweeps=0,
            # The key sweep may come after the image.
            radar_sweeps=max(RADAR_FOLDERS),
            mix=mix,
            weather=weather,
            channels=CHANNELS,
        )
        tables = NuScenes(drives, quiet=True)
        lists = {"train": "world_train", "val": "world_val"}
        there = tables.splits()
        write_vod(tables, part, splits={name: s for name, s in lists.items() if there[s]})
    return out
